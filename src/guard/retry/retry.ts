/**
 * Retry: repeats a transient failure of work that may be repeated, with growing, jittered waits and within a budget.
 *
 * It never repeats what is not declared repeatable, a programming error or a refusal, never runs an attempt after the
 * caller has gone, wakes at once on abort, and never asks earlier than Retry-After says. A wait that does not fit the
 * deadline is not begun: the failure is handed out at once, with `retryAfterMs`.
 */
import { currentContext, durationMs, HoldfastError, type Duration } from '../../core/index.ts'
import { judge, retryAfterOf } from '../classify.ts'
import { repeated, type Explanation } from '../explain.ts'
import { announceNesting, repeatedBy, sampled } from '../nesting.ts'
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
  readonly #name: string
  readonly #kit: GuardKit
  readonly #transient: ((error: unknown) => boolean) | undefined
  #runs = 0

  constructor(options: RetryPolicyOptions, kit: GuardKit) {
    this.#name = options.name ?? 'retry'
    this.rules = resolveRetry({ ...RETRY_DEFAULTS, ...options }, this.#name)
    this.budget = options.budget instanceof RetryBudget ? options.budget : new RetryBudget(options.budget ?? {}, `${this.#name}: budget`)
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
    const { env } = this.#kit
    const { effect } = scope
    if (effect === undefined) throw undeclaredEffect(scope, 'retry')
    const attempts = effect === 'once' ? 1 : this.rules.attempts
    const context = currentContext()
    if (context.attempts !== undefined && attempts > 1) announceNesting(this.#kit.events, context, this.#name, scope.operation ?? 'run', attempts)
    this.#runs += 1
    this.budget.deposit(env.monotonic())
    if (scope.ended) throw cancelledError(scope, 'retry')
    for (let number = 1; ; number += 1) {
      try {
        const inner = number === 1 ? scope : new InnerScope(scope, { number })
        return await (attempts > 1 && (number > 1 || sampled(this.#runs)) ? repeatedBy(this.#name, attempts, () => work(inner)) : work(inner))
      } catch (error) {
        if (number >= attempts || scope.ended || judge(error, this.#transient) !== 'transient') throw error
        const wait = Math.max(backoffMs(this.rules, number, env.random()), retryAfterOf(error, env.now()) ?? 0)
        const now = env.monotonic()
        if (now + wait >= scope.deadlineAt || !this.budget.withdraw(now)) throw error
        const pause = new Pause()
        scope.watch(pause)
        await pause.start(env, wait)
        scope.unwatch(pause)
        if (scope.ended) throw cancelledError(scope, 'retry')
      }
    }
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

