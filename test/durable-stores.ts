/**
 * The stores that the durable features' contract suites run on, each behind the same few words.
 *
 * The process's time is simulated on all of them. The database's time passes by `elapse`: the memory store's clock is
 * moved, an SQL database's recorded times are moved back, which is the same to whoever compares them with its clock.
 */
import { EventBus, realEnv, type EventName, type HoldfastEvent } from '../src/core/index.ts'
import { DURABLE_MIGRATIONS, type DurableKit } from '../src/durable/index.ts'
import { migrate, type Database, type MemoryTx, type SqlTx } from '../src/store/index.ts'
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
  outbox_message: ['wake_at', 'send_before', 'updated_at', 'expires_at'],
  outbox_sender: ['lease_until', 'paused_until'],
  saga_run: ['until', 'updated_at', 'expires_at'],
}

async function world(database: Database<unknown>, elapse: (ms: number) => Promise<void>, env: SimulatedEnv): Promise<TestWorld> {
  const facts: HoldfastEvent[] = []
  const sql = database.dialect === 'sql'
  if (sql) await database.transaction('test.table', async tx => (tx as SqlTx).query('CREATE TABLE effect (n bigserial PRIMARY KEY, text text NOT NULL)'))
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
    close: () => database.close(),
  }
}

export const memoryStore: TestStore = {
  name: 'memory',
  concurrent: false,
  open: async () => {
    const env = simulatedEnv()
    const clock = env.process('database')
    const database = await memory().open({ env: clock, events: new EventBus(clock), service: 'test' })
    return world(database, async ms => { clock.jump(ms) }, env)
  },
}

export function sqlWorld(database: Database<SqlTx>): Promise<TestWorld> {
  return world(database, async ms => {
    for (const [table, columns] of Object.entries(TIMES)) {
      const set = columns.map(column => `${column} = ${column} - ${String(ms)} * interval '1 millisecond'`).join(', ')
      await database.transaction('test.elapse', async tx => {
        const there = await tx.query<{ there: boolean }>(`SELECT to_regclass('holdfast.${table}') IS NOT NULL AS there`)
        if (there[0]?.there === true) await tx.query(`UPDATE holdfast.${table} SET ${set}`)
      })
    }
  }, simulatedEnv())
}

export const postgresStore: TestStore = {
  name: 'postgres',
  concurrent: true,
  open: async () => {
    const server = await testPostgres()
    const env = realEnv()
    const database = await postgres(await server.url(), { connections: 8 }).open({ env, events: new EventBus(env), service: 'test' })
    await migrate(database, 'durable', DURABLE_MIGRATIONS)
    return sqlWorld(database)
  },
}

export const testStores: readonly TestStore[] = [memoryStore, postgresStore]
