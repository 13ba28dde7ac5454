/**
 * Probes against a source whose status hangs: answers come from what is known, at once.
 */
import { describe, expect, it } from 'vitest'
import { EventBus, realEnv, type SystemState } from '../core/index.ts'
import { simulatedEnv } from '../testing/index.ts'
import { probes, type ProbeSource, type ProbeStatus } from './index.ts'

const STATUS: ProbeStatus = {
  verdict: { state: 'degraded', sentence: 'DEGRADED: vpn-panel is failing', since: 0 },
  dependencies: [{ name: 'vpn-panel', breaker: 'open', calls: 7, failures: 5, refusals: 2, inFlight: 0, queued: 0, p95Ms: 31 }, { name: 'crypto-pay', breaker: 'closed', calls: 1, failures: 0, refusals: 0, inFlight: 0, queued: 0 }],
  workers: [],
  flags: [{ name: 'payments', on: false }],
  work: [],
  alerts: [],
}

const COMPONENTS = [
  { name: 'store', tier: 'required', state: 'healthy', reason: '', since: 0, responseMs: 3, checkedAt: 0 },
  { name: 'vpn-panel', tier: 'degradable', state: 'degraded', reason: 'breaker open', since: 0, responseMs: undefined, checkedAt: undefined },
] as const

interface Fake extends ProbeSource {
  phase: ProbeSource['phase']
  health: { state: SystemState; report: ProbeSource['health']['report'] }
  status: () => Promise<ProbeStatus>
}

function source(): Fake {
  const env = simulatedEnv()
  const health: Fake['health'] = {
    state: 'healthy',
    report: () => ({ state: health.state, since: 0, reason: 'vpn-panel: breaker open', components: COMPONENTS, breakers: { open: 1, halfOpen: 0, closed: 1 }, durationMs: 3, at: 0 }),
  }
  return { service: 'vpn-bot', instance: 'i1', env, events: new EventBus(env), phase: 'ready', health, status: async () => STATUS, metrics: () => 'up 1\n' }
}

const LOCAL = { remoteAddress: '127.0.0.1' }
const STRANGER = { remoteAddress: '203.0.113.9' }
const get = (path: string, headers: Record<string, string> = {}): Request => new Request(`http://127.0.0.1:8700${path}`, { headers })

async function read(hold: ProbeSource, path: string, info = STRANGER): Promise<readonly [number, Record<string, unknown>]> {
  const answer = await probes(hold)(get(path), info)
  return [answer.status, (await answer.json()) as Record<string, unknown>]
}

describe('liveness', () => {
  it('is 200 in every phase and state', async () => {
    const hold = source()
    for (const phase of ['starting', 'ready', 'draining', 'stopped'] as const) {
      hold.phase = phase
      hold.health.state = 'unavailable'
      expect(await read(hold, '/livez')).toEqual([200, { status: 'alive' }])
      expect((await read(hold, '/health/live'))[0]).toBe(200)
    }
  })

  it('touches nothing: it answers where everything else throws', async () => {
    const hold = source()
    const live = probes({ ...hold, get phase(): never { throw new Error('touched') }, get health(): never { throw new Error('touched') }, status: () => { throw new Error('touched') } })
    expect((await live(get('/livez'))).status).toBe(200)
    await expect(live(get('/readyz'))).rejects.toThrow('touched')
  })
})

describe('readiness', () => {
  it('is 200 while ready and not unavailable, and says degraded', async () => {
    const hold = source()
    expect(await read(hold, '/readyz')).toEqual([200, { status: 'ready' }])
    hold.health.state = 'degraded'
    expect(await read(hold, '/readyz')).toEqual([200, { status: 'degraded' }])
  })

  it('is 503 with Retry-After while starting, draining, stopped, or with a required component away', async () => {
    const hold = source()
    for (const phase of ['starting', 'draining', 'stopped'] as const) {
      hold.phase = phase
      expect(await read(hold, '/health/ready')).toEqual([503, { status: phase }])
    }
    hold.phase = 'ready'
    hold.health.state = 'unavailable'
    const answer = await probes(hold)(get('/readyz'), STRANGER)
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '5'])
  })

  it('waits for nothing: a status that hangs delays no answer and is asked once', async () => {
    const hold = source()
    let asked = 0
    hold.status = () => { asked += 1; return new Promise(() => undefined) }
    const probe = probes(hold)
    for (let index = 0; index < 1_000; index++) expect((await probe(get('/readyz'), STRANGER)).status).toBe(200)
    expect(asked).toBe(1)
  })

  it('asks for the status again after a second, and survives its failure', async () => {
    const hold = source()
    const env = simulatedEnv()
    let asked = 0
    const probe = probes({ ...hold, env, status: () => { asked += 1; return Promise.reject(new Error('store away')) } })
    await probe(get('/readyz'), STRANGER)
    await env.advance('900ms')
    await probe(get('/readyz'), STRANGER)
    expect(asked).toBe(1)
    await env.advance('200ms')
    await probe(get('/readyz'), STRANGER)
    expect(asked).toBe(2)
  })
})

describe('details', () => {
  it('are for this machine and the token; strangers see the status only', async () => {
    const hold = source()
    hold.health.state = 'degraded'
    const probe = probes(hold, { token: 't'.repeat(32) })
    await probe(get('/health/check'), LOCAL)
    await hold.status()
    const body = async (info: typeof LOCAL, headers = {}): Promise<Record<string, unknown>> => (await (await probe(get('/health/check', headers), info)).json()) as Record<string, unknown>
    expect(await body(STRANGER)).toEqual({ status: 'degraded' })
    expect(await body(STRANGER, { authorization: 'Bearer wrong' })).toEqual({ status: 'degraded' })
    expect(await body(STRANGER, { authorization: `Bearer ${'t'.repeat(32)}` })).toMatchObject({ breakers: { open: 1, half_open: 0, closed: 1 } })
    expect(await body(LOCAL)).toMatchObject({ verdict: 'DEGRADED: vpn-panel is failing', components: [{ name: 'store', response_ms: 3 }, { name: 'vpn-panel', state: 'degraded', checked_at: null }], breakers: { open: 1, closed: 1 } })
  })

  it('hold the startup time, counts and refusals', async () => {
    const hold = source()
    const probe = probes(hold)
    hold.events.emit('app.started', { service: 'vpn-bot', instance: 'i1', durationMs: 1234 })
    hold.events.emit('handler.refused', { handler: 'webhook', code: 'HF_SIGNATURE_INVALID', message: '' })
    await hold.status()
    const body = async (path: string): Promise<unknown> => (await probe(get(path), LOCAL)).json()
    expect(await body('/health/check')).toMatchObject({ verdict: STATUS.verdict.sentence, startup_ms: 1234, duration_ms: expect.any(Number) as number })
    expect(await body('/health/summary')).toMatchObject({ flags_off: ['payments'], components: { healthy: 1, degraded: 1 } })
    expect(await body('/health/metrics')).toMatchObject({ dependencies: [{ name: 'vpn-panel', p95_ms: 31 }, { name: 'crypto-pay', p95_ms: null }] })
    expect(await body('/health/security')).toMatchObject({ refused: { signatures: 1, bodies: 0 } })
  })

  it('are refused with 401 where there is nothing but detail', async () => {
    for (const path of ['/metrics', '/health/metrics', '/health/security']) expect((await probes(source())(get(path), STRANGER)).status).toBe(401)
    expect(await (await probes(source(), { publicMetrics: true })(get('/metrics'), STRANGER)).text()).toBe('up 1\n')
  })
})

describe('healthz', () => {
  it('says version and commit to everyone', async () => {
    const answer = await probes({ ...source(), env: realEnv() }, { version: '1.2.3', commit: 'abc' })(get('/healthz'), STRANGER)
    expect(await answer.json()).toEqual({ status: 'ok', version: '1.2.3', commit: 'abc' })
  })
})
