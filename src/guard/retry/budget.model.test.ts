import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RetryBudget } from './budget.ts'

/** The reference: every call and retry with the second it fell into, and sums over the last ten seconds. */
interface Model { readonly ratio: number; readonly perSecond: number; now: number; calls: number[]; retries: number[] }
interface Real { readonly budget: RetryBudget }

function allowed(model: Model): number {
  const second = Math.floor(model.now / 1_000)
  const recent = (seconds: readonly number[]): number => seconds.filter(one => one > second - 10).length
  return model.perSecond * 10 + recent(model.calls) * model.ratio - recent(model.retries)
}

class Deposit implements fc.Command<Model, Real> {
  check(): boolean { return true }
  run(model: Model, { budget }: Real): void {
    model.calls.push(Math.floor(model.now / 1_000))
    budget.deposit(model.now)
  }
  toString(): string { return 'call' }
}
class Withdraw implements fc.Command<Model, Real> {
  check(): boolean { return true }
  run(model: Model, { budget }: Real): void {
    const expected = allowed(model) >= 1
    expect(budget.withdraw(model.now)).toBe(expected)
    if (expected) model.retries.push(Math.floor(model.now / 1_000))
    expect(budget.left(model.now)).toBe(Math.max(0, Math.floor(allowed(model))))
  }
  toString(): string { return 'retry' }
}
class Pass implements fc.Command<Model, Real> {
  readonly ms: number
  constructor(ms: number) { this.ms = ms }
  check(): boolean { return true }
  run(model: Model, { budget }: Real): void {
    model.now += this.ms
    expect(budget.left(model.now)).toBe(Math.max(0, Math.floor(allowed(model))))
  }
  toString(): string { return `${String(this.ms)} ms pass` }
}

const commands = fc.commands([
  fc.constant(new Deposit()), fc.constant(new Deposit()), fc.constant(new Withdraw()), fc.constant(new Withdraw()),
  fc.integer({ min: 0, max: 3_000 }).map(ms => new Pass(ms)), fc.integer({ min: 9_000, max: 100_000 }).map(ms => new Pass(ms)),
], { maxCommands: 200 })
/** Ratios that binary fractions hold exactly, so that the two sums never differ by rounding. */
const options = fc.record({ ratio: fc.constantFrom(0, 0.125, 0.25, 0.5, 1, 2), perSecond: fc.constantFrom(0, 0.125, 0.5, 1, 10), startAt: fc.integer({ min: 0, max: 5_000_000 }) })

describe('the retry budget', () => {
  it('allows what the sums over its window allow, call by call', () => {
    fc.assert(fc.property(options, commands, ({ ratio, perSecond, startAt }, run) => {
      fc.modelRun(() => ({ model: { ratio, perSecond, now: startAt, calls: [], retries: [] }, real: { budget: new RetryBudget({ ratio, perSecond }, 'budget') } }), run)
    }), { numRuns: 1_000, seed: 11 })
  })

  it('allows no more than its share of all calls and its floor, however long the outage', () => {
    fc.assert(fc.property(fc.array(fc.record({ ms: fc.integer({ min: 0, max: 400 }), retries: fc.integer({ min: 0, max: 3 }) }), { minLength: 50, maxLength: 400 }), plan => {
      const budget = new RetryBudget({ ratio: 0.25, perSecond: 1 }, 'budget')
      let now = 0
      let made = 0
      for (const [index, { ms, retries }] of plan.entries()) {
        now += ms
        budget.deposit(now)
        for (let count = 0; count < retries; count += 1) if (budget.withdraw(now)) made += 1
        expect(made).toBeLessThanOrEqual((index + 1) * 0.25 + now / 1_000 + 10)
      }
    }), { numRuns: 200, seed: 12 })
  })
})
