/**
 * `Idempotency-Key` for an HTTP operation: whatever a client retries, the operation takes effect once, and every request
 * with the key is answered with the same status, headers and bytes.
 *
 * It is `once` behind a door: a local effect (`write`) commits with its answer in one transaction, an outside effect
 * (`call`) is claimed, called under a derived key and completed under a fence, so a crash in between is an `unknown` that is
 * settled as declared and never a silent second effect.
 *
 * What is kept: every answer that the handler returned, 5xx too (as Stripe). What is thrown is not kept where it surely had no
 * effect, and the key may be used again: refusals before the handler, anything thrown in `write`, a refusal in `call`.
 */
import { createHash } from 'node:crypto'
import { BODY_LIMIT_DEFAULT, HoldfastError, isHoldfastError, readBody, sizeBytes, durationMs, type Duration, type Env, type EventBus, type Json, type Schema, type Size } from '../core/index.ts'
import { ONCE_DEFAULTS, type CallContext, type LocalOnce, type Once, type OnceOutcome, type OutsideOnce, type Verified } from '../durable/index.ts'
import { announce, type HttpHandler, type RequestInfo } from './handler.ts'
import { idempotencyKeyOf, missingKey } from './idempotency-key.ts'
import { answerOf, bytesOf, isKeptRequest, keepAnswer, keepBody, pick, requestOf, type KeptAnswer, type KeptRequest } from './kept-answer.ts'
import { plainProblem, problem } from './problem.ts'

/** What idempotency needs of a Holdfast; every Holdfast with a store fits. */
export interface IdempotencySource<Tx> {
  readonly env: Pick<Env, 'uuid'>
  readonly events: EventBus
  once<In, I, R extends Json | void>(name: string, options: LocalOnce<In, I, R, Tx>): Once<In, R, Tx>
  once<In, I, R extends Json | void>(name: string, options: OutsideOnce<In, I, R, Tx>): Once<In, R, Tx>
}

/** Who asked, as `tenant` said, and with which key. */
export interface IdempotentContext {
  readonly tenant: string
  /** As the client sent it; where it need not send one, a fresh one. */
  readonly idempotencyKey: string
}

interface OperationBase {
  /** Whose keys these are: an account or user id that authentication vouches for. Keys of different tenants never meet. Throw to refuse (HF_UNAUTHENTICATED). */
  readonly tenant: (request: Request, info: RequestInfo | undefined) => string | Promise<string>
  /** Answered to other methods: 405. Default `['POST', 'PATCH']`, the methods that are not idempotent by themselves. */
  readonly methods?: readonly ('POST' | 'PATCH' | 'PUT' | 'DELETE')[]
  /** Whether a request without a key is refused with 400. Default true; with false each such request is one of its own. */
  readonly required?: boolean
  /** Longest request body. Default 10 MB; a `call` keeps it until its outcome is known and as long as its record. */
  readonly bodyLimit?: Size
  /** Request headers that the handler sees. Others are not kept, so it must not depend on them. Default `content-type`, `accept`, `accept-language`. */
  readonly requestHeaders?: readonly string[]
  /** Longest answer that is kept. Default `'256kb'`. */
  readonly answerLimit?: Size
  /** Headers of the answer that are kept and given, the first time too. Default: see IDEMPOTENCY_DEFAULTS. `set-cookie` is refused. */
  readonly answerHeaders?: readonly string[]
  /** How long an answer is replayed, at least `'24h'` (Stripe's least). Default `'72h'`. A client that retries later acts a second time. */
  readonly keepFor?: Duration
  readonly runbook?: string
}

/** Everything the operation does is in this store. */
export interface WriteOperation<Tx> extends OperationBase {
  /** Its writes commit together with its answer. Thrown: rolled back, answered as a problem, nothing is kept. */
  readonly write: (request: Request, context: IdempotentContext & { readonly tx: Tx; readonly signal: AbortSignal }) => Promise<Response>
}

/** The operation acts on another system. */
export interface CallOperation<Tx> extends OperationBase {
  /**
   * Acts and answers. Pass `key` on: it is the same in every attempt. Goes on when the client hangs up. An error after which it surely did
   * not happen (`failureVerdict`, `refuse()`) is answered as a problem and not kept; any other error leaves the outcome unknown.
   */
  readonly call: (request: Request, context: IdempotentContext & CallContext) => Promise<Response>
  /** As for `once`: what is done about an outcome that nobody knows, by the next request with the key or by the recovery sweep. */
  readonly onUnknown: 'retry' | 'hold' | { readonly verify: (request: Request, context: IdempotentContext & CallContext) => Promise<Verified<Response>> }
  /** Local consequences, in the transaction that records the answer. */
  readonly complete?: (answer: Response, context: { readonly tx: Tx }) => Promise<void>
  /** How long a process that died leaves the key in progress. Default `'30s'`, as for `once`. */
  readonly lease?: Duration
}

export const IDEMPOTENCY_DEFAULTS: {
  readonly methods: readonly ('POST' | 'PATCH')[]; readonly bodyLimit: Size; readonly answerLimit: Size; readonly keepFor: Duration
  readonly requestHeaders: readonly string[]; readonly answerHeaders: readonly string[]
} = Object.freeze({
  methods: ['POST', 'PATCH'], bodyLimit: BODY_LIMIT_DEFAULT, answerLimit: '256kb', keepFor: ONCE_DEFAULTS.keepFor,
  requestHeaders: ['content-type', 'accept', 'accept-language'],
  answerHeaders: ['content-type', 'content-language', 'location', 'etag', 'last-modified', 'link', 'retry-after'],
} as const)

const KEEP_MIN_MS = 86_400_000
const TENANT_LENGTH_MAX = 200
/** A scope that is longer than a key of `once` may be is hashed. */
const SCOPE_LENGTH_MAX = 300
/** Until the same request may settle an outcome that is unknown. */
const SETTLE_AFTER_MS = 1_000

/** Of a `call`: it is done, and its answer could not be kept. */
type TooLarge = { readonly status: number; readonly tooLarge: true }

/**
 * An operation whose requests take effect once per key. `name` is the operation's scope: the same key under two names is two keys.
 * The body, the method, the path with its query and the tenant must be the same each time: otherwise 422.
 *
 * Answers: the handler's, with `Idempotency-Replayed: true` when it is a replay; 400 for a missing or malformed key, 409 with Retry-After
 * while the first request is in flight, 422 for a key that was used with another request, 503 with Retry-After for an outcome that is not known (409 where a
 * person decides), all as problem documents. Emits `handler.refused`, `handler.failed` and the events of `once`.
 * @throws HF_OPTION_INVALID, HF_NAME_TAKEN
 * @example
 * const pay = idempotent(hold, 'create-payment', { tenant: request => accountOf(request),
 *   write: async (request, { tx }) => Response.json(await createPayment(tx, await request.json()), { status: 201 }) })
 * combine([mount('/payments', pay)])
 */
export function idempotent<Tx>(hold: IdempotencySource<Tx>, name: string, operation: WriteOperation<Tx> | CallOperation<Tx>): HttpHandler {
  const refuse = (message: string): never => { throw new HoldfastError('HF_OPTION_INVALID', { message: `idempotent ${name}: ${message}`, context: { operation: name } }) }
  const methods: readonly string[] = operation.methods ?? IDEMPOTENCY_DEFAULTS.methods
  const answerHeaders = operation.answerHeaders ?? IDEMPOTENCY_DEFAULTS.answerHeaders
  if (answerHeaders.some(header => header.toLowerCase() === 'set-cookie')) refuse('expected no set-cookie in answerHeaders: a replay would hand a session to whoever has the key')
  const requestHeaders = operation.requestHeaders ?? IDEMPOTENCY_DEFAULTS.requestHeaders
  const bodyLimit = operation.bodyLimit ?? IDEMPOTENCY_DEFAULTS.bodyLimit
  sizeBytes(bodyLimit, `idempotent ${name}: bodyLimit`)
  const answerBytes = sizeBytes(operation.answerLimit ?? IDEMPOTENCY_DEFAULTS.answerLimit, `idempotent ${name}: answerLimit`)
  const keepFor = operation.keepFor ?? IDEMPOTENCY_DEFAULTS.keepFor
  durationMs(keepFor, `idempotent ${name}: keepFor`, { min: KEEP_MIN_MS })
  const keep = (response: Response): Promise<KeptAnswer> => keepAnswer(response, answerHeaders, answerBytes)
  const act = declare(hold, name, operation, keepFor, keep)
  const holds = 'call' in operation && operation.onUnknown === 'hold'

  async function carryOut(request: Request, info: RequestInfo | undefined): Promise<Response> {
    const tenant = await operation.tenant(request, info)
    if (typeof tenant !== 'string' || tenant === '' || tenant.length > TENANT_LENGTH_MAX) {
      throw new HoldfastError('HF_INVARIANT', { message: `idempotent ${name}: expected a tenant of 1 to ${String(TENANT_LENGTH_MAX)} characters` })
    }
    const key = idempotencyKeyOf(request) ?? (operation.required === false ? hold.env.uuid() : undefined)
    if (key === undefined) throw missingKey()
    const body = await readBody(request, bodyLimit)
    const kept: KeptRequest = { tenant, key, method: request.method, url: request.url, headers: pick(request.headers, requestHeaders), body: keepBody(body) }
    try {
      return answer(await act(kept))
    } catch (error) {
      // Here it is the client's mistake, and the key of the record is none of its business.
      if (isHoldfastError(error) && error.code === 'HF_KEY_REUSED') throw new HoldfastError('HF_KEY_REUSED', { message: 'this Idempotency-Key was used with another request', failure: 'user_error', cause: error, stackless: true })
      throw error
    }
  }

  function answer(outcome: OnceOutcome<KeptAnswer | TooLarge>): Response {
    if (outcome.outcome === 'in-progress') throw new HoldfastError('HF_IN_PROGRESS', { message: 'a request with this Idempotency-Key is being carried out', retryAfterMs: outcome.retryAfterMs, stackless: true })
    if (outcome.outcome === 'unknown') {
      throw new HoldfastError('HF_OUTCOME_UNKNOWN', { message: `idempotent ${name}: whether a request took effect is not known`, ...(holds ? {} : { retryAfterMs: SETTLE_AFTER_MS }), stackless: true })
    }
    const { value } = outcome
    if ('tooLarge' in value) throw new HoldfastError('HF_ANSWER_TOO_LARGE', { message: `idempotent ${name}: done with status ${String(value.status)}, and its answer was too large to keep` })
    return answerOf(value, outcome.outcome === 'replayed')
  }

  return async (request, info) => {
    if (!methods.includes(request.method)) return plainProblem(405, undefined, { allow: methods.join(', ') })
    try {
      return await carryOut(request, info)
    } catch (error) {
      announce(hold.events, `idempotent ${name}`, error)
      // Asking again changes nothing where a person decides.
      return problem(error, holds && isHoldfastError(error) && error.code === 'HF_OUTCOME_UNKNOWN' ? { status: 409 } : {})
    }
  }
}

/** The `once` behind an operation. */
function declare<Tx>(hold: IdempotencySource<Tx>, name: string, operation: WriteOperation<Tx> | CallOperation<Tx>, keepFor: Duration, keep: (response: Response) => Promise<KeptAnswer>): (kept: KeptRequest) => Promise<OnceOutcome<KeptAnswer | TooLarge>> {
  const base = { input: KEPT_REQUEST, key: scopeOf, fingerprint: sameRequest, keepFor, ...(operation.runbook === undefined ? {} : { runbook: operation.runbook }) }
  const contextOf = (kept: KeptRequest): IdempotentContext => ({ tenant: kept.tenant, idempotencyKey: kept.key })
  if ('write' in operation) {
    return hold.once<KeptRequest, KeptRequest, KeptAnswer>(name, { ...base, write: async (kept, { tx, signal }) => keep(await operation.write(requestOf(kept), { ...contextOf(kept), tx, signal })) })
  }
  const { onUnknown, complete } = operation
  const keepDone = async (response: Response): Promise<KeptAnswer | TooLarge> => {
    try {
      return await keep(response)
    } catch (error) {
      // It has happened: what is lost is its answer and not the fact.
      if (isHoldfastError(error) && error.code === 'HF_ANSWER_TOO_LARGE') return { status: response.status, tooLarge: true }
      throw error
    }
  }
  return hold.once<KeptRequest, KeptRequest, KeptAnswer | TooLarge>(name, {
    ...base,
    ...(operation.lease === undefined ? {} : { lease: operation.lease }),
    call: async (kept, context) => keepDone(await operation.call(requestOf(kept), Object.assign(context, contextOf(kept)))),
    onUnknown: typeof onUnknown === 'string' ? onUnknown : {
      verify: async (kept, context) => {
        const found = await onUnknown.verify(requestOf(kept), Object.assign(context, contextOf(kept)))
        return found.happened ? { happened: true, value: await keepDone(found.value) } : found
      },
    },
    ...(complete === undefined ? {} : { complete: async (kept: KeptAnswer | TooLarge, { tx }: { readonly tx: Tx }) => { await complete('tooLarge' in kept ? new Response(null, { status: kept.status }) : answerOf(kept, false), { tx }) } }),
  })
}

/** Keys of tenants never meet: the encoded tenant holds no colon, and a hash begins with what no encoding makes. */
function scopeOf({ tenant, key }: KeptRequest): string {
  const scope = `${encodeURIComponent(tenant)}:${key}`
  return scope.length > SCOPE_LENGTH_MAX ? `#${sha256(scope)}` : scope
}

/** Without host and headers: the same request may come by another name of ours and through another proxy. */
function sameRequest({ tenant, method, url, body }: KeptRequest): Json {
  const { pathname, search } = new URL(url)
  return { tenant, method, path: `${pathname}${search}`, body: sha256(bytesOf(body)) }
}

const KEPT_REQUEST: Schema<KeptRequest> = Object.freeze({
  '~standard': { version: 1 as const, vendor: 'holdfast', validate: (value: unknown) => (isKeptRequest(value) ? { value } : { issues: [{ message: 'expected a request as it was kept' }] }) },
})

function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex')
}
