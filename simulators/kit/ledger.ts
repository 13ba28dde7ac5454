/**
 * What a simulator saw and did: one line for each call, whoever made it.
 *
 * Drills assert on it ("the panel was called once", "nothing was sent after the switch went off"). The newest entries
 * are kept and what was dropped is counted. Headers and the bot's token are not recorded; arguments are, as they came.
 */
import type { Env } from 'holdfast/core'

export type Outcome = 'pending' | 'answered' | 'dropped' | 'hung' | 'failed'

export interface LedgerEntry {
  /** Counts from 1, never reused. */
  readonly n: number
  /** Wall clock, milliseconds. */
  readonly at: number
  /** `in`: somebody called the simulator. `out`: it called somebody (a webhook). */
  readonly direction: 'in' | 'out'
  readonly operation: string
  readonly method: string
  /** The decoded arguments, by reference. */
  readonly args: unknown
  outcome: Outcome
  status: number | undefined
  /** The kind of the fault that was injected. */
  fault: string | undefined
  /** How many times the effect was carried out. */
  applied: number
  /** `monotonic()` at the beginning. */
  readonly startedMs: number
  /** Until the answer; undefined while it is pending. */
  tookMs: number | undefined
}

/** The newest so many are kept. */
const ENTRIES_MAX = 20_000

export class Ledger {
  readonly #env: Env
  #entries: LedgerEntry[] = []
  readonly #counts = new Map<string, number>()
  #next = 1
  #dropped = 0

  constructor(env: Env) {
    this.#env = env
  }

  /** How many of the oldest entries were let go. */
  get dropped(): number {
    return this.#dropped
  }

  open(direction: 'in' | 'out', operation: string, method: string, args: unknown): LedgerEntry {
    const entry: LedgerEntry = {
      n: this.#next, at: this.#env.now(), direction, operation, method, args,
      outcome: 'pending', status: undefined, fault: undefined, applied: 0, startedMs: this.#env.monotonic(), tookMs: undefined,
    }
    this.#next += 1
    this.#counts.set(operation, (this.#counts.get(operation) ?? 0) + 1)
    this.#entries.push(entry)
    if (this.#entries.length > ENTRIES_MAX) {
      // A quarter at once: cutting one off the front for every call would cost more than the call.
      const cut = ENTRIES_MAX / 4
      this.#entries = this.#entries.slice(cut)
      this.#dropped += cut
    }
    return entry
  }

  close(entry: LedgerEntry, outcome: Outcome, status: number | undefined): void {
    entry.outcome = outcome
    entry.status = status
    entry.tookMs = this.#env.monotonic() - entry.startedMs
  }

  /** Oldest first; with a name only the calls of that operation. */
  entries(operation?: string): readonly LedgerEntry[] {
    return operation === undefined ? this.#entries : this.#entries.filter(entry => entry.operation === operation)
  }

  /** How often an operation was called since the last `clear()`, dropped entries included. */
  count(operation: string): number {
    return this.#counts.get(operation) ?? 0
  }

  clear(): void {
    this.#entries = []
    this.#counts.clear()
    this.#dropped = 0
  }
}
