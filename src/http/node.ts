/**
 * @module holdfast/http/node
 * A handler on a real socket: node:http through Hono's adaptor, with timeouts, a connection bound and a drain that drops nothing.
 *
 * Draining by `server.close()` alone takes as long as the slowest keep-alive client (measured: 73 s), and closing by force
 * resets requests in flight. So `close()` stops accepting, tells streams to end, answers what is in flight with
 * `Connection: close`, and sweeps idle connections until none is left; only what outlives `within` is cut, and counted.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { durationMs, HoldfastError, realEnv, type Duration, type Env, type EventBus } from '../core/index.ts'
import { announce, type HttpHandler } from './handler.ts'
import { isLoopbackHost } from './loopback.ts'
import { problem } from './problem.ts'

export interface ServeOptions {
  /** 0 takes a free one. */
  readonly port: number
  /** Default `127.0.0.1`: other machines are let in on purpose, never by default. */
  readonly host?: string
  /** All headers must have arrived by then. Default `10s`. */
  readonly headersTimeout?: Duration
  /** The whole request must have arrived by then. Default `60s`. */
  readonly requestTimeout?: Duration
  /** An idle connection is kept this long. Default `65s`: longer than the 60 s of usual proxies, which would else race our close. */
  readonly keepAliveTimeout?: Duration
  /** More connections than this are refused. Default 10000. */
  readonly connectionsMax?: number
  readonly env?: Env
  /** Where `handler.failed` is announced. */
  readonly events?: EventBus
}

export interface Served {
  readonly host: string
  readonly port: number
  /** `http://127.0.0.1:8700`, without a slash at the end. */
  readonly url: string
  /** Requests that are being answered, streams included. */
  readonly inFlight: number
  /**
   * Stops accepting and resolves when nothing of ours is left. Never rejects; a second call waits for the first.
   * `within` (default `10s`) is how long requests in flight may take; `cut` is how many were still there and had to be cut.
   */
  close(options?: { readonly within?: Duration }): Promise<{ readonly cut: number }>
}

const SWEEP_EVERY_MS = 50
/** Node looks for timed-out requests this often; its default of 30 s makes shorter timeouts a fiction. */
const TIMEOUT_CHECK_MS = 1_000

/**
 * Listens, and resolves when it does.
 * @throws HF_PORT_IN_USE, HF_OPTION_INVALID (a port that may not be used, an address that is not ours)
 */
export async function serve(handler: HttpHandler, options: ServeOptions): Promise<Served> {
  const env = options.env ?? realEnv()
  const host = options.host ?? '127.0.0.1'
  const draining = new AbortController()
  const open = new Set<ServerResponse>()

  const listener = getRequestListener(
    async (request, bindings) => {
      try {
        return await handler(request, { remoteAddress: bindings.incoming.socket?.remoteAddress, draining: draining.signal })
      } catch (error) {
        announce(options.events, 'http', error)
        return problem(error)
      }
    },
    // The adaptor would replace the process's global Request and Response.
    { overrideGlobalObjects: false },
  )

  const server = createServer(
    {
      headersTimeout: durationMs(options.headersTimeout ?? '10s', 'serve: headersTimeout'),
      requestTimeout: durationMs(options.requestTimeout ?? '60s', 'serve: requestTimeout'),
      keepAliveTimeout: durationMs(options.keepAliveTimeout ?? '65s', 'serve: keepAliveTimeout'),
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    },
    (incoming: IncomingMessage, outgoing: ServerResponse) => {
      open.add(outgoing)
      outgoing.once('close', () => { open.delete(outgoing) })
      if (draining.signal.aborted) outgoing.shouldKeepAlive = false
      listener(incoming, outgoing).catch((error: unknown) => {
        announce(options.events, 'http', error)
        outgoing.destroy()
      })
    },
  )
  server.maxConnections = options.connectionsMax ?? 10_000
  await listen(server, host, options.port)
  server.on('error', error => { announce(options.events, 'http server', error) })
  const { port } = server.address() as AddressInfo

  const drain = async (withinMs: number): Promise<{ readonly cut: number }> => {
    const closed = new Promise<void>(resolve => { server.close(() => { resolve() }) })
    for (const outgoing of open) if (!outgoing.headersSent) outgoing.shouldKeepAlive = false
    draining.abort()
    const finished = new AbortController()
    void closed.then(() => { finished.abort() })
    const deadline = env.monotonic() + withinMs
    let cut = 0
    // Bounded: after the deadline every connection is destroyed, and then `closed` comes.
    while (!finished.signal.aborted) {
      server.closeIdleConnections()
      if (env.monotonic() >= deadline) {
        cut += open.size
        server.closeAllConnections()
      }
      await env.sleep(SWEEP_EVERY_MS, finished.signal)
    }
    return { cut }
  }

  let closing: Promise<{ readonly cut: number }> | undefined
  return {
    host,
    port,
    url: `http://${reachable(host)}:${String(port)}`,
    get inFlight() { return open.size },
    close: closeOptions => (closing ??= drain(durationMs(closeOptions?.within ?? '10s', 'close: within', { min: 0 }))),
  }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => { reject(refusal(error, host, port)) }
    server.once('error', onError)
    server.listen({ host, port, exclusive: true }, () => {
      server.removeListener('error', onError)
      resolve()
    })
  })
}

function refusal(error: NodeJS.ErrnoException, host: string, port: number): HoldfastError {
  const context = { host, port }
  if (error.code === 'EADDRINUSE') {
    return new HoldfastError('HF_PORT_IN_USE', { message: `port ${String(port)} on ${host} is in use by another program; stop it or choose another port`, context, cause: error })
  }
  const why = error.code === 'EACCES' ? 'this user may not listen on it' : error.code === 'EADDRNOTAVAIL' ? 'this machine has no such address' : error.message
  return new HoldfastError('HF_OPTION_INVALID', { message: `cannot listen on port ${String(port)} of ${host}: ${why}`, context, cause: error })
}

/** An address to open in a browser: `0.0.0.0` is where one listens, not where one goes. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}

/** Is this address only reachable from this machine? For deciding whether authentication is needed. */
export function isLoopbackListener(host: string | undefined): boolean {
  return host === undefined || isLoopbackHost(host)
}
