/**
 * @module holdfast/pg
 * Transactions as clients of the package `pg` (node-postgres).
 *
 * ```ts
 * import { createHoldfast } from 'holdfast'
 * import { pg } from 'holdfast/pg'
 * import { postgres } from 'holdfast/postgres'
 *
 * const hold = createHoldfast({ service: 'vpn-bot', store: postgres('postgres://bot:secret@db.internal/bot', { tx: pg() }) })
 * await hold.start()
 * await hold.transaction('rename', tx => tx.query('UPDATE customer SET name = $1 WHERE id = $2', ['Ada', 7]))
 * ```
 * Needs the package `pg` (an optional peer dependency).
 */
import type { ClientBase, QueryArrayResult, QueryResult, QueryResultRow } from 'pg'
import pgPackage from 'pg'
import { HoldfastError } from '../../core/index.ts'
import type { DriverTx, RawResult } from '../driver-tx.ts'
import { controlsTransaction, meaning, type TxAdapter } from '../user-tx.ts'
import { rowsOf, valuesOf, type TypeParsers } from './values.ts'

export type { SqlTx } from '../port.ts'
export type { TxAdapter } from '../user-tx.ts'

/** What a transaction offers: `query` of a client of `pg`, with promises or a callback, text and values or a config. */
export type PgTx = Pick<ClientBase, 'query'>

/**
 * Inside the store's transactions `tx` is a client with `query`, on the store's connection: values are read by `pg.types`, so by your own
 * parsers where you set some, and a refused statement is a `DatabaseError` with its SQLSTATE as `code` (without `detail`, which repeats values).
 * Cursors and streams are refused, and so are BEGIN, COMMIT and ROLLBACK: use `SAVEPOINT`.
 *
 * Joining takes a client on which you have begun a transaction yourself.
 */
export function pg(): TxAdapter<PgTx> {
  return {
    client: 'pg',
    within: (tx, work) => work(pgClient(tx)),
    join: client => {
      if (client instanceof pgPackage.Pool) throw new HoldfastError('HF_OPTION_INVALID', { message: 'pg: expected a client that has begun a transaction, got a pool: each of its queries may run on another connection' })
      return {
        async query<Row>(sql: string, params: readonly unknown[] = []): Promise<readonly Row[]> {
          const result = await client.query<Row & QueryResultRow>(sql, [...params]) as QueryResult<Row & QueryResultRow> | QueryResult<Row & QueryResultRow>[]
          return (Array.isArray(result) ? result.at(-1)?.rows : result.rows) ?? []
        },
      }
    },
  }
}

interface Config {
  readonly text: string
  readonly values?: readonly unknown[]
  readonly rowMode?: string
  readonly types?: TypeParsers
}
type Answer = QueryResult | QueryArrayResult
type Callback = (error: unknown, result?: Answer | Answer[]) => void

/** @internal `control`: what becomes of a statement that would begin or end the transaction; by default it is refused. */
export function pgClient(tx: DriverTx, control: (sql: string) => boolean = () => false): PgTx {
  const run = async ({ text, values, rowMode, types = pgPackage.types }: Config): Promise<Answer | Answer[]> => {
    if (controlsTransaction(text)) {
      if (control(text)) return answerOf({ command: '', count: null, fields: [], rows: [] }, rowMode, types)
      throw new HoldfastError('HF_QUERY_FAILED', { message: 'the transaction is begun and ended by the store: throw to roll it back, use SAVEPOINT for a part of it' })
    }
    let results: readonly RawResult[]
    try {
      results = await tx.raw(text, values ?? [])
    } catch (error) {
      throw error instanceof HoldfastError ? asDatabaseError(error) : error
    }
    const answers = results.map(result => answerOf(result, rowMode, types))
    return answers.length === 1 ? answers[0] ?? [] : answers
  }
  const query = (first: string | Config | { submit: unknown }, ...rest: readonly (readonly unknown[] | Callback | undefined)[]): Promise<Answer | Answer[]> | undefined => {
    if (typeof first === 'object' && 'submit' in first) throw new HoldfastError('HF_QUERY_FAILED', { message: 'cursors and query streams are not there inside a transaction of the store' })
    const given = rest.find(each => Array.isArray(each)) as readonly unknown[] | undefined
    const config = typeof first === 'string' ? { text: first } : first
    const callback = rest.find(each => typeof each === 'function')
    const answer = run(given === undefined ? config : { ...config, values: given })
    if (callback === undefined) return answer
    answer.then(result => { callback(null, result) }, (error: unknown) => { callback(error) })
    return undefined
  }
  // The overloads of `pg` say for each form of a call what this function does for all of them.
  return { query: query as unknown as PgTx['query'] }
}

function answerOf(result: RawResult, rowMode: string | undefined, types: TypeParsers): Answer {
  const fields = result.fields.map(({ name, type }) => ({ name, dataTypeID: type, tableID: 0, columnID: 0, dataTypeSize: -1, dataTypeModifier: -1, format: 'text' }))
  const about = { command: result.command, rowCount: result.count, oid: 0, fields }
  return rowMode === 'array' ? { ...about, rows: valuesOf(result, types) } : { ...about, rows: rowsOf(result, types) }
}

/** As `pg` throws it. What is not the server's word about a statement (a lost connection) stays the store's. */
function asDatabaseError(failure: HoldfastError): Error {
  const { sqlstate, constraint, table } = failure.context
  if (typeof sqlstate !== 'string') return failure
  const error = new pgPackage.DatabaseError(failure.message, 0, 'error')
  error.code = sqlstate
  error.severity = 'ERROR'
  if (typeof constraint === 'string') error.constraint = constraint
  if (typeof table === 'string') error.table = table
  return meaning(error, failure)
}
