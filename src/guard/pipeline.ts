/**
 * The guarded call, fused: deadline > budgeted retry > hedge > breaker > outbound rate limit > concurrency limit > attempt
 * timeout > call, in one async function. What is usual runs through it without a closure, an event or a promise of ours
 * beyond the one of the attempt; only what is rare (a wait, a hedge, a failure) leaves it.
 * Not here: what is declared (./options.ts), who may look and force (./dependency.ts), fallbacks (around it).
 */
import { currentContext, durationMs, HoldfastError, humanDuration, isHoldfastError, messageOf, type Duration, type Outcome, type Refusal } from '../core/index.ts'
import { AbandonedWork } from './abandoned.ts'
import { unwatchAbort, watchAbort, type AbortWatcher } from './abort-watch.ts'
import { RunningAttempt, type Attempt } from './attempt.ts'
import { Breaker, REFUSED, type Gate } from './breaker/breaker.ts'
import { BreakerPartitions } from './breaker/partitions.ts'
import { borderError, checkOnce, refusal, refusalError, type CallOptions, type Failure, type Refused } from './call.ts'
import { errorClass, judge, retryAfterOf } from './classify.ts'
import { reasonText, Slots, type Priority } from './concurrency/limit.ts'
import { hedgeDelayMs, Race, resolveHedge, type Contender, type HedgeOptions, type HedgeRules } from './hedge.ts'
import { Latency } from './latency.ts'
import { announceNesting, repeatedBy, sampled } from './nesting.ts'
import type { DependencyRules } from './options.ts'
import type { GuardKit } from './policy.ts'
import { RateGate, rateLimitedMessage } from './rate-limit.ts'
import { backoffMs, type RetryRules } from './retry/backoff.ts'
import { RetryBudget } from './retry/budget.ts'
import { Pause } from './retry/pause.ts'
import { NO_RETRY, resolveRetry, type RetryOptions } from './retry/retry.ts'
import { timerQueue, type TimerQueue } from './timer-queue.ts'

/** Different per-call deadlines that are remembered as numbers. */
const DURATIONS_KEPT = 64

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

export class Pipeline {
  readonly name: string
  readonly breaker: Breaker
  readonly partitions: BreakerPartitions | undefined
  readonly slots: Slots
  readonly budget: RetryBudget
  readonly abandoned: AbandonedWork
  readonly latency: Latency = new Latency()
  readonly counters: CallCounters = { calls: 0, failures: 0, refusals: 0, retries: 0, retriesSuppressed: 0, hedges: 0, timeouts: 0 }
  lastError: { readonly message: string; readonly at: number } | undefined
  readonly #kit: GuardKit
  readonly #rules: DependencyRules
  readonly #rate: RateGate | undefined
  readonly #timers: TimerQueue
  /** Of single attempts: when is an answer late? */
  readonly #attemptLatency = new Latency()
  readonly #durations = new Map<string, number>()
  readonly #retries = new WeakMap<RetryOptions, RetryRules>()
  readonly #hedges = new WeakMap<HedgeOptions, HedgeRules>()

  constructor(name: string, rules: DependencyRules, kit: GuardKit) {
    this.name = name
    this.#kit = kit
    this.#rules = rules
    this.partitions = rules.partitions === undefined ? undefined : new BreakerPartitions(name, rules.partitions, kit)
    this.breaker = this.partitions?.parent ?? new Breaker(name, rules.breaker, kit)
    this.#rate = rules.rateLimit === undefined ? undefined : new RateGate(rules.rateLimit, kit.env)
    this.slots = new Slots(rules.concurrency, kit.env)
    this.budget = new RetryBudget(rules.retryBudget, `dependency ${name}: retryBudget`)
    this.#timers = timerQueue(kit.env)
    this.abandoned = new AbandonedWork(
      kit.env,
      (operation, abandoned) => { kit.events.emit('call.abandoned', { dependency: name, operation, abandoned }) },
      () => { this.slots.give() },
    )
  }

  /** With `asOutcome` the "no" is returned, else thrown; one function, so that neither costs the other. */
  async run<T>(operation: string, options: CallOptions, run: (attempt: Attempt) => T | Promise<T>, asOutcome: boolean): Promise<T | Outcome<T>> {
    const context = currentContext()
    if (context.transaction !== undefined) throw this.#inTransaction(operation, context.transaction)
    const { env, events } = this.#kit
    const rules = this.#rules
    const gate = options.partition === undefined ? this.breaker : this.gateOf(options.partition)
    const caller = options.signal
    const startedAt = env.monotonic()
    const deadlineAt = startedAt + (options.deadline === undefined ? rules.deadlineMs : this.#deadlineMs(options.deadline))
    let retry = NO_RETRY
    let hedge: HedgeRules | undefined
    if (options.effect === 'read' || options.effect === 'idempotent') {
      retry = options.retry === undefined ? rules.retry : this.#retryOf(operation, options.retry)
      hedge = options.hedge === undefined ? rules.hedge : this.#hedgeOf(operation, options.hedge)
    } else checkOnce(this.name, operation, options)
    if (context.attempts !== undefined && retry.attempts > 1) announceNesting(events, context, this.name, operation, retry.attempts)
    this.counters.calls += 1
    if (hasLeft(caller)) return this.#refuse(operation, 'cancelled', undefined, asOutcome, options)
    this.budget.deposit(startedAt)

    let now = startedAt
    let key = options.key
    let last: Failure | undefined
    for (let number = 1; ; number += 1) {
      // A timer that was late may have let the deadline pass during the wait.
      if (now >= deadlineAt) return this.#refuse(operation, 'deadline', last, asOutcome, options)
      let permit = gate.acquire(now)
      if (permit === REFUSED) return this.#refuse(operation, 'breaker-open', last, asOutcome, options)
      const hasTurn = this.#rate === undefined || this.#rate.tryTake(now)
      if (!hasTurn || !this.slots.tryTake(options.priority)) {
        const admission = await this.#queueUp(gate, permit, hasTurn, options.priority, deadlineAt, caller)
        if (typeof admission === 'string') return this.#refuse(operation, admission, last, asOutcome, options)
        permit = admission
        now = env.monotonic()
      }
      let begunAt = now
      let attempt = new RunningAttempt<T>(number, key, rules.timeoutMs <= deadlineAt - now ? 'timeout' : 'deadline', env, this.#timers, this.abandoned, operation)
      const ms = Math.min(rules.timeoutMs, deadlineAt - now)
      const work = rules.faults === undefined ? run : rules.faults.wrap(operation, number, run)
      const pending = retry.attempts > 1 && (number > 1 || sampled(this.counters.calls))
        ? startInside(this.name, retry.attempts, attempt, work, ms, now)
        : attempt.start(work, ms, now)
      if (pending !== undefined) {
        if (hedge !== undefined) {
          const winner = await this.#race(gate, { attempt, pending, permit, startedAt: now }, hedge, run, options.priority, deadlineAt, caller)
          attempt = winner.attempt
          permit = winner.permit
          begunAt = winner.startedAt
        } else await (caller === undefined ? pending : waitFor(attempt, pending, caller))
      }
      now = env.monotonic()
      if (attempt.ending === 'value') {
        gate.settle(permit, 'success', now, now - begunAt)
        this.slots.observe(now - begunAt, 'success', now)
        this.latency.add(now - startedAt)
        return asOutcome ? { ok: true, value: attempt.value as T } : (attempt.value as T)
      }
      if (attempt.ending === 'cancelled') {
        gate.settle(permit, 'neither', now, now - begunAt)
        return this.#refuse(operation, 'cancelled', last, asOutcome, options)
      }

      const failure = this.#failed(attempt, last)
      last = failure
      this.#settle(gate, permit, failure, begunAt, now)
      const waitMs = failure.verdict === 'transient' && number < retry.attempts && attempt.ending !== 'deadline'
        ? Math.max(backoffMs(retry, number, env.random()), failure.retryAfterMs ?? 0)
        : undefined
      // The order matters: only a repetition that would be made takes from the budget.
      const repeats = waitMs !== undefined && now + waitMs < deadlineAt && gate.allows() && this.#mayRepeat(now)
      this.#announce(operation, failure, repeats ? waitMs : undefined)
      if (!repeats) return this.#giveUp(operation, failure, asOutcome, options)

      this.counters.retries += 1
      const pause = new Pause()
      await waitFor(pause, pause.start(env, waitMs), caller)
      if (pause.cancelled || hasLeft(caller)) return this.#refuse(operation, 'cancelled', last, asOutcome, options)
      key = attempt.keySeen ?? key
      now = env.monotonic()
    }
  }

  /** The slow way in: waits for a turn and for a slot. The permit to go on with, which may be another by then, or why not. */
  async #queueUp(gate: Gate, permit: number, hasTurn: boolean, priority: Priority | undefined, deadlineAt: number, caller: AbortSignal | undefined): Promise<number | Refused> {
    const { env } = this.#kit
    const rate = this.#rate
    let held = permit
    let turn = hasTurn
    const refused = (reason: Refused): Refused => {
      const now = env.monotonic()
      if (held !== REFUSED) gate.settle(held, 'neither', now, 0)
      if (turn) rate?.giveBack(now)
      return reason
    }
    if (!turn && rate !== undefined) {
      const now = env.monotonic()
      const place = rate.join(deadlineAt - now, now)
      if (place === undefined) return refused('rate-limited')
      await waitFor(place, place.promise, caller)
      if (place.ending !== 'granted') return refused(place.ending === 'cancelled' ? 'cancelled' : 'deadline')
      turn = true
    }
    if (!this.slots.tryTake(priority)) {
      const now = env.monotonic()
      const place = this.slots.join(deadlineAt - now, now, priority)
      if (typeof place === 'string') return refused(place)
      await waitFor(place, place.promise, caller)
      if (place.ending !== 'granted') return refused(place.ending === 'waiting' ? 'deadline' : place.ending)
    }
    const now = env.monotonic()
    // The breaker may have changed its mind while we waited. Of a partition's two permits one may still be held.
    if (!gate.holds(held)) {
      gate.settle(held, 'neither', now, 0)
      held = gate.acquire(now)
    }
    const reason = hasLeft(caller) ? 'cancelled' : held === REFUSED ? 'breaker-open' : now >= deadlineAt ? 'deadline' : undefined
    if (reason === undefined) return held
    this.slots.give()
    return refused(reason)
  }

  /** Runs an attempt against hedges that begin when its answer is late. All but the winner are settled here. */
  async #race<T>(
    gate: Gate, first: Contender<T>, hedge: HedgeRules, run: (attempt: Attempt) => T | Promise<T>, priority: Priority | undefined, deadlineAt: number, caller: AbortSignal | undefined,
  ): Promise<Contender<T>> {
    const { env, events } = this.#kit
    const { operation, number } = first.attempt
    const delayMs = hedgeDelayMs(hedge, this.#attemptLatency)
    const watch = (attempt: RunningAttempt<T>): void => {
      if (caller === undefined) return
      if (caller.aborted) attempt.aborted()
      else watchAbort(caller, attempt)
    }
    watch(first.attempt)
    const race = new Race<T>(first, {
      extra: hedge.extra, delayMs, timers: this.#timers, now: () => env.monotonic(),
      begin: () => {
        const startedAt = env.monotonic()
        const permit = this.#admitHedge(gate, priority, startedAt)
        if (permit === REFUSED) return undefined
        this.counters.hedges += 1
        events.emit('call.hedged', { dependency: this.name, operation, afterMs: startedAt - first.startedAt })
        const leftMs = deadlineAt - startedAt
        const attempt = new RunningAttempt<T>(number, first.attempt.key, this.#rules.timeoutMs <= leftMs ? 'timeout' : 'deadline', env, this.#timers, this.abandoned, operation)
        const work = this.#rules.faults === undefined ? run : this.#rules.faults.wrap(operation, number, run)
        const pending = attempt.start(work, Math.max(0, Math.min(this.#rules.timeoutMs, leftMs)), startedAt)
        if (pending !== undefined) watch(attempt)
        return { attempt, pending, permit, startedAt }
      },
      stands: error => judge(error, this.#rules.transient) !== 'transient',
      beaten: ({ attempt, permit, startedAt }) => {
        if (caller !== undefined) unwatchAbort(caller, attempt)
        const now = env.monotonic()
        this.#attemptLatency.add(now - startedAt)
        if (attempt.ending === 'threw' || attempt.ending === 'timeout') {
          const failure = this.#failed(attempt, undefined)
          this.#settle(gate, permit, failure, startedAt, now)
          this.#announce(operation, failure, undefined)
        } else gate.settle(permit, 'neither', now, now - startedAt)
      },
    })
    const winner = await race.result
    if (caller !== undefined) unwatchAbort(caller, winner.attempt)
    if (winner.attempt.ending === 'value') this.#attemptLatency.add(env.monotonic() - winner.startedAt)
    return winner
  }

  /** A hedge is made only when nothing stands in its way: it never queues, and takes a slot from nobody who waits. */
  #admitHedge(gate: Gate, priority: Priority | undefined, now: number): number {
    const permit = gate.acquire(now)
    if (permit === REFUSED) return REFUSED
    const hasTurn = this.#rate === undefined || this.#rate.tryTake(now)
    if (hasTurn && this.slots.tryTake(priority)) {
      if (this.#mayRepeat(now)) return permit
      this.slots.give()
    }
    if (hasTurn) this.#rate?.giveBack(now)
    gate.settle(permit, 'neither', now, 0)
    return REFUSED
  }

  #mayRepeat(now: number): boolean {
    if (this.budget.withdraw(now)) return true
    this.counters.retriesSuppressed += 1
    return false
  }

  #settle(gate: Gate, permit: number, failure: Failure, begunAt: number, now: number): void {
    const result = failure.verdict === 'transient' ? 'failure' : 'neither'
    gate.settle(permit, result, now, now - begunAt, failure.error)
    this.slots.observe(now - begunAt, result, now)
  }

  #announce(operation: string, { attempts, failure, message, error }: Failure, retryInMs: number | undefined): void {
    this.#kit.events.emit('call.failed', { dependency: this.name, operation, attempt: attempts, failure, message, ...(retryInMs === undefined ? {} : { retryInMs }), error })
  }

  #failed(attempt: RunningAttempt<unknown>, previous: Failure | undefined): Failure {
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
      ? `${this.name} ${attempt.operation}: no answer within ${humanDuration(this.#rules.timeoutMs)} (attempt ${String(attempts)})`
      : `${this.name} ${attempt.operation}: the deadline passed during attempt ${String(attempts)}`
    const error = new HoldfastError(code, {
      message, cause: previous?.error, stackless: true,
      context: { dependency: this.name, operation: attempt.operation, policy: code === 'HF_TIMEOUT' ? 'timeout' : 'deadline', attempts },
    })
    this.lastError = { message, at: env.now() }
    return { error, attempts, verdict: 'transient', failure: error.failure, message, retryAfterMs: undefined }
  }

  /** The call failed for good: what the caller gets. */
  #giveUp(operation: string, failure: Failure, asOutcome: boolean, { partition }: CallOptions): Refusal {
    this.counters.failures += 1
    const error = borderError(this.name, operation, failure, undefined)
    if (!asOutcome) throw error
    return refusal(isHoldfastError(error) && error.code === 'HF_DEADLINE' ? 'deadline' : 'failed', error.message, failure.retryAfterMs ?? this.gateOf(partition).retryAfterMs, error)
  }

  /** The call was not made (again). Where an attempt failed before, that failure is the news, unless the caller left. */
  #refuse(operation: string, reason: Refused, last: Failure | undefined, asOutcome: boolean, options: CallOptions): Refusal {
    this.counters.refusals += 1
    const waitMs = this.#waitMs(reason, options)
    this.#kit.events.emit('call.refused', { dependency: this.name, operation, reason, ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }) })
    if (last !== undefined && reason !== 'cancelled') {
      this.counters.failures += 1
      const error = borderError(this.name, operation, last, waitMs)
      if (!asOutcome) throw error
      return refusal('failed', error.message, error.retryAfterMs, error)
    }
    const message = this.#refusalMessage(operation, reason, waitMs, options)
    if (asOutcome) return refusal(reason, message, waitMs)
    throw refusalError(this.name, operation, { reason, message, ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }) })
  }

  /** After how long the same call would be made, as far as anybody can know. */
  #waitMs(reason: Refused, { partition, deadline }: CallOptions): number | undefined {
    if (reason === 'breaker-open') return this.gateOf(partition).retryAfterMs
    if (reason !== 'rate-limited') return undefined
    return this.#rate?.retryAfterMs(deadline === undefined ? this.#rules.deadlineMs : this.#deadlineMs(deadline), this.#kit.env.monotonic())
  }

  #refusalMessage(operation: string, reason: Refused, waitMs: number | undefined, { partition }: CallOptions): string {
    if (reason === 'breaker-open') return this.gateOf(partition).refusal
    if (reason === 'rate-limited') return this.#rate === undefined ? reason : rateLimitedMessage(this.name, this.#rate.rules, waitMs ?? 0)
    return `${this.name} ${operation}: ${reasonText(reason, this.slots)}`
  }

  /** @throws HF_OPTION_INVALID */
  gateOf(partition: string | undefined): Gate {
    if (partition === undefined) return this.breaker
    if (this.partitions !== undefined) return this.partitions.of(partition)
    throw new HoldfastError('HF_OPTION_INVALID', { message: `${this.name}: a call names partition ${partition}, and the dependency declares no partitions`, context: { dependency: this.name, option: 'partition' } })
  }

  #inTransaction(operation: string, transaction: string): HoldfastError {
    return new HoldfastError('HF_CALL_IN_TX', {
      message: `${this.name} ${operation} was called inside transaction ${transaction}, which would be held open for as long as the answer takes`,
      context: { dependency: this.name, operation, transaction },
    })
  }

  #retryOf(operation: string, options: RetryOptions | false): RetryRules {
    if (options === false) return NO_RETRY
    let rules = this.#retries.get(options)
    if (rules === undefined) {
      rules = resolveRetry(options, `${this.name} ${operation}: retry`)
      this.#retries.set(options, rules)
    }
    return rules
  }

  #hedgeOf(operation: string, options: HedgeOptions | false): HedgeRules | undefined {
    if (options === false) return undefined
    let rules = this.#hedges.get(options)
    if (rules === undefined) {
      rules = resolveHedge(options, `${this.name} ${operation}: hedge`)
      this.#hedges.set(options, rules)
    }
    return rules
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

/** Beside the pipeline, whose variables no closure may capture: that would put them on the heap at each call. */
function startInside<T>(layer: string, attempts: number, attempt: RunningAttempt<T>, run: (attempt: Attempt) => T | Promise<T>, ms: number, now: number): Promise<void> | undefined {
  return repeatedBy(layer, attempts, () => attempt.start(run, ms, now))
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
