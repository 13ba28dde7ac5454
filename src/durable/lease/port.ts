/**
 * Atomic operations of a lease, per dialect.
 *
 * A fence is a number per lease that only ever rises; rows are never deleted, so no fence is given twice (L1).
 */
export interface Granted {
  readonly fence: number
  /** The one before did not release it: it died or lost it. */
  readonly takenOver: boolean
}

export interface LeasePort<Tx> {
  /** Grants the lease when it is free or expired by the database's clock; undefined when it is held. */
  acquire(tx: Tx, name: string, owner: string, ttlMs: number): Promise<Granted | undefined>
  /** Extends it; false when it expired or is another's. */
  renew(tx: Tx, name: string, fence: number, ttlMs: number): Promise<boolean>
  /** Gives it back; false (and no change) when it is another's. */
  release(tx: Tx, name: string, fence: number): Promise<boolean>
  /** True when this fence is the live one; it stays so until the transaction ends. */
  guard(tx: Tx, name: string, fence: number): Promise<boolean>
  /** Marks as free what expired longer than `olderThanMs` ago and was not given back. Answers their names. */
  reap(tx: Tx, olderThanMs: number, limit: number): Promise<readonly string[]>
}
