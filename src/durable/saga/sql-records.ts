/**
 * The journal in PostgreSQL's dialect, beside the hot path: what a step made, what operators do, and what is told of a run.
 *
 * Operators' changes name no fence: their WHERE asks for a state in which nobody holds the run, or (a cancellation) change only
 * what the holder looks at when it begins something.
 */
import type { SqlTx } from '../../store/index.ts'
import { NOTES_MAX, type HistoryRows, type Note, type RunKey, type SagaPort, type StepState, type TrackRow } from './port.ts'

type Records = 'tracks' | 'track' | 'untrack' | 'retryByHand' | 'closeByHand' | 'resolveStep' | 'skip' | 'cancel' | 'confirm' | 'note' | 'history'

export const sagaRecordsSql: Pick<SagaPort<SqlTx>, Records> = { tracks, track, untrack, retryByHand, closeByHand, resolveStep, skip, cancel, confirm, note, history }

/** Primary key (saga, id, ...); a run has few. */
async function tracks(tx: SqlTx, { saga, id }: RunKey): Promise<readonly TrackRow[]> {
  return tx.query<TrackRow>(`SELECT seq, kind, resource, description, state FROM holdfast.saga_track WHERE saga = $1 AND id = $2 ORDER BY n`, [saga, id])
}

/** Like a journal write: the live fence is locked FOR KEY SHARE. What a former attempt made is one with what this one makes under the same id. */
async function track(tx: SqlTx, { saga, id }: RunKey, fence: number, { seq, kind, resource, description }: Omit<TrackRow, 'state'>): Promise<boolean> {
  const rows = await tx.query<{ live: boolean }>(`
    WITH run AS MATERIALIZED (
      SELECT saga, id FROM holdfast.saga_run WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state = 'running' AND lease_until > clock_timestamp() FOR KEY SHARE),
    written AS (
      INSERT INTO holdfast.saga_track (saga, id, kind, resource, seq, description) SELECT run.saga, run.id, $4, $5, $6::int, $7 FROM run
      ON CONFLICT (saga, id, kind, resource) DO NOTHING)
    SELECT EXISTS (SELECT 1 FROM run) AS live`, [saga, id, fence, kind, resource, seq, description])
  return rows[0]?.live === true
}

async function untrack(tx: SqlTx, { saga, id }: RunKey, fence: number, kind: string, resource: string): Promise<boolean> {
  const rows = await tx.query<{ live: boolean }>(`
    WITH run AS MATERIALIZED (
      SELECT saga, id FROM holdfast.saga_run WHERE saga = $1 AND id = $2 AND fence = $3::bigint AND state = 'undoing' AND lease_until > clock_timestamp() FOR KEY SHARE),
    written AS (
      UPDATE holdfast.saga_track t SET state = 'undone', undone_at = clock_timestamp() FROM run WHERE t.saga = run.saga AND t.id = run.id AND t.kind = $4 AND t.resource = $5)
    SELECT EXISTS (SELECT 1 FROM run) AS live`, [saga, id, fence, kind, resource])
  return rows[0]?.live === true
}

/** Its deadline is lifted and its deaths are forgotten: who says "again" has looked. */
async function retryByHand(tx: SqlTx, { saga, id }: RunKey, reason: string): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run
       SET state = CASE direction WHEN 'undo' THEN 'undoing' ELSE 'running' END, attempts = 0, crashes = 0, crash_mark = NULL, deadline_at = NULL, started_at = clock_timestamp(), wake_at = clock_timestamp(), reason = $3, updated_at = clock_timestamp()
     WHERE saga = $1 AND id = $2 AND state = 'needs-human' RETURNING 1`, [saga, id, reason])
  return rows.length === 1
}

async function closeByHand(tx: SqlTx, { saga, id }: RunKey, state: 'done' | 'undone', result: string | null, reason: string, keepForMs: number): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET state = $3, reason = $4, result = $6, fence = fence + 1, updated_at = clock_timestamp(), expires_at = clock_timestamp() + $5::float8 * interval '1 millisecond'
     WHERE saga = $1 AND id = $2 AND state = 'needs-human' RETURNING 1`, [saga, id, state, reason, keepForMs, result])
  return rows.length === 1
}

/** The run is locked first: who comes at the same moment sees what the one before decided. */
async function lockForHuman(tx: SqlTx, { saga, id }: RunKey): Promise<'forward' | 'undo' | undefined> {
  const [run] = await tx.query<{ direction: 'forward' | 'undo' }>(`SELECT direction FROM holdfast.saga_run WHERE saga = $1 AND id = $2 AND state = 'needs-human' FOR NO KEY UPDATE`, [saga, id])
  return run?.direction
}

/** A pivot that did not happen is no point of no return. */
async function resolveStep(tx: SqlTx, key: RunKey, output: string | undefined, reason: string): Promise<boolean> {
  if (await lockForHuman(tx, key) === undefined) return false
  const rows = await tx.query(`
    WITH step AS (
      UPDATE holdfast.saga_step SET state = CASE WHEN $3::text IS NULL THEN 'clear' ELSE 'done' END, output = $3, updated_at = clock_timestamp(), done_at = CASE WHEN $3::text IS NOT NULL THEN clock_timestamp() END
       WHERE saga = $1 AND id = $2 AND state = 'intent' RETURNING name)
    UPDATE holdfast.saga_run SET reason = $4, updated_at = clock_timestamp(), pivot = CASE WHEN $3::text IS NULL AND pivot IN (SELECT name FROM step) THEN NULL ELSE pivot END
     WHERE saga = $1 AND id = $2 AND EXISTS (SELECT 1 FROM step) RETURNING 1`, [key.saga, key.id, output ?? null, reason])
  return rows.length > 0
}

/** Forward: the step that is not over. Back: what comes next, a step's own undo before what it made. */
async function skip(tx: SqlTx, key: RunKey, output: string): Promise<string | undefined> {
  const { saga, id } = key
  const direction = await lockForHuman(tx, key)
  if (direction === undefined) return undefined
  if (direction === 'forward') {
    const [step] = await tx.query<{ name: string }>(`
      UPDATE holdfast.saga_step SET state = 'done', output = $3, updated_at = clock_timestamp(), done_at = clock_timestamp()
       WHERE saga = $1 AND id = $2 AND seq = (SELECT min(seq) FROM holdfast.saga_step WHERE saga = $1 AND id = $2 AND state IN ('intent', 'clear')) RETURNING name`, [saga, id, output])
    return step?.name
  }
  const [next] = await tx.query<{ seq: number; name: string; n: string | null }>(`
    SELECT seq, name, n FROM (
      SELECT seq, name, NULL::bigint AS n FROM holdfast.saga_step WHERE saga = $1 AND id = $2 AND state = 'done'
      UNION ALL SELECT seq, kind || ' ' || resource, n FROM holdfast.saga_track WHERE saga = $1 AND id = $2 AND state = 'made') left_over
     ORDER BY seq DESC, n DESC NULLS FIRST LIMIT 1`, [saga, id])
  if (next === undefined) return undefined
  if (next.n === null) await tx.query(`UPDATE holdfast.saga_step SET state = 'kept', updated_at = clock_timestamp() WHERE saga = $1 AND id = $2 AND seq = $3`, [saga, id, next.seq])
  else await tx.query(`UPDATE holdfast.saga_track SET state = 'kept' WHERE saga = $1 AND id = $2 AND n = $3::bigint`, [saga, id, next.n])
  return next.name
}

/** Of a cancellation and the begin of a pivot the second waits for the first's row lock and then finds it done. The first reason stays. */
async function cancel(tx: SqlTx, { saga, id }: RunKey, reason: string): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run
       SET cancelled = coalesce(cancelled, $3), wake_at = clock_timestamp(), updated_at = clock_timestamp(), crashes = 0, crash_mark = NULL,
           attempts = CASE state WHEN 'needs-human' THEN 0 ELSE attempts END, started_at = CASE state WHEN 'needs-human' THEN clock_timestamp() ELSE started_at END, state = 'running'
     WHERE saga = $1 AND id = $2 AND state IN ('running', 'needs-human') AND direction = 'forward' AND pivot IS NULL RETURNING 1`, [saga, id, reason])
  return rows.length === 1
}

/** Of two confirmations the second finds it given. */
async function confirm(tx: SqlTx, { saga, id }: RunKey, round: number, by: string): Promise<boolean> {
  const rows = await tx.query(`
    UPDATE holdfast.saga_run SET confirmed_by = $4, wake_at = clock_timestamp(), updated_at = clock_timestamp()
     WHERE saga = $1 AND id = $2 AND state = 'running' AND ask_round = $3 AND ask_step IS NOT NULL AND confirmed_by IS NULL AND ask_until > clock_timestamp() AND cancelled IS NULL RETURNING 1`, [saga, id, round, by])
  return rows.length === 1
}

/** Primary key. Notes of one run are written under its lock or by its holder, so that "the last" is one. None of a run that is gone. */
async function note(tx: SqlTx, { saga, id }: RunKey, { what, step, detail, by }: Note): Promise<void> {
  await tx.query(`
    WITH last AS (SELECT n, what, step, detail FROM holdfast.saga_note WHERE saga = $1 AND id = $2 ORDER BY n DESC LIMIT 1),
    kept AS (SELECT count(*) AS notes FROM holdfast.saga_note WHERE saga = $1 AND id = $2),
    again AS (
      UPDATE holdfast.saga_note e SET times = e.times + 1, by_whom = $6 FROM last, kept
       WHERE e.saga = $1 AND e.id = $2 AND e.n = last.n AND (kept.notes >= $7 OR (last.what = $3 AND last.step IS NOT DISTINCT FROM $4 AND last.detail = $5)) RETURNING 1)
    INSERT INTO holdfast.saga_note (saga, id, what, step, detail, by_whom)
    SELECT saga, id, $3, $4, $5, $6 FROM holdfast.saga_run WHERE saga = $1 AND id = $2 AND NOT EXISTS (SELECT 1 FROM again)`, [saga, id, what, step ?? null, detail, by, NOTES_MAX])
}

function ms(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000)::float8`
}

async function history(tx: SqlTx, { saga, id }: RunKey): Promise<HistoryRows | undefined> {
  const key = [saga, id]
  const [run] = await tx.query<{ begunAtMs: number; begunBy: string | null }>(`SELECT ${ms('created_at')} AS "begunAtMs", begun_by AS "begunBy" FROM holdfast.saga_run WHERE saga = $1 AND id = $2`, key)
  if (run === undefined) return undefined
  const steps = await tx.query<{ name: string; state: StepState; fence: string | null; begunAtMs: number | null; doneAtMs: number | null; undoneAtMs: number | null }>(`
    SELECT name, state, fence, ${ms('begun_at')} AS "begunAtMs", ${ms('done_at')} AS "doneAtMs", ${ms('undone_at')} AS "undoneAtMs" FROM holdfast.saga_step WHERE saga = $1 AND id = $2 ORDER BY seq`, key)
  return {
    ...run,
    steps: steps.map(step => ({ ...step, fence: step.fence === null ? null : Number(step.fence) })),
    tracks: await tx.query<HistoryRows['tracks'][number]>(`SELECT seq, kind, resource, description, state, ${ms('at')} AS "atMs", ${ms('undone_at')} AS "undoneAtMs" FROM holdfast.saga_track WHERE saga = $1 AND id = $2 ORDER BY n`, key),
    notes: await tx.query<HistoryRows['notes'][number]>(`SELECT what, step, detail, by_whom AS by, times, ${ms('at')} AS "atMs" FROM holdfast.saga_note WHERE saga = $1 AND id = $2 ORDER BY n`, key),
  }
}
