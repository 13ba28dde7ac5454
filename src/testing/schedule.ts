/**
 * A schedule: what goes wrong in one run of a simulated world, as data.
 *
 * A run is decided by its schedule alone, so a failing one is kept as a line of JSON, replayed, and made smaller until only
 * what matters is left. Seeds beyond the exhaustive part are a swarm: each enables a random subset of the kinds of faults,
 * because a run with everything at once hides what a run of one kind finds.
 */
import { HoldfastError } from '../core/index.ts'
import { seededRandom } from './simulated-env.ts'

/**
 * `die`: SIGKILL; the process boots again later. `pause`: SIGSTOP for `ms`. `error`: it surely did not happen, and its caller is told.
 * `lose-answer`: it happened, and its caller is told that nobody knows. `unknown-commit`: it did not happen, and its caller is
 * told that nobody knows. `conflict`: a serialization failure; the work runs again.
 */
export type FaultKind = 'die' | 'pause' | 'error' | 'lose-answer' | 'unknown-commit' | 'conflict'

export interface Fault {
  /** The crash point: its number from 0 over all processes, or its name and how often it was passed: `after saga.write#2`. */
  readonly at: number | string
  readonly kind: FaultKind
  /** Of a pause. Default: drawn by the seed, from one lease of ten seconds to twice that. */
  readonly ms?: number
}

/** The wall clock of a process (`p1` is the first that boots), or of the `database`, moves; monotonic time does not. */
export interface Jump {
  readonly atMs: number
  readonly process: string
  readonly ms: number
}

export interface Schedule {
  readonly seed: number
  readonly faults: readonly Fault[]
  readonly jumps?: readonly Jump[]
  /** That run from the start. Default 2. */
  readonly processes?: number
}

/** Where in a transaction or call: before it, in it before the commit, after it. */
export type PointKind = 'before' | 'commit' | 'after' | 'before call' | 'after call'

/** What can go wrong there, for the exhaustive part. */
export const FAULTS_AT: Readonly<Record<PointKind, readonly FaultKind[]>> = {
  'before': ['die', 'pause', 'error', 'unknown-commit'],
  'commit': ['die', 'conflict', 'pause'],
  'after': ['die', 'pause', 'lose-answer'],
  'before call': ['die', 'pause', 'error', 'unknown-commit'],
  'after call': ['die', 'pause', 'lose-answer'],
}

/** From the name of a point. */
export function kindOfPoint(name: string): PointKind {
  const [when = '', what = ''] = name.split(' ')
  return (what === 'call' ? `${when} call` : when) as PointKind
}

export interface SwarmOptions {
  /** Points that a run without faults passes. */
  readonly points: number
  readonly kinds: readonly FaultKind[]
  /** Processes whose clocks may jump; none: no jumps. */
  readonly clocks?: readonly string[]
  /** Of the schedules that have a jump, 0 to 1. Default 0.2. */
  readonly jumpShare?: number | undefined
  /** At least so many faults. Default 2; up to two more. */
  readonly faultsMin?: number | undefined
  /** Default: two, and in four of ten schedules one. */
  readonly processes?: number
}

const DATABASE_BACK_MAX_MS = 60_000

/** The schedule of a seed: some faults of a random subset of the kinds, sometimes clocks that jump. */
export function swarmSchedule(seed: number, { points, kinds, clocks = [], jumpShare = 0.2, faultsMin = 2, processes }: SwarmOptions): Schedule {
  const random = seededRandom(seed ^ 0x5eed)
  const enabled = kinds.filter(() => random() < 0.5)
  const from = enabled.length === 0 ? kinds : enabled
  // Points go on beyond those of a run without faults: recovery has its own.
  const reach = points + 20
  const faults: Fault[] = []
  for (let left = faultsMin + Math.floor(random() ** 2 * 3); left > 0; left--) faults.push({ at: Math.floor(random() * reach), kind: from[Math.floor(random() * from.length)] ?? 'die' })
  const jumps: Jump[] = []
  if (clocks.length > 0 && random() < jumpShare) {
    // From a second to a day, forth or back.
    const process = clocks[Math.floor(random() * clocks.length)] ?? ''
    const ms = Math.round((random() < 0.5 ? -1 : 1) * 10 ** (3 + random() * 5))
    // What is due by the database's clock is late by as much as that clock goes back: more would only be waited for.
    // Early ones meet work under way.
    jumps.push({ atMs: Math.floor(random() ** 3 * 60_000), process, ms: process === 'database' ? Math.max(ms, -DATABASE_BACK_MAX_MS) : ms })
  }
  // One process alone finds what a second one would have put right.
  const alone = processes === undefined && random() < 0.4
  return { seed, faults, ...(jumps.length === 0 ? {} : { jumps }), ...(alone ? { processes: 1 } : processes === undefined ? {} : { processes }) }
}

/** One line that `parseSchedule` reads. */
export function printSchedule(schedule: Schedule): string {
  return JSON.stringify(schedule)
}

/** @throws HF_OPTION_INVALID */
export function parseSchedule(line: string): Schedule {
  const refuse = (what: string): never => {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `schedule: expected JSON such as {"seed":7,"faults":[{"at":12,"kind":"die"}]}, ${what}` })
  }
  let given: unknown
  try {
    given = JSON.parse(line)
  } catch {
    return refuse(`got ${line}`)
  }
  if (typeof given !== 'object' || given === null || typeof (given as { readonly seed?: unknown }).seed !== 'number') return refuse('got no seed')
  const { faults } = given as { readonly faults?: unknown }
  if (!Array.isArray(faults)) return refuse('got no faults')
  const kinds = new Set<unknown>(Object.values(FAULTS_AT).flat())
  for (const fault of faults as readonly { readonly at?: unknown; readonly kind?: unknown }[]) {
    if ((typeof fault.at !== 'number' && typeof fault.at !== 'string') || !kinds.has(fault.kind)) return refuse(`got the fault ${JSON.stringify(fault)}`)
  }
  return given as Schedule
}

/** Smaller schedules that may fail as well, the boldest first: fewer faults, fewer processes, no jumps, shorter pauses. */
export function smallerSchedules(schedule: Schedule): readonly Schedule[] {
  const { faults, jumps = [], processes = 2 } = schedule
  const without = <Item>(items: readonly Item[], index: number): readonly Item[] => items.filter((_, i) => i !== index)
  return [
    ...faults.map((_, i) => ({ ...schedule, faults: without(faults, i) })),
    ...jumps.map((_, i) => ({ ...schedule, jumps: without(jumps, i) })),
    ...(processes > 1 ? [{ ...schedule, processes: processes - 1 }] : []),
    ...faults.flatMap((fault, i) => (fault.kind !== 'pause' || fault.ms === undefined || fault.ms < 1_000 ? [] : [{ ...schedule, faults: faults.map((each, j) => j === i ? { ...fault, ms: Math.floor((fault.ms ?? 0) / 2) } : each) }])),
  ]
}
