/**
 * What an inbound request handler is here: a web-standard function from Request to Response.
 *
 * Frameworks and node:http are adapters around it (./node.ts), so that tests and simulation run the same handlers with
 * no socket. `combine` puts several handlers behind one door and is the last boundary: whatever a handler throws
 * becomes a problem document and an event, never an unhandled rejection.
 */
import { isHoldfastError, messageOf, type EventBus } from '../core/index.ts'
import { withSecurityHeaders } from './headers.ts'
import { plainProblem, problem } from './problem.ts'

/** What a Request does not say about its connection. */
export interface RequestInfo {
  /** Address of the peer of the socket, as Node gives it. Undefined: not known, which is trusted with nothing. */
  readonly remoteAddress?: string | undefined
  /** Aborts when the server begins to close: streams that never end by themselves end here. */
  readonly draining?: AbortSignal | undefined
}

export type HttpHandler = (request: Request, info?: RequestInfo) => Promise<Response>

/** A handler that knows its paths: exact (`/livez`), or everything below (`/console/*`). */
export interface Mounted {
  (request: Request, info?: RequestInfo): Promise<Response>
  readonly paths: readonly string[]
}

/** Gives a handler its paths. */
export function mount(paths: string | readonly string[], handler: HttpHandler): Mounted {
  const list = typeof paths === 'string' ? [paths] : paths
  return Object.assign((request: Request, info?: RequestInfo) => handler(request, info), { paths: list })
}

export interface CombineOptions {
  /** Where `handler.failed` is announced. */
  readonly events?: EventBus
}

/**
 * One handler out of several: the longest matching path wins, an unknown path is a 404 problem, an error is the problem of
 * its code (500 without a word about its inside when it has none). Security headers that a handler did not set are added.
 * Never rejects. Emits `handler.failed` for what has no code or is nobody's expected refusal.
 */
export function combine(parts: readonly Mounted[], options: CombineOptions = {}): HttpHandler {
  const exact = new Map<string, Mounted>()
  const below: (readonly [prefix: string, part: Mounted])[] = []
  for (const part of parts) {
    for (const path of part.paths) {
      if (path.endsWith('/*')) below.push([path.slice(0, -1), part])
      else exact.set(path, part)
    }
  }
  below.sort(([a], [b]) => b.length - a.length)

  return async (request, info) => {
    const secure = request.url.startsWith('https:')
    let path = '?'
    try {
      path = new URL(request.url).pathname
      const part = exact.get(path) ?? below.find(([prefix]) => path.startsWith(prefix))?.[1]
      const response = part === undefined ? plainProblem(404, 'There is nothing at this path') : await part(request, info)
      return withSecurityHeaders(response, { secure })
    } catch (error) {
      announce(options.events, `http ${path}`, error)
      return withSecurityHeaders(problem(error), { secure })
    }
  }
}

/** Tells the event spine about what a handler threw: refusals quietly, failures with their error. */
export function announce(events: EventBus | undefined, handler: string, error: unknown): void {
  // The next instance takes what a stopping one refuses.
  if (isHoldfastError(error) && (error.failure === 'user_error' || error.code === 'HF_STOPPING')) {
    events?.emit('handler.refused', { handler, code: error.code, message: messageOf(error) })
    return
  }
  events?.emit('handler.failed', { handler, failure: isHoldfastError(error) ? error.failure : 'defect', message: messageOf(error), error })
}
