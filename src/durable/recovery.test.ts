import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { testStores, type TestWorld } from '../../test/durable-stores.ts'
import type { Json } from '../core/index.ts'
import { inbox, once, outbox, recovery, refuse, saga, type DurableKit, type Once, type Outbox, type Recovery, type Saga } from './index.ts'

const Order = z.object({ id: z.string() })
const never = <T>(): Promise<T> => new Promise(() => undefined)

describe.each(testStores)('recovery on $name', store => {
  let world: TestWorld
  beforeEach(async () => { world = await store.open() })
  afterEach(() => world.close())

  interface Service {
    readonly pay: Once<{ id: string }, string, unknown>
    readonly provision: Saga<{ id: string }, string>
    readonly out: Outbox<unknown>
    readonly recovery: Recovery
  }
  const service = (kit: DurableKit<unknown>, work: () => Promise<string>): Service => {
    const pay = once('pay', { input: Order, key: ({ id }) => id, call: work, onUnknown: 'hold', runbook: 'payment-unknown' }, kit)
    const provision = saga('provision', { version: 1, input: Order, runbook: 'provisioning-stuck', run: async step => step('make', { effect: 'idempotent', run: work }) }, kit)
    const out = outbox<unknown>({}, kit)
    out.topic('notice', { send: async () => { throw refuse('blocked') }, runbook: 'blocked' })
    const sources = {
      onces: () => [pay as unknown as Once<unknown, Json | void, unknown>],
      sagas: () => [provision as unknown as Saga<unknown, Json | void>],
      inbox: inbox<unknown>({}, kit), outbox: out,
    }
    return { pay, provision, out, recovery: recovery(sources, kit) }
  }

  it('takes up on another instance what a death left, and lists what needs a person with its runbook', async () => {
    const dead = world.kit('dead')
    let begun = 0
    const victim = service(dead, () => { begun += 1; return never() })
    void victim.pay({ id: '1' })
    void victim.provision.start('1', { id: '1' })
    for (let i = 0; i < 300 && begun < 2; i++) await world.database.transaction('test.wait', () => new Promise(resolve => { setImmediate(resolve) }))
    dead.env.kill()
    const next = service(world.kit('next'), async () => 'made')
    await next.recovery.sweep()
    expect(await next.provision.start('1', { id: '1' })).toMatchObject({ outcome: 'running' })
    await world.elapse(30_001)
    await next.recovery.sweep()
    expect(await next.provision.start('1', { id: '1' })).toEqual({ outcome: 'done', value: 'made' })
    expect(await next.pay({ id: '1' })).toEqual({ outcome: 'unknown' })
    await world.database.transaction('test.put', tx => next.out.enqueue(tx, { lane: 'chat:1', topic: 'notice', onceKey: 'k', payload: null }))
    await next.out.relay()
    expect(await next.recovery.workItems(10)).toMatchObject([
      { kind: 'once', name: 'pay', id: '1', state: 'unknown', runbook: 'payment-unknown' },
      { kind: 'outbox', name: 'notice', id: 'k', state: 'dead', reason: 'blocked', runbook: 'blocked' },
    ])
    expect(world.names('sweep.done').at(-1)?.data).toMatchObject({ sagas: 1, keys: 1 })
  })

  it('lets no feature that cannot be swept keep the others, and says so', async () => {
    const kit = world.kit('a')
    const broken: DurableKit<unknown> = { ...kit, database: () => ({
      dialect: world.database.dialect, durability: world.database.durability, ping: () => world.database.ping(), close: () => world.database.close(),
      transaction: (name, work, options) => name === 'saga.due' ? Promise.reject(new Error('no such table')) : world.database.transaction(name, work, options),
    }) }
    await expect(service(broken, async () => 'made').recovery.sweep()).rejects.toThrow('saga provision: no such table')
    expect(world.names('sweep.done')).toHaveLength(1)
  })

  it('forgets what is over after its time, and never what waits for a person', async () => {
    const subject = service(world.kit('a'), async () => 'made')
    await subject.pay({ id: 'old' })
    await subject.provision.start('old', { id: 'old' })
    const unknown = service(world.kit('b'), () => Promise.reject(new Error('hung up')))
    expect(await unknown.pay({ id: 'open' })).toEqual({ outcome: 'unknown' })
    await world.elapse(91 * 86_400_000)
    await subject.recovery.sweep()
    expect(await subject.pay({ id: 'old' })).toEqual({ outcome: 'done', value: 'made' })
    expect(await subject.pay({ id: 'open' })).toEqual({ outcome: 'unknown' })
    expect((await subject.recovery.workItems(10)).map(item => item.id)).toEqual(['open'])
  })
})
