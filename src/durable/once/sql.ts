/**
 * Records of keys in PostgreSQL's dialect. Primary key (name, key) serves every statement but the scans at the end.
 *
 * Input and result are text and not jsonb: a replayed answer is byte for byte the first one.
 */
import type { SqlTx } from '../../store/index.ts'
import { SETTLE_ATTEMPTS_MAX, type LocalClaim, type OnceClaim, type OncePort, type OnceRecord, type OnceState } from './port.ts'

export const onceSql: OncePort<SqlTx> = { begin, finish, claim, read, expire, takeOver, renew, complete, release, markUnknown, stuck, unknown, settleByHand, prune }

interface Row {
  readonly name: string
  readonly key: string
  readonly state: OnceState
  readonly fingerprint: string
  readonly input: string
  readonly result: string | null
  readonly owner: string | null
  readonly fence: string
  readonly live: boolean
  readonly lease_left_ms: number
  readonly attempts: number
  readonly reason: string | null
  readonly since_ms: number
}

const COLUMNS = `name, key, state, fingerprint, input, result, owner, fence, attempts, reason,
  state = 'started' AND lease_until > clock_timestamp() AS live,
  (greatest(0, extract(epoch FROM lease_until - clock_timestamp()) * 1000))::float8 AS lease_left_ms,
  (extract(epoch FROM updated_at) * 1000)::float8 AS since_ms`

function recordOf(row: Row): OnceRecord & { readonly name: string } {
  const { name, key, state, fingerprint, input, result, owner, fence, live, lease_left_ms, attempts, reason, since_ms } = row
  return { name, key, state, fingerprint, input, result, owner, fence: Number(fence), live, leaseLeftMs: lease_left_ms, attempts, reason, sinceMs: since_ms }
}

/**
 * True for a new key, and for one that was released. Nothing is locked or written where the key is taken, so that a replay costs no commit.
 * The row is `done` from the start and only its result is missing: nobody else sees it before `finish`, which then changes no
 * indexed column (a HOT update) and rides with the COMMIT.
 */
async function begin(tx: SqlTx, record: LocalClaim): Promise<boolean> {
  return await insertLocal(tx, record) || await reopenLocal(tx, record)
}

/** A duplicate waits on the unique key until the first commits (then it inserts nothing) or rolls back (then it inserts), or fails with 55P03. */
async function insertLocal(tx: SqlTx, { name, key, fingerprint, keepForMs }: LocalClaim): Promise<boolean> {
  const rows = await tx.query(`
    INSERT INTO holdfast.once_record (name, key, state, fingerprint, fence, expires_at)
    VALUES ($1, $2, 'done', $3, 1, clock_timestamp() + $4::float8 * interval '1 millisecond')
    ON CONFLICT (name, key) DO NOTHING RETURNING 1`, [name, key, fingerprint, keepForMs])
  return rows.length === 1
}

/** Of two callers the second waits for the row and fails the WHERE. */
async function reopenLocal(tx: SqlTx, { name, key, fingerprint, keepForMs }: LocalClaim): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.once_record
       SET state = 'done', result = NULL, fingerprint = $3, input = '', fence = fence + 1, attempts = 0, reason = NULL, lease_until = NULL,
           updated_at = clock_timestamp(), expires_at = clock_timestamp() + $4::float8 * interval '1 millisecond'
     WHERE name = $1 AND key = $2 AND state = 'released' RETURNING 1`, [name, key, fingerprint, keepForMs])
  return rows.length === 1
}

/** Same transaction as `begin`: nobody else sees the row before it is done. */
async function finish(tx: SqlTx, name: string, key: string, result: string): Promise<void> {
  await tx.query(`UPDATE holdfast.once_record SET result = $3, updated_at = clock_timestamp() WHERE name = $1 AND key = $2`, [name, key, result])
}

async function claim(tx: SqlTx, wanted: OnceClaim): Promise<number | undefined> {
  return await insertClaim(tx, wanted) ?? await reclaim(tx, wanted)
}

/** Of two callers one inserts; the second waits for its commit and inserts nothing. */
async function insertClaim(tx: SqlTx, { name, key, fingerprint, input, owner, leaseMs }: OnceClaim): Promise<number | undefined> {
  return fenceOf(await tx.query<{ fence: string }>(`
    INSERT INTO holdfast.once_record (name, key, state, fingerprint, input, owner, fence, attempts, lease_until)
    VALUES ($1, $2, 'started', $3, $4, $5, 1, 1, clock_timestamp() + $6::float8 * interval '1 millisecond')
    ON CONFLICT (name, key) DO NOTHING RETURNING fence`, [name, key, fingerprint, input, owner, leaseMs]))
}

/** What was released; and this very claim again, when the answer of its commit was lost. Of two callers the second fails the WHERE. */
async function reclaim(tx: SqlTx, { name, key, fingerprint, input, owner, leaseMs }: OnceClaim): Promise<number | undefined> {
  return fenceOf(await tx.query<{ fence: string }>(`
    UPDATE holdfast.once_record
       SET state = 'started', fingerprint = $3, input = $4, owner = $5, result = NULL, reason = NULL, expires_at = NULL, updated_at = clock_timestamp(),
           fence = CASE WHEN state = 'released' THEN fence + 1 ELSE fence END, attempts = CASE WHEN state = 'released' THEN 1 ELSE attempts END,
           lease_until = clock_timestamp() + $6::float8 * interval '1 millisecond'
     WHERE name = $1 AND key = $2 AND (state = 'released' OR (state = 'started' AND owner = $5))
     RETURNING fence`, [name, key, fingerprint, input, owner, leaseMs]))
}

async function read(tx: SqlTx, name: string, key: string): Promise<OnceRecord | undefined> {
  const rows = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.once_record WHERE name = $1 AND key = $2`, [name, key])
  const row = rows[0]
  return row === undefined ? undefined : recordOf(row)
}

/** A heartbeat that comes at the same time wins or loses by the row lock; the WHERE is checked again after it. */
async function expire(tx: SqlTx, name: string, key: string): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.once_record SET state = 'unknown', owner = NULL, reason = 'its holder died', lease_until = clock_timestamp(), updated_at = clock_timestamp()
     WHERE name = $1 AND key = $2 AND state = 'started' AND lease_until <= clock_timestamp()
     RETURNING 1`, [name, key])
  return rows.length === 1
}

/** Of two settlers the second finds another fence. */
async function takeOver(tx: SqlTx, name: string, key: string, fence: number, owner: string, leaseMs: number): Promise<number | undefined> {
  const rows = await tx.query<{ fence: string }>(`
    UPDATE holdfast.once_record
       SET state = 'started', owner = $4, fence = fence + 1, attempts = attempts + 1, lease_until = clock_timestamp() + $5::float8 * interval '1 millisecond', updated_at = clock_timestamp()
     WHERE name = $1 AND key = $2 AND fence = $3::bigint AND state = 'unknown'
     RETURNING fence`, [name, key, fence, owner, leaseMs])
  return fenceOf(rows)
}

/** An expired lease is not renewed: a sweep may be about to call it unknown. */
async function renew(tx: SqlTx, name: string, key: string, fence: number, leaseMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.once_record SET lease_until = clock_timestamp() + $4::float8 * interval '1 millisecond'
     WHERE name = $1 AND key = $2 AND fence = $3::bigint AND state = 'started' AND lease_until > clock_timestamp()
     RETURNING 1`, [name, key, fence, leaseMs])
  return rows.length === 1
}

/** Late but not yet taken over is still this fence's: its result is better than a guess. */
async function complete(tx: SqlTx, name: string, key: string, fence: number, result: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.once_record
       SET state = 'done', result = $4, owner = NULL, reason = NULL, lease_until = NULL, updated_at = clock_timestamp(),
           expires_at = clock_timestamp() + $5::float8 * interval '1 millisecond'
     WHERE name = $1 AND key = $2 AND fence = $3::bigint AND state IN ('started', 'unknown')
     RETURNING 1`, [name, key, fence, result, keepForMs])
  return rows.length === 1
}

async function release(tx: SqlTx, name: string, key: string, fence: number, reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.once_record
       SET state = 'released', owner = NULL, reason = $4, lease_until = NULL, updated_at = clock_timestamp(), expires_at = clock_timestamp() + $5::float8 * interval '1 millisecond'
     WHERE name = $1 AND key = $2 AND fence = $3::bigint AND state = 'started'
     RETURNING 1`, [name, key, fence, reason, keepForMs])
  return rows.length === 1
}

async function markUnknown(tx: SqlTx, name: string, key: string, fence: number, reason: string, retryInMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.once_record
       SET state = 'unknown', owner = NULL, reason = $4, lease_until = clock_timestamp() + $5::float8 * interval '1 millisecond', updated_at = clock_timestamp()
     WHERE name = $1 AND key = $2 AND fence = $3::bigint AND state IN ('started', 'unknown')
     RETURNING 1`, [name, key, fence, reason, retryInMs])
  return rows.length === 1
}

/** Index once_record_open (partial: started, unknown). Only reads: whoever settles re-checks. */
async function stuck(tx: SqlTx, name: string, unknownToo: boolean, limit: number): Promise<readonly string[]> {
  const rows = await tx.query<{ key: string }>(`
    SELECT key FROM holdfast.once_record
     WHERE state IN ('started', 'unknown') AND lease_until <= clock_timestamp() AND name = $1 AND (state = 'started' OR ($2::boolean AND attempts < $4))
     ORDER BY lease_until LIMIT $3`, [name, unknownToo, limit, SETTLE_ATTEMPTS_MAX])
  return rows.map(row => row.key)
}

/** Index once_record_open. */
async function unknown(tx: SqlTx, limit: number): Promise<readonly (OnceRecord & { readonly name: string })[]> {
  const rows = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.once_record WHERE state = 'unknown' ORDER BY lease_until LIMIT $1`, [limit])
  return rows.map(recordOf)
}

/** A settler at work has made it `started`: then this changes nothing. */
async function settleByHand(tx: SqlTx, name: string, key: string, as: 'released' | 'discarded', reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.once_record
       SET state = $3, reason = $4, fence = fence + 1, lease_until = NULL, updated_at = clock_timestamp(), expires_at = clock_timestamp() + $5::float8 * interval '1 millisecond'
     WHERE name = $1 AND key = $2 AND state = 'unknown'
     RETURNING 1`, [name, key, as, reason, keepForMs])
  return rows.length === 1
}

/** Index once_record_expires, of which only what has expired is read (inbox/sql.ts). Two sweeps at once skip each other's rows. */
async function prune(tx: SqlTx, limit: number): Promise<number> {
  const rows = await tx.query(`
    DELETE FROM holdfast.once_record
     WHERE ctid = ANY (ARRAY (SELECT ctid FROM holdfast.once_record
                            WHERE expires_at < (SELECT clock_timestamp()) AND state IN ('done', 'released', 'discarded') ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
     RETURNING 1`, [limit])
  return rows.length
}

function fenceOf(rows: readonly { readonly fence: string }[]): number | undefined {
  const row = rows[0]
  return row === undefined ? undefined : Number(row.fence)
}
