/** The retry store in the memory dialect: the same operations over one table; transactions are serial, so nothing races. */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import type { EntryRow, RetryStorePort } from './port.ts'

interface Row extends EntryRow {
  readonly store: string
  readonly owner: string
  readonly expiresAt: number
  /** The simulated clock may stand still between two puts. */
  readonly seq: number
}

function table(tx: MemoryTx): MemoryTable<Row> {
  return tx.table<Row>('holdfast.retry_entry')
}

function key(store: string, owner: string, slot: string): string {
  return JSON.stringify([store, owner, slot])
}

/** Newest first. */
function ofOwner(tx: MemoryTx, store: string, owner: string): Row[] {
  return [...table(tx).entries()].map(([, row]) => row).filter(row => row.store === store && row.owner === owner).sort((a, b) => b.seq - a.seq)
}

function entryOf({ slot, input, storedAtMs }: Row): EntryRow {
  return { slot, input, storedAtMs }
}

export const retryStoreMemory: RetryStorePort<MemoryTx> = {
  async put(tx, { store, owner, slot, input, keepForMs }) {
    table(tx).set(key(store, owner, slot), { store, owner, slot, input, storedAtMs: tx.now(), expiresAt: tx.now() + keepForMs, seq: tx.sequence('retry entry') })
  },
  async trim(tx, store, owner, max) {
    for (const row of ofOwner(tx, store, owner).slice(max)) table(tx).delete(key(store, owner, row.slot))
  },
  async get(tx, store, owner, slot) {
    const row = table(tx).get(key(store, owner, slot))
    return row === undefined || row.expiresAt <= tx.now() ? undefined : entryOf(row)
  },
  async list(tx, store, owner, limit) {
    return ofOwner(tx, store, owner).filter(row => row.expiresAt > tx.now()).slice(0, limit).map(entryOf)
  },
  async clear(tx, store, owner, slot) {
    const rows = ofOwner(tx, store, owner).filter(row => slot === undefined || row.slot === slot)
    for (const row of rows) table(tx).delete(key(store, owner, row.slot))
    return rows.length
  },
  async prune(tx, limit) {
    const over = [...table(tx).entries()].filter(([, row]) => row.expiresAt < tx.now()).sort(([, a], [, b]) => a.expiresAt - b.expiresAt).slice(0, limit)
    for (const [each] of over) table(tx).delete(each)
    return over.length
  },
}
