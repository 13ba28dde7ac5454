/**
 * The stores that the durable features' contract suites run on, each behind the same few words.
 *
 * The process's time is simulated on all of them. The database's time passes by `elapse`: the memory store's clock is
 * moved, an SQL database's recorded times are moved back, which is the same to whoever compares them with its clock.
 * An SQL database is opened once per test file and emptied for each world: opening one takes a second, emptying it a millisecond.
 */
import { afterAll } from 'vitest'
import { EventBus, realEnv, type EventName, type HoldfastEvent } from '../src/core/index.ts'
import { DURABLE_MIGRATIONS, type DurableKit } from '../src/durable/index.ts'
import { pgliteMemory } from '../src/store/embedded/testing.ts'
import { migrate, type Database, type MemoryTx, type SqlTx, type Store } from '../src/store/index.ts'
import { memory } from '../src/store/memory/index.ts'
import { postgres } from '../src/store/postgres/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../src/testing/index.ts'
import { testPostgres } from './postgres.ts'

export interface TestWorld {
  readonly env: SimulatedEnv
  readonly database: Database<unknown>
  /** Another instance on the same database. */
  kit(instance?: string): DurableKit<unknown> & { readonly env: SimulatedEnv }
  /** The database's clock moves on; timers of processes do not fire. */
  elapse(ms: number): Promise<void>
  /** A business write. */
  write(tx: unknown, text: string): Promise<void>
  /** Business writes that were committed, in order. */
  written(): Promise<readonly string[]>
  /** Facts announced so far by any instance. */
  readonly facts: readonly HoldfastEvent[]
  names(name: EventName): readonly HoldfastEvent[]
  close(): Promise<void>
}

export interface TestStore {
  readonly name: string
  /** Transactions really run at the same time. */
  readonly concurrent: boolean
  open(): Promise<TestWorld>
}

/** What `elapse` moves back: every recorded time that is compared with the clock. */
const TIMES: Readonly<Record<string, readonly string[]>> = {
  lease: ['expires_at'],
  once_record: ['lease_until', 'updated_at', 'expires_at'],
  inbox_row: ['wake_at', 'lease_until', 'received_at', 'expires_at'],
  outbox_message: ['wake_at', 'send_before', 'created_at', 'updated_at', 'expires_at'],
  outbox_sender: ['lease_until', 'paused_until'],
  retry_entry: ['stored_at', 'expires_at'],
  saga_run: ['lease_until', 'wake_at', 'started_at', 'updated_at', 'expires_at', 'deadline_at', 'ask_until'],
}

/** Everything that a world may have left in an SQL database. Steps go with their runs. */
const EMPTY = [...Object.keys(TIMES), 'outbox_lane'].map(table => `DELETE FROM holdfast.${table}`).concat('DELETE FROM effect').join('; ')

function world(database: Database<unknown>, env: SimulatedEnv, elapse: (ms: number) => Promise<void>, close: () => Promise<void>): TestWorld {
  const facts: HoldfastEvent[] = []
  const sql = database.dialect === 'sql'
  return {
    env,
    database,
    facts,
    names: name => facts.filter(fact => fact.name === name),
    kit: (instance = 'one') => {
      const own = env.process(instance)
      const events = new EventBus(own)
      events.onAny(fact => { facts.push(fact) })
      return { env: own, events, service: 'test', instance, database: () => database }
    },
    elapse,
    write: async (tx, text) => {
      if (sql) await (tx as SqlTx).query('INSERT INTO effect (text) VALUES ($1)', [text])
      else (tx as MemoryTx).table<{ text: string }>('effect').set(String((tx as MemoryTx).sequence('effect')), { text })
    },
    written: () => database.transaction('test.read', async tx => sql
      ? (await (tx as SqlTx).query<{ text: string }>('SELECT text FROM effect ORDER BY n')).map(row => row.text)
      : [...(tx as MemoryTx).table<{ text: string }>('effect').entries()].map(([, row]) => row.text)),
    close,
  }
}

export const memoryStore: TestStore = {
  name: 'memory',
  concurrent: false,
  open: async () => {
    const env = simulatedEnv()
    const clock = env.process('database')
    const database = await memory().open({ env: clock, events: new EventBus(clock), service: 'test' })
    return world(database, env, async ms => { clock.jump(ms) }, () => database.close())
  },
}

function sqlStore(name: string, concurrent: boolean, store: () => Promise<Store>): TestStore {
  let opened: Promise<Database<SqlTx>> | undefined
  let inUse = false
  afterAll(async () => { await (await opened)?.close() })
  return {
    name, concurrent,
    open: async () => {
      if (inUse) throw new Error(`a world on ${name} is still open in this file; close it first`)
      inUse = true
      opened ??= prepare(store)
      const database = await opened
      await database.transaction('test.empty', tx => tx.query(EMPTY))
      return world(database, simulatedEnv(), ms => elapse(database, ms), async () => { inUse = false })
    },
  }
}

async function prepare(store: () => Promise<Store>): Promise<Database<SqlTx>> {
  const env = realEnv()
  const database = await (await store()).open({ env, events: new EventBus(env), service: 'test' })
  await migrate(database, 'durable', DURABLE_MIGRATIONS)
  await database.transaction('test.table', tx => tx.query('CREATE TABLE effect (n bigserial PRIMARY KEY, text text NOT NULL)'))
  return database
}

async function elapse(database: Database<SqlTx>, ms: number): Promise<void> {
  const back = Object.entries(TIMES).map(([table, columns]) => `UPDATE holdfast.${table} SET ${columns.map(column => `${column} = ${column} - ${String(ms)} * interval '1 millisecond'`).join(', ')}`)
  await database.transaction('test.elapse', tx => tx.query(back.join('; ')))
}

export const pgliteStore: TestStore = sqlStore('PGlite', false, async () => pgliteMemory())
export const postgresStore: TestStore = sqlStore('postgres', true, async () => postgres(await (await testPostgres()).url(), { connections: 8 }))

/** `HOLDFAST_TEST_STORES=memory`: only those, for runs that repeat the tests thousands of times (mutation). */
const only = process.env['HOLDFAST_TEST_STORES']?.split(',')

/** False: tests that are about a server are left out. */
export const realServer: boolean = only?.includes('postgres') !== false

export const testStores: readonly TestStore[] = [memoryStore, pgliteStore, postgresStore].filter(store => only?.includes(store.name) !== false)
