import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastEvents } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { breaker, type Breaker, type BreakerOptions } from './breaker.ts'
import { CallWindow } from './call-window.ts'

interface Fixture {
  readonly env: SimulatedEnv
  readonly panel: Breaker
  readonly changes: HoldfastEvents['breaker.changed'][]
}

function aBreaker(options: BreakerOptions): Fixture {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const changes: HoldfastEvents['breaker.changed'][] = []
  events.on('breaker.changed', ({ data }) => { changes.push(data) })
  return { env, changes, panel: breaker('panel', options, { env, events }) }
}

function end({ panel, env }: Fixture, result: 'success' | 'failure' | 'neither', times = 1, tookMs = 1): void {
  for (let call = 0; call < times; call += 1) {
    const now = env.monotonic()
    panel.settle(panel.acquire(now), result, now, tookMs)
  }
}

describe('a breaker with a failure rate', () => {
  it('opens when half of at least twenty calls within ten seconds failed, and says so with the numbers', () => {
    const fixture = aBreaker({ failures: false, failureRate: {} })
    end(fixture, 'failure', 9)
    end(fixture, 'success', 10)
    expect(fixture.panel.snapshot().state).toBe('closed')
    end(fixture, 'failure')
    expect(fixture.changes).toMatchObject([{ from: 'closed', to: 'open', reason: '10 of 20 calls within 10 s failed (50 %, limit 50 %)', retryAfterMs: 60_000 }])
  })

  it('names the last failure beside the numbers', () => {
    const fixture = aBreaker({ failures: false, failureRate: { minimumCalls: 2, ratio: 1 } })
    for (let call = 0; call < 2; call += 1) fixture.panel.settle(fixture.panel.acquire(0), 'failure', 0, 1, new Error('connect ECONNREFUSED'))
    expect(fixture.changes[0]?.reason).toBe('2 of 2 calls within 10 s failed (100 %, limit 100 %), the last: connect ECONNREFUSED')
  })

  it('is opened neither by one failure nor by any with fewer calls than the minimum', () => {
    const fixture = aBreaker({ failures: false, failureRate: {} })
    end(fixture, 'failure', 19)
    expect(fixture.panel.snapshot().state).toBe('closed')
    end(fixture, 'failure')
    expect(fixture.panel.snapshot().state).toBe('open')
  })

  it('counts the calls that ended: a hundred that hang do not hide that all others fail', () => {
    const fixture = aBreaker({ failures: false, failureRate: {} })
    for (let hung = 0; hung < 100; hung += 1) fixture.panel.acquire(0)
    end(fixture, 'failure', 20)
    expect(fixture.panel.snapshot().state).toBe('open')
  })

  it('does not count what is neither: an answer that stands, a caller who left', () => {
    const fixture = aBreaker({ failures: false, failureRate: {} })
    end(fixture, 'neither', 1_000)
    end(fixture, 'failure', 20)
    expect(fixture.changes[0]?.reason).toContain('20 of 20 calls')
  })

  it('forgets what is older than the window', async () => {
    const fixture = aBreaker({ failures: false, failureRate: {} })
    end(fixture, 'failure', 19)
    await fixture.env.advance('10s')
    end(fixture, 'failure', 19)
    expect(fixture.panel.snapshot().state).toBe('closed')
    await fixture.env.advance('8s')
    end(fixture, 'failure')
    expect(fixture.panel.snapshot().state).toBe('open')
  })

  it('is not opened by a success, although it brings the number of calls to the minimum', () => {
    const fixture = aBreaker({ failures: false, failureRate: {} })
    end(fixture, 'failure', 19)
    end(fixture, 'success')
    expect(fixture.panel.snapshot().state).toBe('closed')
    end(fixture, 'failure')
    expect(fixture.panel.snapshot().state).toBe('open')
  })

  it('is still opened by failures in a row, whichever is reached first', () => {
    const both = aBreaker({ failureRate: {} })
    end(both, 'success', 100)
    end(both, 'failure', 5)
    expect(both.changes[0]?.reason).toBe('5 consecutive failures, the last')
    const rate = aBreaker({ failureRate: {} })
    for (let pair = 0; pair < 10; pair += 1) {
      end(rate, 'success')
      end(rate, 'failure')
    }
    expect(rate.changes[0]?.reason).toContain('10 of 20 calls')
  })

  it('counts afresh once it is closed again', async () => {
    const fixture = aBreaker({ failures: false, failureRate: { within: '10m', minimumCalls: 4 }, rampFor: false })
    end(fixture, 'failure', 4)
    await fixture.env.advance('60s')
    end(fixture, 'success', 2)
    expect(fixture.panel.snapshot().state).toBe('closed')
    end(fixture, 'failure', 3)
    expect(fixture.panel.snapshot().state).toBe('closed')
  })

  it('pays for a failure with 20,000 calls in the window no more than with twenty', () => {
    const few = window(20)
    const many = window(20_000)
    const time = (what: CallWindow): number => {
      let best = Number.POSITIVE_INFINITY
      for (let round = 0; round < 15; round += 1) {
        const before = process.hrtime.bigint()
        for (let call = 0; call < 20_000; call += 1) what.add(5_000, true)
        best = Math.min(best, Number(process.hrtime.bigint() - before))
      }
      return best
    }
    time(window(20))
    expect(time(many) / time(few)).toBeLessThan(20)
    expect(many.completed).toBe(20_000 + 15 * 20_000)
  })
})

describe('a breaker with a slow-call rate', () => {
  const slow: BreakerOptions = { failures: false, slowCallRate: { slowerThan: '2s' } }

  it('opens when half of the calls are slow, although they succeed', () => {
    const fixture = aBreaker(slow)
    end(fixture, 'success', 10, 1_999)
    end(fixture, 'success', 9, 2_000)
    expect(fixture.panel.snapshot().state).toBe('closed')
    end(fixture, 'success', 1, 3_000)
    expect(fixture.changes[0]?.reason).toBe('10 of 20 calls within 10 s took 2 s or longer (50 %, limit 50 %)')
  })

  it('counts a hung call when its timeout ends it: it has failed, and it was slow', () => {
    const hung = aBreaker({ ...slow, failureRate: { minimumCalls: 30 } })
    end(hung, 'success', 10)
    end(hung, 'failure', 10, 10_000)
    expect(hung.changes[0]?.reason).toContain('10 of 20 calls within 10 s took 2 s or longer')
    const quick = aBreaker({ ...slow, failureRate: { minimumCalls: 30 } })
    end(quick, 'success', 10)
    end(quick, 'failure', 10)
    expect(quick.panel.snapshot().state).toBe('closed')
  })

  it('takes a slow trial for a failed one', async () => {
    const fixture = aBreaker({ ...slow, failures: 1 })
    end(fixture, 'failure')
    await fixture.env.advance('60s')
    end(fixture, 'success', 1, 2_500)
    expect(fixture.changes.at(-1)).toMatchObject({ from: 'half-open', to: 'open', reason: 'a trial call took 2 s' })
  })

  it('gives a slow trial back that ended as neither', async () => {
    const fixture = aBreaker({ ...slow, failures: 1, trialCalls: 1 })
    end(fixture, 'failure')
    await fixture.env.advance('60s')
    end(fixture, 'neither', 3, 2_500)
    expect(fixture.panel.snapshot().state).toBe('half-open')
    expect(fixture.panel.allows()).toBe(true)
  })
})

describe('options of the opening rules', () => {
  it('are refused when they cannot be meant', () => {
    expect(() => aBreaker({ failures: false })).toThrow('failures: expected a rule that opens it')
    expect(() => aBreaker({ failureRate: { ratio: 0 } })).toThrow('failureRate.ratio: expected a share above 0 and at most 1')
    expect(() => aBreaker({ failureRate: { ratio: 50 } })).toThrow('got 50')
    expect(() => aBreaker({ failureRate: { minimumCalls: 0 } })).toThrow('failureRate.minimumCalls')
    expect(() => aBreaker({ failureRate: { within: '5ms' } })).toThrow('failureRate.within')
    expect(() => aBreaker({ slowCallRate: { slowerThan: '-2s' } })).toThrow('slowCallRate.slowerThan')
  })
})

function window(calls: number): CallWindow {
  const made = new CallWindow(10_000)
  for (let call = 0; call < calls; call += 1) made.add(5_000, call % 2 === 0)
  return made
}
