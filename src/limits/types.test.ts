import { expect, it } from 'vitest'
import { limit, type LimitKit } from './index.ts'

/** Compiled by `tsc` with the rest: a line that is refused no longer makes its `@ts-expect-error` an error. */
function refusedAtCompileTime(kit: LimitKit): void {
  // @ts-expect-error no unit
  limit('x', { limit: 1, per: 60 }, kit)
  // @ts-expect-error unit misspelt
  limit('x', { limit: 1, per: '60sec' }, kit)
  // @ts-expect-error option misspelt
  limit('x', { limit: 1, per: '60s', bursts: 2 }, kit)
  // @ts-expect-error no such behaviour
  limit('x', { limit: 1, per: '60s', onStoreError: 'panic' }, kit)
}

it('refuses limits without units, and options that do not exist, at compile time', () => {
  expect(refusedAtCompileTime).toBeTypeOf('function')
})
