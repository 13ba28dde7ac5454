/** Leases in the memory dialect: the same operations over one table; transactions are serial, so nothing races. */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import type { LeasePort } from './port.ts'

interface Row {
  readonly owner: string | null
  readonly fence: number
  readonly expiresAt: number
}

function table(tx: MemoryTx): MemoryTable<Row> {
  return tx.table<Row>('holdfast.lease')
}

export const leaseMemory: LeasePort<MemoryTx> = {
  async acquire(tx, name, owner, ttlMs) {
    const row = table(tx).get(name)
    if (row !== undefined && row.expiresAt > tx.now()) return undefined
    const fence = (row?.fence ?? 0) + 1
    table(tx).set(name, { owner, fence, expiresAt: tx.now() + ttlMs })
    return { fence, takenOver: row !== undefined && row.owner !== null }
  },
  async renew(tx, name, fence, ttlMs) {
    const row = table(tx).get(name)
    if (row?.fence !== fence || row.owner === null || row.expiresAt <= tx.now()) return false
    table(tx).set(name, { ...row, expiresAt: tx.now() + ttlMs })
    return true
  },
  async release(tx, name, fence) {
    const row = table(tx).get(name)
    if (row?.fence !== fence || row.owner === null) return false
    table(tx).set(name, { ...row, owner: null, expiresAt: 0 })
    return true
  },
  async guard(tx, name, fence) {
    const row = table(tx).get(name)
    return row?.fence === fence && row.expiresAt > tx.now()
  },
  async reap(tx, olderThanMs, limit) {
    const names: string[] = []
    for (const [name, row] of table(tx).entries()) {
      if (names.length >= limit) break
      if (row.owner === null || row.expiresAt >= tx.now() - olderThanMs) continue
      table(tx).set(name, { ...row, owner: null })
      names.push(name)
    }
    return names
  },
}
