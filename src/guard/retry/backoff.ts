/**
 * How long a retry waits: growing, capped, and spread, so that callers that failed together don't come back together.
 */

/** How the waits grow. */
export type Backoff =
  /** Evenly spread between `minWait` and the exponential wait: who failed together doesn't come back together. */
  | 'full-jitter'
  /** `minWait`, twice that, four times that, up to `maxWait`. */
  | 'exponential'
  /** Always `minWait`. */
  | 'constant'

export interface RetryRules {
  readonly attempts: number
  readonly minWaitMs: number
  readonly maxWaitMs: number
  readonly backoff: Backoff
}

/** The wait after the given failed attempt. `random` is in [0, 1). */
export function backoffMs(rules: RetryRules, attempt: number, random: number): number {
  const longest = longestBackoffMs(rules, attempt)
  return rules.backoff === 'full-jitter' ? rules.minWaitMs + random * (longest - rules.minWaitMs) : longest
}

/** The most that `backoffMs` answers after this attempt. */
export function longestBackoffMs(rules: RetryRules, attempt: number): number {
  if (rules.backoff === 'constant') return rules.minWaitMs
  // Full jitter draws from the doubled wait, so that its mean is the exponential one.
  const doublings = rules.backoff === 'full-jitter' ? attempt : attempt - 1
  return Math.min(rules.maxWaitMs, rules.minWaitMs * 2 ** Math.min(doublings, 30))
}

/** The waits between all attempts when each is as short as it can be. */
export function leastWaitsMs(rules: RetryRules): number {
  let sum = 0
  for (let attempt = 1; attempt < rules.attempts; attempt += 1) sum += backoffMs(rules, attempt, 0)
  return sum
}
