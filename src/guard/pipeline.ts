/**
 * The guarded call, fused: deadline > budgeted retry > hedge > breaker > outbound rate limit > concurrency limit > attempt
 * timeout > call.
 *
 * A first attempt that is let in at once and answers runs through `run` alone: one object for the call, one for the attempt,
 * one promise of ours, no closure of the pipeline, no event, no async function. Only what is rare (a wait, a hedge, a failure)
 * goes on in `#attempts`.
 * Not here: what is declared (./options.ts), who may look and force (./dependency.ts), fallbacks (around it).
 */
import { type AbortWatcher, type Context, currentContext, HoldfastError, type Outcome, unwatchAbort, watchAbort } from '../core/index.ts'
import { AbandonedWork } from './abandoned.ts'
import { RunningAttempt, type Attempt } from './attempt.ts'
import { Breaker, REFUSED, type Gate } from './breaker/breaker.ts'
import { BreakerPartitions } from './breaker/partitions.ts'
import { checkOnce, type CallOptions, type Failure, type Refused } from './call.ts'
import { CallReports } from './call-reports.ts'
import { CallRules } from './call-rules.ts'
import { judge } from './classify.ts'
import { Slots } from './concurrency/limit.ts'
import { answer, GuardedCall, settled, thrown, type CallHost, type Entry, type Repetition } from './guarded-call.ts'
import { hedgeDelayMs, Race, type Contender, type HedgeRules } from './hedge.ts'
import { Latency } from './latency.ts'
import { around, carried, enter, leave, nestedLayer, repeatedBy, type Layer } from './nesting.ts'
import type { DependencyRules } from './options.ts'
import type { GuardKit } from './policy.ts'
import { RateGate } from './rate-limit.ts'
import { backoffMs, type RetryRules } from './retry/backoff.ts'
import { RetryBudget } from './retry/budget.ts'
import { Pause } from './retry/pause.ts'
import { NO_RETRY } from './retry/retry.ts'
import { timerQueue, type TimerQueue } from './timer-queue.ts'

export class Pipeline implements CallHost {
  readonly name: string
  readonly breaker: Breaker
  readonly partitions: BreakerPartitions | undefined
  readonly slots: Slots
  readonly budget: RetryBudget
  readonly abandoned: AbandonedWork
  readonly timers: TimerQueue
  readonly latency: Latency = new Latency()
  readonly reports: CallReports
  readonly #kit: GuardKit
  readonly #rules: DependencyRules
  readonly #rate: RateGate | undefined
  readonly #own: CallRules
  readonly #repetition: Repetition
  /** Of single attempts: when is an answer late? */
  readonly #attemptLatency = new Latency()

  constructor(name: string, rules: DependencyRules, kit: GuardKit) {
    this.name = name
    this.#kit = kit
    this.#rules = rules
    this.#own = new CallRules(name)
    this.#repetition = repetitionBy(name, rules.retry, rules.hedge)
    this.partitions = rules.partitions === undefined ? undefined : new BreakerPartitions(name, rules.partitions, kit)
    this.breaker = this.partitions?.parent ?? new Breaker(name, rules.breaker, kit)
    this.#rate = rules.rateLimit === undefined ? undefined : new RateGate(rules.rateLimit, kit.env)
    this.slots = new Slots(rules.concurrency, kit.env)
    this.reports = new CallReports(name, rules, kit, this.slots, this.#rate)
    this.budget = new RetryBudget(rules.retryBudget, `dependency ${name}: retryBudget`)
    this.timers = timerQueue(kit.env)
    this.abandoned = new AbandonedWork(
      kit.env,
      (operation, abandoned) => { kit.events.emit('call.abandoned', { dependency: name, operation, abandoned }) },
      () => { this.slots.give() },
    )
  }

  /** With `asOutcome` the "no" is the value of the promise, else its rejection. */
  run<T>(operation: string, options: CallOptions, work: (attempt: Attempt) => T | Promise<T>, asOutcome: boolean): Promise<T | Outcome<T>> {
    const context = currentContext()
    const now = this.#kit.env.monotonic()
    let call: GuardedCall<T>
    try {
      call = this.#prepare(operation, options, work, asOutcome, context, now)
    } catch (error) {
      return settled(error as HoldfastError)
    }
    const { signal } = options
    if (hasLeft(signal)) return settled(this.reports.refuse(call, 'cancelled'))
    const entry = this.#enter(call, now)
    if (entry === 'breaker-open') return settled(this.reports.refuse(call, entry))
    // Only what reaches the dependency earns repetitions: refused calls would fill the budget during an outage, to be spent right after it.
    if (entry === 'admitted') this.budget.deposit(now)
    if (entry !== 'admitted' || call.repetition.hedge !== undefined) return this.#attempts(call, entry, undefined)

    const attempt = this.#begin(call, 1, context, now)
    if (attempt.ending === 'value') {
      this.#succeeded(call, call.permit, now)
      return Promise.resolve(answer(call, attempt))
    }
    if (attempt.ending !== 'running') return this.#attempts(call, entry, { attempt, pending: undefined, permit: call.permit, startedAt: now })
    attempt.listen(call)
    const promise = call.promise()
    if (signal !== undefined) watch(signal, attempt)
    return promise
  }

  /** Called when the first attempt of a call that was let in at once has ended. */
  firstEnded<T>(call: GuardedCall<T>, attempt: RunningAttempt<T>): void {
    const { startedAt, options: { signal } } = call
    if (signal !== undefined) unwatchAbort(signal, attempt)
    if (attempt.ending === 'value') {
      this.#succeeded(call, call.permit, startedAt)
      call.resolve?.(answer(call, attempt))
    } else call.resolve?.(this.#attempts(call, 'admitted', { attempt, pending: undefined, permit: call.permit, startedAt }))
  }

  /** @throws HF_CALL_IN_TX, HF_OPTION_INVALID, HF_NOT_REPEATABLE */
  #prepare<T>(operation: string, options: CallOptions, work: (attempt: Attempt) => T | Promise<T>, asOutcome: boolean, context: Context, now: number): GuardedCall<T> {
    if (context.transaction !== undefined) throw this.#inTransaction(operation, context.transaction)
    const rules = this.#rules
    const gate = options.partition === undefined ? this.breaker : this.gateOf(options.partition)
    const deadlineMs = options.deadline === undefined ? rules.deadlineMs : this.#own.deadlineMs(options.deadline)
    let repetition = ONCE
    if (options.effect === 'read' || options.effect === 'idempotent') {
      repetition = options.retry === undefined && options.hedge === undefined ? this.#repetition : this.#repetitionOf(operation, options)
      const outer = repetition.layer === undefined ? undefined : around(context)
      if (outer !== undefined) repetition = { ...repetition, layer: nestedLayer(this.#kit.events, outer, this.name, operation, repetition.retry.attempts) }
    } else checkOnce(this.name, operation, options)
    this.reports.counters.calls += 1
    return new GuardedCall(this, operation, options, work, asOutcome, gate, repetition, now, deadlineMs)
  }

  #repetitionOf(operation: string, { retry, hedge }: CallOptions): Repetition {
    return repetitionBy(
      this.name,
      retry === undefined ? this.#rules.retry : this.#own.retry(operation, retry),
      hedge === undefined ? this.#rules.hedge : this.#own.hedge(operation, hedge),
    )
  }

  /** The way in that waits for nothing. What it took, the call holds. */
  #enter<T>(call: GuardedCall<T>, now: number): Entry {
    call.permit = call.gate.acquire(now)
    if (call.permit === REFUSED) return 'breaker-open'
    if (this.#rate?.tryTake(now) === false) return 'wait-for-turn'
    return this.slots.tryTake(call.options.priority) ? 'admitted' : 'wait-for-slot'
  }

  #begin<T>(call: GuardedCall<T>, number: number, context: Context, now: number): RunningAttempt<T> {
    const { timeoutMs, faults } = this.#rules
    const { operation, repetition: { layer } } = call
    const leftMs = call.deadlineAt - now
    const ms = timeoutMs <= leftMs ? timeoutMs : Math.max(0, leftMs)
    const attempt = new RunningAttempt<T>(call, number, timeoutMs <= leftMs ? 'timeout' : 'deadline')
    const work = faults === undefined ? call.work : faults.wrap(operation, number, call.work)
    if (layer === undefined) attempt.begin(work, ms, now)
    else {
      // An attempt never throws, so this needs no finally.
      const outer = enter(layer)
      if (carried(context, this.reports.counters.calls, number)) beginInside(layer, attempt, work, ms, now)
      else attempt.begin(work, ms, now)
      leave(outer)
    }
    return attempt
  }

  /** All that is not usual: waits, hedges, failures and what comes after them. `begun` is an attempt that has ended already. */
  async #attempts<T>(call: GuardedCall<T>, entered: Entry, begun: Contender<T> | undefined): Promise<T | Outcome<T>> {
    const { env } = this.#kit
    const { signal } = call.options
    const { retry, hedge } = call.repetition
    let entry = entered
    let contender = begun
    let last: Failure | undefined
    for (let number = 1; ; number += 1) {
      if (contender === undefined) {
        const way: 'admitted' | Refused = entry === 'wait-for-turn' || entry === 'wait-for-slot' ? await this.#queueUp(call, entry) : entry
        if (way !== 'admitted') return thrown(this.reports.refuse(call, way, last))
        if (number === 1 && entry !== 'admitted') this.budget.deposit(env.monotonic())
        contender = await this.#contend(call, number, hedge)
      }
      const { attempt, permit, startedAt } = contender
      if (attempt.ending === 'value') {
        this.#succeeded(call, permit, startedAt)
        return answer(call, attempt)
      }
      const now = env.monotonic()
      if (attempt.ending === 'cancelled') {
        call.gate.settle(permit, 'neither', now, now - startedAt)
        return thrown(this.reports.refuse(call, 'cancelled', last))
      }
      const failure = this.reports.judge(attempt, last)
      last = failure
      this.#settle(call.gate, permit, failure, startedAt, now)
      const waitMs = failure.verdict === 'transient' && number < retry.attempts && attempt.ending !== 'deadline'
        ? Math.max(backoffMs(retry, number, env.random()), failure.retryAfterMs ?? 0)
        : undefined
      // The order matters: only a repetition that would be made takes from the budget.
      const repeats = waitMs !== undefined && now + waitMs < call.deadlineAt && call.gate.allows() && this.#mayRepeat(now)
      this.reports.failed(call.operation, failure, repeats ? waitMs : undefined)
      if (!repeats) return thrown(this.reports.giveUp(call, failure))

      this.reports.counters.retries += 1
      const pause = new Pause()
      await waitFor(pause, pause.start(env, waitMs), signal)
      if (pause.cancelled || hasLeft(signal)) return thrown(this.reports.refuse(call, 'cancelled', last))
      contender = undefined
      const again = env.monotonic()
      // A timer that was late may have let the deadline pass during the wait.
      entry = again >= call.deadlineAt ? 'deadline' : this.#enter(call, again)
    }
  }

  /** One attempt to its end, with its hedges. */
  async #contend<T>(call: GuardedCall<T>, number: number, hedge: HedgeRules | undefined): Promise<Contender<T>> {
    const startedAt = this.#kit.env.monotonic()
    const attempt = this.#begin(call, number, currentContext(), startedAt)
    const contender: Contender<T> = { attempt, pending: attempt.whenEnded(), permit: call.permit, startedAt }
    if (contender.pending === undefined) return contender
    if (hedge !== undefined) return this.#race(call, hedge, contender)
    await waitFor(attempt, contender.pending, call.options.signal)
    return contender
  }

  /** The slow way in: waits for a turn and for a slot. What the call took and does not use is given back. */
  async #queueUp<T>(call: GuardedCall<T>, entry: 'wait-for-turn' | 'wait-for-slot'): Promise<'admitted' | Refused> {
    const { env } = this.#kit
    const rate = this.#rate
    const { gate, deadlineAt, options: { signal, priority } } = call
    let hasTurn = entry === 'wait-for-slot'
    const refused = (reason: Refused): Refused => {
      const now = env.monotonic()
      if (call.permit !== REFUSED) gate.settle(call.permit, 'neither', now, 0)
      if (hasTurn) rate?.giveBack(now)
      return reason
    }
    if (!hasTurn && rate !== undefined) {
      const now = env.monotonic()
      const place = rate.join(deadlineAt - now, now)
      if (place === undefined) return refused('rate-limited')
      await waitFor(place, place.promise, signal)
      if (place.ending !== 'granted') return refused(place.ending === 'cancelled' ? 'cancelled' : 'deadline')
      hasTurn = true
    }
    if (!this.slots.tryTake(priority)) {
      const now = env.monotonic()
      const place = this.slots.join(deadlineAt - now, now, priority)
      if (typeof place === 'string') return refused(place)
      await waitFor(place, place.promise, signal)
      if (place.ending !== 'granted') return refused(place.ending === 'waiting' ? 'deadline' : place.ending)
    }
    const now = env.monotonic()
    // The breaker may have changed its mind while we waited. Of a partition's two permits one may still be held.
    if (!gate.holds(call.permit)) {
      gate.settle(call.permit, 'neither', now, 0)
      call.permit = gate.acquire(now)
    }
    const reason = hasLeft(signal) ? 'cancelled' : call.permit === REFUSED ? 'breaker-open' : now >= deadlineAt ? 'deadline' : undefined
    if (reason === undefined) return 'admitted'
    this.slots.give()
    return refused(reason)
  }

  /** Runs an attempt against hedges that begin when its answer is late. All but the winner are settled here. */
  async #race<T>(call: GuardedCall<T>, hedge: HedgeRules, first: Contender<T>): Promise<Contender<T>> {
    const { env, events } = this.#kit
    const { gate, operation, options: { signal } } = call
    if (signal !== undefined) watch(signal, first.attempt)
    const race = new Race<T>(first, {
      extra: hedge.extra, delayMs: hedgeDelayMs(hedge, this.#attemptLatency), timers: this.timers, now: () => env.monotonic(),
      begin: () => {
        const startedAt = env.monotonic()
        const permit = this.#admitHedge(call, startedAt)
        if (permit === REFUSED) return undefined
        this.reports.counters.hedges += 1
        events.emit('call.hedged', { dependency: this.name, operation, afterMs: startedAt - first.startedAt })
        const attempt = this.#begin(call, first.attempt.number, currentContext(), startedAt)
        const pending = attempt.whenEnded()
        if (pending !== undefined && signal !== undefined) watch(signal, attempt)
        return { attempt, pending, permit, startedAt }
      },
      stands: error => judge(error, this.#rules.transient) !== 'transient',
      beaten: ({ attempt, permit, startedAt }) => {
        if (signal !== undefined) unwatchAbort(signal, attempt)
        const now = env.monotonic()
        this.#attemptLatency.add(now - startedAt)
        if (attempt.ending === 'threw' || attempt.ending === 'timeout') {
          const failure = this.reports.judge(attempt, undefined)
          this.#settle(gate, permit, failure, startedAt, now)
          this.reports.failed(operation, failure, undefined)
        } else gate.settle(permit, 'neither', now, now - startedAt)
      },
    })
    const winner = await race.result
    if (signal !== undefined) unwatchAbort(signal, winner.attempt)
    if (winner.attempt.ending === 'value') this.#attemptLatency.add(env.monotonic() - winner.startedAt)
    return winner
  }

  /** A hedge is made only when nothing stands in its way: it never queues, and takes a slot from nobody who waits. */
  #admitHedge<T>({ gate, options: { priority } }: GuardedCall<T>, now: number): number {
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
    this.reports.counters.retriesSuppressed += 1
    return false
  }

  #succeeded<T>(call: GuardedCall<T>, permit: number, begunAt: number): void {
    const now = this.#kit.env.monotonic()
    call.gate.settle(permit, 'success', now, now - begunAt)
    this.slots.observe(now - begunAt, 'success', now)
    this.latency.add(now - call.startedAt)
  }

  #settle(gate: Gate, permit: number, failure: Failure, begunAt: number, now: number): void {
    const result = failure.verdict === 'transient' ? 'failure' : 'neither'
    gate.settle(permit, result, now, now - begunAt, failure.error)
    this.slots.observe(now - begunAt, result, now)
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
}

const ONCE: Repetition = repetitionBy('', NO_RETRY, undefined)

function repetitionBy(name: string, retry: RetryRules, hedge: HedgeRules | undefined): Repetition {
  return { retry, hedge, layer: retry.attempts === 1 ? undefined : { name, attempts: retry.attempts } }
}

/** Beside the pipeline, whose variables no closure may capture: that would put them on the heap at each call. */
function beginInside<T>(layer: Layer, attempt: RunningAttempt<T>, work: (attempt: Attempt) => T | Promise<T>, ms: number, now: number): void {
  repeatedBy(layer, (inside: (attempt: Attempt) => T | Promise<T>) => { attempt.begin(inside, ms, now) }, work)
}

function hasLeft(caller: AbortSignal | undefined): boolean {
  return caller?.aborted === true
}

/** The work may have aborted its own caller before it yielded: an abort event that is past is not heard again. */
function watch(caller: AbortSignal, watcher: AbortWatcher): void {
  if (caller.aborted) watcher.aborted()
  else watchAbort(caller, watcher)
}

/** Waits for `promise`, with the caller's signal watched meanwhile. */
async function waitFor(watcher: AbortWatcher, promise: Promise<void>, caller: AbortSignal | undefined): Promise<void> {
  if (caller === undefined) return promise
  watch(caller, watcher)
  await promise
  unwatchAbort(caller, watcher)
}
