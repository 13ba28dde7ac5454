/**
 * Overrides in the memory dialect.
 */
import type { MemoryTx } from '../../store/index.ts'
import type { OverrideTable, StoredOverride } from './override.ts'

interface Row {
  readonly flag: string
  readonly on: boolean | null
  readonly actor: string
  readonly reason: string
  readonly version: number
  readonly changedAt: number
  readonly expiresAt: number | null
}

const TABLE = 'flag_override'

export const memoryOverrides: OverrideTable<MemoryTx> = {
  list: async tx => [...tx.table<Row>(TABLE).entries()].map(([, row]) => decode(row, tx.now())),

  put: async (tx, change) => {
    const table = tx.table<Row>(TABLE)
    const before = table.get(change.flag)
    const after: Row = {
      flag: change.flag, on: change.on, actor: change.actor, reason: change.reason, version: (before?.version ?? 0) + 1,
      changedAt: tx.now(), expiresAt: change.forMs === undefined ? null : tx.now() + change.forMs,
    }
    table.set(change.flag, after)
    return { before: before?.on ?? null, after: decode(after, tx.now()) }
  },
}

function decode({ expiresAt, ...row }: Row, now: number): StoredOverride {
  return { ...row, remainingMs: expiresAt === null ? undefined : expiresAt - now }
}
