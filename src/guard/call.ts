/**
 * The words of one guarded call: what its caller says, and what it gets when the answer is no.
 */
import { HoldfastError, isHoldfastError, type Duration, type ErrorCode, type Refusal, type RefusalReason } from '../core/index.ts'
import type { errorClass, judge } from './classify.ts'
import type { Priority } from './concurrency/slots.ts'
import type { FallbackOptions } from './fallback.ts'
import type { HedgeOptions } from './hedge.ts'
import type { RetryOptions } from './retry/retry.ts'

interface CallBase {
  /** Sent as the idempotency key by the work; the same over all attempts. Default: a new UUID, made when it is read. */
  readonly key?: string
  /** In place of the dependency's deadline. */
  readonly deadline?: Duration
  /** The caller's: when it aborts, the call ends at once. */
  readonly signal?: AbortSignal
  /** Who waits first and who is shed first when the dependency is at its concurrency limit. Default `'normal'`. */
  readonly priority?: Priority
  /** The host, tenant or shard that this call is about, where the breaker is declared with `partitions`. */
  readonly partition?: string
}
/** `read` changes nothing, `idempotent` is safe under the same key: both may be repeated. */
export interface RepeatableCall extends CallBase {
  readonly effect: 'read' | 'idempotent'
  /** In place of the dependency's retry. */
  readonly retry?: RetryOptions | false
  /** In place of the dependency's hedge. */
  readonly hedge?: HedgeOptions | false
}
/** Never repeated by us, whatever happens. */
export interface OnceCall extends CallBase {
  readonly effect: 'once'
  readonly retry?: false
  readonly hedge?: false
}

export type CallOptions = RepeatableCall | OnceCall

/** What the caller gets in place of an answer while the dependency is in trouble. */
export interface WithFallback<F> {
  /** Default: none, the failure is the caller's. */
  readonly fallback?: FallbackOptions<F>
}

/** Why a call was not made (again). */
export type Refused = Extract<RefusalReason, 'breaker-open' | 'rate-limited' | 'overloaded' | 'deadline' | 'cancelled'>

/** The code and the policy that speak of it. */
const REFUSALS = {
  'breaker-open': { code: 'HF_BREAKER_OPEN', policy: 'breaker' },
  'rate-limited': { code: 'HF_RATE_LIMITED', policy: 'rate-limit' },
  overloaded: { code: 'HF_OVERLOADED', policy: 'concurrency-limit' },
  deadline: { code: 'HF_DEADLINE', policy: 'deadline' },
  cancelled: { code: 'HF_CANCELLED', policy: 'caller' },
} as const satisfies Record<Refused, { readonly code: ErrorCode; readonly policy: string }>

/** An attempt that failed, judged. */
export interface Failure {
  readonly error: unknown
  readonly attempts: number
  readonly verdict: ReturnType<typeof judge>
  readonly failure: ReturnType<typeof errorClass>
  readonly message: string
  readonly retryAfterMs: number | undefined
}

/**
 * The one place where an error crosses the room's border. Own errors and refusals of guards inside pass as they are.
 * `waitMs` is what the breaker asks to wait, where it is what ended the repetitions.
 */
export function borderError(dependency: string, operation: string, { error, attempts, verdict, failure, message, retryAfterMs }: Failure, waitMs: number | undefined): HoldfastError {
  if (isHoldfastError(error) && (verdict !== 'transient' || error.context['dependency'] === dependency)) return error
  const code: ErrorCode = verdict === 'transient' ? 'HF_CALL_FAILED' : verdict === 'permanent' ? 'HF_CALL_REJECTED' : 'HF_CANCELLED'
  return new HoldfastError(code, {
    message: `${dependency} ${operation} failed after ${String(attempts)} attempt${attempts === 1 ? '' : 's'}: ${message}`,
    cause: error, failure, retryAfterMs: retryAfterMs ?? waitMs,
    context: { dependency, operation, policy: attempts === 1 ? 'call' : 'retry', attempts }, stackless: true,
  })
}

/** The error of a refusal that was kept as a value. */
export function refusalError(dependency: string, operation: string, { reason, message, retryAfterMs }: Pick<Refusal, 'message' | 'retryAfterMs'> & { readonly reason: Refused }): HoldfastError {
  const { code, policy } = REFUSALS[reason]
  return new HoldfastError(code, {
    message, retryAfterMs, context: { dependency, operation, policy }, stackless: true,
    // Nobody outside asked too much of us: we would have asked too much of the dependency.
    ...(reason === 'rate-limited' ? { failure: 'dependency_error' } : {}),
  })
}

export function isRefused(reason: RefusalReason): reason is Refused {
  return reason in REFUSALS
}

export function refusal(reason: RefusalReason, message: string, retryAfterMs: number | undefined, error?: unknown): Refusal {
  return { ok: false, reason, message, ...(retryAfterMs === undefined ? {} : { retryAfterMs }), ...(error === undefined ? {} : { error }) }
}

/** @throws HF_NOT_REPEATABLE or HF_OPTION_INVALID, for callers that no compiler checked: a call that isn't declared repeatable is not repeated, and never silently. */
export function checkOnce(dependency: string, operation: string, options: CallOptions): void {
  const { effect, retry, hedge }: { readonly effect: unknown; readonly retry?: unknown; readonly hedge?: unknown } = options
  if (effect !== 'once') {
    throw new HoldfastError('HF_OPTION_INVALID', {
      message: `${dependency} ${operation}: effect: expected 'read', 'idempotent' or 'once', got ${String(effect)}`, context: { dependency, operation, option: 'effect' },
    })
  }
  if ((retry === undefined || retry === false) && (hedge === undefined || hedge === false)) return
  throw new HoldfastError('HF_NOT_REPEATABLE', {
    message: `${dependency} ${operation}: its effect is 'once', so it can't have ${hedge === undefined || hedge === false ? 'retry' : 'hedge'}`, context: { dependency, operation },
  })
}
