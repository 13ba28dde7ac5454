import { describe, expect, it } from 'vitest'
import { EventBus, withContext, type HoldfastEvents } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { dependency, retry, type Dependency, type GuardKit } from './index.ts'

const READ = { effect: 'read' } as const

function world(): { readonly env: SimulatedEnv; readonly kit: GuardKit; readonly told: HoldfastEvents['retry.nested'][] } {
  const env = simulatedEnv({ seed: 5 })
  const events = new EventBus(env)
  const told: HoldfastEvents['retry.nested'][] = []
  events.on('retry.nested', ({ data }) => { told.push(data) })
  return { env, kit: { env, events }, told }
}
function aDependency(name: string, attempts: number, kit: GuardKit): Dependency {
  return dependency(name, { tier: 'info', runbook: 'r', retry: { attempts } }, kit)
}

describe('a retry inside a retry', () => {
  it('is told at the first call, with the product, and once', async () => {
    const { kit, told } = world()
    const outer = aDependency('billing', 4, kit)
    const inner = aDependency('ledger', 3, kit)
    for (let call = 0; call < 3; call += 1) await outer.call('pay', READ, () => inner.call('book', READ, async () => 1))
    expect(told).toEqual([{ outer: 'billing', inner: 'ledger', operation: 'book', product: 12 }])
  })

  it('is told through three layers, policies of all kinds', async () => {
    const { kit, told } = world()
    const outer = retry({ attempts: 2, name: 'job' }, kit)
    const middle = aDependency('billing', 3, kit)
    const inner = aDependency('ledger', 3, kit)
    await outer.run(() => middle.call('pay', READ, () => inner.call('book', READ, async () => 1)), READ)
    expect(told.map(({ outer: by, inner: what, product }) => [by, what, product])).toEqual([['job', 'billing', 6], ['billing', 'ledger', 18]])
  })

  it('that appears later is told at the first repetition', async () => {
    const { env, kit, told } = world()
    const outer = aDependency('billing', 4, kit)
    const inner = aDependency('ledger', 3, kit)
    await outer.call('pay', READ, async () => 1)
    const result = outer.call('pay', READ, ({ number }) => {
      if (number === 1) throw Object.assign(new Error('reset'), { code: 'ECONNRESET' })
      return inner.call('book', READ, async () => 1)
    })
    await env.advance('10s')
    await result
    expect(told).toMatchObject([{ product: 12 }])
  })

  it('behind an await is told where the program has a context, as each handler and worker of an app has', async () => {
    const { kit, told } = world()
    const outer = aDependency('billing', 4, kit)
    const inner = aDependency('ledger', 3, kit)
    const pay = (): Promise<number> => outer.call('pay', READ, async () => {
      await Promise.resolve()
      return inner.call('book', READ, async () => 1)
    })
    await withContext({ component: 'handler pay' }, pay)
    expect(told).toMatchObject([{ outer: 'billing', inner: 'ledger', product: 12 }])
  })

  it('is not seen behind an await elsewhere: to see it would make every promise of the process dearer', async () => {
    const { kit, told } = world()
    const outer = aDependency('billing', 4, kit)
    const inner = aDependency('ledger', 3, kit)
    await outer.call('pay', READ, async () => {
      await Promise.resolve()
      return inner.call('book', READ, async () => 1)
    })
    expect(told).toEqual([])
  })

  it.each([
    ['the inner one never repeats', 4, 1, READ],
    ['the outer one never repeats', 1, 3, READ],
    ['the outer call is once', 4, 3, { effect: 'once' } as const],
  ])('is no warning where %s', async (_case, outerAttempts, innerAttempts, options) => {
    const { kit, told } = world()
    const outer = aDependency('billing', outerAttempts, kit)
    const inner = aDependency('ledger', innerAttempts, kit)
    await outer.call('pay', options, () => inner.call('book', READ, async () => 1))
    expect(told).toEqual([])
  })

  it('does not multiply what it warns of: the failure of the inner call is not repeated by the outer one', async () => {
    const { env, kit } = world()
    const outer = aDependency('billing', 4, kit)
    const inner = aDependency('ledger', 3, kit)
    let calls = 0
    const result = outer.call('pay', READ, () => inner.call('book', READ, () => { calls += 1; throw Object.assign(new Error('reset'), { code: 'ECONNRESET' }) })).catch(() => undefined)
    await env.advance('1m')
    await result
    expect(calls).toBe(3)
  })
})
