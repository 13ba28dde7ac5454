/**
 * Serves a simulator over HTTP, on loopback only.
 *
 * What a simulator cannot say with a Response happens on the socket: a dropped connection is destroyed, a truncated
 * body ends in the middle, and a caller that hangs up aborts the request's signal. `close()` does not wait for
 * keep-alive connections or for calls that hang.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HoldfastError, messageOf } from 'holdfast/core'
import { isFetchFailed } from './faults.ts'
import type { Simulator } from './simulator.ts'

export interface ListenOptions {
  /** 0 (default): any free one. */
  readonly port?: number
  /** A loopback address. Default 127.0.0.1. */
  readonly host?: '127.0.0.1' | '::1' | 'localhost'
}

export interface Listening {
  /** `http://127.0.0.1:8081`, without a slash at the end. */
  readonly url: string
  readonly port: number
  /** Resolves when no socket is left. The simulator itself lives on. */
  close(): Promise<void>
}

/** Uploads to the Bot API are limited to 50 MB. */
const BODY_MAX_BYTES = 52 * 1_048_576

/**
 * Opens the port and answers where.
 * @throws HF_PORT_IN_USE when another program listens there.
 */
export async function listen(simulator: Simulator, options: ListenOptions = {}): Promise<Listening> {
  const host = options.host ?? '127.0.0.1'
  const port = options.port ?? 0
  const server = createServer((incoming, outgoing) => { void answer(simulator, incoming, outgoing) })
  server.keepAliveTimeout = 65_000
  await new Promise<void>((resolve, reject) => {
    const onError = (error: NodeJS.ErrnoException): void => {
      reject(error.code === 'EADDRINUSE'
        ? new HoldfastError('HF_PORT_IN_USE', { message: `${simulator.name} simulator: port ${String(port)} on ${host} is in use by another program; choose another with --port`, cause: error })
        : error)
    }
    server.once('error', onError)
    server.listen(port, host, () => {
      server.off('error', onError)
      resolve()
    })
  })
  const address = server.address() as AddressInfo
  return {
    url: `http://${host === '::1' ? '[::1]' : host}:${String(address.port)}`,
    port: address.port,
    close: () => new Promise(resolve => {
      server.close(() => { resolve() })
      server.closeAllConnections()
    }),
  }
}

async function answer(simulator: Simulator, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const gone = new AbortController()
  outgoing.once('close', () => { if (!outgoing.writableFinished) gone.abort() })
  // A socket that breaks while something is written to it: the caller has gone, which `close` above tells.
  outgoing.on('error', () => undefined)
  try {
    const body = await bodyOf(incoming)
    if (body === undefined) {
      outgoing.writeHead(413, { 'content-type': 'text/plain', 'connection': 'close' }).end('Request Entity Too Large')
      return
    }
    await send(await simulator.fetch(requestOf(incoming, body, gone.signal)), outgoing)
  } catch (error) {
    if (outgoing.headersSent || gone.signal.aborted || isFetchFailed(error)) incoming.socket.destroy()
    else outgoing.writeHead(500, { 'content-type': 'text/plain' }).end(`${simulator.name} simulator: ${messageOf(error)}`)
  }
}

async function bodyOf(incoming: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_MAX_BYTES) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

function requestOf(incoming: IncomingMessage, body: Buffer, signal: AbortSignal): Request {
  const method = incoming.method ?? 'GET'
  const headers = new Headers()
  for (const [name, value] of Object.entries(incoming.headers)) if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value)
  const url = `http://${incoming.headers.host ?? '127.0.0.1'}${incoming.url ?? '/'}`
  return new Request(url, { method, headers, signal, ...(method === 'GET' || method === 'HEAD' ? {} : { body: new Uint8Array(body) }) })
}

async function send(response: Response, outgoing: ServerResponse): Promise<void> {
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  if (response.body !== null) {
    // Each chunk is on the wire before the next is asked for: what breaks off afterwards breaks off behind it.
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) await new Promise<void>(resolve => { outgoing.write(chunk, () => { resolve() }) })
  }
  outgoing.end()
}
