/**
 * `Idempotency-Key` over every store: one effect per key, the same bytes to everybody, refusals that change nothing, and outcomes that nobody knows.
 */
import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { memoryStore, testStores, type TestWorld } from '../../test/durable-stores.ts'
import { HoldfastError, type Json } from '../core/index.ts'
import { once, refuse, type DurableKit, type LocalOnce, type Once, type OutsideOnce } from '../durable/index.ts'
import { idempotencyKeyOf, idempotent, type CallOperation, type HttpHandler, type IdempotencySource, type WriteOperation } from './index.ts'
import { serve, type Served } from './node.ts'

interface Source extends IdempotencySource<unknown> {
  /** By name, for the sweeps that a recovery would make. */
  readonly made: Map<string, Once<unknown, unknown, unknown>>
}

function sourceOf(kit: DurableKit<unknown>): Source {
  const made = new Map<string, Once<unknown, unknown, unknown>>()
  return {
    env: kit.env, events: kit.events, made,
    once: <In, I, R extends Json | void>(name: string, options: LocalOnce<In, I, R, unknown> | OutsideOnce<In, I, R, unknown>): Once<In, R, unknown> => {
      const one = once(name, options, kit)
      made.set(name, one as unknown as Once<unknown, unknown, unknown>)
      return one
    },
  }
}

const tenantOf = (request: Request): string => request.headers.get('x-account') ?? 'acme'
function post(key: string | undefined, body = '{"amount":100}', change: { readonly path?: string; readonly method?: string; readonly account?: string } = {}): Request {
  return new Request(`http://shop.test${change.path ?? '/payments'}`, {
    method: change.method ?? 'POST', body,
    headers: { 'content-type': 'application/json', ...(key === undefined ? {} : { 'idempotency-key': key }), ...(change.account === undefined ? {} : { 'x-account': change.account }) },
  })
}
async function read(response: Response): Promise<{ readonly status: number; readonly body: string; readonly replayed: string | null; readonly retryAfter: string | null; readonly location: string | null }> {
  return { status: response.status, body: await response.text(), replayed: response.headers.get('idempotency-replayed'), retryAfter: response.headers.get('retry-after'), location: response.headers.get('location') }
}
const hangUp = (): Error => Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' })
const codeOf = (text: string): unknown => (JSON.parse(text) as { readonly code?: unknown }).code

describe.each(testStores)('an idempotent operation on $name', store => {
  let world: TestWorld
  let count = 0
  let key: string
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { key = `k-${String(++count)}` })

  const written = async (): Promise<number> => (await world.written()).filter(text => text.startsWith(`${key} `)).length
  const paying = (change: Partial<WriteOperation<unknown>> = {}, kit = world.kit()): HttpHandler => {
    let payments = 0
    return idempotent(sourceOf(kit), 'create-payment', {
      tenant: tenantOf,
      write: async (request, { tx, idempotencyKey }) => {
        const { amount } = await request.json() as { readonly amount: number }
        await world.write(tx, `${idempotencyKey} ${String(amount)}`)
        payments += 1
        return Response.json({ id: payments, amount }, { status: 201, headers: { location: `/payments/${String(payments)}`, 'x-request-id': String(payments) } })
      },
      ...change,
    })
  }
  const refunding = (call: CallOperation<unknown>['call'], onUnknown: CallOperation<unknown>['onUnknown'], kit = world.kit(), change: Partial<CallOperation<unknown>> = {}): { readonly handler: HttpHandler; readonly source: Source } => {
    const source = sourceOf(kit)
    return { source, handler: idempotent(source, 'refund', { tenant: tenantOf, call, onUnknown, ...change }) }
  }

  describe('that writes here', () => {
    it('takes effect once for 100 requests at once on two instances, and answers all of them with the same bytes (I1, I2, I4)', async () => {
      const handlers = [paying({}, world.kit('a')), paying({}, world.kit('b'))]
      const send = (index: number): Promise<Response> => (handlers[index % 2] ?? paying())(post(key))
      const answers = await Promise.all(Array.from({ length: 100 }, (_, index) => send(index)))
      // A duplicate waits a bounded time for the first one; on a busy machine some are told to come back, and do.
      const settled = await Promise.all(answers.map(async (answer, index) => read(answer.status === 409 ? await send(index) : answer)))
      expect(new Set(settled.map(({ status, body, location }) => `${String(status)} ${body} ${String(location)}`)).size).toBe(1)
      expect(settled[0]).toMatchObject({ status: 201, body: '{"id":1,"amount":100}', location: '/payments/1' })
      expect(settled.filter(({ replayed }) => replayed === null).length).toBe(1)
      expect(await written()).toBe(1)
    })

    it('control: with a new key for each request it takes effect each time', async () => {
      const pay = paying()
      for (const each of ['a', 'b', 'c']) expect((await pay(post(`${key} ${each}`.replace(' ', '-')))).status).toBe(201)
      expect((await world.written()).filter(text => text.startsWith(`${key}-`))).toHaveLength(3)
    })

    it('gives back status, kept headers and bytes; quoted and bare keys are the same', async () => {
      const pay = paying()
      const first = await pay(post(key))
      const second = await pay(post(`"${key}"`))
      expect(await read(second)).toEqual({ ...await read(first), replayed: 'true' })
      expect([first, second].map(answer => [answer.headers.get('content-type'), answer.headers.get('x-request-id')])).toEqual([['application/json', null], ['application/json', null]])
    })

    it.each<[string, Parameters<typeof post>[1], Parameters<typeof post>[2]]>([
      ['body', '{"amount":1}', {}],
      ['body, by a space', '{"amount": 100}', {}],
      ['path', undefined, { path: '/payments/other' }],
      ['query', undefined, { path: '/payments?currency=EUR' }],
      ['method', undefined, { method: 'PATCH' }],
    ])('answers 422 to the key with another %s, without an effect (I3)', async (_what, body, change) => {
      const pay = paying()
      await pay(post(key))
      const other = await read(await pay(post(key, body, change)))
      expect([other.status, codeOf(other.body)]).toEqual([422, 'HF_KEY_REUSED'])
      expect(await written()).toBe(1)
      expect(world.names('handler.failed')).toEqual([])
    })

    it('keeps tenants and operations apart (I8)', async () => {
      const kit = world.kit()
      const source = sourceOf(kit)
      const made = ['pay-a', 'pay-b'].map(name => idempotent(source, name, { tenant: tenantOf, write: async (_request, { tx, tenant }) => { await world.write(tx, `${key} ${name} ${tenant}`); return new Response(null, { status: 204 }) } }))
      for (const handler of made) for (const account of ['acme', 'evil:', 'evil']) expect((await handler(post(account === 'evil' ? `:${key}` : key, '{}', { account }))).status).toBe(204)
      expect(await written()).toBe(6)
    })

    it('keeps a 5xx that was returned, and nothing of what was thrown: that was rolled back (I6)', async () => {
      let tries = 0
      const pay = paying({ write: async (_request, { tx, idempotencyKey }) => {
        tries += 1
        await world.write(tx, `${idempotencyKey} ${String(tries)}`)
        if (tries === 1) throw new HoldfastError('HF_INPUT_INVALID', { message: 'no such currency' })
        if (tries === 2) throw new Error('database password: hunter2')
        return new Response('the bank said no', { status: 502 })
      } })
      const answers = []
      for (let i = 0; i < 4; i++) answers.push(await read(await pay(post(key))))
      expect(answers.map(({ status, replayed }) => [status, replayed])).toEqual([[422, null], [500, null], [502, null], [502, 'true']])
      expect(answers[1]?.body).not.toContain('hunter2')
      expect(answers[3]?.body).toBe('the bank said no')
      expect(await written()).toBe(1)
    })

    it('gives back bytes that are no text, an empty answer and a byte order mark', async () => {
      const bodies = [new Uint8Array([0, 255, 254, 10]), new Uint8Array([0xef, 0xbb, 0xbf, 65]), undefined]
      for (const [index, body] of bodies.entries()) {
        const handler = paying({ write: async () => (body === undefined ? new Response(null, { status: 204 }) : new Response(body, { status: 200 })) })
        const answers = [await handler(post(`${key}-${String(index)}`)), await handler(post(`${key}-${String(index)}`))]
        for (const answer of answers) expect(new Uint8Array(await answer.arrayBuffer())).toEqual(body ?? new Uint8Array())
        expect(answers[1]?.headers.get('idempotency-replayed')).toBe('true')
      }
    })

    it('rolls back what answers more than is kept', async () => {
      const pay = paying({ answerLimit: '1kb', write: async (_request, { tx, idempotencyKey }) => { await world.write(tx, `${idempotencyKey} big`); return new Response('x'.repeat(1_025)) } })
      const answer = await read(await pay(post(key)))
      expect([answer.status, codeOf(answer.body), await written()]).toEqual([500, 'HF_ANSWER_TOO_LARGE', 0])
    })

    it('replays for as long as it is declared, and never shorter (I7)', async () => {
      const source = sourceOf(world.kit())
      const pay = idempotent(source, 'create-payment', { tenant: tenantOf, keepFor: '24h', write: async (_request, { tx, idempotencyKey }) => { await world.write(tx, `${idempotencyKey} x`); return new Response('ok') } })
      await pay(post(key))
      await world.elapse(86_400_000 - 60_000)
      expect((await pay(post(key))).headers.get('idempotency-replayed')).toBe('true')
      expect(() => idempotent(source, 'short', { tenant: tenantOf, keepFor: '23h', write: async () => new Response() })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    })
  })

  describe('that calls another system', () => {
    it('answers 409 with Retry-After while the first request is in flight, then replays (I4)', async () => {
      let calls = 0
      let finish = (): void => undefined
      const gate = new Promise<void>(resolve => { finish = resolve })
      const { handler } = refunding(async () => { calls += 1; await gate; return Response.json({ refunded: true }) }, 'retry')
      const first = handler(post(key))
      for (let i = 0; i < 200 && calls === 0; i++) await world.database.ping().then(() => new Promise(resolve => { setImmediate(resolve) }))
      const others = await Promise.all(Array.from({ length: 20 }, async () => read(await handler(post(key)))))
      expect(new Set(others.map(({ status, body, retryAfter }) => [status, codeOf(body), retryAfter].join(' ')))).toEqual(new Set(['409 HF_IN_PROGRESS 1']))
      finish()
      expect(await read(await first)).toMatchObject({ status: 200, replayed: null })
      expect(await read(await handler(post(key)))).toMatchObject({ status: 200, body: '{"refunded":true}', replayed: 'true' })
      expect(calls).toBe(1)
    })

    it('answers 503 to an outcome that is not known, and settles it with the same derived key (I5)', async () => {
      const keys: string[] = []
      const { handler } = refunding(async (request, context) => {
        keys.push(`${context.key} ${await request.text()}`)
        if (keys.length === 1) throw hangUp()
        return Response.json({ refunded: true })
      }, 'retry')
      const first = await read(await handler(post(key)))
      expect([first.status, codeOf(first.body), first.retryAfter]).toEqual([503, 'HF_OUTCOME_UNKNOWN', '1'])
      expect((await read(await handler(post(key)))).status).toBe(200)
      expect(new Set(keys).size).toBe(1)
      expect(keys).toHaveLength(2)
    })

    it('is settled by the sweep from what was kept of the request, when its process died', async () => {
      const dead = world.kit('dead')
      let begun = false
      void refunding(() => { begun = true; return new Promise(() => undefined) }, 'retry', dead).handler(post(key, '{"amount":7}'))
      for (let i = 0; i < 200 && !begun; i++) await world.database.ping().then(() => new Promise(resolve => { setImmediate(resolve) }))
      dead.env.kill()
      await world.elapse(30_001)
      let seen = ''
      const { handler, source } = refunding(async (request, { tenant }) => { seen = `${tenant} ${request.method} ${new URL(request.url).pathname} ${request.headers.get('content-type') ?? ''} ${await request.text()}`; return Response.json({ ok: true }) }, 'retry', world.kit('b'))
      expect(await source.made.get('refund')?.sweep(100)).toBe(1)
      expect(seen).toBe('acme POST /payments application/json {"amount":7}')
      expect(await read(await handler(post(key, '{"amount":7}')))).toMatchObject({ status: 200, replayed: 'true' })
    })

    it('looks first where that is declared, and takes what it finds for the answer', async () => {
      let calls = 0
      const completed: number[] = []
      const { handler } = refunding(async () => { calls += 1; throw hangUp() }, { verify: async () => ({ happened: true, value: Response.json({ found: true }) }) }, world.kit(), { complete: async answer => { completed.push(answer.status) } })
      expect((await handler(post(key))).status).toBe(503)
      expect(await read(await handler(post(key)))).toMatchObject({ status: 200, body: '{"found":true}' })
      expect([calls, completed]).toEqual([1, [200]])
    })

    it('waits for a person where that is declared: 409, nothing is called again, and a retry by hand frees the key', async () => {
      let calls = 0
      const { handler, source } = refunding(async () => { calls += 1; if (calls === 1) throw hangUp(); return new Response('done') }, 'hold')
      await handler(post(key))
      const second = await read(await handler(post(key)))
      expect([second.status, codeOf(second.body), second.retryAfter, calls]).toEqual([409, 'HF_OUTCOME_UNKNOWN', null, 1])
      expect(await source.made.get('refund')?.settleByHand(`acme:${key}`, 'retry', 'the bank has nothing')).toBe(true)
      expect(await read(await handler(post(key)))).toMatchObject({ status: 200, body: 'done' })
    })

    it('keeps nothing of a refusal that surely had no effect', async () => {
      let open = false
      const { handler } = refunding(async () => { if (!open) throw refuse('there is no such charge'); return new Response('done') }, 'hold')
      expect((await handler(post(key))).status).toBe(422)
      open = true
      expect(await read(await handler(post(key)))).toMatchObject({ status: 200, replayed: null })
    })

    it('is done although its answer was too large to keep, and says so every time', async () => {
      let calls = 0
      const { handler } = refunding(async () => { calls += 1; return new Response('x'.repeat(2_000), { status: 201 }) }, 'retry', world.kit(), { answerLimit: '1kb' })
      for (let i = 0; i < 2; i++) {
        const { status, body } = await read(await handler(post(key)))
        expect([status, codeOf(body)]).toEqual([500, 'HF_ANSWER_TOO_LARGE'])
      }
      expect(calls).toBe(1)
    })
  })
})

describe('the door', () => {
  let world: TestWorld
  const served: Served[] = []
  beforeEach(async () => { world = await memoryStore.open() })
  afterEach(async () => {
    await Promise.all(served.splice(0).map(one => one.close({ within: '0s' })))
    await world.close()
  })
  const make = (change: Partial<WriteOperation<unknown>> = {}): HttpHandler => idempotent(sourceOf(world.kit()), 'create-payment', { tenant: tenantOf, write: async (_request, { tx, idempotencyKey }) => { await world.write(tx, idempotencyKey); return new Response('ok') }, ...change })

  it.each<[string, string, string]>([
    ['a bare token', '8e03978e-40d5-43dd-bc93-6894a57f9324', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
    ['a quoted string', '"a b, c"', 'a b, c'],
    ['escapes', '"a\\"b\\\\c"', 'a"b\\c'],
    ['255 characters', 'x'.repeat(255), 'x'.repeat(255)],
    ['white space around', '  abc\t', 'abc'],
  ])('reads %s', (_what, header, key) => {
    expect(idempotencyKeyOf(new Request('http://x.test', { headers: { 'idempotency-key': header } }))).toBe(key)
  })

  it.each<[string, string | undefined]>([
    ['none', undefined], ['an empty one', ''], ['an empty string', '""'], ['256 characters', 'x'.repeat(256)], ['an open quote', '"abc'], ['two of them', 'a, b'], ['two strings', '"a", "b"'], ['a parameter', '"a";b=1'],
    ['other characters', 'schlüssel'], ['a bad escape', '"a\\n"'], ['a space', 'a b'],
  ])('answers 400 to %s, and does nothing', async (_what, header) => {
    const { status, body } = await read(await make()(post(header)))
    expect([status, codeOf(body)]).toEqual([400, 'HF_IDEMPOTENCY_KEY_INVALID'])
    expect(await world.written()).toEqual([])
  })

  it('reads back every key that can be written, and ends in its own refusal on anything else (property)', () => {
    const request = (header: string): Request => new Request('http://x.test', { headers: { 'idempotency-key': header } })
    const printable = fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map(code => String.fromCharCode(code)), minLength: 1, maxLength: 255 })
    fc.assert(fc.property(printable, key => { expect(idempotencyKeyOf(request(`"${key.replace(/["\\]/g, sign => `\\${sign}`)}"`))).toBe(key) }))
    fc.assert(fc.property(fc.string({ unit: fc.integer({ min: 0x20, max: 0xff }).map(code => String.fromCharCode(code)), maxLength: 600 }), header => {
      try {
        const key = idempotencyKeyOf(request(header)) ?? ''
        expect(key.length >= 1 && key.length <= 255).toBe(true)
      } catch (error) {
        expect(error).toMatchObject({ code: 'HF_IDEMPOTENCY_KEY_INVALID' })
      }
    }))
  })

  it('needs no key where that is declared: each request is one of its own', async () => {
    const handler = make({ required: false })
    for (let i = 0; i < 2; i++) expect((await handler(post(undefined))).status).toBe(200)
    expect(new Set(await world.written()).size).toBe(2)
    expect((await handler(post('a b'))).status).toBe(400)
  })

  it('refuses other methods, large bodies and strangers before anything is kept', async () => {
    const handler = make({ bodyLimit: '1kb', tenant: request => { if (request.headers.get('x-account') === 'nobody') throw new HoldfastError('HF_UNAUTHENTICATED', { message: 'who are you?' }); return 'acme' } })
    expect((await handler(post('a', '{}', { method: 'PUT' }))).headers.get('allow')).toBe('POST, PATCH')
    expect((await handler(post('a', 'x'.repeat(1_025)))).status).toBe(413)
    expect((await handler(post('a', '{}', { account: 'nobody' }))).status).toBe(401)
    expect(await world.written()).toEqual([])
  })

  it('refuses to keep cookies, and a tenant that is none', async () => {
    expect(() => make({ answerHeaders: ['Set-Cookie'] })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    expect((await make({ tenant: () => '' })(post('a'))).status).toBe(500)
  })

  it('shows the handler only what is kept of the request', async () => {
    let headers: readonly string[] = []
    await make({ write: async request => { headers = [...request.headers.keys()]; return new Response('ok') } })(new Request('http://x.test/p', { method: 'POST', body: 'b', headers: { 'idempotency-key': 'a', authorization: 'Bearer secret', 'content-type': 'text/plain' } }))
    expect(headers).toEqual(['content-type'])
  })

  it('tells a call until when it may be made, also after heartbeats', async () => {
    const left: number[] = []
    const handler = idempotent(sourceOf(world.kit()), 'refund', {
      tenant: tenantOf, lease: '30s', onUnknown: 'hold',
      call: async (_request, context) => {
        for (let i = 0; i < 3; i++) {
          left.push(context.untilMs - world.env.now())
          await world.env.sleep(20_000)
        }
        return new Response(context.idempotencyKey)
      },
    })
    const answered = handler(post('a'))
    await world.env.advance('70s')
    expect((await read(await answered)).body).toBe('a')
    // A tenth of the lease is given up, and the heartbeat of each 10 s has been made or is due at this moment.
    for (const ms of left) expect(ms).toBeGreaterThanOrEqual(17_000)
    expect(left.length).toBe(3)
  })

  it('hashes a scope that is too long for an index', async () => {
    const handler = make({ tenant: () => 'ä'.repeat(60) })
    expect((await handler(post('x'.repeat(255)))).status).toBe(200)
    expect((await handler(post('x'.repeat(255)))).headers.get('idempotency-replayed')).toBe('true')
  })

  it('works over real sockets: 50 requests at once, one effect, the same answer', async () => {
    const one = await serve(make(), { port: 0 })
    served.push(one)
    const answers = await Promise.all(Array.from({ length: 50 }, async () => {
      const answer = await fetch(`${one.url}/payments`, { method: 'POST', body: '{"amount":1}', headers: { 'idempotency-key': '"real"' } })
      return `${String(answer.status)} ${await answer.text()}`
    }))
    expect(new Set(answers)).toEqual(new Set(['200 ok']))
    expect(await world.written()).toEqual(['real'])
  })
})
