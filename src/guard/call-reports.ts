/**
 * What is said about calls that did not go well: the judgement, the events, the counters, and the error or refusal that the
 * caller gets.
 */
import { HoldfastError, humanDuration, isHoldfastError, messageOf, type Refusal } from '../core/index.ts'
import type { RunningAttempt } from './attempt.ts'
import { borderError, refusal, refusalError, type Failure, type Refused } from './call.ts'
import { errorClass, judge, retryAfterOf } from './classify.ts'
import { reasonText, type Slots } from './concurrency/limit.ts'
import type { GuardedCall } from './guarded-call.ts'
import type { DependencyRules } from './options.ts'
import type { GuardKit } from './policy.ts'
import { rateLimitedMessage, type RateGate } from './rate-limit.ts'

/** Since the process began. */
export interface CallCounters {
  calls: number
  /** Calls that failed in the end. */
  failures: number
  /** Calls (or repetitions) that were not made. */
  refusals: number
  retries: number
  /** Repetitions and hedges that the budget did not allow. */
  retriesSuppressed: number
  /** Calls that were made once more because the answer was late. */
  hedges: number
  timeouts: number
}

export class CallReports {
  readonly counters: CallCounters = { calls: 0, failures: 0, refusals: 0, retries: 0, retriesSuppressed: 0, hedges: 0, timeouts: 0 }
  lastError: { readonly message: string; readonly at: number } | undefined
  readonly #name: string
  readonly #kit: GuardKit
  readonly #rules: DependencyRules
  readonly #slots: Slots
  readonly #rate: RateGate | undefined

  constructor(name: string, rules: DependencyRules, kit: GuardKit, slots: Slots, rate: RateGate | undefined) {
    this.#name = name
    this.#kit = kit
    this.#rules = rules
    this.#slots = slots
    this.#rate = rate
  }

  /** Tells of an attempt that failed, and when it is repeated, if it is. */
  failed(operation: string, { attempts, failure, message, error }: Failure, retryInMs: number | undefined): void {
    this.#kit.events.emit('call.failed', { dependency: this.#name, operation, attempt: attempts, failure, message, ...(retryInMs === undefined ? {} : { retryInMs }), error })
  }

  /** Judges an attempt that threw, or was not waited for any longer. */
  judge(attempt: RunningAttempt<unknown>, previous: Failure | undefined): Failure {
    const { env } = this.#kit
    const attempts = attempt.number
    if (attempt.ending === 'threw') {
      const error = attempt.error
      const failure: Failure = {
        error, attempts, verdict: judge(error, this.#rules.transient), failure: errorClass(error), message: messageOf(error), retryAfterMs: retryAfterOf(error, env.now()),
      }
      if (failure.verdict !== 'neither') this.lastError = { message: failure.message, at: env.now() }
      return failure
    }
    if (attempt.ending === 'timeout') this.counters.timeouts += 1
    const code = attempt.ending === 'timeout' ? 'HF_TIMEOUT' : 'HF_DEADLINE'
    const message = code === 'HF_TIMEOUT'
      ? `${this.#name} ${attempt.operation}: no answer within ${humanDuration(this.#rules.timeoutMs)} (attempt ${String(attempts)})`
      : `${this.#name} ${attempt.operation}: the deadline passed during attempt ${String(attempts)}`
    const error = new HoldfastError(code, {
      message, cause: previous?.error, stackless: true,
      context: { dependency: this.#name, operation: attempt.operation, policy: code === 'HF_TIMEOUT' ? 'timeout' : 'deadline', attempts },
    })
    this.lastError = { message, at: env.now() }
    return { error, attempts, verdict: 'transient', failure: error.failure, message, retryAfterMs: undefined }
  }

  /** The call failed for good: what the caller gets, as an error or as a value. */
  giveUp<T>({ operation, gate, asOutcome }: GuardedCall<T>, failure: Failure): Refusal | HoldfastError {
    this.counters.failures += 1
    const error = borderError(this.#name, operation, failure, undefined)
    if (!asOutcome) return error
    return refusal(isHoldfastError(error) && error.code === 'HF_DEADLINE' ? 'deadline' : 'failed', error.message, failure.retryAfterMs ?? gate.retryAfterMs, error)
  }

  /** The call was not made (again). Where an attempt failed before, that failure is the news, unless the caller left. */
  refuse<T>(call: GuardedCall<T>, reason: Refused, last?: Failure): Refusal | HoldfastError {
    const { operation, asOutcome } = call
    this.counters.refusals += 1
    const waitMs = this.#waitMs(call, reason)
    this.#kit.events.emit('call.refused', { dependency: this.#name, operation, reason, ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }) })
    if (last !== undefined && reason !== 'cancelled') {
      this.counters.failures += 1
      const error = borderError(this.#name, operation, last, waitMs)
      return asOutcome ? refusal('failed', error.message, error.retryAfterMs, error) : error
    }
    const no = refusal(reason, this.#refusalMessage(call, reason, waitMs), waitMs)
    return asOutcome ? no : refusalError(this.#name, operation, { ...no, reason })
  }

  /** After how long the same call would be made, as far as anybody can know. */
  #waitMs<T>({ gate, deadlineMs }: GuardedCall<T>, reason: Refused): number | undefined {
    if (reason === 'breaker-open') return gate.retryAfterMs
    return reason === 'rate-limited' ? this.#rate?.retryAfterMs(deadlineMs, this.#kit.env.monotonic()) : undefined
  }

  #refusalMessage<T>({ gate, operation }: GuardedCall<T>, reason: Refused, waitMs: number | undefined): string {
    if (reason === 'breaker-open') return gate.refusal
    if (reason === 'rate-limited') return this.#rate === undefined ? reason : rateLimitedMessage(this.#name, this.#rate.rules, waitMs ?? 0)
    return `${this.#name} ${operation}: ${reasonText(reason, this.#slots)}`
  }
}
