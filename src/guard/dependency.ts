/**
 * A dependency: something outside that we call, with everything that keeps its failures from becoming ours.
 *
 * The order is fixed and right: fallback > deadline > budgeted retry > hedge > breaker (of its partition) > outbound rate
 * limit > concurrency limit > attempt timeout > call (./pipeline.ts). The breaker counts attempts; refusals, cancellations
 * and answers that stand count for nothing. What is thrown crosses the border once, coded (see `call`).
 */
import type { BreakerState, Outcome, Tier } from '../core/index.ts'
import type { Attempt } from './attempt.ts'
import type { BreakerRecord, BreakerSnapshot, ForcedBreaker, RestoredBreaker } from './breaker/breaker.ts'
import type { BreakerPartitionsSnapshot } from './breaker/partitions.ts'
import type { CallCounters } from './call-reports.ts'
import { isRefused, refusalError, type CallOptions, type WithFallback } from './call.ts'
import type { Explanation } from './explain.ts'
import { applyFallback, checkFallback, keepGood, type FallbackOptions, type FallbackPlace } from './fallback.ts'
import type { LatencySnapshot } from './latency.ts'
import { explainDependency, resolveDependency, type DependencyOptions, type DependencyRules } from './options.ts'
import { Pipeline } from './pipeline.ts'
import { defaultKit, type GuardKit } from './policy.ts'

/** How a dependency is doing, for console, health and CLI. */
export interface DependencySnapshot {
  readonly name: string
  readonly tier: Tier
  readonly runbook: string
  readonly state: BreakerState
  /** When the state began; wall clock, milliseconds. */
  readonly since: number
  /** Consecutive failures the breaker has counted. */
  readonly failures: number
  readonly retryAfterMs: number | undefined
  readonly forced: ForcedBreaker | undefined
  /** The share of calls that pass while admission grows after closing; undefined when all do. */
  readonly ramp: number | undefined
  /** What a breaker in shadow mode would be doing. */
  readonly shadow: BreakerSnapshot['shadow']
  /** Undefined without `partitions`. */
  readonly partitions: BreakerPartitionsSnapshot | undefined
  /** Pieces of work that may be at it at once, now. */
  readonly limit: number
  /** Pieces of work at the dependency, the abandoned ones included. */
  readonly inFlight: number
  readonly queued: number
  /** Work that runs on although nobody waits for it any more. */
  readonly abandoned: number
  readonly counters: Readonly<CallCounters>
  readonly lastError: { readonly message: string; readonly at: number } | undefined
  readonly latency: LatencySnapshot | undefined
}

export interface Dependency<Name extends string = string> {
  readonly kind: 'dependency'
  readonly name: Name
  readonly tier: Tier
  readonly runbook: string
  /** What it lives in: its time, and the bus that hears of it. */
  readonly kit: GuardKit
  /**
   * The value of `run`, or a coded error. A HoldfastError that `run` throws and that is not worth repeating passes as it
   * is (an HttpStatusError with its status, say); everything else is wrapped once, with `cause` and
   * `context` { dependency, operation, attempts }.
   * @throws HF_CALL_FAILED (transient, attempts used up), HF_CALL_REJECTED (not worth repeating), HF_TIMEOUT, HF_DEADLINE,
   *   HF_BREAKER_OPEN, HF_RATE_LIMITED, HF_OVERLOADED, HF_CANCELLED, HF_CALL_IN_TX, HF_NOT_REPEATABLE, HF_OPTION_INVALID
   */
  call<T, F = never>(operation: string, options: CallOptions & WithFallback<F>, run: (attempt: Attempt) => T | Promise<T>): Promise<T | F>
  /** The same with the "no" as a value: refusals build no exception. Only defects are thrown: HF_CALL_IN_TX, HF_NOT_REPEATABLE, HF_OPTION_INVALID. */
  try<T, F = never>(operation: string, options: CallOptions & WithFallback<F>, run: (attempt: Attempt) => T | Promise<T>): Promise<Outcome<T | F>>
  /** Whether the breaker (of the partition) would let a call through. Only looks; never takes a half-open trial. */
  allows(partition?: string): boolean
  snapshot(): DependencySnapshot
  /** What a call costs at worst: latency, attempts, load on the other side, work that is held. */
  explain(): Explanation
  /** @throws HF_REASON_REQUIRED, HF_OPTION_INVALID */
  force(to: 'open' | 'closed', options: { readonly reason: string; readonly by: string; readonly forMs?: number }): void
  /** Ends a forced state; false when there is none. */
  release(options: { readonly by: string; readonly reason: string }): boolean
  /** The breaker's state as plain JSON, to be written down for a restart. Of partitions: that of the breaker above them. */
  saveBreaker(): BreakerRecord
  /** Goes on where a record left off, with the time that remains, when nothing was counted yet. A record that is none is ignored, and said so. */
  restoreBreaker(record: unknown): RestoredBreaker
}

class GuardedDependency<Name extends string> implements Dependency<Name> {
  readonly kind = 'dependency'
  readonly name: Name
  readonly tier: Tier
  readonly runbook: string
  readonly kit: GuardKit
  readonly #rules: DependencyRules
  readonly #pipeline: Pipeline

  constructor(name: Name, options: DependencyOptions, kit: GuardKit) {
    this.#rules = resolveDependency(name, options)
    this.name = name
    this.tier = options.tier
    this.runbook = options.runbook
    this.kit = kit
    this.#pipeline = new Pipeline(name, this.#rules, kit)
  }

  call<T, F = never>(operation: string, options: CallOptions & WithFallback<F>, run: (attempt: Attempt) => T | Promise<T>): Promise<T | F> {
    if (options.fallback !== undefined) return this.#callOr(options.fallback, operation, options, run)
    return this.#pipeline.run(operation, options, run, false) as Promise<T>
  }

  try<T, F = never>(operation: string, options: CallOptions & WithFallback<F>, run: (attempt: Attempt) => T | Promise<T>): Promise<Outcome<T | F>> {
    if (options.fallback !== undefined) return this.#tryOr(options.fallback, operation, options, run)
    return this.#pipeline.run(operation, options, run, true) as Promise<Outcome<T>>
  }

  allows(partition?: string): boolean {
    return this.#pipeline.gateOf(partition).allows()
  }

  force(to: 'open' | 'closed', options: { readonly reason: string; readonly by: string; readonly forMs?: number }): void {
    this.#pipeline.breaker.force(to, options)
  }

  release(options: { readonly by: string; readonly reason: string }): boolean {
    return this.#pipeline.breaker.release(options)
  }

  saveBreaker(): BreakerRecord {
    return this.#pipeline.breaker.save()
  }

  restoreBreaker(record: unknown): RestoredBreaker {
    return this.#pipeline.breaker.restore(record)
  }

  snapshot(): DependencySnapshot {
    const { breaker, partitions, slots, abandoned, reports: { counters, lastError }, latency } = this.#pipeline
    return {
      name: this.name, tier: this.tier, runbook: this.runbook, ...breaker.snapshot(), partitions: partitions?.snapshot(),
      limit: slots.limit, inFlight: slots.inFlight, queued: slots.queued, abandoned: abandoned.size,
      counters: { ...counters }, lastError, latency: latency.snapshot(),
    }
  }

  explain(): Explanation {
    return explainDependency(this.#rules, this.#pipeline.budget)
  }

  async #callOr<T, F>(fallback: FallbackOptions<F>, operation: string, options: CallOptions, run: (attempt: Attempt) => T | Promise<T>): Promise<T | F> {
    checkFallback(fallback, `${this.name} ${operation}: fallback`)
    try {
      const value = await this.#pipeline.run(operation, options, run, false) as T
      keepGood(fallback, value, this.name, operation, this.kit.env.monotonic())
      return value
    } catch (error) {
      return applyFallback(fallback, error, this.#place(operation, options), this.kit)
    }
  }

  async #tryOr<T, F>(fallback: FallbackOptions<F>, operation: string, options: CallOptions, run: (attempt: Attempt) => T | Promise<T>): Promise<Outcome<T | F>> {
    checkFallback(fallback, `${this.name} ${operation}: fallback`)
    const outcome = await this.#pipeline.run(operation, options, run, true) as Outcome<T>
    if (outcome.ok) {
      keepGood(fallback, outcome.value, this.name, operation, this.kit.env.monotonic())
      return outcome
    }
    const error = outcome.error ?? (isRefused(outcome.reason) ? refusalError(this.name, operation, { ...outcome, reason: outcome.reason }) : outcome)
    try {
      return { ok: true, value: await applyFallback(fallback, error, this.#place(operation, options), this.kit) }
    } catch {
      // What it throws is the failure itself, which the caller has as a value.
      return outcome
    }
  }

  #place(operation: string, { signal }: CallOptions): FallbackPlace {
    return { dependency: this.name, operation, signal }
  }
}

/**
 * Declares a dependency.
 * Emits `breaker.changed`, `call.failed` (each failed attempt), `call.refused`, `call.hedged`, `call.abandoned`, `retry.nested`.
 * @throws HF_OPTION_INVALID
 * @example
 * const panel = dependency('vpn-panel', { tier: 'degradable', runbook: 'vpn-panel-down', deadline: '10s', timeout: '3s' })
 * const user = await panel.call('get-user', { effect: 'read' }, ({ signal }) => api.getUser(id, { signal }))
 */
export function dependency<const Name extends string>(name: Name, options: DependencyOptions, kit: GuardKit = defaultKit()): Dependency<Name> {
  return new GuardedDependency(name, options, kit)
}
