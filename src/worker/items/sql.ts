/**
 * Items in PostgreSQL's dialect. Each operation is one statement on the primary key (worker, item).
 */
import type { SqlTx } from '../../store/index.ts'
import type { ItemCondition, ItemState, ItemTable } from './ledger.ts'

interface Row {
  readonly worker: string
  readonly item: string
  readonly condition: ItemCondition
  readonly attempts: number
  readonly wait_ms: string
  readonly message: string
  readonly first_failed_at: Date
  readonly last_failed_at: Date
}

const COLUMNS = 'worker, item, condition, attempts, (extract(epoch FROM next_at - clock_timestamp()) * 1000)::bigint AS wait_ms, message, first_failed_at, last_failed_at'

export const sqlItems: ItemTable<SqlTx> = {
  list: async (tx, worker, limit) =>
    (await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.worker_item WHERE $1::text IS NULL OR worker = $1 ORDER BY first_failed_at LIMIT $2`, [worker ?? null, limit])).map(decode),

  /** Two instances that fail the same item queue on its row: both attempts count. */
  fail: async (tx, worker, item, { message, maxAttempts, baseMs, capMs }) => {
    const [row] = await tx.query<Row>(
      `INSERT INTO holdfast.worker_item AS w (worker, item, attempts, condition, message, next_at)
       VALUES ($1, $2, 1, CASE WHEN $4::int <= 1 THEN 'parked' ELSE 'waiting' END, $3, clock_timestamp() + least($5::float8, $6::float8) * interval '1 millisecond')
       ON CONFLICT (worker, item) DO UPDATE SET
         attempts = w.attempts + 1,
         condition = CASE WHEN w.condition <> 'waiting' THEN w.condition WHEN w.attempts + 1 >= $4::int THEN 'parked' ELSE 'waiting' END,
         message = excluded.message,
         last_failed_at = clock_timestamp(),
         next_at = clock_timestamp() + least($6::float8, $5::float8 * power(2, least(w.attempts, 60))) * interval '1 millisecond'
       RETURNING ${COLUMNS}`,
      [worker, item, message, maxAttempts, baseMs, capMs],
    )
    if (row === undefined) throw new Error('INSERT ... RETURNING answered no row')
    return decode(row)
  },

  clear: async (tx, worker, item) => {
    await tx.query('DELETE FROM holdfast.worker_item WHERE worker = $1 AND item = $2', [worker, item])
  },

  retry: async (tx, worker, item) =>
    (await tx.query(`UPDATE holdfast.worker_item SET condition = 'waiting', attempts = 0, next_at = clock_timestamp() WHERE worker = $1 AND item = $2 RETURNING 1`, [worker, item])).length > 0,

  discard: async (tx, worker, item) =>
    (await tx.query(`UPDATE holdfast.worker_item SET condition = 'discarded' WHERE worker = $1 AND item = $2 RETURNING 1`, [worker, item])).length > 0,
}

function decode(row: Row): ItemState {
  return {
    worker: row.worker, item: row.item, condition: row.condition, attempts: row.attempts, waitMs: Number(row.wait_ms), message: row.message,
    firstFailedAt: row.first_failed_at.getTime(), lastFailedAt: row.last_failed_at.getTime(),
  }
}
