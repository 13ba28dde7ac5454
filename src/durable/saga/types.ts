/**
 * The public face of sagas, and their defaults.
 */
import type { Duration, Json, Schema } from '../../core/index.ts'
import type { Verified } from '../once/types.ts'

export interface StepContext {
  /** Derived from saga, id and step: the same for every attempt, in every process. */
  readonly key: string
  /** Aborts when the run was lost to another instance. */
  readonly signal: AbortSignal
}

type Settled<R> =
  /** Safe to run again under the same key. */
  | { readonly effect: 'idempotent' }
  /** Never run again while its outcome is unknown: `verify` finds out, `'hold'` asks a human. */
  | { readonly effect: 'once'; readonly verify: 'hold' | ((context: StepContext) => Promise<Verified<R>>) }

/**
 * A step with an outside effect. Its intent is recorded before `run` is called. What an error of `run` means is read by
 * `failureVerdict`: refused begins the undo; not applied and ambiguous are tried again later (see SagaOptions.attempts).
 * `undo` may be called more than once, under one key; it is recorded after its effect. A step without one is kept, and said to be.
 */
export type OutsideStep<R extends Json | void> = {
  readonly run: (context: StepContext) => Promise<R>
  readonly undo?: (result: NoInfer<R>, context: StepContext) => Promise<unknown>
} & Settled<R>

/** A step whose writes commit with the journal. No outside calls in here. */
export interface LocalStep<R extends Json | void, Tx> {
  readonly write: (context: { readonly tx: Tx }) => Promise<R>
  readonly undo?: (result: NoInfer<R>, context: { readonly tx: Tx }) => Promise<unknown>
}

/** Runs a step, or answers its recorded result. Steps run one after another, each under a name of its own. Don't catch what it throws: the run is over then. */
export interface Step<Tx> {
  <R extends Json | void>(name: string, step: OutsideStep<R>): Promise<R>
  <R extends Json | void>(name: string, step: LocalStep<R, Tx>): Promise<R>
}

export interface SagaOptions<In, I, R extends Json | void, Tx> {
  /** Whole number from 1; raise it when the order or names of steps change. Runs of a version that this instance does not know are left to those that do. */
  readonly version: number
  readonly input: Schema<In, I>
  readonly runbook?: string
  /**
   * The steps. Run again from the beginning by every recovery, with recorded results: between steps it must be
   * deterministic (no clock, no random, no flags, no reading of what changes).
   */
  readonly run: (step: Step<Tx>, input: NoInfer<I>) => Promise<R>
  /**
   * A step that fails for the moment (timeout, breaker open, connection) is tried again later, by the next `start` with the id
   * or the sweep. It is given up when it was tried `attempts` times (1 to 1000, default 5) *and* the run is older than `giveUpAfter`
   * (default `'30m'`: an outage that people repair undoes nothing). Then the run is undone, or, where the step may have
   * happened all the same, needs a human. A try that our own guards refused (breaker open, overloaded, switched off, ...) or
   * that failed in the store is none: it counts for nothing, and waits a quarter of the run's age up to `backoffMax`.
   */
  readonly attempts?: number
  readonly giveUpAfter?: Duration
  /** A failing undo is tried so often before a human is asked, 1 to 1000. Default 10: with the waits about 6 minutes. */
  readonly undoAttempts?: number
  /** Wait before the next try, doubled each time up to `backoffMax`. Defaults `'2s'`, `'60s'`. */
  readonly backoff?: Duration
  readonly backoffMax?: Duration
  /** How long a run whose process died waits for the next. At least `'1s'`, default `'15s'`; extended by heartbeats. */
  readonly lease?: Duration
  /** How long a finished run answers its id. Default `'90d'`, at least `'1h'`. `needs-human` stays until it is settled. */
  readonly keepFor?: Duration
}

export const SAGA_DEFAULTS: { readonly attempts: number; readonly giveUpAfter: Duration; readonly undoAttempts: number; readonly backoff: Duration; readonly backoffMax: Duration; readonly lease: Duration; readonly keepFor: Duration } =
  Object.freeze({ attempts: 5, giveUpAfter: '30m', undoAttempts: 10, backoff: '2s', backoffMax: '60s', lease: '15s', keepFor: '90d' })

/**
 * `done`: every step happened. `undone`: what had happened was undone (the reason names what could not be). `running`: another
 * instance is at it, or it waits to go on later. `needs-human`: it cannot go on by itself.
 */
export type SagaOutcome<R> =
  | { readonly outcome: 'done'; readonly value: R }
  | { readonly outcome: 'undone' | 'running' | 'needs-human'; readonly reason: string; readonly retryAfterMs?: number }

export interface Saga<In, R> {
  readonly kind: 'saga'
  readonly name: string
  readonly version: number
  readonly runbook: string | undefined
  /**
   * Begins the run called `id`, or joins it: what is over is answered from the record, what nobody is at goes on.
   * Emits saga.started, saga.resumed, saga.step, saga.finished, lease.lost.
   * @throws HF_INPUT_INVALID, HF_KEY_REUSED (same id, other input), HF_CALL_IN_TX, HF_NOT_STARTED, HF_STORE_UNAVAILABLE (begun or
   *   not, the same call may be made again)
   */
  start(id: string, input: In): Promise<SagaOutcome<R>>
  /** Goes on with what no live lease holds and is due, at most `limit` runs, four at a time. Answers how many. */
  sweep(limit: number): Promise<number>
  /** An operator's word: try again from where it stands. False when it does not need a human. */
  retry(id: string, reason: string): Promise<boolean>
  /** An operator settled it by hand. False when it does not need a human. */
  markDone(id: string, as: 'done' | 'undone', reason: string): Promise<boolean>
  /** An operator knows whether the step of unknown outcome happened; `retry` goes on from there. False when no step is unknown. */
  resolveStep(id: string, verified: Verified<Json>, reason: string): Promise<boolean>
}
