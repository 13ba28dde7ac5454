/**
 * After a failed outside call: did the effect happen?
 *
 * Three answers. `refused`: surely not, and the same call would be refused again. `not-applied`: surely not, but it may
 * work later. `ambiguous`: it may have happened. Whatever is not known to be harmless is ambiguous, because the price of
 * a wrong "no" is a second charge and the price of a wrong "maybe" is a look-up.
 */
import { HoldfastError, isHoldfastError, type ErrorCode } from '../core/index.ts'

export type FailureVerdict = 'refused' | 'not-applied' | 'ambiguous'

/** Refusals of our own guards, before a byte left the process. Trustworthy only when it was the first attempt of the call. */
const REFUSED_BEFORE_SENDING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'HF_BREAKER_OPEN', 'HF_OVERLOADED', 'HF_RATE_LIMITED', 'HF_SWITCHED_OFF', 'HF_STOPPING', 'HF_NOT_STARTED',
])
/** The connection was never made. */
const NEVER_CONNECTED: ReadonlySet<unknown> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT'])
/** Answers of HTTP that leave open what happened: timeout, conflict (perhaps with ourselves), too early, locked. */
const AMBIGUOUS_STATUS: ReadonlySet<number> = new Set([408, 409, 423, 425])
/** Not carried out, and not for a reason in the request: our credentials, our rate. Cured from outside. */
const LATER_STATUS: ReadonlySet<number> = new Set([401, 407, 429])

/**
 * What an error says about the effect, in this order:
 * 1. `context.applied` of a HoldfastError, where whoever threw it knows: false is `refused` (`not-applied` when retryable), true is `ambiguous`.
 * 2. A HoldfastError after more than one attempt (`context.attempts`) is `ambiguous` unless its last answer is a refusal for good:
 *    an earlier attempt may have arrived.
 * 3. A refusal by our own guards (breaker open, overloaded, switched off, ...): `not-applied`.
 * 4. An HTTP status on the error or its causes: 401, 407, 429 `not-applied`, other 4xx `refused` (but 408, 409, 423, 425 `ambiguous`), 5xx `ambiguous`.
 * 5. Never connected (ECONNREFUSED, ENOTFOUND, ...): `not-applied`.
 * 6. A HoldfastError of class `domain_error` or `user_error` (not HF_CANCELLED), as made by `refuse()`: `refused`.
 * 7. Anything else, a plain Error included: `ambiguous`.
 */
export function failureVerdict(error: unknown): FailureVerdict {
  const known = isHoldfastError(error) ? error : undefined
  if (known?.context['applied'] === true) return 'ambiguous'
  if (known?.context['applied'] === false) return known.retryable ? 'not-applied' : 'refused'
  const attempts = known?.context['attempts']
  const earlierAttempts = typeof attempts === 'number' && attempts > 1
  if (known !== undefined && REFUSED_BEFORE_SENDING.has(known.code)) return earlierAttempts ? 'ambiguous' : 'not-applied'
  const status = statusOf(error)
  if (status !== undefined && status >= 400 && status < 500 && !AMBIGUOUS_STATUS.has(status)) {
    if (!LATER_STATUS.has(status)) return 'refused'
    return earlierAttempts ? 'ambiguous' : 'not-applied'
  }
  if (status !== undefined) return 'ambiguous'
  if (causes(error).some(cause => NEVER_CONNECTED.has(cause['code']))) return earlierAttempts ? 'ambiguous' : 'not-applied'
  if (known !== undefined && (known.failure === 'domain_error' || known.failure === 'user_error') && known.code !== 'HF_CANCELLED') return known.retryable ? 'not-applied' : 'refused'
  return 'ambiguous'
}

/** HTTP status of an error or of what caused it. */
export function statusOf(error: unknown): number | undefined {
  for (const cause of causes(error)) {
    const status = cause['status'] ?? cause['statusCode'] ?? cause['error_code']
    if (typeof status === 'number' && Number.isInteger(status)) return status
  }
  return undefined
}

/** One of our own guards said no before a byte left the process: that says nothing about the other side, so it is no try of it. */
export function isOwnRefusal(error: unknown): boolean {
  return isHoldfastError(error) && REFUSED_BEFORE_SENDING.has(error.code) && failureVerdict(error) === 'not-applied'
}

/** Says, from inside an outside step or call, that it surely did not happen and will not when tried again. */
export function refuse(message: string, options: { readonly cause?: unknown } = {}): HoldfastError {
  return new HoldfastError('HF_REFUSED', { message, ...(options.cause === undefined ? {} : { cause: options.cause }), context: { applied: false } })
}

/** How long to wait before the same call can succeed, where the error says so. */
export function retryAfterOf(error: unknown): number | undefined {
  return isHoldfastError(error) ? error.retryAfterMs : undefined
}

/** A row lock that was waited for in vain. */
export function isLockTimeout(error: unknown): boolean {
  return sqlState(error) === '55P03'
}

export function sqlState(error: unknown): unknown {
  if (isHoldfastError(error) && error.context['sqlstate'] !== undefined) return error.context['sqlstate']
  return causes(error).map(cause => cause['code']).find(code => typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code))
}

/** Deeper chains than this are cycles. */
const CAUSES_MAX = 8

function causes(error: unknown): readonly Record<string, unknown>[] {
  const found: Record<string, unknown>[] = []
  const open: unknown[] = [error]
  while (open.length > 0 && found.length < CAUSES_MAX) {
    const at = open.shift()
    if (typeof at !== 'object' || at === null) continue
    found.push(at as Record<string, unknown>)
    const { cause, errors } = at as { readonly cause?: unknown; readonly errors?: unknown }
    // fetch() to a name with several addresses fails with an AggregateError of one error per address.
    open.push(cause, ...(Array.isArray(errors) ? errors as readonly unknown[] : []))
  }
  return found
}
