/**
 * Transactions as `TransactionSql` of the package `postgres`: the tagged template, on the store's own connection.
 *
 * The package sends a statement when it is awaited. So each is looked at in that moment: after the end of the transaction,
 * or when its connection is gone, it is refused instead of running outside of it.
 */
import type { Sql, TransactionSql } from 'postgres'
import { HoldfastError } from '../../core/index.ts'
import type { DriverTx } from '../driver-tx.ts'
import { connectionOf, type Connection } from '../postgres/session.ts'
import { controlsTransaction, meaning, type TxAdapter } from '../user-tx.ts'

/**
 * Inside the store's transactions `tx` is a `TransactionSql` on the store's connection, with the package's default types; a string given
 * for json is JSON text. A refused statement is a `PostgresError`. BEGIN, COMMIT, ROLLBACK and `prepare` are refused: use `savepoint`.
 *
 * Joining takes the `sql` that your own `sql.begin(...)` hands out, whatever types and column names it transforms to.
 */
export function postgresJs(): TxAdapter<TransactionSql> {
  return {
    client: 'postgres',
    within: (tx, work) => work(transactionSql(connectionOfStore(tx))),
    // The package calls a transaction failed once a statement in it has, caught or not, unless it was in a savepoint of the package's own.
    savepoint: async <T>(tx: TransactionSql, work: (inner: TransactionSql) => Promise<T>): Promise<T> => {
      const [value] = await tx.savepoint(async inner => [await work(inner)] as const)
      return value as T
    },
    join: sql => {
      // Types cannot stop a program in JavaScript.
      if (typeof (sql as Partial<TransactionSql>).savepoint !== 'function') throw new HoldfastError('HF_OPTION_INVALID', { message: 'postgresJs: expected the sql that sql.begin() hands out, got something else' })
      return {
        async query<Row>(text: string, params: readonly unknown[] = []): Promise<readonly Row[]> {
          const rows = await sql.unsafe<Record<string, unknown>[]>(text, params.map(value => value ?? null) as never[], { prepare: true })
          return Array.from(rows, row => ({ ...row, ...renamedBack(row) })) as unknown as readonly Row[]
        },
      }
    },
  }
}

/** Column names as our statements wrote them, where the user's client transforms them (to camel, pascal or kebab case). */
function renamedBack(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name.replace(/-/g, '_').replace(/([A-Z])/g, '_$1').replace(/^_/, '').toLowerCase(), value]))
}

function connectionOfStore(tx: DriverTx): Connection {
  const connection = connectionOf(tx)
  if (connection === undefined) throw new HoldfastError('HF_OPTION_INVALID', { message: 'postgresJs: only postgres(url) runs on the package postgres; the embedded store takes pg(), kysely(db) or drizzle(make)' })
  return connection
}

/** A statement that has not been sent. Only what is awaited is: a fragment within another statement is not. */
interface Pending {
  readonly strings: readonly string[]
  handle(): unknown
  reject(error: unknown): void
}

function transactionSql(connection: Connection): TransactionSql {
  const { sql } = connection
  let savepoints = 0

  const guarded = <Q>(made: Q): Q => {
    if (!(made instanceof Promise) || !('handle' in made)) return made
    const pending = made as unknown as Pending
    const send = pending.handle.bind(pending)
    let sent = false
    pending.handle = () => {
      if (sent) return
      sent = true
      const outcome = controlsTransaction(pending.strings[0] ?? '')
        ? Promise.reject(new HoldfastError('HF_QUERY_FAILED', { message: 'the transaction is begun and ended by the store: throw to roll it back, use savepoint for a part of it' }))
        : connection.run(() => {
            send()
            // Its own "then" would send it.
            return Promise.prototype.then.call(made, undefined, (error: unknown) => {
              const failure = connection.failureOf(error)
              throw error instanceof Error ? meaning(error, failure) : failure
            })
          })
      // Where nothing was sent, nobody else tells the caller.
      outcome.catch((error: unknown) => { pending.reject(error) })
    }
    return made
  }

  const savepoint = async (first: unknown, second?: unknown): Promise<unknown> => {
    const work = (second ?? first) as (inner: TransactionSql) => unknown
    const name = sql(`s${String(savepoints++)}${typeof first === 'string' ? `_${first}` : ''}`)
    await made`savepoint ${name}`
    try {
      const value = await work(made)
      const settled = Array.isArray(value) ? await Promise.all(value) : value
      await made`release savepoint ${name}`
      return settled
    } catch (error) {
      await made`rollback to savepoint ${name}`
      throw error
    }
  }

  const call = (first: never, ...rest: never[]): unknown => guarded((sql as unknown as (...args: never[]) => unknown)(first, ...rest))
  const made = Object.assign(call, {
    types: sql.types,
    typed: sql.typed,
    array: (...args: Parameters<Sql['array']>) => sql.array(...args),
    json: (value: unknown) => sql.typed(JSON.stringify(value), 3802),
    unsafe: (...args: Parameters<Sql['unsafe']>) => guarded(sql.unsafe(...args)),
    file: (...args: Parameters<Sql['file']>) => guarded(sql.file(...args)),
    notify: (channel: string, payload: string) => guarded(sql`select pg_notify(${channel}, ${payload})`),
    savepoint,
    prepare: () => Promise.reject(new HoldfastError('HF_QUERY_FAILED', { message: 'the transaction is ended by the store: it cannot be prepared for a two-phase commit' })),
  }) as unknown as TransactionSql
  return made
}
