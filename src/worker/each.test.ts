import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, type Duration, type HoldfastEvent } from '../core/index.ts'
import type { Database, MemoryTx } from '../store/index.ts'
import { memory, memoryDisk } from '../store/memory/index.ts'
import { simulatedEnv } from '../testing/simulated-env.ts'
import { failureOf } from './each.ts'
import { localItems, storedItems, worker, type EachResult, type ItemLedger, type WorkerBase, type WorkerContext } from './index.ts'

type Kind = 'in the store' | 'in the process'
const KINDS: readonly Kind[] = ['in the store', 'in the process']

async function world(kind: Kind = 'in the process') {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const seen: HoldfastEvent[] = []
  events.onAny(event => { seen.push(event) })
  const database: Database<MemoryTx> = await memory(memoryDisk()).open({ env, events, service: 'test' })
  const kit = { env, events, service: 'test', instance: 'i', database: () => database }
  const items: ItemLedger = kind === 'in the store' ? storedItems(kit) : localItems(env)
  const make = (run: (context: WorkerContext) => Promise<unknown>, change: Partial<WorkerBase> & { readonly every?: Duration } = {}) =>
    worker('activation', { every: '5m', safeSleep: '10s', maxAttempts: 3, runbook: 'activation-failed', run, ...change }, kit, { items })
  return { env, seen, items, make, iterations: () => seen.filter(event => event.name === 'worker.iteration').map(event => event.data) }
}

describe.each(KINDS)('an item that fails (attempts kept %s)', kind => {
  it('never stops the others, waits longer each time, and is parked after its attempts', async () => {
    const { env, seen, items, make, iterations } = await world(kind)
    const tries: [string, number, number][] = []
    const loop = make(({ each }) => each(['good', 'poison', 'fine'], String, async (item, { attempt }) => {
      tries.push([item, attempt, env.monotonic()])
      if (item === 'poison') throw new TypeError('cannot read tariff of null')
    }))
    loop.start()
    await env.advance('10m')
    expect(tries.filter(([item]) => item === 'poison')).toEqual([['poison', 1, 0], ['poison', 2, 10_000], ['poison', 3, 30_000]])
    expect(tries.filter(([item]) => item === 'fine').length).toBeGreaterThan(3)
    expect(iterations()[0]).toMatchObject({ outcome: 'degraded', reason: '1 of 3 items failed', done: 2, failed: 1, parked: 0 })
    expect(seen.filter(event => event.name === 'worker.item.failed').map(event => [event.data.attempt, event.data.failure])).toEqual([[1, 'defect'], [2, 'defect'], [3, 'defect']])
    expect(seen.filter(event => event.name === 'worker.item.parked').map(event => event.data)).toEqual([{ worker: 'activation', item: 'poison', attempts: 3, message: 'cannot read tariff of null', runbook: 'activation-failed' }])
    expect(loop.snapshot()).toMatchObject({ parked: 1, lastOutcome: 'ok' })
    expect(await items.list(undefined, 10)).toMatchObject([{ worker: 'activation', item: 'poison', condition: 'parked', attempts: 3 }])
    await loop.stop()
  })

  it('and then succeeds leaves no trace', async () => {
    const { env, items, make } = await world(kind)
    let broken = true
    const loop = make(({ each }) => each(['a'], String, async () => { if (broken) throw new Error('once') }))
    loop.start()
    await env.settle()
    expect(await items.list('activation', 10)).toHaveLength(1)
    broken = false
    await env.advance('10s')
    expect(await items.list('activation', 10)).toEqual([])
    await loop.stop()
  })

  it('parked comes back by an operator\'s retry with all its attempts, or never by discard', async () => {
    const { env, items, make } = await world(kind)
    let tries = 0
    const loop = make(({ each }) => each(['a'], String, async () => { tries += 1; throw new Error('x') }), { maxAttempts: 1 })
    loop.start()
    await env.advance('20m')
    expect(tries).toBe(1)
    expect(await loop.retry('a')).toBe(true)
    await env.advance('10s')
    expect([tries, loop.snapshot().parked]).toEqual([2, 1])
    expect(await loop.discard('a')).toBe(true)
    await env.advance('1h')
    expect(tries).toBe(2)
    expect(await items.list('activation', 10)).toMatchObject([{ condition: 'discarded' }])
    expect([await loop.retry('b'), await loop.discard('b')]).toEqual([false, false])
    await loop.stop()
  })
})

describe('a batch', () => {
  it('in which all fail is a failed iteration', async () => {
    const { env, make, iterations } = await world()
    const loop = make(({ each }) => each(['a', 'b'], String, async () => { throw new Error('x') }))
    loop.start()
    await env.settle()
    expect(iterations()).toMatchObject([{ outcome: 'failed', reason: '2 items failed' }])
    await loop.stop()
  })

  it.each(['HF_BREAKER_OPEN', 'HF_SWITCHED_OFF', 'HF_STORE_UNAVAILABLE', 'HF_OVERLOADED'] as const)('ends at %s without blaming an item', async code => {
    const { env, items, make, iterations } = await world()
    const tries: number[] = []
    const loop = make(({ each }) => each([1, 2, 3], String, async item => {
      tries.push(item)
      if (item === 2) throw new HoldfastError(code, { message: 'not now' })
    }))
    loop.start()
    await env.settle()
    expect(tries).toEqual([1, 2])
    expect(await items.list('activation', 10)).toEqual([])
    expect(iterations()).toMatchObject([{ outcome: 'degraded', reason: 'not now', done: 1, failed: 0 }])
    await loop.stop()
  })

  it('runs at most as many at a time as it may, and takes asynchronous sources', async () => {
    const { env, make } = await world()
    let inside = 0
    let most = 0
    let closed = false
    async function* source() {
      try {
        for (let index = 0; index < 10; index++) {
          await env.sleep(1)
          yield index
        }
      } finally {
        closed = true
      }
    }
    let result: EachResult | undefined
    const loop = make(async ({ each }) => {
      result = await each(source(), String, async () => {
        inside += 1
        most = Math.max(most, inside)
        await env.sleep(100)
        inside -= 1
      }, { concurrency: 3 })
    })
    loop.start()
    await env.advance('1s')
    expect([most, closed, result]).toEqual([3, true, { done: 10, failed: 0, parked: 0, waiting: 0, postponed: 0 }])
    await loop.stop()
  })

  it('whose item hangs goes on after the deadline; the item counts as failed and is not begun beside itself', async () => {
    const { env, seen, make } = await world()
    const begun: string[] = []
    const loop = make(({ each }) => each(['hung', 'fine'], String, async item => {
      begun.push(item)
      if (item === 'hung') await new Promise(() => undefined)
    }), { deadline: '20s', every: '30s' })
    loop.start()
    await env.advance('10m')
    expect(begun.filter(item => item === 'hung')).toHaveLength(1)
    expect(begun.filter(item => item === 'fine').length).toBeGreaterThan(5)
    expect(seen.filter(event => event.name === 'worker.item.failed').map(event => event.data)).toMatchObject([{ item: 'hung', attempt: 1, failure: 'dependency_error' }])
    await loop.stop()
  })

  it('counts an item that has not ended since it was cut off as waiting, and does not begin it beside itself', async () => {
    const { env, make } = await world()
    const begun: number[] = []
    const results: EachResult[] = []
    const loop = make(async ({ each }) => { results.push(await each(['deaf'], String, async () => { begun.push(env.monotonic()); await env.sleep(100_000) })) }, { every: '30s', deadline: '20s' })
    loop.start()
    await env.advance('70s')
    expect([begun, results.at(-1)]).toEqual([[0], { done: 0, failed: 0, parked: 0, waiting: 1, postponed: 0 }])
    await Promise.all([loop.stop(), env.advance('1h')])
  })

  it('puts off what its source hands it after a stop, and says so', async () => {
    const { env, make, iterations } = await world()
    const results: EachResult[] = []
    async function* slow(): AsyncGenerator<string> { yield 'a'; await env.sleep(1_000); yield 'b' }
    const loop = make(async ({ each }) => { results.push(await each(slow(), String, async () => undefined)) })
    loop.start()
    await env.advance('500ms')
    const stopped = loop.stop()
    await env.advance('1s')
    await stopped
    expect([results, iterations()]).toMatchObject([[{ done: 1, postponed: 1 }], [{ outcome: 'ok', reason: 'stopping', done: 1 }]])
  })

  it('begins nothing more once it cannot tell an item by its key', async () => {
    const { env, make, iterations } = await world()
    const begun: number[] = []
    const loop = make(({ each }) => each([1, 2, 3, 4, 5, 6], item => { if (item === 2) throw new Error('no key'); return String(item) }, async item => { begun.push(item); await env.sleep(10) }, { concurrency: 2 }))
    loop.start()
    await env.advance('1s')
    expect([begun, iterations()]).toMatchObject([[1], [{ outcome: 'failed', reason: 'no key' }]])
    await loop.stop()
  })

  it('shows as parked only what is parked, and not what waits for its next attempt', async () => {
    const { env, make } = await world()
    const loop = make(({ each }) => each(['bad', 'good'], String, async item => { if (item === 'bad') throw new Error('no') }))
    loop.start()
    await env.advance('11s')
    expect(loop.snapshot().parked).toBe(0)
    await env.advance('30s')
    expect(loop.snapshot().parked).toBe(1)
    await loop.stop()
  })

  it('whose source throws fails the iteration, whose source hangs is cut at the deadline', async () => {
    const { env, make, iterations } = await world()
    async function* broken() {
      yield 1
      throw new Error('cursor lost')
    }
    const throwing = make(({ each }) => each(broken(), String, async () => undefined))
    throwing.start()
    await env.settle()
    expect(iterations().at(-1)).toMatchObject({ outcome: 'failed', reason: 'cursor lost', done: 1 })
    await throwing.stop()
    const hanging = make(({ each }) => each({ [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) }, String, async () => undefined), { deadline: '20s' })
    hanging.start()
    await env.advance('22s')
    expect(iterations().at(-1)).toMatchObject({ outcome: 'failed' })
    await hanging.stop()
  })

  it('says what failed even when the attempt cannot be counted, and the iteration fails', async () => {
    const { env, seen, items, make, iterations } = await world()
    const original = items.fail.bind(items)
    Object.assign(items, { fail: () => Promise.reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })) })
    const loop = make(({ each }) => each(['a'], String, async () => { throw new Error('real trouble') }))
    loop.start()
    await env.settle()
    expect(seen.filter(event => event.name === 'worker.item.failed').map(event => event.data.message)).toEqual(['real trouble'])
    expect(iterations()).toMatchObject([{ outcome: 'failed', reason: 'away' }])
    Object.assign(items, { fail: original })
    await loop.stop()
  })

  it('tells its worker what became of each: done, failed, parked, waiting, put off; one that comes twice is one', async () => {
    const { env, make, seen, iterations } = await world()
    const results: EachResult[] = []
    const failing = ['bad', 'worse', 'worse']
    const loop = make(async ({ each }) => {
      results.push(await each(['good', 'bad', 'good', 'worse'], String, async item => {
        if (failing.includes(item)) throw new Error(failing.splice(failing.indexOf(item), 1)[0])
      }))
    }, { maxAttempts: 2 })
    loop.start()
    await env.settle()
    expect(results).toEqual([{ done: 1, failed: 2, parked: 0, waiting: 0, postponed: 0 }])
    // Woken while both wait.
    await env.advance('5s')
    const asked = loop.runNow()
    await env.settle()
    await asked
    expect(results[1]).toEqual({ done: 1, failed: 0, parked: 0, waiting: 2, postponed: 0 })
    // It runs again when the first of them is due, and not only after `every`.
    await env.advance('5s')
    await env.advance('5s')
    expect(results[2]).toEqual({ done: 2, failed: 1, parked: 1, waiting: 0, postponed: 0 })
    // What is parked waits for a person, and no time is due for it.
    await env.advance('5m')
    expect(results[3]).toEqual({ done: 2, failed: 0, parked: 0, waiting: 1, postponed: 0 })
    expect(iterations().map(({ outcome, done, failed, parked }) => [outcome, done, failed, parked])).toEqual([['degraded', 1, 2, 0], ['ok', 1, 0, 0], ['degraded', 2, 1, 1], ['ok', 2, 0, 0]])
    expect(seen.filter(event => event.name === 'worker.item.failed').map(event => event.data)).toMatchObject([
      { worker: 'activation', item: 'bad', attempt: 1, failure: 'defect', message: 'bad' }, { worker: 'activation', item: 'worse', attempt: 1, message: 'worse' }, { worker: 'activation', item: 'worse', attempt: 2, message: 'worse' },
    ])
    await loop.stop()
  })

  it('puts off what it has not begun when it is not the item\'s fault, and says whose it is', async () => {
    const { env, items, make, iterations } = await world()
    const results: EachResult[] = []
    let tries = 0
    const loop = make(async ({ each }) => { results.push(await each(['a', 'b', 'c'], String, async () => { tries += 1; throw new HoldfastError('HF_BREAKER_OPEN', { message: 'panel is left alone' }) })) })
    loop.start()
    await env.settle()
    expect([tries, results, await items.list(undefined, 10)]).toEqual([1, [{ done: 0, failed: 0, parked: 0, waiting: 0, postponed: 1 }], []])
    expect(iterations()).toMatchObject([{ outcome: 'degraded', reason: 'panel is left alone', done: 0, failed: 0 }])
    await loop.stop()
  })

  it('counts what a store that is away could not: the attempt is one more than it knew', async () => {
    const { env, seen, items, make } = await world()
    const original = items.fail.bind(items)
    const loop = make(({ each }) => each(['a'], String, async () => { throw new Error('x') }))
    loop.start()
    await env.settle()
    Object.assign(items, { fail: () => Promise.reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })) })
    await env.advance('10s')
    expect(seen.filter(event => event.name === 'worker.item.failed').map(event => event.data.attempt)).toEqual([1, 2])
    Object.assign(items, { fail: original })
    await loop.stop()
  })

  it('forgets nothing of an item that it has nothing written of', async () => {
    const { env, items, make } = await world()
    let cleared = 0
    Object.assign(items, { clear: async () => { cleared += 1 } })
    const loop = make(({ each }) => each(['a', 'b'], String, async () => undefined))
    loop.start()
    await env.settle()
    expect(cleared).toBe(0)
    await loop.stop()
  })

  it('listens once to the end of its iteration, however many lanes it has', async () => {
    const { env, make } = await world()
    const listeners: number[] = []
    const loop = make(({ each }) => each(Array.from({ length: 50 }, (_, i) => i), String, async (_item, { signal }) => {
      listeners.push(getEventListeners(signal, 'abort').length)
      await env.sleep(10)
    }, { concurrency: 50 }))
    loop.start()
    await env.advance('1s')
    expect(listeners).toHaveLength(50)
    // More than ten are a warning of Node's on standard error.
    expect(Math.max(...listeners)).toBeLessThanOrEqual(2)
    await loop.stop()
  })

  it.each<[how: string, asked: string[], items: string[], closed: boolean]>([
    ['is closed where the batch ends before it', ['a', 'b'], ['a', 'b', 'c', 'd'], true],
    ['that has told everything is not closed once more', ['a'], ['a'], false],
  ])('a source %s', async (_how, asked, items, closes) => {
    const { env, make } = await world()
    const told: string[] = []
    let closed = 0
    const source = { [Symbol.iterator]: () => ({
      next: () => {
        const value = items[told.length]
        if (value === undefined) return { done: true as const, value: undefined }
        told.push(value)
        return { done: false as const, value }
      },
      return: () => { closed += 1; return { done: true as const, value: undefined } },
    }) }
    const loop = make(({ each }) => each(source, String, async item => { if (item === 'b') throw new HoldfastError('HF_BREAKER_OPEN', { message: 'left alone' }) }))
    loop.start()
    await env.settle()
    expect([told, closed]).toEqual([asked, closes ? 1 : 0])
    await loop.stop()
  })

  it('is asked for no item after it said that there are no more, or failed, however many lanes wait', async () => {
    const { env, make, iterations } = await world()
    let asked = 0
    const ending = make(({ each }) => each({ [Symbol.asyncIterator]: () => ({ next: async () => { asked += 1; await env.sleep(1); return asked === 1 ? { done: false as const, value: 1 } : { done: true as const, value: undefined } } }) }, String, async () => env.sleep(50), { concurrency: 5 }))
    ending.start()
    await env.advance('1s')
    expect(asked).toBe(2)
    await ending.stop()
    asked = 0
    const failing = make(({ each }) => each({ [Symbol.asyncIterator]: () => ({ next: async () => { asked += 1; await env.sleep(1); throw new Error('cursor lost') } }) }, String, async () => undefined, { concurrency: 5 }))
    failing.start()
    await env.advance('1s')
    expect([asked, iterations().at(-1)]).toMatchObject([1, { outcome: 'failed', reason: 'cursor lost' }])
    await failing.stop()
  })

  it.each<[what: string, error: unknown, failure: string]>([
    ['of our own code', new TypeError('undefined is not a function'), 'defect'], ['with a code of the system', Object.assign(new Error('reset'), { code: 'ECONNRESET' }), 'dependency_error'],
    ['that was aborted', Object.assign(new Error('aborted'), { name: 'AbortError' }), 'dependency_error'], ['that took too long', Object.assign(new Error('slow'), { name: 'TimeoutError' }), 'dependency_error'],
    ['that knows its class', new HoldfastError('HF_INPUT_INVALID', { message: 'no' }), new HoldfastError('HF_INPUT_INVALID', { message: 'no' }).failure], ['that is none', 'just a text', 'defect'],
  ])('whose fault an error is: %s', (_what, error, failure) => {
    expect(failureOf(error)).toBe(failure)
  })

  it.each([[0, false], [1.5, false], [1, true], [1_000, true], [1_001, false]])('takes a concurrency of %s: %s', async (concurrency, taken) => {
    const { env, make, iterations } = await world()
    const loop = make(({ each }) => each(['a'], String, async () => undefined, { concurrency }))
    loop.start()
    await env.settle()
    expect(iterations()).toMatchObject([taken ? { outcome: 'ok' } : { outcome: 'failed', error: { code: 'HF_OPTION_INVALID', context: { worker: 'activation' } } }])
    await loop.stop()
  })
})
