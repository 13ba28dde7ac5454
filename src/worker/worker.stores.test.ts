import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { memoryStore } from '../../test/durable-stores.ts'
import { testPostgres } from '../../test/postgres.ts'
import { EventBus, realEnv } from '../core/index.ts'
import { lease } from '../durable/index.ts'
import { pgliteMemory } from '../store/embedded/testing.ts'
import { migrate, type Database, type SqlTx } from '../store/index.ts'
import { memory } from '../store/memory/index.ts'
import { postgres } from '../store/postgres/index.ts'
import { storedItems, storedSchedule, worker, workerMigrations, type ItemLedger, type ScheduleLedger } from './index.ts'

const env = realEnv()
const options = () => ({ env, events: new EventBus(env), service: 'test' })
async function migrated(database: Database<SqlTx>): Promise<Database<unknown>> {
  await migrate(database, 'worker', workerMigrations)
  return database
}
const subjects: readonly { readonly name: string; readonly open: () => Promise<Database<unknown>> }[] = [
  { name: 'memory', open: () => memory().open(options()) },
  { name: 'PGlite', open: async () => migrated(await pgliteMemory().open(options())) },
  { name: 'postgres', open: async () => migrated(await postgres(await (await testPostgres()).url(), { connections: 8 }).open(options())) },
]

describe.each(subjects)('the ledger of failed items on $name', ({ open }) => {
  let database: Database<unknown>
  let items: ItemLedger
  beforeAll(async () => {
    database = await open()
    items = storedItems({ ...options(), instance: 'i', database: () => database })
  })
  afterAll(() => database.close())

  const policy = { message: 'panel said 500', maxAttempts: 4, baseMs: 10_000, capMs: 25_000 }
  const near = (ms: number | undefined, expected: number): void => {
    expect(ms).toBeGreaterThan(expected - 5_000)
    expect(ms).toBeLessThanOrEqual(expected)
  }

  it('counts attempts, doubles the wait up to its cap, and parks', async () => {
    const states = []
    for (let attempt = 0; attempt < 4; attempt++) states.push(await items.fail('activation', 'a', policy))
    expect(states.map(state => [state.attempts, state.condition])).toEqual([[1, 'waiting'], [2, 'waiting'], [3, 'waiting'], [4, 'parked']])
    for (const [index, expected] of [10_000, 20_000, 25_000, 25_000].entries()) near(states[index]?.waitMs, expected)
    const [row] = await items.list('activation', 10)
    expect(row).toMatchObject({ worker: 'activation', item: 'a', attempts: 4, condition: 'parked', message: 'panel said 500' })
    expect(row?.lastFailedAt).toBeGreaterThanOrEqual(row?.firstFailedAt ?? Infinity)
  })

  it('parks at once where one attempt is all', async () => {
    expect(await items.fail('single', 'a', { ...policy, maxAttempts: 1 })).toMatchObject({ attempts: 1, condition: 'parked' })
  })

  it('counts every one of twenty failures at once', async () => {
    const states = await Promise.all(Array.from({ length: 20 }, () => items.fail('race', 'a', { ...policy, maxAttempts: 100 })))
    expect(states.map(state => state.attempts).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
  })

  it('survives a hundred attempts without its wait running away', async () => {
    let last = await items.fail('long', 'a', { ...policy, maxAttempts: 100 })
    for (let attempt = 1; attempt < 80; attempt++) last = await items.fail('long', 'a', { ...policy, maxAttempts: 100 })
    near(last.waitMs, 25_000)
  })

  it('gives an item back on retry, keeps a discarded one discarded, and forgets on success', async () => {
    await items.fail('ops', 'a', { ...policy, maxAttempts: 1 })
    expect(await items.retry('ops', 'a')).toBe(true)
    expect(await items.list('ops', 10)).toMatchObject([{ condition: 'waiting', attempts: 0 }])
    expect((await items.list('ops', 10))[0]?.waitMs).toBeLessThanOrEqual(0)
    expect(await items.discard('ops', 'a')).toBe(true)
    expect(await items.fail('ops', 'a', policy)).toMatchObject({ condition: 'discarded' })
    await items.clear('ops', 'a')
    expect(await items.list('ops', 10)).toEqual([])
    expect([await items.retry('ops', 'a'), await items.discard('ops', 'a')]).toEqual([false, false])
  })

  it('keeps workers apart, and lists all of them on demand', async () => {
    await items.fail('one', 'same', policy)
    await items.fail('two', 'same', policy)
    expect(await items.list('one', 10)).toHaveLength(1)
    expect((await items.list(undefined, 100)).map(row => row.worker)).toEqual(expect.arrayContaining(['one', 'two']))
    expect(await items.list(undefined, 1)).toHaveLength(1)
  })
})

describe.each(subjects)('the ledger of due times on $name', ({ open }) => {
  let database: Database<unknown>
  let schedule: ScheduleLedger
  beforeAll(async () => {
    database = await open()
    schedule = storedSchedule({ ...options(), instance: 'i', database: () => database })
  })
  afterAll(() => database.close())

  it('begins with the moment at which a worker is first seen, by the database\'s clock, for 20 callers at once', async () => {
    const states = await Promise.all(Array.from({ length: 20 }, () => schedule.look('report', 'cron 0 3 * * * UTC')))
    expect(new Set(states.map(state => state.lastDueMs)).size).toBe(1)
    for (const { lastDueMs, nowMs } of states) expect(nowMs - lastDueMs).toBeLessThan(60_000)
    expect(Math.abs(await schedule.now() - env.now())).toBeLessThan(60_000)
  })

  it('only ever goes forward, whoever comes last', async () => {
    const { lastDueMs } = await schedule.look('forward', 't')
    await Promise.all([3_000, 1_000, 2_000].map(ms => schedule.done('forward', lastDueMs + ms)))
    await schedule.done('forward', lastDueMs)
    expect((await schedule.look('forward', 't')).lastDueMs).toBe(lastDueMs + 3_000)
  })

  it('begins anew with another timetable, and keeps workers apart', async () => {
    const { lastDueMs } = await schedule.look('changed', 'a')
    await schedule.done('changed', lastDueMs + 86_400_000)
    expect((await schedule.look('changed', 'b')).lastDueMs).toBeLessThan(lastDueMs + 86_400_000)
    await schedule.done('unseen', 5)
    expect((await schedule.look('other', 'a')).lastDueMs).toBeGreaterThan(5)
  })
})

describe('with a lease of holdfast/durable', () => {
  it('one of two instances runs; when its process dies the other takes over after the ttl, and they never overlap', async () => {
    const world = await memoryStore.open()
    const [a, b] = [world.kit('a'), world.kit('b')]
    const ran: string[] = []
    let inside = 0
    let overlaps = 0
    const make = (kit: typeof a) => worker('activation', { every: '5s', safeSleep: '5s', needs: ['leader'], run: async () => {
      inside += 1
      if (inside > 1) overlaps += 1
      ran.push(kit.instance)
      await kit.env.sleep(1_000)
      inside -= 1
    } }, kit, { lease: lease('worker:activation', { ttl: '15s' }, kit) })
    const [first, second] = [make(a), make(b)]
    first.start()
    await world.env.advance('1s')
    second.start()
    await world.env.advance('30s')
    expect(new Set(ran)).toEqual(new Set(['a']))
    expect([first.snapshot().leader, second.snapshot()]).toMatchObject([true, { leader: false, state: 'skipping', lastReason: 'another instance leads' }])
    await world.env.until(() => inside === 0, '10s')
    a.env.kill()
    await world.env.advance('30s')
    expect(ran.at(-1)).toBe('b')
    expect(overlaps).toBe(0)
    await Promise.all([second.stop(), world.env.advance('5s')])
    await world.close()
  })
})
