/**
 * Leases in PostgreSQL's dialect.
 *
 * `UNIQUE (name, fence)` makes the fence a key column: take-over (which changes it) waits for transactions that hold
 * FOR KEY SHARE on the row, heartbeats (which don't) pass them. Measured with FOR SHARE instead: heartbeats waited 27 s.
 */
import type { SqlTx } from '../../store/index.ts'
import type { Granted, LeasePort } from './port.ts'

export const leaseSql: LeasePort<SqlTx> = { acquire, renew, release, guard, reap }

async function acquire(tx: SqlTx, name: string, owner: string, ttlMs: number): Promise<Granted | undefined> {
  return await takeOver(tx, name, owner, ttlMs) ?? await create(tx, name, owner, ttlMs)
}

/** Primary key. Of two callers the second waits for the row, re-checks the WHERE and gets nothing. Plain UPDATE: ON CONFLICT DO UPDATE would lock before its WHERE. */
async function takeOver(tx: SqlTx, name: string, owner: string, ttlMs: number): Promise<Granted | undefined> {
  const rows = await tx.query<{ fence: string; taken_over: boolean }>(`
    UPDATE holdfast.lease
       SET previous_owner = owner, owner = $2, fence = fence + 1, acquired_at = clock_timestamp(),
           expires_at = clock_timestamp() + $3::float8 * interval '1 millisecond'
     WHERE name = $1 AND expires_at <= clock_timestamp()
     RETURNING fence, previous_owner IS NOT NULL AS taken_over`, [name, owner, ttlMs])
  const row = rows[0]
  return row === undefined ? undefined : { fence: Number(row.fence), takenOver: row.taken_over }
}

/**
 * Both unique keys: of two first callers the second waits for the first to commit and inserts nothing. With the primary key named alone, the
 * other key refused some of them (23505).
 */
async function create(tx: SqlTx, name: string, owner: string, ttlMs: number): Promise<Granted | undefined> {
  const rows = await tx.query<{ fence: string }>(`
    INSERT INTO holdfast.lease (name, owner, fence, expires_at)
    VALUES ($1, $2, 1, clock_timestamp() + $3::float8 * interval '1 millisecond')
    ON CONFLICT DO NOTHING
    RETURNING fence`, [name, owner, ttlMs])
  const row = rows[0]
  return row === undefined ? undefined : { fence: Number(row.fence), takenOver: false }
}

/** Primary key. Changes no key column, so it passes transactions that guard this lease. */
async function renew(tx: SqlTx, name: string, fence: number, ttlMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.lease SET expires_at = clock_timestamp() + $3::float8 * interval '1 millisecond'
     WHERE name = $1 AND fence = $2::bigint AND owner IS NOT NULL AND expires_at > clock_timestamp()
     RETURNING 1`, [name, fence, ttlMs])
  return rows.length === 1
}

/** Primary key. A late release of an old fence matches nothing. */
async function release(tx: SqlTx, name: string, fence: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.lease SET owner = NULL, expires_at = '-infinity'
     WHERE name = $1 AND fence = $2::bigint AND owner IS NOT NULL
     RETURNING 1`, [name, fence])
  return rows.length === 1
}

/** `UNIQUE (name, fence)`. While it is locked a take-over waits; one that came first has changed the fence, and nothing is found. */
async function guard(tx: SqlTx, name: string, fence: number): Promise<boolean> {
  const rows = await tx.query(`
    SELECT 1 FROM holdfast.lease
     WHERE name = $1 AND fence = $2::bigint AND expires_at > clock_timestamp()
     FOR KEY SHARE`, [name, fence])
  return rows.length === 1
}

/** Small table, scanned. Two sweeps at once skip each other's rows. */
async function reap(tx: SqlTx, olderThanMs: number, limit: number): Promise<readonly string[]> {
  const rows = await tx.query<{ name: string }>(`
    UPDATE holdfast.lease SET owner = NULL
     WHERE name IN (SELECT name FROM holdfast.lease
                     WHERE owner IS NOT NULL AND expires_at < clock_timestamp() - $1::float8 * interval '1 millisecond'
                     LIMIT $2 FOR UPDATE SKIP LOCKED)
     RETURNING name`, [olderThanMs, limit])
  return rows.map(row => row.name)
}
