/**
 * One call on its way through the pipeline (./pipeline.ts), and the forms its end takes.
 */
import { HoldfastError, type Outcome, type Refusal } from '../core/index.ts'
import type { AbandonedWork } from './abandoned.ts'
import type { Attempt, AttemptHost, AttemptListener, RunningAttempt } from './attempt.ts'
import { REFUSED, type Gate } from './breaker/breaker.ts'
import type { CallOptions, Refused } from './call.ts'
import type { HedgeRules } from './hedge.ts'
import type { Layer } from './nesting.ts'
import type { RetryRules } from './retry/backoff.ts'
import type { TimerQueue } from './timer-queue.ts'

/** Whether a call got in: at once, not at once but perhaps by waiting, or not at all. */
export type Entry = 'admitted' | 'wait-for-turn' | 'wait-for-slot' | Refused

/** How a call may be repeated. */
export interface Repetition {
  readonly retry: RetryRules
  readonly hedge: HedgeRules | undefined
  /** Undefined where nothing is repeated. */
  readonly layer: Layer | undefined
}

/** The pipeline, as its calls see it. */
export interface CallHost {
  readonly timers: TimerQueue
  readonly abandoned: AbandonedWork
  /** Goes on when the first attempt of a call has ended. */
  firstEnded<T>(call: GuardedCall<T>, attempt: RunningAttempt<T>): void
}

/** One function for all promises: a closure for each would be a tenth of what a call allocates. */
let held: ((answer: unknown) => void) | undefined
function hold(resolve: (answer: unknown) => void): void {
  held = resolve
}

/** One call on its way through the pipeline: what was asked, and what it holds. */
export class GuardedCall<T> implements AttemptHost, AttemptListener {
  readonly #host: CallHost
  readonly operation: string
  readonly options: CallOptions
  readonly work: (attempt: Attempt) => T | Promise<T>
  readonly asOutcome: boolean
  readonly gate: Gate
  readonly repetition: Repetition
  readonly startedAt: number
  readonly deadlineMs: number
  #key: string | undefined
  permit: number = REFUSED
  resolve: ((answer: T | Outcome<T> | Promise<T | Outcome<T>>) => void) | undefined = undefined

  constructor(
    host: CallHost, operation: string, options: CallOptions, work: (attempt: Attempt) => T | Promise<T>, asOutcome: boolean,
    gate: Gate, repetition: Repetition, startedAt: number, deadlineMs: number,
  ) {
    this.#host = host
    this.operation = operation
    this.options = options
    this.work = work
    this.asOutcome = asOutcome
    this.gate = gate
    this.repetition = repetition
    this.startedAt = startedAt
    this.deadlineMs = deadlineMs
    this.#key = options.key
  }

  get deadlineAt(): number {
    return this.startedAt + this.deadlineMs
  }

  /** One for all attempts. */
  get key(): string {
    this.#key ??= this.#host.timers.env.uuid()
    return this.#key
  }

  get timers(): TimerQueue {
    return this.#host.timers
  }

  left(attempt: RunningAttempt<unknown>): void {
    this.#host.abandoned.left(attempt)
  }

  over(attempt: RunningAttempt<unknown>): void {
    this.#host.abandoned.over(attempt)
  }

  /** Its first attempt has, which began with it. */
  ended(attempt: RunningAttempt<unknown>): void {
    this.#host.firstEnded(this, attempt as RunningAttempt<T>)
  }

  /** For who waits for the end of that attempt and of what follows. */
  promise(): Promise<T | Outcome<T>> {
    const promise = new Promise<T | Outcome<T>>(hold as (resolve: (answer: T | Outcome<T> | Promise<T | Outcome<T>>) => void) => void)
    this.resolve = held
    return promise
  }
}

/** The answer as the caller wants it. */
export function answer<T>(call: GuardedCall<T>, attempt: RunningAttempt<T>): T | Outcome<T> {
  return call.asOutcome ? { ok: true, value: attempt.value as T } : (attempt.value as T)
}

/** The "no" as the caller wants it, outside an async function. */
export function settled<T>(no: Refusal | HoldfastError): Promise<Outcome<T>> {
  return no instanceof HoldfastError ? Promise.reject(no) : Promise.resolve(no)
}

/** The same inside one. */
export function thrown(no: Refusal | HoldfastError): Refusal {
  if (no instanceof HoldfastError) throw no
  return no
}
