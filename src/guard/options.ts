/**
 * The options of a dependency, their defaults, and the one place that merges and checks them.
 */
import { checkName, durationMs, humanDuration, type Duration, type Tier } from '../core/index.ts'
import { breakerWords, resolveBreaker, type BreakerOptions } from './breaker/rules.ts'
import { resolvePartitions, type BreakerPartitionsOptions, type BreakerPartitionsRules, type ParentBreakerOptions } from './breaker/partitions.ts'
import type { BreakerRules } from './breaker/machine.ts'
import { explainConcurrency, resolveConcurrency, type ConcurrencyOptions, type ConcurrencyRules } from './concurrency/limit.ts'
import { around, BARE_CALL, bounded, hedged, paced, repeated, type Explanation } from './explain.ts'
import type { FaultPlan } from './faults.ts'
import { hedgeWords, resolveHedge, type HedgeOptions, type HedgeRules } from './hedge.ts'
import { refused } from './numbers.ts'
import { resolveRateLimit, type RateLimitOptions, type RateLimitRules } from './rate-limit.ts'
import { leastWaitsMs, type RetryRules } from './retry/backoff.ts'
import { resolveRetry, type RetryOptions } from './retry/retry.ts'
import { RETRY_BUDGET_DEFAULTS, type RetryBudget, type RetryBudgetOptions } from './retry/budget.ts'

export interface DependencyOptions {
  /** What its loss means: `required` the service cannot work, `degradable` some of it cannot, `info` nobody notices. */
  readonly tier: Tier
  /** The runbook that an operator follows when it is away. */
  readonly runbook: string
  /** The whole call, with its waits and repetitions. Default `'30s'` (the total timeout of Microsoft's standard HTTP handler). */
  readonly deadline?: Duration
  /** One attempt; at most `deadline`. Default: an equal share of the deadline for each attempt (10 s of the default 30 s). */
  readonly timeout?: Duration
  /** For calls that may be repeated. Default 3 attempts, waits of 100 ms to 20 s. `false` never repeats. */
  readonly retry?: RetryOptions | false
  /** For calls that may be repeated: once more when the answer is late. Default: never. */
  readonly hedge?: HedgeOptions | false
  /** How many repetitions and hedges all calls together may make. Default 20 % of the calls (Finagle) and one a second. */
  readonly retryBudget?: RetryBudgetOptions
  /** Default 5 consecutive failures, 60 s, 2 successes, 3 trial calls. `false` never opens by itself. */
  readonly breaker?: BreakerOptions | false
  /** A breaker (as declared by `breaker`) for each host, tenant or shard that calls name as their `partition`, and one above them. Default: one for all. */
  readonly partitions?: PartitionOptions
  /** How often we may call it. Default: as often as we like. */
  readonly rateLimit?: RateLimitOptions
  /** Calls at once; the queue before it is as long unless given. Default 100. */
  readonly concurrency?: number | ConcurrencyOptions
  /** Faults on purpose, for tests and drills; made with `faults()`. They stand in for the work itself, inside all guards. */
  readonly faults?: FaultPlan
  /** Replaces the default rules of what is worth repeating and counts against the breaker. */
  readonly transient?: (error: unknown) => boolean
}

/** The breaker above them is the one that operators force and that health sees. */
export interface PartitionOptions extends Omit<BreakerPartitionsOptions, 'each' | 'parent'> {
  readonly parent?: ParentBreakerOptions
}

export const DEPENDENCY_DEFAULTS: Readonly<{ readonly deadline: Duration }> = Object.freeze({ deadline: '30s' })

export interface DependencyRules {
  readonly deadlineMs: number
  readonly timeoutMs: number
  readonly retry: RetryRules
  readonly retryBudget: Readonly<Required<RetryBudgetOptions>>
  readonly hedge: HedgeRules | undefined
  readonly breaker: BreakerRules
  readonly partitions: BreakerPartitionsRules | undefined
  readonly rateLimit: RateLimitRules | undefined
  readonly concurrency: ConcurrencyRules
  readonly faults: FaultPlan | undefined
  readonly transient: ((error: unknown) => boolean) | undefined
}

const TIERS: readonly string[] = ['required', 'degradable', 'info'] satisfies readonly Tier[]

/** @throws HF_OPTION_INVALID */
export function resolveDependency(name: string, options: DependencyOptions): DependencyRules {
  checkName('dependency', name)
  const where = `dependency ${name}`
  if (!TIERS.includes(options.tier)) throw refused(`${where}: tier`, TIERS.join(', '), options.tier)
  if (typeof options.runbook !== 'string' || options.runbook.trim() === '') throw refused(`${where}: runbook`, 'the name of a runbook', options.runbook)
  const deadlineMs = durationMs(options.deadline ?? DEPENDENCY_DEFAULTS.deadline, `${where}: deadline`)
  const retry = resolveRetry(options.retry, `${where}: retry`)
  const timeoutMs = options.timeout === undefined ? Math.max(1, Math.floor(deadlineMs / retry.attempts)) : durationMs(options.timeout, `${where}: timeout`)
  if (timeoutMs > deadlineMs) throw refused(`${where}: timeout`, `at most the deadline of ${String(deadlineMs)} ms`, `${String(timeoutMs)} ms`)
  if (leastWaitsMs(retry) >= deadlineMs) {
    throw refused(`${where}: retry`, `waits between ${String(retry.attempts)} attempts that the deadline of ${humanDuration(deadlineMs)} has room for`, `at least ${humanDuration(leastWaitsMs(retry))}`)
  }
  return {
    deadlineMs, timeoutMs, retry,
    retryBudget: { ...RETRY_BUDGET_DEFAULTS, ...options.retryBudget },
    hedge: options.hedge === undefined || options.hedge === false ? undefined : resolveHedge(options.hedge, `${where}: hedge`),
    rateLimit: options.rateLimit === undefined ? undefined : resolveRateLimit(options.rateLimit, `${where}: rateLimit`),
    breaker: resolveBreaker(options.breaker ?? {}, `${where}: breaker`),
    partitions: options.partitions === undefined ? undefined : resolveDependencyPartitions(options.partitions, options.breaker, where),
    concurrency: resolveConcurrency(options.concurrency, `${where}: concurrency`),
    faults: options.faults, transient: options.transient,
  }
}

function resolveDependencyPartitions(options: PartitionOptions, each: BreakerOptions | false | undefined, where: string): BreakerPartitionsRules {
  if (each === false) throw refused(`${where}: partitions`, 'a breaker to have one of for each partition', 'breaker: false')
  return resolvePartitions({ ...options, ...(each === undefined ? {} : { each }) }, `${where}: partitions`)
}

/** The pipeline of these rules, from the call outwards. */
export function explainDependency(rules: DependencyRules, budget: RetryBudget): Explanation {
  const { deadlineMs, timeoutMs, retry, hedge, breaker, partitions, rateLimit, concurrency } = rules
  let sum = bounded(BARE_CALL, 'timeout', timeoutMs)
  sum = explainConcurrency(sum, concurrency)
  if (rateLimit !== undefined) sum = paced(sum, rateLimit)
  sum = around(sum, partitions === undefined ? breakerWords(breaker) : `one for each of ${String(partitions.max)} partitions at most: ${breakerWords(partitions.each)}`, {})
  if (hedge !== undefined) sum = hedged(sum, hedge.extra, hedgeWords(hedge), hedge.maxMs, budget)
  return bounded(repeated(sum, retry, budget), 'deadline', deadlineMs)
}
