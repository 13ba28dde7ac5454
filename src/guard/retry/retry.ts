/**
 * Retry: repeats a transient failure of work that may be repeated, with growing, jittered waits and within a budget.
 *
 * It never repeats what is not declared repeatable, a programming error or a refusal, never runs an attempt after the
 * caller has gone, wakes at once on abort, and never asks earlier than Retry-After says. A wait that does not fit the
 * deadline is not begun: the failure is handed out at once, with `retryAfterMs`.
 */
import { currentContext, durationMs, HoldfastError, type Context, type Duration } from '../../core/index.ts'
import { judge, retryAfterOf } from '../classify.ts'
import { repeated, type Explanation } from '../explain.ts'
import { around, carried, enter, leave, nestedLayer, repeatedBy, type Layer } from '../nesting.ts'
import { refused, wholeNumber } from '../numbers.ts'
import { cancelledError, defaultKit, errorContext, InnerScope, policyRun, type GuardKit, type Policy, type RepeatableRun, type Scope, type Work } from '../policy.ts'
import { backoffMs, type Backoff, type RetryRules } from './backoff.ts'
import { RetryBudget, type RetryBudgetOptions } from './budget.ts'
import { Pause } from './pause.ts'

export interface RetryOptions {
  /** Attempts in all, the first included: 1 to 20. Default 3. */
  readonly attempts: number
  /** The least wait before a repetition. Default `'100ms'`. */
  readonly minWait?: Duration
  /** The longest wait of our own choosing; Retry-After may ask for more. Default `'20s'` (the AWS SDKs' cap). */
  readonly maxWait?: Duration
  /** Default `'full-jitter'`. The other two bring callers that failed together back together: for a dependency with one caller. */
  readonly backoff?: Backoff
}

export const RETRY_DEFAULTS: Readonly<Required<RetryOptions>> = Object.freeze({ attempts: 3, minWait: '100ms', maxWait: '20s', backoff: 'full-jitter' })

export const NO_RETRY: RetryRules = Object.freeze({ attempts: 1, minWaitMs: 0, maxWaitMs: 0, backoff: 'constant' })

const BACKOFFS: readonly string[] = ['full-jitter', 'exponential', 'constant'] satisfies readonly Backoff[]

/** @throws HF_OPTION_INVALID */
export function resolveRetry(options: RetryOptions | false | undefined, where: string): RetryRules {
  if (options === false) return NO_RETRY
  const given = { ...RETRY_DEFAULTS, ...options }
  if (!BACKOFFS.includes(given.backoff)) throw refused(`${where}: backoff`, BACKOFFS.join(', '), given.backoff)
  const minWaitMs = durationMs(given.minWait, `${where}: minWait`)
  // A longer minWait alone moves the default cap along; only two contradicting options are refused.
  const maxWaitMs = options?.maxWait === undefined ? Math.max(minWaitMs, durationMs(given.maxWait, `${where}: maxWait`)) : durationMs(given.maxWait, `${where}: maxWait`)
  if (maxWaitMs < minWaitMs) throw refused(`${where}: maxWait`, `at least minWait (${given.minWait})`, given.maxWait)
  return { attempts: wholeNumber(given.attempts, 1, `${where}: attempts`, 20), minWaitMs, maxWaitMs, backoff: given.backoff }
}

export interface RetryPolicyOptions extends Partial<RetryOptions> {
  /** In warnings about nested retries. Default `'retry'`. */
  readonly name?: string
  readonly transient?: (error: unknown) => boolean
  /** Numbers for a budget of its own, or one that several policies share. */
  readonly budget?: RetryBudgetOptions | RetryBudget
}

export class Retry implements Policy {
  readonly kind = 'retry'
  readonly rules: RetryRules
  readonly budget: RetryBudget
  readonly #layer: Layer
  readonly #kit: GuardKit
  readonly #transient: ((error: unknown) => boolean) | undefined
  #runs = 0

  constructor(options: RetryPolicyOptions, kit: GuardKit) {
    const name = options.name ?? 'retry'
    this.rules = resolveRetry({ ...RETRY_DEFAULTS, ...options }, name)
    this.budget = options.budget instanceof RetryBudget ? options.budget : new RetryBudget(options.budget ?? {}, `${name}: budget`)
    this.#layer = { name, attempts: this.rules.attempts }
    this.#kit = kit
    this.#transient = options.transient
  }

  /**
   * The retry alone. The error of the last attempt passes unchanged.
   * @throws HF_CANCELLED when the caller gives up during a wait, HF_NOT_REPEATABLE without `effect`.
   */
  run<T>(work: Work<T>, options: RepeatableRun): Promise<T> {
    return policyRun(this, this.#kit.env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    const attempts = this.#attempts(scope)
    this.#runs += 1
    this.budget.deposit(this.#kit.env.monotonic())
    if (scope.ended) throw cancelledError(scope, 'retry')
    const context = currentContext()
    const layer = attempts === 1 ? undefined : this.#layerIn(context, scope)
    let failure: unknown
    try {
      return await this.#call(layer, context, 1, work, scope)
    } catch (error) {
      failure = error
    }
    if (layer !== undefined) return this.#repeat(scope, work, layer, failure)
    throw failure
  }

  /** How many attempts the run may have. */
  #attempts(scope: Scope): number {
    if (scope.effect === undefined) throw undeclaredEffect(scope, 'retry')
    return scope.effect === 'once' ? 1 : this.rules.attempts
  }

  #layerIn(context: Context, scope: Scope): Layer {
    const outer = around(context)
    return outer === undefined ? this.#layer : nestedLayer(this.#kit.events, outer, this.#layer.name, scope.operation ?? 'run', this.rules.attempts)
  }

  #call<T>(layer: Layer | undefined, context: Context, number: number, work: Work<T>, scope: Scope): T | Promise<T> {
    if (layer === undefined) return work(scope)
    const outer = enter(layer)
    try {
      return carried(context, this.#runs, number) ? repeatedBy(layer, work, scope) : work(scope)
    } finally {
      leave(outer)
    }
  }

  /** All that comes after the first attempt has failed. */
  async #repeat<T>(scope: Scope, work: Work<T>, layer: Layer, first: unknown): Promise<T> {
    const { env } = this.#kit
    let failure = first
    for (let number = 2; number <= this.rules.attempts; number += 1) {
      if (scope.ended || judge(failure, this.#transient) !== 'transient') break
      const wait = Math.max(backoffMs(this.rules, number - 1, env.random()), retryAfterOf(failure, env.now()) ?? 0)
      const now = env.monotonic()
      if (now + wait >= scope.deadlineAt || !this.budget.withdraw(now)) break
      const pause = new Pause()
      scope.watch(pause)
      await pause.start(env, wait)
      scope.unwatch(pause)
      if (scope.ended) throw cancelledError(scope, 'retry')
      try {
        return await this.#call(layer, currentContext(), number, work, new InnerScope(scope, { number }))
      } catch (error) {
        failure = error
      }
    }
    throw failure
  }

  explain(inside: Explanation): Explanation {
    return repeated(inside, this.rules, this.budget)
  }
}

/** What repeats must be told whether it may. */
export function undeclaredEffect(scope: Scope, policy: Policy['kind']): HoldfastError {
  return new HoldfastError('HF_NOT_REPEATABLE', {
    message: `${scope.operation ?? 'the run'}: ${policy} repeats what it guards, so say whether that may be repeated: effect 'read', 'idempotent' or 'once'`, context: errorContext(scope, policy),
  })
}

/**
 * A retry on its own, for work that is safe to repeat: `await retry({ attempts: 5 }).run(({ signal }) => read(signal), { effect: 'read' })`.
 * Make it once and share it: its budget is per policy.
 * @throws HF_OPTION_INVALID
 */
export function retry(options: RetryPolicyOptions = {}, kit: GuardKit = defaultKit()): Retry {
  return new Retry(options, kit)
}

