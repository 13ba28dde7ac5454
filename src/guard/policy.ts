/**
 * What the policies have in common when each is used alone or composed by hand.
 *
 * `policy.run(work)` guards one piece of work; `policy.within(scope, work)` is the same inside another policy, whose
 * signal and deadline it obeys. `dependency()` does not nest policies: it fuses their parts into one function.
 */
import { EventBus, realEnv, type Env, type Kit } from '../core/index.ts'
import type { Attempt, RunningAttempt } from './attempt.ts'

export type GuardKit = Pick<Kit, 'env' | 'events'>

/** What the policies around it tell the one inside. */
export interface Scope extends Attempt {
  /** Monotonic milliseconds; `Infinity` where nobody set one. */
  readonly deadlineAt: number
  /** Whether the caller gave up (a deadline that passed is no giving up). */
  readonly cancelled: boolean
  /** Tells the policies around that work runs on after its time limit, and when it is over at last. */
  readonly runsOn: ((over: Promise<void>) => void) | undefined
}

export type Work<T> = (scope: Scope) => T | Promise<T>

export interface RunOptions {
  readonly signal?: AbortSignal
  readonly key?: string
}

export interface Policy {
  readonly kind: 'fallback' | 'deadline' | 'retry' | 'breaker' | 'rate-limit' | 'concurrency-limit' | 'timeout'
  run<T>(work: Work<T>, options?: RunOptions): Promise<T>
  within<T>(scope: Scope, work: Work<T>): Promise<T>
}

export function policyRun<T>(policy: Policy, env: Env, work: Work<T>, options: RunOptions = {}): Promise<T> {
  return policy.within(new RootScope(env, options), work)
}

/** The outermost scope: the caller's signal, no deadline. */
class RootScope implements Scope {
  readonly number = 1
  readonly deadlineAt: number = Number.POSITIVE_INFINITY
  readonly runsOn = undefined
  readonly #env: Env
  #signal: AbortSignal | undefined
  #key: string | undefined

  constructor(env: Env, options: RunOptions) {
    this.#env = env
    this.#signal = options.signal
    this.#key = options.key
  }

  /** Without a caller's signal it is one of its own that never aborts, so nothing gathers on a shared one. */
  get signal(): AbortSignal {
    this.#signal ??= new AbortController().signal
    return this.#signal
  }

  get key(): string {
    this.#key ??= this.#env.uuid()
    return this.#key
  }

  get cancelled(): boolean {
    return this.#signal?.aborted === true
  }
}

/** A scope like another, with something changed. Getters stay lazy. */
export function innerScope(outer: Scope, change: { readonly number?: number; readonly deadlineAt?: number; readonly attempt?: RunningAttempt<unknown>; readonly runsOn?: (over: Promise<void>) => void }): Scope {
  return {
    number: change.number ?? outer.number,
    deadlineAt: change.deadlineAt ?? outer.deadlineAt,
    runsOn: change.runsOn ?? outer.runsOn,
    get key() { return outer.key },
    get signal() { return change.attempt?.signal ?? outer.signal },
    get cancelled() { return change.attempt?.ending === 'cancelled' || outer.cancelled },
  }
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
