/**
 * Schedules in PostgreSQL's dialect, on the primary key (worker). Due times are milliseconds since 1970, as the timetables reckon.
 */
import type { SqlTx } from '../../store/index.ts'
import type { ScheduleState, ScheduleTable } from './ledger.ts'

const NOW = '(extract(epoch FROM clock_timestamp()) * 1000)::bigint'

export const sqlSchedule: ScheduleTable<SqlTx> = {
  look: async (tx, worker, text) => await read(tx, worker, text) ?? await begin(tx, worker, text),

  /** Of two callers the later due time stands, whoever comes first. */
  done: async (tx, worker, dueMs) => {
    await tx.query('UPDATE holdfast.worker_schedule SET last_due_ms = $2::bigint WHERE worker = $1 AND last_due_ms < $2::bigint', [worker, dueMs])
  },

  now: async tx => Number((await tx.query<{ now_ms: string }>(`SELECT ${NOW} AS now_ms`))[0]?.now_ms),
}

/** Writes nothing, so that looking costs no commit. */
async function read(tx: SqlTx, worker: string, text: string): Promise<ScheduleState | undefined> {
  const [row] = await tx.query<{ last_due_ms: string; now_ms: string }>(`SELECT last_due_ms, ${NOW} AS now_ms FROM holdfast.worker_schedule WHERE worker = $1 AND timetable = $2`, [worker, text])
  return row === undefined ? undefined : { lastDueMs: Number(row.last_due_ms), nowMs: Number(row.now_ms) }
}

/** Of two callers with one timetable the second waits for the first and changes nothing. */
async function begin(tx: SqlTx, worker: string, text: string): Promise<ScheduleState> {
  await tx.query(`
    INSERT INTO holdfast.worker_schedule AS s (worker, timetable, last_due_ms) VALUES ($1, $2, ${NOW})
    ON CONFLICT (worker) DO UPDATE SET timetable = excluded.timetable, last_due_ms = excluded.last_due_ms WHERE s.timetable <> excluded.timetable`, [worker, text])
  const state = await read(tx, worker, text)
  if (state === undefined) throw new Error('a row that was just written is not there')
  return state
}
