/** The journal's tables: runs and steps, then what was added for tracked resources, pivots, confirmations, cancelling and history. Why the fence is a key column is said in ./sql.ts. */
import type { Migration } from '../../store/index.ts'

export const SAGA_MIGRATION: Migration = {
  id: 10,
  name: 'saga',
  sql: `
    CREATE TABLE holdfast.saga_run (
      saga text NOT NULL,
      id text NOT NULL,
      version integer NOT NULL,
      state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'undoing', 'done', 'undone', 'needs-human')),
      direction text NOT NULL DEFAULT 'forward' CHECK (direction IN ('forward', 'undo')),
      input text NOT NULL,
      fingerprint text NOT NULL,
      result text,
      reason text,
      owner text,
      fence bigint NOT NULL,
      attempts integer NOT NULL DEFAULT 0,
      lease_until timestamptz NOT NULL,
      wake_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      expires_at timestamptz,
      PRIMARY KEY (saga, id),
      UNIQUE (saga, id, fence)
    );
    CREATE INDEX saga_open ON holdfast.saga_run (saga, wake_at) WHERE state IN ('running', 'undoing');
    CREATE INDEX saga_stuck ON holdfast.saga_run (updated_at) WHERE state = 'needs-human';
    CREATE INDEX saga_expires ON holdfast.saga_run (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE holdfast.saga_step (
      saga text NOT NULL,
      id text NOT NULL,
      seq integer NOT NULL,
      name text NOT NULL,
      state text NOT NULL CHECK (state IN ('intent', 'clear', 'done', 'undone', 'kept')),
      output text,
      updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      PRIMARY KEY (saga, id, seq),
      FOREIGN KEY (saga, id) REFERENCES holdfast.saga_run (saga, id) ON DELETE CASCADE
    );
  `,
}

/** Only adds, with defaults: code that does not know it goes on working, and what it does not know of (a pivot, a cancellation) it cannot have begun. */
export const SAGA_DEPTH_MIGRATION: Migration = {
  id: 20,
  name: 'saga: tracks, pivots, confirmations, history',
  olderCodeRuns: true,
  sql: `
    ALTER TABLE holdfast.saga_run
      ADD COLUMN created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
      ADD COLUMN begun_by text,
      ADD COLUMN deadline_at timestamptz,
      ADD COLUMN cancelled text,
      ADD COLUMN pivot text,
      ADD COLUMN crashes integer NOT NULL DEFAULT 0,
      ADD COLUMN crash_mark text,
      ADD COLUMN crash_fence bigint,
      ADD COLUMN ask_step text,
      ADD COLUMN ask_summary text,
      ADD COLUMN ask_round integer NOT NULL DEFAULT 0,
      ADD COLUMN ask_until timestamptz,
      ADD COLUMN ask_two boolean NOT NULL DEFAULT false,
      ADD COLUMN confirmed_by text;
    UPDATE holdfast.saga_run SET created_at = started_at;
    CREATE INDEX saga_waiting ON holdfast.saga_run (updated_at) WHERE state = 'running' AND ask_step IS NOT NULL;
    ALTER TABLE holdfast.saga_step
      ADD COLUMN effect text,
      ADD COLUMN fence bigint,
      ADD COLUMN begun_at timestamptz DEFAULT clock_timestamp(),
      ADD COLUMN done_at timestamptz,
      ADD COLUMN undone_at timestamptz;
    CREATE TABLE holdfast.saga_track (
      saga text NOT NULL,
      id text NOT NULL,
      kind text NOT NULL,
      resource text NOT NULL,
      n bigserial NOT NULL,
      seq integer NOT NULL,
      description text,
      state text NOT NULL DEFAULT 'made' CHECK (state IN ('made', 'undone', 'kept')),
      at timestamptz NOT NULL DEFAULT clock_timestamp(),
      undone_at timestamptz,
      PRIMARY KEY (saga, id, kind, resource),
      FOREIGN KEY (saga, id) REFERENCES holdfast.saga_run (saga, id) ON DELETE CASCADE
    );
    CREATE TABLE holdfast.saga_note (
      saga text NOT NULL,
      id text NOT NULL,
      n bigserial NOT NULL,
      what text NOT NULL,
      step text,
      detail text NOT NULL,
      by_whom text NOT NULL,
      times integer NOT NULL DEFAULT 1,
      at timestamptz NOT NULL DEFAULT clock_timestamp(),
      PRIMARY KEY (saga, id, n),
      FOREIGN KEY (saga, id) REFERENCES holdfast.saga_run (saga, id) ON DELETE CASCADE
    );
  `,
}
