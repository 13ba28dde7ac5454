/**
 * Overrides in PostgreSQL's dialect. Expiry is decided by clock_timestamp(), for every instance alike.
 */
import type { SqlTx } from '../../store/index.ts'
import type { OverrideTable, StoredOverride } from './override.ts'

interface Row {
  readonly flag: string
  readonly value: boolean | null
  readonly actor: string
  readonly reason: string
  readonly version: string
  readonly changed_at: Date
  readonly remaining_ms: string | null
}

const COLUMNS = 'flag, value, actor, reason, version, changed_at, (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint AS remaining_ms'

export const sqlOverrides: OverrideTable<SqlTx> = {
  /** A handful of rows, read whole. */
  list: async tx => (await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.flag_override`)).map(decode),

  /** The row is locked first: of two writers the second sees the first one's value as `before`. At the very first write of a flag both may see none. */
  put: async (tx, change) => {
    const [before] = await tx.query<{ readonly value: boolean | null }>('SELECT value FROM holdfast.flag_override WHERE flag = $1 FOR UPDATE', [change.flag])
    const [after] = await tx.query<Row>(
      `INSERT INTO holdfast.flag_override AS o (flag, value, actor, reason, version, expires_at)
       VALUES ($1, $2, $3, $4, 1, clock_timestamp() + $5::float8 * interval '1 millisecond')
       ON CONFLICT (flag) DO UPDATE SET value = excluded.value, actor = excluded.actor, reason = excluded.reason,
         version = o.version + 1, changed_at = clock_timestamp(), expires_at = excluded.expires_at
       RETURNING ${COLUMNS}`,
      [change.flag, change.on, change.actor, change.reason, change.forMs ?? null],
    )
    if (after === undefined) throw new Error('INSERT ... RETURNING answered no row')
    return { before: before?.value ?? null, after: decode(after) }
  },
}

function decode(row: Row): StoredOverride {
  return {
    flag: row.flag, on: row.value, actor: row.actor, reason: row.reason, version: Number(row.version), changedAt: row.changed_at.getTime(),
    remainingMs: row.remaining_ms === null ? undefined : Number(row.remaining_ms),
  }
}
