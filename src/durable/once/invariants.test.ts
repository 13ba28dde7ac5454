/**
 * The invariants of idempotency, I1 to I8, that ./once.test.ts does not name; isolation levels, retention and bounded waits; each with its control.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { postgresStore, realServer, testStores, type TestWorld } from '../../../test/durable-stores.ts'
import type { Json } from '../../core/index.ts'
import type { SqlTx } from '../../store/index.ts'
import { once } from './once.ts'
import { oncePort } from './outcome.ts'
import { onceSql } from './sql.ts'
import type { Once, OnceOutcome } from './types.ts'

const Order = z.object({ id: z.string(), amount: z.number(), at: z.string().optional() })
type Order = z.infer<typeof Order>

describe.each(testStores)('once on $name', store => {
  let world: TestWorld
  let count = 0
  let order: Order
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { order = { id: `o${String(++count)}`, amount: 100 } })

  const local = (name = 'pay', keepFor: '1m' | '72h' = '72h', instance = 'one'): Once<Order, string, unknown> => once(name, {
    input: Order, key: ({ id }) => id, keepFor, write: async ({ id }, { tx }) => { await world.write(tx, `${name} ${id}`); return `${name} ${id}` },
  }, world.kit(instance))
  const effects = async (): Promise<number> => (await world.written()).filter(text => text.endsWith(` ${order.id}`)).length
  const prune = (): Promise<number> => world.database.transaction('test.prune', tx => oncePort<unknown>(world.database).prune(tx, 1_000))

  it('I1: one effect per key, for 100 callers on four instances', async () => {
    const instances = ['a', 'b', 'c', 'd'].map(name => local('pay', '72h', name))
    const ask = (index: number): Promise<OnceOutcome<string>> => instances[index % 4]?.(order) ?? local()(order)
    const answers = await Promise.all(Array.from({ length: 100 }, (_, index) => ask(index)))
    expect(answers.filter(({ outcome }) => outcome === 'done')).toHaveLength(1)
    expect(answers.every(({ outcome }) => ['done', 'replayed', 'in-progress'].includes(outcome))).toBe(true)
    expect(await effects()).toBe(1)
  })

  it('I2: a replay is byte for byte the first answer, by whichever instance, however its input is written', async () => {
    const value: Json = { b: 1, a: [1e21, -0.1, 1.0, 5e-324], text: 'ü\u0000\u2028"\\😀', nested: { z: null, y: [{}, []] }, '10': 1, '9': 2 }
    const make = (instance: string): Once<Order, Json, unknown> => once('bytes', { input: Order, key: ({ id }) => id, write: async (): Promise<Json> => value }, world.kit(instance))
    const first = await make('a')(order)
    const second = await make('b')({ amount: order.amount, id: order.id })
    expect([first.outcome, second.outcome]).toEqual(['done', 'replayed'])
    expect(JSON.stringify('value' in second ? second.value : undefined)).toBe(JSON.stringify('value' in first ? first.value : undefined))
    expect(JSON.stringify('value' in first ? first.value : undefined)).toBe(JSON.stringify(value))
  })

  it('I3: what must be the same can be declared: a time stamp of the sender makes no other input, an amount does', async () => {
    const make = (only: boolean): Once<Order, string, unknown> => once(only ? 'declared' : 'whole', {
      input: Order, key: ({ id }) => id, ...(only ? { fingerprint: ({ amount }: Order) => ({ amount }) } : {}), write: async ({ id }) => id,
    }, world.kit())
    for (const only of [true, false]) await make(only)({ ...order, at: '10:00' })
    expect((await make(true)({ ...order, at: '10:01' })).outcome).toBe('replayed')
    await expect(make(true)({ ...order, amount: 1 })).rejects.toMatchObject({ code: 'HF_KEY_REUSED' })
    await expect(make(false)({ ...order, at: '10:01' })).rejects.toMatchObject({ code: 'HF_KEY_REUSED' })
  })

  it('I7: an answer is kept for as long as was declared, and forgotten after it; control: then it happens again', async () => {
    const pay = local('short', '1m')
    await pay(order)
    await world.elapse(59_000)
    await prune()
    expect((await pay(order)).outcome).toBe('replayed')
    await world.elapse(2_000)
    await prune()
    expect((await pay(order)).outcome).toBe('done')
    expect(await effects()).toBe(2)
  })

  it('I7: a replay does not shorten what is kept, and an answer that is over is still one until it is pruned', async () => {
    const pay = local('short', '1m')
    await pay(order)
    await world.elapse(61_000)
    expect((await pay(order)).outcome).toBe('replayed')
    expect(await effects()).toBe(1)
  })

  it('I5, I7: what nobody knows is never forgotten, and never repeated by itself', async () => {
    let calls = 0
    const pay = once('held', { input: Order, key: ({ id }) => id, keepFor: '1m', onUnknown: 'hold', call: async () => { calls += 1; throw Object.assign(new Error('reset'), { code: 'ECONNRESET' }) } }, world.kit())
    expect((await pay(order)).outcome).toBe('unknown')
    await world.elapse(3_650 * 86_400_000)
    for (let i = 0; i < 3; i++) { await prune(); await pay.sweep(100) }
    expect([(await pay(order)).outcome, calls]).toEqual(['unknown', 1])
  })

  it('I8: the same key under another name is another key', async () => {
    expect([(await local('one')(order)).outcome, (await local('two')(order)).outcome, (await local('one')(order)).outcome]).toEqual(['done', 'done', 'replayed'])
    expect(await effects()).toBe(2)
  })

  it('refuses keys that no index bears', async () => {
    for (const id of ['', 'x'.repeat(301)]) await expect(local()({ ...order, id })).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    expect((await local()({ ...order, id: 'x'.repeat(300) })).outcome).toBe('done')
  })

  it('control for I1: with a claim that never finds the key taken, it happens again', async () => {
    const port = oncePort<unknown>(world.database)
    const begin = vi.spyOn(port, 'begin').mockResolvedValue(true)
    const finish = vi.spyOn(port, 'finish').mockResolvedValue()
    try {
      for (let i = 0; i < 2; i++) await local()(order)
      expect(await effects()).toBe(2)
    } finally {
      begin.mockRestore()
      finish.mockRestore()
    }
  })
})

describe.skipIf(!realServer)('joined under stricter isolation, on a real server', () => {
  let world: TestWorld
  beforeAll(async () => { world = await postgresStore.open() })
  afterAll(() => world.close())
  const pay = (): Once<Order, number, unknown> => once('strict', { input: Order, key: ({ id }) => id, write: async ({ id, amount }, { tx }) => { await world.write(tx, id); return amount } }, world.kit())

  /** Eight callers at once, each in a transaction of its own that has read before. */
  async function race(level: string, id: string, conflictRetries: number): Promise<PromiseSettledResult<OnceOutcome<number>>[]> {
    const subject = pay()
    return Promise.allSettled(Array.from({ length: 8 }, () => world.database.transaction('test.strict', async tx => {
      await (tx as SqlTx).query(`SET TRANSACTION ISOLATION LEVEL ${level}`)
      await (tx as SqlTx).query('SELECT count(*) FROM effect')
      return subject({ id, amount: 5 }, { tx })
    }, { conflictRetries })))
  }

  it.each(['REPEATABLE READ', 'SERIALIZABLE'])('%s: one effect; a duplicate fails with HF_STORE_CONFLICT, and its transaction, run again, gets the answer', async level => {
    const id = `retried ${level}`
    const answers = await race(level, id, 20)
    expect(answers.map(answer => answer.status)).toEqual(Array.from({ length: 8 }, () => 'fulfilled'))
    const outcomes = answers.map(answer => (answer.status === 'fulfilled' ? answer.value.outcome : 'failed'))
    expect(outcomes.filter(outcome => outcome === 'done')).toHaveLength(1)
    expect((await world.written()).filter(text => text === id)).toHaveLength(1)
  })

  it.each(['REPEATABLE READ', 'SERIALIZABLE'])('control: %s without running it again: the conflict is the caller\'s to see, and still there is one effect', async level => {
    const id = `seen ${level}`
    const answers = await race(level, id, 0)
    const failed = answers.filter((answer): answer is PromiseRejectedResult => answer.status === 'rejected')
    expect(failed.length).toBeGreaterThan(0)
    for (const { reason } of failed) expect(reason).toMatchObject({ code: 'HF_STORE_CONFLICT' })
    expect((await world.written()).filter(text => text === id)).toHaveLength(1)
  })
})

describe.skipIf(!realServer)('waits are bounded, on a real server', () => {
  let world: TestWorld
  beforeAll(async () => { world = await postgresStore.open() })
  afterAll(() => world.close())

  it('a duplicate waits no longer than the store\'s lock timeout, then says in-progress; control: without the bound it would still wait', async () => {
    const slow = once('slow', { input: Order, key: ({ id }) => id, write: async (_order, { tx }) => { await (tx as SqlTx).query('SELECT pg_sleep(4)') } }, world.kit())
    const order = { id: 'slow', amount: 1 }
    const first = slow(order)
    for (let begun = false; !begun;) begun = (await world.database.transaction('test.look', tx => (tx as SqlTx).query(`SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(4)%' AND datname = current_database()`))).length > 0
    let answered = false
    const unbounded = world.database.transaction('test.unbounded', async tx => {
      await (tx as SqlTx).query('SET LOCAL lock_timeout = 0')
      return onceSql.begin(tx as SqlTx, { name: 'slow', key: 'slow', fingerprint: 'f', keepForMs: 60_000 })
    }).finally(() => { answered = true })
    expect(await slow(order)).toEqual({ outcome: 'in-progress', retryAfterMs: 1_000 })
    expect(answered).toBe(false)
    expect((await first).outcome).toBe('done')
    expect(await unbounded).toBe(false)
  })
})
