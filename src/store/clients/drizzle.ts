/**
 * @module holdfast/drizzle
 * Transactions as Drizzle's.
 *
 * ```ts
 * import { createHoldfast } from 'holdfast'
 * import { drizzle } from 'holdfast/drizzle'
 * import { postgres } from 'holdfast/postgres'
 * import { drizzle as drizzleOf } from 'drizzle-orm/node-postgres'
 * import { eq } from 'drizzle-orm'
 * import { integer, pgTable, text } from 'drizzle-orm/pg-core'
 *
 * const customer = pgTable('customer', { id: integer().primaryKey(), name: text() })
 * const tx = drizzle(client => drizzleOf({ client, schema: { customer } }))
 * const hold = createHoldfast({ service: 'vpn-bot', store: postgres('postgres://bot:secret@db.internal/bot', { tx }) })
 * await hold.start()
 * await hold.transaction('rename', tx => tx.update(customer).set({ name: 'Ada' }).where(eq(customer.id, 7)))
 * ```
 * Needs the packages `drizzle-orm` and `pg` (optional peer dependencies).
 */
import { sql as sqlOf, type SQL } from 'drizzle-orm'
import type { Pool } from 'pg'
import { HoldfastError } from '../../core/index.ts'
import type { DriverTx } from '../driver-tx.ts'
import type { TxAdapter } from '../user-tx.ts'
import { pgClient, type PgTx } from './pg.ts'

export type { SqlTx } from '../port.ts'
export type { TxAdapter } from '../user-tx.ts'

/** What is needed of a database of Drizzle: that it opens transactions. */
export interface DrizzleDatabase<Tx> {
  transaction(work: (tx: Tx) => Promise<unknown>): Promise<unknown>
}

/** What is needed of a transaction of Drizzle's: its raw statements, and that it knows how to undo itself. */
interface Executes {
  execute(query: SQL): Promise<unknown>
  rollback(): never
}

/**
 * `make` builds your Drizzle database (of `drizzle-orm/node-postgres`) on the client it is given; it is called once, and its schema, casing and
 * logger are those of every transaction of the store. `tx.transaction(...)` inside is a savepoint.
 *
 * Joining takes the `tx` of your own `db.transaction(...)`.
 */
export function drizzle<Tx extends object>(make: (client: Pool) => DrizzleDatabase<Tx>): TxAdapter<Tx> {
  const pool = new StorePool()
  let database: DrizzleDatabase<Tx> | undefined
  return {
    client: 'drizzle',
    within: async <T>(tx: DriverTx, work: (userTx: Tx) => Promise<T>): Promise<T> => {
      // Drizzle takes it for a pool of `pg` by its name, asks it for a client per transaction, and uses nothing else of it.
      database ??= make(pool as unknown as Pool)
      let value: { readonly of: T } | undefined
      await pool.lending(tx, () => database?.transaction(async userTx => { value = { of: await work(userTx) } }) ?? Promise.resolve())
      if (value === undefined) throw new HoldfastError('HF_INVARIANT', { message: 'drizzle ended a transaction without having run its work' })
      return value.of
    },
    join: userTx => {
      const { execute, rollback } = userTx as Partial<Executes>
      if (typeof execute !== 'function' || typeof rollback !== 'function') throw new HoldfastError('HF_OPTION_INVALID', { message: 'drizzle: expected the transaction of db.transaction(), got something else' })
      const transaction = userTx as Tx & Executes
      return { query: async <Row>(text: string, params: readonly unknown[] = []): Promise<readonly Row[]> => rowsOf<Row>(await transaction.execute(statement(text, params))) }
    },
  }
}

/** Lends the store's connection for one transaction of Drizzle, which asks for it in the very call that begins it. */
class StorePool {
  #tx: DriverTx | undefined

  lending<T>(tx: DriverTx, begin: () => Promise<T>): Promise<T> {
    this.#tx = tx
    try {
      return begin()
    } finally {
      this.#tx = undefined
    }
  }

  connect(): Promise<PgTx & { release(): void }> {
    const tx = this.#tx
    if (tx === undefined) return Promise.reject(new HoldfastError('HF_QUERY_FAILED', { message: 'drizzle: inside a transaction of the store use its tx, there is no other connection' }))
    // Drizzle begins first, and commits or rolls back last; in between it is whoever works in the transaction.
    return Promise.resolve({ ...pgClient(tx, endsAndBeginsOnce()), release: () => undefined })
  }

  query(): Promise<never> {
    return Promise.reject(new HoldfastError('HF_QUERY_FAILED', { message: 'drizzle: this database only opens transactions of the store; use its tx' }))
  }
}

/** Drizzle's own BEGIN and its COMMIT or ROLLBACK do nothing here: the store's do. A second of either is somebody else's and is refused. */
function endsAndBeginsOnce(): (sql: string) => boolean {
  let state: 'new' | 'begun' | 'ended' = 'new'
  return sql => {
    const isBegin = sql === 'begin'
    if (state === 'new' && isBegin) state = 'begun'
    else if (state === 'begun' && !isBegin) state = 'ended'
    else return false
    return true
  }
}

/** `$1` and so on as Drizzle's parameters, which it numbers by itself. */
function statement(text: string, params: readonly unknown[]): SQL {
  const parts = text.split(/\$(\d+)/).map((part, index) => (index % 2 === 0 ? sqlOf.raw(part) : sqlOf`${sqlOf.param(params[Number(part) - 1] ?? null)}`))
  return sqlOf.join(parts)
}

/** An answer as of `pg` (`{ rows }`), or a list of rows as of `postgres`. */
function rowsOf<Row>(answer: unknown): readonly Row[] {
  return Array.isArray(answer) ? answer as readonly Row[] : (answer as { readonly rows: readonly Row[] }).rows
}
