/**
 * The public face of sagas, and their defaults. What an operator may do with a run is in ./operator-types.ts.
 */
import type { Actor, Duration, Json, Schema } from '../../core/index.ts'
import type { CallContext } from '../call-context.ts'
import type { Verified } from '../once/types.ts'
import type { CancelOutcome, ConfirmationTicket, ReplayReport, SagaHistory, TicketPort } from './operator-types.ts'

/** Something that a step made and that is undone by the handler registered for its kind. */
export interface Tracked<Kinds extends string = string> {
  readonly kind: Kinds
  readonly id: string
  readonly description?: string
}

export interface StepContext<Kinds extends string = never> extends CallContext {
  /**
   * Records a resource the moment it is made, before the step ends: should the run not be done, it is undone by the handler
   * of its kind, also where this step died in between. The same kind and id twice is one. Resolves when it is recorded.
   * @throws HF_OPTION_INVALID for a kind without a handler or an empty id, HF_LEASE_LOST, and what the store throws
   */
  readonly track: (kind: Kinds, id: string, description?: string) => Promise<void>
  /** What earlier attempts of this step have made: look here before making it again. */
  readonly tracked: readonly Tracked<Kinds>[]
}

type Settled<R> =
  /** Safe to run again under the same key. */
  | { readonly effect: 'idempotent' }
  /** Never run again while its outcome is unknown: `verify` finds out, `'hold'` asks a human. */
  | { readonly effect: 'once'; readonly verify: 'hold' | ((context: CallContext) => Promise<Verified<R>>) }

/** An effect that needs somebody's word first. */
export interface ConfirmationOptions {
  /** What confirming will do, in one sentence with names: `Delete 3 workspaces of ACME`. Shown before, kept after. Made of the input and of recorded results only. */
  readonly summary: string
  /** How long the run waits, by the database's clock. At least `'1m'`, default `'24h'` (somebody looks once a day). */
  readonly waitFor?: Duration
  /** What happens when nobody confirmed in time: `'undo'` (default) undoes the run, `'ask-again'` begins to wait anew. Behind a pivot it is asked again whatever this says. */
  readonly onExpiry?: 'undo' | 'ask-again'
  /** 2: somebody else than who asked for the ticket must confirm. Default 1. */
  readonly approvals?: 1 | 2
}

/**
 * A step that can be undone; or the point of no return (`pivot`): once it may have happened the run only goes forward, is tried
 * again until it is done, or needs a human; or a point of no return that needs a confirmation first (`irreversible`).
 */
type Return<Undo> =
  | { readonly undo?: Undo; readonly pivot?: false; readonly irreversible?: undefined }
  | { readonly pivot: true; readonly undo?: undefined; readonly irreversible?: undefined }
  | { readonly irreversible: ConfirmationOptions; readonly undo?: undefined; readonly pivot?: true }

/**
 * A step with an outside effect. Its intent is recorded before `run` is called. What an error of `run` means is read by
 * `failureVerdict`: refused begins the undo; not applied and ambiguous are tried again later (see SagaOptions.attempts).
 * `undo` may be called more than once, under one key; it is recorded after its effect. A step without one is kept, and said to be.
 */
export type OutsideStep<R extends Json | void, Kinds extends string = never> = {
  readonly run: (context: StepContext<Kinds>) => Promise<R>
  /** Of one attempt, of `verify` and of `undo`: the signal aborts, and five seconds later nobody waits any more; what happened is then unknown. Default: SagaOptions.stepTimeout. */
  readonly timeout?: Duration
} & Settled<R> & Return<(result: NoInfer<R>, context: CallContext) => Promise<unknown>>

/** A step whose writes commit with the journal. No outside calls in here. */
export type LocalStep<R extends Json | void, Tx> = {
  readonly write: (context: { readonly tx: Tx }) => Promise<R>
} & Return<(result: NoInfer<R>, context: { readonly tx: Tx }) => Promise<unknown>>

/** Runs a step, or answers its recorded result. Steps run one after another, each under a name of its own. Don't catch what it throws: the run is over then. */
export interface Step<Tx, Kinds extends string = never> {
  <R extends Json | void>(name: string, step: OutsideStep<R, Kinds>): Promise<R>
  <R extends Json | void>(name: string, step: LocalStep<R, Tx>): Promise<R>
}

export interface SagaOptions<In, I, R extends Json | void, Tx, Kinds extends string = never> {
  /** Whole number from 1; raise it when the order, names or effects of steps change. Runs of a version that this instance does not know are left to those that do. */
  readonly version: number
  /** Functions of earlier versions, so that their runs are finished by this release too. They get their input through the same schema: it must still take what was stored. */
  readonly olderVersions?: { readonly [version: number]: (step: Step<Tx, NoInfer<Kinds>>, input: NoInfer<I>) => Promise<NoInfer<R>> }
  readonly input: Schema<In, I>
  readonly runbook?: string
  /** Handlers that undo what `track` recorded, by kind. Called with the tracked id, perhaps more than once, under one key. */
  readonly undo?: { readonly [Kind in Kinds]: (id: string, context: CallContext) => Promise<unknown> }
  /**
   * The steps. Run again from the beginning by every recovery, with recorded results: between steps it must be
   * deterministic (no clock, no random, no flags, no reading of what changes).
   */
  readonly run: (step: Step<Tx, NoInfer<Kinds>>, input: NoInfer<I>) => Promise<R>
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
  /** Bound of steps that name no `timeout`. At least `'100ms'`, default `'10m'`: long enough for a slow job, short enough that a call that never answers does not hold its run for ever. */
  readonly stepTimeout?: Duration
  /**
   * Time from the begin of a run by the database's clock. When it is over no step begins any more: the run is undone, or behind its
   * pivot needs a human; a step of unknown outcome is settled first. At least `'1s'`; default: none. An operator's `retry` lifts it.
   */
  readonly deadline?: Duration
  /** A run whose process died so often in a row without getting further needs a human, 1 to 1000. Default 5: a step that kills its process must not kill every one in turn. */
  readonly crashes?: number
  /** How long a ticket for a confirmation lives. `'10s'` to `'1h'`, default `'2m'`: it is asked for when somebody is about to decide. */
  readonly ticketFor?: Duration
  /** How long a run whose process died waits for the next. At least `'1s'`, default `'15s'`; extended by heartbeats. */
  readonly lease?: Duration
  /** How long a finished run answers its id. Default `'90d'`, at least `'1h'`. `needs-human` stays until it is settled. */
  readonly keepFor?: Duration
}

export const SAGA_DEFAULTS: {
  readonly attempts: number; readonly giveUpAfter: Duration; readonly undoAttempts: number; readonly backoff: Duration; readonly backoffMax: Duration
  readonly stepTimeout: Duration; readonly crashes: number; readonly waitFor: Duration; readonly ticketFor: Duration; readonly lease: Duration; readonly keepFor: Duration
} = Object.freeze({
  attempts: 5, giveUpAfter: '30m', undoAttempts: 10, backoff: '2s', backoffMax: '60s', stepTimeout: '10m', crashes: 5, waitFor: '24h', ticketFor: '2m', lease: '15s', keepFor: '90d',
})

/** What the app hands a saga beside the kit. */
export interface SagaPorts<Tx> {
  /** Without one no irreversible step can be confirmed: its run needs a human. */
  readonly tickets?: TicketPort<Tx>
}

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
  /** This one and the older ones that it still runs. */
  readonly versions: readonly number[]
  readonly runbook: string | undefined
  /**
   * Begins the run called `id`, or joins it: what is over is answered from the record, what nobody is at goes on.
   * Emits saga.started, saga.resumed, saga.step, saga.waiting, saga.finished, lease.lost.
   * @throws HF_INPUT_INVALID, HF_KEY_REUSED (same id, other input), HF_CALL_IN_TX, HF_NOT_STARTED, HF_STORE_UNAVAILABLE (begun or
   *   not, the same call may be made again)
   */
  start(id: string, input: In): Promise<SagaOutcome<R>>
  /** Goes on with what no live lease holds and is due, at most `limit` runs, 16 at a time over all sweeps. Answers how many were begun, when they are over or `enough` aborts; what was begun goes on. */
  sweep(limit: number, enough?: AbortSignal): Promise<number>
  /** An operator's word: try again from where it stands. False when it does not need a human. */
  retry(id: string, reason: string, actor?: Actor): Promise<boolean>
  /** An operator settled it by hand: undone, or done with this result, which later starts are answered. False when it does not need a human. @throws HF_RESULT_NOT_JSON */
  markDone(id: string, as: 'undone' | { readonly value: R }, reason: string, actor?: Actor): Promise<boolean>
  /** An operator knows whether the step of unknown outcome happened; `retry` goes on from there. False when no step is unknown. */
  resolveStep(id: string, verified: Verified<Json>, reason: string, actor?: Actor): Promise<boolean>
  /**
   * An operator's word on a run that needs a human: the step it stands at counts as done with `value` (default null), or, on the way
   * back, what is to be undone next is kept; it goes on from there. Answers what was skipped, undefined when there is nothing to skip.
   */
  skip(id: string, reason: string, options?: { readonly value?: Json; readonly actor?: Actor }): Promise<string | undefined>
  /**
   * Before the pivot: no step begins any more, and the run is undone, here at once or by whoever holds it (at its next journal write, at the
   * latest by its next heartbeat, which aborts the step's signal). Behind the pivot, or when it is over, it is refused as a value.
   * Emits saga.cancelled.
   */
  cancel(id: string, reason: string, actor: Actor): Promise<CancelOutcome>
  /**
   * A ticket for the step that the run waits to have confirmed; it names what will be done and is bound to the actor. Undefined when it waits for none.
   * @throws HF_OPTION_INVALID without a ticket port, and what that throws
   */
  requestConfirmation(id: string, actor: Actor): Promise<ConfirmationTicket | undefined>
  /** Uses the ticket up and lets its run go on. Emits saga.confirmed. @throws HF_TICKET_INVALID, HF_RATE_LIMITED, HF_OPTION_INVALID and what the store throws */
  confirm(token: string, actor: Actor): Promise<{ readonly id: string } & SagaOutcome<R>>
  /** What happened to a run, from the database. Names, times and reasons; no inputs and no results. */
  history(id: string): Promise<SagaHistory | undefined>
  /** Runs the function again over the journal without carrying anything out, and compares: does it ask for the same steps and come to the same result? */
  replay(id: string): Promise<ReplayReport>
}
