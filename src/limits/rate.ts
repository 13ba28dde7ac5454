/**
 * The arithmetic of a token bucket, kept as one number per key: the time at which the bucket is full again (GCRA's
 * "theoretical arrival time"). Pure, monotonic milliseconds.
 *
 * Exact: who waits `retryAfterMs` succeeds if nobody else takes meanwhile, and who waits a millisecond less does not
 * (rounded up to whole milliseconds). In any window no more is granted than `burst` plus what the window refills.
 */

export interface Rate {
  /** Milliseconds in which one token comes back. */
  readonly intervalMs: number
  /** Tokens of a full bucket. */
  readonly burst: number
}

/** Sums of floating-point intervals may be off by this much; far below a millisecond, far above a double's error at years of uptime. */
const TOLERANCE_MS = 1e-3

/** When the bucket would be full again if `cost` were taken now; who is over `burst` must not take. */
export function fullAfter(fullAt: number, cost: number, now: number, rate: Rate): number {
  return Math.max(fullAt, now) + cost * rate.intervalMs
}

/** How long until a bucket with this `fullAt` holds no debt beyond `burst`: 0 or less grants. */
export function waitMs(fullAt: number, now: number, rate: Rate): number {
  const over = fullAt - now - rate.burst * rate.intervalMs
  return over <= TOLERANCE_MS ? 0 : Math.ceil(over - TOLERANCE_MS)
}

/** Whole tokens that are left. */
export function remaining(fullAt: number, now: number, rate: Rate): number {
  return Math.max(0, Math.floor(rate.burst - (Math.max(fullAt, now) - now - TOLERANCE_MS) / rate.intervalMs))
}
