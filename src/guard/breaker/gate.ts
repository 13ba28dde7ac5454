/**
 * What the pipeline asks of a breaker: synchronous, without a clock of its own, without an object per call.
 *
 * `acquire` before the call, `settle` after it, `holds` after a wait between the two. One breaker is a gate, and so is one
 * partition of many (./partitions.ts).
 */
import type { BreakerResult } from './machine.ts'

/** What `acquire` answers when the call must not be made. */
export const REFUSED = -1

export interface Gate {
  /** Permission for one call: a permit to settle with, or REFUSED. Takes a trial while half-open. `now` is monotonic. */
  acquire(now: number): number
  /**
   * How the call ended and how long it took. Every permit is settled once; a call that was not made in the end is
   * `'neither'`. A permit of an earlier state changes nothing.
   */
  settle(permit: number, result: BreakerResult, now: number, durationMs: number, error?: unknown): void
  /**
   * Whether a permit still counts: false after any transition. A call that waited in a queue then settles it as
   * `'neither'` and asks again: of a partition's two permits one may still be held, and would keep a trial's place.
   */
  holds(permit: number): boolean
  /** Whether a call would be let through now. Only looks, never takes a trial. */
  allows(): boolean
  /** How long to wait before it may say yes; undefined when it says so now, or when nobody can know. */
  readonly retryAfterMs: number | undefined
  /** Why a call is refused now, as a sentence. */
  readonly refusal: string
}
