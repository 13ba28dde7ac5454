/**
 * The public face of saga, and its defaults.
 */
import type { Duration, Json, Schema } from '../../core/index.ts'
import type { Verified } from '../once/types.ts'

/** What an outside step is given. `key` depends on the run and the step only: the same after any crash, in every process. */
export interface StepContext {
  readonly key: string
  /** Aborts when the run was lost to another instance, or its caller gave up. */
  readonly signal: AbortSignal
}

/** How a step whose outcome nobody knows is settled: run again with the same key, looked up, or by a person. */
type Settled<R> = { readonly effect: 'idempotent' } | { readonly effect: 'once'; readonly verify: 'hold' | ((context: StepContext) => Promise<Verified<R>>) }

/** Something happens outside. Journalled before it runs and after it is done. `undo` is only called with what `run` (or `verify`) answered. */
export type OutsideStep<R extends Json | void> = {
  readonly run: (context: StepContext) => Promise<R>
  readonly undo?: (result: NoInfer<R>, context: StepContext) => Promise<unknown>
} & Settled<R>

/** Writes in our own database: commit together with the journal, or not at all. */
export interface LocalStep<R extends Json | void, Tx> {
  readonly write: (context: { readonly tx: Tx }) => Promise<R>
  readonly undo?: (result: NoInfer<R>, context: { readonly tx: Tx }) => Promise<unknown>
}

/** Runs a step, or answers what it answered before. Throws HF_SAGA_STEP_FAILED when it failed for good. */
export interface Step<Tx> {
  <R extends Json | void>(name: string, step: OutsideStep<R>): Promise<R>
  <R extends Json | void>(name: string, step: LocalStep<R, Tx>): Promise<R>
}

export interface SagaOptions<In, I, R extends Json | void, Tx> {
  /** Raise it when steps are added, removed, renamed or reordered: runs of another version are left alone. */
  readonly version: number
  /** The given input must be JSON; it is decoded on every run. */
  readonly input: Schema<In, I>
  readonly runbook?: string
  /**
   * The steps. Called again after a crash, with the results of finished steps from the journal: between steps it must be
   * deterministic (no clock, no randomness, no flags, no reading of what others change).
   */
  readonly run: (step: Step<Tx>, input: NoInfer<I>) => Promise<R>
  /** Tries of one step, and of one undo, before the run turns back or waits for a person. Refusals of our own guards don't count. 1 to 1000, default 20. */
  readonly attempts?: number
  /** Wait after a failed try, doubled each time up to `backoffMax`. Defaults `'1s'`, `'5m'`. */
  readonly backoff?: Duration
  readonly backoffMax?: Duration
  /** How long a run whose holder died stays taken. `'1s'` to `'10m'`, default `'15s'`; extended by heartbeats. */
  readonly lease?: Duration
  /** How long a finished run is kept for replay. `'1h'` to `'365d'`, default `'30d'`. */
  readonly keepFor?: Duration
}

export const SAGA_DEFAULTS: { readonly attempts: number; readonly backoff: Duration; readonly backoffMax: Duration; readonly lease: Duration; readonly keepFor: Duration } = Object.freeze({
  attempts: 20,
  backoff: '1s',
  backoffMax: '5m',
  lease: '15s',
  keepFor: '30d',
})

/**
 * `done`: every step is finished. `undone`: a step failed for good, and what was finished before it was taken back.
 * `running`: begun and not over: another instance is at it, or it is tried again later by the sweep. `needs-human`: it can
 * neither be finished nor undone without somebody who looks.
 */
export type SagaOutcome<R> = { readonly outcome: 'done'; readonly value: R } | { readonly outcome: 'undone' | 'running' | 'needs-human'; readonly reason: string }

export interface Saga<In, R> {
  readonly kind: 'saga'
  readonly name: string
  readonly runbook: string | undefined
  /**
   * Begins the run called `id`, joins it, or answers how it ended. A run that waits for its next try is not hurried.
   * Emits saga.started, saga.resumed, saga.step, saga.finished, lease.lost.
   * @throws HF_INPUT_INVALID, HF_KEY_REUSED (same id, other input), HF_RESULT_NOT_JSON, HF_NOT_STARTED, HF_CALL_IN_TX,
   *   HF_STORE_UNAVAILABLE (before it was begun; once begun it answers `running` and goes on by itself)
   */
  start(id: string, input: In, options?: { readonly signal?: AbortSignal }): Promise<SagaOutcome<R>>
  /** Takes up what no live holder has and what is due, at most `limit` runs. Answers how many. */
  sweep(limit: number): Promise<number>
  /** A person's word on a run that needs one: `retry` (again from where it stopped) or `discard`. False when it needs nobody. */
  settleByHand(id: string, as: 'retry' | 'discard', reason: string): Promise<boolean>
}
