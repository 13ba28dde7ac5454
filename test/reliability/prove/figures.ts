/**
 * What a section of the long run came to, in numbers that can be added up.
 *
 * A section is worked off in parts, each with a seed of its own; the parts are kept on disk, so that a run which was ended
 * goes on where it was.
 */
export const SECTIONS = ['simulation', 'pglite', 'postgres', 'embedded', 'instances', 'knock-outs', 'mutation'] as const
export type SectionName = typeof SECTIONS[number]

/** What one part, or a whole section, came to. */
export interface Figures {
  /** Schedules, crash points, kills or confirmed steps: what the section counts. */
  readonly count: number
  /** Transactions and outside calls that were begun. */
  readonly operations: number
  readonly faults: Readonly<Record<string, number>>
  /** Broken promises. */
  readonly anomalies: number
  /** The first of them, as lines that repeat them. */
  readonly found: readonly string[]
  /** States that a run must reach to prove anything, and how often it did. */
  readonly reached: Readonly<Record<string, number>>
  /** Further numbers that add up. */
  readonly sums: Readonly<Record<string, number>>
  /** From a death until everything was over, each. */
  readonly recoveriesMs: readonly number[]
  /** What was found where a protection was taken away, by protection. */
  readonly control: Readonly<Record<string, string>>
  /** Added up over processes. */
  readonly seconds: number
}

export const NOTHING: Figures = { count: 0, operations: 0, faults: {}, anomalies: 0, found: [], reached: {}, sums: {}, recoveriesMs: [], control: {}, seconds: 0 }

const FOUND_MAX = 20

export function added(parts: readonly Figures[]): Figures {
  const sum = (of: (part: Figures) => number): number => parts.reduce((total, part) => total + of(part), 0)
  const records = (of: (part: Figures) => Readonly<Record<string, number>>): Record<string, number> => {
    const total: Record<string, number> = {}
    for (const part of parts) for (const [name, times] of Object.entries(of(part))) total[name] = (total[name] ?? 0) + times
    return Object.fromEntries(Object.entries(total).toSorted(([a], [b]) => a < b ? -1 : 1))
  }
  return {
    count: sum(part => part.count), operations: sum(part => part.operations), faults: records(part => part.faults), anomalies: sum(part => part.anomalies),
    found: parts.flatMap(part => part.found).slice(0, FOUND_MAX), reached: records(part => part.reached), sums: records(part => part.sums),
    recoveriesMs: parts.flatMap(part => part.recoveriesMs), control: Object.assign({}, ...parts.map(part => part.control)) as Record<string, string>,
    seconds: sum(part => part.seconds),
  }
}

/** A section as docs/reliability.json holds it. */
export interface Section extends Omit<Figures, 'recoveriesMs' | 'seconds'> {
  readonly commit: string
  readonly date: string
  readonly node: string
  readonly cpus: number
  readonly seeds: { readonly first: number; readonly parts: number; readonly step: number }
  readonly recovery?: Recovery
  /** Of each anomaly that was found, in the same order: what it was, and what became of it. Written by whoever looked. */
  readonly explained?: readonly string[]
  readonly seconds: number
}

export interface Recovery {
  readonly n: number
  readonly medianMs: number
  readonly p99Ms: number
  readonly maxMs: number
}

export function recoveryOf(times: readonly number[]): Recovery | undefined {
  if (times.length === 0) return undefined
  const sorted = times.toSorted((a, b) => a - b)
  const at = (share: number): number => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)
  return { n: sorted.length, medianMs: at(0.5), p99Ms: at(0.99), maxMs: at(1) }
}

/** Of one file under mutation. */
export interface MutationScore {
  readonly file: string
  readonly killed: number
  /** By the compiler, before any test. */
  readonly refused: number
  readonly survived: number
  readonly noCoverage: number
}

export interface Mutation {
  readonly commit: string
  readonly date: string
  readonly node: string
  readonly files: readonly MutationScore[]
  readonly seconds: number
}

/** docs/reliability.json: what was run, and nothing else. */
export interface Reliability {
  readonly sections: Readonly<Partial<Record<Exclude<SectionName, 'mutation'>, Section>>>
  readonly mutation?: Mutation
}
