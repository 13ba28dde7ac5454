/**
 * The journal in PostgreSQL's dialect.
 *
 * `UNIQUE (saga, id, fence)` makes the fence a key column: a journal write locks the run FOR KEY SHARE, so a take-over (which
 * changes the fence) waits for it or comes first and makes it find nothing; heartbeats pass.
 */
import type { SqlTx } from '../../store/index.ts'
import type { RunKey, RunRow, RunState, SagaPort, StepRow } from './port.ts'

export const sagaSql: SagaPort<SqlTx> = { begin, read, take, steps, renew, journal, turn, park, close, due, stuck, retryByHand, closeByHand, resolveStep, prune }

interface Row {
  readonly saga: string
  readonly id: string
  readonly version: number
  readonly state: RunState
  readonly direction: 'forward' | 'undo'
  readonly input: string
  readonly fingerprint: string
  readonly result: string | null
  readonly reason: string | null
  readonly fence: string
  readonly attempts: number
  readonly wait_ms: number
  readonly live: boolean
  readonly age_ms: number
  readonly since_ms: number
}

const COLUMNS = `saga, id, version, state, direction, input, fingerprint, result, reason, fence, attempts, lease_until > clock_timestamp() AS live,
  (greatest(0, extract(epoch FROM greatest(lease_until, wake_at) - clock_timestamp()) * 1000))::float8 AS wait_ms,
  (extract(epoch FROM clock_timestamp() - started_at) * 1000)::float8 AS age_ms, (extract(epoch FROM updated_at) * 1000)::float8 AS since_ms`

function runOf({ fence, wait_ms, age_ms, since_ms, ...row }: Row): RunRow & { readonly saga: string } {
  return { ...row, fence: Number(fence), waitMs: wait_ms, ageMs: age_ms, sinceMs: since_ms }
}

/** Primary key. Of two callers the second waits for the first to commit and inserts nothing. */
async function begin(tx: SqlTx, run: Parameters<SagaPort<SqlTx>['begin']>[1]): Promise<number | undefined> {
  const rows = await tx.query(`
    INSERT INTO holdfast.saga_run (saga, id, version, input, fingerprint, owner, fence, lease_until)
    VALUES ($1, $2, $3, $4, $5, $6, 1, clock_timestamp() + $7::float8 * interval '1 millisecond')
    ON CONFLICT (saga, id) DO NOTHING RETURNING 1`, [run.saga, run.id, run.version, run.input, run.fingerprint, run.owner, run.leaseMs])
  return rows.length === 1 ? 1 : undefined
}

async function read(tx: SqlTx, { saga, id }: RunKey): Promise<RunRow | undefined> {
  const rows = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.saga_run WHERE saga = $1 AND id = $2`, [saga, id])
  return rows[0] === undefined ? undefined : runOf(rows[0])
}

/** Primary key. Waits for journal writes of the old fence; of two callers the second fails the WHERE. */
async function take(tx: SqlTx, { saga, id }: RunKey, version: number, owner: string, leaseMs: number): Promise<number | undefined> {
  const rows = await tx.query<{ fence: string }>(`
    UPDATE holdfast.saga_run
       SET owner = $4, fence = CASE WHEN owner = $4 THEN fence ELSE fence + 1 END, lease_until = clock_timestamp() + $5::float8 * interval '1 millisecond'
     WHERE saga = $1 AND id = $2 AND version = $3 AND state IN ('running', 'undoing')
       AND ((lease_until <= clock_timestamp() AND wake_at <= clock_timestamp()) OR owner = $4)
     RETURNING fence`, [saga, id, version, owner, leaseMs])
  return rows[0] === undefined ? undefined : Number(rows[0].fence)
}

async function steps(tx: SqlTx, { saga, id }: RunKey): Promise<readonly StepRow[]> {
  return tx.query<StepRow>(`SELECT seq, name, state, output FROM holdfast.saga_step WHERE saga = $1 AND id = $2 ORDER BY seq`, [saga, id])
}

async function renew(tx: SqlTx, { saga, id }: RunKey, fence: number, leaseMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET lease_until = clock_timestamp() + $4::float8 * interval '1 millisecond'
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND owner IS NOT NULL AND lease_until > clock_timestamp() RETURNING 1`, [saga, id, fence, leaseMs])
  return rows.length === 1
}

/** `UNIQUE (saga, id, fence)`; one statement, so that the end of a step and the intent of the next are one commit and one round trip. */
async function journal(tx: SqlTx, { saga, id }: RunKey, fence: number, entries: readonly StepRow[]): Promise<boolean> {
  const rows = await tx.query<{ live: boolean }>(`
    WITH run AS MATERIALIZED (
      SELECT saga, id FROM holdfast.saga_run
       WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state IN ('running', 'undoing') AND lease_until > clock_timestamp()
       FOR KEY SHARE),
    written AS (
      INSERT INTO holdfast.saga_step (saga, id, seq, name, state, output)
      SELECT run.saga, run.id, e.seq, e.name, e.state, e.output FROM run, jsonb_to_recordset($4::text::jsonb) AS e (seq integer, name text, state text, output text)
      ON CONFLICT (saga, id, seq) DO UPDATE SET state = excluded.state, output = excluded.output, updated_at = clock_timestamp())
    SELECT EXISTS (SELECT 1 FROM run) AS live`, [saga, id, fence, JSON.stringify(entries)])
  return rows[0]?.live === true
}

async function turn(tx: SqlTx, { saga, id }: RunKey, fence: number, reason: string): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET state = 'undoing', direction = 'undo', reason = $4, attempts = 0, updated_at = clock_timestamp()
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state = 'running' AND lease_until > clock_timestamp() RETURNING 1`, [saga, id, fence, reason])
  return rows.length === 1
}

async function park(tx: SqlTx, { saga, id }: RunKey, fence: number, reason: string, wakeInMs: number, counts: boolean): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run
       SET owner = NULL, lease_until = '-infinity', wake_at = clock_timestamp() + $5::float8 * interval '1 millisecond', attempts = attempts + $6::int, reason = $4, updated_at = clock_timestamp()
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state IN ('running', 'undoing') AND owner IS NOT NULL RETURNING 1`, [saga, id, fence, reason, wakeInMs, counts ? 1 : 0])
  return rows.length === 1
}

async function close(tx: SqlTx, { saga, id }: RunKey, fence: number, state: 'done' | 'undone' | 'needs-human', result: string | null, reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run
       SET state = $4, result = $5, reason = $6, owner = NULL, lease_until = '-infinity', updated_at = clock_timestamp(),
           expires_at = CASE WHEN $4 <> 'needs-human' THEN clock_timestamp() + $7::float8 * interval '1 millisecond' END
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state IN ('running', 'undoing') AND owner IS NOT NULL RETURNING 1`, [saga, id, fence, state, result, reason, keepForMs])
  return rows.length === 1
}

/** Index saga_open. Only reads: who takes a run re-checks. */
async function due(tx: SqlTx, saga: string, version: number, limit: number): Promise<readonly string[]> {
  const rows = await tx.query<{ id: string }>(`
    SELECT id FROM holdfast.saga_run
     WHERE state IN ('running', 'undoing') AND saga = $1 AND version = $2 AND wake_at <= clock_timestamp() AND lease_until <= clock_timestamp()
     ORDER BY wake_at LIMIT $3`, [saga, version, limit])
  return rows.map(row => row.id)
}

/** Index saga_stuck. */
async function stuck(tx: SqlTx, limit: number): Promise<readonly (RunRow & { readonly saga: string })[]> {
  return (await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.saga_run WHERE state = 'needs-human' ORDER BY updated_at LIMIT $1`, [limit])).map(runOf)
}

async function retryByHand(tx: SqlTx, { saga, id }: RunKey, reason: string): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run
       SET state = CASE direction WHEN 'undo' THEN 'undoing' ELSE 'running' END, attempts = 0, started_at = clock_timestamp(), wake_at = clock_timestamp(), reason = $3, updated_at = clock_timestamp()
     WHERE saga = $1 AND id = $2 AND state = 'needs-human' RETURNING 1`, [saga, id, reason])
  return rows.length === 1
}

async function closeByHand(tx: SqlTx, { saga, id }: RunKey, state: 'done' | 'undone', reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET state = $3, reason = $4, fence = fence + 1, updated_at = clock_timestamp(), expires_at = clock_timestamp() + $5::float8 * interval '1 millisecond'
     WHERE saga = $1 AND id = $2 AND state = 'needs-human' RETURNING 1`, [saga, id, state, reason, keepForMs])
  return rows.length === 1
}

/** The run is locked first, so that a retry at the same moment sees the step before or after, not between. */
async function resolveStep(tx: SqlTx, { saga, id }: RunKey, output: string | undefined, reason: string): Promise<boolean> {
  const rows = await tx.query(`
    WITH run AS MATERIALIZED (
      UPDATE holdfast.saga_run SET reason = $4, updated_at = clock_timestamp() WHERE saga = $1 AND id = $2 AND state = 'needs-human' RETURNING saga, id)
    UPDATE holdfast.saga_step s SET state = CASE WHEN $3::text IS NULL THEN 'clear' ELSE 'done' END, output = $3, updated_at = clock_timestamp()
      FROM run WHERE s.saga = run.saga AND s.id = run.id AND s.state = 'intent' RETURNING 1`, [saga, id, output ?? null, reason])
  return rows.length > 0
}

/** Index saga_expires; steps go with their run (ON DELETE CASCADE). */
async function prune(tx: SqlTx, limit: number): Promise<number> {
  const rows = await tx.query(`
    DELETE FROM holdfast.saga_run
     WHERE (saga, id) IN (SELECT saga, id FROM holdfast.saga_run WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)
     RETURNING 1`, [limit])
  return rows.length
}
