/**
 * Numbered, forward-only migrations of any number of scopes: the rooms' own, and a user's program's.
 *
 * All pending migrations of a scope are one transaction under a transaction-level advisory lock: two processes that
 * start at once apply each exactly once, and neither a crash nor a pooler can leave the lock behind. Down-migrations are
 * left out on purpose: a release is rolled back to code that still fits (expand/contract, `olderCodeRuns`).
 */
import { createHash } from 'node:crypto'
import { checkName, HoldfastError, type EventBus } from '../core/index.ts'
import type { Database, SqlTx } from './port.ts'
import { rerunUnknownCommit } from './unknown-commit.ts'

export interface Migration {
  /** Positive and rising within its scope; never reused. */
  readonly id: number
  readonly name: string
  /** Any number of statements, without parameters and without transaction control (so no CREATE INDEX CONCURRENTLY). Never changed once released. */
  readonly sql: string
  /**
   * True where code that does not know this migration still works on the schema it leaves (something was only added):
   * the previous release may be started again. Default false: older code is refused with HF_STORE_SCHEMA.
   */
  readonly olderCodeRuns?: boolean
}

export interface MigrationReport {
  /** Highest id before and after; 0 for none. */
  readonly from: number
  readonly to: number
}

interface AppliedRow {
  readonly id: number
  readonly name: string
  readonly checksum: string
  readonly older_code_runs: boolean
}

/** One lock for all scopes, because the first of them creates the schema. The number is the bytes of 'HOLD'. */
const LOCK_KEY = 0x484f4c44

/**
 * Brings `scope` up to the newest of `migrations`.
 * @throws HF_STORE_SCHEMA when an applied migration was changed, is unknown to this code and not `olderCodeRuns`, or comes out of order;
 *   HF_QUERY_FAILED when a migration's SQL fails (nothing of it is applied); HF_OPTION_INVALID for a bad list
 */
export async function migrate(database: Database<SqlTx>, scope: string, migrations: readonly Migration[], options: { readonly events?: EventBus } = {}): Promise<MigrationReport> {
  checkName('migration scope', scope)
  checkList(scope, migrations)
  let from: number | undefined
  // What was applied is recorded with it, so running again finds it; where it began is then known from before.
  const report = await rerunUnknownCommit(() => database.transaction(`migrate.${scope}`, async tx => {
    // Another instance's migration may take longer than an ordinary lock may be waited for.
    await tx.query(`SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '300s'`)
    await tx.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY])
    await tx.query(BOOTSTRAP_SQL)
    const applied = await tx.query<AppliedRow>('SELECT id, name, checksum, older_code_runs FROM holdfast.migration WHERE scope = $1 ORDER BY id', [scope])
    checkApplied(scope, migrations, applied)
    const at = applied.at(-1)?.id ?? 0
    from ??= at
    for (const migration of migrations) {
      if (migration.id <= at) continue
      await tx.query(migration.sql)
      await tx.query('INSERT INTO holdfast.migration (scope, id, name, checksum, older_code_runs) VALUES ($1, $2, $3, $4, $5)', [scope, migration.id, migration.name, checksum(migration), migration.olderCodeRuns === true])
    }
    return { from, to: Math.max(at, migrations.at(-1)?.id ?? 0) }
  }, { timeout: '5m' }))
  if (report.to > report.from) options.events?.emit('store.migrated', report)
  return report
}

const BOOTSTRAP_SQL = `
  CREATE SCHEMA IF NOT EXISTS holdfast;
  CREATE TABLE IF NOT EXISTS holdfast.migration (
    scope text NOT NULL,
    id integer NOT NULL CHECK (id > 0),
    name text NOT NULL,
    checksum text NOT NULL,
    older_code_runs boolean NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, id)
  )`

function checkList(scope: string, migrations: readonly Migration[]): void {
  let previous = 0
  for (const migration of migrations) {
    if (!Number.isSafeInteger(migration.id) || migration.id <= previous) {
      throw new HoldfastError('HF_OPTION_INVALID', { message: `migrations of ${scope}: expected rising positive ids, got ${String(migration.id)} after ${String(previous)}`, context: { scope } })
    }
    previous = migration.id
  }
}

function checkApplied(scope: string, migrations: readonly Migration[], applied: readonly AppliedRow[]): void {
  const known = new Map(migrations.map(migration => [migration.id, migration]))
  const highest = applied.at(-1)?.id ?? 0
  for (const row of applied) {
    const migration = known.get(row.id)
    known.delete(row.id)
    if (migration === undefined) {
      if (row.older_code_runs) continue
      throw schemaError(scope, `the database has migration ${String(row.id)} (${row.name}), which this version does not know and which older code cannot run on; deploy the newer version`)
    }
    if (row.checksum !== checksum(migration)) throw schemaError(scope, `migration ${String(row.id)} (${row.name}) was changed after it had been applied; restore its text and add a new one`)
  }
  for (const migration of known.values()) {
    if (migration.id < highest) throw schemaError(scope, `migration ${String(migration.id)} (${migration.name}) was added behind ${String(highest)}, which is already applied; give it a higher number`)
  }
}

function checksum(migration: Migration): string {
  return createHash('sha256').update(migration.sql).digest('hex')
}

function schemaError(scope: string, message: string): HoldfastError {
  return new HoldfastError('HF_STORE_SCHEMA', { message: `${scope}: ${message}`, context: { scope } })
}
