/**
 * The items that a worker could not finish: how often each was tried, when it may be tried again, and which are parked.
 *
 * Items that succeed the first time leave no trace, so the ledger is as small as the trouble. It is kept in the store
 * where there is one: attempts are counted over restarts and instances. Time is the database's.
 */
import type { Env, Kit } from '../../core/index.ts'
import { bodyFor, type Database } from '../../store/index.ts'
import { memoryItems } from './memory.ts'
import { sqlItems } from './sql.ts'

/** `waiting` for its next attempt; `parked` for a person; `discarded` by a person: never tried again. */
export type ItemCondition = 'waiting' | 'parked' | 'discarded'

export interface ItemState {
  readonly worker: string
  readonly item: string
  readonly condition: ItemCondition
  readonly attempts: number
  /** Until the next attempt; zero or less when it is due. */
  readonly waitMs: number
  /** Of the last failure. */
  readonly message: string
  /** The database's clock, milliseconds. */
  readonly firstFailedAt: number
  readonly lastFailedAt: number
}

/** What a failure means for an item. Waits double from `baseMs` to `capMs`. */
export interface FailurePolicy {
  readonly message: string
  readonly maxAttempts: number
  readonly baseMs: number
  readonly capMs: number
}

/** Rows of one worker that are looked at; beyond it the oldest count. */
export const ITEMS_MAX = 10_000

export interface ItemLedger {
  /** Of one worker, or of all; the oldest trouble first. */
  list(worker: string | undefined, limit: number): Promise<readonly ItemState[]>
  /** Counts one more failure; parks at `maxAttempts`. Two instances that fail the same item count two. */
  fail(worker: string, item: string, policy: FailurePolicy): Promise<ItemState>
  /** It succeeded: its row goes. */
  clear(worker: string, item: string): Promise<void>
  /** By a person: due now, with all its attempts again. Answers whether there was such an item. */
  retry(worker: string, item: string): Promise<boolean>
  /** By a person: never tried again. Answers whether there was such an item. */
  discard(worker: string, item: string): Promise<boolean>
}

/** The same within a transaction, once per dialect. */
export type ItemTable<Tx> = { readonly [Operation in keyof ItemLedger]: (tx: Tx, ...rest: Parameters<ItemLedger[Operation]>) => ReturnType<ItemLedger[Operation]> }

/** Kept in the store. */
export function storedItems<Tx>(kit: Kit & { database(): Database<Tx> }): ItemLedger {
  const run = <T>(name: string, work: (table: ItemTable<Tx>, tx: Tx) => Promise<T>): Promise<T> => {
    const database = kit.database()
    const table = bodyFor<Tx, ItemTable<Tx>>(database, { sql: sqlItems, memory: memoryItems })
    return database.transaction(name, tx => work(table, tx))
  }
  return {
    list: async (worker, limit) => run('worker.items', (table, tx) => table.list(tx, worker, limit)),
    fail: async (worker, item, policy) => run('worker.item.fail', (table, tx) => table.fail(tx, worker, item, policy)),
    clear: async (worker, item) => run('worker.item.clear', (table, tx) => table.clear(tx, worker, item)),
    retry: async (worker, item) => run('worker.item.retry', (table, tx) => table.retry(tx, worker, item)),
    discard: async (worker, item) => run('worker.item.discard', (table, tx) => table.discard(tx, worker, item)),
  }
}

/** Kept in this process, for services without a store: gone with it. */
export function localItems(env: Pick<Env, 'now'>): ItemLedger {
  const rows = new Map<string, unknown>()
  const table = {
    get: (key: string) => rows.get(key),
    set: (key: string, row: unknown) => {
      rows.set(key, row)
      const oldest = rows.keys().next()
      if (rows.size > ITEMS_MAX && oldest.done !== true) rows.delete(oldest.value)
    },
    delete: (key: string) => rows.delete(key),
    entries: () => rows.entries(),
    get size() {
      return rows.size
    },
  }
  // The memory dialect's body over a map of our own: one table, no transaction to roll back.
  const tx = { table: () => table as never, sequence: () => 0, now: () => env.now() }
  return {
    list: (worker, limit) => memoryItems.list(tx, worker, limit),
    fail: (worker, item, policy) => memoryItems.fail(tx, worker, item, policy),
    clear: (worker, item) => memoryItems.clear(tx, worker, item),
    retry: (worker, item) => memoryItems.retry(tx, worker, item),
    discard: (worker, item) => memoryItems.discard(tx, worker, item),
  }
}
