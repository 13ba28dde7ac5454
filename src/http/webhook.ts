/**
 * A webhook: POST, authenticated, bounded, answered with what makes its sender do the right thing.
 *
 * Order: method > shared secret > body (bounded) > signature over the raw bytes > handler. Refusals change nothing and are
 * 4xx; when the store is away or the instance drains the answer is 503 with Retry-After, so that the provider delivers
 * again. 2xx is said only when the handler returned, which must mean: durably claimed.
 *
 *   webhook({ path: '/telegram', verify: sharedSecret({ header: 'x-telegram-bot-api-secret-token', secrets }), events,
 *             handle: async ({ json }) => { await inbox.receive(json()) } })
 */
import { BODY_LIMIT_DEFAULT, parseJson, readBody, sizeBytes, type EventBus, type Size } from '../core/index.ts'
import { announce, mount, type Mounted, type RequestInfo } from './handler.ts'
import { plainProblem, problem } from './problem.ts'
import type { Verifier } from './signature.ts'

/** One authenticated delivery. */
export interface Delivery {
  readonly request: Request
  readonly info: RequestInfo | undefined
  /** The raw bytes, as signed. */
  readonly body: Uint8Array
  /** The body as JSON. @throws HF_BODY_INVALID, answered with 400 */
  readonly json: () => unknown
}

export interface WebhookOptions {
  readonly path: string
  /** Name in events. Default: the path. */
  readonly name?: string
  /** How the sender is known. There is no way to leave it out. */
  readonly verify: Verifier
  /** Longest body. Default 10 MB. */
  readonly bodyLimit?: Size
  readonly events?: EventBus
  /** Claims the delivery durably, then returns: nothing (200) or an answer of its own. */
  readonly handle: (delivery: Delivery) => Promise<Response | void>
}

/** @throws HF_OPTION_INVALID for a limit that is no size. Emits `handler.refused` and `handler.failed`. */
export function webhook(options: WebhookOptions): Mounted {
  const limit = options.bodyLimit ?? BODY_LIMIT_DEFAULT
  const name = options.name ?? options.path
  sizeBytes(limit, `webhook ${name}: bodyLimit`)
  return mount(options.path, async (request, info) => {
    if (request.method !== 'POST') return plainProblem(405, undefined, { allow: 'POST' })
    try {
      options.verify.early?.(request)
      const body = await readBody(request, limit)
      options.verify.late?.(request, body)
      const answer = await options.handle({ request, info, body, json: () => parseJson(body) })
      return answer ?? new Response(null, { status: 200 })
    } catch (error) {
      announce(options.events, `webhook ${name}`, error)
      return problem(error)
    }
  })
}
