/**
 * The journal in PostgreSQL's dialect.
 *
 * `UNIQUE (saga, id, fence)` makes the fence a key column: a journal write locks the run FOR KEY SHARE, so a take-over (which
 * changes the fence) waits for it or comes first and makes it find nothing; heartbeats pass.
 */
import type { SqlTx } from '../../store/index.ts'
import type { Begins, Closed, RunKey, RunRow, RunState, SagaPort, StepRow } from './port.ts'
import { sagaRecordsSql } from './sql-records.ts'

export const sagaSql: SagaPort<SqlTx> = { begin, read, take, steps, renew, journal, unpivot, turn, park, ask, close, due, stuck, waiting, prune, ...sagaRecordsSql }

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
  readonly cancelled: string | null
  readonly deadline_in_ms: number | null
  readonly pivot: string | null
  readonly crashes: number
  readonly ask_step: string | null
  readonly ask_summary: string | null
  readonly ask_round: number
  readonly ask_in_ms: number | null
  readonly ask_two: boolean
  readonly confirmed_by: string | null
}

const COLUMNS = `saga, id, version, state, direction, input, fingerprint, result, reason, fence, attempts, lease_until > clock_timestamp() AS live,
  (greatest(0, extract(epoch FROM greatest(lease_until, wake_at) - clock_timestamp()) * 1000))::float8 AS wait_ms,
  (extract(epoch FROM clock_timestamp() - started_at) * 1000)::float8 AS age_ms, (extract(epoch FROM updated_at) * 1000)::float8 AS since_ms,
  cancelled, (extract(epoch FROM deadline_at - clock_timestamp()) * 1000)::float8 AS deadline_in_ms, pivot, crashes,
  ask_step, ask_summary, ask_round, (extract(epoch FROM ask_until - clock_timestamp()) * 1000)::float8 AS ask_in_ms, ask_two, confirmed_by`

function runOf({ fence, wait_ms, age_ms, since_ms, deadline_in_ms, ask_step, ask_summary, ask_round, ask_in_ms, ask_two, confirmed_by, ...row }: Row): RunRow & { readonly saga: string } {
  return {
    ...row, fence: Number(fence), waitMs: wait_ms, ageMs: age_ms, sinceMs: since_ms, deadlineInMs: deadline_in_ms,
    askStep: ask_step, askSummary: ask_summary, askRound: ask_round, askInMs: ask_in_ms, askTwo: ask_two, confirmedBy: confirmed_by,
  }
}

/** Both unique keys, see the lease: of two callers the second waits for the first to commit and inserts nothing. */
async function begin(tx: SqlTx, run: Parameters<SagaPort<SqlTx>['begin']>[1]): Promise<RunRow | undefined> {
  const rows = await tx.query<Row>(`
    INSERT INTO holdfast.saga_run (saga, id, version, input, fingerprint, owner, fence, lease_until, deadline_at, begun_by)
    VALUES ($1, $2, $3, $4, $5, $6::text, 1, clock_timestamp() + $7::float8 * interval '1 millisecond', clock_timestamp() + $8::float8 * interval '1 millisecond', split_part($6::text, ':', 1))
    ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`, [run.saga, run.id, run.version, run.input, run.fingerprint, run.owner, run.leaseMs, run.deadlineMs ?? null])
  return rows[0] === undefined ? undefined : runOf(rows[0])
}

async function read(tx: SqlTx, { saga, id }: RunKey): Promise<RunRow | undefined> {
  const rows = await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.saga_run WHERE saga = $1 AND id = $2`, [saga, id])
  return rows[0] === undefined ? undefined : runOf(rows[0])
}

/**
 * Primary key. Waits for journal writes of the old fence; of two callers the second fails the WHERE. A holder that died where the one
 * before it died is counted (crash_mark: how many steps are done and undone); one that got further begins the count anew.
 */
async function take(tx: SqlTx, { saga, id }: RunKey, versions: readonly number[], owner: string, leaseMs: number): Promise<{ readonly fence: number; readonly tookOver: boolean } | undefined> {
  const rows = await tx.query<{ fence: string; took_over: boolean | null }>(`
    UPDATE holdfast.saga_run r
       SET owner = $4, fence = CASE WHEN owner = $4 THEN fence ELSE fence + 1 END, lease_until = clock_timestamp() + $5::float8 * interval '1 millisecond',
           crashes = CASE WHEN owner IS NULL OR owner = $4 THEN crashes WHEN crash_mark = r.state || far.reached THEN crashes + 1 ELSE 1 END,
           crash_mark = CASE WHEN owner IS NULL OR owner = $4 THEN crash_mark ELSE r.state || far.reached END,
           crash_fence = CASE WHEN owner IS NULL OR owner = $4 THEN crash_fence ELSE fence + 1 END
      FROM (SELECT ' ' || count(*) FILTER (WHERE s.state = 'done') || ' ' || count(*) FILTER (WHERE s.state IN ('undone', 'kept')) AS reached
              FROM holdfast.saga_step s WHERE s.saga = $1 AND s.id = $2) far
     WHERE r.saga = $1 AND r.id = $2 AND version = ANY (string_to_array($3, ',')::int[]) AND r.state IN ('running', 'undoing')
       AND ((lease_until <= clock_timestamp() AND wake_at <= clock_timestamp()) OR owner = $4)
     RETURNING fence, crash_fence = fence AS took_over`, [saga, id, versions.join(','), owner, leaseMs])
  return rows[0] === undefined ? undefined : { fence: Number(rows[0].fence), tookOver: rows[0].took_over === true }
}

async function steps(tx: SqlTx, { saga, id }: RunKey): Promise<readonly StepRow[]> {
  return tx.query<StepRow>(`SELECT seq, name, state, output, effect FROM holdfast.saga_step WHERE saga = $1 AND id = $2 ORDER BY seq`, [saga, id])
}

async function renew(tx: SqlTx, { saga, id }: RunKey, fence: number, leaseMs: number): Promise<{ readonly cancelled: string | null } | undefined> {
  const rows = await tx.query<{ cancelled: string | null }>(`
    UPDATE holdfast.saga_run SET lease_until = clock_timestamp() + $4::float8 * interval '1 millisecond'
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND owner IS NOT NULL AND lease_until > clock_timestamp() RETURNING cancelled`, [saga, id, fence, leaseMs])
  return rows[0]
}

const LIVE = `saga = $1 AND id = $2 AND fence = $3::bigint AND state IN ('running', 'undoing') AND lease_until > clock_timestamp()`
/** A cancellation locks the run FOR NO KEY UPDATE: an ordinary step passes it and is undone afterwards, a pivot waits for it. */
const MAY_BEGIN = `cancelled IS NULL AND (deadline_at IS NULL OR deadline_at > clock_timestamp())`

const RUN_OF: Readonly<Record<Begins['kind'] | 'nothing', string>> = {
  nothing: `SELECT saga, id FROM holdfast.saga_run WHERE ${LIVE} FOR KEY SHARE`,
  step: `SELECT saga, id FROM holdfast.saga_run WHERE ${LIVE} AND ${MAY_BEGIN} FOR KEY SHARE`,
  pivot: `UPDATE holdfast.saga_run SET pivot = coalesce(pivot, $5) WHERE ${LIVE} AND ${MAY_BEGIN} RETURNING saga, id`,
  confirmed: `UPDATE holdfast.saga_run SET pivot = coalesce(pivot, $5) WHERE ${LIVE} AND ${MAY_BEGIN} AND ask_step = $5 AND confirmed_by IS NOT NULL RETURNING saga, id`,
}

/** Into the steps of `run`, from a parameter that is a JSON array; $3 is the fence. */
function written(parameter: string): string {
  return `written AS (
      INSERT INTO holdfast.saga_step AS s (saga, id, seq, name, state, output, effect, fence, done_at, undone_at)
      SELECT run.saga, run.id, e.seq, e.name, e.state, e.output, e.effect, $3::bigint,
             CASE WHEN e.state = 'done' THEN clock_timestamp() END, CASE WHEN e.state IN ('undone', 'kept') THEN clock_timestamp() END
        FROM run, jsonb_to_recordset(${parameter}::text::jsonb) AS e (seq integer, name text, state text, output text, effect text)
      ON CONFLICT (saga, id, seq) DO UPDATE
        SET state = excluded.state, output = excluded.output, effect = coalesce(excluded.effect, s.effect), fence = excluded.fence, updated_at = clock_timestamp(),
            done_at = coalesce(excluded.done_at, s.done_at), undone_at = excluded.undone_at)`
}

/** `UNIQUE (saga, id, fence)`; one statement, so that the end of a step and the intent of the next are one commit and one round trip. */
async function journal(tx: SqlTx, { saga, id }: RunKey, fence: number, entries: readonly StepRow[], begins?: Begins): Promise<boolean> {
  const rows = await tx.query<{ live: boolean }>(`
    WITH run AS MATERIALIZED (${RUN_OF[begins?.kind ?? 'nothing']}),
    ${written('$4')}
    SELECT EXISTS (SELECT 1 FROM run) AS live`, [saga, id, fence, JSON.stringify(entries), ...(begins === undefined || begins.kind === 'step' ? [] : [begins.step])])
  return rows[0]?.live === true
}

async function unpivot(tx: SqlTx, { saga, id }: RunKey, fence: number, step: string): Promise<void> {
  await tx.query(`UPDATE holdfast.saga_run SET pivot = NULL WHERE ${LIVE} AND pivot = $4`, [saga, id, fence, step])
}

async function turn(tx: SqlTx, { saga, id }: RunKey, fence: number, reason: string): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET state = 'undoing', direction = 'undo', reason = $4, attempts = 0, updated_at = clock_timestamp()
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state = 'running' AND pivot IS NULL AND lease_until > clock_timestamp() RETURNING 1`, [saga, id, fence, reason])
  return rows.length === 1
}

async function park(tx: SqlTx, { saga, id }: RunKey, fence: number, reason: string, wakeInMs: number, counts: boolean): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run
       SET owner = NULL, lease_until = '-infinity', wake_at = clock_timestamp() + $5::float8 * interval '1 millisecond', attempts = attempts + $6::int, reason = $4, updated_at = clock_timestamp()
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state IN ('running', 'undoing') AND owner IS NOT NULL RETURNING 1`, [saga, id, fence, reason, wakeInMs, counts ? 1 : 0])
  return rows.length === 1
}

/** Goes before the park of the same transaction. */
async function ask(tx: SqlTx, { saga, id }: RunKey, fence: number, { step, summary, forMs, secondPerson }: Parameters<SagaPort<SqlTx>['ask']>[3]): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run
       SET ask_step = $4, ask_summary = $5, ask_round = ask_round + 1, ask_until = clock_timestamp() + $6::float8 * interval '1 millisecond', ask_two = $7, confirmed_by = NULL
     WHERE ${LIVE} RETURNING 1`, [saga, id, fence, step, summary, forMs, secondPerson])
  return rows.length === 1
}

const CLOSE = `
    UPDATE holdfast.saga_run
       SET state = $4, result = $5, reason = $6, owner = NULL, lease_until = '-infinity', updated_at = clock_timestamp(),
           expires_at = CASE WHEN $4 <> 'needs-human' THEN clock_timestamp() + $7::float8 * interval '1 millisecond' END
     WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state IN ('running', 'undoing') AND owner IS NOT NULL AND ($4 <> 'done' OR cancelled IS NULL)`
const CLOSE_WITH_STEPS = `
    WITH run AS (${CLOSE} AND lease_until > clock_timestamp() RETURNING saga, id),
    ${written('$8')}
    SELECT 1 FROM run`

/** `UNIQUE (saga, id, fence)`. The steps are written from what was closed, so both happen or neither. */
async function close(tx: SqlTx, { saga, id }: RunKey, fence: number, { state, result, reason, keepForMs, steps: entries }: Closed): Promise<boolean> {
  const params = [saga, id, fence, state, result, reason, keepForMs]
  const rows = entries.length === 0 ? await tx.query(`${CLOSE} RETURNING 1`, params) : await tx.query(CLOSE_WITH_STEPS, [...params, JSON.stringify(entries)])
  return rows.length === 1
}

/** Index saga_open. Only reads: who takes a run re-checks. */
async function due(tx: SqlTx, saga: string, versions: readonly number[], limit: number): Promise<readonly string[]> {
  const rows = await tx.query<{ id: string }>(`
    SELECT id FROM holdfast.saga_run
     WHERE state IN ('running', 'undoing') AND saga = $1 AND version = ANY (string_to_array($2, ',')::int[]) AND wake_at <= clock_timestamp() AND lease_until <= clock_timestamp()
     ORDER BY wake_at LIMIT $3`, [saga, versions.join(','), limit])
  return rows.map(row => row.id)
}

/** Index saga_stuck. */
async function stuck(tx: SqlTx, limit: number): Promise<readonly (RunRow & { readonly saga: string })[]> {
  return (await tx.query<Row>(`SELECT ${COLUMNS} FROM holdfast.saga_run WHERE state = 'needs-human' ORDER BY updated_at LIMIT $1`, [limit])).map(runOf)
}

/** Index saga_waiting; and the open runs, which are few. */
async function waiting(tx: SqlTx, overdueMs: number, limit: number): Promise<readonly (RunRow & { readonly saga: string })[]> {
  const asked = await tx.query<Row>(`
    SELECT ${COLUMNS} FROM holdfast.saga_run
     WHERE state = 'running' AND ask_step IS NOT NULL AND confirmed_by IS NULL AND ask_until > clock_timestamp() AND lease_until <= clock_timestamp() AND cancelled IS NULL
     ORDER BY updated_at LIMIT $1`, [limit])
  const overdue = await tx.query<Row>(`
    SELECT ${COLUMNS} FROM holdfast.saga_run
     WHERE state IN ('running', 'undoing') AND greatest(wake_at, lease_until) < clock_timestamp() - $1::float8 * interval '1 millisecond'
     ORDER BY wake_at LIMIT $2`, [overdueMs, limit])
  return [...asked, ...overdue].map(runOf)
}

/** Index saga_expires, of which only what has expired is read (inbox/sql.ts); steps go with their run (ON DELETE CASCADE). */
async function prune(tx: SqlTx, limit: number): Promise<number> {
  const rows = await tx.query(`
    DELETE FROM holdfast.saga_run
     WHERE ctid = ANY (ARRAY (SELECT ctid FROM holdfast.saga_run WHERE expires_at < (SELECT clock_timestamp()) ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED))
     RETURNING 1`, [limit])
  return rows.length
}
