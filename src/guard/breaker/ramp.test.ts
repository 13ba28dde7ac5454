import { describe, expect, it } from 'vitest'
import { EventBus } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { breaker, REFUSED, type Breaker, type BreakerOptions } from './breaker.ts'
import { Ramp } from './ramp.ts'

interface Fixture {
  readonly env: SimulatedEnv
  readonly panel: Breaker
}

/** A breaker that has just closed again. */
async function justClosed(options: BreakerOptions = {}): Promise<Fixture> {
  const env = simulatedEnv()
  const panel = breaker('panel', { failures: 1, closeAfter: 1, rampFor: '5s', ...options }, { env, events: new EventBus(env) })
  panel.settle(panel.acquire(env.monotonic()), 'failure', env.monotonic(), 1)
  await env.advance('60s')
  panel.settle(panel.acquire(env.monotonic()), 'success', env.monotonic(), 1)
  expect(panel.snapshot().state).toBe('closed')
  return { env, panel }
}

/** How many of so many calls at once are let through. */
function passing({ env, panel }: Fixture, calls: number): number {
  let passed = 0
  for (let call = 0; call < calls; call += 1) if (panel.acquire(env.monotonic()) !== REFUSED) passed += 1
  return passed
}

describe('a breaker that has just closed', () => {
  it('lets ten and a tenth of a thousand waiting callers through, not all at once', async () => {
    expect(Math.abs(passing(await justClosed(), 1_000) - (10 + 99))).toBeLessThanOrEqual(1)
  })

  it('control: without a ramp the whole herd passes', async () => {
    expect(passing(await justClosed({ rampFor: false }), 1_000)).toBe(1_000)
    expect(passing(await justClosed({ rampFor: '0s' }), 1_000)).toBe(1_000)
  })

  it('lets more through as time passes, and everything after rampFor', async () => {
    const fixture = await justClosed()
    passing(fixture, 1_000)
    const shares: (number | undefined)[] = [fixture.panel.snapshot().ramp]
    const passed: number[] = []
    for (let second = 1; second <= 5; second += 1) {
      await fixture.env.advance('1s')
      passed.push(passing(fixture, 1_000))
      shares.push(fixture.panel.snapshot().ramp)
    }
    expect(shares.map(share => share === undefined ? undefined : Math.round(share * 100))).toEqual([10, 28, 46, 64, 82, undefined])
    for (const [second, share] of [0.28, 0.46, 0.64, 0.82, 1].entries()) expect(Math.abs((passed[second] ?? 0) - (10 + share * 990))).toBeLessThanOrEqual(1)
  })

  it('is not noticed by a service of ten calls a second or fewer', async () => {
    const fixture = await justClosed()
    for (let call = 0; call < 60; call += 1) {
      expect(passing(fixture, 1)).toBe(1)
      await fixture.env.advance('100ms')
    }
    const bursts = await justClosed()
    for (let second = 0; second < 6; second += 1) {
      expect(passing(bursts, 10)).toBe(10)
      await bursts.env.advance('1s')
    }
  })

  it('refuses like an open breaker, with a small wait that is kept', async () => {
    const fixture = await justClosed()
    passing(fixture, 50)
    const panel = fixture.panel
    let refusal: unknown
    while (refusal === undefined) refusal = await panel.run(() => undefined).then(() => undefined, (error: unknown) => error)
    expect(refusal).toMatchObject({ code: 'HF_BREAKER_OPEN', retryAfterMs: 100, message: 'panel has just come back and gets its calls step by step; this one was not among them' })
    await fixture.env.advance(panel.retryAfterMs ?? 0)
    expect(passing(fixture, 1)).toBe(1)
  })

  it('needs no timer, and takes nothing by being looked at', async () => {
    const fixture = await justClosed()
    expect(fixture.env.pendingTimers).toBe(0)
    for (let look = 0; look < 100; look += 1) expect(fixture.panel.allows()).toBe(true)
    expect(passing(fixture, 10)).toBe(10)
    expect(fixture.panel.allows()).toBe(false)
  })

  it('opens again by failures as at any other time', async () => {
    const fixture = await justClosed({ failures: 2 })
    for (let call = 0; call < 2; call += 1) fixture.panel.settle(fixture.panel.acquire(fixture.env.monotonic()), 'failure', fixture.env.monotonic(), 1)
    expect(fixture.panel.snapshot()).toMatchObject({ state: 'open', ramp: undefined })
  })

  it('decides the same calls alike every time', () => {
    const decide = (): boolean[] => {
      const ramp = new Ramp(5_000, 5_000)
      return Array.from({ length: 500 }, (_, call) => ramp.take(call * 3))
    }
    expect(decide()).toEqual(decide())
    expect(decide()).toContain(false)
  })
})
