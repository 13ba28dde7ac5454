/**
 * Retry: repeats a transient failure of work that may be repeated, with growing, jittered waits and within a budget.
 *
 * It never repeats a programming error or a refusal, never runs an attempt after the caller has gone, wakes at once on
 * abort, and never asks earlier than Retry-After says. A wait that does not fit the deadline is not begun: the failure is
 * handed out at once, with `retryAfterMs`.
 * Not here: whether the work may be repeated at all. Alone, `retry()` believes its caller; `dependency()` demands `effect`.
 */
import { durationMs, HoldfastError, type Duration, type Env } from '../../core/index.ts'
import { unwatchAbort, watchAbort, type AbortWatcher } from '../abort-watch.ts'
import { judge, retryAfterOf } from '../classify.ts'
import { refused, wholeNumber } from '../numbers.ts'
import { defaultKit, innerScope, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from '../policy.ts'
import { RetryBudget, type RetryBudgetOptions } from './budget.ts'

export interface RetryOptions {
  /** Attempts in all, the first included: 1 to 20. Default 3. */
  readonly attempts: number
  /** The least wait before a repetition. Default `'100ms'`. */
  readonly minWait?: Duration
  /** The longest wait of our own choosing; Retry-After may ask for more. Default `'20s'` (the AWS SDKs' cap). */
  readonly maxWait?: Duration
}

export const RETRY_DEFAULTS: Readonly<Required<RetryOptions>> = Object.freeze({ attempts: 3, minWait: '100ms', maxWait: '20s' })

export interface RetryRules {
  readonly attempts: number
  readonly minWaitMs: number
  readonly maxWaitMs: number
}

export const NO_RETRY: RetryRules = Object.freeze({ attempts: 1, minWaitMs: 0, maxWaitMs: 0 })

/** @throws HF_OPTION_INVALID */
export function resolveRetry(options: RetryOptions | false | undefined, where: string): RetryRules {
  if (options === false) return NO_RETRY
  const given = { ...RETRY_DEFAULTS, ...options }
  const minWaitMs = durationMs(given.minWait, `${where}: minWait`)
  // A longer minWait alone moves the default cap along; only two contradicting options are refused.
  const maxWaitMs = options?.maxWait === undefined ? Math.max(minWaitMs, durationMs(given.maxWait, `${where}: maxWait`)) : durationMs(given.maxWait, `${where}: maxWait`)
  if (maxWaitMs < minWaitMs) throw refused(`${where}: maxWait`, `at least minWait (${given.minWait})`, given.maxWait)
  return { attempts: wholeNumber(given.attempts, 1, `${where}: attempts`, 20), minWaitMs, maxWaitMs }
}

/**
 * The wait after the given failed attempt: evenly spread between `minWait` and `minWait` x 2^attempt, capped. Full jitter
 * above a floor: clients that failed together do not come back together.
 */
export function backoffMs(rules: RetryRules, attempt: number, random: number): number {
  const cap = Math.min(rules.maxWaitMs, rules.minWaitMs * 2 ** Math.min(attempt, 30))
  return rules.minWaitMs + random * Math.max(0, cap - rules.minWaitMs)
}

/** A wait between attempts: never shorter than `ms`, over at once when its caller gives up. */
export class Pause implements AbortWatcher {
  #finish: (() => void) | undefined
  cancelled = false

  start(env: Env, ms: number): Promise<void> {
    const until = env.monotonic() + ms
    return new Promise(resolve => {
      const arm = (): void => {
        const left = until - env.monotonic()
        // setTimeout may fire up to a millisecond early; a server that said "in 2 s" is not asked after 1.999 s.
        if (left <= 0) {
          resolve()
          return
        }
        const timer = env.timer(Math.ceil(left), arm, { keepAlive: true })
        this.#finish = () => {
          timer.cancel()
          resolve()
        }
      }
      arm()
    })
  }

  aborted(): void {
    this.cancelled = true
    this.#finish?.()
  }
}

export interface RetryPolicyOptions extends Partial<RetryOptions> {
  readonly transient?: (error: unknown) => boolean
  readonly budget?: RetryBudgetOptions
}

export class Retry implements Policy {
  readonly kind = 'retry'
  readonly rules: RetryRules
  readonly #env: Env
  readonly #budget: RetryBudget
  readonly #transient: ((error: unknown) => boolean) | undefined

  constructor(options: RetryPolicyOptions, kit: GuardKit) {
    this.rules = resolveRetry({ ...RETRY_DEFAULTS, ...options }, 'retry')
    this.#env = kit.env
    this.#budget = new RetryBudget(options.budget ?? {}, 'retry budget')
    this.#transient = options.transient
  }

  /**
   * The retry alone. The error of the last attempt passes unchanged.
   * @throws HF_CANCELLED when the caller gives up during a wait.
   */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.#env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    const env = this.#env
    this.#budget.deposit(env.monotonic())
    for (let number = 1; ; number += 1) {
      if (scope.signal.aborted) throw cancelledError()
      try {
        return await work(innerScope(scope, { number }))
      } catch (error) {
        if (number >= this.rules.attempts || scope.signal.aborted || judge(error, this.#transient) !== 'transient') throw error
        const wait = Math.max(backoffMs(this.rules, number, env.random()), retryAfterOf(error, env.now()) ?? 0)
        const now = env.monotonic()
        if (now + wait >= scope.deadlineAt || !this.#budget.withdraw(now)) throw error
        const pause = new Pause()
        watchAbort(scope.signal, pause)
        await pause.start(env, wait)
        unwatchAbort(scope.signal, pause)
      }
    }
  }
}

function cancelledError(): HoldfastError {
  return new HoldfastError('HF_CANCELLED', { message: 'the caller gave up', stackless: true })
}

/**
 * A retry on its own, for work that is safe to repeat: `await retry({ attempts: 5 }).run(({ signal }) => read(signal))`.
 * Make it once and share it: its budget is per policy.
 * @throws HF_OPTION_INVALID
 */
export function retry(options: RetryPolicyOptions = {}, kit: GuardKit = defaultKit()): Retry {
  return new Retry(options, kit)
}
