import { describe, expect, it } from 'vitest'
import type { Kit } from '../core/index.ts'
import type { Flag } from '../control/index.ts'
import { worker, type NeededDependency } from './index.ts'

declare const kit: Kit
declare const provisioning: Flag<'vpnProvisioning'>
declare const panel: NeededDependency

/** Compiled, never run: each line below is refused by the type checker, or the check itself fails. */
export function refusedAtCompileTime(): void {
  worker('activation', { every: '5m', safeSleep: '10s', needs: [provisioning, panel, 'not-unavailable', 'leader'], run: async ({ each }) => each(['1', '2'], String, async id => { void id.length }) }, kit)
  // @ts-expect-error needs takes what was declared, not a name
  worker('w', { every: '1m', safeSleep: '1s', needs: ['vpnProvisioning'], run: async () => undefined }, kit)
  worker('w', { cron: '0 3 * * *', timeZone: 'Europe/Berlin', catchUp: 'none', mode: 'leader', safeSleep: '1s', run: async () => undefined }, kit)
  worker('w', { every: '15m', align: true, catchUp: 'one', safeSleep: '1s', run: async () => undefined }, kit)
  // @ts-expect-error one schedule
  worker('w', { every: '1m', cron: '0 3 * * *', safeSleep: '1s', run: async () => undefined }, kit)
  // @ts-expect-error no schedule
  worker('w', { safeSleep: '1s', run: async () => undefined }, kit)
  // @ts-expect-error an interval from its own end misses nothing
  worker('w', { every: '1m', catchUp: 'one', safeSleep: '1s', run: async () => undefined }, kit)
  // @ts-expect-error there is no third mode
  worker('w', { every: '1m', mode: 'both', safeSleep: '1s', run: async () => undefined }, kit)
  // @ts-expect-error no unit
  worker('w', { every: 60, safeSleep: '1s', run: async () => undefined }, kit)
  // @ts-expect-error safeSleep has no default: how long is safe is known only by who declares the worker
  worker('w', { every: '1m', run: async () => undefined }, kit)
}

describe('the types', () => {
  it('are checked by tsc', () => { expect(refusedAtCompileTime).toBeTypeOf('function') })
})
