/**
 * @module holdfast/kysely
 * Transactions as Kysely's `Transaction<DB>`.
 *
 * ```ts
 * import { createHoldfast } from 'holdfast'
 * import { kysely } from 'holdfast/kysely'
 * import { postgres } from 'holdfast/postgres'
 * import { Kysely, PostgresDialect } from 'kysely'
 * import pg from 'pg'
 *
 * const url = 'postgres://bot:secret@db.internal/bot'
 * const db = new Kysely<{ customer: { id: number; name: string } }>({ dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: url }) }) })
 * const hold = createHoldfast({ service: 'vpn-bot', store: postgres(url, { tx: kysely(db, { types: pg.types }) }) })
 * await hold.start()
 * await hold.transaction('rename', tx => tx.updateTable('customer').set({ name: 'Ada' }).where('id', '=', 7).execute())
 * ```
 * Needs the package `kysely` (an optional peer dependency).
 */
import { CompiledQuery, PostgresDialect, SingleConnectionProvider, Transaction, type DatabaseConnection, type Kysely, type QueryResult } from 'kysely'
import { HoldfastError } from '../../core/index.ts'
import type { Answer, DriverTx } from '../driver-tx.ts'
import { controlsTransaction, meaning, type TxAdapter } from '../user-tx.ts'
import { rowsOf, type TypeParsers } from './values.ts'

export type { SqlTx } from '../port.ts'
export type { TxAdapter } from '../user-tx.ts'
export type { TypeParsers } from './values.ts'

export interface KyselyOptions {
  /**
   * `pg.types`, where your Kysely runs on `pg`: values are then read by the same parsers as everywhere else in your program. Default: as
   * `SqlTx` gives them, which is what `pg` gives by default too but for `date` (midnight UTC) and `interval` (text).
   */
  readonly types?: TypeParsers
}

/**
 * Inside the store's transactions `tx` is a `Transaction<DB>` on the store's connection, with `db`'s plugins and none of its connections.
 * A refused statement is an error with its SQLSTATE as `code` and its `constraint`, as of `pg`. Streaming is refused.
 *
 * Joining takes the `Transaction<DB>` of your own `db.transaction().execute(...)`, or a controlled one.
 */
export function kysely<DB>(db: Kysely<DB>, options: KyselyOptions = {}): TxAdapter<Transaction<DB>> {
  const unconnected = new PostgresDialect({ pool: () => Promise.reject(new HoldfastError('HF_QUERY_FAILED', { message: 'kysely: inside a transaction of the store there is no other connection' })) })
  const props = { config: { dialect: unconnected }, dialect: unconnected, driver: unconnected.createDriver() }
  return {
    client: 'kysely',
    within: (tx, work) => {
      const executor = db.getExecutor().withConnectionProvider(new SingleConnectionProvider(connectionOf(tx, options.types)))
      return work(new Transaction<DB>({ ...props, executor }))
    },
    join: trx => {
      // Types cannot stop a program in JavaScript.
      if (!(trx as Kysely<DB>).isTransaction) throw new HoldfastError('HF_OPTION_INVALID', { message: 'kysely: expected the transaction of db.transaction().execute(), got a Kysely that is none' })
      // A plugin may rename columns (CamelCasePlugin), and our statements read theirs by name.
      const plain = trx.withoutPlugins()
      return { query: async <Row>(sql: string, params: readonly unknown[] = []): Promise<readonly Row[]> => (await plain.executeQuery<Row>(CompiledQuery.raw(sql, [...params]))).rows }
    },
  }
}

async function read<Row>(tx: DriverTx, sql: string, params: readonly unknown[], types: TypeParsers | undefined): Promise<Answer<Row>> {
  if (types === undefined) return tx.answer<Row>(sql, params)
  const result = (await tx.raw(sql, params)).at(-1)
  if (result === undefined) return { command: '', count: null, rows: [] }
  // What columns a statement gives is the query's type in Kysely, and its builder's word.
  return { command: result.command, count: result.count, rows: rowsOf(result, types) as Row[] }
}

const CHANGES = new Set(['INSERT', 'UPDATE', 'DELETE', 'MERGE'])

function connectionOf(tx: DriverTx, types: TypeParsers | undefined): DatabaseConnection {
  return {
    async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
      if (controlsTransaction(sql)) throw new HoldfastError('HF_QUERY_FAILED', { message: 'the transaction is begun and ended by the store: throw to roll it back, use SAVEPOINT for a part of it' })
      try {
        const { rows, command, count } = await read<Row>(tx, sql, parameters, types)
        return { rows: [...rows], ...(CHANGES.has(command) ? { numAffectedRows: BigInt(count ?? 0) } : {}) }
      } catch (error) {
        throw error instanceof HoldfastError ? asClientError(error) : error
      }
    },
    async *streamQuery() {
      throw new HoldfastError('HF_QUERY_FAILED', { message: 'kysely: stream() is not there inside a transaction of the store' })
    },
  }
}

/** With the fields that every client of PostgreSQL gives. What is not the server's word about a statement stays the store's. */
function asClientError(failure: HoldfastError): Error {
  const { sqlstate, constraint, table } = failure.context
  if (typeof sqlstate !== 'string') return failure
  return meaning(Object.assign(new Error(failure.message), { code: sqlstate, severity: 'ERROR', constraint, table }), failure)
}
