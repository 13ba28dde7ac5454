import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { postgresStore, realServer, testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError, type ErrorCode } from '../../core/index.ts'
import type { SqlTx } from '../../store/index.ts'
import type { CallContext } from '../call-context.ts'
import { refuse } from '../failure.ts'
import type { DurableKit } from '../kit.ts'
import type { RunRow, StepRow } from './port.ts'
import { saga, sagaPort } from './saga.ts'
import { sagaSql } from './sql.ts'
import type { Saga, SagaOptions, StepContext } from './types.ts'

const Order = z.object({ id: z.string(), plan: z.string() })
type Order = z.infer<typeof Order>
type Run = SagaOptions<Order, Order, { readonly user: string }, unknown>['run']
type Options = Partial<Omit<SagaOptions<Order, Order, { readonly user: string }, unknown>, 'run' | 'input'>>

const unreachable = (): Error => new TypeError('fetch failed', { cause: Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }) })
const hangUp = (): Error => Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' })
const never = <T>(): Promise<T> => new Promise(() => undefined)

describe.each(testStores)('saga on $name', store => {
  let world: TestWorld
  let count = 0
  let name: string
  let order: Order
  let log: string[]
  let keys: string[]
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => {
    name = `provision-${String(++count)}`
    order = { id: `o${String(count)}`, plan: 'month' }
    log = []
    keys = []
  })

  interface Faults {
    readonly add?: (context: StepContext) => Promise<unknown>
    readonly remove?: (context: CallContext) => Promise<unknown>
    readonly record?: () => Promise<unknown>
    readonly send?: (context: StepContext) => Promise<unknown>
  }
  /** Makes a user on a panel (with undo), records it here (with undo), tells the customer (no undo). */
  const provision = (kit: DurableKit<unknown>, faults: Faults = {}, options: Options = {}): Saga<Order, { readonly user: string }> => saga(name, {
    version: 1, input: Order, ...options,
    run: async (step, { id }) => {
      const { user } = await step('add-user', {
        effect: 'idempotent',
        run: async context => {
          keys.push(context.key)
          await faults.add?.(context)
          log.push('add')
          return { user: `u-${id}` }
        },
        undo: async (made, context) => {
          await faults.remove?.(context)
          log.push(`remove ${made.user}`)
        },
      })
      await step('record', {
        write: async ({ tx }) => {
          await world.write(tx, `record ${id}`)
          await faults.record?.()
        },
        undo: (_, { tx }) => world.write(tx, `unrecord ${id}`),
      })
      await step('send', {
        effect: 'idempotent',
        run: async context => {
          await faults.send?.(context)
          log.push('send')
        },
      })
      return { user }
    },
  }, kit)
  const custom = (kit: DurableKit<unknown>, run: Run, options: Options = {}): Saga<Order, { readonly user: string }> => saga(name, { version: 1, input: Order, ...options, run }, kit)
  const start = (subject: Saga<Order, { readonly user: string }>) => subject.start(order.id, order)
  const run = (): Promise<RunRow | undefined> => world.database.transaction('test.run', tx => sagaPort<unknown>(world.database).read(tx, { saga: name, id: order.id }))
  const steps = (): Promise<readonly StepRow[]> => world.database.transaction('test.steps', tx => sagaPort<unknown>(world.database).steps(tx, { saga: name, id: order.id }))
  const states = async (): Promise<string> => (await steps()).map(step => `${step.name} ${step.state}`).join(', ')
  const written = async (): Promise<readonly string[]> => (await world.written()).filter(text => text.endsWith(` ${order.id}`)).map(text => text.split(' ')[0] ?? '')
  const told = (event: 'saga.started' | 'saga.resumed' | 'saga.step' | 'saga.finished') => world.names(event).map(fact => fact.data as { saga: string }).filter(data => data.saga === name)
  /** Asks until it is so; between the questions is a round trip to the store, so it is no busy loop. */
  const until = async (done: () => Promise<boolean>): Promise<void> => {
    for (let i = 0; i < 300; i++) {
      if (await done()) return
      await world.database.transaction('test.wait', async () => new Promise(resolve => { setImmediate(resolve) }))
    }
    throw new Error('never')
  }
  const failing = (...errors: readonly (Error | undefined)[]) => {
    const left = [...errors]
    return async (): Promise<void> => {
      const error = left.shift()
      if (error !== undefined) throw error
    }
  }

  describe('a run', () => {
    it('does its steps in order and answers their result', async () => {
      expect(await start(provision(world.kit()))).toEqual({ outcome: 'done', value: { user: `u-${order.id}` } })
      expect(log).toEqual(['add', 'send'])
      expect(await written()).toEqual(['record'])
      expect(await states()).toBe('add-user done, record done, send done')
      expect(told('saga.started')).toHaveLength(1)
      expect(told('saga.step')).toHaveLength(3)
      expect(told('saga.finished')[0]).toMatchObject({ outcome: 'done' })
    })

    it('that is done is answered from the record, to every instance', async () => {
      await start(provision(world.kit()))
      expect(await start(provision(world.kit('b')))).toEqual({ outcome: 'done', value: { user: `u-${order.id}` } })
      expect(log).toEqual(['add', 'send'])
      expect(told('saga.finished')).toHaveLength(1)
    })

    it('is done by one of ten callers at once, on two instances', async () => {
      const both = [provision(world.kit('a')), provision(world.kit('b'))]
      const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => start(both[i % 2] ?? provision(world.kit()))))
      expect(new Set(answers.map(answer => answer.outcome)).has('done')).toBe(true)
      expect(answers.every(answer => answer.outcome === 'done' || answer.outcome === 'running')).toBe(true)
      expect(log).toEqual(['add', 'send'])
      expect(await written()).toEqual(['record'])
    })

    it('refuses the same id with another input', async () => {
      const subject = provision(world.kit())
      await start(subject)
      await expect(subject.start(order.id, { ...order, plan: 'year' })).rejects.toMatchObject({ code: 'HF_KEY_REUSED' })
      expect(log).toEqual(['add', 'send'])
    })

    it('refuses an input that does not fit, and begins nothing', async () => {
      await expect(provision(world.kit()).start(order.id, { id: order.id } as Order)).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
      expect(await run()).toBeUndefined()
    })

    it('cannot be begun inside a transaction', async () => {
      await expect(world.database.transaction('test.inside', () => start(provision(world.kit())))).rejects.toMatchObject({ code: 'HF_CALL_IN_TX' })
    })

    it('of another version is left alone', async () => {
      const old = provision(world.kit('old'), { send: failing(unreachable()) })
      expect((await start(old)).outcome).toBe('running')
      await world.elapse(10_000)
      const next = provision(world.kit('new'), {}, { version: 2 })
      expect(await start(next)).toMatchObject({ outcome: 'running', reason: expect.stringContaining('version 1') as string })
      expect(await next.sweep(10)).toBe(0)
      expect(await old.sweep(10)).toBe(1)
      expect((await start(next)).outcome).toBe('done')
    })

    it('whose function no longer matches the journal waits for a human, and nothing is undone', async () => {
      await start(provision(world.kit(), { send: failing(unreachable()) }))
      await world.elapse(10_000)
      const other = custom(world.kit(), async step => {
        await step('something-else', { effect: 'idempotent', run: async () => { log.push('else') } })
        return { user: '' }
      })
      expect(await start(other)).toMatchObject({ outcome: 'needs-human', reason: expect.stringContaining('HF_SAGA_DIVERGED') as string })
      expect(log).toEqual(['add'])
    })

    it('whose function ends or fails before it reaches what is recorded waits for a human too', async () => {
      await start(provision(world.kit(), { send: failing(unreachable()) }))
      await world.elapse(10_000)
      expect(await start(custom(world.kit(), async () => { throw new Error('a clock said so') }))).toMatchObject({ outcome: 'needs-human', reason: expect.stringContaining('a clock said so') as string })
      const subject = custom(world.kit(), async () => ({ user: 'early' }))
      expect(await subject.retry(order.id, 'deployed again')).toBe(true)
      expect((await start(subject)).outcome).toBe('needs-human')
      expect(await written()).toEqual(['record'])
    })
  })

  describe('a step that surely failed', () => {
    it('undoes what was done, in reverse order, and says what had no undo', async () => {
      const subject = custom(world.kit(), async step => {
        await step('a', { effect: 'idempotent', run: async () => 1, undo: async () => { log.push('undo a') } })
        await step('kept', { effect: 'idempotent', run: async () => 2 })
        await step('b', { write: ({ tx }) => world.write(tx, `b ${order.id}`), undo: async (_, { tx }) => { log.push('undo b'); await world.write(tx, `-b ${order.id}`) } })
        await step('c', { effect: 'idempotent', run: async () => { throw refuse('the card was declined') }, undo: async () => { log.push('undo c') } })
        return { user: '' }
      }, { runbook: 'stuck' })
      const answer = await start(subject)
      expect(answer).toEqual({ outcome: 'undone', reason: 'step c: the card was declined; not undone: kept' })
      expect(log).toEqual(['undo b', 'undo a'])
      expect(await written()).toEqual(['b', '-b'])
      expect(await states()).toBe('a undone, kept kept, b undone, c clear')
      expect(await start(subject)).toEqual(answer)
      expect(told('saga.finished')[0]).toMatchObject({ outcome: 'undone', runbook: 'stuck' })
    })

    it('is one whose writes threw: they are rolled back', async () => {
      expect(await start(provision(world.kit(), { record: failing(new Error('balance is short')) }))).toMatchObject({ outcome: 'undone' })
      expect(await written()).toEqual([])
      expect(log).toEqual(['add', `remove u-${order.id}`])
    })

    it('ends the run also where the function catches what it threw', async () => {
      const subject = custom(world.kit(), async step => {
        await step('a', { effect: 'idempotent', run: async () => 1, undo: async () => { log.push('undo a') } })
        try {
          await step('b', { effect: 'idempotent', run: async () => { throw refuse('no') } })
        } catch {
          log.push('caught')
        }
        await step('c', { effect: 'idempotent', run: async () => { log.push('c') } }).catch(() => undefined)
        return { user: 'done all the same' }
      })
      expect((await start(subject)).outcome).toBe('undone')
      expect(log).toEqual(['caught', 'undo a'])
    })

    it('is one that was begun beside another: the one at work is waited for and undone', async () => {
      const kit = world.kit()
      const subject = custom(kit, async step => {
        let finish = (): void => undefined
        const slow = step('slow', { effect: 'idempotent', run: () => new Promise<void>(resolve => { finish = resolve }), undo: async () => { log.push('undo slow') } })
        await until(async () => (await states()) === 'slow intent')
        queueMicrotask(() => { setImmediate(finish) })
        await Promise.all([slow, step('beside', { effect: 'idempotent', run: async () => { log.push('beside') } })])
        return { user: '' }
      })
      expect(await start(subject)).toMatchObject({ outcome: 'undone', reason: expect.stringContaining('one after another') as string })
      expect(log).toEqual(['undo slow'])
    })

    it('that nobody waits for is recorded before the run is over', async () => {
      const subject = custom(world.kit(), async step => {
        void step('floating', { effect: 'idempotent', run: async () => { log.push('floating') } })
        return { user: 'early' }
      })
      expect((await start(subject)).outcome).toBe('done')
      expect(await states()).toBe('floating done')
    })
  })

  describe('a step that failed for the moment', () => {
    it('is tried again later, with its key, and what is done is not done again', async () => {
      const subject = provision(world.kit(), { send: failing(unreachable(), hangUp()) })
      expect(await start(subject)).toMatchObject({ outcome: 'running', retryAfterMs: 2_000 })
      expect(await states()).toBe('add-user done, record done, send clear')
      await world.elapse(2_001)
      expect(await start(subject)).toMatchObject({ outcome: 'running', retryAfterMs: 4_000 })
      expect(await states()).toBe('add-user done, record done, send intent')
      await world.elapse(4_001)
      expect((await start(subject)).outcome).toBe('done')
      expect(log).toEqual(['add', 'send'])
      expect(await written()).toEqual(['record'])
    })

    it('has one key over all attempts and processes, and another step has another', async () => {
      const seen: string[] = []
      const send = async ({ key }: StepContext): Promise<void> => { seen.push(key); if (seen.length < 3) throw hangUp() }
      await start(provision(world.kit('a'), { send }))
      await world.elapse(60_000)
      await start(provision(world.kit('b'), { send }))
      await world.elapse(60_000)
      await provision(world.kit('c'), { send }).sweep(10)
      expect(seen).toHaveLength(3)
      expect(new Set(seen).size).toBe(1)
      expect(seen[0]).toMatch(/^[0-9a-f]{64}$/)
      expect(keys[0]).not.toBe(seen[0])
    })

    it('is not hurried by another start', async () => {
      let tries = 0
      const subject = provision(world.kit(), { add: async () => { tries += 1; throw unreachable() } })
      await start(subject)
      const answer = await start(subject)
      expect(answer).toMatchObject({ outcome: 'running', reason: 'step add-user: fetch failed' })
      expect('retryAfterMs' in answer && answer.retryAfterMs !== undefined && answer.retryAfterMs > 500 && answer.retryAfterMs <= 2_000).toBe(true)
      expect(await subject.sweep(10)).toBe(0)
      expect(tries).toBe(1)
    })

    it('waits as long as the other side asked', async () => {
      const busy = new HoldfastError('HF_CALL_FAILED', { message: 'busy', retryAfterMs: 40_000, cause: Object.assign(new Error('429'), { status: 429 }) })
      expect(await start(provision(world.kit(), { add: failing(busy) }))).toMatchObject({ outcome: 'running', retryAfterMs: 40_000 })
    })

    it('is given up after its attempts and its time: undone where it surely did not happen', async () => {
      const subject = provision(world.kit(), { send: () => Promise.reject(unreachable()) }, { attempts: 3, giveUpAfter: '10m' })
      for (let i = 0; i < 5; i++) {
        expect((await start(subject)).outcome).toBe('running')
        await world.elapse(61_000)
      }
      await world.elapse(600_000)
      expect((await start(subject)).outcome).toBe('undone')
      expect(log).toEqual(['add', `remove u-${order.id}`])
      expect(await written()).toEqual(['record', 'unrecord'])
    })

    it('is given up to a human where it may have happened', async () => {
      const subject = provision(world.kit(), { send: () => Promise.reject(hangUp()) }, { attempts: 1, giveUpAfter: '1ms' })
      await start(subject)
      await world.elapse(61_000)
      expect((await start(subject)).outcome).toBe('needs-human')
      expect(log).toEqual(['add'])
    })

    it.each<ErrorCode>(['HF_BREAKER_OPEN', 'HF_OVERLOADED', 'HF_SWITCHED_OFF', 'HF_RATE_LIMITED'])('does not count %s, the refusal of our own guard, as a try', async code => {
      let open = true
      const subject = provision(world.kit(), { send: async () => { if (open) throw new HoldfastError(code, { message: 'not now' }) } }, { attempts: 1, giveUpAfter: '1ms' })
      const waits: number[] = []
      for (let i = 0; i < 8; i++) {
        const answer = await start(subject)
        expect(answer.outcome).toBe('running')
        waits.push(('retryAfterMs' in answer ? answer.retryAfterMs : undefined) ?? 0)
        await world.elapse(3_600_000)
      }
      expect(waits[0]).toBe(2_000)
      expect(waits.at(-1)).toBe(60_000)
      expect((await run())?.attempts).toBe(0)
      open = false
      expect((await start(subject)).outcome).toBe('done')
    })

    it('control: the same outage seen by the step itself does count', async () => {
      const subject = provision(world.kit(), { send: () => Promise.reject(unreachable()) }, { attempts: 2, giveUpAfter: '1ms' })
      await start(subject)
      await world.elapse(3_600_000)
      expect((await start(subject)).outcome).toBe('undone')
    })
  })

  describe('a step that must happen once', () => {
    const charge = (kit: DurableKit<unknown>, take: (context: StepContext) => Promise<unknown>, verify: 'hold' | (() => Promise<{ happened: true; value: string } | { happened: false }>)): Saga<Order, { readonly user: string }> => custom(kit, async step => {
      const ref = await step('charge', { effect: 'once', verify, run: async context => { log.push('charge'); await take(context); return 'charged' } })
      await step('record', { write: ({ tx }) => world.write(tx, `${ref} ${order.id}`) })
      return { user: ref }
    })

    it('is looked up where its outcome is unknown, and not run again when it happened', async () => {
      const subject = charge(world.kit(), () => Promise.reject(hangUp()), async () => ({ happened: true, value: 'found' }))
      expect((await start(subject)).outcome).toBe('running')
      await world.elapse(2_001)
      expect(await start(subject)).toEqual({ outcome: 'done', value: { user: 'found' } })
      expect(log).toEqual(['charge'])
    })

    it('is run again when the look-up says that it did not', async () => {
      const subject = charge(world.kit(), failing(hangUp()), async () => ({ happened: false }))
      await start(subject)
      await world.elapse(2_001)
      expect((await start(subject)).outcome).toBe('done')
      expect(log).toEqual(['charge', 'charge'])
    })

    it('stays unknown when the look-up itself is refused: that says nothing about the charge', async () => {
      const answers: Error[] = [Object.assign(new Error('no such page'), { status: 404 })]
      const subject = charge(world.kit(), () => Promise.reject(hangUp()), async () => { const error = answers.shift(); if (error !== undefined) throw error; return { happened: true, value: 'found' } })
      await start(subject)
      await world.elapse(2_001)
      expect((await start(subject)).outcome).toBe('running')
      expect(await states()).toBe('charge intent')
      await world.elapse(4_001)
      expect((await start(subject)).outcome).toBe('done')
      expect(log).toEqual(['charge'])
    })

    it('on hold needs a human at once, who says that it happened', async () => {
      const subject = charge(world.kit(), () => Promise.reject(hangUp()), 'hold')
      expect(await start(subject)).toEqual({ outcome: 'needs-human', reason: 'step charge: socket hang up' })
      await world.elapse(30 * 86_400_000)
      expect(await subject.sweep(10)).toBe(0)
      expect(await subject.retry(order.id, 'without knowing')).toBe(true)
      expect((await start(subject)).outcome).toBe('needs-human')
      expect(await subject.resolveStep(order.id, { happened: true, value: 'seen at the bank' }, 'bank statement')).toBe(true)
      expect(await subject.retry(order.id, 'bank statement')).toBe(true)
      expect(await start(subject)).toEqual({ outcome: 'done', value: { user: 'seen at the bank' } })
      expect(log).toEqual(['charge'])
    })

    it('on hold may be run again once a human says that it did not happen', async () => {
      const subject = charge(world.kit(), failing(hangUp()), 'hold')
      await start(subject)
      expect(await subject.resolveStep(order.id, { happened: false }, 'nothing at the bank')).toBe(true)
      expect(await subject.resolveStep(order.id, { happened: false }, 'twice')).toBe(false)
      await subject.retry(order.id, 'nothing at the bank')
      expect((await start(subject)).outcome).toBe('done')
      expect(log).toEqual(['charge', 'charge'])
    })

    it('on hold whose process died needs a human', async () => {
      const dead = world.kit('dead')
      void start(charge(dead, () => never(), 'hold'))
      await until(async () => (await states()) === 'charge intent')
      dead.env.kill()
      await world.elapse(15_001)
      const subject = charge(world.kit('b'), async () => undefined, 'hold')
      expect(await subject.sweep(10)).toBe(1)
      expect((await start(subject)).outcome).toBe('needs-human')
      expect(log).toEqual(['charge'])
    })
  })

  describe('a run that needs a human', () => {
    it('is answered so, can be marked by hand, and then is over', async () => {
      const subject = provision(world.kit(), { send: async () => new Date() })
      const stuck = custom(world.kit(), async step => ({ user: await step('bad', { effect: 'idempotent', run: async () => new Date(0) as unknown as string }) }))
      expect(await start(stuck)).toMatchObject({ outcome: 'needs-human' })
      expect((await start(subject)).outcome).toBe('needs-human')
      expect((await world.database.transaction('test.stuck', tx => sagaPort<unknown>(world.database).stuck(tx, 1_000))).some(row => row.saga === name && row.id === order.id)).toBe(true)
      expect(await stuck.markDone(order.id, 'undone', 'refunded by hand')).toBe(true)
      expect(await start(stuck)).toEqual({ outcome: 'undone', reason: 'refunded by hand' })
      expect(await stuck.retry(order.id, 'late')).toBe(false)
      expect(await stuck.markDone(order.id, { value: { user: 'late' } }, 'late')).toBe(false)
      expect(told('saga.finished').at(-1)).toMatchObject({ outcome: 'undone', reason: 'refunded by hand' })
    })

    it('does not lose its record, a finished one does after its time', async () => {
      await start(custom(world.kit(), async step => ({ user: await step('bad', { effect: 'idempotent', run: async () => new Date(0) as unknown as string }) })))
      await world.elapse(400 * 86_400_000)
      const port = sagaPort<unknown>(world.database)
      await world.database.transaction('test.prune', tx => port.prune(tx, 1_000))
      expect((await run())?.state).toBe('needs-human')
      await provision(world.kit()).markDone(order.id, { value: { user: 'by hand' } }, 'by hand')
      expect(await start(provision(world.kit()))).toEqual({ outcome: 'done', value: { user: 'by hand' } })
      await world.elapse(91 * 86_400_000)
      await world.database.transaction('test.prune', tx => port.prune(tx, 1_000))
      expect(await run()).toBeUndefined()
      expect(await steps()).toEqual([])
    })
  })

  describe('an undo', () => {
    it('is recorded after its effect: one that was interrupted is called again, under its key', async () => {
      const seen: string[] = []
      const dead = world.kit('dead')
      void start(provision(dead, { send: failing(refuse('no')), remove: ({ key }) => { seen.push(key); return never() } }))
      await until(async () => seen.length === 1)
      expect(await states()).toBe('add-user done, record undone, send clear')
      dead.env.kill()
      await world.elapse(15_001)
      const b = provision(world.kit('b'), { remove: async ({ key }) => { seen.push(key) } })
      await b.sweep(10)
      expect(await start(b)).toMatchObject({ outcome: 'undone', reason: 'step send: no' })
      expect(seen).toHaveLength(2)
      expect(new Set(seen).size).toBe(1)
      expect(await written()).toEqual(['record', 'unrecord'])
    })

    it('that fails is tried again, then needs a human, who lets it go on', async () => {
      let broken = true
      const subject = provision(world.kit(), { send: failing(refuse('no')), remove: async () => { if (broken) throw hangUp() } }, { undoAttempts: 3 })
      expect(await start(subject)).toMatchObject({ outcome: 'running', retryAfterMs: 2_000 })
      await world.elapse(60_000)
      expect((await start(subject)).outcome).toBe('running')
      await world.elapse(60_000)
      expect(await start(subject)).toMatchObject({ outcome: 'needs-human', reason: expect.stringContaining('tried 3 times') as string })
      expect((await run())?.direction).toBe('undo')
      broken = false
      await subject.retry(order.id, 'the panel is back')
      expect((await start(subject)).outcome).toBe('undone')
      expect(log).toEqual(['add', `remove u-${order.id}`])
      expect(await written()).toEqual(['record', 'unrecord'])
    })

    it('does not count a refusal of our own guard', async () => {
      let open = true
      const subject = provision(world.kit(), { send: failing(refuse('no')), remove: async () => { if (open) throw new HoldfastError('HF_BREAKER_OPEN', { message: 'open' }) } }, { undoAttempts: 1 })
      for (let i = 0; i < 5; i++) {
        expect((await start(subject)).outcome).toBe('running')
        await world.elapse(3_600_000)
      }
      open = false
      expect((await start(subject)).outcome).toBe('undone')
    })

    it('after which no step is run any more', async () => {
      const dead = world.kit('dead')
      void start(provision(dead, { send: failing(refuse('no')), remove: () => never() }))
      await until(async () => (await run())?.state === 'undoing')
      dead.env.kill()
      await world.elapse(15_001)
      log = []
      await provision(world.kit('b')).sweep(10)
      expect(log).toEqual([`remove u-${order.id}`])
    })
  })

  describe('a run whose process died', () => {
    it.each([['before its first step', 'add'], ['between the steps', 'send']] as const)('%s goes on by the sweep of another instance', async (_, at) => {
      const dead = world.kit('dead')
      let reached = false
      void start(provision(dead, { [at]: () => { reached = true; return never() } }))
      await until(async () => reached)
      dead.env.kill()
      const b = provision(world.kit('b'))
      expect(await b.sweep(10)).toBe(0)
      expect(await start(b)).toMatchObject({ outcome: 'running', reason: 'another call is at it' })
      await world.elapse(15_001)
      expect(await b.sweep(10)).toBe(1)
      expect(await start(b)).toEqual({ outcome: 'done', value: { user: `u-${order.id}` } })
      expect(log).toEqual(['add', 'send'])
      expect(await written()).toEqual(['record'])
      expect(told('saga.resumed')).toMatchObject([{ direction: 'forward' }])
    })

    it('is taken up by one of many sweeps at once', async () => {
      const dead = world.kit('dead')
      let reached = false
      void start(provision(dead, { add: () => { reached = true; return never() } }))
      await until(async () => reached)
      dead.env.kill()
      await world.elapse(15_001)
      await Promise.all(['b', 'c', 'd'].map(instance => provision(world.kit(instance)).sweep(10)))
      expect(log).toEqual(['add', 'send'])
      expect(told('saga.resumed')).toHaveLength(1)
    })

    it('is kept by heartbeats as long as it lives', async () => {
      const kit = world.kit('a')
      let finish = (): void => undefined
      const slow = start(provision(kit, { add: () => new Promise<void>(resolve => { finish = resolve }) }))
      await until(async () => (await run())?.live === true && (await states()) === 'add-user intent')
      const b = provision(world.kit('b'))
      for (let i = 0; i < 6; i++) {
        await world.elapse(5_000)
        await world.env.advance('5s')
        await until(async () => ((await run())?.waitMs ?? 0) > 14_000)
        expect(await b.sweep(10)).toBe(0)
      }
      finish()
      expect((await slow).outcome).toBe('done')
      expect(log).toEqual(['add', 'send'])
    })

    it('only in the eyes of others writes nothing any more', async () => {
      let finish = (): void => undefined
      const slow = start(provision(world.kit('zombie'), { add: () => new Promise<void>(resolve => { finish = resolve }) }))
      await until(async () => (await states()) === 'add-user intent')
      await world.elapse(15_001)
      const b = provision(world.kit('b'))
      expect((await start(b)).outcome).toBe('done')
      finish()
      expect(await slow).toEqual({ outcome: 'running', reason: 'another instance took over' })
      expect(await written()).toEqual(['record'])
      expect(log).toEqual(['add', 'send', 'add'])
      expect((await run())?.state).toBe('done')
      expect(world.names('lease.lost').filter(fact => (fact.data as { lease: string }).lease === `saga:${name}`)).toHaveLength(1)
    })

    it('only in the eyes of others cannot undo what the other has finished', async () => {
      let refused: (error: Error) => void = () => undefined
      const slow = start(provision(world.kit('zombie'), { send: () => new Promise((_, reject) => { refused = reject }) }))
      await until(async () => (await states()).endsWith('send intent'))
      await world.elapse(15_001)
      expect((await start(provision(world.kit('b')))).outcome).toBe('done')
      refused(refuse('no'))
      expect((await slow).outcome).toBe('running')
      expect(log).toEqual(['add', 'send'])
      expect(await written()).toEqual(['record'])
    })
  })

  describe('where the answer of a commit is lost', () => {
    it.each(['saga.start', 'saga.intent', 'saga.write', 'saga.finish', 'saga.park', 'saga.turn', 'saga.undone', 'saga.undo-write', 'saga.resume'])('of %s, nothing happens twice', async transaction => {
      const kit = world.kit('a')
      let lose = true
      const flaky: DurableKit<unknown> = { ...kit, database: () => ({
        dialect: world.database.dialect, durability: world.database.durability, ping: () => world.database.ping(), close: () => world.database.close(),
        transaction: async (tx, work, options) => {
          const value = await world.database.transaction(tx, work, options)
          if (lose && tx === transaction) { lose = false; throw new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: 'lost' }) }
          return value
        },
      }) }
      const undone = ['saga.turn', 'saga.undone', 'saga.undo-write'].includes(transaction)
      const subject = provision(flaky, { send: failing(...(undone ? [refuse('no')] : [unreachable()])) })
      for (let i = 0; i < 4; i++) {
        await start(subject)
        await world.elapse(61_000)
        await subject.sweep(10)
      }
      expect(lose).toBe(false)
      expect((await run())?.state).toBe(undone ? 'undone' : 'done')
      expect(log).toEqual(undone ? ['add', `remove u-${order.id}`] : ['add', 'send'])
      expect(await written()).toEqual(undone ? ['record', 'unrecord'] : ['record'])
    })
  })

  it('that cannot be recorded says so, and goes on when the store is back', async () => {
    const kit = world.kit('a')
    let away = false
    const flaky: DurableKit<unknown> = { ...kit, database: () => ({
      dialect: world.database.dialect, durability: world.database.durability, ping: () => world.database.ping(), close: () => world.database.close(),
      transaction: (tx, work, options) => away ? Promise.reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })) : world.database.transaction(tx, work, options),
    }) }
    const subject = provision(flaky, { add: async () => { away = true } })
    const first = start(subject)
    let failed: unknown
    first.catch((error: unknown) => { failed = error })
    await until(async () => {
      await world.env.advance(100)
      return failed !== undefined
    })
    expect(failed).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    away = false
    await world.elapse(15_001)
    expect((await start(provision(world.kit('b')))).outcome).toBe('done')
    expect(log).toEqual(['add', 'add', 'send'])
    expect(new Set(keys).size).toBe(1)
    expect(await written()).toEqual(['record'])
  })
})

describe.skipIf(!realServer)('saga on a real server', () => {
  let world: TestWorld
  beforeAll(async () => { world = await postgresStore.open() })
  afterAll(() => world.close())

  it('a heartbeat passes an open journal write, a take-over waits for it, and then the old fence writes nothing', async () => {
    const key = { saga: 'busy', id: '1' }
    const leaseMs = 60_000
    const tx = <T>(work: (tx: SqlTx) => Promise<T>): Promise<T> => world.database.transaction('test.port', open => work(open as SqlTx))
    const write = (state: StepRow['state']) => (open: SqlTx): Promise<boolean> => sagaSql.journal(open, key, 1, [{ seq: 0, name: 'a', state, output: null }])
    await tx(open => sagaSql.begin(open, { ...key, version: 1, input: '{}', fingerprint: 'f', owner: 'a', leaseMs }))
    const happened: string[] = []
    const gate = (): { readonly open: () => void; readonly opened: Promise<void> } => {
      let open = (): void => undefined
      const opened = new Promise<void>(resolve => { open = resolve })
      return { open: () => { open() }, opened }
    }
    const [inside, goOn] = [gate(), gate()]
    const journalled = tx(async open => {
      const live = await write('done')(open)
      inside.open()
      await goOn.opened
      happened.push('commit')
      return live
    })
    await inside.opened
    expect(await tx(open => sagaSql.renew(open, key, 1, leaseMs))).toEqual({ cancelled: null })
    happened.push('heartbeat')
    await world.elapse(leaseMs)
    const takeOver = tx(open => sagaSql.take(open, key, [1], 'b', leaseMs)).finally(() => { happened.push('take-over') })
    for (let waiting = 0; waiting === 0;) waiting = (await tx(open => open.query(`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`))).length
    goOn.open()
    expect(await journalled).toBe(true)
    expect(await takeOver).toEqual({ fence: 2, tookOver: true })
    expect(happened).toEqual(['heartbeat', 'commit', 'take-over'])
    expect(await tx(write('intent'))).toBe(false)
    expect((await tx(open => sagaSql.steps(open, key)))[0]?.state).toBe('done')
  })
})

describe('a declaration', () => {
  it.each([['version', { version: 0 }], ['attempts', { attempts: 0.5 }], ['undoAttempts', { undoAttempts: 1_001 }], ['lease', { lease: '100ms' }], ['backoffMax', { backoff: '1m', backoffMax: '1s' }]] as const)('refuses a wrong %s', (_, wrong) => {
    const kit = { database: () => { throw new Error('not asked') } } as unknown as DurableKit<unknown>
    expect(() => saga('x', { version: 1, input: Order, run: async () => undefined, ...wrong }, kit)).toThrow(HoldfastError)
  })
})
