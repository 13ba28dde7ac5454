/**
 * Errors as answers: problem documents (RFC 9457) with the error's code, and Retry-After where waiting helps.
 *
 * What is the caller's to know (a refusal) is said in its words; what is ours (a defect, the database) is named by code and
 * title only, because messages of inner errors carry addresses and sometimes secrets.
 */
import { HoldfastError, isHoldfastError, type ErrorCode } from '../core/index.ts'

const STATUS: Partial<Record<ErrorCode, number>> = {
  HF_BODY_TOO_LARGE: 413,
  HF_BODY_INVALID: 400,
  HF_INPUT_INVALID: 422,
  HF_SIGNATURE_INVALID: 401,
  HF_UNAUTHENTICATED: 401,
  HF_FORBIDDEN: 403,
  HF_UNKNOWN_NAME: 404,
  HF_TICKET_INVALID: 409,
  HF_REASON_REQUIRED: 422,
  HF_OPTION_INVALID: 422,
  HF_KEY_REUSED: 422,
  HF_REFUSED: 422,
  HF_IDEMPOTENCY_KEY_INVALID: 400,
  HF_IN_PROGRESS: 409,
  // Asking again with the same key settles it, or somebody does.
  HF_OUTCOME_UNKNOWN: 503,
  HF_RATE_LIMITED: 429,
  HF_CALL_FAILED: 502,
  HF_TIMEOUT: 504,
  HF_DEADLINE: 504,
  HF_BREAKER_OPEN: 503,
  HF_OVERLOADED: 503,
  HF_SWITCHED_OFF: 503,
  HF_STOPPING: 503,
  HF_NOT_STARTED: 503,
  HF_STORE_UNAVAILABLE: 503,
  HF_STORE_CONFLICT: 503,
  // Whether it was committed is not known; the sender's next delivery is recognised by its key.
  HF_STORE_UNKNOWN_COMMIT: 503,
  HF_LEASE_LOST: 503,
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'The request cannot be read',
  401: 'The request is not authenticated',
  403: 'This is not allowed',
  404: 'Not found',
  405: 'This method is not supported here',
  409: 'This was already used, is in progress or has changed meanwhile',
  413: 'The body is too large',
  415: 'This content type is not supported here',
  422: 'The request does not fit',
  429: 'Too many requests',
  500: 'Something failed on our side',
  502: 'A service that we need failed',
  503: 'Not available right now',
  504: 'A service that we need did not answer in time',
}

/** Where nothing better is known: long enough to not hammer, short enough to not be noticed. */
const RETRY_AFTER_DEFAULT_S = 5

/** The HTTP status that an error is answered with. */
export function statusOf(error: unknown): number {
  if (!isHoldfastError(error)) return 500
  // 429 is for who asked too often. Where we ourselves may not ask a dependency any more, it is we who are not available.
  if (error.code === 'HF_RATE_LIMITED' && error.failure !== 'user_error') return 503
  return STATUS[error.code] ?? 500
}

/**
 * The answer to an error: `application/problem+json` with `type`, `title`, `status`, `code`, `detail` for what is the
 * caller's to know, and Retry-After (whole seconds, rounded up) for 429 and 503, and for 409 where the wait is known.
 * `status`: where the same error means another one.
 */
export function problem(error: unknown, options: { readonly status?: number } = {}): Response {
  const status = options.status ?? statusOf(error)
  if (!(error instanceof HoldfastError)) return plainProblem(status)
  const waitMs = error.retryAfterMs
  const waits = status === 429 || status === 503 || (status === 409 && waitMs !== undefined)
  const tellable = error.failure === 'user_error' || error.failure === 'domain_error' || status < 500
  return document(
    {
      type: `urn:holdfast:error:${error.code}`,
      title: TITLES[status] ?? 'Error',
      status,
      code: error.code,
      ...(tellable ? { detail: error.message } : {}),
      ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }),
    },
    waits ? { 'retry-after': String(waitMs === undefined ? RETRY_AFTER_DEFAULT_S : Math.max(1, Math.ceil(waitMs / 1_000))) } : {},
  )
}

/** A problem that has no error code: an unknown path, a wrong method. */
export function plainProblem(status: number, detail?: string, headers: Readonly<Record<string, string>> = {}): Response {
  return document({ type: 'about:blank', title: TITLES[status] ?? 'Error', status, ...(detail === undefined ? {} : { detail }) }, headers)
}

/** JSON, as data that nobody caches. */
export function json(body: unknown, init: { readonly status?: number; readonly headers?: Readonly<Record<string, string>> } = {}): Response {
  return new Response(JSON.stringify(body), {
    status: init.status ?? 200,
    headers: { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store', ...init.headers },
  })
}

function document(body: Readonly<Record<string, unknown>> & { readonly status: number }, headers: Readonly<Record<string, string>>): Response {
  return json(body, { status: body.status, headers: { 'content-type': 'application/problem+json; charset=utf-8', ...headers } })
}
