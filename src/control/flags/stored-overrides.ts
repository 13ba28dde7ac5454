/**
 * Overrides shared through the store: one short transaction to read them all, one to change one with its audit row.
 */
import { bodyFor } from '../../store/index.ts'
import type { Audit } from '../audit/audit.ts'
import type { StoreKit } from '../kit.ts'
import { memoryOverrides } from './override-memory.ts'
import { auditOf, type OverridePort, type OverrideTable } from './override.ts'
import { sqlOverrides } from './override-sql.ts'

export function storedOverrides<Tx>(kit: StoreKit<Tx>, audit: Audit<Tx>): OverridePort {
  const table = (): OverrideTable<Tx> => bodyFor<Tx, OverrideTable<Tx>>(kit.database(), { sql: sqlOverrides, memory: memoryOverrides })
  return {
    read: async signal => kit.database().transaction('flags.poll', tx => table().list(tx), { signal }),
    write: async change => kit.database().transaction('flags.set', async tx => {
      const { before, after } = await table().put(tx, change)
      await audit.append(tx, auditOf(change, before))
      return after
    }),
  }
}
