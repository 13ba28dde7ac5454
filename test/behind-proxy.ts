/**
 * For tests of what a network that fails does to a store: a table on a real server, a store behind the fault
 * proxy (new for each test), and one beside it that reads what was kept.
 */
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import { EventBus, isHoldfastError, realEnv } from '../src/core/index.ts'
import { postgres, type PostgresOptions } from '../src/store/postgres/index.ts'
import type { Database, SqlTx } from '../src/store/port.ts'
import { faultProxy, type FaultProxy } from '../src/testing/index.ts'
import { testPostgres } from './postgres.ts'

const env = realEnv()
export const OPENING = { env, events: new EventBus(env), service: 'test' }
export const INSERT = 'INSERT INTO effect (text) VALUES ($1)'

export interface BehindProxy {
  readonly url: URL
  readonly direct: Database<SqlTx>
  readonly proxy: FaultProxy
  readonly database: Database<SqlTx>
  /** One more behind the same proxy. */
  open(options?: PostgresOptions): Promise<Database<SqlTx>>
  /** In place of `database`, with options of the test's own. */
  reopen(options: PostgresOptions): Promise<void>
  /** In the order in which it was written. */
  written(): Promise<readonly string[]>
}

export function behindProxy(defaults: PostgresOptions = { connections: 1, connectTimeout: '500ms' }): BehindProxy {
  let url: URL
  let direct: Database<SqlTx>
  let proxy: FaultProxy
  let database: Database<SqlTx>
  const open = (options: PostgresOptions = {}): Promise<Database<SqlTx>> => {
    const through = new URL(url)
    through.host = `${proxy.host}:${String(proxy.port)}`
    return postgres(through.href, { ...defaults, ...options }).open(OPENING)
  }
  beforeAll(async () => {
    url = new URL(await (await testPostgres()).url())
    direct = await postgres(url.href, { connections: 2 }).open(OPENING)
    await direct.transaction('table', tx => tx.query('CREATE TABLE effect (n bigserial PRIMARY KEY, text text NOT NULL)'))
  })
  afterAll(() => direct.close())
  beforeEach(async () => {
    await direct.transaction('empty', tx => tx.query('DELETE FROM effect'))
    proxy = await faultProxy({ to: { host: url.hostname, port: Number(url.port) } })
    database = await open()
  })
  afterEach(async () => {
    await database.close()
    await proxy.close()
  })
  return {
    open,
    get url() { return url },
    get direct() { return direct },
    get proxy() { return proxy },
    get database() { return database },
    reopen: async options => {
      await database.close()
      database = await open(options)
    },
    written: async () => (await direct.transaction('read', tx => tx.query<{ text: string }>('SELECT text FROM effect ORDER BY n'))).map(row => row.text),
  }
}

/** What it came to, as a code. */
export function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(() => 'ok', (error: unknown) => (isHoldfastError(error) ? error.code : String(error)))
}
