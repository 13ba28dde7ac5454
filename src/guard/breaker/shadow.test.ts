import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastEvents } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { breaker, type Breaker, type BreakerOptions } from './breaker.ts'

interface Fixture {
  readonly env: SimulatedEnv
  readonly panel: Breaker
  readonly changed: HoldfastEvents['breaker.changed'][]
  readonly shadowed: HoldfastEvents['breaker.shadowed'][]
}

function aShadow(options: BreakerOptions = {}): Fixture {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const fixture: Fixture = { env, changed: [], shadowed: [], panel: breaker('panel', { failures: 3, closeAfter: 1, shadow: true, ...options }, { env, events }) }
  events.on('breaker.changed', ({ data }) => { fixture.changed.push(data) })
  events.on('breaker.shadowed', ({ data }) => { fixture.shadowed.push(data) })
  return fixture
}

const DOWN: Error & { code: string } = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })

async function calls({ panel }: Fixture, times: number, work: () => Promise<unknown>): Promise<number> {
  let made = 0
  for (let call = 0; call < times; call += 1) {
    await panel.run(() => {
      made += 1
      return work()
    }).catch(() => undefined)
  }
  return made
}
const down = (): Promise<never> => Promise.reject(DOWN)
const well = (): Promise<string> => Promise.resolve('ok')

describe('a breaker in shadow mode', () => {
  it('refuses nothing, looks closed, and tells what it would have done', async () => {
    const fixture = aShadow()
    const at = fixture.env.now()
    expect(await calls(fixture, 10, down)).toBe(10)
    expect(fixture.panel.allows()).toBe(true)
    expect(fixture.panel.retryAfterMs).toBeUndefined()
    expect(fixture.panel.snapshot()).toMatchObject({ state: 'closed', retryAfterMs: undefined, shadow: { state: 'open', since: at, wouldHaveRefused: 7 } })
    expect(fixture.changed).toEqual([])
    expect(fixture.shadowed).toEqual([{
      dependency: 'panel', from: 'closed', to: 'open', reason: '3 consecutive failures, the last: connect ECONNREFUSED', wouldHaveRefused: 0, retryAfterMs: 60_000,
    }])
  })

  it('control: the same breaker out of the shadow refuses them', async () => {
    const fixture = aShadow({ shadow: false })
    expect(await calls(fixture, 10, down)).toBe(3)
    expect(fixture.changed).toHaveLength(1)
    expect(fixture.panel.snapshot().shadow).toBeUndefined()
  })

  it('goes through all its states as it would: calls that it would have refused count for nothing', async () => {
    const fixture = aShadow()
    await calls(fixture, 3, down)
    await calls(fixture, 50, well)
    expect(fixture.panel.snapshot().shadow).toMatchObject({ state: 'open', wouldHaveRefused: 50 })
    await fixture.env.advance('60s')
    expect(fixture.panel.snapshot().shadow?.state).toBe('half-open')
    await calls(fixture, 1, down)
    expect(fixture.panel.snapshot().shadow?.state).toBe('open')
    await fixture.env.advance('60s')
    await calls(fixture, 1, well)
    expect(fixture.shadowed.map(({ to }) => to)).toEqual(['open', 'half-open', 'open', 'half-open', 'closed'])
    expect(fixture.changed).toEqual([])
  })

  it('counts those that half-open and the ramp would have refused', async () => {
    const fixture = aShadow({ trialCalls: 1 })
    await calls(fixture, 3, down)
    await fixture.env.advance('60s')
    const permits = Array.from({ length: 5 }, () => fixture.panel.acquire(fixture.env.monotonic()))
    expect(permits.every(permit => fixture.panel.holds(permit))).toBe(true)
    expect(fixture.panel.snapshot().shadow?.wouldHaveRefused).toBe(4)
    for (const permit of permits) fixture.panel.settle(permit, 'success', fixture.env.monotonic(), 1)
    expect(await calls(fixture, 100, well)).toBe(100)
    expect(fixture.panel.snapshot().shadow?.wouldHaveRefused).toBe(4 + 81)
  })

  it('obeys an operator all the same, and is back in the shadow afterwards', async () => {
    const fixture = aShadow()
    await calls(fixture, 3, down)
    fixture.panel.force('open', { by: 'cli:alice', reason: 'migration' })
    expect(await calls(fixture, 5, well)).toBe(0)
    expect(fixture.panel.snapshot()).toMatchObject({ state: 'forced-open', shadow: { state: 'forced-open' } })
    fixture.panel.release({ by: 'cli:alice', reason: 'done' })
    expect(await calls(fixture, 5, well)).toBe(5)
    expect(fixture.changed.map(({ from, to }) => [from, to])).toEqual([['closed', 'forced-open'], ['forced-open', 'closed']])
  })
})
