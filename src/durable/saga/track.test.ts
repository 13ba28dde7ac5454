import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import { refuse } from '../failure.ts'
import { hangUp, never, SagaWorld, type Options } from '../../../test/saga-world.ts'

describe.each(testStores)('what a step makes, on $name', store => {
  let world: TestWorld
  let count = 0
  let at: SagaWorld
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { at = new SagaWorld(world, ++count) })

  /** Makes `kinds` in a step, one after another, then a second step that ends as `last` says. */
  const making = (last: () => Promise<unknown>, made: readonly ('workspace' | 'key')[] = ['workspace', 'key']): Options['run'] => async step => {
    await step('make', { effect: 'idempotent', run: async ({ track }) => {
      for (const [i, kind] of made.entries()) {
        at.log.push(`${kind} ${String(i)}`)
        await track(kind, String(i), `the ${String(i)}th`)
      }
    } })
    await step('last', { effect: 'idempotent', run: async () => { await last() }, undo: async () => { at.log.push('-last') } })
    await step('end', { effect: 'idempotent', run: async () => { throw refuse('no') } })
    return 'done'
  }

  it('is undone in reverse order with the steps when the run is', async () => {
    expect(await at.start(at.define(making(async () => undefined)))).toEqual({ outcome: 'undone', reason: 'step end: no' })
    expect(at.log).toEqual(['workspace 0', 'key 1', '-last', '-key 1', '-workspace 0'])
  })

  it('is kept when the run is done', async () => {
    const subject = at.define(async step => step('make', { effect: 'idempotent', run: async ({ track }) => { await track('workspace', 'w'); return 'made' } }))
    expect(await at.start(subject)).toEqual({ outcome: 'done', value: 'made' })
    await world.elapse(3_600_000)
    await subject.sweep(10)
    expect(at.log).toEqual([])
  })

  it('is undone also where the step that made it was refused in between', async () => {
    const subject = at.define(async step => {
      await step('make', { effect: 'idempotent', run: async ({ track }) => { await track('workspace', 'w'); throw refuse('quota') }, undo: async () => { at.log.push('never') } })
      return ''
    })
    expect(await at.start(subject)).toEqual({ outcome: 'undone', reason: 'step make: quota' })
    expect(at.log).toEqual(['-workspace w'])
  })

  it('is known to the next attempt after the process died in between, which does not make it again, and is undone by it', async () => {
    const dead = world.kit('dead')
    const make = (stop: boolean): Options['run'] => async step => {
      await step('make', { effect: 'idempotent', run: async ({ track, tracked }) => {
        if (tracked.length === 0) {
          at.log.push('make w')
          await track('workspace', 'w', 'for ACME')
        } else at.log.push(`found ${tracked.map(each => `${each.kind} ${each.id} ${each.description ?? ''}`).join()}`)
        if (stop) await never()
      } })
      await step('end', { effect: 'idempotent', run: async () => { throw refuse('no') } })
      return ''
    }
    void at.start(at.define(make(true), {}, dead))
    await at.until(async () => (await at.define(make(true)).history(at.id))?.entries.some(entry => entry.what === 'tracked') === true)
    dead.env.kill()
    await world.elapse(15_001)
    const b = at.define(make(false), {}, world.kit('b'))
    expect(await b.sweep(10)).toBe(1)
    expect((await at.start(b)).outcome).toBe('undone')
    expect(at.log).toEqual(['make w', 'found workspace w for ACME', '-workspace w'])
  })

  it('control: without track it is left behind', async () => {
    const subject = at.define(async step => {
      await step('make', { effect: 'idempotent', run: async () => { at.log.push('workspace w'); throw refuse('quota') } })
      return ''
    })
    expect((await at.start(subject)).outcome).toBe('undone')
    expect(at.log).toEqual(['workspace w'])
  })

  it('is one however often it is tracked', async () => {
    await at.start(at.define(async step => {
      await step('make', { effect: 'idempotent', run: async ({ track }) => { await track('key', 'k'); await track('key', 'k'); throw refuse('no') } })
      return ''
    }))
    expect(at.log).toEqual(['-key k'])
  })

  it('of a kind that nothing undoes is refused before it is forgotten', async () => {
    const subject = at.define(async step => {
      await step('make', { effect: 'idempotent', run: async ({ track }) => {
        await (track as unknown as (kind: string, id: string) => Promise<void>)('bucket', 'b').catch((error: unknown) => { throw refuse(error instanceof HoldfastError ? error.code : 'no code') })
      } })
      return ''
    })
    expect(await at.start(subject)).toEqual({ outcome: 'undone', reason: 'step make: HF_OPTION_INVALID' })
  })

  it('and cannot be undone is named, to start and in the record, until a person skips it', async () => {
    const failing = { undo: { workspace: async () => { throw hangUp() }, key: async (id: string) => { at.log.push(`-key ${id}`) } }, undoAttempts: 1 }
    const subject = at.define(making(async () => undefined), failing)
    const reason = 'undo of workspace 0: socket hang up (undone because step end: no); tried 1 times; still to undo: workspace 0'
    expect(await at.start(subject)).toEqual({ outcome: 'needs-human', reason })
    expect((await at.row())?.reason).toBe(reason)
    expect(await subject.skip(at.id, 'the panel is gone')).toBe('workspace 0')
    expect(await at.start(subject)).toEqual({ outcome: 'undone', reason: 'the panel is gone; not undone: workspace 0' })
    expect(at.log).toEqual(['workspace 0', 'key 1', '-last', '-key 1'])
  })

  it('is named where a run needs a human on its way forward', async () => {
    const subject = at.define(making(() => Promise.reject(hangUp()), ['workspace']), { attempts: 1, giveUpAfter: '1ms' })
    await at.start(subject)
    await world.elapse(61_000)
    expect(await at.start(subject)).toEqual({ outcome: 'needs-human', reason: 'step last: socket hang up; it has made: workspace 0' })
  })

  it('by a holder that was overtaken is not recorded', async () => {
    let go = (): void => undefined
    const zombie = at.start(at.define(async step => {
      await step('make', { effect: 'idempotent', run: async ({ track }) => {
        await new Promise<void>(resolve => { go = resolve })
        await track('workspace', 'late')
      } })
      return 'zombie'
    }, {}, world.kit('zombie')))
    await at.until(async () => (await at.states()) === 'make intent')
    await world.elapse(15_001)
    const b = at.define(async step => { await step('make', { effect: 'idempotent', run: async () => { at.log.push('b') } }); return 'b' }, {}, world.kit('b'))
    expect(await at.start(b)).toEqual({ outcome: 'done', value: 'b' })
    go()
    expect(await zombie).toEqual({ outcome: 'running', reason: 'another instance took over' })
    expect((await b.history(at.id))?.entries.filter(entry => entry.what === 'tracked')).toEqual([])
  })
})
