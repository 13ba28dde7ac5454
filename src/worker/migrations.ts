/**
 * worker's tables in PostgreSQL's dialect.
 */
import type { Migration } from '../store/index.ts'

/** Scope `worker`. */
export const workerMigrations: readonly Migration[] = [
  {
    id: 1,
    name: 'items that failed',
    olderCodeRuns: true,
    sql: `
      CREATE TABLE holdfast.worker_item (
        worker text NOT NULL,
        item text NOT NULL,
        attempts integer NOT NULL,
        condition text NOT NULL CHECK (condition IN ('waiting', 'parked', 'discarded')),
        message text NOT NULL,
        next_at timestamptz NOT NULL,
        first_failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        last_failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (worker, item)
      );`,
  },
  {
    id: 30,
    name: 'due times that were run',
    olderCodeRuns: true,
    sql: `
      CREATE TABLE holdfast.worker_schedule (
        worker text PRIMARY KEY,
        timetable text NOT NULL,
        last_due_ms bigint NOT NULL
      );`,
  },
]
