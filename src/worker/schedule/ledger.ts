/**
 * Which due time each worker has run last, kept in the store: a restart neither repeats nor forgets one. Time is the database's.
 */
import { bodyFor, type Database } from '../../store/index.ts'
import type { Env, Kit } from '../../core/index.ts'
import { memorySchedule } from './memory.ts'
import { sqlSchedule } from './sql.ts'

export interface ScheduleState {
  /** The due time that was run last, or when the worker was first seen with this timetable: what was due before is nobody's. */
  readonly lastDueMs: number
  readonly nowMs: number
}

export interface ScheduleLedger {
  /** Makes the row where there is none, and begins anew where the timetable's text has changed. */
  look(worker: string, text: string): Promise<ScheduleState>
  /** It was run. A due time that is not later than the last one changes nothing. */
  done(worker: string, dueMs: number): Promise<void>
  /** The clock that due times are compared with. */
  now(): Promise<number>
}

/** The same within a transaction, once per dialect. */
export type ScheduleTable<Tx> = { readonly [Operation in keyof ScheduleLedger]: (tx: Tx, ...rest: Parameters<ScheduleLedger[Operation]>) => ReturnType<ScheduleLedger[Operation]> }

/** Kept in the store. */
export function storedSchedule<Tx>(kit: Kit & { database(): Database<Tx> }): ScheduleLedger {
  const run = <T>(name: string, work: (table: ScheduleTable<Tx>, tx: Tx) => Promise<T>): Promise<T> => {
    const database = kit.database()
    return database.transaction(name, tx => work(bodyFor<Tx, ScheduleTable<Tx>>(database, { sql: sqlSchedule, memory: memorySchedule }), tx))
  }
  return {
    look: async (worker, text) => run('worker.schedule.look', (table, tx) => table.look(tx, worker, text)),
    done: async (worker, dueMs) => run('worker.schedule.done', (table, tx) => table.done(tx, worker, dueMs)),
    now: async () => run('worker.schedule.now', (table, tx) => table.now(tx)),
  }
}

/** Kept in this process, by its own clock: for services without a store. */
export function localSchedule(env: Pick<Env, 'now'>): ScheduleLedger {
  const rows = new Map<string, { readonly text: string; readonly lastDueMs: number }>()
  return {
    look: async (worker, text) => {
      const known = rows.get(worker)
      const row = known?.text === text ? known : { text, lastDueMs: env.now() }
      rows.set(worker, row)
      return { lastDueMs: row.lastDueMs, nowMs: env.now() }
    },
    done: async (worker, dueMs) => {
      const row = rows.get(worker)
      if (row !== undefined && row.lastDueMs < dueMs) rows.set(worker, { ...row, lastDueMs: dueMs })
    },
    now: async () => env.now(),
  }
}
