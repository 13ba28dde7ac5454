/**
 * What a database's error means: one mapping from SQLSTATEs and connection errors to our codes, for both SQL dialects.
 *
 * Parameter values never pass: neither `detail` ("Key (email)=(...) already exists") nor the statement's parameters are
 * copied, the driver's error is not kept as the cause (it carries both), and quoted values in data errors are blanked.
 */
import { HoldfastError, messageOf } from '../core/index.ts'

/** The fields of a server's error that both drivers give. */
interface ServerError {
  readonly code: string
  readonly message: string
  readonly constraint?: string | undefined
  readonly table?: string | undefined
}

/** `commit`: COMMIT was on its way, so a lost connection leaves the outcome unknown. */
export type Phase = 'begin' | 'query' | 'commit'

/** Serialization failure; deadlock; a lock waited for longer than lock_timeout. */
const CONFLICTS = new Set(['40001', '40P01', '55P03'])
/** Ended by the server because it stayed idle, or open, for too long; a statement took too long. */
const TOO_LONG = new Set(['25P03', '25P04', '57014'])

/** A prepared statement that is not there, or there twice: the connection to the server is not the one it was prepared on. */
const POOLED = new Set(['26000', '42P05'])

/** The same failure in our words. An error that is ours already passes. */
export function storeFailure(transaction: string, phase: Phase, error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error
  const server = serverError(error)
  if (server === undefined && phase !== 'begin' && !isBroken(error)) return unconverted(transaction, error)
  if (server === undefined || isLost(server.code)) return lost(transaction, phase, error, server?.code)
  const { code: sqlstate, constraint, table } = server
  const context = { transaction, sqlstate, constraint, table }
  const message = `transaction ${transaction}: ${withoutValues(server)} (SQLSTATE ${sqlstate})`
  if (CONFLICTS.has(sqlstate) || isStalePlan(server)) return new HoldfastError('HF_STORE_CONFLICT', { message, context })
  if (TOO_LONG.has(sqlstate)) return new HoldfastError('HF_STORE_TX_TIMEOUT', { message, context })
  if (isDamage(server)) return new HoldfastError('HF_STORE_DAMAGED', { message, context })
  if (POOLED.has(sqlstate)) return new HoldfastError('HF_QUERY_FAILED', { message: `${message}; behind a pooler that does not keep prepared statements, open the store with prepare: false`, context })
  return new HoldfastError('HF_QUERY_FAILED', { message, context })
}

/** Does the error mean that the connection is of no use any more? */
export function isLostConnection(error: unknown): boolean {
  const server = serverError(error)
  if (server === undefined) return isBroken(error)
  return isLost(server.code) || server.code === '25P03' || server.code === '25P04'
}

/** Wrong credentials, no such database, not allowed, too old: waiting will not help. */
export function isRefusedForGood(error: unknown): boolean {
  if (error instanceof HoldfastError) return error.context['forGood'] === true
  const code = serverError(error)?.code
  return code !== undefined && (code.startsWith('28') || code === '3D000')
}

/** The server has no connection to spare just now. */
export function isCrowded(error: unknown): boolean {
  return serverError(error)?.code === '53300'
}

/** A write on a server that only reads. */
export function isReadOnly(error: unknown): boolean {
  return serverError(error)?.code === '25006'
}

/** The connection, or the database in this process, is of no use any more: an errno, a driver's connection error, a WebAssembly trap. */
function isBroken(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isBroken)
  if (!(error instanceof Error)) return true
  const { code } = error as NodeJS.ErrnoException
  if (typeof code === 'string') return /^(?:E[A-Z]|CONNECT|SASL)/.test(code)
  return error.name === 'RuntimeError' || error.name === 'ExitStatus' || error.message.startsWith('PGlite is clos')
}

/** Thrown on our side, before the server saw it. Its message may hold the value, so it stays unsaid. */
function unconverted(transaction: string, error: unknown): HoldfastError {
  const name = error instanceof Error ? error.name : typeof error
  return new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${transaction}: a parameter or a result could not be converted (${name}); pass what PostgreSQL's type of it can hold`, context: { transaction } })
}

function lost(transaction: string, phase: Phase, error: unknown, sqlstate: string | undefined): HoldfastError {
  const context = { transaction, sqlstate }
  if (phase === 'commit') {
    return new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: `transaction ${transaction}: the connection was lost while it was being committed (${messageOf(error)})`, context })
  }
  return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${transaction}: nothing was committed: ${messageOf(error)}`, context })
}

function serverError(error: unknown): ServerError | undefined {
  if (!(error instanceof Error)) return undefined
  const { code, constraint_name, constraint, table_name, table } = error as Error & { code?: unknown; constraint_name?: string; constraint?: string; table_name?: string; table?: string }
  if (typeof code !== 'string' || !/^[0-9A-Z]{5}$/.test(code) || code.startsWith('E')) return undefined
  return { code, message: error.message, constraint: constraint_name ?? constraint, table: table_name ?? table }
}

/** Connection exceptions, shutdown, recovery, too many connections, wrong credentials. */
function isLost(sqlstate: string): boolean {
  return sqlstate.startsWith('08') || sqlstate.startsWith('57P') || sqlstate.startsWith('28') || sqlstate === '53300' || sqlstate === '3D000' || sqlstate === '40003'
}

/** A page that is not what was written, an index that contradicts itself, a table's file that is gone. */
function isDamage(server: ServerError): boolean {
  return server.code === 'XX001' || server.code === 'XX002' || (server.code === '58P01' && server.message.startsWith('could not open file "base/'))
}

function isStalePlan(server: ServerError): boolean {
  return server.code === '0A000' && server.message.startsWith('cached plan must not change result type')
}

function withoutValues(server: ServerError): string {
  const message = server.message.length > 300 ? `${server.message.slice(0, 297)}...` : server.message
  return server.code.startsWith('22') ? message.replace(/"[^"]*"?/g, '"..."') : message
}
