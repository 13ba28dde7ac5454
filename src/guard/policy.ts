/**
 * What the policies have in common when each is used alone or composed by hand.
 *
 * `policy.run(work)` guards one piece of work; `policy.within(scope, work)` is the same inside another policy, whose
 * end and deadline it obeys. `dependency()` does not nest policies: it fuses their parts into one function.
 * A scope makes its `signal` only when the work reads it; policies watch one another without.
 */
import { type AbortWatcher, type Duration, durationMs, type Effect, type Env, EventBus, HoldfastError, type Kit, realEnv, unwatchAbort, watchAbort } from '../core/index.ts'
import { RunningAttempt, type Attempt, type AttemptHost } from './attempt.ts'
import type { Priority } from './concurrency/slots.ts'
import type { Explanation } from './explain.ts'
import { timerQueue, type TimerQueue } from './timer-queue.ts'

export type GuardKit = Pick<Kit, 'env' | 'events'>

/** What the policies around it tell the one inside. */
export interface Scope extends Attempt {
  /** Named in errors. */
  readonly operation: string | undefined
  /** May the work be repeated? Undefined where nobody said: then retry and hedge refuse. */
  readonly effect: Effect | undefined
  readonly priority: Priority | undefined
  /** Monotonic milliseconds; `Infinity` where nobody set one. */
  readonly deadlineAt: number
  /** Whether the caller gave up (a deadline that passed is no giving up). */
  readonly cancelled: boolean
  /** Whether nobody waits for the work any more, for whatever reason. */
  readonly ended: boolean
  /** `watcher` is told when the scope ends; at once when it has. */
  watch(watcher: AbortWatcher): void
  unwatch(watcher: AbortWatcher): void
  /** Tells the policies around that work runs on after its time limit, and when it is over at last. */
  readonly runsOn: ((over: Promise<void>) => void) | undefined
}

export type Work<T> = (scope: Scope) => T | Promise<T>

export interface RunOptions {
  /** The caller's: when it aborts, the run ends at once. */
  readonly signal?: AbortSignal
  /** The idempotency key that the work sends. Default: a new UUID, made when it is read. */
  readonly key?: string
  /** What the work is called in errors. */
  readonly operation?: string
  /** Demanded by what repeats (retry, hedge): `once` is never repeated. */
  readonly effect?: Effect
  /** For concurrency limits: who waits first and who is shed first. Default `'normal'`. */
  readonly priority?: Priority
  /** What is left to the caller, who sent it along: queues and retries obey it. It ends nothing by itself; `deadline()` does. */
  readonly deadline?: Duration
}

/** For what repeats. A `once` run is refused by the compiler, and by HF_NOT_REPEATABLE where there is none. */
export interface RepeatableRun extends RunOptions {
  readonly effect: 'read' | 'idempotent'
}

/** `F` is what a fallback may answer in place of the work; other policies answer what the work does. */
export interface Policy<F = never> {
  readonly kind: 'fallback' | 'deadline' | 'retry' | 'hedge' | 'breaker' | 'rate-limit' | 'concurrency-limit' | 'timeout'
  run<T>(work: Work<T>, options?: RunOptions): Promise<T | F>
  within<T>(scope: Scope, work: Work<T>): Promise<T | F>
  /** What it makes of the worst case of what is inside. */
  explain(inside: Explanation): Explanation
}

/** With a caller's signal the run ends when it aborts, whatever the policy is and whether or not the work obeys. */
export function policyRun<T, F = never>(policy: Policy<F>, env: Env, work: Work<T>, options?: RunOptions): Promise<T | F> {
  const scope = new RootScope(env, options)
  return options?.signal === undefined ? policy.within(scope, work) : untilAborted(policy, env, scope, work)
}

async function untilAborted<T, F>(policy: Policy<F>, env: Env, scope: Scope, work: Work<T>): Promise<T | F> {
  if (scope.ended) throw cancelledError(scope, policy.kind)
  const attempt = new RunningAttempt<T | F>(new ScopeHost(scope, env), 1, 'deadline')
  const pending = attempt.start(() => policy.within(scope, work), Number.POSITIVE_INFINITY, 0)
  if (pending !== undefined) {
    scope.watch(attempt)
    await pending
    scope.unwatch(attempt)
  }
  if (attempt.ending === 'value') return attempt.value as T | F
  if (attempt.ending === 'threw') throw attempt.error
  throw cancelledError(scope, policy.kind)
}


const NO_OPTIONS: RunOptions = Object.freeze({})

/** The outermost scope: the caller's signal and words. */
class RootScope implements Scope {
  readonly number = 1
  readonly runsOn = undefined
  readonly deadlineAt: number
  readonly #env: Env
  readonly #options: RunOptions
  #signal: AbortSignal | undefined
  #key: string | undefined

  constructor(env: Env, options: RunOptions = NO_OPTIONS) {
    this.#env = env
    this.#options = options
    this.#signal = options.signal
    this.deadlineAt = options.deadline === undefined ? Number.POSITIVE_INFINITY : env.monotonic() + durationMs(options.deadline, 'deadline')
  }

  get operation(): string | undefined {
    return this.#options.operation
  }

  get effect(): Effect | undefined {
    return this.#options.effect
  }

  get priority(): Priority | undefined {
    return this.#options.priority
  }

  /** Without a caller's signal it is one of its own that never aborts, so nothing gathers on a shared one. */
  get signal(): AbortSignal {
    this.#signal ??= new AbortController().signal
    return this.#signal
  }

  get key(): string {
    this.#key ??= this.#options.key ?? this.#env.uuid()
    return this.#key
  }

  get leftMs(): number {
    return this.deadlineAt === Number.POSITIVE_INFINITY ? Number.POSITIVE_INFINITY : Math.max(0, this.deadlineAt - this.#env.monotonic())
  }

  get cancelled(): boolean {
    return this.#options.signal?.aborted === true
  }

  get ended(): boolean {
    return this.cancelled
  }

  watch(watcher: AbortWatcher): void {
    const { signal } = this.#options
    if (signal === undefined) return
    if (signal.aborted) watcher.aborted()
    else watchAbort(signal, watcher)
  }

  unwatch(watcher: AbortWatcher): void {
    const { signal } = this.#options
    if (signal !== undefined) unwatchAbort(signal, watcher)
  }
}

interface ScopeChange {
  readonly number?: number
  readonly deadlineAt?: number
  /** Ends the inner scope before the outer one. */
  readonly attempt?: RunningAttempt<unknown>
  readonly runsOn?: (over: Promise<void>) => void
}

/** A scope like another, with something changed. */
export class InnerScope implements Scope {
  readonly number: number
  readonly deadlineAt: number
  readonly runsOn: ((over: Promise<void>) => void) | undefined
  readonly #outer: Scope
  readonly #attempt: RunningAttempt<unknown> | undefined

  constructor(outer: Scope, change: ScopeChange) {
    this.#outer = outer
    this.#attempt = change.attempt
    this.number = change.number ?? outer.number
    this.deadlineAt = change.deadlineAt ?? outer.deadlineAt
    this.runsOn = change.runsOn ?? outer.runsOn
  }

  get operation(): string | undefined {
    return this.#outer.operation
  }

  get effect(): Effect | undefined {
    return this.#outer.effect
  }

  get priority(): Priority | undefined {
    return this.#outer.priority
  }

  get key(): string {
    return this.#outer.key
  }

  get signal(): AbortSignal {
    return this.#attempt?.signal ?? this.#outer.signal
  }

  get leftMs(): number {
    return this.#attempt === undefined ? this.#outer.leftMs : Math.min(this.#attempt.leftMs, this.#outer.leftMs)
  }

  get cancelled(): boolean {
    return this.#attempt?.ending === 'cancelled' || this.#outer.cancelled
  }

  get ended(): boolean {
    return this.#attempt?.leftAlone === true || this.#outer.ended
  }

  /** The attempt ends with the outer scope, so watching it is enough. */
  watch(watcher: AbortWatcher): void {
    if (this.#attempt === undefined) this.#outer.watch(watcher)
    else this.#attempt.watch(watcher)
  }

  unwatch(watcher: AbortWatcher): void {
    if (this.#attempt === undefined) this.#outer.unwatch(watcher)
    else this.#attempt.unwatch(watcher)
  }
}

/** Runs attempts for a scope. What runs on is told to the policies around, until it is over. */
export class ScopeHost implements AttemptHost {
  readonly timers: TimerQueue
  readonly #scope: Scope
  #over: (() => void) | undefined

  constructor(scope: Scope, env: Env) {
    this.timers = timerQueue(env)
    this.#scope = scope
  }

  get operation(): string {
    return this.#scope.operation ?? ''
  }

  get key(): string {
    return this.#scope.key
  }

  left(): void {
    this.#scope.runsOn?.(new Promise(resolve => { this.#over = resolve }))
  }

  over(): void {
    this.#over?.()
  }
}

/** What an error of a policy says about where it happened. */
export function errorContext(scope: Scope, policy: Policy['kind'], more?: Readonly<Record<string, string | number>>): Readonly<Record<string, string | number>> {
  return { ...(scope.operation === undefined ? {} : { operation: scope.operation }), policy, ...more }
}

/** Nobody waits for the work any more. */
export function cancelledError(scope: Scope, policy: Policy['kind']): HoldfastError {
  return new HoldfastError('HF_CANCELLED', { message: 'the caller gave up', context: errorContext(scope, policy), stackless: true })
}

let sharedKit: GuardKit | undefined

/** The real world with a bus of its own, for policies that are used without an app. */
export function defaultKit(): GuardKit {
  if (sharedKit === undefined) {
    const env = realEnv()
    sharedKit = { env, events: new EventBus(env) }
  }
  return sharedKit
}
