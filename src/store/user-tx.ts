/**
 * Transactions in the shape of the user's own client (pg, postgres, Kysely, Drizzle), in both directions.
 *
 * Ours to theirs: a transaction that the store has opened is handed out as their client, bound to its connection. Theirs to
 * ours: a transaction that they have opened is joined; its statements run through their client, and their errors pass as
 * they are, so that their own retry of a serialization failure sees its SQLSTATE. Rooms above know only `sqlOf`.
 */
import { isHoldfastError, type HoldfastError } from '../core/index.ts'
import type { DriverTx } from './driver-tx.ts'
import type { Database, OpenOptions, SqlTx, Store, RoomTransactionOptions } from './port.ts'

/** How one client library's transactions and ours become each other. Made by `pg()`, `postgresJs()`, `kysely(db)`, `drizzle(make)`. */
export interface TxAdapter<UserTx> {
  /** `pg`, `kysely`: for messages. */
  readonly client: string
  /** Runs `work` with the user's kind of client over our open transaction. Neither commits nor rolls back: the store does. */
  within<T>(tx: DriverTx, work: (userTx: UserTx) => Promise<T>): Promise<T>
  /** For a client that keeps count of failures itself, and so must be told of a savepoint. Default: by SQL. */
  savepoint?<T>(userTx: UserTx, work: (inner: UserTx) => Promise<T>): Promise<T>
  /** Our view of a transaction that the user has opened. @throws HF_OPTION_INVALID for what is no transaction */
  join(userTx: UserTx): SqlTx
}

/** The same store, whose transactions are the user's kind of client. */
export function withClient<UserTx extends object>(store: Store, adapter: TxAdapter<UserTx>): Store<UserTx> {
  return { ...store, open: async (options: OpenOptions) => withUserTx(await store.open(options), adapter) }
}

/** The same database, whose transactions are the user's kind of client. */
function withUserTx<UserTx extends object>(database: Database<SqlTx>, adapter: TxAdapter<UserTx>): Database<UserTx> {
  const known = new WeakMap<UserTx, SqlTx>()
  return {
    dialect: database.dialect,
    durability: database.durability,
    ping: signal => database.ping(signal),
    close: () => database.close(),
    ...(database.snapshot === undefined ? {} : { snapshot: database.snapshot }),
    sqlOf: userTx => {
      let tx = known.get(userTx)
      if (tx === undefined) known.set(userTx, tx = adapter.join(userTx))
      return tx
    },
    ...(adapter.savepoint === undefined ? {} : { savepoint: (tx, work) => adapter.savepoint?.(tx, work) ?? work(tx) }),
    transaction: <T>(name: string, work: (tx: UserTx) => Promise<T>, options?: RoomTransactionOptions): Promise<T> => database.transaction(name, async tx => {
      try {
        // The store's own transactions are what a driver made; see DriverTx.
        return await adapter.within(tx as DriverTx, userTx => {
          known.set(userTx, tx)
          return work(userTx)
        })
      } catch (error) {
        throw troubleBehind(error) ?? error
      }
      // Their client may say more than one statement.
    }, { ...options, lone: false }),
  }
}

/** What a decorator of a database passes on, so that the user's client goes through it. */
export function userTxOf<Tx>(database: Database<Tx>): Pick<Database<Tx>, 'sqlOf' | 'savepoint'> {
  return {
    ...(database.sqlOf === undefined ? {} : { sqlOf: (tx: Tx) => database.sqlOf?.(tx) ?? tx as SqlTx }),
    ...(database.savepoint === undefined ? {} : { savepoint: <T>(tx: Tx, work: (inner: Tx) => Promise<T>) => database.savepoint?.(tx, work) ?? work(tx) }),
  }
}

/** The database as the rooms' own SQL needs it, whatever the user's client is. */
export function sqlDatabase<Tx>(database: Database<Tx>): Database<SqlTx> {
  // Without a client of the user's, the Tx of dialect `sql` is SqlTx (see bodyFor).
  if (database.sqlOf === undefined) return database as unknown as Database<SqlTx>
  return {
    dialect: database.dialect,
    durability: database.durability,
    ping: signal => database.ping(signal),
    close: () => database.close(),
    transaction: (name, work, options) => database.transaction(name, tx => work(database.sqlOf?.(tx) ?? tx as SqlTx), options),
  }
}

const failures = new WeakMap<Error, HoldfastError>()

/** Remembers what an error in the user's client's own shape means to the store. */
export function meaning<E extends Error>(error: E, failure: HoldfastError): E {
  failures.set(error, failure)
  return error
}

/** Deeper chains of causes than this are cycles. */
const CAUSES_MAX = 8

/**
 * A conflict, a lost connection or a time that was over, behind the error of the user's client: the store repeats or reports those. A
 * statement that was refused (a constraint, say) stays the client's error, which the user's code knows.
 */
function troubleBehind(error: unknown): HoldfastError | undefined {
  let at = error
  for (let depth = 0; at instanceof Error && depth < CAUSES_MAX; depth++, at = at.cause) {
    const failure = failures.get(at) ?? (depth > 0 && isHoldfastError(at) && at.code.startsWith('HF_STORE_') ? at : undefined)
    if (failure !== undefined) return failure.code === 'HF_QUERY_FAILED' ? undefined : failure
  }
  return undefined
}

/** A statement that would end or begin the transaction, which only the store may. */
const CONTROL = /^\s*(?:begin|start\s+transaction|commit|end|abort|prepare\s+transaction|rollback(?!\s+(?:(?:work|transaction)\s+)?to\b))\b/i

export function controlsTransaction(sql: string): boolean {
  return CONTROL.test(sql)
}
