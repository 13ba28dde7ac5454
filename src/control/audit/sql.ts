/**
 * Audit rows in PostgreSQL's dialect. A trigger refuses UPDATE and DELETE (../migrations.ts).
 */
import type { Json } from '../../core/index.ts'
import type { SqlTx } from '../../store/index.ts'
import type { AuditEntry, AuditPort, AuditRow } from './port.ts'

interface Row {
  readonly id: string
  readonly at: Date
  readonly actor: string
  readonly action: string
  readonly target: string
  readonly reason: string
  readonly outcome: AuditEntry['outcome']
  readonly before: Json
  readonly after: Json
  readonly correlation_id: string | null
}

export const sqlAudit: AuditPort<SqlTx> = {
  /** Unique by key: the second writer of the same row writes nothing. Other rows never wait for it. */
  append: async (tx, entry) => {
    await tx.query(
      `INSERT INTO holdfast.audit (key, actor, action, target, reason, outcome, before, after, correlation_id)
       VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8::text::jsonb, $9) ON CONFLICT (key) DO NOTHING`,
      // Through text: a driver that knows the type as jsonb would encode the text a second time.
      [entry.key, entry.actor, entry.action, entry.target, entry.reason, entry.outcome, JSON.stringify(entry.before ?? null), JSON.stringify(entry.after ?? null), entry.correlationId ?? null],
    )
  },

  /** Backwards along the primary key. */
  list: async (tx, { limit, before }) => {
    const rows = await tx.query<Row>(
      `SELECT id, at, actor, action, target, reason, outcome, before, after, correlation_id FROM holdfast.audit
       WHERE $1::bigint IS NULL OR id < $1::bigint ORDER BY id DESC LIMIT $2`,
      [before ?? null, limit],
    )
    return rows.map((row): AuditRow => ({
      id: Number(row.id), at: row.at.getTime(), actor: row.actor, action: row.action, target: row.target, reason: row.reason, outcome: row.outcome,
      ...(row.before === null ? {} : { before: row.before }),
      ...(row.after === null ? {} : { after: row.after }),
      ...(row.correlation_id === null ? {} : { correlationId: row.correlation_id }),
    }))
  },
}
