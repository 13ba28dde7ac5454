/**
 * Items in the memory dialect.
 */
import type { MemoryTx } from '../../store/index.ts'
import type { ItemState, ItemTable } from './ledger.ts'

interface Row extends Omit<ItemState, 'waitMs'> {
  readonly nextAt: number
}

const TABLE = 'worker_item'
const keyOf = (worker: string, item: string): string => JSON.stringify([worker, item])

export const memoryItems: ItemTable<MemoryTx> = {
  list: async (tx, worker, limit) =>
    [...tx.table<Row>(TABLE).entries()].map(([, row]) => row)
      .filter(row => worker === undefined || row.worker === worker)
      .sort((a, b) => a.firstFailedAt - b.firstFailedAt)
      .slice(0, limit)
      .map(row => decode(row, tx.now())),

  fail: async (tx, worker, item, { message, maxAttempts, baseMs, capMs }) => {
    const table = tx.table<Row>(TABLE)
    const known = table.get(keyOf(worker, item))
    const attempts = (known?.attempts ?? 0) + 1
    const row: Row = {
      worker, item, attempts, message,
      condition: known !== undefined && known.condition !== 'waiting' ? known.condition : attempts >= maxAttempts ? 'parked' : 'waiting',
      firstFailedAt: known?.firstFailedAt ?? tx.now(), lastFailedAt: tx.now(),
      nextAt: tx.now() + Math.min(capMs, baseMs * 2 ** (attempts - 1)),
    }
    table.set(keyOf(worker, item), row)
    return decode(row, tx.now())
  },

  clear: async (tx, worker, item) => {
    tx.table<Row>(TABLE).delete(keyOf(worker, item))
  },

  retry: async (tx, worker, item) => {
    const table = tx.table<Row>(TABLE)
    const row = table.get(keyOf(worker, item))
    if (row === undefined) return false
    table.set(keyOf(worker, item), { ...row, condition: 'waiting', attempts: 0, nextAt: tx.now() })
    return true
  },

  discard: async (tx, worker, item) => {
    const table = tx.table<Row>(TABLE)
    const row = table.get(keyOf(worker, item))
    if (row === undefined) return false
    table.set(keyOf(worker, item), { ...row, condition: 'discarded' })
    return true
  },
}

function decode({ nextAt, ...row }: Row, now: number): ItemState {
  return { ...row, waitMs: nextAt - now }
}
