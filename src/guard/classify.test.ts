import { createServer } from 'node:net'
import { describe, expect, it } from 'vitest'
import { HoldfastError } from '../core/index.ts'
import { judge } from './classify.ts'
import { errorClass, HttpStatusError, isTransient, parseRetryAfter, retryAfterOf } from './index.ts'

function coded(code: string, extra: object = {}): Error {
  return Object.assign(new Error(code), { code, ...extra })
}
function answer(status: number, headers: Record<string, string> = {}): HttpStatusError {
  return new HttpStatusError({ status, headers: new Headers(headers) })
}

describe('transient', () => {
  const TRANSIENT: readonly (readonly [string, unknown])[] = [
    ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT', 'UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_SOCKET'].map(code => [code, coded(code)] as const),
    ...[408, 425, 429, 500, 502, 503, 504].flatMap(status => [
      [`status ${String(status)}`, { status }], [`statusCode ${String(status)}`, { statusCode: status }], [`answer ${String(status)}`, answer(status)],
    ] as const),
    ['a Telegram 429', { error_code: 429, parameters: { retry_after: 3 } }],
    ['fetch failed', new TypeError('fetch failed', { cause: new AggregateError([coded('ECONNREFUSED'), coded('ECONNREFUSED')]) })],
    ['a timeout of AbortSignal.timeout', new DOMException('timed out', 'TimeoutError')],
    ['a database that shuts down', coded('57P01', { severity: 'FATAL' })],
    ['a serialization failure', coded('40001', { severity: 'ERROR' })],
    ['a store that is away', new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })],
  ]
  const PERMANENT: readonly (readonly [string, unknown])[] = [
    ...[400, 401, 403, 404, 409, 410, 422, 501, 505].map(status => [`status ${String(status)}`, answer(status)] as const),
    ['a TypeError', new TypeError('x is not a function')], ['a RangeError', new RangeError('x')], ['an assertion', coded('ERR_ASSERTION')],
    ['malformed JSON', new SyntaxError('Unexpected token')], ['a plain error', new Error('no')], ['a string', 'no'], ['nothing', undefined],
    ['a constraint violation', coded('23505', { severity: 'ERROR' })], ['an unknown commit', new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: 'x' })],
    ['a wrong argument to undici', coded('UND_ERR_INVALID_ARG')],
  ]
  const NEITHER: readonly (readonly [string, unknown])[] = [
    ['an abort of the work itself', new DOMException('aborted', 'AbortError')], ['an aborted undici request', coded('UND_ERR_ABORTED')],
    ['a refusal of a guard inside', new HoldfastError('HF_BREAKER_OPEN', { message: 'x' })], ['a switch', new HoldfastError('HF_SWITCHED_OFF', { message: 'x' })],
    ['the verdict of a dependency inside', new HoldfastError('HF_CALL_FAILED', { message: 'x', context: { dependency: 'inner' } })],
  ]

  it.each(TRANSIENT)('is %s', (_name, error) => {
    expect(judge(error)).toBe('transient')
    expect(isTransient(error)).toBe(true)
  })
  it.each(PERMANENT)('is not %s', (_name, error) => {
    expect(judge(error)).toBe('permanent')
    expect(isTransient(error)).toBe(false)
  })
  it.each(NEITHER)('is not %s, which is no answer either', (_name, error) => { expect(judge(error)).toBe('neither') })

  it('is what the dependency says, except for refusals and cancellations; a broken classifier is ignored', () => {
    expect(judge(new Error('x'), () => true)).toBe('transient')
    expect(judge(answer(503), () => false)).toBe('permanent')
    expect(judge(new DOMException('aborted', 'AbortError'), () => true)).toBe('neither')
    expect(judge(answer(503), () => { throw new Error('broken') })).toBe('transient')
  })

  it('is a refused connection and a cut one of the real fetch', async () => {
    const server = createServer(socket => { socket.once('data', () => { socket.destroy() }) })
    const port = await new Promise<number>(resolve => { server.listen(0, '127.0.0.1', () => { resolve((server.address() as { port: number }).port) }) })
    const url = `http://127.0.0.1:${String(port)}/`
    const cut: unknown = await fetch(url).catch((error: unknown) => error)
    await new Promise(resolve => { server.close(resolve) })
    const refused: unknown = await fetch(url).catch((error: unknown) => error)
    for (const error of [cut, refused]) {
      expect(error).toBeInstanceOf(TypeError)
      expect([judge(error), errorClass(error)]).toEqual(['transient', 'dependency_error'])
    }
  })
})

describe('the failure class', () => {
  it('says whose fault it is', () => {
    expect([coded('ECONNRESET'), answer(503), answer(401), new SyntaxError('x'), new Error('x')].map(errorClass)).toEqual(Array.from({ length: 5 }, () => 'dependency_error'))
    expect([answer(409), answer(404)].map(errorClass)).toEqual(['domain_error', 'domain_error'])
    expect([new TypeError('x'), coded('ERR_ASSERTION')].map(errorClass)).toEqual(['defect', 'defect'])
    expect(errorClass(coded('23505', { severity: 'ERROR' }))).toBe('infra_error')
    expect(errorClass(new DOMException('x', 'AbortError'))).toBe('user_error')
    expect(errorClass(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'x' }))).toBe('infra_error')
  })
})

describe('Retry-After', () => {
  it('is seconds or a date, rounded up, measured by the clock of who sent it', () => {
    const now = Date.UTC(2026, 0, 1)
    expect(parseRetryAfter('120', undefined)).toBe(120_000)
    expect(parseRetryAfter('0.0005', undefined)).toBe(1)
    expect(parseRetryAfter('Thu, 01 Jan 2026 00:00:05 GMT', now)).toBe(5_000)
    expect(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0)
    for (const nonsense of ['', 'soon', '-1', null]) expect(parseRetryAfter(nonsense, now)).toBeUndefined()
    expect(answer(503, { 'retry-after': 'Thu, 01 Jan 2026 00:00:05 GMT', date: 'Thu, 01 Jan 2026 00:00:02 GMT' }).retryAfterMs).toBe(3_000)
  })

  it('is found where clients put it', () => {
    expect(retryAfterOf({ retryAfterMs: 1.2 }, 0)).toBe(2)
    expect(retryAfterOf({ parameters: { retry_after: 3 } }, 0)).toBe(3_000)
    expect(retryAfterOf({ response: { headers: new Headers({ 'retry-after': '7' }) } }, 0)).toBe(7_000)
    expect(retryAfterOf({ headers: { 'retry-after': '7' } }, 0)).toBe(7_000)
    expect(retryAfterOf({ headers: { 'retry-after-ms': '1500.2', 'retry-after': '2' } }, 0)).toBe(1_501)
    expect(answer(429, { 'x-ms-retry-after-ms': '250' }).retryAfterMs).toBe(250)
    expect(answer(429, { 'retry-after-ms': 'soon', 'retry-after': '2' }).retryAfterMs).toBe(2_000)
    expect(retryAfterOf(new Error('x'), 0)).toBeUndefined()
  })
})
