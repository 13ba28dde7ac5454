/**
 * Atomic operations of the retry store, per dialect: at most one entry per store, owner and slot, the last one put.
 *
 * Time is the database's: an entry that is over is not answered, whether it was pruned yet or not.
 */
export interface NewEntry {
  readonly store: string
  readonly owner: string
  readonly slot: string
  /** JSON text. */
  readonly input: string
  readonly keepForMs: number
}

export interface EntryRow {
  readonly slot: string
  readonly input: string
  /** Wall clock of the database. */
  readonly storedAtMs: number
}

export interface RetryStorePort<Tx> {
  put(tx: Tx, entry: NewEntry): Promise<void>
  /** Deletes what an owner has beyond the `max` newest. */
  trim(tx: Tx, store: string, owner: string, max: number): Promise<void>
  get(tx: Tx, store: string, owner: string, slot: string): Promise<EntryRow | undefined>
  /** Newest first. */
  list(tx: Tx, store: string, owner: string, limit: number): Promise<readonly EntryRow[]>
  /** One slot, or all of the owner. Answers how many there were. */
  clear(tx: Tx, store: string, owner: string, slot: string | undefined): Promise<number>
  prune(tx: Tx, limit: number): Promise<number>
}
