/**
 * Running one check again and again: single flight, bounded time, a schedule with jitter, and never an exception.
 *
 * A check that ignores its signal and hangs is not started a second time; while it hangs each turn counts as a failure.
 */
import { humanDuration, messageOf, type Env, type Timer } from '../core/index.ts'
import type { CheckResult } from './component.ts'

/** A check's own word that it works, but not as it should. */
export interface CheckComplaint {
  readonly degraded: string
}

export interface CheckRules {
  readonly everyMs: number
  readonly timeoutMs: number
  readonly slowerThanMs: number | undefined
  readonly check: (context: { readonly signal: AbortSignal }) => unknown
}

/** Instances started together do not check together: each wait is up to 10 % shorter or longer. */
const JITTER = 0.1

export class CheckRun {
  readonly #env: Env
  readonly #rules: CheckRules
  readonly #report: (result: CheckResult, responseMs: number) => void
  #timer: Timer | undefined
  #scheduled = false
  #flight: Promise<void> | undefined
  #hanging = false
  #stop: (() => void) | undefined

  constructor(rules: CheckRules, env: Env, report: (result: CheckResult, responseMs: number) => void) {
    this.#rules = rules
    this.#env = env
    this.#report = report
  }

  /** Runs now and then on schedule; resolves after the first result. */
  start(): Promise<void> {
    this.#scheduled = true
    return this.runNow()
  }

  /** Resolves when nothing of ours is left but work that ignores its signal. */
  async stop(): Promise<void> {
    this.#scheduled = false
    this.#timer?.cancel()
    this.#stop?.()
    await this.#flight
  }

  /** One run, or the one that is under way. */
  runNow(): Promise<void> {
    this.#flight ??= this.#run().finally(() => {
      this.#flight = undefined
      this.#next()
    })
    return this.#flight
  }

  #next(): void {
    this.#timer?.cancel()
    if (!this.#scheduled) return
    const ms = this.#rules.everyMs * (1 + JITTER * (2 * this.#env.random() - 1))
    this.#timer = this.#env.timer(ms, () => { void this.runNow() })
  }

  async #run(): Promise<void> {
    const { env, rules } = { env: this.#env, rules: this.#rules }
    if (this.#hanging) {
      this.#report({ kind: 'failed', reason: 'the check before is still hanging' }, rules.timeoutMs)
      return
    }
    const startedAt = env.monotonic()
    const controller = new AbortController()
    const result = await new Promise<CheckResult | undefined>(resolve => {
      const timer = env.timer(rules.timeoutMs, () => {
        this.#hanging = true
        resolve({ kind: 'failed', reason: `no answer within ${humanDuration(rules.timeoutMs)}` })
        controller.abort()
      })
      this.#stop = () => {
        timer.cancel()
        this.#hanging = true
        resolve(undefined)
        controller.abort()
      }
      // A check may throw before it returns a promise; both are the same failure. After the timeout its result says only that it ended.
      Promise.resolve().then(() => rules.check({ signal: controller.signal })).then(
        value => { resolve(this.#judge(value, env.monotonic() - startedAt)) },
        (error: unknown) => { resolve({ kind: 'failed', reason: messageOf(error) }) },
      ).finally(() => {
        timer.cancel()
        this.#hanging = false
      }).catch(() => undefined)
    })
    this.#stop = undefined
    // Stopped: an aborted check says nothing about the component.
    if (result !== undefined) this.#report(result, env.monotonic() - startedAt)
  }

  #judge(value: unknown, responseMs: number): CheckResult {
    if (typeof value === 'object' && value !== null && 'degraded' in value && typeof value.degraded === 'string') return { kind: 'poor', reason: value.degraded }
    const { slowerThanMs } = this.#rules
    if (slowerThanMs !== undefined && responseMs > slowerThanMs) {
      return { kind: 'poor', reason: `answered in ${humanDuration(responseMs)}, expected within ${humanDuration(slowerThanMs)}` }
    }
    return { kind: 'good' }
  }
}
