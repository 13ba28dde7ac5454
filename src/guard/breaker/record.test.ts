import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastEvents } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { breaker, REFUSED, type Breaker, type BreakerOptions, type BreakerRecord } from './breaker.ts'

interface Fixture {
  readonly panel: Breaker
  readonly changes: HoldfastEvents['breaker.changed'][]
}

function aBreaker(env: SimulatedEnv, options: BreakerOptions = {}): Fixture {
  const events = new EventBus(env)
  const changes: HoldfastEvents['breaker.changed'][] = []
  events.on('breaker.changed', ({ data }) => { changes.push(data) })
  return { changes, panel: breaker('panel', { failures: 3, closeAfter: 1, probeEvery: false, rampFor: '5s', ...options }, { env, events }) }
}

function end(panel: Breaker, env: SimulatedEnv, result: 'success' | 'failure', times = 1): void {
  for (let call = 0; call < times; call += 1) panel.settle(panel.acquire(env.monotonic()), result, env.monotonic(), 1)
}

function kept(panel: Breaker): unknown {
  return JSON.parse(JSON.stringify(panel.save()))
}

async function openRecord(env: SimulatedEnv): Promise<BreakerRecord> {
  const { panel } = aBreaker(env)
  end(panel, env, 'failure', 3)
  await env.advance('20s')
  return kept(panel) as BreakerRecord
}

describe('a breaker that was restored', () => {
  it('lets a call through early, counted from the restart', async () => {
    const env = simulatedEnv()
    const record = await openRecord(env)
    const { panel } = aBreaker(env, { probeEvery: '5s' })
    panel.restore(record)
    await env.advance('4999ms')
    expect(panel.allows()).toBe(false)
    await env.advance(1)
    expect(panel.allows()).toBe(true)
  })

  it('stays open for the time that remained, not for the whole and not for none, and announces it', async () => {
    const env = simulatedEnv()
    const record = await openRecord(env)
    expect(record).toEqual({ version: 1, savedAt: env.now(), phase: 'open', failures: 3, remainingMs: 40_000, forced: null })
    await env.advance('10s')
    const { panel, changes } = aBreaker(env)
    expect(panel.restore(record)).toEqual({ restored: true, state: 'open' })
    expect(panel.snapshot()).toMatchObject({ state: 'open', failures: 3, retryAfterMs: 30_000 })
    expect(changes).toEqual([{ dependency: 'panel', from: 'closed', to: 'open', reason: 'restored from the state of 10 s ago (open)', retryAfterMs: 30_000 }])
    await env.advance('29999ms')
    expect(panel.allows()).toBe(false)
    await env.advance(1)
    expect(panel.snapshot().state).toBe('half-open')
  })

  it('is half-open, not closed, when the open time is over meanwhile', async () => {
    const env = simulatedEnv()
    const record = await openRecord(env)
    await env.advance('10h')
    const { panel } = aBreaker(env)
    expect(panel.restore(record)).toEqual({ restored: true, state: 'half-open' })
    expect([1, 2, 3, 4].map(() => panel.acquire(env.monotonic()) !== REFUSED)).toEqual([true, true, true, false])
  })

  it('is not held open for longer by a wall clock that jumped, nor by a record that claims it', async () => {
    const env = simulatedEnv()
    const record = await openRecord(env)
    env.jump(-3_600_000)
    const back = aBreaker(env).panel
    back.restore(record)
    expect(back.retryAfterMs).toBe(40_000)
    const claims = aBreaker(env).panel
    claims.restore({ ...record, remainingMs: 1e15 })
    expect(claims.retryAfterMs).toBe(60_000)
    env.jump(7_200_000)
    const forth = aBreaker(env).panel
    expect(forth.restore(record)).toMatchObject({ state: 'half-open' })
  })

  it('goes on counting where it was, and is never opened by the record alone', () => {
    const env = simulatedEnv()
    const before = aBreaker(env)
    end(before.panel, env, 'failure', 2)
    const { panel, changes } = aBreaker(env)
    panel.restore(kept(before.panel))
    expect(panel.snapshot()).toMatchObject({ state: 'closed', failures: 2 })
    expect(changes).toEqual([])
    end(panel, env, 'failure')
    expect(panel.snapshot().state).toBe('open')
    const stricter = aBreaker(env, { failures: 1 })
    stricter.panel.restore(kept(before.panel))
    expect(stricter.panel.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  })

  it('forgets the trials that died with the process', async () => {
    const env = simulatedEnv()
    const before = aBreaker(env)
    end(before.panel, env, 'failure', 3)
    await env.advance('60s')
    before.panel.acquire(env.monotonic())
    const { panel } = aBreaker(env)
    panel.restore(kept(before.panel))
    expect([1, 2, 3, 4].map(() => panel.acquire(env.monotonic()) !== REFUSED)).toEqual([true, true, true, false])
  })

  it('goes on with what is left of the ramp', async () => {
    const env = simulatedEnv()
    const before = aBreaker(env)
    end(before.panel, env, 'failure', 3)
    await env.advance('60s')
    end(before.panel, env, 'success')
    await env.advance('1s')
    const { panel } = aBreaker(env)
    panel.restore(kept(before.panel))
    expect(panel.snapshot().ramp).toBeCloseTo(0.28)
    await env.advance('4s')
    expect(panel.snapshot().ramp).toBeUndefined()
  })

  it('is still forced by whoever forced it, for as long as they said', async () => {
    const env = simulatedEnv()
    const before = aBreaker(env)
    before.panel.force('open', { by: 'cli:alice', reason: 'migration', forMs: 10_000 })
    await env.advance('4s')
    const record = kept(before.panel)
    const { panel, changes } = aBreaker(env)
    panel.restore(record)
    expect(panel.snapshot()).toMatchObject({ state: 'forced-open', retryAfterMs: 6_000, forced: { by: 'cli:alice', reason: 'migration', until: env.now() + 6_000 } })
    expect(changes[0]?.reason).toBe('restored from the state of 0 ms ago (forced-open, forced by cli:alice: migration)')
    await env.advance('7s')
    const late = aBreaker(env).panel
    expect(late.restore(record)).toMatchObject({ state: 'half-open' })
    expect(late.snapshot().forced).toBeUndefined()
    before.panel.force('open', { by: 'cli:alice', reason: 'until I say so' })
    const forGood = aBreaker(env).panel
    forGood.restore(kept(before.panel))
    await env.advance('1d')
    expect(forGood.snapshot()).toMatchObject({ state: 'forced-open', retryAfterMs: undefined, forced: { until: undefined } })
  })

  it('takes no notice of results from before the restart', async () => {
    const env = simulatedEnv()
    const record = await openRecord(env)
    const { panel } = aBreaker(env)
    const early = panel.acquire(env.monotonic())
    panel.restore({ ...record, phase: 'closed', failures: 2, remainingMs: null })
    panel.settle(early, 'failure', env.monotonic(), 1)
    expect(panel.snapshot()).toMatchObject({ state: 'closed', failures: 2 })
  })
})

describe('a record that is none', () => {
  const good: BreakerRecord = { version: 1, savedAt: 0, phase: 'open', failures: 3, remainingMs: 1_000, forced: null }
  const bad: readonly (readonly [string, unknown])[] = [
    ['is no object', undefined], ['is no object', 'open'], ['is no object', null], ['version is 2, expected 1', { ...good, version: 2 }], ['version is undefined', {}],
    ['phase is ajar', { ...good, phase: 'ajar' }], ['does not say when it was saved', { ...good, savedAt: Number.NaN }], ['failures are -1', { ...good, failures: -1 }],
    ['how much time remains', { ...good, remainingMs: -5 }], ['how much time remains', { ...good, remainingMs: Number.POSITIVE_INFINITY }], ['how much time remains', { ...good, remainingMs: '1s' }],
    ['by whom and why', { ...good, phase: 'forced-open' }], ['by whom and why', { ...good, phase: 'forced-open', forced: { by: 'a', reason: ' ' } }],
  ]
  it.each(bad)('is ignored with the reason: %s', (reason, record) => {
    const { panel, changes } = aBreaker(simulatedEnv())
    expect(panel.restore(record)).toEqual({ restored: false, reason: expect.stringContaining(reason) as string })
    expect(panel.snapshot().state).toBe('closed')
    expect(changes).toEqual([])
  })

  it('or one that is older than what the breaker knows by itself is ignored too', async () => {
    const env = simulatedEnv()
    const record = await openRecord(env)
    const { panel } = aBreaker(env)
    end(panel, env, 'failure')
    expect(panel.restore(record)).toEqual({ restored: false, reason: 'the breaker has counted failures already' })
    panel.force('closed', { by: 'a', reason: 'b' })
    expect(panel.restore(record)).toEqual({ restored: false, reason: 'the breaker is forced-closed already' })
  })
})
