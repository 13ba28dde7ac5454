/**
 * Audit rows in the memory dialect: the same operations over a keyed table.
 */
import type { MemoryTx } from '../../store/index.ts'
import type { AuditPort, AuditRow } from './port.ts'

const TABLE = 'audit'

export const memoryAudit: AuditPort<MemoryTx> = {
  append: async (tx, { key, ...entry }) => {
    const table = tx.table<AuditRow>(TABLE)
    if (table.get(key) === undefined) table.set(key, { ...entry, id: tx.sequence(TABLE), at: tx.now() })
  },

  list: async (tx, { limit, before }) =>
    [...tx.table<AuditRow>(TABLE).entries()].map(([, row]) => row)
      .filter(row => before === undefined || row.id < before)
      .sort((a, b) => b.id - a.id)
      .slice(0, limit),
}
