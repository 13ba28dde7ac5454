/**
 * What a single call says in place of its dependency's rules, checked once and remembered: options that are made once and
 * passed to every call cost a look-up.
 */
import { durationMs, type Duration } from '../core/index.ts'
import { resolveHedge, type HedgeOptions, type HedgeRules } from './hedge.ts'
import type { RetryRules } from './retry/backoff.ts'
import { NO_RETRY, resolveRetry, type RetryOptions } from './retry/retry.ts'

/** Different deadlines that are remembered as numbers. */
const DURATIONS_KEPT = 64

export class CallRules {
  readonly #name: string
  readonly #durations = new Map<string, number>()
  readonly #retries = new WeakMap<RetryOptions, RetryRules>()
  readonly #hedges = new WeakMap<HedgeOptions, HedgeRules>()

  constructor(name: string) {
    this.#name = name
  }

  /** @throws HF_OPTION_INVALID */
  retry(operation: string, options: RetryOptions | false): RetryRules {
    if (options === false) return NO_RETRY
    let rules = this.#retries.get(options)
    if (rules === undefined) {
      rules = resolveRetry(options, `${this.#name} ${operation}: retry`)
      this.#retries.set(options, rules)
    }
    return rules
  }

  /** @throws HF_OPTION_INVALID */
  hedge(operation: string, options: HedgeOptions | false): HedgeRules | undefined {
    if (options === false) return undefined
    let rules = this.#hedges.get(options)
    if (rules === undefined) {
      rules = resolveHedge(options, `${this.#name} ${operation}: hedge`)
      this.#hedges.set(options, rules)
    }
    return rules
  }

  /** @throws HF_OPTION_INVALID */
  deadlineMs(deadline: Duration): number {
    let ms = this.#durations.get(deadline)
    if (ms === undefined) {
      ms = durationMs(deadline, `${this.#name}: deadline`)
      if (this.#durations.size < DURATIONS_KEPT) this.#durations.set(deadline, ms)
    }
    return ms
  }
}
