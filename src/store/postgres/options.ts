/**
 * Options of the PostgreSQL store: how much of the server it may take, and how long anything may hold anything.
 */
import { durationMs, HoldfastError, type Duration } from '../../core/index.ts'
import type { SqlTx } from '../port.ts'
import type { TxAdapter } from '../user-tx.ts'

export interface PostgresOptions<UserTx = SqlTx> {
  /**
   * Makes `tx` the client that you use already, and lets your own open transactions be joined: `pg()` of holdfast/pg, `kysely(db)` of
   * holdfast/kysely, `drizzle(make)` of holdfast/drizzle, or `postgresJs()`. Default: `tx.query(sql, params)`, see SqlTx.
   */
  readonly tx?: TxAdapter<UserTx>
  /** Connections of this process, 1 to 100. Default 5: ten instances stay below PostgreSQL's default of 100. */
  readonly connections?: number
  /**
   * Named prepared statements. Default true. Set false behind a transaction pooler that does not keep them (PgBouncer before 1.21,
   * or with `max_prepared_statements = 0`); costs one round trip per statement.
   */
  readonly prepare?: boolean
  /** How long `open` keeps trying to reach the server. Default 10 s: covers a restart of a server beside us. */
  readonly openWithin?: Duration
  /** One attempt to connect. Default 3 s. */
  readonly connectTimeout?: Duration
  /** How long a transaction waits for a free connection. Default 5 s. */
  readonly acquireTimeout?: Duration
  /** Whole transaction, and each statement of it. Default 10 s; `TransactionOptions.timeout` overrides it for one. */
  readonly transactionTimeout?: Duration
  /** Longest wait for a lock (HF_STORE_CONFLICT). Default 3 s. */
  readonly lockTimeout?: Duration
  /**
   * How long the server lets a transaction stay idle. Default 5 s: must stay below half a lease, so that a process which was
   * stopped inside a transaction neither blocks the take-over nor commits late.
   */
  readonly idleInTransactionTimeout?: Duration
}

export interface ResolvedPostgres {
  readonly connections: number
  readonly prepare: boolean
  readonly openWithinMs: number
  readonly connectTimeoutMs: number
  readonly acquireTimeoutMs: number
  readonly transactionTimeoutMs: number
  readonly lockTimeoutMs: number
  readonly idleInTransactionTimeoutMs: number
}

export const POSTGRES_DEFAULTS: Required<Omit<PostgresOptions, 'tx'>> = Object.freeze({
  connections: 5,
  prepare: true,
  openWithin: '10s',
  connectTimeout: '3s',
  acquireTimeout: '5s',
  transactionTimeout: '10s',
  lockTimeout: '3s',
  idleInTransactionTimeout: '5s',
})

/** @throws HF_OPTION_INVALID */
export function resolvePostgres(options: Omit<PostgresOptions, 'tx'> = {}): ResolvedPostgres {
  const given = { ...POSTGRES_DEFAULTS, ...options }
  const ms = (name: Exclude<keyof PostgresOptions, 'connections' | 'prepare' | 'tx'>): number => durationMs(given[name], `postgres: ${name}`)
  if (!Number.isSafeInteger(given.connections) || given.connections < 1 || given.connections > 100) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `postgres: connections: expected a whole number from 1 to 100, got ${String(given.connections)}` })
  }
  return {
    connections: given.connections,
    prepare: given.prepare,
    openWithinMs: ms('openWithin'),
    connectTimeoutMs: ms('connectTimeout'),
    acquireTimeoutMs: ms('acquireTimeout'),
    transactionTimeoutMs: ms('transactionTimeout'),
    lockTimeoutMs: ms('lockTimeout'),
    idleInTransactionTimeoutMs: ms('idleInTransactionTimeout'),
  }
}

export interface Host {
  readonly host: string
  readonly port: number
}

/** The hosts of a URL that names several (`a:5432,b:5432`); none for a URL of one, which the driver reads itself. */
export function severalHosts(url: string): readonly Host[] {
  const list = addressOf(url).split('/')[0]?.split(',') ?? []
  if (list.length < 2) return []
  return list.map(each => {
    const [host = 'localhost', port] = each.split(/:(?=\d+$)/)
    return { host, port: port === undefined ? 5432 : Number(port) }
  })
}

/**
 * `db.internal/bot`: host and database, never user or password.
 * @throws HF_OPTION_INVALID, without repeating the text, because it may hold a password
 */
export function addressOf(url: string): string {
  // Several hosts (`a:5432,b:5432`) are no URL for the platform's parser; each is one by itself.
  const match = /^postgres(?:ql)?:\/\/(?:[^@/?]*@)?([^/?]*)(?:\/([^?]*))?/.exec(url)
  if (match === null) throw new HoldfastError('HF_OPTION_INVALID', { message: 'postgres: expected a URL such as postgres://user:password@db.internal:5432/bot' })
  const host = match[1] === undefined || match[1] === '' ? 'localhost' : match[1]
  return match[2] === undefined || match[2] === '' ? host : `${host}/${match[2]}`
}
