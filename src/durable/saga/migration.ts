/** The journal's tables. Why the fence is a key column is said in ./sql.ts. */
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
