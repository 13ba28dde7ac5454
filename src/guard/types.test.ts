import { describe, expect, expectTypeOf, it } from 'vitest'
import type { Outcome } from '../core/index.ts'
import { dependency, hedge, retry, type Dependency } from './index.ts'

/** Compiled by `tsc` with the rest: a line that is refused no longer makes its `@ts-expect-error` an error. */
function refusedAtCompileTime(panel: Dependency): void {
  // @ts-expect-error no unit
  dependency('x', { tier: 'required', runbook: 'r', timeout: 3000 })
  // @ts-expect-error unit misspelt
  dependency('x', { tier: 'required', runbook: 'r', timeout: '3sec' })
  // @ts-expect-error option misspelt
  dependency('x', { tier: 'required', runbook: 'r', retry: { attemps: 3 } })
  // @ts-expect-error no runbook
  dependency('x', { tier: 'required' })
  // @ts-expect-error no such tier
  dependency('x', { tier: 'vital', runbook: 'r' })
  // @ts-expect-error effect not declared
  void panel.call('x', {}, () => 1)
  // @ts-expect-error no such effect
  void panel.call('x', { effect: 'maybe' }, () => 1)
  // @ts-expect-error a once call can't be retried
  void panel.call('x', { effect: 'once', retry: { attempts: 2 } }, () => 1)
  // @ts-expect-error a once call can't be hedged
  void panel.call('x', { effect: 'once', hedge: { after: '1s' } }, () => 1)
  // @ts-expect-error no unit
  void panel.call('x', { effect: 'read', hedge: { after: 1000 } }, () => 1)
  // @ts-expect-error a retry must be told whether the work may be repeated
  void retry().run(() => 1)
  // @ts-expect-error and a once run is not repeated
  void retry().run(() => 1, { effect: 'once' })
  // @ts-expect-error nor hedged
  void hedge({ after: '1s' }).run(() => 1, { effect: 'once' })
  // @ts-expect-error forcing says why and who
  panel.force('open', { reason: 'x' })
}

describe('the types', () => {
  it('carry the name of the dependency and the value of the work', () => {
    expect(refusedAtCompileTime).toBeTypeOf('function')
    const panel = dependency('vpn-panel', { tier: 'degradable', runbook: 'r' })
    expectTypeOf(panel.name).toEqualTypeOf<'vpn-panel'>()
    expectTypeOf(panel.call('x', { effect: 'once' }, async () => 42)).toEqualTypeOf<Promise<number>>()
    expectTypeOf(panel.try('x', { effect: 'read', retry: { attempts: 2 } }, () => 'a')).toEqualTypeOf<Promise<Outcome<string>>>()
    expect(panel.name).toBe('vpn-panel')
  })
})
