/**
 * An outside effect while the store fails around it, and what is said of it: on the memory store, in simulated time.
 */
import { beforeEach, describe, expect, it } from 'vitest'
import { away, faultyStore, noAnswer, text, type FaultyStore } from '../../../test/faulty-store.ts'
import { HoldfastError, type EventName } from '../../core/index.ts'
import type { MemoryTx } from '../../store/index.ts'
import type { SimulatedEnv } from '../../testing/index.ts'
import { refuse } from '../failure.ts'
import type { DurableKit } from '../kit.ts'
import { once } from './once.ts'
import { oncePort } from './outcome.ts'
import type { OnceRecord } from './port.ts'
import type { Once, OutsideOnce } from './types.ts'

const hangUp = (): Error => new Error('socket hang up')
const unreachable = (): Error => Object.assign(new Error('no connection'), { code: 'ECONNREFUSED' })

let world: FaultyStore
let env: SimulatedEnv
let kit: DurableKit<MemoryTx>
let before: FaultyStore['before']
let after: FaultyStore['after']
beforeEach(async () => {
  world = await faultyStore();
  ({ env, kit, before, after } = world)
})

const pay = (change: Partial<OutsideOnce<string, string, string, MemoryTx>> = {}): Once<string, string, MemoryTx> => once('pay', { input: text, key: id => id, onUnknown: 'hold', lease: '30s', call: async id => `paid ${id}`, ...change }, kit)
const told = (name: EventName): readonly unknown[] => world.told(name)
const record = (): Promise<OnceRecord | undefined> => kit.database().transaction('test.read', tx => oncePort<MemoryTx>(kit.database()).read(tx, 'pay', 'a'))
const completions = (): readonly number[] => world.begun('once.complete')

describe('the record of an effect that has happened', () => {
  it('is written again, ever later, while the store is away', async () => {
    before['once.complete'] = [away(), away()]
    const paid = pay()('a')
    await env.advance(1_000)
    expect([await paid, completions()]).toEqual([{ outcome: 'done', value: 'paid a' }, [0, 200, 600]])
    expect(told('once.done')).toEqual([{ once: 'pay', key: 'a' }])
    expect(env.pendingTimers).toBe(0)
  })

  it('is called unknown after three times in vain, and the caller is told why', async () => {
    before['once.complete'] = [away(), away(), away(), away()]
    const paid = pay()('a').catch((error: unknown) => error)
    await env.advance(5_000)
    expect([await paid, completions(), (await record())?.state]).toEqual([expect.objectContaining({ code: 'HF_STORE_UNAVAILABLE' }), [0, 200, 600], 'unknown'])
    expect(told('once.unknown')).toEqual([{ once: 'pay', key: 'a', policy: 'hold' }])
  })

  it('stays with its lease where not even that can be written', async () => {
    before['once.complete'] = [away(), away(), away()]
    before['once.unknown'] = [away()]
    const paid = pay()('a').catch((error: unknown) => error)
    await env.advance(5_000)
    expect([await paid, (await record())?.state, told('once.unknown')]).toEqual([expect.objectContaining({ code: 'HF_STORE_UNAVAILABLE' }), 'started', []])
    expect(await pay()('a')).toEqual({ outcome: 'in-progress', retryAfterMs: 1_000 })
    await env.advance(30_000)
    expect(await pay()('a')).toEqual({ outcome: 'unknown' })
    expect(told('once.unknown')).toEqual([{ once: 'pay', key: 'a', policy: 'hold' }])
  })

  it('is not tried again after an error that asking again does not mend', async () => {
    let completed = 0
    await expect(pay({ complete: async () => { completed += 1; throw new Error('no such account') } })('a')).rejects.toThrow('no such account')
    expect([completed, completions().length, (await record())?.state]).toEqual([1, 1, 'unknown'])
    before['once.complete'] = [new HoldfastError('HF_QUERY_FAILED', { message: 'no such column' })]
    await expect(pay()('b')).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
    expect(completions().length).toBe(2)
  })

  it('is found where the answer of its commit was lost, and its consequences happen once', async () => {
    let completed = 0
    after['once.complete'] = [noAnswer()]
    const paid = pay({ complete: async () => { completed += 1 } })('a')
    await env.advance(1_000)
    expect([await paid, completed, told('once.done'), told('lease.lost')]).toEqual([{ outcome: 'done', value: 'paid a' }, 1, [{ once: 'pay', key: 'a' }], []])
  })

  it('is refused to a holder that was overtaken, which says that it lost', async () => {
    const paid = pay({ call: async id => {
      // A human has ended it meanwhile, and the fence moved on.
      await kit.database().transaction('test.end', async tx => {
        const port = oncePort<MemoryTx>(kit.database())
        await port.markUnknown(tx, 'pay', 'a', 1, 'test', 0)
        await port.settleByHand(tx, 'pay', 'a', 'discarded', 'test', 1_000)
      })
      return id
    } })('a')
    expect(await paid).toEqual({ outcome: 'in-progress', retryAfterMs: 200 })
    expect([told('lease.lost'), told('once.done')]).toEqual([[{ lease: 'once:pay', fence: 1, reason: 'its completion was refused' }], []])
  })
})

describe('an outcome', () => {
  it('that was unknown and is found to have happened is settled and not done', async () => {
    const verified = pay({ call: async () => { throw hangUp() }, onUnknown: { verify: async () => ({ happened: true, value: 'found' }) } })
    expect(await verified('a')).toEqual({ outcome: 'unknown' })
    expect(told('once.unknown')).toEqual([{ once: 'pay', key: 'a', policy: 'verify' }])
    expect(await verified('a')).toEqual({ outcome: 'done', value: 'found' })
    expect([told('once.settled'), told('once.done')]).toEqual([[{ once: 'pay', key: 'a', as: 'done' }], []])
    expect(await verified('a')).toEqual({ outcome: 'replayed', value: 'found' })
    expect(told('once.replayed')).toEqual([{ once: 'pay', key: 'a' }])
  })

  it.each([
    // A refusal under the same key speaks for the attempts before it; that there was no connection this time does not.
    ['refused', 'after no look', refuse('no'), 'retry', 'released'],
    ['unreachable', 'after no look', unreachable(), 'retry', 'unknown'],
    ['unreachable', 'after a look that found nothing', unreachable(), { verify: async () => ({ happened: false as const }) }, 'released'],
  ] as const)('that was unknown, then %s, %s', async (_what, _look, error, onUnknown, state) => {
    const errors: Error[] = [hangUp(), error]
    const tried = pay({ call: async () => { throw errors.shift() ?? new Error('called once more') }, onUnknown })
    expect(await tried('a')).toEqual({ outcome: 'unknown' })
    if (state === 'released') await expect(tried('a')).rejects.toBe(error)
    else expect(await tried('a')).toEqual({ outcome: 'unknown' })
    expect((await record())?.state).toBe(state)
    // After a look the second attempt is the first that may have happened: nothing was unsettled any more.
    expect(told('once.settled')).toEqual(error.message === 'no' ? [{ once: 'pay', key: 'a', as: 'released' }] : [])
  })

  it('of a first attempt that surely did not happen is released without a word, and thrown on', async () => {
    const error = unreachable()
    await expect(pay({ call: async () => { throw error } })('a')).rejects.toBe(error)
    expect([(await record())?.state, told('once.settled'), told('once.unknown')]).toEqual(['released', [], []])
  })

  it('is settled by hand, and only where it is unknown', async () => {
    const held = pay({ call: async () => { throw hangUp() } })
    await held('a')
    expect([await held.settleByHand('b', 'retry', 'typed wrong'), told('once.settled')]).toEqual([false, []])
    expect([await held.settleByHand('a', 'retry', 'looked'), told('once.settled')]).toEqual([true, [{ once: 'pay', key: 'a', as: 'released by hand' }]])
    await held('a')
    expect([await held.settleByHand('a', 'discard', 'paid back'), told('once.settled').at(-1)]).toEqual([true, { once: 'pay', key: 'a', as: 'discarded by hand' }])
  })

  it('is left to a human by the sweep of `hold`, also when its holder died', async () => {
    let calls = 0
    const hung = pay({ call: async () => { calls += 1; throw hangUp() } })
    await hung('a')
    await env.advance('1h')
    expect([await hung.sweep(10), calls]).toEqual([0, 1])
    const again = pay({ call: async () => { calls += 1; return 'paid' }, onUnknown: 'retry' })
    expect([await again.sweep(10), calls, (await record())?.state]).toEqual([1, 2, 'done'])
    expect([await again.sweep(10), calls]).toEqual([0, 2])
  })
})

describe('a sweep', () => {
  it('settles as many keys as it may, and one key twenty times at most; a caller may go on', async () => {
    let calls = 0
    const hopeless = pay({ call: async () => { calls += 1; throw hangUp() }, onUnknown: 'retry' })
    for (const key of ['a', 'b']) await hopeless(key)
    await env.advance(30_000)
    expect([await hopeless.sweep(1), calls]).toEqual([1, 3])
    for (let i = 0; i < 40; i++) {
      await env.advance(30_000)
      await hopeless.sweep(10)
    }
    expect([calls, (await record())?.attempts]).toEqual([40, 20])
    expect([await hopeless('a'), (await record())?.attempts]).toEqual([{ outcome: 'unknown' }, 21])
    const waiting = await kit.database().transaction('test.unknown', tx => oncePort<MemoryTx>(kit.database()).unknown(tx, 1))
    expect(waiting.map(({ key }) => key)).toEqual(['b'])
  })
})

describe('a call whose lease is lost while it is out', () => {
  it.each([['answers', 'paid late'], ['fails', hangUp()]] as const)('and that %s then says nothing, for another has it', async (_how, answer) => {
    const paid = pay({ call: async () => { await env.sleep(60_000); if (typeof answer === 'string') return answer; throw answer } })('a')
    await env.advance(1_000)
    // No heartbeat is answered any more.
    before['once.renew'] = Array.from({ length: 100 }, away)
    await env.advance(60_000)
    expect(told('lease.lost')).toEqual([{ lease: 'once:pay', fence: 1, reason: 'it ran out before the store confirmed it again' }])
    // Late, but taken by nobody: a result is better than a guess; a failure is nothing that could be said under a lost lease.
    expect(await paid).toEqual(typeof answer === 'string' ? { outcome: 'done', value: 'paid late' } : { outcome: 'in-progress', retryAfterMs: 200 })
    expect([told('once.unknown'), env.pendingTimers]).toEqual([[], 0])
  })

  it('is renewed for as long as the store answers', async () => {
    const paid = pay({ call: async () => { await env.sleep(100_000); return 'paid' } })('a')
    await env.advance(101_000)
    expect([await paid, told('lease.lost'), world.begun('once.renew').length]).toEqual([{ outcome: 'done', value: 'paid' }, [], 10])
  })
})

describe('a call whose lease was lost, and that then is refused, or its look,', () => {
  it('is another\'s to tell: nothing is released or thrown under a lost lease', async () => {
    const lose = async (): Promise<void> => { before['once.renew'] = Array.from({ length: 100 }, away); await env.sleep(40_000) }
    const refused = pay({ call: async () => { await lose(); throw refuse('no') } })('a')
    await env.advance(41_000)
    expect([await refused, (await record())?.state]).toEqual([{ outcome: 'in-progress', retryAfterMs: 200 }, 'started'])
    const looking = pay({ call: async () => { throw hangUp() }, onUnknown: { verify: async () => { await lose(); throw hangUp() } } })
    expect(await looking('b')).toEqual({ outcome: 'unknown' })
    const looked = looking('b')
    await env.advance(41_000)
    expect([await looked, world.begun('once.unknown').length]).toEqual([{ outcome: 'in-progress', retryAfterMs: 200 }, 1])
  })
})

describe('a caller that gives up', () => {
  it('before anything was claimed has changed nothing', async () => {
    const signal = AbortSignal.abort()
    await expect(pay()('a', { signal })).rejects.toMatchObject({ code: 'HF_CANCELLED' })
    const local = once('pay', { input: text, key: id => id, write: async () => 'written' }, kit)
    await expect(local('a', { signal })).rejects.toMatchObject({ code: 'HF_CANCELLED' })
    expect(await record()).toBeUndefined()
  })
})

describe('a local effect', () => {
  it('is told when it is committed, and not where another transaction may still take it back', async () => {
    const local = once('pay', { input: text, key: id => id, write: async () => 'written' }, kit)
    await local('a')
    expect(world.told('once.done')).toEqual([{ once: 'pay', key: 'a' }])
    await kit.database().transaction('mine', tx => local('b', { tx }))
    expect(world.told('once.done')).toHaveLength(1)
  })

  it('that asks for its own key while it is written is in progress', async () => {
    const inner: unknown[] = []
    const local: Once<string, string, MemoryTx> = once('pay', { input: text, key: id => id, write: async (id, { tx }): Promise<string> => { inner.push(await local(id, { tx })); return 'written' } }, kit)
    expect([await local('a'), inner]).toEqual([{ outcome: 'done', value: 'written' }, [{ outcome: 'in-progress', retryAfterMs: 1_000 }]])
  })
})

describe('what is refused', () => {
  it('names the effect, and the key or the transaction', async () => {
    const paying = once('pay', { input: text, key: () => 'same', onUnknown: 'hold', call: async () => 'paid' }, kit)
    await paying('a')
    await expect(paying('b')).rejects.toMatchObject({ code: 'HF_KEY_REUSED', context: { once: 'pay', key: 'same' } })
    await expect(kit.database().transaction('mine', () => paying('a'))).rejects.toMatchObject({ code: 'HF_CALL_IN_TX', context: { once: 'pay', transaction: 'mine' } })
    await expect(kit.database().transaction('mine', tx => paying('a', { tx }))).rejects.toMatchObject({ code: 'HF_CALL_IN_TX', context: { once: 'pay' } })
    expect(() => pay({ lease: '999ms' })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    expect(() => pay({ keepFor: '59s' })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    expect([pay({ lease: '1s', keepFor: '1m' }).name, pay({ runbook: 'RUNBOOK#pay' }).runbook]).toEqual(['pay', 'RUNBOOK#pay'])
  })

  it('while another is at it, says when to ask again: what is left of its lease, within bounds', async () => {
    const slow = pay({ lease: '5s', call: async () => { await env.sleep(6_000); return 'paid' } })
    const first = slow('a')
    await env.settle()
    before['once.renew'] = Array.from({ length: 100 }, away)
    expect(await slow('a')).toEqual({ outcome: 'in-progress', retryAfterMs: 1_000 })
    await env.advance(4_200)
    expect(await slow('a')).toEqual({ outcome: 'in-progress', retryAfterMs: 800 })
    await env.advance(750)
    expect(await slow('a')).toEqual({ outcome: 'in-progress', retryAfterMs: 100 })
    await env.advance(2_000)
    expect((await first).outcome).toBe('done')
  })
})
