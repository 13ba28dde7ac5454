/**
 * The public face of once, and its defaults.
 */
import type { Duration, Json, Schema } from '../../core/index.ts'
import type { CallContext } from '../call-context.ts'

/**
 * `done`: it happened now. `replayed`: it had happened, here is the first answer. `in-progress`: another is at it, ask again.
 * `unknown`: whether it happened is not known; it is settled by the declared policy, and until then not repeated.
 */
export type OnceOutcome<R> =
  | { readonly outcome: 'done' | 'replayed'; readonly value: R }
  | { readonly outcome: 'in-progress'; readonly retryAfterMs: number }
  | { readonly outcome: 'unknown' }

interface OnceBase<In, I> {
  /** The given input must be JSON; it is decoded on every call. */
  readonly input: Schema<In, I>
  /** Scope of "once", 1 to 300 characters: a charge id, an order id. Unique among the calls of this name. */
  readonly key: (input: NoInfer<I>) => string
  /**
   * What must be the same when a key comes again; another one is HF_KEY_REUSED. Default: the whole input, which is right unless the input
   * carries something that differs from attempt to attempt (a time stamp, a trace id).
   */
  readonly fingerprint?: (input: NoInfer<I>) => Json
  /** How long an outcome can be replayed. `'1m'` to `'365d'`, default `'72h'`: longer than senders retry (Stripe 72 h, Telegram 24 h). `unknown` is kept for ever. */
  readonly keepFor?: Duration
  readonly runbook?: string
}

/** Everything happens in one transaction with the record. */
export interface LocalOnce<In, I, R extends Json | void, Tx> extends OnceBase<In, I> {
  /** Its business writes commit with the key, or nothing does. No outside calls in here. */
  readonly write: (input: NoInfer<I>, context: { readonly tx: Tx; readonly signal: AbortSignal }) => Promise<R>
}

export type Verified<R> = { readonly happened: true; readonly value: R } | { readonly happened: false }

/** Something happens outside: claimed, called with a derived key, completed under a fence. */
export interface OutsideOnce<In, I, R extends Json | void, Tx> extends OnceBase<In, I> {
  /**
   * The effect. An error after which it surely did not happen (see `failureVerdict`: our own refusals, 4xx, no connection,
   * `refuse()`) releases the key and is thrown on; any other error leaves the outcome `unknown`.
   */
  readonly call: (input: NoInfer<I>, context: CallContext) => Promise<R>
  /**
   * What is done about an outcome that nobody knows, by the next call with that key or by the sweep:
   * `'retry'`: call again with the same key (the other side must honour it); `{ verify }`: look first, call again only where
   * it did not happen; `'hold'`: a human decides.
   */
  readonly onUnknown: 'retry' | 'hold' | { readonly verify: (input: NoInfer<I>, context: CallContext) => Promise<Verified<R>> }
  /** Local consequences, in the transaction that records the result. */
  readonly complete?: (result: NoInfer<R>, context: { readonly tx: Tx }) => Promise<void>
  /** How long a holder that died leaves the key in progress. `'1s'` to `'10m'`, default `'30s'`; extended by heartbeats while `call` runs. */
  readonly lease?: Duration
}

export const ONCE_DEFAULTS: { readonly keepFor: Duration; readonly lease: Duration; readonly duplicateWait: Duration } = Object.freeze({ keepFor: '72h', lease: '30s', duplicateWait: '1s' })

export interface Once<In, R, Tx> {
  /**
   * Does it, or answers what became of it. With `tx` (local effects only) everything happens in that transaction, in a
   * savepoint: when `write` throws, the transaction can go on. Nothing counts as done before that transaction commits, and no
   * `once.done` is announced. Under REPEATABLE READ or SERIALIZABLE retry your whole transaction on HF_STORE_CONFLICT.
   * Emits once.done, once.replayed, once.unknown, once.settled.
   * @throws HF_INPUT_INVALID, HF_KEY_REUSED (same key, other input), HF_RESULT_NOT_JSON, HF_NOT_STARTED, what the store throws,
   *   HF_CALL_IN_TX (an outside effect inside a transaction), what `write` throws, what `call` throws when it surely did not happen
   */
  (input: In, options?: { readonly tx?: Tx; readonly signal?: AbortSignal }): Promise<OnceOutcome<R>>
  readonly kind: 'once'
  readonly name: string
  readonly runbook: string | undefined
  /**
   * Settles by policy what no live holder has, at most `limit` keys, 16 at a time over all sweeps. Answers how many were begun, when they are over or
   * `enough` aborts; what was begun goes on.
   */
  sweep(limit: number, enough?: AbortSignal): Promise<number>
  /** A human's word about an `unknown` key: `retry` (it did not happen: the key is free again) or `discard` (leave it be). False when it was not unknown. */
  settleByHand(key: string, as: 'retry' | 'discard', reason: string): Promise<boolean>
}

/** An input, ready: decoded by the schema, and what its record needs. */
export interface Prepared<I> {
  readonly decoded: I
  readonly text: string
  readonly key: string
  readonly fingerprint: string
}
