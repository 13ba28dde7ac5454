/**
 * Schedules in the memory dialect.
 */
import type { MemoryTx } from '../../store/index.ts'
import type { ScheduleTable } from './ledger.ts'

interface Row {
  readonly text: string
  readonly lastDueMs: number
}

const TABLE = 'worker_schedule'

export const memorySchedule: ScheduleTable<MemoryTx> = {
  look: async (tx, worker, text) => {
    const known = tx.table<Row>(TABLE).get(worker)
    const row = known?.text === text ? known : { text, lastDueMs: tx.now() }
    if (row !== known) tx.table<Row>(TABLE).set(worker, row)
    return { lastDueMs: row.lastDueMs, nowMs: tx.now() }
  },
  done: async (tx, worker, dueMs) => {
    const row = tx.table<Row>(TABLE).get(worker)
    if (row !== undefined && row.lastDueMs < dueMs) tx.table<Row>(TABLE).set(worker, { ...row, lastDueMs: dueMs })
  },
  now: async tx => tx.now(),
}
