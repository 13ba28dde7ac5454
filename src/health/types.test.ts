import { expect, it } from 'vitest'
import { createHealth, type HealthKit } from './index.ts'

/** Compiled by `tsc` with the rest: a line that is refused no longer makes its `@ts-expect-error` an error. */
function refusedAtCompileTime(kit: HealthKit): void {
  const health = createHealth(kit)
  const check = (): Promise<void> => Promise.resolve()
  // @ts-expect-error a check needs a timeout
  health.check('x', { tier: 'required', every: '5s', check })
  // @ts-expect-error no unit
  health.check('x', { tier: 'required', every: '5s', timeout: 1000, check })
  // @ts-expect-error no such tier
  health.check('x', { tier: 'vital', every: '5s', timeout: '1s', check })
  // @ts-expect-error no such state
  health.set('x', 'required', 'broken', 'because')
}

it('refuses checks without a timeout, tier or unit at compile time', () => {
  expect(refusedAtCompileTime).toBeTypeOf('function')
})
