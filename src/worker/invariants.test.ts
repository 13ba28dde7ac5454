/**
 * The invariants of a worker's loop, W1 to W6, and that it never spins (G11), each by name; most have more tests beside their code.
 */
import { beforeEach, describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, type Duration, type HoldfastEvent, type Kit } from '../core/index.ts'
import type { Database, MemoryTx } from '../store/index.ts'
import { memory } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/simulated-env.ts'
import { localItems, storedItems, storedSchedule, worker, type Worker, type WorkerBase, type WorkerContext, type WorkerDeps, type WorkerTimes } from './index.ts'

let env: SimulatedEnv
let kit: Kit
let seen: HoldfastEvent[]
beforeEach(() => {
  env = simulatedEnv()
  const events = new EventBus(env)
  seen = []
  events.onAny(event => { seen.push(event) })
  kit = { env, events, service: 'test', instance: 'i' }
})
const make = (run: (context: WorkerContext) => Promise<unknown>, change: Partial<WorkerBase> & Partial<WorkerTimes> = {}, deps: WorkerDeps = {}): Worker =>
  worker('w', { every: '1s', safeSleep: '5s', run, ...change } as Parameters<typeof worker>[1], kit, deps)
const ended = (): number => seen.filter(event => event.name === 'worker.iteration').length
const stop = async (loop: Worker): Promise<void> => { await Promise.all([loop.stop(), env.advance('60s')]) }

/** A store that fails at once, each time it is asked. */
function failing(): { readonly database: Database<MemoryTx>; asked: number } {
  const counter = { asked: 0, database: undefined as unknown as Database<MemoryTx> }
  counter.database = {
    dialect: 'memory', durability: { processCrash: false, powerLoss: false, severalInstances: false }, ping: async () => undefined, close: async () => undefined,
    transaction: () => { counter.asked += 1; return Promise.reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'connection refused' })) },
  }
  return counter
}

/** Failures at once for 60 s: so many iterations at most. */
const WITHIN_60_S = Math.ceil(60 / 5) + 1

describe('G11: it never spins', () => {
  const failures: readonly (readonly [string, (context: WorkerContext) => Promise<unknown>])[] = [
    ['a dependency that refuses', () => Promise.reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))],
    ['a synchronous throw', () => { throw new Error('sync') }],
    ['a source of items that fails', ({ each }) => each({ [Symbol.iterator]: () => { throw new Error('query failed') } }, String, async () => undefined)],
    ['items that all fail, new ones each time', ({ each }) => each([env.random(), env.random()], String, async () => { throw new Error('item') })],
    ['a body that says that all is well at once', async () => undefined],
  ]
  it.each(failures)('with %s for 60 s, kicked all the time', async (what, run) => {
    const loop = make(run)
    loop.start()
    for (let second = 0; second < 60; second += 0.5) {
      loop.kick()
      await env.advance(500)
    }
    const kicked = what.includes('well') ? 60 / 0.1 : WITHIN_60_S
    expect(ended()).toBeLessThanOrEqual(kicked)
    expect(ended()).toBeGreaterThan(3)
    await stop(loop)
  })

  it.each<[string, Partial<WorkerTimes>]>([['an interval', { every: '1s' }], ['a schedule of each second', { cron: '* * * * * *', every: undefined } as unknown as Partial<WorkerTimes>]])('with a store that fails at once for 60 s, and %s: neither iterations nor questions run away', async (_what, times) => {
    const store = failing()
    const durable = { ...kit, database: () => store.database }
    const loop = make(({ each }) => each(['a'], String, async () => undefined), { ...times, mode: 'leader' }, {
      items: storedItems(durable), schedule: storedSchedule(durable),
      lease: { acquire: () => store.database.transaction('lease.acquire', async () => undefined) },
    })
    loop.start()
    await env.advance('60s')
    expect(ended()).toBeLessThanOrEqual(WITHIN_60_S)
    expect(store.asked).toBeLessThanOrEqual(2 * WITHIN_60_S)
    expect(store.asked).toBeGreaterThan(3)
    expect(loop.snapshot().lastReason).toContain('connection refused')
    await stop(loop)
  })

  it('control: a loop that does not sleep after a failure would be seen', async () => {
    let runs = 0
    const until = env.monotonic() + 60_000
    const spinning = async (): Promise<void> => { while (env.monotonic() < until) { runs += 1; await env.sleep(1) } }
    await Promise.all([spinning(), env.advance('61s')])
    expect(runs).toBeGreaterThan(WITHIN_60_S)
  })
})

describe('the invariants of a loop', () => {
  it('W1: sleeps after every outcome, also where its options are nonsense: those are refused', async () => {
    for (const bad of ['0s', '-1s', 'NaNs', 'Infinitys', '1', ''] as unknown as Duration[]) for (const option of ['every', 'safeSleep', 'deadline'] as const) expect(() => make(async () => undefined, { [option]: bad })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    const outcomes = ['ok', 'throw', 'degraded']
    let runs = 0
    const starts: number[] = []
    const loop = make(async ({ degraded }) => {
      starts.push(env.monotonic())
      const outcome = outcomes[runs++ % outcomes.length]
      if (outcome === 'throw') throw new Error('x')
      if (outcome === 'degraded') degraded('half')
    })
    loop.start()
    for (let i = 0; i < 600; i++) { loop.kick(); await env.advance(100) }
    for (const [index, at] of starts.entries()) expect((starts[index + 1] ?? Infinity) - at).toBeGreaterThanOrEqual(index % 3 === 0 ? 100 : 5_000)
    await stop(loop)
  })

  it('W2: one iteration at a time, whoever asks', async () => {
    let inside = 0
    let most = 0
    const loop = make(async () => { inside += 1; most = Math.max(most, inside); await env.sleep(3_000); inside -= 1 })
    loop.start()
    const asked = Promise.all(Array.from({ length: 20 }, () => loop.runNow()))
    for (let i = 0; i < 20; i++) { loop.kick(); loop.start(); await env.advance('1s') }
    await asked
    expect(most).toBe(1)
    await stop(loop)
  })

  it('W3: an iteration has a hard deadline, 120 s where nothing is said', async () => {
    const loop = make(() => new Promise(() => undefined))
    loop.start()
    await env.advance('119s')
    expect(ended()).toBe(0)
    await env.advance('3s')
    expect(seen.find(event => event.name === 'worker.iteration')?.data).toMatchObject({ outcome: 'failed', durationMs: expect.closeTo(121_000, -4) as number })
    await stop(loop)
  })

  it('W4: stop() ends within its time, and what was in progress is done or comes again', async () => {
    const items = localItems(env)
    const done: string[] = []
    const loop = make(({ each }) => each(['quick', 'slow', 'later'], String, async (item, { signal }) => {
      await env.sleep(item === 'slow' ? 60_000 : 100, signal)
      if (signal.aborted) throw new Error('cancelled')
      done.push(item)
    }), { drainFor: '2s' }, { items })
    loop.start()
    await env.advance('1s')
    const from = env.monotonic()
    let endedAt = Infinity
    const stopped = loop.stop().then(() => { endedAt = env.monotonic() })
    await env.advance('10s')
    await stopped
    expect(endedAt - from).toBeLessThanOrEqual(2_000 + 1_000 + 10)
    expect([done, await items.list('w', 10)]).toEqual([['quick'], []])
  })

  it('W5: an item that always fails is parked after its attempts and holds nobody up', async () => {
    const tries = { poison: 0, fine: 0 }
    const loop = make(({ each }) => each(['poison', 'fine'] as const, String, async item => { tries[item] += 1; if (item === 'poison') throw new Error('x') }), { maxAttempts: 3 })
    loop.start()
    await env.advance('10m')
    expect(tries.poison).toBe(3)
    expect(tries.fine).toBeGreaterThan(50)
    await stop(loop)
  })

  it('W6: the heartbeat is progress: a loop that hangs has none, items that end have', async () => {
    const hung = make(() => new Promise(() => undefined))
    hung.start()
    await env.advance('60s')
    expect(hung.snapshot()).toMatchObject({ state: 'running' })
    expect(hung.snapshot().heartbeatAt).toBeUndefined()
    const busy = make(({ each }) => each(Array.from({ length: 100 }, (_, i) => i), String, async () => { await env.sleep(1_000) }))
    busy.start()
    await env.advance('30s')
    expect(env.now() - (busy.snapshot().heartbeatAt ?? 0)).toBeLessThanOrEqual(1_000)
    await Promise.all([stop(hung), stop(busy)])
  })
})

describe('lag', () => {
  it('is how late an iteration began, and how overdue the next one is', async () => {
    const loop = make(async () => undefined, { every: '10s' })
    loop.start()
    await env.advance('15s')
    expect(loop.snapshot().lagMs).toBe(0)
    loop.pause('maintenance')
    await env.advance('65s')
    expect(loop.snapshot().lagMs).toBe(60_000)
    loop.resume()
    await env.advance('1s')
    expect(seen.filter(event => event.name === 'worker.iteration').at(-1)?.data).toMatchObject({ lateMs: expect.closeTo(60_000, -3) as number })
    await stop(loop)
  })
})

/** A store that is really there, for the control of the failing one. */
describe('control: with a store that answers', () => {
  it('the same worker runs every second', async () => {
    const database = await memory().open({ env, events: kit.events, service: 'test' })
    const durable = { ...kit, database: () => database }
    const loop = make(({ each }) => each(['a'], String, async () => undefined), { cron: '* * * * * *', every: undefined } as unknown as Partial<WorkerTimes>, { items: storedItems(durable), schedule: storedSchedule(durable) })
    loop.start()
    await env.advance('60s')
    expect(ended()).toBeGreaterThan(55)
    await stop(loop)
    await database.close()
  })
})
