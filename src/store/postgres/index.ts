/**
 * @module holdfast/postgres
 * The store on a PostgreSQL server (14 or newer): several instances, survives crashes, restarts and fail-over.
 *
 * ```ts
 * import { createHoldfast } from 'holdfast'
 * import { postgres } from 'holdfast/postgres'
 *
 * const hold = createHoldfast({ service: 'vpn-bot', store: postgres('postgres://bot:secret@db.internal/bot') })
 * ```
 * Needs the package `postgres` (an optional peer dependency).
 */
import { openDatabase } from '../transaction.ts'
import type { Database, OpenOptions, SqlTx, Store } from '../port.ts'
import { withClient, type TxAdapter } from '../user-tx.ts'
import { POSTGRES_DURABILITY, PostgresDriver } from './driver.ts'
import { addressOf, resolvePostgres, type PostgresOptions } from './options.ts'

export { postgresJs } from '../clients/postgres-js.ts'
export type { TxAdapter } from '../user-tx.ts'
export { POSTGRES_DEFAULTS, type PostgresOptions } from './options.ts'
export { migrate, type Migration, type MigrationReport } from '../migrations.ts'
export type { Database, Durability, SqlTx, Store, TransactionOptions } from '../port.ts'

/**
 * A store on the server that `url` names. No I/O before `open`, which waits at most `openWithin` for the server.
 *
 * Transactions are READ COMMITTED: a read-then-write must lock the row or test it again in its WHERE. Each is bounded by
 * SET LOCAL timeouts, so that a process which was stopped inside one cannot hold its locks for long.
 * Works through a transaction pooler; see `prepare`.
 * @throws HF_OPTION_INVALID for a URL or option that is not one; `open` throws HF_STORE_UNAVAILABLE naming host and database, also for a server that is too old
 */
export function postgres(url: string, options?: Omit<PostgresOptions, 'tx'>): Store
/** The same, with `tx` of the user's own client. */
export function postgres<UserTx extends object>(url: string, options: PostgresOptions<UserTx> & { readonly tx: TxAdapter<UserTx> }): Store<UserTx>
export function postgres<UserTx extends object>(url: string, options?: PostgresOptions<UserTx>): Store | Store<UserTx> {
  const store = postgresStore(url, options)
  return options?.tx === undefined ? store : withClient(store, options.tx)
}

function postgresStore(url: string, options: Omit<PostgresOptions<never>, 'tx'> | undefined): Store {
  const resolved = resolvePostgres(options)
  const address = addressOf(url)
  return {
    kind: 'store',
    name: `postgres ${address}`,
    durability: POSTGRES_DURABILITY,
    open: async ({ env, events, service }: OpenOptions): Promise<Database<SqlTx>> => {
      const driver = new PostgresDriver(url, address, resolved, env, service)
      await driver.connect()
      return openDatabase(driver, { env, events })
    },
  }
}
