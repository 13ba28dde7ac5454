/**
 * Atomic operations of the inbox, per dialect.
 *
 * States: `queued`, `working` (under a lease and fence), `done`, `parked` (a human is needed), `discarded`.
 * At most one row of a lane is `working`, in all instances together.
 */
export interface InboxRow {
  readonly source: string
  readonly id: string
  readonly lane: string
  readonly priority: number
  /** JSON text. */
  readonly payload: string
  /** Of the attempt that this row was taken for, from 1. */
  readonly attempt: number
  readonly fence: number
  readonly receivedAtMs: number
}

export interface ParkedRow {
  readonly source: string
  readonly id: string
  readonly attempts: number
  readonly reason: string | null
  readonly sinceMs: number
}

export interface InboxPort<Tx> {
  /** True when it is new, false for a duplicate. */
  claim(tx: Tx, row: { readonly source: string; readonly id: string; readonly lane: string; readonly priority: number; readonly payload: string }): Promise<boolean>
  /** Takes the first due row of each free lane, lowest priority number first. */
  next(tx: Tx, source: string, owner: string, leaseMs: number, limit: number): Promise<readonly InboxRow[]>
  /** Rows whose holder died on their last attempt become `parked`. */
  parkExhausted(tx: Tx, source: string | undefined, attemptsMax: number, limit: number): Promise<readonly ParkedRow[]>
  renew(tx: Tx, source: string, id: string, fence: number, leaseMs: number): Promise<boolean>
  done(tx: Tx, source: string, id: string, fence: number, keepForMs: number): Promise<boolean>
  /** Queued again after `retryInMs`, or parked when that is undefined. */
  fail(tx: Tx, source: string, id: string, fence: number, reason: string, retryInMs: number | undefined): Promise<boolean>
  parked(tx: Tx, limit: number): Promise<readonly ParkedRow[]>
  /** What is not done, by source, of at most `max` rows. */
  backlog(tx: Tx, max: number): Promise<readonly { readonly name: string; readonly waiting: number; readonly oldestMs: number }[]>
  /** A parked row goes to the end of its lane with fresh attempts, or is closed. */
  settleByHand(tx: Tx, source: string, id: string, as: 'queued' | 'discarded', reason: string, keepForMs: number): Promise<boolean>
  prune(tx: Tx, limit: number): Promise<number>
}
