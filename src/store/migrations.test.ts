import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { EventBus, realEnv } from '../core/index.ts'
import { DURABLE_MIGRATIONS, once, type DurableKit, type Once } from '../durable/index.ts'
import { testPostgres } from '../../test/postgres.ts'
import { pgliteMemory } from './embedded/testing.ts'
import { migrate, type Migration } from './migrations.ts'
import type { Database, SqlTx, Store } from './port.ts'
import { postgres } from './postgres/index.ts'

const env = realEnv()
const events = new EventBus(env)
const first: Migration = { id: 1, name: 'plan', sql: 'CREATE TABLE plan (id int); INSERT INTO plan VALUES (1)' }
const second: Migration = { id: 2, name: 'plan price', sql: 'ALTER TABLE plan ADD price int', olderCodeRuns: true }
const third: Migration = { id: 3, name: 'plan without id', sql: 'ALTER TABLE plan DROP id' }

describe.each<{ readonly name: string; readonly store: () => Promise<Store> }>([
  { name: 'PGlite', store: () => Promise.resolve(pgliteMemory()) },
  { name: 'postgres', store: async () => postgres(await (await testPostgres()).url()) },
])('migrations on $name', ({ store }) => {
  let database: Database<SqlTx>
  let scope = 0
  const fresh = (): string => `scope-${String(++scope)}`
  const query = (sql: string): Promise<readonly unknown[]> => database.transaction('query', tx => tx.query(sql))
  const reset = (): Promise<unknown> => query('DROP TABLE IF EXISTS plan')
  beforeAll(async () => { database = await (await store()).open({ env, events, service: 'migrations' }) })
  afterAll(() => database.close())

  it('are applied once, in order, and told', async () => {
    await reset()
    const told: unknown[] = []
    const stop = events.on('store.migrated', event => { told.push(event.data) })
    const name = fresh()
    expect(await migrate(database, name, [first, second], { events })).toEqual({ from: 0, to: 2 })
    expect(await migrate(database, name, [first, second], { events })).toEqual({ from: 2, to: 2 })
    stop()
    expect(told).toEqual([{ from: 0, to: 2 }])
    expect(await query('SELECT id, price FROM plan')).toEqual([{ id: 1, price: null }])
  })

  it('of one scope do not count in another', async () => {
    await reset()
    await migrate(database, fresh(), [first])
    expect(await migrate(database, fresh(), [{ ...first, sql: 'SELECT 1' }])).toEqual({ from: 0, to: 1 })
  })

  it('that fail leave nothing, not even those before them in the same start', async () => {
    await reset()
    const name = fresh()
    await expect(migrate(database, name, [first, { id: 2, name: 'broken', sql: 'ALTER TABLE nowhere ADD x int' }])).rejects.toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '42P01' } })
    expect(await query(`SELECT to_regclass('plan') AS plan`)).toEqual([{ plan: null }])
    expect(await migrate(database, name, [first])).toEqual({ from: 0, to: 1 })
  })

  it('that were changed after they had been applied are refused', async () => {
    await reset()
    const name = fresh()
    await migrate(database, name, [first])
    await expect(migrate(database, name, [{ ...first, sql: `${first.sql} ` }])).rejects.toMatchObject({ code: 'HF_STORE_SCHEMA', context: { scope: name } })
  })

  it('by a newer version let the previous one run where they only added', async () => {
    await reset()
    const name = fresh()
    await migrate(database, name, [first, second])
    expect(await migrate(database, name, [first])).toEqual({ from: 2, to: 2 })
  })

  it('by a newer version that older code cannot run on stop the older code at its start', async () => {
    await reset()
    const name = fresh()
    await migrate(database, name, [first, second, third])
    await expect(migrate(database, name, [first, second])).rejects.toMatchObject({ code: 'HF_STORE_SCHEMA' })
  })

  it('added behind one that is applied are refused', async () => {
    await reset()
    const name = fresh()
    await migrate(database, name, [first, third])
    await expect(migrate(database, name, [first, second, third])).rejects.toMatchObject({ code: 'HF_STORE_SCHEMA' })
  })

  it.each([['twice the same id', [first, first]], ['falling ids', [second, first]], ['an id of zero', [{ ...first, id: 0 }]]])('with %s are refused before anything is asked', async (_what, list) => {
    await expect(migrate(database, fresh(), list)).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
  })
})

describe('several processes that start at once on one new PostgreSQL', () => {
  it('apply each migration exactly once', async () => {
    const url = await (await testPostgres()).url()
    const databases = await Promise.all(Array.from({ length: 6 }, () => postgres(url, { connections: 1 }).open({ env, events, service: 'migrations' })))
    const reports = await Promise.all(databases.map(database => migrate(database, 'app', [first, second])))
    expect(reports.filter(report => report.from === 0)).toHaveLength(1)
    expect(reports.every(report => report.to === 2)).toBe(true)
    expect(await databases[0]?.transaction('read', tx => tx.query('SELECT count(*) AS n FROM plan'))).toEqual([{ n: '1' }])
    await Promise.all(databases.map(database => database.close()))
  })
})

describe('two versions of one service on one PostgreSQL', () => {
  /** Version N knows all but the last; N + 1 all. What N + 1 adds, N does not see. */
  const next: Migration = { id: 1_000, name: 'of the next version', sql: `ALTER TABLE holdfast.once_record ADD COLUMN note text; ALTER TABLE holdfast.inbox_row ADD COLUMN note text NOT NULL DEFAULT ''`, olderCodeRuns: true }
  const breaking: Migration = { id: 1_001, name: 'that breaks', sql: 'ALTER TABLE holdfast.once_record RENAME COLUMN note TO remark' }
  const open = (url: string): Promise<Database<SqlTx>> => postgres(url, { connections: 2 }).open({ env, events, service: 'rolling' })

  it('run side by side while the new one is rolled out, and the old one starts again when it is taken back', async () => {
    const url = await (await testPostgres()).url()
    const kitOf = (database: Database<SqlTx>): DurableKit<SqlTx> => ({ env, events, service: 'rolling', instance: env.uuid().slice(0, 8), database: () => database })
    const old = await open(url)
    await migrate(old, 'durable', DURABLE_MIGRATIONS)
    const payIn = (database: Database<SqlTx>, version: string): Once<string, string, SqlTx> => once('pay', { input: z.string(), key: key => key, write: async () => version }, kitOf(database))
    const before = payIn(old, 'old')
    expect(await before('a')).toMatchObject({ outcome: 'done', value: 'old' })
    const fresh = await open(url)
    expect(await migrate(fresh, 'durable', [...DURABLE_MIGRATIONS, next])).toMatchObject({ to: 1_000 })
    const after = payIn(fresh, 'new')
    // Each meets the other's keys, both ways, at the same time.
    const keys = Array.from({ length: 20 }, (_, i) => `both-${String(i)}`)
    const answers = await Promise.all(keys.flatMap(key => [before(key), after(key)]))
    for (const [i] of keys.entries()) {
      const pair = answers.slice(2 * i, 2 * i + 2)
      expect(pair.map(answer => answer.outcome).sort()).toEqual(['done', 'replayed'])
    }
    expect(await after('a')).toMatchObject({ outcome: 'replayed', value: 'old' })
    // Taken back: version N starts on the schema of N + 1.
    const again = await open(url)
    expect(await migrate(again, 'durable', DURABLE_MIGRATIONS)).toEqual({ from: 1_000, to: 1_000 })
    // The control: after a change that older code cannot run on it is refused.
    await migrate(fresh, 'durable', [...DURABLE_MIGRATIONS, next, breaking])
    await expect(migrate(again, 'durable', DURABLE_MIGRATIONS)).rejects.toMatchObject({ code: 'HF_STORE_SCHEMA', message: expect.stringContaining('1001 (that breaks)') as string })
    await Promise.all([old.close(), fresh.close(), again.close()])
  })

  it('of which one dies in the middle of migrating leave no lock: the other goes on at once', async () => {
    const url = await (await testPostgres()).url()
    const [dying, other] = await Promise.all([open(url), open(url)])
    const migrating = migrate(dying, 'app', [{ id: 1, name: 'slow', sql: 'CREATE TABLE half (id int); SELECT pg_sleep(60)' }]).catch((error: unknown) => error)
    let pid: number | undefined
    while (pid === undefined) pid = (await other.transaction('find', tx => tx.query<{ readonly pid: number }>(`SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() AND a.query LIKE '%pg_sleep(60)%'`)))[0]?.pid
    // The control: while it holds the lock nobody else may migrate.
    expect(await other.transaction('try', tx => tx.query(`SELECT pg_try_advisory_xact_lock(${String(0x484f4c44)}) AS got`))).toEqual([{ got: false }])
    await other.transaction('kill', tx => tx.query('SELECT pg_terminate_backend($1)', [pid]))
    await migrating
    expect(await migrate(other, 'app', [{ id: 1, name: 'quick', sql: 'CREATE TABLE half (id int)' }])).toEqual({ from: 0, to: 1 })
    await Promise.all([dying.close(), other.close()])
  })
})
