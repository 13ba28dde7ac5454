/**
 * control's tables in PostgreSQL's dialect, in the order in which they came.
 */
import type { Migration } from '../store/index.ts'

/** Scope `control`. */
export const controlMigrations: readonly Migration[] = [
  {
    id: 1,
    name: 'audit, flag overrides, tickets',
    olderCodeRuns: true,
    sql: `
      CREATE TABLE holdfast.audit (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key text NOT NULL UNIQUE,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor text NOT NULL,
        action text NOT NULL,
        target text NOT NULL,
        reason text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
        before jsonb NOT NULL,
        after jsonb NOT NULL,
        correlation_id text
      );
      CREATE FUNCTION holdfast.audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'holdfast.audit is append-only';
      END $$;
      CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON holdfast.audit
        FOR EACH ROW EXECUTE FUNCTION holdfast.audit_is_append_only();

      CREATE TABLE holdfast.flag_override (
        flag text PRIMARY KEY,
        value boolean,
        actor text NOT NULL,
        reason text NOT NULL,
        version bigint NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz
      );

      CREATE TABLE holdfast.ticket (
        token_hash text PRIMARY KEY,
        action text NOT NULL,
        actor text NOT NULL,
        actor_id text NOT NULL,
        input text NOT NULL,
        summary text NOT NULL,
        state text NOT NULL,
        second_person boolean NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at timestamptz NOT NULL,
        used_at timestamptz,
        used_by text
      );
      CREATE INDEX ticket_expires_at ON holdfast.ticket (expires_at);

      CREATE TABLE holdfast.ticket_guess (
        actor text PRIMARY KEY,
        wrong integer NOT NULL,
        since timestamptz NOT NULL DEFAULT clock_timestamp()
      );`,
  },
]
