/**
 * Workers with due times, over restarts, downtime, failures and several instances; the process's clock is not the database's.
 */
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { memoryStore, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import { lease, type DurableKit } from '../../durable/index.ts'
import { seededRandom, type SimulatedEnv } from '../../testing/simulated-env.ts'
import { storedSchedule, worker, type Worker, type WorkerBase, type WorkerContext, type WorkerTimes } from '../index.ts'
import { Schedule } from './schedule.ts'
import { alignedTimetable } from './timetable.ts'

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000
type Kit = DurableKit<unknown> & { readonly env: SimulatedEnv }
const nightly = { cron: '0 3 * * *' } as const

let world: TestWorld
beforeEach(async () => { world = await memoryStore.open() })
afterEach(() => world.close())

const begun: { readonly instance: string; readonly at: string }[] = []
beforeEach(() => { begun.length = 0 })
const make = (kit: Kit, times: WorkerTimes = nightly, change: Partial<WorkerBase> = {}): Worker => worker('report', {
  safeSleep: '10s', mode: 'leader', ...times,
  run: async () => { begun.push({ instance: kit.instance, at: new Date(world.env.now()).toISOString().slice(5, 19) }) }, ...change,
}, kit, { lease: lease('worker:report', { ttl: '15s' }, kit), schedule: storedSchedule(kit) })
const starts = (): readonly string[] => begun.map(({ at }) => at)
const stop = async (...workers: readonly Worker[]): Promise<void> => {
  const stopped = Promise.all(workers.map(one => one.stop()))
  await world.env.advance('30s')
  await stopped
}
const iterations = () => world.names('worker.iteration').map(event => event.data as { readonly outcome: string; readonly lateMs: number })

describe('a worker with a cron pattern', () => {
  it('does not run when it is first started; then at each due time, on time', async () => {
    const loop = make(world.kit())
    loop.start()
    await world.env.advance('2h')
    expect(starts()).toEqual([])
    expect(loop.snapshot()).toMatchObject({ state: 'idle', times: 'cron 0 3 * * * UTC', nextRunAt: Date.UTC(2026, 0, 1, 3) })
    await world.env.advance('48h')
    expect(starts()).toEqual(['01-01T03:00:00', '01-02T03:00:00'])
    expect(iterations().filter(({ outcome }) => outcome !== 'skipped').map(({ lateMs }) => lateMs)).toEqual([0, 0])
    await stop(loop)
    expect(world.env.pendingTimers).toBe(0)
  })

  it('goes by the database\'s clock, whatever the process\'s says', async () => {
    const kit = world.kit()
    kit.env.jump(-5 * HOUR_MS)
    const loop = make(kit)
    loop.start()
    await world.env.advance('2h')
    kit.env.jump(9 * HOUR_MS)
    await world.env.advance('22h')
    expect(starts()).toEqual(['01-01T03:00:00'])
    await stop(loop)
  })

  it('that was run is not run again after a restart, and one that was cut off by a death is', async () => {
    const first = make(world.kit('a'))
    first.start()
    await world.env.advance('3h')
    expect(starts()).toEqual(['01-01T03:00:00'])
    await stop(first)
    const dying = world.kit('b')
    const second = make(dying, nightly, { run: async () => { begun.push({ instance: 'b', at: 'cut off' }); await dying.env.sleep(60_000) } })
    second.start()
    await world.env.advance('23h')
    expect(starts()).toEqual(['01-01T03:00:00'])
    await world.env.advance('1h')
    expect(starts()).toEqual(['01-01T03:00:00', 'cut off'])
    dying.env.kill()
    const third = make(world.kit('c'))
    third.start()
    await world.env.advance('1m')
    expect(begun.map(({ instance }) => instance)).toEqual(['a', 'b', 'c'])
    await world.env.advance('22h')
    expect(begun).toHaveLength(3)
    await stop(third)
  })

  it('is run by one of several instances, and by the next one when the leader dies', async () => {
    const kits = ['a', 'b', 'c'].map(name => world.kit(name))
    const loops = kits.map(kit => make(kit))
    for (const loop of loops) loop.start()
    await world.env.advance('3h')
    await world.env.advance('1m')
    expect(begun).toHaveLength(1)
    const leader = kits.findIndex(kit => kit.instance === begun[0]?.instance)
    kits[leader]?.env.kill()
    await world.env.advance('24h')
    expect(begun).toHaveLength(2)
    expect(begun[1]?.instance).not.toBe(begun[0]?.instance)
    await stop(...loops.filter((_, index) => index !== leader))
  })

  it.each([['one', ['01-04T12:00:00', '01-05T03:00:00'], { missed: 2, ran: true }], ['none', ['01-05T03:00:00'], { missed: 3, ran: false }]] as const)('after three missed nights runs by its policy: %s', async (catchUp, expected, missed) => {
    const before = make(world.kit('a'), { ...nightly, catchUp })
    before.start()
    await world.env.advance('24h')
    await stop(before)
    begun.length = 0
    await world.env.advance(3 * DAY_MS - 12 * HOUR_MS - 30_000)
    const after = make(world.kit('b'), { ...nightly, catchUp })
    after.start()
    await world.env.advance('16h')
    expect(starts()).toEqual(expected)
    expect(world.names('worker.missed').map(event => event.data)).toEqual([{ worker: 'report', ...missed }])
    await stop(after)
  })

  it('tells what was missed once, however often the iteration that makes up for it fails', async () => {
    let broken = false
    const run = async (): Promise<void> => { if (broken) throw new Error('panel') }
    const before = make(world.kit('a'), nightly, { run })
    before.start()
    await world.env.advance('24h')
    await stop(before)
    broken = true
    await world.env.advance(2 * DAY_MS)
    const after = make(world.kit('b'), nightly, { run })
    after.start()
    await world.env.advance('5m')
    expect(iterations().filter(({ outcome }) => outcome === 'failed').length).toBeGreaterThan(2)
    expect(world.names('worker.missed').map(event => event.data)).toEqual([{ worker: 'report', missed: 1, ran: true }])
    broken = false
    await stop(after)
  })

  it('that fails is tried again after safeSleep and longer, until it ends; late is counted from the due time', async () => {
    let broken = true
    const loop = make(world.kit(), nightly, { run: async () => { begun.push({ instance: 'a', at: String(Math.round((world.env.now() - Date.UTC(2026, 0, 1, 3)) / 1_000)) }); if (broken) throw new Error('panel') } })
    loop.start()
    await world.env.advance('3h')
    await world.env.advance('100s')
    broken = false
    await world.env.advance('10h')
    expect(starts()).toEqual(['0', '10', '30', '70', '150'])
    expect(loop.snapshot()).toMatchObject({ lagMs: 150_000, consecutiveFailures: 0, lastOutcome: 'ok' })
    await stop(loop)
  })

  it.each([['one', 1], ['none', 0]] as const)('a switch that is off over its time: %s', async (catchUp, runs) => {
    let allowed = false
    const panel = { kind: 'dependency', name: 'panel', allows: () => allowed } as const
    const loop = make(world.kit(), { ...nightly, catchUp }, { needs: [panel] })
    loop.start()
    await world.env.advance('5h')
    expect(begun).toHaveLength(0)
    allowed = true
    await world.env.advance('1h')
    expect(begun).toHaveLength(runs)
    await stop(loop)
  })

  it('runs what is due as soon as what kept it from running is back, and nothing else', async () => {
    let allowed = false
    const kit = world.kit()
    const back = (): void => { allowed = true; kit.events.emit('breaker.changed', { dependency: 'panel', from: 'open', to: 'closed', reason: 'probe' }) }
    const loop = make(kit, nightly, { needs: [{ kind: 'dependency', name: 'panel', allows: () => allowed }] })
    loop.start()
    await world.env.advance('3h')
    await world.env.advance('3s')
    back()
    await world.env.advance('1s')
    expect(starts()).toEqual(['01-01T03:00:03'])
    allowed = false
    loop.kick()
    await world.env.advance('1s')
    expect(loop.snapshot().lastOutcome).toBe('skipped')
    back()
    await world.env.advance('1h')
    expect(starts()).toHaveLength(1)
    await stop(loop)
  })

  it('is not lost where the store cannot be told that it ended: it is told later, and not run again here', async () => {
    const kit = world.kit()
    let away = false
    const schedule = storedSchedule(kit)
    const done: string[] = []
    const loop = worker('report', { ...nightly, safeSleep: '10s', mode: 'leader', run: async () => { begun.push({ instance: 'a', at: '' }); away = true } }, kit, {
      lease: lease('worker:report', {}, kit),
      schedule: { ...schedule, done: async (name, dueMs) => {
        if (away) throw new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })
        done.push(new Date(dueMs).toISOString())
        return schedule.done(name, dueMs)
      } },
    })
    loop.start()
    await world.env.advance('3h')
    await world.env.advance('10m')
    expect([begun.length, done]).toEqual([1, []])
    away = false
    await world.env.advance('2h')
    expect([begun.length, done]).toEqual([1, ['2026-01-01T03:00:00.000Z']])
    await stop(loop)
  })

  it('begins anew when its pattern changes: what the new one would have been due before is nobody\'s', async () => {
    const before = make(world.kit('a'))
    before.start()
    await world.env.advance('4h')
    await stop(before)
    const after = make(world.kit('b'), { cron: '30 3 * * *' })
    after.start()
    await world.env.advance('20h')
    expect(starts()).toEqual(['01-01T03:00:00'])
    await world.env.advance('4h')
    expect(starts()).toEqual(['01-01T03:00:00', '01-02T03:30:00'])
    await stop(after)
  })

  it('runs for a kick and for an operator without using a due time up', async () => {
    const loop = make(world.kit())
    loop.start()
    await world.env.advance('1h')
    loop.kick()
    await world.env.advance('1s')
    const outcome = loop.runNow()
    await world.env.advance('1s')
    expect([await outcome, begun.length]).toEqual(['ok', 2])
    await world.env.advance('3h')
    expect(begun).toHaveLength(3)
    await stop(loop)
  })

  it('tries an item that failed again before the next due time', async () => {
    const tries: number[] = []
    const loop = make(world.kit(), nightly, { run: async ({ each }: WorkerContext) => each(['good', 'bad'], String, async item => { if (item === 'bad') { tries.push((world.env.now() - Date.UTC(2026, 0, 1, 3)) / 1_000); if (tries.length < 3) throw new Error('not yet') } }) })
    loop.start()
    await world.env.advance('5h')
    expect(tries).toEqual([0, 10, 30])
    await stop(loop)
  })

  it('is not done with a due time whose items were put off', async () => {
    const refusals = [new HoldfastError('HF_BREAKER_OPEN', { message: 'panel: open' })]
    const tries: string[] = []
    const at = (): string => String((world.env.now() - Date.UTC(2026, 0, 1, 3)) / 1_000)
    const loop = make(world.kit(), nightly, { run: async ({ each }: WorkerContext) => each(['a', 'b'], String, async item => { tries.push(`${item} ${at()}`); const refusal = refusals.shift(); if (refusal !== undefined) throw refusal }) })
    loop.start()
    await world.env.advance('5h')
    expect(tries).toEqual(['a 0', 'a 10', 'b 10'])
    expect(iterations().slice(-2)).toMatchObject([{ outcome: 'degraded' }, { outcome: 'ok', lateMs: 10_000 }])
    await stop(loop)
  })

  it('waits safeSleep before it looks at a failed item again, also where an operator ran it in between', async () => {
    const tries: number[] = []
    const loop = make(world.kit(), nightly, { run: async ({ each }: WorkerContext) => each(['good', 'bad'], String, async item => { if (item === 'bad') { tries.push((world.env.now() - Date.UTC(2026, 0, 1, 3)) / 1_000); if (tries.length < 2) throw new Error('not yet') } }) })
    loop.start()
    await world.env.until(() => tries.length === 1, '4h')
    await world.env.advance('6s')
    const outcome = loop.runNow()
    await world.env.advance('1s')
    expect(await outcome).toBe('ok')
    await world.env.advance('1h')
    expect(tries).toEqual([0, 16])
    await stop(loop)
  })

  it('does not spin when an item is due again and the worker may not run', async () => {
    let allowed = true
    const panel = { kind: 'dependency', name: 'panel', allows: () => allowed } as const
    const loop = make(world.kit(), nightly, { needs: [panel], run: async ({ each }: WorkerContext) => each(['good', 'bad'], String, async item => { if (item === 'bad') { allowed = false; throw new Error('not yet') } }) })
    loop.start()
    await world.env.until(() => !allowed, '4h')
    await world.env.advance('60s')
    expect(iterations().length).toBeLessThanOrEqual(1 + 60 / 10 + 1)
    expect(iterations().filter(({ outcome }) => outcome === 'skipped').length).toBeGreaterThan(3)
    await stop(loop)
  })

  it('on every instance runs on each of them, from its own start', async () => {
    const loops = ['a', 'b'].map(name => make(world.kit(name), { cron: '0 * * * *' }, { mode: 'every-instance' }))
    for (const loop of loops) loop.start()
    await world.env.advance('1h')
    expect(begun.map(({ instance }) => instance).sort()).toEqual(['a', 'b'])
    expect(loops[0]?.snapshot().leader).toBeUndefined()
    await stop(...loops)
  })
})

describe('a worker that is due every second', () => {
  it('never spins, whatever its run does and whoever kicks (property)', async () => {
    const behaviour = fc.constantFrom('ok', 'slow', 'throw', 'items', 'some items', 'degraded', 'refused', 'kick')
    await fc.assert(fc.asyncProperty(fc.array(behaviour, { minLength: 1, maxLength: 10 }), fc.array(fc.integer({ min: 0, max: 60_000 }), { maxLength: 10 }), async (script, kicks) => {
      const own = await memoryStore.open()
      const kit = own.kit()
      let run = 0
      let allowed = true
      const panel = { kind: 'dependency', name: 'panel', allows: () => { const answer = allowed; allowed = true; return answer } } as const
      const loop = worker('tick', { cron: '* * * * * *', safeSleep: '5s', mode: 'leader', needs: [panel], run: async ({ each, degraded }) => {
        const kind = script[run++ % script.length] ?? 'ok'
        if (kind === 'slow') await kit.env.sleep(3_000)
        if (kind === 'throw') throw new Error('x')
        if (kind === 'items') await each([`${String(run)}a`, `${String(run)}b`], String, async () => { throw new Error('item') })
        if (kind === 'some items') await each(['good', `${String(run)}bad`], String, async item => { if (item !== 'good') throw new Error('item') })
        if (kind === 'degraded') degraded('half')
        if (kind === 'refused') allowed = false
        if (kind === 'kick') loop.kick()
      } }, kit, { lease: lease('worker:tick', {}, kit), schedule: storedSchedule(kit) })
      for (const ms of kicks) own.env.timer(ms, () => { loop.kick() })
      loop.start()
      await own.env.advance('60s')
      const ended = own.names('worker.iteration').map(event => ({ at: event.at, ...event.data as { readonly outcome: string; readonly durationMs: number } }))
      for (const [index, each] of ended.entries()) {
        const next = ended[index + 1]
        if (next !== undefined) expect(next.at - next.durationMs - each.at).toBeGreaterThanOrEqual(each.outcome === 'failed' || each.outcome === 'degraded' ? 4_990 : 90)
      }
      expect(ended.length).toBeGreaterThan(3)
      await Promise.all([loop.stop(), own.env.advance('30s')])
      await own.close()
    }), { numRuns: 25 })
  })
})

describe('over many restarts and deaths (property)', () => {
  /** Instances come and go for ten days; how often each night's iteration ended. */
  async function nights(seed: number, kept: boolean): Promise<readonly number[]> {
    const random = seededRandom(seed)
    const ended = new Map<string, number>()
    let live: { readonly kit: Kit; readonly loop: Worker }[] = []
    const boot = (): void => {
      const kit = world.kit(`i${String(random())}`)
      const loop = worker('report', { ...nightly, safeSleep: '10s', ...(kept ? { mode: 'leader' as const } : {}), run: async ({ signal }) => {
        const day = new Date(world.env.now()).toISOString().slice(0, 10)
        await kit.env.sleep(30_000, signal)
        if (!signal.aborted) ended.set(day, (ended.get(day) ?? 0) + 1)
      } }, kit, { lease: lease('worker:report', { ttl: '15s' }, kit), ...(kept ? { schedule: storedSchedule(kit) } : {}) })
      loop.start()
      live.push({ kit, loop })
    }
    boot()
    boot()
    for (let left = 10 * DAY_MS; left > 0;) {
      const step = Math.min(left, Math.floor(random() * 5 * HOUR_MS))
      // Now and then so that something happens while the night's iteration runs.
      const toThree = 3 * HOUR_MS - (world.env.now() % DAY_MS)
      await world.env.advance(random() < 0.5 && toThree > 0 && toThree < step ? toThree + Math.floor(random() * 40_000) : step)
      left -= step
      const victim = live[Math.floor(random() * live.length)]
      if (random() < 0.5) victim?.kit.env.kill()
      else if (victim !== undefined) await stop(victim.loop)
      live = live.filter(one => one !== victim)
      boot()
    }
    for (const { kit } of live) kit.env.kill()
    // The last night may not be over.
    return Array.from({ length: 9 }, (_, day) => ended.get(new Date(Date.UTC(2026, 0, 1 + day)).toISOString().slice(0, 10)) ?? 0)
  }

  it.each([1, 2, 3, 4, 5])('every night is run to its end exactly once (seed %i)', async seed => {
    expect(await nights(seed, true)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1])
  })

  it('control: where due times are not kept, nights are run twice or not at all', async () => {
    expect((await nights(1, false)).some(count => count !== 1)).toBe(true)
  })
})

describe('an aligned interval', () => {
  it('is due by the clock and not by when it was started', async () => {
    await world.env.advance('7m')
    const loop = make(world.kit(), { every: '15m', align: true })
    loop.start()
    await world.env.advance('40m')
    expect(starts()).toEqual(['01-01T00:15:00', '01-01T00:30:00', '01-01T00:45:00'])
    await stop(loop)
  })

  it('finds the latest of very many missed due times, bounded', async () => {
    const kit = world.kit()
    const schedule = new Schedule('w', alignedTimetable('w', '1s'), { catchUp: 'one', shared: true, ledger: storedSchedule(kit) })
    await schedule.look()
    await world.elapse(400 * DAY_MS + 500)
    const looked = await schedule.look()
    expect(looked).toMatchObject({ due: { lateMs: 500, missed: 999 }, left: 0 })
  })
})

describe('what makes no sense together', () => {
  it.each<[string, object]>([
    ['two schedules', { every: '1m', cron: '0 3 * * *' }], ['none', {}], ['a zone without a pattern', { every: '1m', timeZone: 'UTC' }], ['catching up on an interval from its own end', { every: '1m', catchUp: 'one' }],
    ['a third policy', { cron: '0 3 * * *', catchUp: 'all' }], ['leadership on every instance', { every: '1m', needs: ['leader'], mode: 'every-instance' }], ['a third mode', { every: '1m', mode: 'both' }],
  ])('%s is refused when it is declared', (_what, times) => {
    const kit = world.kit()
    expect(() => worker('w', { safeSleep: '1s', run: async () => undefined, ...times } as unknown as Parameters<typeof worker>[1], kit, { lease: lease('worker:w', {}, kit) })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })

  it('mode leader without a store is refused, as the need is', () => {
    for (const change of [{ mode: 'leader' }, { needs: ['leader'] }] as const) expect(() => worker('w', { every: '1m', safeSleep: '1s', run: async () => undefined, ...change }, world.kit())).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })
})
