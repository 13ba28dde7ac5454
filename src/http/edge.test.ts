/**
 * Bodies, signatures, problems, headers and webhooks, in process: no socket is needed for any of it.
 */
import { createHash, createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, realEnv } from '../core/index.ts'
import { combine, cryptoPaySignature, mount, parseJson, problem, readBody, secretMatches, sharedSecret, webhook, withSecurityHeaders, isLocalRequest } from './index.ts'

const SECRET = 'correct-horse'
const HEADER = 'x-telegram-bot-api-secret-token'

function post(body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null, headers: Record<string, string> = {}): Request {
  const init: RequestInit & { duplex?: 'half' } = { method: 'POST', body, headers, duplex: 'half' }
  return new Request('http://bot.test/telegram', init)
}

function streamOf(...chunks: string[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(new TextEncoder().encode(chunk))
      controller.close()
    },
  })
}

describe('readBody', () => {
  it('gives the raw bytes, whatever encoding they pretend to have', async () => {
    const bytes = new Uint8Array([0xff, 0xfe, 0x00, 0x41])
    expect(await readBody(post(bytes))).toEqual(bytes)
  })

  it('refuses by the header before a byte is read', async () => {
    let read = false
    const body = new ReadableStream({ pull(controller) { read = true; controller.enqueue(new Uint8Array(10)) } }, { highWaterMark: 0 })
    await expect(readBody(post(body, { 'content-length': '2048' }), '1kb')).rejects.toMatchObject({ code: 'HF_BODY_TOO_LARGE' })
    expect(read).toBe(false)
  })

  it('refuses a body without a length, or with a lying one, at the first byte too many', async () => {
    const endless = (): ReadableStream<Uint8Array> => new ReadableStream({ pull(controller) { controller.enqueue(new Uint8Array(400)) } })
    await expect(readBody(post(endless()), '1kb')).rejects.toMatchObject({ code: 'HF_BODY_TOO_LARGE' })
    await expect(readBody(post(endless(), { 'content-length': '10' }), '1kb')).rejects.toMatchObject({ code: 'HF_BODY_TOO_LARGE' })
  })

  it('takes a body of exactly the limit', async () => {
    expect(await readBody(post(streamOf('a'.repeat(512), 'b'.repeat(512))), '1kb')).toHaveLength(1024)
  })

  it('refuses a body that is not as long as promised, and a length that is no number', async () => {
    await expect(readBody(post(streamOf('abc'), { 'content-length': '5' }))).rejects.toMatchObject({ code: 'HF_BODY_INVALID' })
    await expect(readBody(post(streamOf('abc'), { 'content-length': '-1' }))).rejects.toMatchObject({ code: 'HF_BODY_INVALID' })
    await expect(readBody(post(streamOf('abc'), { 'content-length': '3, 4' }))).rejects.toMatchObject({ code: 'HF_BODY_INVALID' })
  })

  it('says so when the connection breaks off', async () => {
    const broken = new ReadableStream<Uint8Array>({ pull(controller) { controller.error(new Error('ECONNRESET')) } })
    await expect(readBody(post(broken))).rejects.toMatchObject({ code: 'HF_BODY_INVALID' })
  })
})

describe('parseJson', () => {
  it('refuses what is not JSON or not UTF-8, without repeating it', () => {
    for (const body of [new TextEncoder().encode('{"card": 4111'), new Uint8Array([0x22, 0xff, 0x22]), new TextEncoder().encode('')]) {
      expect(() => parseJson(body)).toThrowError(expect.objectContaining({ code: 'HF_BODY_INVALID', message: 'the body is not JSON in UTF-8' }) as Error)
    }
  })
})

describe('secrets', () => {
  it('match as a whole or not at all', () => {
    expect(secretMatches('abc', ['abc'])).toBe(true)
    for (const given of ['ab', 'abcd', 'ABC', '', null, undefined]) expect(secretMatches(given, ['abc'])).toBe(false)
    expect(secretMatches('', [''])).toBe(false)
  })

  it('may be two while they are rotated', () => {
    expect(secretMatches('old', ['new', 'old'])).toBe(true)
    expect(secretMatches('new', ['new', 'old'])).toBe(true)
  })

  it('are required: a verifier without one cannot be made', () => {
    for (const secrets of ['', [], ['a', '']]) {
      expect(() => sharedSecret({ header: HEADER, secrets })).toThrowError(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
      expect(() => cryptoPaySignature(secrets)).toThrowError(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    }
  })
})

describe('a webhook', () => {
  const received: string[] = []
  const bus = new EventBus(realEnv())
  const make = (handle: (json: () => unknown) => Promise<Response | void>): ReturnType<typeof webhook> =>
    webhook({ path: '/telegram', verify: sharedSecret({ header: HEADER, secrets: SECRET }), bodyLimit: '1kb', events: bus, handle: ({ json }) => handle(json) })
  const hook = make(async json => { received.push(JSON.stringify(json())) })

  it('answers 200 when the handler returned', async () => {
    received.length = 0
    const answer = await hook(post('{"update_id":1}', { [HEADER]: SECRET }))
    expect(answer.status).toBe(200)
    expect(received).toEqual(['{"update_id":1}'])
  })

  it('answers missing and wrong secrets alike with 401, and reads no body', async () => {
    received.length = 0
    const bodies = new Set<string>()
    for (const headers of [{}, { [HEADER]: '' }, { [HEADER]: 'wrong' }, { [HEADER]: SECRET.slice(0, -1) }, { [HEADER]: `${SECRET}, ${SECRET}` }]) {
      const request = post('{"update_id":1}', headers)
      const answer = await hook(request)
      expect(answer.status).toBe(401)
      expect(request.bodyUsed).toBe(false)
      bodies.add(await answer.text())
    }
    expect(bodies.size).toBe(1)
    expect(received).toEqual([])
  })

  it('answers broken JSON with 400, an oversized body with 413, another method with 405', async () => {
    received.length = 0
    expect((await hook(post('{"update_id":', { [HEADER]: SECRET }))).status).toBe(400)
    expect((await hook(post('x'.repeat(2000), { [HEADER]: SECRET }))).status).toBe(413)
    const wrong = await hook(new Request('http://bot.test/telegram', { headers: { [HEADER]: SECRET } }))
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'POST'])
    expect(received).toEqual([])
  })

  it('asks the sender to come again when the store is away or the instance drains', async () => {
    for (const [code, retryAfterMs, expected] of [['HF_STORE_UNAVAILABLE', undefined, '5'], ['HF_STOPPING', 2_500, '3']] as const) {
      const answer = await make(async () => { throw new HoldfastError(code, { message: 'postgres://user:password@10.0.0.1 refused', retryAfterMs }) })(post('{}', { [HEADER]: SECRET }))
      expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, expected])
      const text = await answer.text()
      expect(JSON.parse(text)).toMatchObject({ status: 503, code })
      expect(text).not.toContain('password')
    }
  })

  it('answers an unexpected error with 500 and none of its words, and announces it', async () => {
    const failed: string[] = []
    const stop = bus.on('handler.failed', event => { failed.push(`${event.data.handler}: ${event.data.message}`) })
    const answer = await make(async () => { throw new Error('secret inside') })(post('{}', { [HEADER]: SECRET }))
    stop()
    expect(answer.status).toBe(500)
    expect(await answer.text()).not.toContain('secret inside')
    expect(failed).toEqual(['webhook /telegram: secret inside'])
  })

  it('checks a Crypto Pay signature over the raw bytes', async () => {
    const token = '123:AAA'
    const sign = (body: Uint8Array): string => createHmac('sha256', createHash('sha256').update(token).digest()).update(body).digest('hex')
    const crypto = webhook({ path: '/crypto', verify: cryptoPaySignature(token), handle: async () => undefined })
    const body = new Uint8Array([0x7b, 0x7d, 0xff])
    const other = new Uint8Array([0x7b, 0x7d, 0xfe])
    expect((await crypto(post(body, { 'crypto-pay-api-signature': sign(body) }))).status).toBe(200)
    expect((await crypto(post(other, { 'crypto-pay-api-signature': sign(body) }))).status).toBe(401)
    expect((await crypto(post(body))).status).toBe(401)
  })
})

describe('problems', () => {
  it('say what is the caller\'s to know, and only the code of what is not', async () => {
    expect(await problem(new HoldfastError('HF_REASON_REQUIRED', { message: 'say why' })).json()).toMatchObject({ status: 422, code: 'HF_REASON_REQUIRED', detail: 'say why' })
    expect(await problem(new HoldfastError('HF_QUERY_FAILED', { message: 'relation "users" does not exist' })).json()).not.toHaveProperty('detail')
    expect(problem(new Error('x')).headers.get('content-type')).toContain('application/problem+json')
  })

  it('round the wait up to whole seconds, at least one', () => {
    expect(problem(new HoldfastError('HF_RATE_LIMITED', { message: 'm', retryAfterMs: 1 })).headers.get('retry-after')).toBe('1')
    expect(problem(new HoldfastError('HF_RATE_LIMITED', { message: 'm', retryAfterMs: 1_001 })).headers.get('retry-after')).toBe('2')
    const ours = problem(new HoldfastError('HF_RATE_LIMITED', { message: 'm', retryAfterMs: 1_001, failure: 'dependency_error' }))
    expect([ours.status, ours.headers.get('retry-after')]).toEqual([503, '2'])
  })
})

describe('combine', () => {
  const answering = (text: string) => async (): Promise<Response> => new Response(text)
  const all = combine([mount('/livez', answering('exact')), mount(['/console', '/console/*'], answering('console')), mount('/console/api/*', answering('api'))])
  const get = async (path: string): Promise<string> => (await all(new Request(`http://x${path}`))).text()

  it('lets the longest path win', async () => {
    expect([await get('/livez'), await get('/console'), await get('/console/x'), await get('/console/api/x')]).toEqual(['exact', 'console', 'console', 'api'])
  })

  it('answers 404 for anything else, with the security headers', async () => {
    const answer = await all(new Request('http://x/livez/'))
    expect(answer.status).toBe(404)
    expect(answer.headers.get('x-frame-options')).toBe('DENY')
    expect(answer.headers.get('content-security-policy')).toBe("default-src 'none'; frame-ancestors 'none'")
    expect(answer.headers.has('strict-transport-security')).toBe(false)
  })

  it('survives a handler that throws', async () => {
    const broken = combine([mount('/x', () => { throw new Error('boom') })])
    expect((await broken(new Request('http://x/x'))).status).toBe(500)
  })
})

describe('security headers', () => {
  it('never replace what a handler set, also on answers whose headers cannot be changed', () => {
    expect(withSecurityHeaders(new Response('', { headers: { 'content-security-policy': 'own' } })).headers.get('content-security-policy')).toBe('own')
    const redirect = withSecurityHeaders(Response.redirect('http://x/y', 308), { secure: true })
    expect([redirect.status, redirect.headers.get('location'), redirect.headers.get('x-frame-options')]).toEqual([308, 'http://x/y', 'DENY'])
    expect(redirect.headers.get('strict-transport-security')).toContain('31536000')
  })
})

describe('a local request', () => {
  const from = (remoteAddress: string | undefined, host: string, headers: Record<string, string> = {}): boolean =>
    isLocalRequest(new Request('http://x/', { headers: { host, ...headers } }), { remoteAddress })

  it('comes from a loopback address under a loopback name', () => {
    for (const address of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1']) expect(from(address, 'localhost:8700')).toBe(true)
    for (const host of ['127.0.0.1', '127.0.0.1:8700', '[::1]:8700', 'LOCALHOST']) expect(from('127.0.0.1', host)).toBe(true)
  })

  it('is not one from elsewhere, under another name, through a proxy, or from an unknown peer', () => {
    expect(from('10.0.0.1', 'localhost')).toBe(false)
    expect(from('127.0.0.1', 'evil.example')).toBe(false)
    expect(from('127.0.0.1', '127.0.0.1.evil.example')).toBe(false)
    expect(from('127.0.0.1', 'localhost', { 'x-forwarded-for': '8.8.8.8' })).toBe(false)
    expect(from(undefined, 'localhost')).toBe(false)
  })
})
