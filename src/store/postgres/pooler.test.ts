/**
 * The PostgreSQL store through a real PgBouncer in transaction mode: the contract of stores, once and sagas on two instances, migrations;
 * and that nothing of a session is left behind, because its next transaction may be somebody else's.
 */
import createSql from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, realEnv, type Schema } from '../../core/index.ts'
import { DURABLE_MIGRATIONS, lease, once, saga, type DurableKit } from '../../durable/index.ts'
import { pgbouncerPath, startPooler, type Pooler } from '../../../test/pgbouncer.ts'
import { testPostgres } from '../../../test/postgres.ts'
import { inSql, storeContract } from '../contract.ts'
import { migrate } from '../migrations.ts'
import type { Database, SqlTx } from '../port.ts'
import { postgres, type PostgresOptions } from './index.ts'

const env = realEnv()
const SERVER_CONNECTIONS = 2
const order: Schema<{ id: number }> = { '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as { id: number } }) } }

describe.skipIf(pgbouncerPath === undefined)('through a transaction pooler', () => {
  let directUrl: string
  let pooler: Pooler
  const opened: Database<SqlTx>[] = []
  beforeAll(async () => {
    directUrl = await (await testPostgres()).url()
    pooler = await startPooler(directUrl, SERVER_CONNECTIONS)
  })
  afterAll(async () => {
    await Promise.all(opened.map(database => database.close()))
    pooler.stop()
  })
  async function open(options: Omit<PostgresOptions, 'tx'> = {}, url = pooler.url): Promise<Database<SqlTx>> {
    const database = await postgres(url, { prepare: false, ...options }).open({ env, events: new EventBus(env), service: 'test' })
    opened.push(database)
    return database
  }
  const kitOf = (database: Database<SqlTx>, instance: string): DurableKit<SqlTx> => ({ env, events: new EventBus(env), service: 'test', instance, database: () => database })

  storeContract({ ...inSql, name: 'postgres through PgBouncer', store: () => Promise.resolve(postgres(pooler.url, { prepare: false })) })

  describe('several instances that share two connections of the server', () => {
    let databases: readonly Database<SqlTx>[]
    beforeAll(async () => {
      databases = await Promise.all([1, 2, 3].map(() => open({ connections: 4 })))
    })

    it('migrate at once, and each migration is applied once', async () => {
      const reports = await Promise.all(databases.map(database => migrate(database, 'durable', DURABLE_MIGRATIONS)))
      expect(reports.filter(report => report.from === 0)).toHaveLength(1)
    })

    it('do what must happen once, once, and finish sagas', async () => {
      await databases[0]?.transaction('table', tx => tx.query('CREATE TABLE paid (id int, by text)'))
      const outcomes = await Promise.all(databases.flatMap((database, index) => {
        const pay = once('pay', { input: order, key: ({ id }) => String(id), write: async ({ id }, { tx }) => { await tx.query('INSERT INTO paid VALUES ($1, $2)', [id, String(index)]) } }, kitOf(database, `i${String(index)}`))
        return Array.from({ length: 15 }, (_, id) => pay({ id }))
      }))
      expect(outcomes.filter(({ outcome }) => outcome === 'done')).toHaveLength(15)
      expect(await databases[0]?.transaction('count', tx => tx.query('SELECT count(*)::int AS n, count(DISTINCT id)::int AS ids FROM paid'))).toEqual([{ n: 15, ids: 15 }])
      const effects: string[] = []
      const provisions = databases.map((database, index) => saga('provision', { version: 1, input: order, run: async (step, { id }) => {
        await step('outside', { effect: 'idempotent', run: async ({ key }) => { effects.push(key) } })
        await step('local', { write: async ({ tx }) => { await tx.query('INSERT INTO paid VALUES ($1, $2)', [100 + id, String(index)]) } })
      } }, kitOf(database, `i${String(index)}`)))
      const answers = await Promise.all([1, 2, 3, 4].flatMap(id => provisions.map(provision => provision.start(`s${String(id)}`, { id }))))
      expect(answers.filter(({ outcome }) => outcome === 'done').length).toBeGreaterThanOrEqual(4)
      expect([effects.length, new Set(effects).size]).toEqual([4, 4])
    })

    it('hold a lease one at a time', async () => {
      const grants = await Promise.all(databases.map((database, index) => lease('leader', {}, kitOf(database, `i${String(index)}`)).acquire()))
      expect(grants.filter(held => held !== undefined)).toHaveLength(1)
      for (const held of grants) await held?.release()
    })

    it('never took more connections of the server than the pooler has', async () => {
      const direct = await open({ connections: 1 }, directUrl)
      const [row] = await direct.transaction('count', tx => tx.query<{ n: number }>(`SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`))
      expect(row?.n).toBeLessThanOrEqual(SERVER_CONNECTIONS)
    })
  })

  it('nothing of a session stays on a connection of the server: no setting, prepared statement, lock, listener', async () => {
    const look = createSql(pooler.url, { max: SERVER_CONNECTIONS, prepare: false, fetch_types: false })
    const seen = await Promise.all(Array.from({ length: SERVER_CONNECTIONS }, () => look.begin(async sql => {
      const [row] = await sql.unsafe(`SELECT pg_backend_pid() AS pid, current_setting('lock_timeout') AS lock, current_setting('statement_timeout') AS statement, current_setting('idle_in_transaction_session_timeout') AS idle,
        (SELECT count(*)::int FROM pg_prepared_statements) AS prepared, (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory') AS advisory, (SELECT count(*)::int FROM pg_listening_channels()) AS listening`)
      await sql.unsafe('SELECT pg_sleep(0.2)')
      return row
    })))
    expect(new Set(seen.map(row => row?.['pid'] as number)).size).toBe(SERVER_CONNECTIONS)
    for (const row of seen) expect(row).toMatchObject({ lock: '0', statement: '0', idle: '0', prepared: 0, advisory: 0, listening: 0 })
    await look.end({ timeout: 1 })
  })

  it('with prepared statements fails, and says what to set (the control)', async () => {
    const [a, b] = [await open({ prepare: true, connections: 1 }), await open({ prepare: false, connections: 1 })]
    const select = (): Promise<unknown> => a.transaction('prepared', tx => tx.query('SELECT $1::int AS n', [1]))
    const onAnother = async (): Promise<unknown> => b.transaction('holds', async tx => {
      // Takes the connection of the server that was used last, so that the next is another.
      await tx.query('SELECT 1')
      return select().then(() => undefined, (error: unknown) => error)
    })
    await select()
    const errors = [await onAnother(), await select().catch((error: unknown) => error), await onAnother()]
    expect(errors.find(error => error !== undefined && !Array.isArray(error))).toMatchObject({ code: 'HF_QUERY_FAILED', message: expect.stringContaining('prepare: false') as string })
  })
})
