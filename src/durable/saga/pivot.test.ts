import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { refuse } from '../failure.ts'
import type { DurableKit } from '../kit.ts'
import { recovery } from '../recovery.ts'
import { saga, sagaPort } from './saga.ts'
import { alice, bob, hangUp, Input, never, SagaWorld, unreachable, type Options } from '../../../test/saga-world.ts'
import type { Saga } from './types.ts'

describe.each(testStores)('on $name', store => {
  let world: TestWorld
  let count = 0
  let at: SagaWorld
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { at = new SagaWorld(world, 100 + ++count) })

  describe('a point of no return', () => {
    const run = (pivot: () => Promise<unknown>, after: () => Promise<unknown>): Options['run'] => async step => {
      await step('before', { effect: 'idempotent', run: async () => { at.log.push('before') }, undo: async () => { at.log.push('-before') } })
      await step('pivot', { effect: 'idempotent', pivot: true, run: async () => { await pivot(); at.log.push('pivot') } })
      await step('after', { effect: 'idempotent', run: async () => { await after(); at.log.push('after') } })
      return 'done'
    }

    it('that surely was not passed changes nothing: the run is undone', async () => {
      expect(await at.start(at.define(run(async () => { throw refuse('no') }, async () => undefined)))).toEqual({ outcome: 'undone', reason: 'step pivot: no' })
      expect(at.log).toEqual(['before', '-before'])
      expect((await at.row())?.pivot).toBeNull()
    })

    it('that was passed is the end of undoing: what is refused behind it needs a human, who lets it go on', async () => {
      let broken = true
      const subject = at.define(run(async () => undefined, async () => { if (broken) throw refuse('no') }))
      expect(await at.start(subject)).toEqual({ outcome: 'needs-human', reason: 'past its point of no return (pivot): step after: no' })
      broken = false
      expect(await subject.retry(at.id, 'the other side is repaired', alice)).toBe(true)
      expect(await at.start(subject)).toEqual({ outcome: 'done', value: 'done' })
      expect(at.log).toEqual(['before', 'pivot', 'after'])
    })

    it('control: without it the same refusal undoes what came before', async () => {
      const subject = at.define(async step => {
        await step('before', { effect: 'idempotent', run: async () => { at.log.push('before') }, undo: async () => { at.log.push('-before') } })
        await step('after', { effect: 'idempotent', run: async () => { throw refuse('no') } })
        return ''
      })
      expect((await at.start(subject)).outcome).toBe('undone')
      expect(at.log).toEqual(['before', '-before'])
    })

    it('that may have been passed holds too, also for a process that takes over', async () => {
      const dead = world.kit('dead')
      void at.start(at.define(run(() => never(), async () => undefined), {}, dead))
      await at.until(async () => (await at.states()).includes('pivot intent'))
      dead.env.kill()
      await world.elapse(15_001)
      const b = at.define(run(async () => undefined, async () => { throw refuse('no') }), {}, world.kit('b'))
      expect((await at.start(b)).outcome).toBe('needs-human')
      expect(await b.cancel(at.id, 'too late', alice)).toMatchObject({ outcome: 'refused', why: 'past-pivot' })
      expect(at.log).toEqual(['before', 'pivot'])
    })

    it('that is tried again later can still be cancelled where it surely was not passed', async () => {
      const subject = at.define(run(() => Promise.reject(unreachable()), async () => undefined))
      expect((await at.start(subject)).outcome).toBe('running')
      expect(await subject.cancel(at.id, 'not wanted any more', alice)).toEqual({ outcome: 'undone', reason: 'cancelled by cli:alice: not wanted any more' })
      expect(at.log).toEqual(['before', '-before'])
    })

    it('is refused by the journal itself to be turned back', async () => {
      const subject = at.define(run(async () => undefined, () => never()))
      void at.start(subject)
      await at.until(async () => (await at.states()).includes('after intent'))
      const port = sagaPort<unknown>(world.database)
      expect(await world.database.transaction('test.turn', tx => port.turn(tx, { saga: at.name, id: at.id }, 1, 'by mistake'))).toBe(false)
    })

    it('in a local step commits with its writes, or neither', async () => {
      const local = (fails: boolean): Options['run'] => async step => {
        await step('pivot', { pivot: true, write: async ({ tx }) => { await world.write(tx, `pivot ${at.id}`); if (fails) throw new Error('short') } })
        await step('after', { effect: 'idempotent', run: async () => { throw refuse('no') } })
        return ''
      }
      expect(await at.start(at.define(local(true)))).toEqual({ outcome: 'undone', reason: 'step pivot: short' })
      const other = new SagaWorld(world, 100 + ++count)
      at = other
      expect((await other.start(other.define(local(false)))).outcome).toBe('needs-human')
    })
  })

  describe('a step that cannot be taken back', () => {
    const erase = (kit: DurableKit<unknown> = world.kit(), more: { readonly onExpiry?: 'undo' | 'ask-again'; readonly approvals?: 1 | 2; readonly summary?: string } = {}, effect: () => Promise<unknown> = async () => undefined): Saga<Input, string> => at.define(async step => {
      await step('lock', { effect: 'idempotent', run: async () => { at.log.push('lock') }, undo: async () => { at.log.push('-lock') } })
      await step('erase', { effect: 'idempotent', irreversible: { summary: 'Erase 3 workspaces of ACME', waitFor: '1h', ...more }, run: async () => { await effect(); at.log.push('erase') } })
      return 'erased'
    }, {}, kit)

    it('waits for its confirmation, says what will be done, and happens once it is given', async () => {
      const subject = erase()
      expect(await at.start(subject)).toMatchObject({ outcome: 'running', reason: 'waits for confirmation: Erase 3 workspaces of ACME' })
      expect(at.told('saga.waiting')).toMatchObject([{ id: at.id, step: 'erase', summary: 'Erase 3 workspaces of ACME' }])
      const ticket = await subject.requestConfirmation(at.id, alice)
      expect(ticket?.summary).toBe('Erase 3 workspaces of ACME')
      expect(at.log).toEqual(['lock'])
      expect(await subject.confirm(ticket?.token ?? '', alice)).toEqual({ id: at.id, outcome: 'done', value: 'erased' })
      expect(at.log).toEqual(['lock', 'erase'])
      expect(at.told('saga.confirmed')).toMatchObject([{ step: 'erase', actor: 'cli:alice' }])
      expect(await subject.requestConfirmation(at.id, alice)).toBeUndefined()
    })

    it('is reached by no other way: not by starting, sweeping, retrying, skipping time, nor by a ticket that is used, foreign or made up', async () => {
      const subject = erase(undefined, { onExpiry: 'ask-again' })
      for (let i = 0; i < 4; i++) {
        await at.start(subject)
        await subject.sweep(10)
        await subject.retry(at.id, 'go', alice)
        await subject.skip(at.id, 'go')
        await world.elapse(3_600_001)
      }
      const ticket = await subject.requestConfirmation(at.id, alice)
      expect(ticket).toBeUndefined()
      await subject.sweep(10)
      const { token } = await subject.requestConfirmation(at.id, alice) ?? { token: '' }
      await expect(subject.confirm(token, bob)).rejects.toMatchObject({ code: 'HF_TICKET_INVALID' })
      await expect(subject.confirm('made-up', alice)).rejects.toMatchObject({ code: 'HF_TICKET_INVALID' })
      expect(at.log).toEqual(['lock'])
      expect((await subject.confirm(token, alice)).outcome).toBe('done')
      await expect(subject.confirm(token, alice)).rejects.toMatchObject({ code: 'HF_TICKET_INVALID' })
      expect(at.log).toEqual(['lock', 'erase'])
    })

    it('is refused by the journal itself when nothing is confirmed', async () => {
      await at.start(erase())
      const port = sagaPort<unknown>(world.database)
      const key = { saga: at.name, id: at.id }
      await world.elapse(3_600_001)
      const journalled = await world.database.transaction('test.journal', async tx => {
        const taken = await port.take(tx, key, [1], 'test:1', 60_000)
        return port.journal(tx, key, taken?.fence ?? 0, [{ seq: 1, name: 'erase', state: 'intent', output: null }], { kind: 'confirmed', step: 'erase' })
      })
      expect(journalled).toBe(false)
    })

    it('control: a pivot that needs no confirmation is let through by the same write', async () => {
      await at.start(erase())
      const port = sagaPort<unknown>(world.database)
      const key = { saga: at.name, id: at.id }
      await world.elapse(3_600_001)
      expect(await world.database.transaction('test.journal', async tx => {
        const taken = await port.take(tx, key, [1], 'test:1', 60_000)
        return port.journal(tx, key, taken?.fence ?? 0, [{ seq: 1, name: 'erase', state: 'intent', output: null }], { kind: 'pivot', step: 'erase' })
      })).toBe(true)
    })

    it('is confirmed over a restart, and goes on in whichever process', async () => {
      await at.start(erase())
      const { token } = await erase(world.kit('b')).requestConfirmation(at.id, alice) ?? { token: '' }
      expect(await erase(world.kit('c')).confirm(token, alice)).toMatchObject({ outcome: 'done' })
    })

    it('is undone when nobody confirms it in time', async () => {
      const subject = erase()
      await at.start(subject)
      const { token } = await subject.requestConfirmation(at.id, alice) ?? { token: '' }
      await world.elapse(3_600_001)
      expect(await subject.sweep(10)).toBe(1)
      expect(await at.start(subject)).toEqual({ outcome: 'undone', reason: 'step erase: nobody confirmed it in time' })
      expect(at.log).toEqual(['lock', '-lock'])
      await expect(subject.confirm(token, alice)).rejects.toMatchObject({ context: { why: 'state-changed' } })
    })

    it('is asked for again where that is declared, and an old ticket is void', async () => {
      const subject = erase(undefined, { onExpiry: 'ask-again' })
      await at.start(subject)
      const old = await subject.requestConfirmation(at.id, alice)
      await world.elapse(3_600_001)
      await subject.sweep(10)
      expect(at.told('saga.waiting')).toHaveLength(2)
      await expect(subject.confirm(old?.token ?? '', alice)).rejects.toMatchObject({ context: { why: 'state-changed' } })
      expect((await subject.confirm((await subject.requestConfirmation(at.id, alice))?.token ?? '', alice)).outcome).toBe('done')
    })

    it('is asked for again when it would do something else by now', async () => {
      await at.start(erase())
      const other = erase(undefined, { summary: 'Erase 4 workspaces of ACME' })
      const { token } = await other.requestConfirmation(at.id, alice) ?? { token: '' }
      expect(await other.confirm(token, alice)).toMatchObject({ outcome: 'running', reason: 'waits for confirmation: Erase 4 workspaces of ACME' })
      expect(at.log).toEqual(['lock'])
    })

    it('may need a second person', async () => {
      const subject = erase(undefined, { approvals: 2 })
      await at.start(subject)
      const { token } = await subject.requestConfirmation(at.id, alice) ?? { token: '' }
      await expect(subject.confirm(token, alice)).rejects.toMatchObject({ context: { why: 'other-actor' } })
      expect((await subject.confirm(token, bob)).outcome).toBe('done')
    })

    it('is cancelled while it waits, and a ticket of before is void', async () => {
      const subject = erase()
      await at.start(subject)
      const { token } = await subject.requestConfirmation(at.id, alice) ?? { token: '' }
      expect(await subject.cancel(at.id, 'wrong customer', bob)).toEqual({ outcome: 'undone', reason: 'cancelled by cli:bob: wrong customer' })
      await expect(subject.confirm(token, alice)).rejects.toMatchObject({ context: { why: 'state-changed' } })
      expect(at.log).toEqual(['lock', '-lock'])
    })

    it('is confirmed once for all its attempts', async () => {
      const errors: Error[] = [unreachable(), hangUp()]
      const subject = erase(undefined, {}, async () => { const error = errors.shift(); if (error !== undefined) throw error })
      await at.start(subject)
      await subject.confirm((await subject.requestConfirmation(at.id, alice))?.token ?? '', alice)
      for (let i = 0; i < 2; i++) {
        await world.elapse(60_001)
        await subject.sweep(10)
      }
      expect((await at.start(subject)).outcome).toBe('done')
      expect(at.log).toEqual(['lock', 'erase'])
    })

    it('needs a human where there are no tickets to confirm it with', async () => {
      const subject = saga(at.name, { version: 1, input: Input, run: async step => step('erase', { effect: 'idempotent', irreversible: { summary: 'Erase it' }, run: async () => { at.log.push('erase'); return '' } }) }, world.kit())
      expect(await subject.start(at.id, { id: at.id })).toMatchObject({ outcome: 'needs-human' })
      await expect(subject.requestConfirmation(at.id, alice)).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
      expect(at.log).toEqual([])
    })

    it('is in the work list while it waits', async () => {
      const subject = erase()
      await at.start(subject)
      const list = recovery({ onces: () => [], sagas: () => [subject as unknown as Saga<unknown, string>], inbox: undefined as never, outbox: undefined as never }, world.kit())
      expect((await list.workItems(100)).filter(item => item.name === at.name)).toMatchObject([{ kind: 'saga', id: at.id, state: 'waits for confirmation', reason: 'Erase 3 workspaces of ACME' }])
    })
  })
})
