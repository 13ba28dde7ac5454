/**
 * Concurrency limit: at most so many pieces of work at a dependency (or in a server) at once, and a short, bounded queue.
 *
 * The number is fixed, or found by itself (./adaptive.ts). Work that runs on after its timeout still counts, because the
 * dependency still has it. The queue, its priorities and its deadlines: ./slots.ts.
 */
import { checkName, durationMs, HoldfastError, type Duration, type Env } from '../../core/index.ts'
import { judge } from '../classify.ts'
import { queued, type Explanation } from '../explain.ts'
import { refused, wholeNumber } from '../numbers.ts'
import { defaultKit, errorContext, InnerScope, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from '../policy.ts'
import { resolveAdaptive, type AdaptiveOptions } from './adaptive.ts'
import { Slots, type ConcurrencyRules } from './slots.ts'

export { ADAPTIVE_DEFAULTS, type AdaptiveOptions, type AdaptiveRules } from './adaptive.ts'
export { Slots, Waiter, type ConcurrencyRules, type Priority } from './slots.ts'

interface QueueOptions {
  /** Callers that may wait. Default: as many as `limit` (adaptive: as `initial`). */
  readonly queue?: number
  /**
   * What must be left of a caller's deadline when its work begins after waiting, else it is refused. Default: what the work
   * has typically taken of late. `'0ms'`: anything.
   */
  readonly margin?: Duration
  /** Background work begins while less than this share of the slots is taken (one slot at least); the rest is kept for the others. 0..1. Default 0.8. */
  readonly backgroundShare?: number
}
export interface FixedConcurrency extends QueueOptions {
  /** Pieces of work at once. Default 100. */
  readonly limit: number
  readonly adaptive?: never
}
export interface AdaptiveConcurrency extends QueueOptions {
  /** The limit is found by itself from how long the work takes; `{}` for the defaults. */
  readonly adaptive: AdaptiveOptions
  readonly limit?: never
}
export type ConcurrencyOptions = FixedConcurrency | AdaptiveConcurrency

export const CONCURRENCY_DEFAULTS: Readonly<{ readonly limit: number; readonly backgroundShare: number }> = Object.freeze({ limit: 100, backgroundShare: 0.8 })

/** @throws HF_OPTION_INVALID */
export function resolveConcurrency(options: number | ConcurrencyOptions | undefined, where: string): ConcurrencyRules {
  const given: ConcurrencyOptions = typeof options === 'number' ? { limit: options } : (options ?? { limit: CONCURRENCY_DEFAULTS.limit })
  if (given.adaptive !== undefined && given.limit !== undefined) throw refused(where, 'either limit or adaptive', 'both')
  const adaptive = given.adaptive === undefined ? undefined : resolveAdaptive(given.adaptive, `${where}: adaptive`)
  const limit = adaptive?.initial ?? wholeNumber(given.limit ?? Number.NaN, 1, where)
  const backgroundShare = given.backgroundShare ?? CONCURRENCY_DEFAULTS.backgroundShare
  if (!(backgroundShare >= 0 && backgroundShare <= 1)) throw refused(`${where}: backgroundShare`, 'a number of 0 to 1', backgroundShare)
  return {
    limit, adaptive, backgroundShare, queue: wholeNumber(given.queue ?? limit, 0, `${where}: queue`),
    marginMs: given.margin === undefined ? undefined : durationMs(given.margin, `${where}: margin`, { min: 0 }),
  }
}

export class ConcurrencyLimit implements Policy {
  readonly kind = 'concurrency-limit'
  readonly name: string
  readonly #env: Env
  readonly #slots: Slots

  constructor(name: string, rules: ConcurrencyRules, env: Env) {
    checkName('concurrency limit', name)
    this.name = name
    this.#env = env
    this.#slots = new Slots(rules, env)
  }

  /** Pieces of work at once, now. */
  get limit(): number {
    return this.#slots.limit
  }

  /** Pieces of work that are not over, those included that nobody waits for any more. */
  get inFlight(): number {
    return this.#slots.inFlight
  }

  get queued(): number {
    return this.#slots.queued
  }

  /**
   * @throws HF_OVERLOADED (the queue is full, or somebody more important took the place), HF_DEADLINE (too little is left
   *   of it), HF_CANCELLED (while waiting)
   */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.#env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    const slots = this.#slots
    const { priority, deadlineAt } = scope
    if (scope.ended) throw this.#refusal(scope, 'cancelled')
    let startedAt = this.#env.monotonic()
    if (startedAt >= deadlineAt) throw this.#refusal(scope, 'deadline')
    if (!slots.tryTake(priority)) {
      const waiter = slots.join(deadlineAt - startedAt, startedAt, priority)
      if (typeof waiter === 'string') throw this.#refusal(scope, waiter)
      scope.watch(waiter)
      await waiter.promise
      scope.unwatch(waiter)
      if (waiter.ending !== 'granted') throw this.#refusal(scope, waiter.ending === 'waiting' ? 'deadline' : waiter.ending)
      startedAt = this.#env.monotonic()
      // The caller may have left, or time have passed, between the grant and this line.
      if (scope.ended || startedAt >= deadlineAt) {
        slots.give()
        throw this.#refusal(scope, scope.ended ? 'cancelled' : 'deadline')
      }
    }
    let runningOn: Promise<void> | undefined
    const runsOn = (over: Promise<void>): void => {
      runningOn = over
      scope.runsOn?.(over)
    }
    let result: 'success' | 'failure' | 'neither' = 'success'
    try {
      return await work(new InnerScope(scope, { runsOn }))
    } catch (error) {
      result = judge(error) === 'transient' ? 'failure' : 'neither'
      throw error
    } finally {
      const now = this.#env.monotonic()
      // Work that came too late for who waited counts as failed, whatever came; a caller who left says nothing about it.
      if (scope.cancelled) result = 'neither'
      else if (scope.ended || now >= deadlineAt) result = 'failure'
      slots.observe(now - startedAt, result, now)
      if (runningOn === undefined) slots.give()
      else void (runningOn).then(() => { slots.give() })
    }
  }

  explain(inside: Explanation): Explanation {
    return explainConcurrency(inside, this.#slots.rules)
  }

  #refusal(scope: Scope, reason: 'overloaded' | 'deadline' | 'cancelled'): HoldfastError {
    const code = reason === 'overloaded' ? 'HF_OVERLOADED' : reason === 'deadline' ? 'HF_DEADLINE' : 'HF_CANCELLED'
    return new HoldfastError(code, { message: `${this.name}: ${reasonText(reason, this.#slots)}`, context: errorContext(scope, this.kind, { limit: this.name }), stackless: true })
  }
}

/** The limit for a person: `20`, `1 to 200 (adaptive)`. */
export function limitWords({ limit, adaptive }: ConcurrencyRules): string {
  return adaptive === undefined ? String(limit) : `${String(adaptive.min)} to ${String(adaptive.max)} (adaptive)`
}

/** What a limit makes of the worst case of what is inside. */
export function explainConcurrency(inside: Explanation, rules: ConcurrencyRules): Explanation {
  const { limit, adaptive, queue } = rules
  return queued(inside, limitWords(rules), { least: adaptive?.min ?? limit, most: adaptive?.max ?? limit, queue })
}

export function reasonText(reason: 'overloaded' | 'deadline' | 'cancelled', slots: Slots): string {
  if (reason === 'cancelled') return 'the caller gave up'
  if (reason === 'deadline') return 'too little was left of the deadline for the call to begin'
  return `${String(slots.inFlight)} calls are in flight and ${String(slots.queued)} wait, which is as many as it takes`
}

/**
 * A concurrency limit on its own.
 * @throws HF_OPTION_INVALID
 */
export function concurrencyLimit(name: string, options: number | ConcurrencyOptions, kit: GuardKit = defaultKit()): ConcurrencyLimit {
  return new ConcurrencyLimit(name, resolveConcurrency(options, `concurrency limit ${name}`), kit.env)
}
