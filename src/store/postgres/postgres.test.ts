import { createServer, connect, type Server, type Socket } from 'node:net'
import createSql from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, realEnv, type EventName } from '../../core/index.ts'
import { testPostgres, type OwnTestPostgres, type TestPostgres } from '../../../test/postgres.ts'
import type { Database, SqlTx } from '../port.ts'
import { postgres, type PostgresOptions } from './index.ts'

const env = realEnv()

interface Opened {
  readonly database: Database<SqlTx>
  readonly heard: readonly EventName[]
}
async function open(url: string, options?: PostgresOptions): Promise<Opened> {
  const events = new EventBus(env)
  const heard: EventName[] = []
  events.onAny(event => { heard.push(event.name) })
  return { database: await postgres(url, options).open({ env, events, service: 'test' }), heard }
}
const gate = (): { readonly opened: Promise<void>; readonly open: () => void } => {
  let open = (): void => undefined
  return { opened: new Promise<void>(resolve => { open = resolve }), open: () => { open() } }
}
const pidOf = async (tx: SqlTx): Promise<number> => (await tx.query<{ pid: number }>('SELECT pg_backend_pid() AS pid'))[0]?.pid ?? 0
const errorOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => { throw new Error('it did not fail') }, (error: unknown) => error)

let shared: TestPostgres
beforeAll(async () => { shared = await testPostgres() })

describe('a postgres store before open', () => {
  it('makes no connection, and its name holds no password', () => {
    expect(postgres('postgres://bot:s3cret@db.internal:5433/bot?sslmode=require').name).toBe('postgres db.internal:5433/bot')
    expect(postgres('postgres://bot:s3cret@a:1,b:2/bot').name).toBe('postgres a:1,b:2/bot')
  })

  it('refuses what is no URL without repeating it, and options out of range', () => {
    const error = (() => { try { return postgres('bot:s3cret@db') } catch (thrown) { return thrown } })()
    expect(error).toMatchObject({ code: 'HF_OPTION_INVALID' })
    expect(String(error)).not.toContain('s3cret')
    expect(() => postgres('postgres://db/bot', { connections: 0 })).toThrow(/connections/)
    expect(() => postgres('postgres://db/bot', { lockTimeout: '3' as '3s' })).toThrow(/lockTimeout/)
  })
})

describe('opening', () => {
  it('names host and database, not the password, when nobody answers, and gives up in time', async () => {
    const started = performance.now()
    const error = await errorOf(open('postgres://bot:s3cret@127.0.0.1:1/bot', { openWithin: '300ms' }))
    expect(error).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringContaining('127.0.0.1:1/bot') as string })
    expect(String(error)).not.toContain('s3cret')
    expect(performance.now() - started).toBeLessThan(2_000)
  })

  it('does not wait where waiting cannot help: wrong password, no such database', async () => {
    const url = new URL(await shared.url())
    const started = performance.now()
    url.password = 'wr0ng'
    expect(await errorOf(open(url.href, { openWithin: '60s' }))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringContaining('password authentication failed') as string })
    const missing = new URL(await shared.url())
    missing.pathname = '/not_there'
    expect(await errorOf(open(missing.href, { openWithin: '60s' }))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    expect(performance.now() - started).toBeLessThan(10_000)
  })

  it('refuses a server that is too old at once, by version and address', async () => {
    const url = new URL(await shared.url())
    const to = Number(url.port)
    const old = await listening(socket => {
      const upstream = connect(to, url.hostname)
      upstream.on('error', () => undefined)
      upstream.on('data', (chunk: Buffer) => { socket.write(Buffer.from(chunk.toString('latin1').replace(/server_version\0\d\d/, 'server_version\x0013'), 'latin1')) })
      socket.on('data', (chunk: Buffer) => { upstream.write(chunk) })
      socket.on('close', () => { upstream.destroy() })
    })
    url.port = String(old.port)
    const started = performance.now()
    expect(await errorOf(open(url.href, { openWithin: '60s' }))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringMatching(/PostgreSQL 13 at 127\.0\.0\.1.* too old: expected 14 or newer/) as string })
    expect(performance.now() - started).toBeLessThan(10_000)
    old.stop()
  })

  it('ends in time with a server that accepts and then says nothing, and leaves no socket', async () => {
    const silent = await silentServer()
    expect(await errorOf(open(`postgres://bot@127.0.0.1:${String(silent.port)}/bot`, { openWithin: '100ms', connectTimeout: '200ms' }))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    await silent.allClosed()
    silent.stop()
  })
})

describe('two transactions that collide', () => {
  it('by serialization failure: the loser runs again and both count', async () => {
    const { database } = await open(await shared.url())
    await database.transaction('set-up', tx => tx.query('CREATE TABLE doctor (name text, on_call boolean); INSERT INTO doctor VALUES (\'a\', true), (\'b\', true)'))
    const bothRead = [gate(), gate()] as const
    const runs = [0, 0]
    // Write skew: each sees two on call and goes off. Serializable refuses one of them.
    const goOff = (who: 0 | 1): Promise<boolean> => database.transaction(`off-${String(who)}`, async tx => {
      runs[who] = (runs[who] ?? 0) + 1
      await tx.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE')
      const [row] = await tx.query<{ n: string }>('SELECT count(*) AS n FROM doctor WHERE on_call')
      bothRead[who].open()
      await Promise.all(bothRead.map(each => each.opened))
      if (Number(row?.n) < 2) return false
      await tx.query('UPDATE doctor SET on_call = false WHERE name = $1', [who === 0 ? 'a' : 'b'])
      return true
    })
    const went = await Promise.all([goOff(0), goOff(1)])
    expect(went.filter(Boolean)).toHaveLength(1)
    expect(runs[0]! + runs[1]!).toBe(3)
    await database.close()
  })

  it('by deadlock: the victim runs again and both count', async () => {
    const { database } = await open(await shared.url())
    await database.transaction('set-up', tx => tx.query('CREATE TABLE account (id int PRIMARY KEY, n int); INSERT INTO account VALUES (1, 0), (2, 0)'))
    const firstLocked = [gate(), gate()] as const
    let runs = 0
    const transfer = (who: 0 | 1): Promise<unknown> => database.transaction(`transfer-${String(who)}`, async tx => {
      runs++
      await tx.query('UPDATE account SET n = n + 1 WHERE id = $1', [who === 0 ? 1 : 2])
      firstLocked[who].open()
      await Promise.all(firstLocked.map(each => each.opened))
      await tx.query('UPDATE account SET n = n + 1 WHERE id = $1', [who === 0 ? 2 : 1])
    })
    await Promise.all([transfer(0), transfer(1)])
    expect(runs).toBeGreaterThan(2)
    expect(await database.transaction('read', tx => tx.query('SELECT n FROM account ORDER BY id'))).toEqual([{ n: 2 }, { n: 2 }])
    await database.close()
  })

  it('by a lock that is waited for in vain: a conflict, and work does not run again by itself', async () => {
    const { database } = await open(await shared.url(), { lockTimeout: '100ms' })
    await database.transaction('set-up', tx => tx.query('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)'))
    const locked = gate()
    const go = gate()
    const holder = database.transaction('holder', async tx => {
      await tx.query('SELECT 1 FROM t FOR UPDATE')
      locked.open()
      await go.opened
    })
    await locked.opened
    let runs = 0
    expect(await errorOf(database.transaction('waiter', async tx => {
      runs++
      await tx.query('SELECT 1 FROM t FOR UPDATE')
    }))).toMatchObject({ code: 'HF_STORE_CONFLICT', context: { sqlstate: '55P03' } })
    expect(runs).toBe(1)
    go.open()
    await holder
    await database.close()
  })
})

describe('a connection that is cut', () => {
  it('inside a transaction: nothing was committed, the caller learns at once, and what it still sends goes nowhere', async () => {
    const url = await shared.url()
    const { database, heard } = await open(url)
    const other = await open(url)
    await database.transaction('set-up', tx => tx.query('CREATE TABLE t (id int)'))
    let late: unknown
    const stuck = gate()
    const zombieDone = gate()
    const error = await errorOf(database.transaction('cut', async tx => {
      await tx.query('INSERT INTO t VALUES (1)')
      const pid = await pidOf(tx)
      await other.database.transaction('kill', kill => kill.query('SELECT pg_terminate_backend($1, 5000)', [pid]))
      await stuck.opened
      // The driver alone would reconnect and run this outside of any transaction.
      late = await errorOf(tx.query('INSERT INTO t VALUES (2)'))
      zombieDone.open()
    }))
    expect(error).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', context: { transaction: 'cut' } })
    stuck.open()
    await zombieDone.opened
    expect(await database.transaction('count', tx => tx.query('SELECT id FROM t'))).toEqual([])
    expect(late).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    expect(heard).toEqual(['store.lost', 'store.recovered'])
    await Promise.all([database.close(), other.database.close()])
  })

  it('would let the rest of a transaction run outside of it (the control: the driver alone reconnects)', async () => {
    const url = await shared.url()
    const other = await open(url)
    const driver = createSql(url, { max: 1, onnotice: () => undefined })
    await driver.unsafe('CREATE TABLE t (id int)')
    await driver.unsafe('BEGIN')
    await driver.unsafe('INSERT INTO t VALUES (1)')
    const [row] = await driver.unsafe<{ pid: number }[]>('SELECT pg_backend_pid() AS pid')
    await other.database.transaction('kill', tx => tx.query('SELECT pg_terminate_backend($1, 5000)', [row?.pid]))
    await driver.unsafe('SELECT 1').catch(() => undefined)
    await driver.unsafe('INSERT INTO t VALUES (2)').catch(() => driver.unsafe('INSERT INTO t VALUES (2)'))
    expect(await other.database.transaction('count', tx => tx.query('SELECT id FROM t'))).toEqual([{ id: 2 }])
    await driver.end()
    await other.database.close()
  })

  it('while COMMIT is under way: nobody knows, and work is not run again', async () => {
    const url = await shared.url()
    const { database } = await open(url)
    const other = await open(url)
    await database.transaction('set-up', tx => tx.query(`
      CREATE TABLE t (id int);
      CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`))
    let pid = 0
    let runs = 0
    const error = errorOf(database.transaction('cut', async tx => {
      runs++
      pid = await pidOf(tx)
      await tx.query('INSERT INTO t VALUES (1)')
    }))
    await until(async () => (await other.database.transaction('look', tx => tx.query(`SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND query = 'COMMIT' AND wait_event = 'PgSleep'`, [pid]))).length === 1)
    await other.database.transaction('kill', tx => tx.query('SELECT pg_terminate_backend($1, 5000)', [pid]))
    expect(await error).toMatchObject({ code: 'HF_STORE_UNKNOWN_COMMIT', context: { transaction: 'cut' } })
    expect(runs).toBe(1)
    await Promise.all([database.close(), other.database.close()])
  })

  it('in its sleep is replaced unnoticed', async () => {
    const url = await shared.url()
    const { database, heard } = await open(url, { connections: 1 })
    const other = await open(url)
    const pid = await database.transaction('who', pidOf)
    await other.database.transaction('kill', tx => tx.query('SELECT pg_terminate_backend($1, 5000)', [pid]))
    await until(async () => await database.transaction('who', pidOf) !== pid)
    expect(heard).toEqual([])
    await Promise.all([database.close(), other.database.close()])
  })
})

describe('a transaction that is refused at its commit', () => {
  it('by a deferred constraint is a plain refusal: the answer came', async () => {
    const { database } = await open(await shared.url())
    await database.transaction('set-up', tx => tx.query('CREATE TABLE t (id int CONSTRAINT once UNIQUE DEFERRABLE INITIALLY DEFERRED)'))
    expect(await errorOf(database.transaction('twice', tx => tx.query('INSERT INTO t VALUES (1), (1)')))).toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '23505', constraint: 'once' } })
    expect(await database.transaction('count', tx => tx.query('SELECT id FROM t'))).toEqual([])
    await database.close()
  })
})

describe('bounds that hold on the server', () => {
  it('are set inside every transaction and gone after it', async () => {
    const { database } = await open(await shared.url(), { connections: 1, lockTimeout: '1500ms', idleInTransactionTimeout: '2500ms', transactionTimeout: '4s' })
    const [row] = await database.transaction('look', tx => tx.query<{ whole: string | null; has_whole: boolean }>(`SELECT current_setting('lock_timeout') AS lock, current_setting('idle_in_transaction_session_timeout') AS idle,
      current_setting('statement_timeout') AS statement, current_setting('transaction_timeout', true) AS whole, current_setting('server_version_num')::int >= 170000 AS has_whole`))
    expect(row).toMatchObject({ lock: '1500ms', idle: '2500ms', statement: '4s' })
    if (row?.has_whole === true) expect(row.whole).toBe('4s')
    const after = await database.transaction('after', tx => tx.query(`ROLLBACK; SELECT current_setting('lock_timeout') AS lock`)).catch(() => undefined)
    expect(after ?? [{ lock: '0' }]).toEqual([{ lock: '0' }])
    await database.close()
  })

  it('end a transaction whose process stands still: its locks are free, and it cannot commit late', async () => {
    const url = await shared.url()
    const { database } = await open(url, { idleInTransactionTimeout: '300ms' })
    const other = await open(url)
    await database.transaction('set-up', tx => tx.query('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)'))
    const error = errorOf(database.transaction('stopped', async tx => {
      await tx.query('DELETE FROM t')
      await new Promise(() => undefined)
    }))
    expect(await error).toMatchObject({ code: 'HF_STORE_TX_TIMEOUT', context: { transaction: 'stopped' } })
    expect(await other.database.transaction('take-over', tx => tx.query('SELECT id FROM t FOR UPDATE'))).toEqual([{ id: 1 }])
    await Promise.all([database.close(), other.database.close()])
  })

  it('end a statement that takes too long', async () => {
    const { database } = await open(await shared.url())
    expect(await errorOf(database.transaction('slow', tx => tx.query('SELECT pg_sleep(20)'), { timeout: '200ms' }))).toMatchObject({ code: 'HF_STORE_TX_TIMEOUT' })
    await database.close()
  })
})

describe('the share of connections', () => {
  it('is never exceeded, whoever comes waits his turn, and all are served', async () => {
    const url = await shared.url()
    const { database } = await open(url, { connections: 2 })
    const other = await open(url, { connections: 1 })
    let most = 0
    await Promise.all(Array.from({ length: 20 }, () => database.transaction('work', async () => {
      const [row] = await other.database.transaction('count', tx => tx.query<{ n: string }>(`SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`))
      most = Math.max(most, Number(row?.n))
    })))
    expect(most).toBe(2)
    await Promise.all([database.close(), other.database.close()])
  })

  it('that is taken for too long is refused to the next, and that is no loss of the store', async () => {
    const { database, heard } = await open(await shared.url(), { connections: 1, acquireTimeout: '100ms' })
    const go = gate()
    const holder = database.transaction('holder', () => go.opened)
    expect(await errorOf(database.transaction('next', async () => 1))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    go.open()
    await holder
    expect(heard).toEqual([])
    await database.close()
  })

  it('keeps a bounded number of prepared statements', async () => {
    const { database } = await open(await shared.url(), { connections: 1 })
    await database.transaction('many', async tx => { for (let i = 0; i < 600; i++) await tx.query(`SELECT $1::int + ${String(i)} AS n`, [1]) })
    const [row] = await database.transaction('count', tx => tx.query<{ n: string }>('SELECT count(*) AS n FROM pg_prepared_statements'))
    // And the one with which the driver looks up array types.
    expect(Number(row?.n)).toBeLessThanOrEqual(501)
    expect(Number(row?.n)).toBeGreaterThan(400)
    await database.close()
  })
})

describe('a server that goes and comes back', () => {
  let server: OwnTestPostgres
  beforeAll(async () => { server = await testPostgres({ own: true }) })
  afterAll(() => { server.remove() })

  it('is reported lost and recovered once, and needs nothing to be done', async () => {
    const { database, heard } = await open(await server.url())
    await database.transaction('before', tx => tx.query('CREATE TABLE t (id int); INSERT INTO t VALUES (1)'))
    await server.stop('fast')
    expect(await errorOf(database.transaction('away', tx => tx.query('SELECT 1')))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    expect(await errorOf(database.ping())).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    await server.start()
    await database.ping()
    expect(await database.transaction('after', tx => tx.query('SELECT id FROM t'))).toEqual([{ id: 1 }])
    expect(heard).toEqual(['store.lost', 'store.recovered'])
    await database.close()
  })

  it('by a crash in the middle of fifty transactions: each is committed, refused or unknown, nothing else, and none hangs', async () => {
    const { database } = await open(await server.url(), { connections: 10 })
    await database.transaction('set-up', tx => tx.query('DROP TABLE IF EXISTS done; CREATE TABLE done (id int PRIMARY KEY)'))
    const outcomes: Promise<string>[] = []
    const inserted = gate()
    const startedMs = performance.now()
    for (let id = 0; id < 50; id++) {
      outcomes.push(database.transaction('insert', async tx => {
        await tx.query('INSERT INTO done VALUES ($1)', [id])
        if (id === 15) inserted.open()
        await tx.query('SELECT pg_sleep(0.02)')
      }).then(() => 'committed', (error: unknown) => (error as { code: string }).code))
    }
    await inserted.opened
    await server.restart('immediate')
    const told = await Promise.all(outcomes)
    // The bound of a transaction is 10 s, and of a wait for a connection 5 s; a restart takes about one.
    expect(performance.now() - startedMs).toBeLessThan(20_000)
    const there = new Set((await database.transaction('read', tx => tx.query<{ id: number }>('SELECT id FROM done'))).map(row => row.id))
    for (const [id, outcome] of told.entries()) {
      expect(['committed', 'HF_STORE_UNAVAILABLE', 'HF_STORE_UNKNOWN_COMMIT']).toContain(outcome)
      if (outcome === 'committed') expect(there.has(id)).toBe(true)
      if (outcome === 'HF_STORE_UNAVAILABLE') expect(there.has(id)).toBe(false)
    }
    expect(told[15]).toBe('HF_STORE_UNAVAILABLE')
    expect(told).toContain('committed')
    await database.close()
  })

  it('is waited for when it is just starting', async () => {
    const url = await server.url()
    await server.stop()
    const opening = open(url, { openWithin: '20s' })
    await server.start()
    const { database } = await opening
    await database.close()
  })
})

describe('a server that hangs', () => {
  it('costs a transaction its timeout, a commit leaves it unknown, a ping two seconds, and close leaves no socket', async () => {
    const url = new URL(await shared.url())
    const proxy = await stallingProxy(Number(url.port))
    url.port = String(proxy.port)
    const { database } = await open(url.href, { transactionTimeout: '300ms', connections: 2 })
    await database.transaction('set-up', tx => tx.query('CREATE TABLE t (id int)'))
    expect(await errorOf(database.transaction('hang', async tx => {
      proxy.stall(true)
      await tx.query('SELECT 1')
    }))).toMatchObject({ code: 'HF_STORE_TX_TIMEOUT' })
    proxy.stall(false)
    expect(await errorOf(database.transaction('hang at commit', async tx => {
      await tx.query('INSERT INTO t VALUES (1)')
      proxy.stall(true)
    }))).toMatchObject({ code: 'HF_STORE_UNKNOWN_COMMIT' })
    const started = performance.now()
    expect(await errorOf(database.ping())).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    expect(performance.now() - started).toBeLessThan(4_000)
    await database.close()
    await proxy.allClosed()
    proxy.stop()
  })
})

/** Looks again, a round trip apart, until it is so. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 2_000; attempt++) if (await isSo()) return
  throw new Error('it never became so')
}

interface Listening {
  readonly port: number
  /** Resolves when every connection that was accepted has been closed by the other side. */
  allClosed(): Promise<void>
  stop(): void
}

async function listening(onConnection: (socket: Socket) => void): Promise<Listening> {
  const sockets = new Set<Socket>()
  let changed = (): void => undefined
  const server: Server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => {
      sockets.delete(socket)
      changed()
    })
    onConnection(socket)
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    allClosed: () => new Promise(resolve => {
      changed = () => { if (sockets.size === 0) resolve() }
      changed()
    }),
    stop: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

const silentServer = (): Promise<Listening> => listening(socket => { socket.resume() })

async function stallingProxy(to: number): Promise<Listening & { stall(on: boolean): void }> {
  let stalled = false
  const held: (() => void)[] = []
  const proxy = await listening(socket => {
    const upstream = connect(to, '127.0.0.1')
    upstream.on('error', () => undefined)
    socket.on('data', (chunk: Buffer) => {
      const pass = (): void => { upstream.write(chunk) }
      if (stalled) held.push(pass)
      else pass()
    })
    upstream.on('data', chunk => { socket.write(chunk) })
    socket.on('close', () => { upstream.destroy() })
    upstream.on('close', () => { socket.destroy() })
  })
  return {
    ...proxy,
    stall: on => {
      stalled = on
      if (!on) held.length = 0
    },
  }
}
