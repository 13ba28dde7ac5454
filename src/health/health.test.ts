import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastEvent } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { createHealth, type Health, type HealthCheckOptions } from './index.ts'

function aHealth(): { env: SimulatedEnv; events: EventBus; health: Health; seen: HoldfastEvent[] } {
  const env = simulatedEnv({ seed: 2 })
  const events = new EventBus(env)
  const seen: HoldfastEvent[] = []
  events.onAny(event => { seen.push(event) })
  return { env, events, seen, health: createHealth({ env, events }) }
}
const DATABASE: Omit<HealthCheckOptions, 'check'> = { tier: 'required', every: '10s', timeout: '1s' }

describe('a system before its first results', () => {
  it('is unavailable while a required component was not checked, and announces neither outage nor recovery at a good start', async () => {
    const { env, health, seen } = aHealth()
    health.check('database', { ...DATABASE, check: () => env.sleep(50) })
    health.check('cache', { ...DATABASE, check: () => env.sleep(10) })
    expect(health.state).toBe('unavailable')
    expect(health.component('database')).toMatchObject({ state: 'unavailable', reason: 'not checked yet', checkedAt: undefined })
    const started = health.start()
    await env.advance('10ms')
    expect([health.component('cache')?.state, health.state]).toEqual(['healthy', 'unavailable'])
    await env.advance('40ms')
    await started
    expect(health.state).toBe('healthy')
    expect(health.component('database')).toMatchObject({ state: 'healthy', responseMs: 50 })
    expect(seen).toEqual([])
    await health.stop()
  })

  it('has started, within the timeout, although a dependency hangs', async () => {
    const { env, health } = aHealth()
    health.check('database', { ...DATABASE, check: () => new Promise(() => undefined) })
    let started = false
    void health.start().then(() => { started = true })
    await env.advance('999ms')
    expect(started).toBe(false)
    await env.advance('1ms')
    expect(started).toBe(true)
    expect(health.component('database')).toMatchObject({ state: 'degraded', reason: 'no answer within 1 s' })
    await health.stop()
  })
})

describe('a checked component', () => {
  it('that throws is degraded with the reason, unavailable after the second time, and never a crash', async () => {
    const { env, health, seen } = aHealth()
    let fault: Error | undefined
    health.check('database', { ...DATABASE, check: () => { if (fault !== undefined) throw fault; return Promise.resolve() } })
    await health.start()
    fault = new Error('connection refused')
    await env.advance('11s')
    expect(health.state).toBe('healthy')
    await env.advance('11s')
    expect(health.report()).toMatchObject({ state: 'unavailable', reason: 'database is unavailable (connection refused)' })
    fault = undefined
    await env.advance('11s')
    expect(health.state).toBe('healthy')
    expect(seen.map(event => [event.name, (event.data as { to: string }).to])).toEqual([
      ['health.changed', 'unavailable'], ['system.changed', 'unavailable'], ['health.changed', 'healthy'], ['system.changed', 'healthy'],
    ])
    await health.stop()
  })

  it('that is degradable degrades the system, one that is info does not touch it', async () => {
    const { health } = aHealth()
    const away = (): Promise<never> => Promise.reject(new Error('away'))
    health.check('mailer', { tier: 'info', every: '10s', timeout: '1s', check: away })
    await health.start()
    expect(health.state).toBe('healthy')
    expect(health.component('mailer')?.state).toBe('degraded')
    health.check('panel', { tier: 'degradable', every: '10s', timeout: '1s', check: away })
    await health.refresh('panel')
    await health.refresh('panel')
    expect(health.state).toBe('degraded')
    await health.stop()
  })

  it('is degraded when it is slow or complains', async () => {
    const { env, health } = aHealth()
    health.check('database', { ...DATABASE, slowerThan: '100ms', check: () => env.sleep(180) })
    health.check('queue', { ...DATABASE, check: () => Promise.resolve({ degraded: '900 jobs wait' }) })
    const started = health.start()
    await env.advance('200ms')
    await started
    expect(health.component('database')).toMatchObject({ state: 'degraded', reason: 'answered in 180 ms, expected within 100 ms' })
    expect(health.component('queue')).toMatchObject({ state: 'degraded', reason: '900 jobs wait' })
    expect(health.report().durationMs).toBe(180)
    await health.stop()
  })

  it('runs on schedule with jitter, once at a time, and not at all after stop', async () => {
    const { env, health } = aHealth()
    const starts: number[] = []
    let atOnce = 0
    let most = 0
    health.check('database', { ...DATABASE, check: async () => {
      starts.push(env.monotonic())
      most = Math.max(most, ++atOnce)
      await env.sleep(200)
      atOnce -= 1
    } })
    void health.start()
    void health.refresh()
    await env.advance('60s')
    const waits = starts.slice(1).map((at, index) => at - (starts[index] ?? 0) - 200)
    expect(starts.length).toBeGreaterThanOrEqual(5)
    for (const wait of waits) {
      expect(wait).toBeGreaterThanOrEqual(9_000)
      expect(wait).toBeLessThanOrEqual(11_000)
    }
    expect(new Set(waits).size).toBe(waits.length)
    expect(most).toBe(1)
    await health.stop()
    const runs = starts.length
    await env.advance('1h')
    expect(starts).toHaveLength(runs)
    expect(env.pendingTimers).toBe(0)
  })

  it('that hangs and ignores its signal is not started again, and each turn counts as a failure', async () => {
    const { env, health } = aHealth()
    let runs = 0
    let finish: () => void = () => undefined
    health.check('database', { ...DATABASE, check: () => { runs += 1; return new Promise<void>(resolve => { finish = resolve }) } })
    void health.start()
    await env.advance('60s')
    expect(runs).toBe(1)
    expect(health.component('database')).toMatchObject({ state: 'unavailable', reason: 'the check before is still hanging' })
    finish()
    await env.advance('11s')
    expect(runs).toBe(2)
    await health.stop()
  })

  it('has its signal aborted at the timeout and at stop, and what it throws then is swallowed', async () => {
    const { env, health } = aHealth()
    const reasons: string[] = []
    health.check('database', { ...DATABASE, check: ({ signal }) => new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => { reasons.push(String(env.monotonic())); reject(new Error('aborted')) })
    }) })
    void health.start()
    await env.advance('1s')
    expect(reasons).toEqual(['1000'])
    const again = health.refresh('database')
    await env.advance('500ms')
    await health.stop()
    await again
    expect(reasons).toEqual(['1000', '1500'])
    expect(health.component('database')?.reason).toBe('no answer within 1 s')
    expect(env.pendingTimers).toBe(0)
  })
})

describe('a probe', () => {
  it('answers from the last result, without asking anybody', async () => {
    const { env, health } = aHealth()
    let runs = 0
    health.check('database', { ...DATABASE, check: () => { runs += 1; return Promise.resolve() } })
    await health.start()
    for (let probe = 0; probe < 1_000; probe += 1) health.report()
    expect(runs).toBe(1)
    expect(env.monotonic()).toBe(0)
    await health.stop()
  })

  it('of liveness depends on the event loop alone', async () => {
    const { env, health } = aHealth()
    health.set('database', 'required', 'unavailable', 'gone')
    await health.start()
    await env.advance('5s')
    expect(health.live()).toEqual({ alive: true, lagMs: 0, uptimeMs: 5_000 })
    env.pause()
    await env.advance('20s')
    expect(health.live()).toMatchObject({ alive: true, lagMs: 19_000 })
    await env.advance('11s')
    expect(health.live().alive).toBe(false)
    env.resume()
    await env.advance('2s')
    expect(health.live()).toMatchObject({ alive: true })
    await health.stop()
    await env.advance('10m')
    expect(health.live().alive).toBe(true)
  })
})

describe('a followed dependency', () => {
  function change(events: EventBus, from: 'closed' | 'open' | 'half-open', to: 'closed' | 'open' | 'half-open' | 'forced-open' | 'forced-closed'): void {
    events.emit('breaker.changed', { dependency: 'panel', from, to, reason: 'because' })
  }

  it('degrades while its breaker is open and recovers when it closes; it never makes the system unavailable', () => {
    const { events, health } = aHealth()
    health.follow('panel', 'required')
    health.follow('mailer', 'info')
    expect(health.state).toBe('healthy')
    change(events, 'closed', 'open')
    expect(health.report()).toMatchObject({
      state: 'degraded', breakers: { open: 1, halfOpen: 0, closed: 1 }, reason: 'panel is degraded (its breaker is open: because)',
    })
    change(events, 'open', 'half-open')
    expect(health.report()).toMatchObject({ state: 'degraded', breakers: { open: 0, halfOpen: 1, closed: 1 } })
    change(events, 'half-open', 'closed')
    expect(health.report()).toMatchObject({ state: 'healthy', breakers: { open: 0, halfOpen: 0, closed: 2 } })
    change(events, 'closed', 'forced-open')
    expect(health.report()).toMatchObject({ state: 'degraded', breakers: { open: 1, closed: 1 } })
    events.emit('breaker.changed', { dependency: 'unknown', from: 'closed', to: 'open', reason: 'x' })
    expect(health.report().components).toHaveLength(2)
  })

  it('is no longer listened to after stop', async () => {
    const { events, health } = aHealth()
    health.follow('panel', 'degradable')
    await health.start()
    await health.stop()
    change(events, 'closed', 'open')
    expect(health.state).toBe('healthy')
  })
})

describe('an event-driven component', () => {
  it('changes at once, announces each change once, and is left alone when it says the same again', () => {
    const { health, seen } = aHealth()
    health.set('store', 'required', 'healthy', 'connected')
    health.set('store', 'required', 'unavailable', 'connection lost')
    health.set('store', 'required', 'unavailable', 'still')
    expect(health.state).toBe('unavailable')
    health.set('store', 'required', 'healthy', 'connected')
    expect(seen.map(event => event.name)).toEqual(['health.changed', 'system.changed', 'health.changed', 'system.changed'])
    expect(seen[0]?.data).toEqual({ component: 'store', tier: 'required', from: 'healthy', to: 'unavailable', reason: 'connection lost' })
    expect(seen[3]?.data).toMatchObject({ from: 'unavailable', to: 'healthy' })
  })

  it('that is not configured is no fault and no news', () => {
    const { health, seen } = aHealth()
    health.notConfigured('crypto-pay', 'CRYPTO_PAY_TOKEN is not set')
    expect(health.state).toBe('healthy')
    expect(health.component('crypto-pay')).toMatchObject({ state: 'not-configured', reason: 'CRYPTO_PAY_TOKEN is not set' })
    expect(seen).toEqual([])
  })
})

describe('definition', () => {
  it('refuses a taken name, a duration that is none, and an unknown component', async () => {
    const { health } = aHealth()
    health.check('database', { ...DATABASE, check: () => Promise.resolve() })
    expect(() => { health.check('database', { ...DATABASE, check: () => Promise.resolve() }) }).toThrow('already defined')
    expect(() => { health.check('other', { ...DATABASE, every: '-1s', check: () => Promise.resolve() }) }).toThrow('health check other: every')
    await expect(health.refresh('nothing')).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME' })
  })
})
