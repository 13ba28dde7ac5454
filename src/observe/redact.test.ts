/**
 * Redaction against canaries: planted raw, encoded, in URLs, headers, keys, causes and at the edge of what is cut.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { redactor, type Redactor } from './index.ts'

const CANARY = 'cAnArY-7f3a/+=9:x"é'
/** Never registered: only its surroundings give it away. */
const STRANGER = 'Str4ngerCanaryValue0123456789abcdefgh'

function registered(): Redactor {
  const redact = redactor()
  redact.register(CANARY)
  return redact
}

const written = (value: unknown): string => JSON.stringify(value) ?? ''
const leaks = (text: string): boolean => text.includes('cAnArY') || text.includes(STRANGER)

/** Texts that carry one of the two. */
const carrier = fc.tuple(fc.string({ maxLength: 30 }), fc.constantFrom(
  CANARY,
  encodeURIComponent(CANARY),
  JSON.stringify({ note: CANARY }),
  `postgres://holdfast:${STRANGER}@db.internal:5432/shop?sslmode=require`,
  `postgres://holdfast:${STRANGER}/with?odd#signs@db.internal/shop`,
  `redis://:${STRANGER}@cache`,
  `https://${STRANGER}@git.internal/x.git`,
  `https://api.telegram.org/bot123456789:${STRANGER}/getMe`,
  `https://api.telegram.org/file/bot123456789%3A${STRANGER}/photos/1.jpg`,
  `the token 123456789:${STRANGER} was refused`,
  `Authorization: Bearer ${STRANGER}`,
  `{"authorization":"bearer ${STRANGER}"}`,
  `authorization: Basic ${STRANGER}`,
  `https://media.internal/v?id=7&access_token=${STRANGER}&page=2`,
  `host=db password=${STRANGER} user=shop`,
  JSON.stringify({ botToken: STRANGER }),
), fc.constantFrom('', ' and more', '\n    at call (file.ts:1:1)')).map(parts => parts.join(' '))

/** Where it may sit: on its own, in lists and objects, as a key, under a secret name, in errors and their causes, behind toJSON. */
const planted: fc.Arbitrary<unknown> = fc.letrec<{ node: unknown }>(tie => ({
  node: fc.oneof(
    { maxDepth: 6, depthSize: 'small' },
    carrier,
    carrier.map(text => new Error(text)),
    fc.constantFrom('password', 'apiKey', 'API_KEY', 'Authorization', 'set-cookie', 'X-Api-Key', 'botToken', 'clientSecret', 'PASSPHRASE').map(key => ({ [key]: STRANGER })),
    fc.constant(Buffer.from(STRANGER)),
    fc.array(tie('node'), { maxLength: 3 }),
    fc.dictionary(fc.string({ maxLength: 8 }), tie('node'), { maxKeys: 3 }),
    carrier.map(text => ({ [text]: 1 })),
    fc.tuple(carrier, tie('node')).map(([text, cause]) => new Error(text, { cause })),
    tie('node').map(error => new AggregateError([error], 'several')),
    tie('node').map(value => ({ toJSON: () => value })),
    carrier.map(text => Object.assign(new Error('coded'), { code: text })),
  ),
})).node

describe('redaction of a planted canary', () => {
  it('leaks it in no nesting: raw, encoded, in a URL, as a key, in an error and its causes', () => {
    const redact = registered()
    fc.assert(fc.property(planted, value => !leaks(written(redact.value(value)))), { numRuns: 2_000, seed: 7 })
  })

  it('would leak it without the mechanism', () => {
    const found = fc.sample(planted, { numRuns: 200, seed: 7 }).filter(value => leaks(written(value)) || (value instanceof Error && leaks(value.message)))
    expect(found.length).toBeGreaterThan(50)
  })

  it('leaks no part of it where a long text is cut', () => {
    const redact = registered()
    for (const at of [4_070, 4_090, 16_370, 16_380, 20_000]) {
      for (const secret of [CANARY, `postgres://holdfast:${STRANGER}@db/shop`]) {
        const shown = redact.text(`${'x'.repeat(at)}${secret}${'y'.repeat(500)}`)
        expect(shown.length).toBeLessThanOrEqual(4_099)
        expect(shown, String(at)).not.toMatch(/cAn|Str4/)
      }
    }
  })
})

describe('redaction of what is innocent', () => {
  it('leaves addresses, ports, times and prose as they are', () => {
    const redact = registered()
    for (const text of [
      'GET http://127.0.0.1:8712/users?email=a@b.example failed', 'http://[::1]:80/@alice', 'connect ECONNREFUSED 10.0.0.7:5432', 'see https://example.com/a:b', 'a basic subscription for the bearer',
      '2026-01-01T00:00:00Z worker activation: 3 of 4 failed', '/bottle:green', 'order 123456:7',
    ]) expect(redact.text(text)).toBe(text)
    const innocent = { tokensLeft: 3, secretary: 'Ann', onceKey: 'delivery:1', hasToken: true, passwordless: 'yes', tokenizer: 'x' }
    expect(redact.value(innocent)).toEqual(innocent)
  })

  it('keeps the host of a URL, which an operator needs', () => {
    expect(redactor().text('cannot reach postgres://user:pw@db.internal:5432/shop')).toBe('cannot reach postgres://***@db.internal:5432/shop')
  })
})

describe('redaction of what is hostile', () => {
  it('survives getters and toJSON that throw, and says so in their place', () => {
    const hostile = { good: 1, bad: { get x(): string { throw new Error('no') } }, worse: { toJSON: () => { throw new Error('no') } } }
    expect(redactor().value(hostile)).toEqual({ good: 1, bad: '[unreadable]', worse: '[unreadable]' })
  })

  it('takes a bounded time for texts made to be slow', () => {
    const redact = registered()
    const began = performance.now()
    for (const part of ['://a:', '"token":"\\', 'Bearer ', '/bot1:', '?token=', 'authorization: ', '1:', '://@', 'password=']) redact.text(part.repeat(20_000))
    expect(performance.now() - began).toBeLessThan(2_000)
  })
})
