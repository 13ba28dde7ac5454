import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { simulatedEnv } from '../../testing/index.ts'
import { RetryBudget } from './budget.ts'
import { backoffMs } from './backoff.ts'
import { Pause } from './pause.ts'
import { resolveRetry } from './retry.ts'

describe('the backoff', () => {
  it('lies between minWait and the doubled, capped wait, is never NaN, and uses the whole range', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 10_000 }), fc.integer({ min: 0, max: 100_000 }), fc.integer({ min: 1, max: 5_000 }), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (minWaitMs, extra, attempt, random) => {
      const rules = { attempts: 3, minWaitMs, maxWaitMs: minWaitMs + extra, backoff: 'full-jitter' } as const
      const wait = backoffMs(rules, attempt, random)
      expect(wait).toBeGreaterThanOrEqual(minWaitMs)
      expect(wait).toBeLessThanOrEqual(rules.maxWaitMs)
      if (attempt < 30) expect(wait).toBeLessThanOrEqual(minWaitMs * 2 ** attempt)
    }))
    const rules = resolveRetry({ attempts: 5, minWait: '2s', maxWait: '120s' }, 'retry')
    expect([backoffMs(rules, 1, 0), backoffMs(rules, 1, 0.5), backoffMs(rules, 3, 0.999999999)].map(Math.round)).toEqual([2_000, 3_000, 16_000])
  })

  it('takes a minWait above the default cap as the cap', () => {
    expect(resolveRetry({ attempts: 2, minWait: '60s' }, 'retry')).toEqual({ attempts: 2, minWaitMs: 60_000, maxWaitMs: 60_000, backoff: 'full-jitter' })
  })
})

describe('other backoffs', () => {
  it('exponential doubles from minWait up to the cap; constant stays; neither draws', () => {
    const exponential = resolveRetry({ attempts: 6, minWait: '100ms', maxWait: '1s', backoff: 'exponential' }, 'retry')
    expect([1, 2, 3, 4, 5].map(attempt => backoffMs(exponential, attempt, 0.7))).toEqual([100, 200, 400, 800, 1_000])
    const constant = resolveRetry({ attempts: 6, minWait: '100ms', backoff: 'constant' }, 'retry')
    expect([1, 5, 5_000].map(attempt => backoffMs(constant, attempt, 0.7))).toEqual([100, 100, 100])
  })

  it('that nobody knows are refused, naming those that exist', () => {
    expect(() => resolveRetry({ attempts: 2, backoff: 'fibonacci' as 'constant' }, 'retry')).toThrow('retry: backoff: expected full-jitter, exponential, constant, got fibonacci')
  })
})

describe('a pause', () => {
  it('is never shorter than asked, although timers may fire early', async () => {
    const env = simulatedEnv()
    const early = Object.assign(Object.create(env) as typeof env, { timer: (ms: number, run: () => void) => env.timer(ms > 1 ? ms - 1 : ms, run), monotonic: () => env.monotonic() })
    let overAt: number | undefined
    void new Pause().start(early, 2_000).then(() => { overAt = env.monotonic() })
    await env.advance('1999ms')
    expect(overAt).toBeUndefined()
    for (let turn = 0; turn < 5 && overAt === undefined; turn += 1) await env.advance('1ms')
    expect(overAt).toBeGreaterThanOrEqual(2_000)
  })
})

describe('the budget', () => {
  it('allows a share of the calls and the floor, over ten seconds, and forgets what is older', () => {
    const budget = new RetryBudget({ ratio: 0.2, perSecond: 1 }, 'budget')
    for (let call = 0; call < 50; call += 1) budget.deposit(500)
    expect(budget.left(500)).toBe(20)
    for (let retry = 0; retry < 20; retry += 1) expect(budget.withdraw(900)).toBe(true)
    expect(budget.withdraw(900)).toBe(false)
    expect(budget.withdraw(9_999)).toBe(false)
    expect(budget.left(10_000)).toBe(10)
    expect(budget.left(1_000_000)).toBe(10)
  })

  it('never allows more in any ten seconds than its share and floor, whatever the traffic', () => {
    const traffic = fc.array(fc.record({ waitMs: fc.nat(3_000), calls: fc.nat(20), retries: fc.nat(30) }), { maxLength: 60 })
    fc.assert(fc.property(traffic, steps => {
      const budget = new RetryBudget({ ratio: 0.2, perSecond: 1 }, 'budget')
      const calls: number[] = []
      const retries: number[] = []
      let now = 0
      for (const step of steps) {
        now += step.waitMs
        for (let call = 0; call < step.calls; call += 1) { budget.deposit(now); calls.push(now) }
        for (let retry = 0; retry < step.retries; retry += 1) if (budget.withdraw(now)) retries.push(now)
        // Slots are whole seconds: what counts now is nine whole slots and the one that is running.
        const from = (Math.floor(now / 1_000) - 9) * 1_000
        const within = (at: number): boolean => at >= from
        expect(retries.filter(within).length).toBeLessThanOrEqual(10 + 0.2 * calls.filter(within).length + 0.2 * calls.filter(at => !within(at) && at >= from - 10_000).length)
      }
    }), { seed: 6 })
  })
})
