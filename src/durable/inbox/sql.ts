/**
 * The inbox in PostgreSQL's dialect.
 *
 * Index inbox_open (source, lane, seq, partial: queued, working) finds the head of each lane; the unique index
 * inbox_working (source, lane, partial: working) makes the server itself refuse a second row of a lane at work, which
 * no snapshot of another transaction could promise.
 */
import type { SqlTx } from '../../store/index.ts'
import type { InboxPort, InboxRow, ParkedRow } from './port.ts'

export const inboxSql: InboxPort<SqlTx> = { claim, next, parkExhausted, renew, done, fail, parked, backlog, settleByHand, prune }

/** Primary key (source, id). Of two callers the second waits for the first to commit and inserts nothing. */
async function claim(tx: SqlTx, row: { readonly source: string; readonly id: string; readonly lane: string; readonly priority: number; readonly payload: string }): Promise<boolean> {
  const rows = await tx.query(`
    INSERT INTO holdfast.inbox_row (source, id, lane, priority, payload) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (source, id) DO NOTHING RETURNING 1`, [row.source, row.id, row.lane, row.priority, row.payload])
  return rows.length === 1
}

/**
 * Index inbox_open. A working row counts as the head of its lane, so that nothing of the lane is taken beside it.
 * Two callers skip each other's rows; where their snapshots disagree about a lane, the second fails with 23505 and asks again.
 */
async function next(tx: SqlTx, source: string, owner: string, leaseMs: number, limit: number): Promise<readonly InboxRow[]> {
  const rows = await tx.query<{ source: string; id: string; lane: string; priority: number; payload: string; attempts: number; fence: string; received_ms: number }>(`
    WITH head AS (
      SELECT DISTINCT ON (lane) seq, priority, state, wake_at, lease_until
        FROM holdfast.inbox_row WHERE source = $1 AND state IN ('queued', 'working')
       ORDER BY lane, (state = 'working') DESC, seq),
    due AS (
      SELECT seq FROM head
       WHERE (state = 'queued' AND wake_at <= clock_timestamp()) OR (state = 'working' AND lease_until <= clock_timestamp())
       ORDER BY priority, seq LIMIT $4),
    mine AS (
      SELECT r.source, r.id FROM holdfast.inbox_row r JOIN due USING (seq)
       WHERE (r.state = 'queued' AND r.wake_at <= clock_timestamp()) OR (r.state = 'working' AND r.lease_until <= clock_timestamp())
       FOR UPDATE OF r SKIP LOCKED)
    UPDATE holdfast.inbox_row r
       SET state = 'working', owner = $2, fence = r.fence + 1, attempts = r.attempts + 1, lease_until = clock_timestamp() + $3::float8 * interval '1 millisecond'
      FROM mine WHERE r.source = mine.source AND r.id = mine.id
     RETURNING r.source, r.id, r.lane, r.priority, r.payload, r.attempts, r.fence, (extract(epoch FROM r.received_at) * 1000)::float8 AS received_ms`, [source, owner, leaseMs, limit])
  return rows
    .map(({ attempts, fence, received_ms, ...row }) => ({ ...row, attempt: attempts, fence: Number(fence), receivedAtMs: received_ms }))
    .sort((a, b) => a.priority - b.priority)
}

/** Index inbox_open. Two callers skip each other's rows. */
async function parkExhausted(tx: SqlTx, source: string | undefined, attemptsMax: number, limit: number): Promise<readonly ParkedRow[]> {
  const rows = await tx.query<Parked>(`
    UPDATE holdfast.inbox_row SET state = 'parked', owner = NULL, reason = coalesce(reason || '; ', '') || 'its holder died', lease_until = NULL, wake_at = clock_timestamp()
     WHERE (source, id) IN (SELECT source, id FROM holdfast.inbox_row
                             WHERE state = 'working' AND lease_until <= clock_timestamp() AND attempts >= $2 AND ($1::text IS NULL OR source = $1)
                             LIMIT $3 FOR UPDATE SKIP LOCKED)
     RETURNING ${PARKED}`, [source ?? null, attemptsMax, limit])
  return rows.map(parkedOf)
}

async function renew(tx: SqlTx, source: string, id: string, fence: number, leaseMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.inbox_row SET lease_until = clock_timestamp() + $4::float8 * interval '1 millisecond'
     WHERE source = $1 AND id = $2 AND fence = $3::bigint AND state = 'working' AND lease_until > clock_timestamp() RETURNING 1`, [source, id, fence, leaseMs])
  return rows.length === 1
}

/** Late but not overtaken still counts: the work is done. */
async function done(tx: SqlTx, source: string, id: string, fence: number, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.inbox_row SET state = 'done', owner = NULL, reason = NULL, lease_until = NULL, expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond'
     WHERE source = $1 AND id = $2 AND fence = $3::bigint AND state IN ('working', 'done') RETURNING 1`, [source, id, fence, keepForMs])
  return rows.length === 1
}

async function fail(tx: SqlTx, source: string, id: string, fence: number, reason: string, retryInMs: number | undefined): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.inbox_row
       SET state = CASE WHEN $5::float8 IS NULL THEN 'parked' ELSE 'queued' END, owner = NULL, reason = $4, lease_until = NULL,
           wake_at = clock_timestamp() + coalesce($5::float8, 0) * interval '1 millisecond'
     WHERE source = $1 AND id = $2 AND fence = $3::bigint AND state = 'working' RETURNING 1`, [source, id, fence, reason, retryInMs ?? null])
  return rows.length === 1
}

/** Index inbox_parked. */
async function parked(tx: SqlTx, limit: number): Promise<readonly ParkedRow[]> {
  return (await tx.query<Parked>(`SELECT ${PARKED} FROM holdfast.inbox_row WHERE state = 'parked' ORDER BY wake_at LIMIT $1`, [limit])).map(parkedOf)
}

/** Index inbox_open. */
async function backlog(tx: SqlTx, max: number): Promise<readonly { readonly name: string; readonly waiting: number; readonly oldestMs: number }[]> {
  return tx.query(`
    SELECT source AS name, count(*)::int AS waiting, (greatest(0, extract(epoch FROM clock_timestamp() - min(received_at)) * 1000))::float8 AS "oldestMs"
      FROM (SELECT source, received_at FROM holdfast.inbox_row WHERE state IN ('queued', 'working') LIMIT $1) waiting
     GROUP BY source ORDER BY source`, [max])
}

/** A new seq: it must not come before a row of its lane that is at work. */
async function settleByHand(tx: SqlTx, source: string, id: string, as: 'queued' | 'discarded', reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.inbox_row
       SET state = $3, reason = $4, attempts = 0, wake_at = clock_timestamp(), seq = nextval(pg_get_serial_sequence('holdfast.inbox_row', 'seq')),
           expires_at = CASE WHEN $3 = 'discarded' THEN clock_timestamp() + $5::float8 * interval '1 millisecond' END
     WHERE source = $1 AND id = $2 AND state = 'parked' RETURNING 1`, [source, id, as, reason, keepForMs])
  return rows.length === 1
}

/**
 * Index inbox_expires. Only what has expired is read: asked in a SELECT of its own the time is a constant to the index, and by their ctid, locked in
 * the same statement, rows are deleted without another look at the table.
 */
async function prune(tx: SqlTx, limit: number): Promise<number> {
  const rows = await tx.query(`
    DELETE FROM holdfast.inbox_row
     WHERE ctid = ANY (ARRAY (SELECT ctid FROM holdfast.inbox_row WHERE expires_at < (SELECT clock_timestamp()) ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
     RETURNING 1`, [limit])
  return rows.length
}

interface Parked { readonly source: string; readonly id: string; readonly attempts: number; readonly reason: string | null; readonly since_ms: number }
const PARKED = 'source, id, attempts, reason, (extract(epoch FROM wake_at) * 1000)::float8 AS since_ms'

function parkedOf({ since_ms, ...row }: Parked): ParkedRow {
  return { ...row, sinceMs: since_ms }
}
