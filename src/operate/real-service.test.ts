/**
 * The edge and the operators' API on a real service (without a store and with one in memory, simulated time): nothing here is faked but time.
 */
import { describe, expect, it } from 'vitest'
import { createHoldfast, type Holdfast } from '../app/index.ts'
import { combine, probes } from '../http/index.ts'
import { memory } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { operate, operatorClient, type OperatorClient, type StreamMessage } from './index.ts'

const ORIGIN = 'http://127.0.0.1:8700'

const RUNBOOK = { title: 'What to do', when: 'It is so', safeToRetry: false, steps: ['Look'], commands: ['holdfast status'] } as const

interface World {
  readonly env: SimulatedEnv
  readonly hold: Holdfast
  readonly client: OperatorClient
  readonly panel: { call(): Promise<unknown> }
  readonly get: (path: string) => Promise<Response>
  readonly soon: <T>(work: Promise<T>) => Promise<T>
}

async function started(store: 'no store' | 'memory'): Promise<World> {
  const env = simulatedEnv()
  const options = { service: 'shop', env, environment: {}, log: 'silent', runbooks: { 'payments-paused': RUNBOOK, 'panel-down': RUNBOOK } } as const
  const hold: Holdfast = store === 'memory' ? createHoldfast({ ...options, store: memory() }) : createHoldfast(options)
  hold.flags({ payments: { default: true, whenOff: 'Customers are told that payments are paused', runbook: 'payments-paused' } })
  const panel = hold.dependency('panel', { tier: 'degradable', runbook: 'panel-down', deadline: '5s', timeout: '2s', retry: { attempts: 1 }, breaker: { failures: 2, openFor: '30s', closeAfter: 1 } })
  const handler = combine([probes(hold, { version: '1.2.3' }), operate(hold)], { events: hold.events })
  env.serve(ORIGIN, request => handler(request, { remoteAddress: '127.0.0.1' }))
  const soon = async <T>(work: Promise<T>): Promise<T> => {
    let done = false
    const settled = work.finally(() => { done = true })
    settled.catch(() => undefined)
    await env.until(() => done, '60s')
    return settled
  }
  await soon(hold.start())
  return {
    env, hold, soon,
    client: operatorClient({ url: `${ORIGIN}/console`, env, actor: 'cli:alice' }),
    panel: { call: () => panel.call('ping', { effect: 'read' }, () => Promise.reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))) },
    get: path => soon(env.fetch(`${ORIGIN}${path}`)),
  }
}

describe.each(['no store', 'memory'] as const)('a real service with %s', store => {
  it('is ready, says so to probes, and shows itself to the client', async () => {
    const { get, client, hold, soon } = await started(store)
    expect(await (await get('/readyz')).json()).toMatchObject({ status: 'ready', service: 'shop' })
    expect(await (await get('/health/check')).json()).toMatchObject({ status: 'healthy', breakers: { open: 0 } })
    expect(await (await get('/metrics')).text()).toMatch(/^# /m)
    const status = await soon(client.status())
    expect([status.service, status.verdict.state, status.flags[0]?.on]).toEqual(['shop', 'healthy', true])
    await soon(hold.stop())
  })

  it('is switched by a command, with its reason on the page', async () => {
    const { client, hold, soon } = await started(store)
    await soon(client.command('flag.set', { target: 'payments', args: { on: false, for: '30m' }, reason: 'panel is down' }))
    const [flag] = (await soon(client.status())).flags
    expect(flag).toMatchObject({ on: false, override: { by: 'cli:alice', reason: 'panel is down' } })
    await expect(soon(client.command('flag.set', { target: 'payments', args: { on: true }, reason: '' }))).rejects.toMatchObject({ code: 'HF_REASON_REQUIRED' })
    await expect(soon(client.command('flag.set', { target: 'paymints', args: { on: true }, reason: 'x' }))).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME' })
    await expect(soon(client.command('flag.set', { target: 'payments', args: {}, reason: 'x' }))).rejects.toMatchObject({ code: expect.stringMatching(/^HF_/) as string })
    await soon(hold.stop())
  })

  it('keeps who switched what, why, before and after, and the refusals; or says that it keeps none', async () => {
    const { client, hold, soon } = await started(store)
    if (store === 'no store') {
      await expect(soon(client.audit())).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME', message: expect.stringContaining('no store') as string })
    } else {
      await soon(client.command('flag.set', { target: 'payments', args: { on: false, for: '30m' }, reason: 'panel is down' }))
      await soon(client.command('flag.set', { target: 'payments', args: { on: true }, reason: 'panel is back' }))
      await soon(client.command('worker.pause', { target: 'nobody', reason: 'typo' })).catch(() => undefined)
      const rows = await soon(client.audit())
      expect(rows).toMatchObject([
        { actor: 'cli:alice', action: 'command.worker.pause', target: 'nobody', reason: 'typo', outcome: 'failed' },
        { actor: 'cli:alice', action: 'flag.set', target: 'payments', reason: 'panel is back', outcome: 'done', before: { override: false }, after: { override: true } },
        { actor: 'cli:alice', action: 'flag.set', target: 'payments', reason: 'panel is down', outcome: 'done', before: { override: null }, after: { override: false, forMs: 1_800_000 } },
      ])
      expect(await soon(client.audit({ limit: 1, before: rows[1]?.id ?? 0 }))).toEqual([rows[2]])
    }
    await soon(hold.stop())
  })

  it('says what to do about a named trouble, and which names there are', async () => {
    const { client, hold, soon } = await started(store)
    expect((await soon(client.runbooks())).map(({ id }) => id)).toEqual(['payments-paused', 'panel-down'])
    expect(await soon(client.runbook('panel-down'))).toEqual({ id: 'panel-down', ...RUNBOOK })
    await expect(soon(client.runbook('constructor'))).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME', message: expect.stringContaining('payments-paused, panel-down') as string })
    await soon(hold.stop())
  })

  it('is degraded and still ready while a breaker is open, and the stream tells it', async () => {
    const { env, hold, client, panel, get, soon } = await started(store)
    const seen: StreamMessage[] = []
    const stop = new AbortController()
    const following = (async () => {
      for await (const message of client.follow({ signal: stop.signal })) seen.push(message)
    })()
    await env.advance('1s')
    for (let index = 0; index < 2; index++) await soon(panel.call()).catch(() => undefined)
    await env.advance('1s')
    const answer = await get('/readyz')
    expect([answer.status, ((await answer.json()) as { status: string }).status]).toEqual([200, 'degraded'])
    const last = seen.filter(message => message.event === 'status').at(-1)
    expect(last?.data.dependencies[0]).toMatchObject({ name: 'panel', breaker: 'open' })
    expect(seen.filter(message => message.event === 'entry').map(({ data }) => data.text).join()).toContain('panel')
    await soon(hold.stop())
    await soon(following)
    expect(seen.at(-1)?.event).toBe('bye')
    expect((await get('/readyz')).status).toBe(503)
    expect((await get('/livez')).status).toBe(200)
  })
})
