/**
 * Journals in PostgreSQL's dialect. Primary keys (name, id) and (name, id, seq) serve every statement but the scans at the end.
 *
 * Results are text and not jsonb: a replayed answer is byte for byte the first one.
 */
import type { Migration, SqlTx } from '../../store/index.ts'
import type { Direction, SagaBegin, SagaPort, SagaRun, SagaState, SagaStep, StepState } from './port.ts'

export const SAGA_MIGRATION: Migration = {
  id: 10,
  name: 'saga',
  sql: `
    CREATE TABLE holdfast.saga_run (
      name text NOT NULL,
      id text NOT NULL,
      version integer NOT NULL,
      state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'done', 'undone', 'needs-human', 'discarded')),
      direction text NOT NULL DEFAULT 'forward' CHECK (direction IN ('forward', 'undo')),
      fingerprint text NOT NULL,
      input text NOT NULL,
      result text,
      reason text NOT NULL DEFAULT '',
      owner text,
      fence bigint NOT NULL DEFAULT 1,
      until timestamptz NOT NULL,
      created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      expires_at timestamptz,
      PRIMARY KEY (name, id)
    );
    CREATE INDEX saga_run_due ON holdfast.saga_run (name, until) WHERE state = 'active';
    CREATE INDEX saga_run_needs_human ON holdfast.saga_run (updated_at) WHERE state = 'needs-human';
    CREATE INDEX saga_run_expires ON holdfast.saga_run (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE holdfast.saga_step (
      name text NOT NULL,
      id text NOT NULL,
      seq integer NOT NULL,
      step text NOT NULL,
      kind text NOT NULL CHECK (kind IN ('local', 'outside')),
      state text NOT NULL CHECK (state IN ('intent', 'ambiguous', 'waiting', 'done', 'failed', 'undone')),
      result text,
      attempts integer NOT NULL DEFAULT 0,
      message text NOT NULL DEFAULT '',
      updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      PRIMARY KEY (name, id, seq),
      FOREIGN KEY (name, id) REFERENCES holdfast.saga_run (name, id) ON DELETE CASCADE
    );
  `,
}

export const sagaSql: SagaPort<SqlTx> = { begin, read, takeOver, hold, steps, putStep, turn, wait, end, due, needHuman, settleByHand, prune }

interface Row {
  readonly name: string
  readonly id: string
  readonly version: number
  readonly state: SagaState
  readonly direction: Direction
  readonly fingerprint: string
  readonly input: string
  readonly result: string | null
  readonly reason: string
  readonly fence: string
  readonly live: boolean
  readonly due_in_ms: number
  readonly since_ms: number
}

const COLUMNS = `name, id, version, state, direction, fingerprint, input, result, reason, fence,
  owner IS NOT NULL AND until > clock_timestamp() AS live,
  (greatest(0, extract(epoch FROM until - clock_timestamp()) * 1000))::float8 AS due_in_ms,
  (extract(epoch FROM updated_at) * 1000)::float8 AS since_ms`

function runOf({ fence, due_in_ms, since_ms, ...row }: Row): SagaRun {
  return { ...row, fence: Number(fence), dueInMs: due_in_ms, sinceMs: since_ms }
}

/** Of two callers with one id the second inserts nothing; the owner itself, whose commit's answer was lost, finds its own run. */
async function begin(tx: SqlTx, { name, id, version, fingerprint, input, owner, leaseMs }: SagaBegin): Promise<number | undefined> {
  const rows = await tx.query<{ fence: string }>(`
    INSERT INTO holdfast.saga_run (name, id, version, fingerprint, input, owner, until)
    VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + $7 * interval '1 millisecond')
    ON CONFLICT (name, id) DO NOTHING RETURNING fence`, [name, id, version, fingerprint, input, owner, leaseMs])
  const own = rows.length > 0 ? rows : await tx.query<{ fence: string }>(`SELECT fence FROM holdfast.saga_run WHERE name = $1 AND id = $2 AND owner = $3 AND state = 'active'`, [name, id, owner])
  return own[0] === undefined ? undefined : Number(own[0].fence)
}

async function read(tx: SqlTx, name: string, id: string): Promise<SagaRun | undefined> {
  const [row] = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.saga_run WHERE name = $1 AND id = $2`, [name, id])
  return row === undefined ? undefined : runOf(row)
}

/** Of two callers the second waits for the row and fails the WHERE, as `until` is in the future by then. */
async function takeOver(tx: SqlTx, name: string, id: string, version: number, owner: string, leaseMs: number): Promise<number | undefined> {
  const [row] = await tx.query<{ fence: string }>(`
    UPDATE holdfast.saga_run SET owner = $4, fence = fence + 1, until = clock_timestamp() + $5 * interval '1 millisecond'
     WHERE name = $1 AND id = $2 AND version = $3 AND state = 'active' AND until <= clock_timestamp()
    RETURNING fence`, [name, id, version, owner, leaseMs])
  return row === undefined ? undefined : Number(row.fence)
}

/** Locks the run to the end of the transaction: a take-over waits, then sees the extended lease. */
async function hold(tx: SqlTx, name: string, id: string, fence: number, leaseMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET until = clock_timestamp() + $4 * interval '1 millisecond'
     WHERE name = $1 AND id = $2 AND fence = $3 AND state = 'active' AND owner IS NOT NULL AND until > clock_timestamp()
    RETURNING 1`, [name, id, fence, leaseMs])
  return rows.length === 1
}

async function steps(tx: SqlTx, name: string, id: string): Promise<readonly SagaStep[]> {
  return tx.query<{ readonly seq: number; readonly step: string; readonly kind: SagaStep['kind']; readonly state: StepState; readonly result: string | null; readonly attempts: number; readonly message: string }>(
    'SELECT seq, step, kind, state, result, attempts, message FROM holdfast.saga_step WHERE name = $1 AND id = $2 ORDER BY seq', [name, id])
}

async function putStep(tx: SqlTx, name: string, id: string, { seq, step, kind, state, result, attempts, message }: SagaStep): Promise<void> {
  await tx.query(`
    INSERT INTO holdfast.saga_step (name, id, seq, step, kind, state, result, attempts, message) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (name, id, seq) DO UPDATE SET state = $6, result = $7, attempts = $8, message = $9, updated_at = clock_timestamp()`,
  [name, id, seq, step, kind, state, result, attempts, message])
}

async function turn(tx: SqlTx, name: string, id: string, direction: Direction, reason: string): Promise<void> {
  await tx.query('UPDATE holdfast.saga_run SET direction = $3, reason = $4, updated_at = clock_timestamp() WHERE name = $1 AND id = $2', [name, id, direction, reason])
}

async function wait(tx: SqlTx, name: string, id: string, reason: string, retryInMs: number): Promise<void> {
  await tx.query(`
    UPDATE holdfast.saga_run SET owner = NULL, reason = $3, until = clock_timestamp() + $4 * interval '1 millisecond'
     WHERE name = $1 AND id = $2`, [name, id, reason, retryInMs])
}

async function end(tx: SqlTx, name: string, id: string, state: Exclude<SagaState, 'active'>, reason: string, result: string | null, keepForMs: number): Promise<void> {
  await tx.query(`
    UPDATE holdfast.saga_run SET state = $3, reason = $4, result = $5, owner = NULL, updated_at = clock_timestamp(),
           expires_at = CASE WHEN $3 = 'needs-human' THEN NULL ELSE clock_timestamp() + $6 * interval '1 millisecond' END
     WHERE name = $1 AND id = $2`, [name, id, state, reason, result, keepForMs])
}

/** Index saga_run_due. */
async function due(tx: SqlTx, name: string, version: number, limit: number): Promise<readonly string[]> {
  const rows = await tx.query<{ id: string }>(`
    SELECT id FROM holdfast.saga_run
     WHERE name = $1 AND version = $2 AND state = 'active' AND until <= clock_timestamp() ORDER BY until LIMIT $3`, [name, version, limit])
  return rows.map(row => row.id)
}

/** Index saga_run_needs_human. */
async function needHuman(tx: SqlTx, limit: number): Promise<readonly SagaRun[]> {
  const rows = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.saga_run WHERE state = 'needs-human' ORDER BY updated_at LIMIT $1`, [limit])
  return rows.map(runOf)
}

async function settleByHand(tx: SqlTx, name: string, id: string, as: 'active' | 'discarded', reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET state = $3, reason = $4, fence = fence + 1, until = clock_timestamp(), updated_at = clock_timestamp(),
           expires_at = CASE WHEN $3 = 'active' THEN NULL ELSE clock_timestamp() + $5 * interval '1 millisecond' END
     WHERE name = $1 AND id = $2 AND state = 'needs-human' RETURNING 1`, [name, id, as, reason, keepForMs])
  if (rows.length === 0) return false
  await tx.query('UPDATE holdfast.saga_step SET attempts = 0 WHERE name = $1 AND id = $2', [name, id])
  return true
}

/** Index saga_run_expires; steps go by their foreign key. */
async function prune(tx: SqlTx, limit: number): Promise<number> {
  const rows = await tx.query(`
    DELETE FROM holdfast.saga_run WHERE (name, id) IN (
      SELECT name, id FROM holdfast.saga_run WHERE expires_at < clock_timestamp() LIMIT $1) RETURNING 1`, [limit])
  return rows.length
}
