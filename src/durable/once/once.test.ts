import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { postgresStore, realServer, testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import type { SqlTx } from '../../store/index.ts'
import type { CallContext } from '../call-context.ts'
import type { DurableKit } from '../kit.ts'
import { once } from './once.ts'
import { oncePort } from './outcome.ts'
import type { Once, OutsideOnce } from './types.ts'

const Payment = z.object({ chargeId: z.string(), amount: z.number() })
type Payment = z.infer<typeof Payment>

const unreachable = (): Error => new TypeError('fetch failed', { cause: Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }) })
const hangUp = (): Error => Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' })

describe.each(testStores)('once on $name', store => {
  let world: TestWorld
  let keys = 0
  let p: Payment
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { p = { chargeId: `c${String(++keys)}`, amount: 100 } })

  const local = (kit: DurableKit<unknown>, write?: (payment: Payment) => Promise<void>): Once<Payment, { readonly paid: number }, unknown> => once('settle', {
    input: Payment, key: payment => payment.chargeId,
    write: async (payment, { tx }) => {
      await write?.(payment)
      await world.write(tx, payment.chargeId)
      return { paid: payment.amount }
    },
  }, kit)

  describe('a local effect', () => {
    it('happens, and is answered from the record afterwards', async () => {
      const settle = local(world.kit())
      expect(await settle(p)).toEqual({ outcome: 'done', value: { paid: 100 } })
      expect(await settle(p)).toEqual({ outcome: 'replayed', value: { paid: 100 } })
      expect((await world.written()).filter(text => text === p.chargeId)).toHaveLength(1)
    })

    it('happens once for 20 callers at once, on two instances', async () => {
      const a = local(world.kit('a'))
      const b = local(world.kit('b'))
      const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? a : b)(p)))
      expect(answers.filter(answer => answer.outcome === 'done')).toHaveLength(1)
      expect(new Set(answers.map(answer => answer.outcome))).toEqual(new Set(['done', 'replayed']))
      expect((await world.written()).filter(text => text === p.chargeId)).toHaveLength(1)
    })

    it('refuses the same key with another input, and changes nothing', async () => {
      const settle = local(world.kit())
      await settle(p)
      await expect(settle({ ...p, amount: 999 })).rejects.toMatchObject({ code: 'HF_KEY_REUSED' })
      expect((await world.written()).filter(text => text === p.chargeId)).toHaveLength(1)
    })

    it('that throws leaves nothing behind, and may happen later', async () => {
      let broken = true
      const settle = local(world.kit(), async () => { if (broken) throw new Error('balance is short') })
      await expect(settle(p)).rejects.toThrow('balance is short')
      broken = false
      expect((await settle(p)).outcome).toBe('done')
    })

    it('refuses a result that would not survive', async () => {
      const settle = once('bad', { input: Payment, key: payment => payment.chargeId, write: async () => new Date(0) as unknown as string }, world.kit())
      await expect(settle(p)).rejects.toMatchObject({ code: 'HF_RESULT_NOT_JSON' })
    })

    it('refuses an input that does not fit', async () => {
      await expect(local(world.kit())({ chargeId: 'x' } as Payment)).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    })

    it('is found done when the answer of its commit was lost', async () => {
      const kit = world.kit()
      let lose = true
      const settle = local({ ...kit, database: () => ({ ...proxy(world.database), transaction: async (name, work) => {
        const value = await world.database.transaction(name, work)
        if (lose) { lose = false; throw new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: 'lost' }) }
        return value
      } }) })
      expect(await settle(p)).toEqual({ outcome: 'replayed', value: { paid: 100 } })
      expect((await world.written()).filter(text => text === p.chargeId)).toHaveLength(1)
    })
  })

  describe('joined to a transaction', () => {
    it('commits and rolls back with it', async () => {
      const settle = local(world.kit())
      await expect(world.database.transaction('test.join', async tx => {
        expect((await settle(p, { tx })).outcome).toBe('done')
        throw new Error('changed my mind')
      })).rejects.toThrow('changed my mind')
      expect(await world.database.transaction('test.join', tx => settle(p, { tx }))).toEqual({ outcome: 'done', value: { paid: 100 } })
      expect(await world.database.transaction('test.join', tx => settle(p, { tx }))).toEqual({ outcome: 'replayed', value: { paid: 100 } })
      expect((await world.written()).filter(text => text === p.chargeId)).toHaveLength(1)
    })

    it('does not spoil it when its write fails', async () => {
      const settle = once('fragile', { input: Payment, key: payment => payment.chargeId, write: async (payment, { tx }) => {
        await world.write(tx, `half ${payment.chargeId}`)
        throw new Error('no')
      } }, world.kit())
      await world.database.transaction('test.join', async tx => {
        await world.write(tx, `before ${p.chargeId}`)
        await expect(settle(p, { tx })).rejects.toThrow('no')
        await world.write(tx, `after ${p.chargeId}`)
      })
      expect((await world.written()).filter(text => text.endsWith(` ${p.chargeId}`))).toEqual([`before ${p.chargeId}`, `after ${p.chargeId}`])
    })

    it('refuses an outside effect', async () => {
      const pay = outside(world.kit(), async () => ({ ref: 'r' }), 'hold')
      await expect(world.database.transaction('test.join', tx => pay(p, { tx }))).rejects.toMatchObject({ code: 'HF_CALL_IN_TX' })
      await expect(world.database.transaction('test.join', () => pay(p))).rejects.toMatchObject({ code: 'HF_CALL_IN_TX' })
    })
  })

  const outside = (kit: DurableKit<unknown>, call: (payment: Payment, context: CallContext) => Promise<{ ref: string }>, onUnknown: OutsideOnce<Payment, Payment, { ref: string }, unknown>['onUnknown']): Once<Payment, { ref: string }, unknown> =>
    once('pay', { input: Payment, key: payment => payment.chargeId, call, onUnknown, complete: async (result, { tx }) => { await world.write(tx, `${result.ref} ${p.chargeId}`) } }, kit)
  const reading = async (key: string): Promise<string | undefined> => (await world.database.transaction('test.read', tx => oncePort<unknown>(world.database).read(tx, 'pay', key)))?.state
  const completed = async (): Promise<number> => (await world.written()).filter(text => text.endsWith(` ${p.chargeId}`)).length

  describe('an outside effect', () => {
    it('is called with a key of its own, and completed with its local consequences', async () => {
      const seen: string[] = []
      const pay = outside(world.kit(), async (_, { key }) => { seen.push(key); return { ref: 'r' } }, 'retry')
      expect(await pay(p)).toEqual({ outcome: 'done', value: { ref: 'r' } })
      expect(await pay(p)).toEqual({ outcome: 'replayed', value: { ref: 'r' } })
      expect(seen).toHaveLength(1)
      expect(seen[0]).toMatch(/^[0-9a-f]{64}$/)
      expect(await completed()).toBe(1)
    })

    it('answers in-progress to a duplicate while it runs', async () => {
      let finish: (value: { ref: string }) => void = () => undefined
      const pay = outside(world.kit(), () => new Promise(resolve => { finish = resolve }), 'retry')
      const first = pay(p)
      await until(async () => (await reading(p.chargeId)) === 'started')
      expect((await pay(p)).outcome).toBe('in-progress')
      finish({ ref: 'r' })
      expect((await first).outcome).toBe('done')
    })

    it('releases the key when it surely did not happen', async () => {
      let failures = [unreachable(), Object.assign(new Error('card declined'), { status: 402 })]
      const pay = outside(world.kit(), async () => { const error = failures.shift(); if (error !== undefined) throw error; return { ref: 'r' } }, 'hold')
      await expect(pay(p)).rejects.toThrow('fetch failed')
      await expect(pay(p)).rejects.toThrow('card declined')
      expect((await pay(p)).outcome).toBe('done')
      failures = []
    })

    it('holds what nobody knows for a human', async () => {
      let calls = 0
      const pay = outside(world.kit(), async () => { calls += 1; if (calls === 1) throw hangUp(); return { ref: 'r' } }, 'hold')
      expect(await pay(p)).toEqual({ outcome: 'unknown' })
      expect(await pay(p)).toEqual({ outcome: 'unknown' })
      await world.elapse(400 * 86_400_000)
      await pay.sweep(100)
      expect(calls).toBe(1)
      expect(await pay.settleByHand(p.chargeId, 'retry', 'the provider has nothing')).toBe(true)
      expect((await pay(p)).outcome).toBe('done')
    })

    it('calls again with the same key where that is declared safe', async () => {
      const seen = new Set<string>()
      let calls = 0
      const pay = outside(world.kit(), async (_, { key }) => { seen.add(key); if (++calls === 1) throw hangUp(); return { ref: 'r' } }, 'retry')
      expect((await pay(p)).outcome).toBe('unknown')
      expect(await pay(p)).toEqual({ outcome: 'done', value: { ref: 'r' } })
      expect(seen.size).toBe(1)
      expect(world.names('once.settled').at(-1)?.data).toMatchObject({ key: p.chargeId, as: 'done' })
    })

    it('looks first where it can, and does not call again what happened', async () => {
      let calls = 0
      const pay = outside(world.kit(), async () => { calls += 1; throw hangUp() }, { verify: async () => ({ happened: true, value: { ref: 'found' } }) })
      expect((await pay(p)).outcome).toBe('unknown')
      expect(await pay(p)).toEqual({ outcome: 'done', value: { ref: 'found' } })
      expect(calls).toBe(1)
      expect(await completed()).toBe(1)
    })

    it('stays unknown when the look-up itself is refused: that says nothing about the effect', async () => {
      let calls = 0
      let lookups = 0
      const pay = outside(world.kit(), async () => { calls += 1; throw hangUp() }, { verify: async () => {
        if (++lookups === 1) throw Object.assign(new Error('no such page'), { status: 404 })
        return { happened: true, value: { ref: 'found' } }
      } })
      await pay(p)
      expect(await pay(p)).toEqual({ outcome: 'unknown' })
      expect(await pay(p)).toEqual({ outcome: 'done', value: { ref: 'found' } })
      expect(calls).toBe(1)
    })

    it('is not released by "not this time" while an earlier attempt may have happened', async () => {
      const failures = [hangUp(), unreachable()]
      const pay = outside(world.kit(), async () => { throw failures.shift() ?? unreachable() }, 'retry')
      expect((await pay(p)).outcome).toBe('unknown')
      expect((await pay(p)).outcome).toBe('unknown')
      await pay.settleByHand(p.chargeId, 'discard', 'end of the test')
    })

    it('is settled by the sweep when its holder died', async () => {
      const dead = world.kit('dead')
      void outside(dead, () => new Promise(() => undefined), 'retry')(p)
      await until(async () => (await reading(p.chargeId)) === 'started')
      dead.env.kill()
      await world.elapse(30_001)
      const sweeper = outside(world.kit('b'), async () => ({ ref: 'again' }), 'retry')
      expect(await sweeper.sweep(100)).toBeGreaterThan(0)
      expect(await sweeper(p)).toEqual({ outcome: 'replayed', value: { ref: 'again' } })
      expect(await completed()).toBe(1)
    })

    it('refuses the completion of a holder that was overtaken', async () => {
      let finish: (value: { ref: string }) => void = () => undefined
      const slow = outside(world.kit('slow'), () => new Promise(resolve => { finish = resolve }), 'retry')(p)
      const other = outside(world.kit('b'), async () => ({ ref: 'b' }), 'retry')
      await until(async () => (await reading(p.chargeId)) === 'started')
      await world.elapse(30_001)
      expect((await other(p)).outcome).toBe('done')
      finish({ ref: 'slow' })
      expect((await slow).outcome).toBe('in-progress')
      expect(await other(p)).toEqual({ outcome: 'replayed', value: { ref: 'b' } })
      expect(await completed()).toBe(1)
    })
  })
})

describe.skipIf(!realServer)('once on a real server', () => {
  let world: TestWorld
  beforeAll(async () => { world = await postgresStore.open() })
  afterAll(() => world.close())

  it('tells a duplicate "in-progress" instead of letting it wait for a long transaction', async () => {
    const settle = once('slow', { input: Payment, key: payment => payment.chargeId, write: async (_, { tx }) => { await (tx as SqlTx).query('SELECT pg_sleep(2)') } }, world.kit())
    const payment = { chargeId: 'slow', amount: 1 }
    const first = settle(payment)
    await new Promise(resolve => { setTimeout(resolve, 100) })
    const joined = await world.database.transaction('test.join', async tx => {
      const answer = await settle(payment, { tx })
      await world.write(tx, 'went on')
      return { answer, bound: (await (tx as SqlTx).query<{ t: string }>(`SELECT current_setting('lock_timeout') AS t`))[0]?.t }
    })
    expect(joined).toEqual({ answer: { outcome: 'in-progress', retryAfterMs: 1_000 }, bound: '3s' })
    expect((await first).outcome).toBe('done')
    expect(await world.written()).toContain('went on')
  })
})

function proxy(database: TestWorld['database']): TestWorld['database'] {
  return { dialect: database.dialect, durability: database.durability, transaction: database.transaction.bind(database), ping: () => database.ping(), close: () => database.close() }
}

/** Asks until it is so; each question is a round trip to the store, so it is no busy loop. */
async function until(done: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 200; i++) if (await done()) return
  throw new Error('never')
}
