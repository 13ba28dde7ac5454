import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import { refuse } from '../failure.ts'
import { recovery } from '../recovery.ts'
import { alice, bob, hangUp, never, SagaWorld, unreachable, type Input, type Options } from '../../../test/saga-world.ts'
import type { HistoryEntry } from './operator-types.ts'
import { NOTES_MAX } from './port.ts'
import { sagaPort } from './saga.ts'
import type { Saga } from './types.ts'

describe.each(testStores)('on $name', store => {
  let world: TestWorld
  let count = 0
  let at: SagaWorld
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { at = new SagaWorld(world, 500 + ++count) })

  describe('a version', () => {
    const run = (last: () => Promise<unknown>): Options['run'] => async step => {
      await step('old', { effect: 'idempotent', run: async () => { at.log.push('old') } })
      await step('last', { effect: 'idempotent', run: async () => { await last() } })
      return 'by version 1'
    }

    it('that this instance still knows is finished by its own function, beside the new one', async () => {
      await at.start(at.define(run(() => Promise.reject(unreachable()))))
      await world.elapse(61_000)
      const both = at.define(async step => step('new', { effect: 'idempotent', run: async () => { at.log.push('new'); return 'by version 2' } }), { version: 2, olderVersions: { 1: run(async () => undefined) } }, world.kit('b'))
      expect(await both.sweep(10)).toBe(1)
      expect(await at.start(both)).toEqual({ outcome: 'done', value: 'by version 1' })
      expect(await both.start(`${at.id}-new`, { id: at.id })).toEqual({ outcome: 'done', value: 'by version 2' })
      expect(at.log).toEqual(['old', 'new'])
    })

    it('that no instance knows is left alone, and after ten minutes is in the work list', async () => {
      await at.start(at.define(run(() => Promise.reject(unreachable()))))
      const next = at.define(async () => 'new', { version: 2 })
      const list = recovery({ onces: () => [], sagas: () => [next as Saga<unknown, string>], inbox: undefined as never, outbox: undefined as never }, world.kit())
      const items = async () => (await list.workItems(1_000)).filter(item => item.name === at.name)
      await world.elapse(300_000)
      expect(await next.sweep(10)).toBe(0)
      expect(await items()).toEqual([])
      await world.elapse(310_000)
      expect(await items()).toMatchObject([{ id: at.id, state: 'unclaimed', actions: [], reason: 'no instance has taken it up since it was due; it is of version 1, this instance knows 2' }])
      expect(at.log).toEqual(['old'])
    })

    it.each([[{ 2: run(async () => undefined) }], [{ 0: run(async () => undefined) }], [{ 3: run(async () => undefined) }]])('older than itself only: %o is refused', olderVersions => {
      expect(() => at.define(run(async () => undefined), { version: 2, olderVersions })).toThrow(HoldfastError)
    })
  })

  describe('a function that no longer fits the journal', () => {
    const original: Options['run'] = async step => {
      await step('a', { effect: 'idempotent', run: async () => { at.log.push('a') }, undo: async () => { at.log.push('-a') } })
      await step('b', { effect: 'idempotent', run: async () => { throw unreachable() }, undo: async () => { at.log.push('-b') } })
      return ''
    }
    const changed: Readonly<Record<string, readonly [Options['run'], string]>> = {
      'another name': [async step => { await step('x', { effect: 'idempotent', run: async () => { at.log.push('x') }, undo: async () => { at.log.push('-x') } }); return '' }, 'step 1 is a in the journal and x in the code'],
      'another order': [async step => {
        await step('b', { effect: 'idempotent', run: async () => { at.log.push('b') } })
        await step('a', { effect: 'idempotent', run: async () => undefined })
        return ''
      }, 'step 1 is a in the journal and b in the code'],
      'another effect': [async step => { await step('a', { effect: 'once', verify: 'hold', run: async () => { at.log.push('once') } }); return '' }, 'step a is idempotent in the journal and once in the code'],
      'a pivot where there was none': [async step => { await step('a', { effect: 'idempotent', pivot: true, run: async () => undefined }); return '' }, 'step a is idempotent in the journal and idempotent pivot in the code'],
      'an early end': [async () => 'early', 'the journal has 2 steps, the next is a; the code reaches 0'],
      'an error of its own': [async () => { throw new Error('a clock said so') }, 'the journal has 2 steps, the next is a; the code reaches 0: a clock said so'],
    }

    it.each(Object.keys(changed))('because of %s needs a human, names both, and runs and undoes nothing', async what => {
      await at.start(at.define(original))
      await world.elapse(61_000)
      const [run, words] = changed[what] ?? [original, '']
      expect(await at.start(at.define(run))).toEqual({ outcome: 'needs-human', reason: `HF_SAGA_DIVERGED: ${words}` })
      expect(at.log).toEqual(['a'])
    })

    it('undoes nothing on its way back either', async () => {
      let broken = true
      const back = (name: string): Options['run'] => async step => {
        await step(name, { effect: 'idempotent', run: async () => undefined, undo: async () => { at.log.push(`-${name}`); if (broken) throw hangUp() } })
        await step('b', { effect: 'idempotent', run: async () => { throw refuse('no') } })
        return ''
      }
      await at.start(at.define(back('a')))
      await world.elapse(61_000)
      broken = false
      expect(await at.start(at.define(back('x')))).toMatchObject({ outcome: 'needs-human', reason: 'HF_SAGA_DIVERGED: step 1 is a in the journal and x in the code' })
      expect(at.log).toEqual(['-a'])
    })

    it('control: the same function goes on and undoes', async () => {
      await at.start(at.define(original))
      await world.elapse(61_000)
      const same = at.define(async step => {
        await step('a', { effect: 'idempotent', run: async () => { at.log.push('a') }, undo: async () => { at.log.push('-a') } })
        await step('b', { effect: 'idempotent', run: async () => { throw refuse('no') } })
        return ''
      })
      expect((await at.start(same)).outcome).toBe('undone')
      expect(at.log).toEqual(['a', '-a'])
    })
  })

  describe('replay', () => {
    it('of a finished run says that it does the same, and carries nothing out', async () => {
      const subject = at.define(async step => {
        const n = await step('a', { effect: 'idempotent', run: async () => { at.log.push('a'); return 1 } })
        await step('b', { write: async ({ tx }) => { await world.write(tx, `b ${at.id}`) } })
        return String(n)
      })
      await at.start(subject)
      expect(await subject.replay(at.id)).toEqual({ diverges: false, steps: 2 })
      expect(at.log).toEqual(['a'])
      expect((await world.written()).filter(text => text === `b ${at.id}`)).toHaveLength(1)
    })

    it('sees a clock or a random number between the steps', async () => {
      let random = 1
      const subject = at.define(async step => {
        await step('a', { effect: 'idempotent', run: async () => undefined })
        if (random > 1) await step('more', { effect: 'idempotent', run: async () => undefined })
        return random > 2 ? 'two' : 'one'
      })
      await at.start(subject)
      expect(await subject.replay(at.id)).toEqual({ diverges: false, steps: 1 })
      random = 2
      expect(await subject.replay(at.id)).toEqual({ diverges: true, reason: 'the journal has 1 steps, the code asks for another: more' })
      random = 0
      expect((await subject.replay(at.id)).diverges).toBe(false)
      const result = at.define(async step => { await step('a', { effect: 'idempotent', run: async () => undefined }); return 'another' })
      expect(await result.replay(at.id)).toEqual({ diverges: true, reason: 'the function comes to another result' })
      const fewer = at.define(async () => 'one')
      expect(await fewer.replay(at.id)).toEqual({ diverges: true, reason: 'the journal has 1 steps, the next is a; the code reaches 0' })
    })

    it('of a run that is not over compares as far as it got', async () => {
      const subject = at.define(async step => { await step('a', { effect: 'idempotent', run: async () => { throw unreachable() } }); return '' })
      await at.start(subject)
      expect(await subject.replay(at.id)).toEqual({ diverges: false, steps: 1 })
      expect(await subject.replay('nobody')).toMatchObject({ diverges: true })
    })
  })

  describe('a run that needs a human', () => {
    const stuck = (): Saga<Input, string> => at.define(async step => {
      const ref = await step('charge', { effect: 'once', verify: 'hold', run: async () => { at.log.push('charge'); throw hangUp() } })
      await step('tell', { effect: 'idempotent', run: async () => { at.log.push('tell') } })
      return String(ref)
    })

    it('goes on behind a step that is skipped, with the value that was given for it', async () => {
      const subject = stuck()
      await at.start(subject)
      expect(await subject.skip(at.id, 'paid in cash', { value: 'cash-7', actor: alice })).toBe('charge')
      expect(await at.start(subject)).toEqual({ outcome: 'done', value: 'cash-7' })
      expect(at.log).toEqual(['charge', 'tell'])
      expect(await subject.skip(at.id, 'again')).toBeUndefined()
    })

    it.each([['happened', { happened: true, value: 'ref-1' }, 'step | charge | done'], ['did not happen', { happened: false }, 'step | charge | begun; surely did not happen']] as const)(
      'is told by its history what a person found out: it %s', async (_what, verified, line) => {
        const subject = stuck()
        await at.start(subject)
        expect(await subject.resolveStep(at.id, verified, 'asked the bank', alice)).toBe(true)
        expect((await subject.history(at.id))?.entries.filter(entry => entry.step === 'charge' && entry.what === 'step').map(({ what, step, detail }) => [what, step, detail].join(' | '))).toEqual([line])
      })

    it('is not changed by a word that is refused', async () => {
      const subject = at.define(async step => { await step('a', { effect: 'idempotent', run: async () => new Date() as never }); return '' })
      await at.start(subject)
      await subject.resolveStep(at.id, { happened: true, value: null }, 'first', alice)
      const before = await at.row()
      expect(before?.reason).toContain('first')
      expect(await subject.resolveStep(at.id, { happened: true, value: null }, 'second', alice)).toBe(false)
      expect((await at.row())?.reason).toBe(before?.reason)
    })

    it('is settled by one of two persons at the same moment, whose word stays', async () => {
      const subject = stuck()
      for (let i = 0; i < 10; i++) {
        const id = `${at.id}-${String(i)}`
        await subject.start(id, { id })
        const words = ['alice saw it', 'bob saw it not'] as const
        const [first, second] = await Promise.all([subject.resolveStep(id, { happened: true, value: null }, words[0], alice), subject.resolveStep(id, { happened: false }, words[1], bob)])
        expect([first, second].filter(Boolean)).toHaveLength(1)
        const reason = await at.world.database.transaction('test.run', async tx => (await sagaPort<unknown>(at.world.database).read(tx, { saga: at.name, id }))?.reason)
        expect(reason).toBe(words[first ? 0 : 1])
      }
    })

    it('is marked done with the result that later starts are answered', async () => {
      const subject = stuck()
      await at.start(subject)
      expect(await subject.markDone(at.id, { value: 'by hand' }, 'finished at the panel', alice)).toBe(true)
      expect(await at.start(subject)).toEqual({ outcome: 'done', value: 'by hand' })
    })

    it('keeps what is skipped on its way back, and says so', async () => {
      const subject = at.define(async step => {
        await step('a', { effect: 'idempotent', run: async () => undefined, undo: async () => { at.log.push('-a') } })
        await step('b', { effect: 'idempotent', run: async () => undefined, undo: async () => { throw hangUp() } })
        await step('c', { effect: 'idempotent', run: async () => { throw refuse('no') } })
        return ''
      }, { undoAttempts: 1 })
      expect(await at.start(subject)).toMatchObject({ outcome: 'needs-human', reason: expect.stringContaining('still to undo: b, a') as string })
      expect(await subject.skip(at.id, 'gone anyway', { actor: bob })).toBe('b')
      expect(await at.start(subject)).toMatchObject({ outcome: 'undone', reason: expect.stringContaining('not undone: b') as string })
      expect(at.log).toEqual(['-a'])
    })
  })

  describe('the history', () => {
    const told = (entries: readonly HistoryEntry[] | undefined): readonly string[] => (entries ?? []).map(({ what, step, detail, by, times }) => [what, step, detail, by === undefined ? undefined : `by ${by}`, times === undefined ? undefined : `${String(times)} times`].filter(word => word !== undefined).join(' | '))

    it('tells the whole story of a run over processes and people, and no inputs or results', async () => {
      const dead = world.kit('first')
      let dying = true
      const run: Options['run'] = async step => {
        await step('make', { effect: 'idempotent', run: async ({ track }) => { await track('workspace', 'w1', 'for ACME'); return 'secret-result' } })
        await step('erase', { effect: 'idempotent', irreversible: { summary: 'Erase it' }, run: async () => { if (dying) await never() } })
        await step('end', { effect: 'idempotent', run: async () => { if (flaky.length > 0) throw flaky.pop() ?? new Error('none') } })
        return 'secret-result'
      }
      const flaky = [unreachable(), unreachable()]
      const first = at.define(run, {}, dead)
      await at.start(first)
      const { token } = await first.requestConfirmation(at.id, alice) ?? { token: '' }
      void first.confirm(token, alice)
      await at.until(async () => (await at.states()).includes('erase intent'))
      dead.env.kill()
      dying = false
      await world.elapse(15_001)
      const second = at.define(run, { crashes: 1 }, world.kit('second'))
      await second.sweep(10)
      await second.retry(at.id, 'have looked', bob)
      for (let i = 0; i < 3; i++) {
        await second.sweep(10)
        await world.elapse(61_000)
      }
      expect((await at.start(second)).outcome).toBe('done')
      const history = await second.history(at.id)
      expect(history).toMatchObject({ saga: at.name, id: at.id, version: 1, state: 'done' })
      expect([...told(history?.entries)].sort()).toEqual([
        'started | version 1 | by first', 'tracked | workspace w1 | for ACME', 'step | make | done', 'asked | erase | Erase it | by first', 'confirmed | erase | Erase it | by cli:alice',
        'resumed | its holder died | by second', 'needs-human | 1 holders in a row died in step erase; it has made: workspace w1 | by second', 'retried | have looked | by cli:bob',
        'step | erase | done', 'failed | end | TypeError: fetch failed | by second | 2 times', 'step | end | done', 'finished | done: every step is done',
      ].sort())
      expect(JSON.stringify(history)).not.toContain('secret-result')
      expect(history?.entries.every((entry, i, all) => i === 0 || entry.at >= (all[i - 1]?.at ?? 0))).toBe(true)
    })

    it('tells of a failure, the way back, and a cancellation with who and why', async () => {
      const subject = at.define(async step => {
        await step('a', { effect: 'idempotent', run: async () => undefined, undo: async () => undefined })
        await step('b', { effect: 'idempotent', run: async () => { throw new HoldfastError('HF_BREAKER_OPEN', { message: 'open' }) } })
        return ''
      })
      await at.start(subject)
      await subject.cancel(at.id, 'not wanted', alice)
      expect([...told((await subject.history(at.id))?.entries)].sort()).toEqual([
        'started | version 1 | by one', 'step | a | done', 'failed | b | HF_BREAKER_OPEN: open | by one', 'cancelled | not wanted | by cli:alice', 'step | b | begun; surely did not happen',
        'turned | cancelled by cli:alice: not wanted | by one', 'undo | a | undone', 'finished | undone: cancelled by cli:alice: not wanted',
      ].sort())
    })

    it('is bounded: one that fails for days counts, one that tells ever new things ends', async () => {
      const subject = at.define(async step => { await step('a', { effect: 'idempotent', run: async () => { throw unreachable() } }); return '' })
      await at.start(subject)
      const port = sagaPort<unknown>(world.database)
      await world.database.transaction('test.notes', async tx => {
        for (let i = 0; i < NOTES_MAX + 20; i++) await port.note(tx, { saga: at.name, id: at.id }, { what: 'failed', detail: `error ${String(i)}`, by: 'x' })
      })
      const notes = (await subject.history(at.id))?.entries.filter(entry => entry.what === 'failed') ?? []
      expect(notes).toHaveLength(NOTES_MAX)
      expect(notes.at(-1)?.times).toBe(22)
    })

    it('goes with its run', async () => {
      const subject = at.define(async step => step('a', { effect: 'idempotent', run: async ({ track }) => { await track('key', 'k'); return '' } }))
      await at.start(subject)
      await world.elapse(91 * 86_400_000)
      await world.database.transaction('test.prune', tx => sagaPort<unknown>(world.database).prune(tx, 1_000))
      expect(await subject.history(at.id)).toBeUndefined()
    })
  })
})
