/**
 * Tables of the durable features, schema `holdfast`. Forward only; a released migration is never changed.
 *
 * The order in which columns and indexes matter is explained beside the statements that use them (each sql.ts).
 */
import type { Migration } from '../store/index.ts'
import { SAGA_DEPTH_MIGRATION, SAGA_MIGRATION } from './saga/migration.ts'

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
  {
    id: 2,
    name: 'inbox and outbox',
    sql: `
      CREATE TABLE holdfast.inbox_row (
        source text NOT NULL,
        id text NOT NULL,
        seq bigserial NOT NULL UNIQUE,
        lane text NOT NULL,
        priority integer NOT NULL,
        payload text NOT NULL,
        state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'working', 'done', 'parked', 'discarded')),
        attempts integer NOT NULL DEFAULT 0,
        owner text,
        fence bigint NOT NULL DEFAULT 0,
        wake_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        lease_until timestamptz,
        reason text,
        received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz,
        PRIMARY KEY (source, id)
      ) WITH (fillfactor = 70);
      CREATE INDEX inbox_open ON holdfast.inbox_row (source, lane, seq) WHERE state IN ('queued', 'working');
      CREATE UNIQUE INDEX inbox_working ON holdfast.inbox_row (source, lane) WHERE state = 'working';
      CREATE INDEX inbox_parked ON holdfast.inbox_row (wake_at) WHERE state = 'parked';
      CREATE INDEX inbox_expires ON holdfast.inbox_row (expires_at) WHERE expires_at IS NOT NULL;

      CREATE TABLE holdfast.outbox_lane (
        lane text PRIMARY KEY,
        last_seq bigint NOT NULL
      ) WITH (fillfactor = 70);
      CREATE TABLE holdfast.outbox_sender (
        lane text PRIMARY KEY,
        owner text,
        fence bigint NOT NULL,
        lease_until timestamptz NOT NULL,
        paused_until timestamptz NOT NULL DEFAULT '-infinity'
      ) WITH (fillfactor = 70);
      CREATE TABLE holdfast.outbox_message (
        lane text NOT NULL,
        seq bigint NOT NULL,
        topic text NOT NULL,
        once_key text NOT NULL UNIQUE,
        payload text NOT NULL,
        state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sending', 'sent', 'dead', 'unknown', 'expired', 'discarded')),
        attempts integer NOT NULL DEFAULT 0,
        fence bigint NOT NULL DEFAULT 0,
        holds_lane boolean NOT NULL DEFAULT false,
        wake_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        send_before timestamptz,
        reason text,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz,
        PRIMARY KEY (lane, seq)
      ) WITH (fillfactor = 70);
      CREATE INDEX outbox_open ON holdfast.outbox_message (lane, seq) WHERE state IN ('queued', 'sending') OR holds_lane;
      CREATE INDEX outbox_stuck ON holdfast.outbox_message (updated_at) WHERE state IN ('dead', 'unknown');
      CREATE INDEX outbox_expires ON holdfast.outbox_message (expires_at) WHERE expires_at IS NOT NULL;
    `,
  },
  SAGA_MIGRATION,
  SAGA_DEPTH_MIGRATION,
  {
    id: 30,
    name: 'retry store',
    olderCodeRuns: true,
    sql: `
      CREATE TABLE holdfast.retry_entry (
        store text NOT NULL,
        owner text NOT NULL,
        slot text NOT NULL,
        input text NOT NULL,
        stored_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (store, owner, slot)
      ) WITH (fillfactor = 70);
      CREATE INDEX retry_entry_expires ON holdfast.retry_entry (expires_at);
    `,
  },
]
