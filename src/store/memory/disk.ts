/**
 * What outlives a simulated process: the committed tables, the sequences, and whose turn it is to change them.
 *
 * One disk may be opened by several stores at once, as several instances open one PostgreSQL.
 */
import type { Rows } from './table.ts'

/** Committed state as plain JSON: for assertions, for a failing schedule's report, and to begin another disk with. */
export interface MemorySnapshot {
  readonly tables: Readonly<Record<string, readonly (readonly [string, unknown])[]>>
  readonly sequences: Readonly<Record<string, number>>
}

export interface MemoryDisk {
  /** Committed rows only; a transaction that is open shows nothing of itself. */
  snapshot(): MemorySnapshot
  /** Committed rows of one table, in insertion order; empty when there is no such table. */
  rows<Row>(table: string): readonly (readonly [string, Row])[]
  /** Transactions committed so far. */
  readonly commits: number
}

/** Somebody in line for the disk. */
export interface Claim {
  admit(): void
}

/** More would be a loop that opens transactions without waiting for them. */
const WAITERS_MAX = 100_000

export class Disk implements MemoryDisk {
  readonly tables: Map<string, Rows> = new Map()
  readonly sequences: Map<string, number> = new Map()
  commits = 0
  #holder: Claim | undefined
  readonly #waiters = new Set<Claim>()

  constructor(from?: MemorySnapshot) {
    for (const [name, rows] of Object.entries(from?.tables ?? {})) this.tables.set(name, new Map(structuredClone(rows)))
    for (const [name, value] of Object.entries(from?.sequences ?? {})) this.sequences.set(name, value)
  }

  table(name: string): Rows {
    let rows = this.tables.get(name)
    if (rows === undefined) {
      rows = new Map()
      this.tables.set(name, rows)
    }
    return rows
  }

  snapshot(): MemorySnapshot {
    return structuredClone({
      tables: Object.fromEntries([...this.tables].map(([name, rows]) => [name, [...rows]])),
      sequences: Object.fromEntries(this.sequences),
    })
  }

  rows<Row>(table: string): readonly (readonly [string, Row])[] {
    return structuredClone([...(this.tables.get(table) ?? [])]) as (readonly [string, Row])[]
  }

  /** True: it is the claimant's turn now. False: it waits in line and `admit` is called when its turn comes. Undefined: too many wait. */
  claim(claim: Claim): boolean | undefined {
    if (this.#holder === undefined) {
      this.#holder = claim
      return true
    }
    if (this.#waiters.size >= WAITERS_MAX) return undefined
    this.#waiters.add(claim)
    return false
  }

  /** Leaves the line, or hands the turn to who has waited longest. Releasing twice does nothing. */
  release(claim: Claim): void {
    this.#waiters.delete(claim)
    if (this.#holder !== claim) return
    this.#holder = undefined
    for (const next of this.#waiters) {
      this.#waiters.delete(next)
      this.#holder = next
      next.admit()
      return
    }
  }
}

/** An empty disk, or one that begins with what another had committed. */
export function memoryDisk(from?: MemorySnapshot): MemoryDisk {
  return new Disk(from)
}
