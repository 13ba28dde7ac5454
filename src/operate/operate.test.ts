/**
 * The operators' API in process: who is answered, what commands reach the bus, how the stream resumes.
 */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { fakeDemo, fakeHoldfast, type FakeHoldfast } from '../../test/browser/fake-holdfast.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { operate, operatorClient, parseEvents, readRuntimeFile, writeRuntimeFile, type Console, type OperateOptions, type OperatorClient, type StreamMessage } from './index.ts'

const ORIGIN = 'http://127.0.0.1:8700'
const LOCAL = { remoteAddress: '127.0.0.1' }
const TOKEN = 'correct-horse-battery-staple-0123456789'
const WRITE = { 'x-holdfast': '1', 'content-type': 'application/json', 'sec-fetch-site': 'same-origin' }
const KILL = { target: 'payments', args: { on: false, for: '30m' }, reason: 'panel is down' }

const dir = mkdtempSync(join(tmpdir(), 'holdfast-operate-'))
afterAll(() => { rmSync(dir, { recursive: true }) })

interface World {
  readonly env: SimulatedEnv
  readonly fake: FakeHoldfast
  readonly console: Console
  readonly get: (path: string, headers?: Record<string, string>, info?: { remoteAddress?: string; draining?: AbortSignal }) => Promise<Response>
  readonly post: (path: string, body: unknown, headers?: Record<string, string>, info?: { remoteAddress?: string }) => Promise<Response>
  readonly client: OperatorClient
}

function world(options: OperateOptions = {}): World {
  const env = simulatedEnv()
  const fake = fakeHoldfast(env)
  const made = operate(fake, options)
  env.serve(ORIGIN, request => made(request, LOCAL))
  return {
    env,
    fake,
    console: made,
    get: (path, headers = {}, info = LOCAL) => made(new Request(`${ORIGIN}${path}`, { headers }), info),
    post: (path, body, headers = WRITE, info = LOCAL) => made(new Request(`${ORIGIN}${path}`, { method: 'POST', headers, body: typeof body === 'string' ? body : JSON.stringify(body) }), info),
    client: operatorClient({ url: `${ORIGIN}/console`, env, actor: 'cli:alice', ...(options.token === undefined ? {} : { token: options.token }) }),
  }
}

describe('definition', () => {
  it('refuses an open console beyond this machine, a short token, and a base path that is none', () => {
    const fake = fakeHoldfast(simulatedEnv())
    for (const options of [{ host: '0.0.0.0' }, { host: '192.168.1.4' }, { host: '::' }, { token: 'short' }, { basePath: '/' }, { basePath: '/a/../b/' }] as OperateOptions[]) {
      expect(() => operate(fake, options), JSON.stringify(options)).toThrowError(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    }
    expect(operate(fake, { host: '0.0.0.0', token: TOKEN }).paths).toEqual(['/console', '/console/*'])
    expect(operate(fake, { host: '::1' }).paths).toContain('/console')
  })
})

describe('a dependency', () => {
  it('is explained as data and in words; one that is none is met with the names there are', async () => {
    const { client, get } = world()
    const asked = client.dependency('vpn-panel')
    expect(await asked).toMatchObject({ name: 'vpn-panel', explanation: { worstCaseMs: 10_000, attempts: 3 } })
    expect((await get('/console/api/dependencies/vpn-panle')).status).toBe(404)
    await expect(client.dependency('vpn-panle')).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME', message: expect.stringContaining('there is telegram, vpn-panel, crypto-pay') as string })
  })

  it('is explained to nobody without the token', async () => {
    const { get } = world({ token: TOKEN })
    expect((await get('/console/api/dependencies/vpn-panel')).status).toBe(401)
  })
})

describe('without a token', () => {
  it('answers this machine, and nobody under another name, through a proxy or from elsewhere', async () => {
    const { get } = world()
    expect((await get('/console/api/status')).status).toBe(200)
    expect((await get('/console/api/status', { host: 'localhost:8700' })).status).toBe(200)
    expect((await get('/console/api/status', { host: 'rebind.evil.example' })).status).toBe(401)
    expect((await get('/console/api/status', { 'x-forwarded-for': '203.0.113.9' })).status).toBe(401)
    expect((await get('/console/api/status', {}, { remoteAddress: '203.0.113.9' })).status).toBe(401)
    expect((await get('/console/api/status', {}, {})).status).toBe(401)
    expect((await get('/console/', { host: 'rebind.evil.example' })).status).toBe(401)
  })

  it('takes writes only from our own page: header, JSON, same origin', async () => {
    const { post, fake } = world()
    const tries: Record<string, string>[] = [
      { ...WRITE, 'x-holdfast': '' },
      { ...WRITE, 'content-type': 'text/plain' },
      { ...WRITE, 'content-type': 'application/x-www-form-urlencoded' },
      { ...WRITE, 'sec-fetch-site': 'cross-site' },
      { ...WRITE, 'sec-fetch-site': 'same-site' },
      { 'x-holdfast': '1', 'content-type': 'application/json' },
      { 'x-holdfast': '1', 'content-type': 'application/json', origin: 'http://evil.example' },
      { 'x-holdfast': '1', 'content-type': 'application/json', origin: 'null' },
      { 'x-holdfast': '1', 'content-type': 'application/json', origin: 'http://127.0.0.1:9999' },
    ]
    for (const headers of tries) expect((await post('/console/api/commands/flag.set', KILL, headers)).status, JSON.stringify(headers)).toBe(403)
    expect(fake.commandsSeen).toEqual([])
    expect((await post('/console/api/commands/flag.set', KILL, { 'x-holdfast': '1', 'content-type': 'application/json', origin: ORIGIN })).status).toBe(200)
    expect((await post('/console/api/commands/flag.set', KILL)).status).toBe(200)
    expect(fake.commandsSeen).toHaveLength(2)
  })

  it('lets no other site read through the browser', async () => {
    const { get } = world()
    expect((await get('/console/api/status', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' })).status).toBe(403)
    expect((await get('/console/', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' })).status).not.toBe(403)
  })
})

describe('with a token', () => {
  const form = (token: string): string => new URLSearchParams({ token }).toString()
  const FORM = { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' }

  it('answers the bearer from anywhere, and not even this machine without it', async () => {
    const { get, post } = world({ token: TOKEN, host: '0.0.0.0' })
    const stranger = { remoteAddress: '203.0.113.9' }
    expect((await get('/console/api/status')).status).toBe(401)
    expect((await get('/console/api/status', { authorization: `Bearer ${TOKEN.slice(0, -1)}` })).status).toBe(401)
    expect((await get('/console/api/status', { authorization: `Bearer ${TOKEN}` }, stranger)).status).toBe(200)
    const bare = { 'x-holdfast': '1', 'content-type': 'application/json' }
    expect((await post('/console/api/commands/flag.set', KILL, { ...bare, authorization: `Bearer ${TOKEN}` }, stranger)).status).toBe(200)
  })

  it('shows the login form, takes the token once, and lives by a cookie that scripts and other sites cannot use', async () => {
    const { get, post, env } = world({ token: TOKEN })
    const page = await get('/console/')
    expect(await page.text()).toContain('<form method="post" action="./login">')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
    expect((await post('/console/login', form('wrong'), FORM)).status).toBe(401)
    const answer = await post('/console/login', form(TOKEN), FORM)
    expect([answer.status, answer.headers.get('location')]).toEqual([303, './'])
    const cookie = answer.headers.get('set-cookie') ?? ''
    expect(cookie).toMatch(/; Path=\/console; HttpOnly; SameSite=Strict; Max-Age=43200$/)
    expect(cookie).not.toContain(TOKEN)
    const session = { cookie: cookie.split(';')[0] ?? '' }
    expect((await get('/console/api/status', session)).status).toBe(200)
    expect((await post('/console/api/commands/flag.set', KILL, { ...WRITE, ...session })).status).toBe(200)
    expect((await post('/console/api/commands/flag.set', KILL, { ...WRITE, ...session, 'sec-fetch-site': 'cross-site' })).status).toBe(403)
    const later = session.cookie.replace(/=(\d+)\./, (_all, expires: string) => `=${String(Number(expires) + 1)}.`)
    expect((await get('/console/api/status', { cookie: later })).status).toBe(401)
    env.jump(12 * 3_600_000 + 1)
    expect((await get('/console/api/status', session)).status).toBe(401)
  })

  it('slows guessing down: ten wrong tokens a minute', async () => {
    const { post, env } = world({ token: TOKEN })
    for (let index = 0; index < 10; index++) expect((await post('/console/login', form('wrong'), FORM)).status).toBe(401)
    expect((await post('/console/login', form(TOKEN), FORM)).status).toBe(429)
    await env.advance('61s')
    expect((await post('/console/login', form(TOKEN), FORM)).status).toBe(303)
  })

  it('takes no login form of another site', async () => {
    expect((await world({ token: TOKEN }).post('/console/login', form(TOKEN), { ...FORM, 'sec-fetch-site': 'cross-site' })).status).toBe(403)
  })
})

describe('commands', () => {
  it('reach the bus with actor and reason', async () => {
    const { client, fake } = world()
    expect(await client.command('flag.set', KILL)).toEqual({ command: 'flag.set', target: 'payments', message: 'payments is off' })
    expect(fake.commandsSeen).toEqual([{ ...KILL, name: 'flag.set', actor: { id: 'alice', via: 'cli', roles: ['admin'] } }])
  })

  it('name the console when nobody else is named, whatever else the header says', async () => {
    const { post, fake } = world()
    for (const actor of ['', 'code:root', 'cli:a b', `cli:${'x'.repeat(61)}`]) await post('/console/api/commands/flag.set', KILL, { ...WRITE, 'x-holdfast-actor': actor })
    expect(fake.commandsSeen.map(({ actor }) => `${actor.via}:${actor.id}`)).toEqual(Array.from({ length: 4 }, () => 'console:local'))
  })

  it('are refused with the code of the bus', async () => {
    const { client } = world()
    await expect(client.command('flag.set', { ...KILL, reason: ' ' })).rejects.toMatchObject({ code: 'HF_REASON_REQUIRED' })
    await expect(client.command('flag.set', { ...KILL, target: 'paymints' })).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME', message: expect.stringContaining('payments') as string })
  })

  it('are refused when malformed, and then reach nothing', async () => {
    const { post, fake } = world()
    for (const body of ['{', '[]', 'null', { reason: 'x' }, { target: 'payments' }, { target: 'payments', reason: 5 }, { ...KILL, args: [] }, { ...KILL, reason: 'x'.repeat(501) }]) {
      expect((await post('/console/api/commands/flag.set', body)).status, JSON.stringify(body)).toBe(400)
    }
    expect((await post('/console/api/commands/flag.set', { ...KILL, reason: 'x'.repeat(70_000) })).status).toBe(413)
    expect((await post('/console/api/commands/%E0%A4%A', KILL)).status).toBe(400)
    expect(fake.commandsSeen).toEqual([])
  })
})

describe('reading', () => {
  it('gives status, timeline, one story and the commands', async () => {
    const { client, fake } = world()
    const first = fake.say('one', 'neutral', 'buy-1')
    fake.say('two', 'bad', 'buy/2?')
    expect((await client.status()).verdict.state).toBe('healthy')
    expect((await client.timeline({ after: first.id })).map(({ text }) => text)).toEqual(['two'])
    expect((await client.timeline({ limit: 1 })).map(({ text }) => text)).toEqual(['two'])
    expect((await client.explain('buy/2?')).map(({ text }) => text)).toEqual(['two'])
    expect((await client.commands()).map(({ name }) => name)).toContain('worker.pause')
  })

  it('answers an unknown path with 404 and a wrong method with 405', async () => {
    const { get, console: made } = world()
    expect((await get('/console/api/secrets')).status).toBe(404)
    expect((await made(new Request(`${ORIGIN}/console/api/status`, { method: 'DELETE' }), LOCAL)).status).toBe(405)
  })

  it('says so when the service fails to give a status, without its inner words', async () => {
    const { get, fake } = world()
    fake.status = () => Promise.reject(new Error('password=hunter2'))
    const answer = await get('/console/api/status')
    expect(answer.status).toBe(500)
    expect(await answer.text()).not.toContain('hunter2')
  })
})

describe('demo faults', () => {
  it('exist only where there are simulators', async () => {
    const { client } = world()
    expect(await client.faults()).toEqual({ demo: false, faults: [] })
    await expect(client.setFault('panel-down', true)).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME' })
  })

  it('are listed and switched', async () => {
    const env = simulatedEnv()
    const fake = fakeHoldfast(env)
    const made = operate(fake, { demo: fakeDemo(fake) })
    env.serve(ORIGIN, request => made(request, LOCAL))
    const client = operatorClient({ url: `${ORIGIN}/console`, env })
    expect((await client.faults()).faults.map(({ id, active }) => [id, active])).toEqual([['panel-down', false], ['crypto-slow', false]])
    expect((await client.setFault('panel-down', true)).faults[0]).toMatchObject({ active: true })
    expect(fake.model.verdict.state).toBe('degraded')
    await expect(client.setFault('nope', true)).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME' })
  })
})

describe('the live stream', () => {
  /** Reads in the background; what came so far is in `messages`. */
  async function open({ get }: World, headers: Record<string, string> = {}, draining?: AbortSignal): Promise<{ readonly messages: StreamMessage[]; readonly raw: () => string; readonly ended: () => boolean; readonly leave: () => Promise<void> }> {
    const response = await get('/console/api/events', headers, { ...LOCAL, ...(draining === undefined ? {} : { draining }) })
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream; charset=utf-8'])
    const messages: StreamMessage[] = []
    let raw = ''
    let ended = false
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    const tap = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await reader.read()
        if (done) controller.close()
        else {
          raw += new TextDecoder().decode(value)
          controller.enqueue(value)
        }
      },
    })
    void (async () => {
      for await (const message of parseEvents(tap)) messages.push(message)
      ended = true
    })()
    return { messages, raw: () => raw, ended: () => ended, leave: () => reader.cancel() }
  }
  const names = (messages: readonly StreamMessage[]): string[] => messages.map(({ event }) => event)

  it('begins with the newest entries and the status, then tells each entry with its id', async () => {
    const made = world()
    made.fake.say('before')
    const { messages } = await open(made)
    await made.env.settle()
    expect(names(messages)).toEqual(['timeline', 'status'])
    const entry = made.fake.say('after')
    await made.env.settle()
    expect(messages.at(-1)).toEqual({ event: 'entry', data: entry, id: entry.id })
  })

  it('sends the status when something changed, at most twice a second, and a tick when nothing did', async () => {
    const made = world()
    const { messages } = await open(made)
    await made.env.settle()
    messages.length = 0
    for (let index = 0; index < 50; index++) {
      made.fake.model.verdict = { ...made.fake.model.verdict, sentence: `change ${String(index)}` }
      made.fake.touch()
      await made.env.advance('100ms')
    }
    const changes = names(messages).filter(name => name === 'status').length
    expect(changes).toBeGreaterThanOrEqual(9)
    expect(changes).toBeLessThanOrEqual(11)
    await made.env.advance('1s')
    messages.length = 0
    await made.env.advance('5s')
    expect(new Set(names(messages))).toEqual(new Set(['tick']))
    expect(messages.length).toBeLessThanOrEqual(6)
  })

  it('keeps beating while the status hangs, and sends no tick then', async () => {
    const made = world()
    const { messages, raw } = await open(made)
    await made.env.settle()
    made.fake.hung = true
    made.fake.touch()
    await made.env.advance('1s')
    messages.length = 0
    await made.env.advance('31s')
    expect(messages).toEqual([])
    expect(raw().match(/: still here/g)).toHaveLength(3)
  })

  it('resumes after the entry that the client has', async () => {
    const made = world()
    const entries = ['a', 'b', 'c'].map(text => made.fake.say(text))
    const { messages } = await open(made, { 'last-event-id': entries[0]?.id ?? '' })
    await made.env.settle()
    expect(messages.filter(({ event }) => event === 'entry').map(({ data }) => (data as { text: string }).text)).toEqual(['a', 'b', 'c'])
    expect(names(messages)).not.toContain('timeline')
  })

  it('begins anew when the id is of another life of the service, or too long ago', async () => {
    const made = world()
    const first = made.fake.say('first')
    const other = await open(made, { 'last-event-id': 'vpn-bot-0000:17' })
    for (let index = 0; index < 150; index++) made.fake.say(`entry ${String(index)}`)
    const late = await open(made, { 'last-event-id': first.id })
    await made.env.settle()
    expect(names(other.messages)[0]).toBe('timeline')
    expect(names(late.messages)[0]).toBe('timeline')
    expect((late.messages[0]?.data as { entries: unknown[] }).entries).toHaveLength(100)
  })

  it('says bye and ends when the server drains, when the service stopped, and on stop()', async () => {
    const made = world()
    const draining = new AbortController()
    const first = await open(made, {}, draining.signal)
    const second = await open(made)
    await made.env.settle()
    draining.abort()
    await made.env.settle()
    expect([first.messages.at(-1)?.event, first.ended(), second.ended()]).toEqual(['bye', true, false])
    made.fake.events.emit('app.stopped', { durationMs: 1, left: 0 })
    await made.env.settle()
    expect([second.messages.at(-1)?.event, second.ended()]).toEqual(['bye', true])
    const third = await open(made)
    await made.env.settle()
    made.console.stop()
    await made.env.settle()
    expect(third.ended()).toBe(true)
  })

  it('leaves nothing behind when the last client goes', async () => {
    const made = world()
    const timers = made.env.pendingTimers
    const { leave } = await open(made)
    await made.env.advance('2s')
    expect(made.fake.listeners).toBe(1)
    await leave()
    expect([made.fake.listeners, made.env.pendingTimers]).toEqual([0, timers])
  })

  it('cuts a client that does not read, and keeps the others', async () => {
    const made = world()
    const lazy = await made.get('/console/api/events')
    const { messages, ended } = await open(made)
    for (let round = 0; round < 40; round++) {
      for (let index = 0; index < 10; index++) made.fake.say(`entry ${String(round)}`)
      await made.env.settle()
    }
    expect(messages.filter(({ event }) => event === 'entry')).toHaveLength(400)
    expect(ended()).toBe(false)
    let chunks = 0
    const reader = (lazy.body as ReadableStream<Uint8Array>).getReader()
    while (!(await reader.read()).done) chunks += 1
    expect(chunks).toBeLessThanOrEqual(260)
  })

  it('is given to so many at once', async () => {
    const made = world({ streamsMax: 1 })
    const { leave } = await open(made)
    expect((await made.get('/console/api/events')).status).toBe(503)
    await leave()
    expect((await made.get('/console/api/events')).status).toBe(200)
  })

  it('is followed by the client until the service says bye', async () => {
    const made = world()
    const seen: string[] = []
    const following = (async () => {
      for await (const { event } of made.client.follow({ signal: new AbortController().signal })) seen.push(event)
    })()
    await made.env.settle()
    made.fake.say('x')
    await made.env.settle()
    made.console.stop()
    await following
    expect(seen).toEqual(['timeline', 'status', 'entry', 'bye'])
  })
})

describe('the client', () => {
  it('says that no service answers, and when one does not in time', async () => {
    const env = simulatedEnv()
    const client = operatorClient({ url: `${ORIGIN}/console`, env })
    await expect(client.status()).rejects.toMatchObject({ code: 'HF_SERVICE_UNREACHABLE', message: expect.stringContaining('ECONNREFUSED') as string })
    env.serve(ORIGIN, () => new Promise(() => undefined))
    const late = client.status().catch((error: unknown) => error)
    await env.advance('11s')
    expect(await late).toMatchObject({ code: 'HF_SERVICE_UNREACHABLE' })
  })

  it('is not fooled by another program on the port', async () => {
    const env = simulatedEnv()
    env.serve(ORIGIN, async () => new Response('<html>nginx</html>', { status: 404 }))
    await expect(operatorClient({ url: `${ORIGIN}/console`, env }).status()).rejects.toMatchObject({ code: 'HF_SERVICE_UNREACHABLE', message: expect.stringContaining('is that a Holdfast console?') as string })
  })
})

describe('pages', () => {
  it('say how to build the console when it is not built', async () => {
    const answer = await world({ webDir: dir }).get('/console/')
    expect(answer.status).toBe(503)
    expect(await answer.text()).toContain('not built yet')
  })

  it('are found by exact name only, with a strict policy, compressed on demand', async () => {
    const web = mkdtempSync(join(dir, 'web-'))
    writeFileSync(join(web, 'index.html'), '<!doctype html>')
    writeFileSync(join(dir, 'secret.html'), 'outside')
    const { get } = world({ webDir: web })
    expect((await get('/console')).headers.get('location')).toBe('/console/')
    const page = await get('/console/')
    expect([page.status, await page.text()]).toEqual([200, '<!doctype html>'])
    expect(page.headers.get('content-security-policy')).toBe("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
    expect((await get('/console/', { 'accept-encoding': 'gzip' })).headers.get('content-encoding')).toBe('gzip')
    for (const path of ['../secret.html', '..%2fsecret.html', '%2e%2e/secret.html', '//secret.html', 'index.html/']) expect((await get(`/console/${path}`)).status, path).toBe(404)
  })
})

describe('holdfast.json', () => {
  it('is for its owner only, and says where the service is', () => {
    const { path, remove } = writeRuntimeFile(join(dir, 'data'), { url: ORIGIN, pid: 42, token: TOKEN })
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readRuntimeFile(join(dir, 'data'))).toEqual({ url: ORIGIN, pid: 42, token: TOKEN })
    remove()
    expect(readRuntimeFile(join(dir, 'data'))).toBeUndefined()
    remove()
  })

  it('is not taken from a newer process, and not believed when broken', () => {
    const old = writeRuntimeFile(dir, { url: ORIGIN, pid: 1 })
    writeRuntimeFile(dir, { url: ORIGIN, pid: 2 })
    old.remove()
    expect(readRuntimeFile(dir)).toEqual({ url: ORIGIN, pid: 2 })
    writeFileSync(old.path, '{"url":')
    expect(readRuntimeFile(dir)).toBeUndefined()
    expect(readFileSync(old.path, 'utf8')).toBe('{"url":')
  })
})
