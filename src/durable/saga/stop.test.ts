import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import { refuse } from '../failure.ts'
import type { DurableKit } from '../kit.ts'
import { alice, bob, hangUp, never, SagaWorld, unreachable, type Input, type Options } from '../../../test/saga-world.ts'
import type { Saga } from './types.ts'

describe.each(testStores)('on $name', store => {
  let world: TestWorld
  let count = 0
  let at: SagaWorld
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { at = new SagaWorld(world, 300 + ++count) })

  /** Two steps with undos around `middle`. */
  const three = (middle: (signal: AbortSignal) => Promise<unknown>, options: Partial<Omit<Options, 'run' | 'input'>> = {}, kit: DurableKit<unknown> = world.kit()): Saga<Input, string> => at.define(async step => {
    await step('a', { effect: 'idempotent', run: async () => { at.log.push('a') }, undo: async () => { at.log.push('-a') } })
    await step('b', { effect: 'idempotent', run: async ({ signal }) => { await middle(signal); at.log.push('b') }, undo: async () => { at.log.push('-b') } })
    await step('c', { effect: 'idempotent', run: async () => { at.log.push('c') } })
    return 'done'
  }, options, kit)
  const aborted = (signal: AbortSignal): Promise<never> => new Promise((_, reject) => { signal.addEventListener('abort', () => { reject(signal.reason as Error) }) })

  describe('a cancelled run', () => {
    it('that waits is undone at once', async () => {
      const subject = three(() => Promise.reject(unreachable()))
      await at.start(subject)
      expect(await subject.cancel(at.id, 'not wanted', alice)).toEqual({ outcome: 'undone', reason: 'cancelled by cli:alice: not wanted' })
      expect(await at.start(subject)).toEqual({ outcome: 'undone', reason: 'cancelled by cli:alice: not wanted' })
      expect(at.log).toEqual(['a', '-a'])
      expect(at.told('saga.cancelled')).toMatchObject([{ id: at.id, actor: 'cli:alice', reason: 'not wanted' }])
    })

    it('that this process holds is told through the signal; what may have happened is settled before it is undone', async () => {
      let tries = 0
      const subject = three(async signal => { if (++tries === 1) await aborted(signal) })
      const running = at.start(subject)
      await at.until(() => tries === 1)
      expect((await subject.cancel(at.id, 'stop', alice)).outcome).toBe('undoing')
      expect((await running).outcome).toBe('running')
      await world.elapse(2_001)
      expect(await subject.sweep(10)).toBe(1)
      expect((await at.start(subject)).outcome).toBe('undone')
      expect(at.log).toEqual(['a', 'b', '-b', '-a'])
    })

    it('whose step says that it surely did not happen is undone in the same turn', async () => {
      let begun = false
      const subject = three(async signal => {
        begun = true
        await aborted(signal).catch(() => { throw new HoldfastError('HF_CALL_FAILED', { message: 'stopped', context: { applied: false } }) })
      })
      const running = at.start(subject)
      await at.until(() => begun)
      await subject.cancel(at.id, 'stop', alice)
      expect(await running).toEqual({ outcome: 'undone', reason: 'cancelled by cli:alice: stop' })
      expect(at.log).toEqual(['a', '-a'])
    })

    it('that another process holds goes no step further', async () => {
      let go = (): void => undefined
      const holder = at.start(three(() => new Promise<void>(resolve => { go = resolve }), {}, world.kit('holder')))
      await at.until(async () => (await at.states()).includes('b intent'))
      expect(await three(async () => undefined, {}, world.kit('other')).cancel(at.id, 'stop', bob)).toEqual({ outcome: 'undoing', reason: 'cancelled by cli:bob: stop' })
      go()
      expect(await holder).toEqual({ outcome: 'undone', reason: 'cancelled by cli:bob: stop' })
      expect(at.log).toEqual(['a', 'b', '-b', '-a'])
      expect(await at.states()).toBe('a undone, b undone, c clear')
    })

    it('that another process holds aborts its step by a heartbeat', async () => {
      let reason: unknown
      const kit = world.kit('holder')
      const holder = at.start(three(async signal => { await aborted(signal).catch((error: unknown) => { reason = error; throw error }) }, {}, kit))
      await at.until(async () => (await at.states()).includes('b intent'))
      await three(async () => undefined, {}, world.kit('other')).cancel(at.id, 'stop', bob)
      await kit.env.advance('5s')
      await at.until(() => reason !== undefined)
      expect(reason).toMatchObject({ code: 'HF_CANCELLED' })
      expect((await holder).outcome).toBe('running')
    })

    it('is undone even where its last step had ended already', async () => {
      const subject = at.define(async step => {
        await step('a', { effect: 'idempotent', run: async () => { at.log.push('a') }, undo: async () => { at.log.push('-a') } })
        await three(async () => undefined, {}, world.kit('other')).cancel(at.id, 'stop', bob)
        return 'done'
      })
      expect(await at.start(subject)).toEqual({ outcome: 'undone', reason: 'cancelled by cli:bob: stop' })
      expect(at.log).toEqual(['a', '-a'])
    })

    it('that needed a human is settled or undone, or needs one again', async () => {
      const held = at.define(async step => {
        await step('a', { effect: 'idempotent', run: async () => { at.log.push('a') }, undo: async () => { at.log.push('-a') } })
        await step('charge', { effect: 'once', verify: 'hold', run: async () => { throw hangUp() } })
        return ''
      })
      expect((await at.start(held)).outcome).toBe('needs-human')
      expect(await held.cancel(at.id, 'stop', alice)).toMatchObject({ outcome: 'needs-human' })
      expect(await held.resolveStep(at.id, { happened: false }, 'nothing at the bank', alice)).toBe(true)
      expect(await held.cancel(at.id, 'again', alice)).toEqual({ outcome: 'undone', reason: 'cancelled by cli:alice: stop' })
      expect(at.log).toEqual(['a', '-a'])
    })

    it('is not one that is over, being undone, or not there', async () => {
      const subject = three(async () => undefined)
      expect(await subject.cancel(at.id, 'stop', alice)).toMatchObject({ outcome: 'refused', why: 'not-found' })
      await at.start(subject)
      expect(await subject.cancel(at.id, 'stop', alice)).toEqual({ outcome: 'refused', why: 'over', reason: 'it is done' })
    })

    it('whose commit answer is lost is cancelled once', async () => {
      const kit = world.kit()
      let lose = true
      const flaky: DurableKit<unknown> = { ...kit, database: () => ({
        ...kit.database(), dialect: world.database.dialect, ping: () => world.database.ping(), close: () => world.database.close(),
        transaction: async (tx, work, options) => {
          const value = await world.database.transaction(tx, work, options)
          if (lose && tx === 'saga.cancel') { lose = false; throw new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: 'lost' }) }
          return value
        },
      }) }
      const subject = three(() => Promise.reject(unreachable()), {}, flaky)
      await at.start(subject)
      expect((await subject.cancel(at.id, 'stop', alice)).outcome).toBe('undone')
      expect(at.log).toEqual(['a', '-a'])
    })

    it('control: one that is not cancelled goes on', async () => {
      let go = (): void => undefined
      const holder = at.start(three(() => new Promise<void>(resolve => { go = resolve })))
      await at.until(async () => (await at.states()).includes('b intent'))
      go()
      expect((await holder).outcome).toBe('done')
    })
  })

  describe('a deadline', () => {
    it('that has passed undoes a run that waits', async () => {
      const subject = three(() => Promise.reject(unreachable()), { deadline: '1h' })
      await at.start(subject)
      await world.elapse(3_600_001)
      await subject.sweep(10)
      expect(await at.start(subject)).toEqual({ outcome: 'undone', reason: 'its deadline has passed' })
      expect(at.log).toEqual(['a', '-a'])
    })

    it('lets no step begin, by the database\'s clock', async () => {
      let go = (): void => undefined
      const holder = at.start(three(() => new Promise<void>(resolve => { go = resolve }), { deadline: '10s' }))
      await at.until(async () => (await at.states()).includes('b intent'))
      await world.elapse(10_001)
      go()
      expect(await holder).toEqual({ outcome: 'undone', reason: 'its deadline has passed' })
      expect(at.log).toEqual(['a', 'b', '-b', '-a'])
    })

    it('aborts the step that is at work', async () => {
      const kit = world.kit('one')
      let reason: unknown
      const holder = at.start(three(async signal => { await aborted(signal).catch((error: unknown) => { reason = error; throw error }) }, { deadline: '3s' }, kit))
      await at.until(async () => (await at.states()).includes('b intent'))
      await kit.env.advance('3s')
      await at.until(() => reason !== undefined)
      expect((await holder).outcome).toBe('running')
    })

    it('that passed behind the point of no return needs a human, whose retry lifts it', async () => {
      let broken = true
      const subject = at.define(async step => {
        await step('pivot', { effect: 'idempotent', pivot: true, run: async () => { at.log.push('pivot') } })
        await step('after', { effect: 'idempotent', run: async () => { if (broken) throw unreachable() } })
        return 'done'
      }, { deadline: '1h' })
      await at.start(subject)
      await world.elapse(3_600_001)
      expect(await at.start(subject)).toEqual({ outcome: 'needs-human', reason: 'past its point of no return (pivot): its deadline has passed' })
      broken = false
      await subject.retry(at.id, 'late is better than never', alice)
      expect((await at.start(subject)).outcome).toBe('done')
      expect(at.log).toEqual(['pivot'])
    })

    it('does not undo what was done when it passed', async () => {
      let go = (): void => undefined
      const subject = at.define(async step => step('only', { effect: 'idempotent', run: async () => { await new Promise<void>(resolve => { go = resolve }); return 'done' } }), { deadline: '10s' })
      const holder = at.start(subject)
      await at.until(async () => (await at.states()) === 'only intent')
      await world.elapse(10_001)
      go()
      expect(await holder).toEqual({ outcome: 'done', value: 'done' })
    })

    it('control: without one it goes on for days', async () => {
      const subject = three(() => Promise.reject(new HoldfastError('HF_BREAKER_OPEN', { message: 'open' })))
      await at.start(subject)
      await world.elapse(7 * 86_400_000)
      expect((await at.start(subject)).outcome).toBe('running')
    })
  })

  describe('a step that does not answer', () => {
    it('is told by its signal, left behind five seconds later, and then its outcome is unknown', async () => {
      const kit = world.kit('one')
      let told: unknown
      const subject = at.define(async step => {
        await step('slow', { effect: 'idempotent', timeout: '30s', run: ({ signal }) => { signal.addEventListener('abort', () => { told = signal.reason }); return never<void>() } })
        return ''
      }, { lease: '2m' }, kit)
      const running = at.start(subject)
      await at.until(async () => (await at.states()) === 'slow intent')
      await kit.env.advance('30s')
      expect(told).toMatchObject({ code: 'HF_TIMEOUT' })
      await kit.env.advance('5s')
      expect(await running).toMatchObject({ outcome: 'running', reason: 'step slow: step slow took longer than 30000 ms' })
      expect(await at.states()).toBe('slow intent')
    })

    it('gives its run back after ten minutes where nothing is said', async () => {
      const kit = world.kit('one')
      const subject = at.define(async step => { await step('slow', { effect: 'idempotent', run: () => never<void>() }); return '' }, { lease: '1h' }, kit)
      const running = at.start(subject)
      await at.until(async () => (await at.states()) === 'slow intent')
      await kit.env.advance('9m')
      expect((await at.row())?.live).toBe(true)
      await kit.env.advance('66s')
      expect((await running).outcome).toBe('running')
      expect((await at.row())?.live).toBe(false)
    })

    it('and answers within the grace is believed', async () => {
      const kit = world.kit('one')
      const subject = at.define(async step => step('slow', { effect: 'idempotent', timeout: '30s', run: async ({ signal }) => { await aborted(signal).catch(() => undefined); return 'just in time' } }), { lease: '2m' }, kit)
      const running = at.start(subject)
      await at.until(async () => (await at.states()) === 'slow intent')
      await kit.env.advance('30s')
      expect(await running).toEqual({ outcome: 'done', value: 'just in time' })
    })

    it('on its way back counts as a failed undo', async () => {
      const kit = world.kit('one')
      const subject = at.define(async step => {
        await step('a', { effect: 'idempotent', timeout: '10s', run: async () => undefined, undo: () => never() })
        await step('b', { effect: 'idempotent', run: async () => { throw refuse('no') } })
        return ''
      }, { lease: '2m', undoAttempts: 1 }, kit)
      const running = at.start(subject)
      await at.until(async () => (await at.row())?.state === 'undoing')
      await kit.env.advance('15s')
      expect(await running).toMatchObject({ outcome: 'needs-human', reason: expect.stringContaining('undo of a took longer than 10000 ms') as string })
    })
  })

  describe('a run whose processes die', () => {
    const dying = async (times: number, options: Partial<Options>): Promise<void> => {
      for (let i = 0; i < times; i++) {
        const dead = world.kit(`dead-${String(i)}`)
        let reached = false
        const subject = three(() => { reached = true; return never() }, options, dead)
        if (i === 0) void at.start(subject)
        else void subject.sweep(10)
        await at.until(() => reached)
        dead.env.kill()
        await world.elapse(15_001)
      }
    }

    it('in the same step again and again needs a human before it kills the next, who may let it go on', async () => {
      await dying(3, { crashes: 3 })
      const subject = three(async () => undefined, { crashes: 3 }, world.kit('b'))
      expect(await subject.sweep(10)).toBe(1)
      expect(await at.start(subject)).toEqual({ outcome: 'needs-human', reason: '3 holders in a row died in step b' })
      expect(at.log).toEqual(['a'])
      await subject.retry(at.id, 'repaired', alice)
      expect((await at.start(subject)).outcome).toBe('done')
    })

    it('control: one death fewer, and it goes on', async () => {
      await dying(2, { crashes: 3 })
      expect((await at.start(three(async () => undefined, { crashes: 3 }, world.kit('b')))).outcome).toBe('done')
    })

    it('one step further each time is not counted', async () => {
      for (let i = 0; i < 4; i++) {
        const dead = world.kit(`dead-${String(i)}`)
        let reached = false
        const subject = at.define(async step => {
          for (let k = 0; k < 4; k++) await step(`s${String(k)}`, { effect: 'idempotent', run: () => { if (k < i) return Promise.resolve(); reached = true; return never<void>() } })
          return ''
        }, { crashes: 2 }, dead)
        if (i === 0) void at.start(subject)
        else void subject.sweep(10)
        await at.until(() => reached)
        dead.env.kill()
        await world.elapse(15_001)
      }
      expect((await at.row())?.crashes).toBe(1)
    })

    it('does not count those that gave it back', async () => {
      const subject = three(() => Promise.reject(unreachable()), { crashes: 1 })
      for (let i = 0; i < 4; i++) {
        expect((await at.start(subject)).outcome).toBe('running')
        await world.elapse(61_000)
      }
      expect((await at.row())?.crashes).toBe(0)
    })
  })
})
