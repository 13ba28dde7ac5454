/**
 * Tables of the durable features, schema `holdfast`. Forward only; a released migration is never changed.
 *
 * The order in which columns and indexes matter is explained beside the statements that use them (each sql.ts).
 */
import type { Migration } from '../store/index.ts'

export const DURABLE_MIGRATIONS: readonly Migration[] = [
  {
    id: 1,
    name: 'lease and once',
    sql: `
      CREATE TABLE holdfast.lease (
        name text PRIMARY KEY,
        owner text,
        previous_owner text,
        fence bigint NOT NULL,
        acquired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz NOT NULL,
        UNIQUE (name, fence)
      );
      CREATE TABLE holdfast.once_record (
        name text NOT NULL,
        key text NOT NULL,
        state text NOT NULL CHECK (state IN ('started', 'done', 'unknown', 'released', 'discarded')),
        fingerprint text NOT NULL,
        input text NOT NULL DEFAULT '',
        result text,
        owner text,
        fence bigint NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        reason text,
        lease_until timestamptz,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz,
        PRIMARY KEY (name, key)
      );
      CREATE INDEX once_record_open ON holdfast.once_record (lease_until) WHERE state IN ('started', 'unknown');
      CREATE INDEX once_record_expires ON holdfast.once_record (expires_at) WHERE expires_at IS NOT NULL;
    `,
  },
]
