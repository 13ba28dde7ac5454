/**
 * @module holdfast/guard
 * Call protection: a failing, slow or hanging dependency costs its callers a bounded time and takes nobody along.
 *
 * `dependency()` is all policies in the right order; `breaker()`, `retry()`, `hedge()`, `timeout()`, `deadline()`,
 * `rateLimit()`, `concurrencyLimit()` and `fallback()` are each usable alone, and `compose()` nests them. `faults()` breaks
 * things on purpose. No store, no configuration, only core.
 */
export type { Attempt } from './attempt.ts'
export {
  breaker, BREAKER_DEFAULTS, BREAKER_PRESETS, RATE_DEFAULTS,
  type Breaker, type BreakerOptions, type BreakerRecord, type BreakerSnapshot, type ForcedBreaker, type RateOptions, type RestoredBreaker, type SlowCallRateOptions,
} from './breaker/breaker.ts'
export {
  breakerPartitions, BREAKER_PARTITIONS_DEFAULTS,
  type BreakerPartitions, type BreakerPartitionsOptions, type BreakerPartitionsSnapshot, type ParentBreakerOptions, type PartitionRateOptions,
} from './breaker/partitions.ts'
export { errorClass, isTransient, retryAfterOf } from './classify.ts'
export { compose, type Composition } from './compose.ts'
export { ADAPTIVE_DEFAULTS, type AdaptiveOptions } from './concurrency/adaptive.ts'
export { concurrencyLimit, CONCURRENCY_DEFAULTS, type ConcurrencyLimit, type ConcurrencyOptions, type Priority } from './concurrency/limit.ts'
export { deadline, type Deadline } from './deadline.ts'
export type { CallOptions, OnceCall, RepeatableCall, WithFallback } from './call.ts'
export { dependency, type Dependency, type DependencySnapshot } from './dependency.ts'
export type { Explanation } from './explain.ts'
export { fallback, FALLBACK_DEFAULTS, type Fallback, type FallbackOptions, type FallbackReason } from './fallback.ts'
export { faults, FAULT_DEFAULTS, type Arming, type Fault, type FaultOptions, type FaultPlan, type FaultRule, type FaultsSnapshot } from './faults.ts'
export { hedge, HEDGE_DEFAULTS, type Hedge, type HedgeOptions, type HedgePolicyOptions, type HedgeQuantile } from './hedge.ts'
export { HttpStatusError, parseRetryAfter, TRANSIENT_STATUS, type HttpAnswer } from './http-status-error.ts'
export type { LatencySnapshot } from './latency.ts'
export { DEPENDENCY_DEFAULTS, type DependencyOptions, type PartitionOptions } from './options.ts'
export type { GuardKit, Policy, RepeatableRun, RunOptions, Scope, Work } from './policy.ts'
export { rateLimit, RATE_LIMIT_DEFAULTS, type RateLimit, type RateLimitOptions } from './rate-limit.ts'
export type { Backoff } from './retry/backoff.ts'
export { retryBudget, RETRY_BUDGET_DEFAULTS, type RetryBudget, type RetryBudgetOptions } from './retry/budget.ts'
export { retry, RETRY_DEFAULTS, type Retry, type RetryOptions, type RetryPolicyOptions } from './retry/retry.ts'
export { staleCache, STALE_CACHE_DEFAULTS, type StaleCache, type StaleCacheOptions } from './stale-cache.ts'
export { timeout, type Timeout } from './timeout.ts'
