/**
 * An HTTP answer that is no success, as an error that the guard understands: `throw new HttpStatusError(response)`.
 *
 * The status decides whether it is transient; Retry-After (seconds, a date, or milliseconds in headers of their own) becomes `retryAfterMs`, rounded up so
 * that nobody asks early. The body is not read: it may hold what must not be logged.
 */
import { HoldfastError, type FailureClass } from '../core/index.ts'

/** Answers that may be different next time (RFC 9110, RFC 6585; 425 is RFC 8470). */
export const TRANSIENT_STATUS: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504])

/** What is needed of a `Response`. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: { get(name: string): string | null }
}

/**
 * `code` is HF_CALL_FAILED for a transient status, else HF_CALL_REJECTED. A rejection passes `dependency.call`
 * unchanged, so callers may look at `status`.
 */
export class HttpStatusError extends HoldfastError {
  override readonly name: string = 'HttpStatusError'
  readonly status: number

  /** `what` names the call without its secrets: `POST /users`. */
  constructor(answer: HttpAnswer, options: { readonly what?: string; readonly now?: number; readonly cause?: unknown } = {}) {
    const transient = TRANSIENT_STATUS.has(answer.status)
    super(transient ? 'HF_CALL_FAILED' : 'HF_CALL_REJECTED', {
      message: `${options.what === undefined ? '' : `${options.what}: `}answered with status ${String(answer.status)}`,
      failure: statusClass(answer.status),
      retryAfterMs: retryAfterIn(name => answer.headers.get(name), options.now ?? dateOf(answer)),
      context: { status: answer.status },
      cause: options.cause,
    })
    this.status = answer.status
  }
}

/** 4xx is a "no" about this request; 401 and 403 are about us (credentials), 5xx about the dependency. */
export function statusClass(status: number): FailureClass {
  if (TRANSIENT_STATUS.has(status) || status >= 500 || status === 401 || status === 403 || status === 407) return 'dependency_error'
  return 'domain_error'
}

/**
 * Milliseconds of a Retry-After header: seconds, or an HTTP date measured against `now` (the answer's own Date header,
 * so that two clocks that differ do no harm). Undefined when it says nothing usable.
 */
export function parseRetryAfter(value: string | null | undefined, now: number | undefined): number | undefined {
  const text = value?.trim() ?? ''
  if (text === '') return undefined
  if (/^\d+(\.\d+)?$/.test(text)) return Math.ceil(Number(text) * 1_000)
  // Each of HTTP's date formats begins with the day's name; Date.parse alone takes '-1' for a year.
  const at = /^[A-Za-z]/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(at) || now === undefined) return undefined
  return Math.max(0, Math.ceil(at - now))
}

/** Milliseconds of headers: `retry-after-ms` and `x-ms-retry-after-ms` (Azure, OpenAI), which are finer, before Retry-After. */
export function retryAfterIn(header: (name: string) => string | null | undefined, now: number | undefined): number | undefined {
  for (const name of ['retry-after-ms', 'x-ms-retry-after-ms']) {
    const text = header(name)?.trim() ?? ''
    if (/^\d+(\.\d+)?$/.test(text)) return Math.ceil(Number(text))
  }
  return parseRetryAfter(header('retry-after'), now)
}

function dateOf(answer: HttpAnswer): number | undefined {
  const at = Date.parse(answer.headers.get('date') ?? '')
  return Number.isNaN(at) ? undefined : at
}
