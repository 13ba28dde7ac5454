/**
 * The outbox in PostgreSQL's dialect.
 *
 * Numbers of a lane are given out under the lock of its row in outbox_lane, so that their order is the order of commits:
 * a relay that goes by ids alone overtakes transactions that are still open (2,326 of 4,870 messages lost in a test).
 * Who may send from a lane is kept in another table (outbox_sender), so that a sender never waits for a user's transaction.
 */
import type { SqlTx } from '../../store/index.ts'
import { ALL_LANES, type NewMessage, type OutboxPort, type OutboxRow, type OutboxState, type Settlement } from './port.ts'

export const outboxSql: OutboxPort<SqlTx> = {
  enqueue, dueLanes, takeLane, renewLane, releaseLane, head, isPaused, markSending, settle, pause, abandoned, stuck, backlog, settleByHand, prune,
}

interface Row {
  readonly lane: string
  readonly seq: string
  readonly topic: string
  readonly once_key: string
  readonly payload: string
  readonly state: OutboxState
  readonly attempts: number
  readonly fence: string
  readonly holds_lane: boolean
  readonly due: boolean
  readonly late: boolean
  readonly reason: string | null
  readonly since_ms: number
}

const COLUMNS = `m.lane, m.seq, m.topic, m.once_key, m.payload, m.state, m.attempts, m.fence, m.holds_lane, m.reason,
  m.wake_at <= clock_timestamp() AS due, coalesce(m.send_before <= clock_timestamp(), false) AS late, (extract(epoch FROM m.updated_at) * 1000)::float8 AS since_ms`
/** Of the partial index outbox_open (lane, seq). */
const OPEN = `(m.state IN ('queued', 'sending') OR m.holds_lane)`

function rowOf({ seq, once_key, fence, holds_lane, since_ms, ...row }: Row): OutboxRow {
  return { ...row, seq: Number(seq), onceKey: once_key, fence: Number(fence), holdsLane: holds_lane, sinceMs: since_ms }
}

/** Unique (once_key). Of two callers with one key the second waits for the first, on the lane or on the key, and inserts nothing; a number may be skipped. */
async function enqueue(tx: SqlTx, { lane, topic, onceKey, payload, sendWithinMs }: NewMessage): Promise<boolean> {
  const rows = await tx.query(`
    WITH numbered AS (
      INSERT INTO holdfast.outbox_lane AS l (lane, last_seq)
      SELECT $1, 1 WHERE NOT EXISTS (SELECT 1 FROM holdfast.outbox_message WHERE once_key = $3)
      ON CONFLICT (lane) DO UPDATE SET last_seq = l.last_seq + 1
      RETURNING last_seq)
    INSERT INTO holdfast.outbox_message (lane, seq, topic, once_key, payload, send_before)
    SELECT $1, last_seq, $2, $3, $4, clock_timestamp() + $5::float8 * interval '1 millisecond' FROM numbered
    ON CONFLICT (once_key) DO NOTHING
    RETURNING 1`, [lane, topic, onceKey, payload, sendWithinMs ?? null])
  return rows.length === 1
}

/** Index outbox_open gives the head of each lane. Only reads: who takes a lane re-checks. */
async function dueLanes(tx: SqlTx, topics: readonly string[], limit: number): Promise<readonly string[]> {
  const rows = await tx.query<{ lane: string }>(`
    SELECT h.lane
      FROM (SELECT DISTINCT ON (m.lane) m.lane, m.topic, m.wake_at, m.holds_lane FROM holdfast.outbox_message m WHERE ${OPEN} ORDER BY m.lane, m.seq) h
      LEFT JOIN holdfast.outbox_sender s ON s.lane = h.lane
     WHERE NOT h.holds_lane AND h.wake_at <= clock_timestamp() AND h.topic = ANY($1::text[])
       AND (s.lane IS NULL OR (s.lease_until <= clock_timestamp() AND s.paused_until <= clock_timestamp()))
       AND NOT EXISTS (SELECT 1 FROM holdfast.outbox_sender a WHERE a.lane = '${ALL_LANES}' AND a.paused_until > clock_timestamp())
     ORDER BY h.wake_at LIMIT $2`, [topics, limit])
  return rows.map(row => row.lane)
}

async function takeLane(tx: SqlTx, lane: string, owner: string, leaseMs: number): Promise<number | undefined> {
  return await retakeLane(tx, lane, owner, leaseMs) ?? await firstLane(tx, lane, owner, leaseMs)
}

/** Primary key. Of two callers the second waits for the row, fails the WHERE and gets nothing. */
async function retakeLane(tx: SqlTx, lane: string, owner: string, leaseMs: number): Promise<number | undefined> {
  const rows = await tx.query<{ fence: string }>(`
    UPDATE holdfast.outbox_sender SET owner = $2, fence = fence + 1, lease_until = clock_timestamp() + $3::float8 * interval '1 millisecond'
     WHERE lane = $1 AND lease_until <= clock_timestamp() RETURNING fence`, [lane, owner, leaseMs])
  return rows[0] === undefined ? undefined : Number(rows[0].fence)
}

async function firstLane(tx: SqlTx, lane: string, owner: string, leaseMs: number): Promise<number | undefined> {
  const rows = await tx.query<{ fence: string }>(`
    INSERT INTO holdfast.outbox_sender (lane, owner, fence, lease_until) VALUES ($1, $2, 1, clock_timestamp() + $3::float8 * interval '1 millisecond')
    ON CONFLICT (lane) DO NOTHING RETURNING fence`, [lane, owner, leaseMs])
  return rows[0] === undefined ? undefined : Number(rows[0].fence)
}

async function renewLane(tx: SqlTx, lane: string, fence: number, leaseMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.outbox_sender SET lease_until = clock_timestamp() + $3::float8 * interval '1 millisecond'
     WHERE lane = $1 AND fence = $2::bigint AND lease_until > clock_timestamp() RETURNING 1`, [lane, fence, leaseMs])
  return rows.length === 1
}

async function releaseLane(tx: SqlTx, lane: string, fence: number): Promise<boolean> {
  const rows = await tx.query(`UPDATE holdfast.outbox_sender SET owner = NULL, lease_until = '-infinity' WHERE lane = $1 AND fence = $2::bigint RETURNING 1`, [lane, fence])
  return rows.length === 1
}

/** Index outbox_open. */
async function head(tx: SqlTx, lane: string): Promise<OutboxRow | undefined> {
  const rows = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.outbox_message m WHERE m.lane = $1 AND ${OPEN} ORDER BY m.seq LIMIT 1`, [lane])
  return rows[0] === undefined ? undefined : rowOf(rows[0])
}

async function isPaused(tx: SqlTx, lane: string): Promise<boolean> {
  return (await tx.query(`SELECT 1 FROM holdfast.outbox_sender WHERE lane IN ($1, '${ALL_LANES}') AND paused_until > clock_timestamp() LIMIT 1`, [lane])).length === 1
}

/** In a transaction that renewed the lane before: nobody else can be here. */
async function markSending(tx: SqlTx, lane: string, seq: number, fence: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.outbox_message SET state = 'sending', fence = $3::bigint, attempts = attempts + 1, updated_at = clock_timestamp()
     WHERE lane = $1 AND seq = $2::bigint AND state IN ('queued', 'sending') RETURNING 1`, [lane, seq, fence])
  return rows.length === 1
}

/** Primary key (lane, seq). The same settlement twice (the answer of its commit was lost) changes nothing and is true. */
async function settle(tx: SqlTx, lane: string, seq: number, fence: number, to: Settlement): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.outbox_message
       SET state = $4, reason = $5, holds_lane = $6, attempts = $9, wake_at = clock_timestamp() + $7::float8 * interval '1 millisecond', updated_at = clock_timestamp(),
           expires_at = CASE WHEN $4 IN ('sent', 'expired') THEN clock_timestamp() + $8::float8 * interval '1 millisecond' END
     WHERE lane = $1 AND seq = $2::bigint AND fence = $3::bigint AND (state IN ('sending', 'unknown', $4) OR (state = 'queued' AND $4 = 'expired'))
     RETURNING 1`, [lane, seq, fence, to.state, to.reason, to.holdsLane, to.retryInMs, to.keepForMs, to.attempts])
  return rows.length === 1
}

/** Two callers: the longer pause stands. */
async function pause(tx: SqlTx, lane: string, forMs: number): Promise<void> {
  await tx.query(`
    INSERT INTO holdfast.outbox_sender AS s (lane, fence, lease_until, paused_until) VALUES ($1, 0, '-infinity', clock_timestamp() + $2::float8 * interval '1 millisecond')
    ON CONFLICT (lane) DO UPDATE SET paused_until = greatest(s.paused_until, excluded.paused_until)`, [lane, forMs])
}

/** Index outbox_open. Locked, so that a sender which takes the lane at this moment waits and finds it settled. */
async function abandoned(tx: SqlTx, limit: number): Promise<readonly OutboxRow[]> {
  const rows = await tx.query<Row>(`
    SELECT ${COLUMNS} FROM holdfast.outbox_message m JOIN holdfast.outbox_sender s ON s.lane = m.lane
     WHERE m.state = 'sending' AND s.lease_until <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED`, [limit])
  return rows.map(rowOf)
}

/** Index outbox_stuck. */
async function stuck(tx: SqlTx, limit: number): Promise<readonly OutboxRow[]> {
  return (await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.outbox_message m WHERE m.state IN ('dead', 'unknown') ORDER BY m.updated_at LIMIT $1`, [limit])).map(rowOf)
}

/** Index outbox_open. */
async function backlog(tx: SqlTx, max: number): Promise<readonly { readonly name: string; readonly waiting: number; readonly oldestMs: number }[]> {
  return tx.query(`
    SELECT topic AS name, count(*)::int AS waiting, (greatest(0, extract(epoch FROM clock_timestamp() - min(created_at)) * 1000))::float8 AS "oldestMs"
      FROM (SELECT m.topic, m.created_at FROM holdfast.outbox_message m WHERE m.state IN ('queued', 'sending') LIMIT $1) waiting
     GROUP BY topic ORDER BY topic`, [max])
}

async function settleByHand(tx: SqlTx, onceKey: string, as: 'queued' | 'discarded', reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.outbox_message
       SET state = $2, reason = $3, holds_lane = false, attempts = 0, send_before = NULL, wake_at = clock_timestamp(), updated_at = clock_timestamp(),
           expires_at = CASE WHEN $2 = 'discarded' THEN clock_timestamp() + $4::float8 * interval '1 millisecond' END
     WHERE once_key = $1 AND state IN ('dead', 'unknown') RETURNING 1`, [onceKey, as, reason, keepForMs])
  return rows.length === 1
}

/** Index outbox_expires, of which only what has expired is read (inbox/sql.ts). Rows of outbox_lane stay: numbers must not begin again. */
async function prune(tx: SqlTx, limit: number): Promise<number> {
  const rows = await tx.query(`
    DELETE FROM holdfast.outbox_message
     WHERE ctid = ANY (ARRAY (SELECT ctid FROM holdfast.outbox_message WHERE expires_at < (SELECT clock_timestamp()) ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
     RETURNING 1`, [limit])
  return rows.length
}
