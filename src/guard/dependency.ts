/**
 * A dependency: something outside that we call, with everything that keeps its failures from becoming ours.
 *
 * The order is fixed and right: deadline > budgeted retry > breaker > concurrency limit > attempt timeout > call, fused
 * into one async function. The breaker counts attempts; refusals, cancellations and answers that stand count for nothing.
 * What is thrown crosses the border once, coded (see `call`). An allowed call makes no event and no stack.
 * Not here: fallback, hedging, keys of a breaker, adaptive limits.
 */
import {
  currentContext, durationMs, HoldfastError, humanDuration, isHoldfastError, messageOf,
  type BreakerState, type Duration, type ErrorCode, type Outcome, type Refusal, type RefusalReason, type Tier,
} from '../core/index.ts'
import { unwatchAbort, watchAbort, type AbortWatcher } from './abort-watch.ts'
import { RunningAttempt, type Attempt, type AttemptOwner } from './attempt.ts'
import { Breaker, breakerOpenMessage, REFUSED, type ForcedBreaker } from './breaker/breaker.ts'
import { errorClass, judge, retryAfterOf } from './classify.ts'
import { reasonText, Slots } from './concurrency/limit.ts'
import { Latency, type LatencySnapshot } from './latency.ts'
import { resolveDependency, type DependencyOptions, type DependencyRules } from './options.ts'
import { defaultKit, type GuardKit } from './policy.ts'
import { RetryBudget } from './retry/budget.ts'
import { backoffMs, NO_RETRY, Pause, resolveRetry, type RetryOptions } from './retry/retry.ts'
import { TimerEntry, timerQueue, type TimerQueue } from './timer-queue.ts'

interface CallBase {
  /** Sent as the idempotency key by the work; the same over all attempts. Default: a new UUID, made when it is read. */
  readonly key?: string
  /** In place of the dependency's deadline. */
  readonly deadline?: Duration
  /** The caller's: when it aborts, the call ends at once. */
  readonly signal?: AbortSignal
}
/** `read` changes nothing, `idempotent` is safe under the same key: both may be repeated. */
export interface RepeatableCall extends CallBase {
  readonly effect: 'read' | 'idempotent'
  /** In place of the dependency's retry. */
  readonly retry?: RetryOptions | false
}
/** Never repeated by us, whatever happens. */
export interface OnceCall extends CallBase {
  readonly effect: 'once'
  readonly retry?: false
  readonly hedge?: never
}

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
  /** Pieces of work at the dependency, the abandoned ones included. */
  readonly inFlight: number
  readonly queued: number
  /** Work that runs on although nobody waits for it any more. */
  readonly abandoned: number
  /** Since the process began. `failures` are calls that failed in the end, `refusals` calls (or repetitions) that were not made. */
  readonly counters: {
    readonly calls: number
    readonly failures: number
    readonly refusals: number
    readonly retries: number
    /** Repetitions that the budget did not allow. */
    readonly retriesSuppressed: number
    readonly timeouts: number
  }
  readonly lastError: { readonly message: string; readonly at: number } | undefined
  readonly latency: LatencySnapshot | undefined
}

export interface Dependency<Name extends string = string> {
  readonly kind: 'dependency'
  readonly name: Name
  readonly tier: Tier
  readonly runbook: string
  /**
   * The value of `run`, or a coded error. A HoldfastError that `run` throws and that is not worth repeating passes as it
   * is (an HttpStatusError with its status, say); everything else is wrapped once, with `cause` and
   * `context` { dependency, operation, attempts }.
   * @throws HF_CALL_FAILED (transient, attempts used up), HF_CALL_REJECTED (not worth repeating), HF_TIMEOUT, HF_DEADLINE,
   *   HF_BREAKER_OPEN, HF_OVERLOADED, HF_CANCELLED, HF_CALL_IN_TX
   */
  call<T>(operation: string, options: RepeatableCall | OnceCall, run: (attempt: Attempt) => T | Promise<T>): Promise<T>
  /** The same with the "no" as a value: refusals build no exception. Only HF_CALL_IN_TX, a defect, is thrown. */
  try<T>(operation: string, options: RepeatableCall | OnceCall, run: (attempt: Attempt) => T | Promise<T>): Promise<Outcome<T>>
  /** Whether the breaker would let a call through. Only looks; never takes a half-open trial. */
  allows(): boolean
  snapshot(): DependencySnapshot
  /** @throws HF_REASON_REQUIRED, HF_OPTION_INVALID */
  force(to: 'open' | 'closed', options: { readonly reason: string; readonly by: string; readonly forMs?: number }): void
  /** Ends a forced state; false when there is none. */
  release(options: { readonly by: string; readonly reason: string }): boolean
}

/** Work that has not come back this long after it was told to stop is announced as abandoned. */
const ABANDONED_AFTER_MS = 1_000
/** Different per-call deadlines that are remembered as numbers. */
const DURATIONS_KEPT = 64

class GuardedDependency<Name extends string> implements Dependency<Name>, AttemptOwner {
  readonly kind = 'dependency'
  readonly name: Name
  readonly tier: Tier
  readonly runbook: string
  readonly #kit: GuardKit
  readonly #rules: DependencyRules
  readonly #transient: ((error: unknown) => boolean) | undefined
  readonly #breaker: Breaker
  readonly #slots: Slots
  readonly #budget: RetryBudget
  readonly #timers: TimerQueue
  readonly #latency = new Latency()
  readonly #durations = new Map<string, number>()
  readonly #abandoned = new Map<RunningAttempt<unknown>, Abandonment>()
  #calls = 0
  #failures = 0
  #refusals = 0
  #retries = 0
  #retriesSuppressed = 0
  #timeouts = 0
  #lastError: { readonly message: string; readonly at: number } | undefined

  constructor(name: Name, options: DependencyOptions, kit: GuardKit) {
    this.#rules = resolveDependency(name, options)
    this.name = name
    this.tier = options.tier
    this.runbook = options.runbook
    this.#kit = kit
    this.#transient = options.transient
    this.#breaker = new Breaker(name, this.#rules.breaker, kit)
    this.#slots = new Slots(this.#rules.concurrency, kit.env)
    this.#budget = new RetryBudget(this.#rules.retryBudget, `dependency ${name}: retryBudget`)
    this.#timers = timerQueue(kit.env)
  }

  call<T>(operation: string, options: RepeatableCall | OnceCall, run: (attempt: Attempt) => T | Promise<T>): Promise<T> {
    return this.#run(operation, options, run, false) as Promise<T>
  }

  try<T>(operation: string, options: RepeatableCall | OnceCall, run: (attempt: Attempt) => T | Promise<T>): Promise<Outcome<T>> {
    return this.#run(operation, options, run, true) as Promise<Outcome<T>>
  }

  allows(): boolean {
    return this.#breaker.allows()
  }

  force(to: 'open' | 'closed', options: { readonly reason: string; readonly by: string; readonly forMs?: number }): void {
    this.#breaker.force(to, options)
  }

  release(options: { readonly by: string; readonly reason: string }): boolean {
    return this.#breaker.release(options)
  }

  snapshot(): DependencySnapshot {
    const { state, since, failures, retryAfterMs, forced } = this.#breaker.snapshot()
    return {
      name: this.name, tier: this.tier, runbook: this.runbook, state, since, failures, retryAfterMs, forced,
      inFlight: this.#slots.inFlight, queued: this.#slots.queued, abandoned: this.#abandoned.size,
      counters: {
        calls: this.#calls, failures: this.#failures, refusals: this.#refusals,
        retries: this.#retries, retriesSuppressed: this.#retriesSuppressed, timeouts: this.#timeouts,
      },
      lastError: this.#lastError, latency: this.#latency.snapshot(),
    }
  }

  /** An attempt ended without its work, which still holds its slot. */
  left(attempt: RunningAttempt<unknown>): void {
    this.#abandoned.set(attempt, new Abandonment(() => {
      this.#kit.events.emit('call.abandoned', { dependency: this.name, operation: attempt.operation, abandoned: this.#abandoned.size })
    }, this.#timers, this.#kit.env.monotonic()))
  }

  /** The work is over, in time or late: only now the slot is free. */
  over(attempt: RunningAttempt<unknown>): void {
    const abandonment = this.#abandoned.get(attempt)
    if (abandonment !== undefined) {
      this.#timers.remove(abandonment)
      this.#abandoned.delete(attempt)
    }
    this.#slots.give()
  }

  /** The pipeline. With `asOutcome` the "no" is returned, else thrown; one function, so that neither costs the other. */
  async #run<T>(operation: string, options: RepeatableCall | OnceCall, run: (attempt: Attempt) => T | Promise<T>, asOutcome: boolean): Promise<T | Outcome<T>> {
    if (currentContext().transaction !== undefined) throw this.#inTransaction(operation)
    const { env, events } = this.#kit
    const rules = this.#rules
    const breaker = this.#breaker
    const slots = this.#slots
    const caller = options.signal
    const startedAt = env.monotonic()
    const deadlineAt = startedAt + (options.deadline === undefined ? rules.deadlineMs : this.#deadlineMs(options.deadline))
    // Whatever a JavaScript caller passes: only what says that it may be repeated is repeated.
    const repeatable = options.effect === 'read' || options.effect === 'idempotent'
    const retry = !repeatable ? NO_RETRY : options.retry === undefined ? rules.retry : resolveRetry(options.retry, `${this.name} ${operation}: retry`)
    this.#calls += 1
    if (hasLeft(caller)) return this.#refuse(operation, 'cancelled', undefined, asOutcome)
    this.#budget.deposit(startedAt)

    let now = startedAt
    let key = options.key
    let last: Failure | undefined
    for (let number = 1; ; number += 1) {
      // A timer that was late may have let the deadline pass during the wait.
      if (now >= deadlineAt) return this.#refuse(operation, 'deadline', last, asOutcome)
      let permit = breaker.acquire(now)
      if (permit === REFUSED) return this.#refuse(operation, 'breaker-open', last, asOutcome)
      if (!slots.tryTake()) {
        const waiter = slots.join(deadlineAt - now, now)
        if (typeof waiter !== 'string') await waitFor(waiter, waiter.promise, caller)
        now = env.monotonic()
        const ending = typeof waiter === 'string' ? waiter : waiter.ending
        if (ending !== 'granted') {
          breaker.settle(permit, 'neither', now, now - startedAt)
          return this.#refuse(operation, ending === 'waiting' ? 'deadline' : ending, last, asOutcome)
        }
        // The breaker may have changed its mind while we waited for the slot.
        if (!breaker.holds(permit)) permit = breaker.acquire(now)
        const reason = hasLeft(caller) ? 'cancelled' : permit === REFUSED ? 'breaker-open' : now >= deadlineAt ? 'deadline' : undefined
        if (reason !== undefined) {
          slots.give()
          breaker.settle(permit, 'neither', now, now - startedAt)
          return this.#refuse(operation, reason, last, asOutcome)
        }
      }
      const leftMs = deadlineAt - now
      const attempt = new RunningAttempt<T>(number, key, rules.timeoutMs <= leftMs ? 'timeout' : 'deadline', env, this.#timers, this, operation)
      const pending = attempt.start(run, Math.min(rules.timeoutMs, leftMs), now)
      if (pending !== undefined) await (caller === undefined ? pending : waitFor(attempt, pending, caller))
      now = env.monotonic()
      if (attempt.ending === 'value') {
        breaker.settle(permit, 'success', now, now - startedAt)
        this.#latency.add(now - startedAt)
        return asOutcome ? { ok: true, value: attempt.value as T } : (attempt.value as T)
      }
      if (attempt.ending === 'cancelled') {
        breaker.settle(permit, 'neither', now, now - startedAt)
        return this.#refuse(operation, 'cancelled', last, asOutcome)
      }

      const failure = this.#failed(attempt, last)
      last = failure
      breaker.settle(permit, failure.verdict === 'transient' ? 'failure' : 'neither', now, now - startedAt, failure.error)
      const waitMs = failure.verdict === 'transient' && number < retry.attempts && attempt.ending !== 'deadline'
        ? Math.max(backoffMs(retry, number, env.random()), failure.retryAfterMs ?? 0)
        : undefined
      // The order matters: only a repetition that would be made takes from the budget.
      const repeats = waitMs !== undefined && now + waitMs < deadlineAt && breaker.allows() && this.#mayRepeat(now)
      events.emit('call.failed', {
        dependency: this.name, operation, attempt: number, failure: failure.failure, message: failure.message,
        ...(repeats ? { retryInMs: waitMs } : {}), error: failure.error,
      })
      if (!repeats) return this.#giveUp(operation, failure, asOutcome)

      this.#retries += 1
      const pause = new Pause()
      await waitFor(pause, pause.start(env, waitMs), caller)
      if (pause.cancelled || hasLeft(caller)) return this.#refuse(operation, 'cancelled', last, asOutcome)
      key = attempt.keySeen ?? key
      now = env.monotonic()
    }
  }

  #mayRepeat(now: number): boolean {
    if (this.#budget.withdraw(now)) return true
    this.#retriesSuppressed += 1
    return false
  }

  #failed(attempt: RunningAttempt<unknown>, previous: Failure | undefined): Failure {
    const { env } = this.#kit
    const attempts = attempt.number
    if (attempt.ending === 'threw') {
      const error = attempt.error
      const failure: Failure = {
        error, attempts, verdict: judge(error, this.#transient), failure: errorClass(error), message: messageOf(error), retryAfterMs: retryAfterOf(error, env.now()),
      }
      if (failure.verdict !== 'neither') this.#lastError = { message: failure.message, at: env.now() }
      return failure
    }
    if (attempt.ending === 'timeout') this.#timeouts += 1
    const code = attempt.ending === 'timeout' ? 'HF_TIMEOUT' : 'HF_DEADLINE'
    const message = code === 'HF_TIMEOUT'
      ? `${this.name} ${attempt.operation}: no answer within ${humanDuration(this.#rules.timeoutMs)} (attempt ${String(attempts)})`
      : `${this.name} ${attempt.operation}: the deadline passed during attempt ${String(attempts)}`
    const error = new HoldfastError(code, {
      message, cause: previous?.error, context: { dependency: this.name, operation: attempt.operation, attempts }, stackless: true,
    })
    this.#lastError = { message, at: env.now() }
    return { error, attempts, verdict: 'transient', failure: error.failure, message, retryAfterMs: undefined }
  }

  /** The call failed for good: what the caller gets. */
  #giveUp(operation: string, failure: Failure, asOutcome: boolean): Refusal {
    this.#failures += 1
    const error = this.#border(operation, failure, undefined)
    if (!asOutcome) throw error
    return refusal(isHoldfastError(error) && error.code === 'HF_DEADLINE' ? 'deadline' : 'failed', error.message, failure.retryAfterMs ?? this.#breaker.retryAfterMs, error)
  }

  /** The one place where an error crosses the room's border. Own errors and refusals of guards inside pass as they are. */
  #border(operation: string, failure: Failure, waitMs: number | undefined): HoldfastError {
    const { error, attempts } = failure
    if (isHoldfastError(error) && (failure.verdict !== 'transient' || error.context['dependency'] === this.name)) return error
    const code: ErrorCode = failure.verdict === 'transient' ? 'HF_CALL_FAILED' : failure.verdict === 'permanent' ? 'HF_CALL_REJECTED' : 'HF_CANCELLED'
    return new HoldfastError(code, {
      message: `${this.name} ${operation} failed after ${String(attempts)} attempt${attempts === 1 ? '' : 's'}: ${failure.message}`,
      cause: error, failure: failure.failure, retryAfterMs: failure.retryAfterMs ?? waitMs,
      context: { dependency: this.name, operation, attempts }, stackless: true,
    })
  }

  /** The call was not made (again). Where an attempt failed before, that failure is the news, unless the caller left. */
  #refuse(operation: string, reason: 'breaker-open' | 'overloaded' | 'deadline' | 'cancelled', last: Failure | undefined, asOutcome: boolean): Refusal {
    this.#refusals += 1
    const waitMs = reason === 'breaker-open' ? this.#breaker.retryAfterMs : undefined
    this.#kit.events.emit('call.refused', { dependency: this.name, operation, reason, ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }) })
    if (last !== undefined && reason !== 'cancelled') {
      this.#failures += 1
      const error = this.#border(operation, last, waitMs)
      if (!asOutcome) throw error
      return refusal('failed', error.message, error.retryAfterMs, error)
    }
    const message = reason === 'breaker-open' ? breakerOpenMessage(this.name, waitMs) : `${this.name} ${operation}: ${reasonText(reason, this.#slots)}`
    if (asOutcome) return refusal(reason, message, waitMs)
    throw new HoldfastError(CODES[reason], { message, retryAfterMs: waitMs, context: { dependency: this.name, operation }, stackless: true })
  }

  #inTransaction(operation: string): HoldfastError {
    return new HoldfastError('HF_CALL_IN_TX', {
      message: `${this.name} ${operation} was called inside transaction ${currentContext().transaction ?? ''}, which would be held open for as long as the answer takes`,
      context: { dependency: this.name, operation, transaction: currentContext().transaction },
    })
  }

  #deadlineMs(deadline: Duration): number {
    let ms = this.#durations.get(deadline)
    if (ms === undefined) {
      ms = durationMs(deadline, `${this.name}: deadline`)
      if (this.#durations.size < DURATIONS_KEPT) this.#durations.set(deadline, ms)
    }
    return ms
  }
}

interface Failure {
  readonly error: unknown
  readonly attempts: number
  readonly verdict: ReturnType<typeof judge>
  readonly failure: ReturnType<typeof errorClass>
  readonly message: string
  readonly retryAfterMs: number | undefined
}

const CODES = {
  'breaker-open': 'HF_BREAKER_OPEN', overloaded: 'HF_OVERLOADED', deadline: 'HF_DEADLINE', cancelled: 'HF_CANCELLED',
} as const satisfies Partial<Record<RefusalReason, ErrorCode>>

/** Announces work that nobody waits for any more, once, if it has not come back soon. */
class Abandonment extends TimerEntry {
  readonly #announce: () => void

  constructor(announce: () => void, timers: TimerQueue, now: number) {
    super()
    this.#announce = announce
    timers.add(this, ABANDONED_AFTER_MS, now)
  }

  expire(): void {
    this.#announce()
  }
}

function hasLeft(caller: AbortSignal | undefined): boolean {
  return caller?.aborted === true
}

/** Waits for `promise`, with the caller's signal watched meanwhile. */
async function waitFor(watcher: AbortWatcher, promise: Promise<void>, caller: AbortSignal | undefined): Promise<void> {
  if (caller === undefined) return promise
  // The work may have aborted its own caller before it yielded: an abort event that is past is not heard again.
  if (caller.aborted) watcher.aborted()
  else watchAbort(caller, watcher)
  await promise
  unwatchAbort(caller, watcher)
}

function refusal(reason: RefusalReason, message: string, retryAfterMs: number | undefined, error?: unknown): Refusal {
  return { ok: false, reason, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }), ...(error === undefined ? {} : { error }) }
}

/**
 * Declares a dependency.
 * Emits `breaker.changed`, `call.failed` (each failed attempt), `call.refused`, `call.abandoned`.
 * @throws HF_OPTION_INVALID
 * @example
 * const panel = dependency('vpn-panel', { tier: 'degradable', runbook: 'vpn-panel-down', deadline: '10s', timeout: '3s' })
 * const user = await panel.call('get-user', { effect: 'read' }, ({ signal }) => api.getUser(id, { signal }))
 */
export function dependency<const Name extends string>(name: Name, options: DependencyOptions, kit: GuardKit = defaultKit()): Dependency<Name> {
  return new GuardedDependency(name, options, kit)
}
