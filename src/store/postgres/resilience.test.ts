/**
 * The PostgreSQL store under pressure: its share of connections under load, a server without connections to spare, and fail-over to a
 * standby, on real servers.
 */
import createSql from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, isHoldfastError, realEnv } from '../../core/index.ts'
import { testPostgres, type OwnTestPostgres, type TestPostgres } from '../../../test/postgres.ts'
import { migrate } from '../migrations.ts'
import type { Database, SqlTx } from '../port.ts'
import { postgres, type PostgresOptions } from './index.ts'
import { severalHosts } from './options.ts'

const env = realEnv()
const open = (url: string, options: Omit<PostgresOptions, 'tx'> = {}): Promise<Database<SqlTx>> => postgres(url, options).open({ env, events: new EventBus(env), service: 'test' })
const codeOf = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'ok', (error: unknown) => (isHoldfastError(error) ? error.code : String(error)))

let shared: TestPostgres
beforeAll(async () => { shared = await testPostgres() })

describe('the share of connections', () => {
  it('holds under 200 transactions at once with pings and migrations among them, and all are served', async () => {
    const url = await shared.url()
    const [database, watcher] = [await open(url, { connections: 4, acquireTimeout: '30s' }), await open(url, { connections: 1 })]
    const connections = async (): Promise<number> => (await watcher.transaction('count', tx => tx.query<{ n: number }>(`SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)))[0]?.n ?? 0
    const migration = { id: 1, name: 'table', sql: 'CREATE TABLE made (id int)' }
    let most = 0
    let over = false
    const watching = (async () => { while (!over) most = Math.max(most, await connections()) })()
    const outcomes = await Promise.all(Array.from({ length: 200 }, async (_, index) => {
      if (index % 20 === 0) return codeOf(migrate(database, `scope-${String(index)}`, [{ ...migration, sql: `CREATE TABLE made_${String(index)} (id int)` }]))
      if (index % 5 === 0) return codeOf(database.ping())
      return codeOf(database.transaction('work', tx => tx.query('SELECT pg_sleep(0.005)')))
    }))
    over = true
    await watching
    expect(outcomes.filter(outcome => outcome !== 'ok')).toEqual([])
    expect(most).toBe(4)
    await Promise.all([database.close(), watcher.close()])
  })
})

describe('a server without a connection to spare (53300)', () => {
  let url: URL
  let admin: Database<SqlTx>
  beforeAll(async () => {
    url = new URL(await shared.url())
    admin = await open(url.href)
    const role = `crowded_${url.pathname.slice(-12)}`
    await admin.transaction('role', tx => tx.query(`CREATE ROLE ${role} LOGIN PASSWORD 'pw' CONNECTION LIMIT 2`))
    url.username = role
    url.password = 'pw'
  })
  afterAll(() => admin.close())

  it('serves everybody with the connections that it gives', async () => {
    const database = await open(url.href, { connections: 6 })
    const outcomes = await Promise.all(Array.from({ length: 30 }, () => codeOf(database.transaction('work', tx => tx.query('SELECT pg_sleep(0.01)')))))
    expect(outcomes.filter(outcome => outcome !== 'ok')).toEqual([])
    await database.close()
  })

  it('refuses in time who gets none, with the reason, and serves again as soon as it can', async () => {
    const taken = await open(url.href, { connections: 2 })
    let go = (): void => undefined
    const released = new Promise<void>(resolve => { go = resolve })
    const begun: Promise<void>[] = []
    const holding = [1, 2].map(() => new Promise<unknown>((resolve, reject) => {
      begun.push(new Promise(hasBegun => {
        taken.transaction('holds', async tx => {
          await tx.query('SELECT 1')
          hasBegun()
          await released
        }).then(resolve, reject)
      }))
    }))
    await Promise.all(begun)
    await expect(open(url.href, { openWithin: '300ms', connections: 1 })).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringContaining('too many connections') as string })
    go()
    await Promise.all(holding)
    await taken.close()
    const after = await open(url.href, { connections: 1 })
    expect(await codeOf(after.transaction('again', tx => tx.query('SELECT 1')))).toBe('ok')
    await after.close()
  })
})

describe('several hosts in the URL', () => {
  let primary: OwnTestPostgres
  let standby: OwnTestPostgres
  let url: string
  let onStandby: string
  beforeAll(async () => {
    primary = await testPostgres({ own: true })
    const one = new URL(await primary.url())
    standby = await primary.standby()
    onStandby = one.href.replace(one.host, `127.0.0.1:${String(standby.port)}`)
    // A list of hosts is no URL for the platform's parser.
    url = one.href.replace(one.host, `127.0.0.1:${String(standby.port)},127.0.0.1:${String(primary.port)}`)
  }, 60_000)
  afterAll(() => {
    standby.remove()
    primary.remove()
  })

  it('a standby alone is refused: it only reads', async () => {
    await expect(open(onStandby, { openWithin: '200ms' })).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringContaining('only reads') as string })
  })

  it('the one that writes is found, and after a fail-over the other one, within the bound of a connection', async () => {
    const database = await open(url, { connections: 2 })
    await database.transaction('table', tx => tx.query('CREATE TABLE t (id int); INSERT INTO t VALUES (1)'))
    const write = (): Promise<string> => codeOf(database.transaction('write', tx => tx.query('INSERT INTO t VALUES (2)')))
    expect(await write()).toBe('ok')
    const reader = createSql(onStandby, { max: 1 })
    for (let n = 0; n < 2;) n = (await reader<{ n: number }[]>`SELECT count(*)::int AS n FROM t`.catch(() => []))[0]?.n ?? 0
    await reader.end()
    await primary.stop('immediate')
    const startedMs = env.monotonic()
    expect(await write()).toBe('HF_STORE_UNAVAILABLE')
    expect(env.monotonic() - startedMs).toBeLessThan(8_000)
    standby.promote()
    expect(await write()).toBe('ok')
    expect(await database.transaction('count', tx => tx.query('SELECT count(*)::int AS n FROM t'))).toEqual([{ n: 3 }])
    await database.close()
  })
})

it('hosts of a URL are read one by one', () => {
  expect(severalHosts('postgres://u:p@a:1,b/bot')).toEqual([{ host: 'a', port: 1 }, { host: 'b', port: 5432 }])
  expect(severalHosts('postgres://u:p@a:1/bot')).toEqual([])
})
