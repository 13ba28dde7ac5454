/**
 * Atomic operations on the record of a key, per dialect.
 *
 * States: `started` (a holder is at work under a lease), `done` (with its result), `unknown` (a holder died, or cannot
 * say whether the effect happened), `released` (surely did not happen; the key may be used again), `discarded` (a human
 * closed it). Every change after a claim names the fence of that claim; one that is not the live fence changes nothing.
 */
/** After so many attempts a sweep settles a key no more; a human or the next call may. */
export const SETTLE_ATTEMPTS_MAX: number = 20

export type OnceState = 'started' | 'done' | 'unknown' | 'released' | 'discarded'

export interface OnceRecord {
  readonly key: string
  readonly state: OnceState
  readonly fingerprint: string
  /** JSON text, as it was given. Empty for local effects, which never need to be run again by a sweep. */
  readonly input: string
  /** JSON text; byte for byte what the first caller got. */
  readonly result: string | null
  readonly owner: string | null
  readonly fence: number
  /** Of `started`: the lease is live by the database's clock. */
  readonly live: boolean
  /** Of `started` and live: how much of the lease is left. */
  readonly leaseLeftMs: number
  readonly attempts: number
  readonly reason: string | null
  /** Wall clock of the database. */
  readonly sinceMs: number
}

export interface LocalClaim {
  readonly name: string
  readonly key: string
  readonly fingerprint: string
  readonly keepForMs: number
}

export interface OnceClaim {
  readonly name: string
  readonly key: string
  readonly fingerprint: string
  readonly input: string
  readonly owner: string
  readonly leaseMs: number
}

export interface OncePort<Tx> {
  /** Local effect: true when the key is now this transaction's. A concurrent duplicate waits for the first to end (bounded: sqlstate 55P03). */
  begin(tx: Tx, claim: LocalClaim): Promise<boolean>
  /** Local effect: stores the result in the transaction that began it. One statement. */
  finish(tx: Tx, name: string, key: string, result: string): Promise<void>
  /** Outside effect: the fence when the key is new, was released, or is already this owner's; else undefined. */
  claim(tx: Tx, claim: OnceClaim): Promise<number | undefined>
  read(tx: Tx, name: string, key: string): Promise<OnceRecord | undefined>
  /** `started` without a live lease becomes `unknown`. True when it did. */
  expire(tx: Tx, name: string, key: string): Promise<boolean>
  /** A new holder for what is `unknown` under that fence; undefined when somebody was faster. */
  takeOver(tx: Tx, name: string, key: string, fence: number, owner: string, leaseMs: number): Promise<number | undefined>
  renew(tx: Tx, name: string, key: string, fence: number, leaseMs: number): Promise<boolean>
  complete(tx: Tx, name: string, key: string, fence: number, result: string, keepForMs: number): Promise<boolean>
  release(tx: Tx, name: string, key: string, fence: number, reason: string, keepForMs: number): Promise<boolean>
  /** `retryInMs`: not before then by the sweep. */
  markUnknown(tx: Tx, name: string, key: string, fence: number, reason: string, retryInMs: number): Promise<boolean>
  /** Keys that no live lease holds: dead holders, and (with `unknownToo`) what is due to be settled. Oldest first. */
  stuck(tx: Tx, name: string, unknownToo: boolean, limit: number): Promise<readonly string[]>
  /** What waits for a human or a sweep, oldest first. */
  unknown(tx: Tx, limit: number): Promise<readonly (OnceRecord & { readonly name: string })[]>
  /** A human's word: `unknown` becomes `released` (it did not happen) or `discarded`. */
  settleByHand(tx: Tx, name: string, key: string, as: 'released' | 'discarded', reason: string, keepForMs: number): Promise<boolean>
  /** Deletes what is over and older than it is kept. `unknown` is never deleted. */
  prune(tx: Tx, limit: number): Promise<number>
}
