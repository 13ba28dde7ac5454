/**
 * Real sockets: what a drain does to keep-alive clients, streams and requests in flight.
 */
import { Agent, get as httpGet, request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { realEnv } from '../core/index.ts'
import { readBody, problem, type HttpHandler } from './index.ts'
import { serve, type Served, type ServeOptions } from './node.ts'

const env = realEnv()
const started: Served[] = []
const agents: Agent[] = []

async function up(handler: HttpHandler, options: Partial<ServeOptions> = {}): Promise<Served> {
  const served = await serve(handler, { port: 0, ...options })
  started.push(served)
  return served
}

function keepAlive(): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  agents.push(agent)
  return agent
}

afterEach(async () => {
  await Promise.all(started.splice(0).map(served => served.close({ within: '0s' })))
  for (const agent of agents.splice(0)) agent.destroy()
})

function fetchWith(agent: Agent, url: string): Promise<{ readonly status: number; readonly connection: string | undefined; readonly body: string }> {
  return new Promise((resolve, reject) => {
    httpGet(url, { agent }, (response: IncomingMessage) => {
      let body = ''
      response.on('data', (chunk: Buffer) => { body += chunk.toString() })
      response.on('end', () => { resolve({ status: response.statusCode ?? 0, connection: response.headers.connection, body }) })
      response.on('error', reject)
    }).on('error', reject)
  })
}

function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined
  const opened = new Promise<void>(resolve => { open = resolve })
  return { opened, open }
}

describe('serving', () => {
  it('passes the peer\'s address and listens on loopback by default', async () => {
    const served = await up(async (_request, info) => new Response(info?.remoteAddress ?? 'none'))
    expect(served.host).toBe('127.0.0.1')
    expect((await fetchWith(keepAlive(), served.url)).body).toBe('127.0.0.1')
  })

  it('answers a handler that throws with a problem', async () => {
    const served = await up(() => { throw new Error('boom') })
    const answer = await fetchWith(keepAlive(), served.url)
    expect([answer.status, answer.body]).toEqual([500, expect.stringContaining('"status":500')])
  })

  it('leaves the global Request and Response alone', async () => {
    const before = [globalThis.Request, globalThis.Response]
    await up(async () => new Response(''))
    expect([globalThis.Request, globalThis.Response]).toEqual(before)
  })

  it('says in one sentence that the port is in use', async () => {
    const first = await up(async () => new Response(''))
    const error: unknown = await serve(async () => new Response(''), { port: first.port }).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'HF_PORT_IN_USE', message: `port ${String(first.port)} on 127.0.0.1 is in use by another program; stop it or choose another port` })
  })

  it('refuses a chunked body at its limit while the sender goes on', async () => {
    const served = await up(async request => {
      try {
        return new Response(String((await readBody(request, '64kb')).length))
      } catch (error) {
        return problem(error)
      }
    })
    const status = await new Promise<number>((resolve, reject) => {
      const request = httpRequest(served.url, { method: 'POST', agent: keepAlive() }, response => { response.resume(); resolve(response.statusCode ?? 0) })
      // Whether the rest of the upload still has a socket to go to is not the point.
      request.on('error', error => { if (!/EPIPE|ECONNRESET/.test(String(error))) reject(error) })
      for (let index = 0; index < 20; index++) request.write(Buffer.alloc(16_384))
    })
    expect(status).toBe(413)
  })

  it('cuts a client that never finishes its headers', async () => {
    const served = await up(async () => new Response(''), { headersTimeout: '200ms' })
    const ended = new Promise<string>(resolve => {
      const socket = connect(served.port, '127.0.0.1', () => { socket.write('GET / HTTP/1.1\r\nHost: x\r\n') })
      let text = ''
      socket.on('data', chunk => { text += chunk.toString() })
      socket.on('error', () => undefined)
      socket.on('close', () => { resolve(text) })
    })
    expect(await ended).toContain('408')
  })
})

describe('draining', () => {
  it('finishes what is in flight, with Connection: close, and refuses new connections', async () => {
    const entered = gate()
    const leave = gate()
    const served = await up(async () => {
      entered.open()
      await leave.opened
      return new Response('finished')
    })
    const inFlight = fetchWith(keepAlive(), served.url)
    await entered.opened
    const closing = served.close()
    await expect(fetchWith(keepAlive(), served.url)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    leave.open()
    expect(await inFlight).toEqual({ status: 200, connection: 'close', body: 'finished' })
    expect(await closing).toEqual({ cut: 0 })
    expect(served.inFlight).toBe(0)
  })

  it('does not wait for idle keep-alive clients', async () => {
    const served = await up(async () => new Response('x'))
    await Promise.all([1, 2, 3].map(() => fetchWith(keepAlive(), served.url)))
    const begun = env.monotonic()
    expect(await served.close()).toEqual({ cut: 0 })
    expect(env.monotonic() - begun).toBeLessThan(2_000)
  })

  it('tells streams to end, and they end whole', async () => {
    const served = await up(async (_request, info) => new Response(new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode('hello '))
        info?.draining?.addEventListener('abort', () => { controller.enqueue(new TextEncoder().encode('bye')); controller.close() })
      },
    })))
    const stream = await new Promise<IncomingMessage>((resolve, reject) => { httpGet(served.url, { agent: keepAlive() }, resolve).on('error', reject) })
    let text = ''
    const ended = new Promise<void>((resolve, reject) => {
      stream.on('data', (chunk: Buffer) => { text += chunk.toString() })
      stream.on('end', resolve)
      stream.on('error', reject)
    })
    expect(await served.close()).toEqual({ cut: 0 })
    await ended
    expect(text).toBe('hello bye')
  })

  it('cuts and counts what outlives its time; a second close waits for the first', async () => {
    const entered = gate()
    const served = await up(() => { entered.open(); return new Promise(() => undefined) })
    const hung = fetchWith(keepAlive(), served.url).catch((error: unknown) => (error as NodeJS.ErrnoException).code)
    await entered.opened
    const [first, second] = await Promise.all([served.close({ within: '100ms' }), served.close()])
    expect([first, second]).toEqual([{ cut: 1 }, { cut: 1 }])
    expect(await hung).toBe('ECONNRESET')
  })
})
