/**
 * A run while the store fails around it, and what is said of it: on the memory store, in simulated time.
 */
import { beforeEach, describe, expect, it } from 'vitest'
import { away, faultyStore, noAnswer, text, type FaultyStore } from '../../../test/faulty-store.ts'
import { fakeTickets } from '../../../test/saga-world.ts'
import { HoldfastError } from '../../core/index.ts'
import type { MemoryTx } from '../../store/index.ts'
import type { SimulatedEnv } from '../../testing/index.ts'
import { refuse } from '../failure.ts'
import type { DurableKit } from '../kit.ts'
import type { RunRow, SagaPort } from './port.ts'
import { saga, sagaPort } from './saga.ts'
import type { Saga, SagaOptions, Step } from './types.ts'

const hangUp = (): Error => new Error('socket hang up')
const unreachable = (): Error => Object.assign(new Error('no connection'), { code: 'ECONNREFUSED' })
type Options = SagaOptions<string, string, string, MemoryTx, 'key'>
type Run = (step: Step<MemoryTx, 'key'>) => Promise<string>

let world: FaultyStore
let env: SimulatedEnv
let kit: DurableKit<MemoryTx>
let before: FaultyStore['before']
let after: FaultyStore['after']
/** What was called outside, in order. */
let log: string[]
beforeEach(async () => {
  world = await faultyStore();
  ({ env, kit, before, after } = world)
  log = []
})

const define = (run: Run, change: Partial<Options> = {}, by = kit): Saga<string, string> => saga('order', { version: 1, input: text, undo: { key: async id => { log.push(`undo ${id}`) } }, ...change, run }, by)
const start = (subject: Saga<string, string>): ReturnType<Saga<string, string>['start']> => subject.start('1', 'x')
const act = (name: string, error?: Error) => ({ effect: 'idempotent', run: async () => { log.push(name); if (error !== undefined) throw error; return name }, undo: async () => { log.push(`undo ${name}`) } }) as const
const look = <T>(work: (port: SagaPort<MemoryTx>, tx: MemoryTx) => Promise<T>): Promise<T> => kit.database().transaction('test.look', tx => work(sagaPort<MemoryTx>(kit.database()), tx))
const key = { saga: 'order', id: '1' }
const record = (): Promise<RunRow | undefined> => look((port, tx) => port.read(tx, key))
const notes = async (): Promise<readonly string[]> => (await look((port, tx) => port.history(tx, key)))?.notes.map(({ what, times }) => `${what} x${String(times)}`) ?? []
/** Another instance has the run from here on. */
const overtake = (): Promise<void> => look(async (port, tx) => { await port.park(tx, key, 1, 'test', 0, false); await port.take(tx, key, [1], 'other:1', 60_000) })
/** Waits for a confirmation, behind `first`. */
const erasing = (first: (step: Step<MemoryTx, 'key'>) => Promise<void>, change: Partial<Options> = {}): Saga<string, string> => saga<string, string, string, MemoryTx, 'key'>('order', { version: 1, input: text, undo: { key: async () => undefined }, runbook: 'RUNBOOK#erase', ...change, run: async step => {
  await first(step)
  return step('erase', { effect: 'idempotent', irreversible: { summary: 'Erase it', waitFor: '1m' }, run: async () => 'erased' })
} }, kit, { tickets: fakeTickets() })
/** What it came to after so much time, an error too. */
const settledWithin = async <T>(ms: number, running: Promise<T>): Promise<T | HoldfastError> => {
  const settled = running.catch((error: unknown) => error as HoldfastError)
  await env.advance(ms)
  return settled
}

describe('what is written to the journal', () => {
  const two: Run = async step => { await step('a', act('a')); return step('b', act('b')) }

  it('is written again, ever later, while the store is away', async () => {
    before['saga.intent'] = [away(), away()]
    expect([await settledWithin(1_000, start(define(two))), world.begun('saga.intent')]).toEqual([{ outcome: 'done', value: 'b' }, [0, 200, 600, 600]])
    expect(log).toEqual(['a', 'b'])
  })

  it('is not begun after three times in vain; whoever starts it again goes on', async () => {
    before['saga.intent'] = [away(), away(), away()]
    expect([await settledWithin(1_000, start(define(two))), world.begun('saga.intent'), log]).toEqual([expect.objectContaining({ code: 'HF_STORE_UNAVAILABLE' }), [0, 200, 600], []])
    await env.advance('15s')
    expect(await start(define(two))).toEqual({ outcome: 'done', value: 'b' })
    expect(log).toEqual(['a', 'b'])
  })

  it('is asked for again at once where its answer was lost, and once only where asking again does not help', async () => {
    after['saga.intent'] = [noAnswer()]
    expect([await start(define(two)), world.begun('saga.intent')]).toEqual([{ outcome: 'done', value: 'b' }, [0, 0, 0]])
    before['saga.intent'] = [new HoldfastError('HF_QUERY_FAILED', { message: 'no such column' })]
    await expect(define(two).start('2', 'x')).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
    expect(world.begun('saga.intent').length).toBe(4)
  })

  it('may be refused because the run is to stop, and why is asked for later where the store is away', async () => {
    const cancelled: Run = async step => {
      await step('a', { ...act('a'), run: async () => { await look((port, tx) => port.cancel(tx, key, 'not wanted')); return null } })
      return step('b', act('b'))
    }
    before['saga.look'] = [away()]
    expect(await settledWithin(1_000, start(define(cancelled)))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    await env.advance('15s')
    expect(await start(define(cancelled))).toEqual({ outcome: 'undone', reason: 'not wanted' })
    expect(log).toEqual(['undo a'])
  })

  it('with a local step is rolled back, found out or not counted, as its failure says', async () => {
    const local = define(async step => { await step('a', { write: async () => 1 }); return 'done' })
    before['saga.write'] = [away()]
    expect([await start(local), (await record())?.attempts]).toMatchObject([{ outcome: 'running', reason: 'step a: away' }, 0])
    await env.advance('1m')
    after['saga.write'] = [new HoldfastError('HF_QUERY_FAILED', { message: 'no such column' })]
    await expect(start(local)).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
    await env.advance('1m')
    expect(await start(local)).toEqual({ outcome: 'done', value: 'done' })
    before['saga.write'] = [new HoldfastError('HF_QUERY_FAILED', { message: 'no such table' })]
    expect(await local.start('2', 'x')).toEqual({ outcome: 'undone', reason: 'step a: no such table' })
  })

  it('stops a holder that was overtaken, which says so and does nothing more', async () => {
    const overtaken: Run = async step => {
      await step('a', { effect: 'idempotent', run: async () => { await overtake(); return null } })
      return step('b', act('b'))
    }
    expect(await start(define(overtaken))).toEqual({ outcome: 'running', reason: 'another instance took over' })
    expect([log, world.told('lease.lost'), (await record())?.fence]).toEqual([[], [{ lease: 'saga:order', fence: 1, reason: 'a journal write of this fence was refused' }], 2])
  })
})

describe('a change of the run whose answer was lost', () => {
  it.each<[what: string, transaction: string, Run, Partial<Options>, outcome: object, notes: readonly string[]]>([
    ['turned round', 'saga.turn', async step => { await step('a', act('a')); return step('b', act('b', refuse('no'))) }, {}, { outcome: 'undone', reason: 'step b: no' }, ['turned x1']],
    ['parked', 'saga.park', async step => step('a', act('a', unreachable())), {}, { outcome: 'running', reason: 'step a: no connection', retryAfterMs: 2_000 }, ['failed x1']],
    ['done', 'saga.finish', async step => step('a', act('a')), {}, { outcome: 'done', value: 'a' }, []],
    ['undone', 'saga.finish', async step => step('a', act('a', refuse('no'))), {}, { outcome: 'undone', reason: 'step a: no' }, ['turned x1']],
    ['needs a human', 'saga.finish', async step => step('a', { effect: 'once', verify: 'hold', run: async () => { throw hangUp() } }), {}, { outcome: 'needs-human', reason: 'step a: socket hang up' }, ['needs-human x1']],
  ])('is found to have happened: %s', async (_what, transaction, run, change, outcome, told) => {
    after[transaction] = [noAnswer()]
    expect(await start(define(run, change))).toEqual(outcome)
    expect([world.begun(transaction).length, await notes()]).toEqual([2, told])
    expect(new Set(log).size).toBe(log.length)
    expect([(await record())?.attempts, env.pendingTimers]).toEqual([transaction === 'saga.park' ? 1 : 0, 0])
  })

  it.each<[what: string, transaction: string, Run, outcome: string, notes: readonly string[]]>([
    ['turned round', 'saga.turn', async step => step('a', act('a', refuse('no'))), 'undone', ['turned x1']],
    ['parked', 'saga.park', async step => step('a', act('a', unreachable())), 'running', ['failed x1']],
    ['done', 'saga.finish', async step => step('a', act('a')), 'done', []],
  ])('and one that did not happen is made again: %s', async (_what, transaction, run, outcome, told) => {
    before[transaction] = [away()]
    expect(await settledWithin(500, start(define(run)))).toMatchObject({ outcome })
    expect([world.begun(transaction), await notes()]).toEqual([[0, 200], told])
  })
})

describe('a run that goes on later', () => {
  it('is due at its deadline where that comes first, and by its backoff once that is over', async () => {
    const subject = define(async step => step('a', act('a', unreachable())), { backoff: '10s', backoffMax: '10m', deadline: '25s' })
    expect([await start(subject), env.pendingTimers]).toMatchObject([{ outcome: 'running', retryAfterMs: 10_000 }, 0])
    await env.advance(10_000)
    expect(await start(subject)).toMatchObject({ outcome: 'running', retryAfterMs: 15_000 })
    await env.advance(15_000)
    // It surely did not happen, and nothing begins any more.
    expect(await start(subject)).toMatchObject({ outcome: 'undone', reason: 'its deadline has passed' })
  })

  it('is due at its deadline by when it stopped, not by when it was taken up', async () => {
    const subject = define(async step => step('a', { effect: 'idempotent', run: async () => { await env.sleep(8_000); throw unreachable() } }), { backoff: '10s', deadline: '12s' })
    expect(await settledWithin(8_000, start(subject))).toMatchObject({ outcome: 'running', retryAfterMs: 4_000 })
  })

  it('waits a quarter of its age where nothing was tried, and at least its backoff', async () => {
    const open = new HoldfastError('HF_BREAKER_OPEN', { message: 'open' })
    const subject = define(async step => step('a', act('a', open)), { backoff: '2s', backoffMax: '20s' })
    expect(await start(subject)).toMatchObject({ retryAfterMs: 2_000 })
    await env.advance(40_000)
    expect(await start(subject)).toMatchObject({ retryAfterMs: 10_000 })
    await env.advance('10m')
    expect(await start(subject)).toMatchObject({ retryAfterMs: 20_000 })
    expect((await record())?.attempts).toBe(0)
  })

  it('is given up only when it is old and was tried often enough', async () => {
    const subject = define(async step => step('a', act('a', unreachable())), { attempts: 3, giveUpAfter: '1ms' })
    for (const outcome of ['running', 'running', 'undone']) {
      expect(await start(subject)).toMatchObject({ outcome })
      await env.advance('1m')
    }
  })

  it('keeps the reason for which it was stopped first', async () => {
    const subject = define(async step => { await step('a', { ...act('a'), run: async () => { await env.sleep(11_000); return null } }); return step('b', act('b')) }, { deadline: '10s', lease: '60s' })
    const started = start(subject)
    await env.advance(7_000)
    void subject.cancel('1', 'not wanted', { id: 'alice', via: 'cli' })
    await env.advance(20_000)
    expect(await started).toEqual({ outcome: 'undone', reason: 'cancelled by cli:alice: not wanted' })
  })

  it('asks again for a confirmation that nobody gave in time, where there is no way back', async () => {
    const subject = erasing(async step => { await step('a', { effect: 'idempotent', pivot: true, run: async () => 1 }) })
    expect((await start(subject)).outcome).toBe('running')
    await env.advance('61s')
    expect([(await start(subject)).outcome, await notes()]).toEqual(['running', ['asked x2']])
  })

  it('does not ask again for what somebody was asked already, and waiting is no failed try', async () => {
    const subject = erasing(async step => { await step('a', { effect: 'idempotent', pivot: true, run: async () => 1 }) }, { deadline: '25s' })
    const waiting = { outcome: 'running', reason: 'waits for confirmation: Erase it' }
    expect(await start(subject)).toEqual({ ...waiting, retryAfterMs: 25_000 })
    await env.advance(25_000)
    expect(await start(subject)).toMatchObject({ outcome: 'needs-human', reason: 'past its point of no return (a): its deadline has passed' })
    expect(await subject.retry('1', 'late, and still wanted')).toBe(true)
    expect(await start(subject)).toEqual({ ...waiting, retryAfterMs: 35_000 })
    expect([world.told('saga.waiting'), (await record())?.attempts]).toEqual([[{ ...key, step: 'erase', summary: 'Erase it', runbook: 'RUNBOOK#erase' }], 0])
    expect(await notes()).toEqual(['asked x1', 'needs-human x1', 'retried x1'])
  })

  it('asks for nothing once it was overtaken', async () => {
    expect(await start(erasing(overtake))).toEqual({ outcome: 'running', reason: 'another instance took over' })
    expect([world.told('saga.waiting'), await notes()]).toEqual([[], []])
  })

  it('keeps what it says within bounds', async () => {
    await start(define(async step => step('a', act('a', Object.assign(unreachable(), { message: 'x'.repeat(2_000) })))))
    expect((await look((port, tx) => port.history(tx, key)))?.notes.map(({ detail }) => detail.length)).toEqual([500])
  })
})

describe('a step of unknown outcome, tried again and unreachable then', () => {
  it.each<[what: string, verify: boolean, state: string]>([
    // Without a look the attempt before may still have happened.
    ['stays unknown', false, 'intent'],
    ['surely did not happen after a look that found nothing', true, 'clear'],
  ])('%s', async (_what, verify, state) => {
    const errors = [hangUp(), unreachable()]
    const run = async (): Promise<string> => { throw errors.shift() ?? new Error('called once more') }
    const subject = define(async step => step('a', verify ? { effect: 'once', run, verify: async () => ({ happened: false }) } : { effect: 'idempotent', run }))
    expect((await start(subject)).outcome).toBe('running')
    await env.advance('1m')
    expect((await start(subject)).outcome).toBe('running')
    expect((await look((port, tx) => port.steps(tx, key))).map(step => step.state)).toEqual([state])
  })
})

describe('the way back', () => {
  it('that fails after the deadline is tried again by its backoff', async () => {
    const subject = define(async step => {
      await step('a', { effect: 'idempotent', run: async () => 1, undo: async () => { throw unreachable() } })
      await step('b', { effect: 'idempotent', run: async () => { await env.sleep(11_000) } })
      return step('c', act('c'))
    }, { deadline: '10s', backoff: '2s' })
    expect(await settledWithin(11_000, start(subject))).toEqual({ outcome: 'running', reason: 'its deadline has passed', retryAfterMs: 2_000 })
    await env.advance(2_000)
    expect(await start(subject)).toMatchObject({ retryAfterMs: 4_000 })
  })

  it.each<[how: string, undo: (context: { readonly signal: AbortSignal }) => Promise<void>]>([
    ['at its next write', async () => undefined],
    ['by its signal', async ({ signal }) => { await env.sleep(3_600_000, signal); throw new Error('interrupted') }],
  ])('of a holder that was overtaken ends without a word of failure: told %s', async (_how, undo) => {
    const subject = define(async step => {
      await step('a', { effect: 'idempotent', run: async () => 1, undo: async (_output, context) => { await overtake(); await undo(context) } })
      return step('b', act('b', refuse('no')))
    })
    expect(await settledWithin(60_000, start(subject))).toEqual({ outcome: 'running', reason: 'another instance took over' })
    expect(world.told('saga.step')).not.toContainEqual(expect.objectContaining({ phase: 'undo' }))
  })

  it('gone on with after an undo that failed knows what each step came to, also of those that are undone', async () => {
    const seen: unknown[] = []
    const errors = [unreachable()]
    const subject = define(async step => {
      await step('a', { effect: 'idempotent', run: async () => 1, undo: async () => { const error = errors.shift(); if (error !== undefined) throw error } })
      seen.push((await step('b', act('b'))).toUpperCase(), await step('c', act('c')))
      return step('d', act('d', refuse('no')))
    })
    expect((await start(subject)).outcome).toBe('running')
    await env.advance('1m')
    expect((await start(subject)).outcome).toBe('undone')
    expect([seen, log]).toEqual([['B', 'c', 'B', 'c'], ['b', 'c', 'd', 'undo c', 'undo b']])
    expect(await subject.replay('1')).toEqual({ diverges: false, steps: 4 })
  })

  it('needs a human where the code does not reach all that is to be undone, who is told what is still there', async () => {
    const undo = { key: async (id: string) => { if (id === 'k1') throw unreachable() } }
    const subject = define(async step => {
      await step('a', act('a'))
      await step('make', { effect: 'idempotent', run: async ({ track }) => { await track('key', 'k1'); await track('key', 'k2') } })
      return step('b', act('b', refuse('no')))
    }, { undo })
    expect((await start(subject)).outcome).toBe('running')
    await env.advance('1m')
    expect(await start(define(async () => { throw new TypeError('rewritten') }, { undo }))).toEqual({
      outcome: 'needs-human', reason: 'HF_SAGA_DIVERGED: 1 steps are to be undone, the code reaches 0; it has made: key k1',
    })
    expect(log).toEqual(['a', 'b'])
  })
})

describe('a function', () => {
  it('that calls two steps by one name is undone and told so', async () => {
    expect(await start(define(async step => { await step('a', act('a')); return step('a', act('a')) }))).toEqual({ outcome: 'undone', reason: 'two steps are called a; their keys would be the same' })
    expect(log).toEqual(['a', 'undo a'])
  })

  it('is thrown why its run is over, in every step that it asks for after that', async () => {
    const thrown: unknown[] = []
    await start(define(async step => {
      await step('a', act('a', refuse('no'))).catch((error: unknown) => { thrown.push(error) })
      return step('b', act('b')).catch((error: unknown) => { thrown.push(error); return 'caught' })
    }))
    const over = { code: 'HF_SAGA_STEP_FAILED', message: 'saga order 1: step a: no', context: key }
    expect([thrown, log]).toMatchObject([[over, over], ['a']])
  })

  it('begins nothing once it has returned', async () => {
    let later: Step<MemoryTx, 'key'> | undefined
    expect(await start(define(async step => { later = step; return 'returned' }))).toEqual({ outcome: 'done', value: 'returned' })
    await expect(later?.('a', act('a'))).rejects.toMatchObject({ code: 'HF_SAGA_STEP_FAILED', message: 'saga order 1: the run is over in this process' })
    expect(log).toEqual([])
  })

  it('is shown by each step what earlier attempts of that one have made, and nothing of others', async () => {
    const shown: unknown[] = []
    const errors = [unreachable()]
    const subject = define(async step => {
      await step('a', { effect: 'idempotent', run: async ({ track }) => { await track('key', 'k1', 'the first key') } })
      return step('b', { effect: 'idempotent', run: async ({ track, tracked }) => {
        shown.push(tracked)
        await track('key', 'k2', 'the second key')
        await track('key', 'k3')
        const error = errors.shift()
        if (error !== undefined) throw error
        return 'b'
      } })
    })
    expect((await start(subject)).outcome).toBe('running')
    await env.advance('1m')
    expect((await start(subject)).outcome).toBe('done')
    expect(shown).toEqual([[], [{ kind: 'key', id: 'k2', description: 'the second key' }, { kind: 'key', id: 'k3' }]])
  })

  it('may make two kinds of thing under one name', async () => {
    const undo = { key: async (id: string) => { log.push(`undo key ${id}`) }, disk: async (id: string) => { log.push(`undo disk ${id}`) } }
    const subject = saga<string, string, string, MemoryTx, 'key' | 'disk'>('order', { version: 1, input: text, undo, run: async step => {
      await step('a', { effect: 'idempotent', run: async ({ track }) => { await track('key', 'x'); await track('disk', 'x'); await track('key', 'x') } })
      return step('b', act('b', refuse('no')))
    } }, kit)
    expect((await start(subject)).outcome).toBe('undone')
    expect(log).toEqual(['b', 'undo disk x', 'undo key x'])
  })

  it('cannot track under no name', async () => {
    const thrown: unknown[] = []
    await start(define(async step => step('a', { effect: 'idempotent', run: async ({ track }) => { await track('key', '').catch((error: unknown) => { thrown.push(error) }); return 'a' } })))
    expect(thrown).toMatchObject([{ code: 'HF_OPTION_INVALID' }])
  })
})

describe('what is said of a run', () => {
  it('tells each step and each undo, and what could not be undone', async () => {
    const subject = define(async step => {
      await step('kept', { effect: 'idempotent', run: async () => 1 })
      await step('local', { write: async () => 2, undo: async () => { log.push('undo local') } })
      await step('made', { effect: 'idempotent', run: async ({ track }) => track('key', 'k') })
      await step('a', act('a'))
      return step('refused', act('refused', refuse('no')))
    }, { runbook: 'RUNBOOK#order' })
    const reason = 'step refused: no; not undone: kept'
    expect(await start(subject)).toEqual({ outcome: 'undone', reason })
    const done = (step: string): object => ({ ...key, step, phase: 'do', outcome: 'done' })
    const undone = (step: string): object => ({ ...key, step, phase: 'undo', outcome: 'done' })
    expect(world.told('saga.step')).toEqual([
      done('kept'), done('local'), done('made'), done('a'), { ...key, step: 'refused', phase: 'do', outcome: 'failed', message: 'no' },
      undone('a'), { ...undone('made'), message: 'it has no undo and is kept' }, undone('key k'), undone('local'), { ...undone('kept'), message: 'it has no undo and is kept' },
    ])
    expect([world.told('saga.started'), world.told('saga.finished')]).toEqual([[key], [{ ...key, outcome: 'undone', reason, runbook: 'RUNBOOK#order' }]])
    expect(log).toEqual(['a', 'refused', 'undo a', 'undo k', 'undo local'])
  })

  it('tells of an undo that fails, and names at most ten of what is left', async () => {
    const many = (count: number): Run => async step => {
      for (let i = 0; i < count; i++) await step(`s${String(i)}`, { effect: 'idempotent', run: async () => i, undo: async () => { throw refuse('the door is shut') } })
      return step('refused', act('refused', refuse('no')))
    }
    expect(await start(define(many(12), { undoAttempts: 1 }))).toEqual({
      outcome: 'needs-human', reason: 'undo of s11: the door is shut (undone because step refused: no); tried 1 times; still to undo: s11, s10, s9, s8, s7, s6, s5, s4, s3, s2 and 2 more',
    })
    expect(world.told('saga.step').at(-1)).toEqual({ ...key, step: 's11', phase: 'undo', outcome: 'failed', message: 'the door is shut' })
    expect(await define(many(10), { undoAttempts: 1 }).start('2', 'x')).toMatchObject({ reason: expect.stringMatching(/s1, s0$/) as string })
    expect(world.told('saga.finished').at(-1)).not.toHaveProperty('runbook')
  })

  it.each<[where: string, Run]>([
    ['before its first step', () => new Promise(() => undefined)],
    ['after step c', async step => { await step('a', act('a')); await step('b', act('b')); await step('c', { write: async () => null }); return new Promise(() => undefined) }],
    ['in step b', async step => { await step('a', act('a')); return step('b', { effect: 'idempotent', run: () => new Promise<never>(() => undefined) }) }],
    ['while it was being undone', async step => { await step('a', { effect: 'idempotent', run: async () => 1, undo: () => new Promise(() => undefined) }); return step('b', act('b', refuse('no'))) }],
  ])('says where its holders died: %s', async (where, run) => {
    const dead = { ...kit, env: env.process('dead'), instance: 'dead' }
    void start(define(run, {}, dead))
    await env.advance(10)
    dead.env.kill()
    await env.advance('1m')
    expect(await start(define(run, { crashes: 1 }))).toMatchObject({ outcome: 'needs-human', reason: expect.stringMatching(`^1 holders in a row died ${where}`) as string })
    expect(world.told('saga.resumed')).toEqual([{ ...key, direction: where.startsWith('while') ? 'undo' : 'forward' }])
  })
})
