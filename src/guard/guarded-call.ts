/**
 * One call on its way through the pipeline (./pipeline.ts), and the forms its end takes.
 */
import { HoldfastError, type Outcome, type Refusal } from '../core/index.ts'
import type { Attempt, AttemptListener, RunningAttempt } from './attempt.ts'
import { REFUSED, type Gate } from './breaker/breaker.ts'
import type { CallOptions, Failure, Refused } from './call.ts'
import type { HedgeRules } from './hedge.ts'
import type { Layer } from './nesting.ts'
import type { RetryRules } from './retry/backoff.ts'

/** Whether a call got in: at once, not at once but perhaps by waiting, or not at all. */
export type Entry = 'admitted' | 'wait' | Refused

/** Who goes on when a first attempt has ended. */
export interface FirstAttempts {
  firstEnded<T>(call: GuardedCall<T>, attempt: RunningAttempt<T>): void
}

/** One function for all promises: a closure for each would be a tenth of what a call allocates. */
let held: ((answer: unknown) => void) | undefined
function hold(resolve: (answer: unknown) => void): void {
  held = resolve
}

/** One call on its way through the pipeline: what was asked, and what it holds. */
export class GuardedCall<T> implements AttemptListener {
  readonly #pipeline: FirstAttempts
  readonly operation: string
  readonly options: CallOptions
  readonly work: (attempt: Attempt) => T | Promise<T>
  readonly asOutcome: boolean
  readonly gate: Gate
  readonly retry: RetryRules
  readonly hedge: HedgeRules | undefined
  /** Undefined where nothing is repeated. */
  readonly layer: Layer | undefined
  readonly startedAt: number
  readonly deadlineAt: number
  key: string | undefined
  permit: number = REFUSED
  /** Whether it holds a turn of the rate limit. */
  hasTurn = false
  last: Failure | undefined = undefined
  resolve: ((answer: T | Outcome<T> | Promise<T | Outcome<T>>) => void) | undefined = undefined

  constructor(
    pipeline: FirstAttempts, operation: string, options: CallOptions, work: (attempt: Attempt) => T | Promise<T>, asOutcome: boolean,
    gate: Gate, retry: RetryRules, hedge: HedgeRules | undefined, layer: Layer | undefined, startedAt: number, deadlineAt: number,
  ) {
    this.#pipeline = pipeline
    this.operation = operation
    this.options = options
    this.work = work
    this.asOutcome = asOutcome
    this.gate = gate
    this.retry = retry
    this.hedge = hedge
    this.layer = layer
    this.startedAt = startedAt
    this.deadlineAt = deadlineAt
    this.key = options.key
  }

  /** Its first attempt has, which began with it. */
  ended(attempt: RunningAttempt<unknown>): void {
    this.#pipeline.firstEnded(this, attempt as RunningAttempt<T>)
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
