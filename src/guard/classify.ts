/**
 * What kind of failure an error is: may the same call succeed later, whose fault is it, how long does it ask to wait.
 *
 * Transient: timeouts, connection errors, status 408/425/429/500/502/503/504, a lost or busy database. A programming
 * error (TypeError, assertion) is a defect: never retried, never counted against a dependency. Our own refusals and
 * cancellations are neither success nor failure.
 */
import { isHoldfastError, type ErrorCode, type FailureClass } from '../core/index.ts'
import { retryAfterIn, statusClass, TRANSIENT_STATUS } from './http-status-error.ts'

/** What the guard does about an error that the guarded work threw. */
export type Verdict =
  /** Counts against the breaker; repeated where the call may be repeated. */
  | 'transient'
  /** The answer stands: not repeated, not counted. */
  | 'permanent'
  /** The work gave up by itself, or was refused by a guard inside: not repeated, not counted. */
  | 'neither'

const CONNECTION_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'ESOCKETTIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENETDOWN', 'ENOTFOUND', 'EAI_AGAIN',
  'CONNECTION_CLOSED', 'CONNECTION_ENDED', 'CONNECTION_DESTROYED', 'CONNECT_TIMEOUT',
])
/** undici's codes that speak of the caller's mistake or wish rather than of the connection. */
const UNDICI_NOT_CONNECTION: ReadonlySet<string> = new Set([
  'UND_ERR_ABORTED', 'UND_ERR_INVALID_ARG', 'UND_ERR_INVALID_RETURN_VALUE', 'UND_ERR_NOT_SUPPORTED', 'UND_ERR_DESTROYED', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
])
/** PostgreSQL: connection (08), resources (53), shutdown (57P), serialization and deadlock (40). */
const TRANSIENT_SQLSTATE = /^(?:08...|53...|57P0.|40001|40P01)$/
const SQLSTATE = /^[0-9A-Z]{5}$/
const REFUSALS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'HF_BREAKER_OPEN', 'HF_OVERLOADED', 'HF_RATE_LIMITED', 'HF_CANCELLED', 'HF_SWITCHED_OFF', 'HF_STOPPING', 'HF_CALL_IN_TX',
])
/** How deep causes are followed. */
const DEPTH_MAX = 5

/**
 * The verdict on an error, by the default rules or by a dependency's own `transient`.
 * That function only decides about errors of the work: refusals and cancellations stay neither. One that throws is ignored.
 */
export function judge(error: unknown, transient?: (error: unknown) => boolean): Verdict {
  if (isHoldfastError(error)) {
    // Another dependency's final verdict: repeating it here would multiply the attempts of two layers.
    if (REFUSALS.has(error.code) || error.context['dependency'] !== undefined) return 'neither'
  } else if (isCancellation(error)) return 'neither'
  if (transient !== undefined) {
    try {
      return transient(error) ? 'transient' : 'permanent'
    } catch {
      // A broken classifier must not replace the error that it was asked about; the default rules decide.
    }
  }
  return isTransient(error) ? 'transient' : 'permanent'
}

/** Whether the same call may succeed later, by the default rules. */
export function isTransient(error: unknown): boolean {
  if (isHoldfastError(error)) {
    return error.retryable && (error.failure === 'dependency_error' || error.failure === 'infra_error') && !REFUSALS.has(error.code)
  }
  const status = statusOf(error)
  if (status !== undefined) return TRANSIENT_STATUS.has(status)
  return isConnectionError(error, 0)
}

/** Whose fault an error is: decides log level and alert. */
export function errorClass(error: unknown): FailureClass {
  if (isHoldfastError(error)) return error.failure
  if (isCancellation(error)) return 'user_error'
  const status = statusOf(error)
  if (status !== undefined) return statusClass(status)
  const code = property(error, 'code')
  if (typeof code === 'string' && SQLSTATE.test(code) && property(error, 'severity') !== undefined) return 'infra_error'
  if (isConnectionError(error, 0)) return 'dependency_error'
  return isDefect(error) ? 'defect' : 'dependency_error'
}

/** The wait that an error asks for, from `retryAfterMs`, a Response-like `response` or `headers`, or Telegram's `parameters`. */
export function retryAfterOf(error: unknown, now: number): number | undefined {
  const direct = property(error, 'retryAfterMs')
  if (typeof direct === 'number' && Number.isFinite(direct) && direct >= 0) return Math.ceil(direct)
  const seconds = property(property(error, 'parameters'), 'retry_after')
  if (typeof seconds === 'number' && Number.isFinite(seconds) && seconds >= 0) return Math.ceil(seconds * 1_000)
  for (const holder of [property(error, 'response'), error]) {
    const headers = property(holder, 'headers')
    const ms = retryAfterIn(name => headerOf(headers, name), now)
    if (ms !== undefined) return ms
  }
  return undefined
}

/** A mistake in the program, which no repetition cures. A SyntaxError at run time is bad data (JSON), not a bad program. */
function isDefect(error: unknown): boolean {
  return error instanceof TypeError || error instanceof ReferenceError || error instanceof RangeError || property(error, 'code') === 'ERR_ASSERTION'
}

function isCancellation(error: unknown): boolean {
  return property(error, 'name') === 'AbortError' || property(error, 'code') === 'ABORT_ERR' || property(error, 'code') === 'UND_ERR_ABORTED'
}

/** `status` (fetch-style), `statusCode` (node-style), `error_code` (Telegram), or that of a `response`. */
function statusOf(error: unknown): number | undefined {
  for (const value of [property(error, 'status'), property(error, 'statusCode'), property(error, 'error_code'), property(property(error, 'response'), 'status')]) {
    if (typeof value === 'number' && value >= 100 && value <= 599) return value
  }
  return undefined
}

function isConnectionError(error: unknown, depth: number): boolean {
  if (typeof error !== 'object' || error === null || depth > DEPTH_MAX) return false
  const code = property(error, 'code')
  if (typeof code === 'string') {
    if (CONNECTION_CODES.has(code) || (code.startsWith('UND_ERR_') && !UNDICI_NOT_CONNECTION.has(code))) return true
    if (SQLSTATE.test(code) && property(error, 'severity') !== undefined) return TRANSIENT_SQLSTATE.test(code)
  }
  if (property(error, 'name') === 'TimeoutError') return true
  // fetch() reports "could not connect" as a TypeError; the real error is its cause (an AggregateError for several addresses).
  const inner = property(error, 'errors')
  if (Array.isArray(inner) && inner.some(one => isConnectionError(one, depth + 1))) return true
  const cause = property(error, 'cause') ?? property(error, 'error')
  if (cause !== undefined) return isConnectionError(cause, depth + 1)
  return error instanceof TypeError && error.message === 'fetch failed'
}

function headerOf(headers: unknown, name: string): string | undefined {
  if (typeof headers !== 'object' || headers === null) return undefined
  if (headers instanceof Headers) return headers.get(name) ?? undefined
  const value = property(headers, name)
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined
}

function property(value: unknown, name: string): unknown {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return undefined
  return (value as Readonly<Record<string, unknown>>)[name]
}
