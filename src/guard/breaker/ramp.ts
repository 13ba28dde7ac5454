/**
 * Admission after closing: from a tenth of the calls to all of them, so that a dependency that has just come back does not
 * get everything that waited for it at once.
 *
 * The share grows in a straight line. It is kept by counting, not by dice: after n calls the share of n has passed, and the
 * same calls at the same times are always decided alike. Beside it ten calls a second, and the first ten at once, always
 * pass: a service of low traffic never notices the ramp. The tenth is Envoy's slow start (`min_weight_percent` 10), the ten
 * a second are the floor of Finagle's retry budget.
 */

/** The share that passes when it begins. */
export const RAMP_STARTS_AT = 0.1
/** Calls that always pass: one every so many milliseconds, and as many at once as come in a second. */
export const RAMP_ALWAYS_EVERY_MS = 100
/** Ten times a tenth is one call, although the sum of ten floating-point tenths is a little less. */
const WHOLE_CALL = 1 - 1e-9
const BURST_MS = 1_000 - RAMP_ALWAYS_EVERY_MS

export class Ramp {
  readonly #startedAt: number
  readonly #forMs: number
  /** When all calls that always pass would have been used up at their even pace (GCRA). */
  #usedUpAt = Number.NEGATIVE_INFINITY
  #credit = 0

  constructor(until: number, forMs: number) {
    this.#startedAt = until - forMs
    this.#forMs = forMs
  }

  /** The share of calls that pass; 1 when the ramp is over. */
  share(now: number): number {
    const passed = Math.max(0, now - this.#startedAt) / this.#forMs
    return passed >= 1 ? 1 : RAMP_STARTS_AT + (1 - RAMP_STARTS_AT) * passed
  }

  /** Whether the next call would pass. Only looks. */
  admits(now: number): boolean {
    return this.#usedUpAt - BURST_MS <= now || this.#credit + this.share(now) >= WHOLE_CALL
  }

  /** Decides one call. */
  take(now: number): boolean {
    if (this.#usedUpAt - BURST_MS <= now) {
      this.#usedUpAt = Math.max(this.#usedUpAt, now) + RAMP_ALWAYS_EVERY_MS
      return true
    }
    this.#credit += this.share(now)
    if (this.#credit < WHOLE_CALL) return false
    this.#credit -= 1
    return true
  }

  /** Who waits that long, and is the first to come back, passes: until one of the calls that always pass is free again. */
  retryAfterMs(now: number): number | undefined {
    const wait = Math.ceil(this.#usedUpAt - BURST_MS - now)
    return wait <= 0 || this.share(now) >= 1 ? undefined : wait
  }
}
