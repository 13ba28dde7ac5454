/**
 * The user's own client in both directions, for each of them on a real server: what the store opens is handed out as his, and
 * what he opens is joined. Whether something was kept is looked up past both.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { drizzle as drizzleOf } from 'drizzle-orm/node-postgres'
import { eq, sql as drizzleSql } from 'drizzle-orm'
import { integer, jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core'
import { CamelCasePlugin, Kysely, PostgresDialect, sql as kyselySql, type Transaction } from 'kysely'
import pgPackage from 'pg'
import createSql from 'postgres'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { EventBus, isHoldfastError, realEnv, type Schema } from '../../core/index.ts'
import { createHoldfast } from '../../index.ts'
import { DURABLE_MIGRATIONS, once, outbox, saga, type DurableKit, type OnceOutcome } from '../../durable/index.ts'
import { testPostgres } from '../../../test/postgres.ts'
import { embedded } from '../embedded/index.ts'
import { withHooks } from '../hooks.ts'
import { migrate } from '../migrations.ts'
import type { Database, SqlTx, Store } from '../port.ts'
import { postgres, postgresJs, type PostgresOptions } from '../postgres/index.ts'
import { sqlDatabase } from '../user-tx.ts'
import { drizzle } from './drizzle.ts'
import { kysely } from './kysely.ts'
import { pg } from './pg.ts'

const env = realEnv()
const order: Schema<{ id: number }> = { '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as { id: number } }) } }

interface Client<UserTx extends object> {
  readonly name: string
  store(url: string): Store<UserTx>
  /** Writes a row of `paid` in the client's own way. */
  insert(tx: UserTx, id: number): Promise<unknown>
  /** Ids of `paid` that are there, read in the client's own way. */
  ids(tx: UserTx): Promise<readonly number[]>
  /** Any statement, as text. */
  execute(tx: UserTx, sql: string): Promise<unknown>
  /** A transaction of the user's own, on his own connections. */
  own<T>(work: (tx: UserTx) => Promise<T>): Promise<T>
  open(url: string): void
  close(): Promise<unknown>
}

function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined
  const opened = new Promise<void>(resolve => { open = resolve })
  return { opened, open: () => { open() } }
}
const errorOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => { throw new Error('it did not fail') }, (error: unknown) => error)
/** The SQLSTATE that a user's retry looks for: on his client's error, or on what it wraps. */
const sqlstateOf = (error: unknown): unknown => (error as { code?: unknown }).code ?? (error as { cause?: { code?: unknown } }).cause?.code

function suite<UserTx extends object>(client: Client<UserTx>): void {
  describe(`transactions of ${client.name}`, () => {
    let direct: Database<SqlTx>
    let store: Store<UserTx>
    let database: Database<UserTx>
    let kit: DurableKit<UserTx>
    let events: EventBus
    beforeAll(async () => {
      const url = await (await testPostgres()).url()
      events = new EventBus(env)
      direct = await postgres(url, { connections: 2 }).open({ env, events: new EventBus(env), service: 'test' })
      await direct.transaction('table', tx => tx.query('CREATE TABLE paid (id int PRIMARY KEY, user_note text, at timestamptz, data jsonb)'))
      store = client.store(url)
      database = await store.open({ env, events, service: 'test' })
      await migrate(sqlDatabase(database), 'durable', DURABLE_MIGRATIONS)
      kit = { env, events, service: 'test', instance: 'a', database: () => database }
      client.open(url)
    })
    afterAll(async () => {
      await client.close()
      await Promise.all([database.close(), direct.close()])
    })
    beforeEach(() => direct.transaction('empty', tx => tx.query('TRUNCATE paid, holdfast.once_record CASCADE; DELETE FROM holdfast.outbox_message')))
    const kept = async (): Promise<readonly number[]> => (await direct.transaction('read', tx => tx.query<{ id: number }>('SELECT id FROM paid ORDER BY id'))).map(row => row.id)
    const records = async (): Promise<number> => Number((await direct.transaction('read', tx => tx.query<{ n: string }>('SELECT count(*) AS n FROM holdfast.once_record')))[0]?.n)
    const pay = (write: (id: number, tx: UserTx) => Promise<unknown>): ((input: { id: number }, options?: { readonly tx?: UserTx }) => Promise<OnceOutcome<number>>) => once('pay', {
      input: order, key: given => String(given.id),
      write: async (given, { tx }) => {
        await write(given.id, tx)
        return given.id
      },
    }, kit)

    describe('that the store opens', () => {
      it('commit what the client wrote together with the record of once, and replay it', async () => {
        const paying = pay((id, tx) => client.insert(tx, id))
        expect(await paying({ id: 1 })).toEqual({ outcome: 'done', value: 1 })
        expect(await paying({ id: 1 })).toEqual({ outcome: 'replayed', value: 1 })
        expect([await kept(), await records()]).toEqual([[1], 1])
      })

      it('roll both back together, and the error passes as it is', async () => {
        const error = new TypeError('of the caller')
        const paying = pay(async (id, tx) => {
          await client.insert(tx, id)
          expect(await client.ids(tx)).toEqual([id])
          throw error
        })
        expect(await errorOf(paying({ id: 1 }))).toBe(error)
        expect([await kept(), await records()]).toEqual([[], 0])
      })

      it('can be given to what joins a transaction: the outbox, another once', async () => {
        const sent: string[] = []
        const messages = outbox<UserTx>({}, kit)
        messages.topic('note', { send: async message => { sent.push(message.onceKey) } })
        const paying = pay((id, tx) => client.insert(tx, id))
        const both = (id: number, fails: boolean): Promise<unknown> => database.transaction('both', async tx => {
          expect(await paying({ id }, { tx })).toEqual({ outcome: 'done', value: id })
          await messages.enqueue(tx, { topic: 'note', lane: 'a', onceKey: `note-${String(id)}`, payload: { id } })
          if (fails) throw new Error('rolled back')
        })
        await both(1, false)
        await errorOf(both(2, true))
        await messages.relay()
        expect([await kept(), await records(), sent]).toEqual([[1], 1, ['note-1']])
      })

      it('are the tx of a local step of a saga', async () => {
        const provision = saga('provision', { version: 1, input: order, run: async (step, { id }) => { await step('record', { write: ({ tx }) => client.insert(tx, id).then(() => id) }) } }, kit)
        expect(await provision.start('s1', { id: 7 })).toMatchObject({ outcome: 'done' })
        expect(await kept()).toEqual([7])
      })

      it('tell a refused statement in the client\'s own way, with its SQLSTATE', async () => {
        const error = await errorOf(database.transaction('twice', async tx => {
          await client.insert(tx, 1)
          await client.insert(tx, 1)
        }))
        expect(sqlstateOf(error)).toBe('23505')
        expect(isHoldfastError(error)).toBe(false)
        expect(await kept()).toEqual([])
      })

      it('run again after a serialization failure in one of the client\'s statements', async () => {
        let runs = 0
        await database.transaction('again', async tx => {
          runs++
          await client.insert(tx, runs)
          if (runs === 1) await client.execute(tx, `DO $do$ BEGIN RAISE EXCEPTION 'as the server would' USING ERRCODE = '40001'; END $do$`)
        })
        expect([runs, await kept()]).toEqual([2, [2]])
      })

      it('are not ended by the client, nor usable after their end', async () => {
        for (const ending of ['COMMIT', 'ROLLBACK', 'BEGIN', 'END']) {
          expect(await errorOf(database.transaction('ends', async tx => {
            await client.insert(tx, 1)
            await client.execute(tx, ending)
          }))).toSatisfy((error: unknown) => /begun and ended by the store/.test(String(error)) || /begun and ended by the store/.test(String((error as Error).cause)))
        }
        const leaked = await database.transaction('leaks', async tx => ({ tx }))
        await expect(client.insert(leaked.tx, 9)).rejects.toThrow()
        expect(await kept()).toEqual([])
      })

      it('end with the store\'s error when their connection is lost', async () => {
        expect(await errorOf(database.transaction('cut', async tx => {
          await client.insert(tx, 1)
          await client.execute(tx, 'SELECT pg_terminate_backend(pg_backend_pid())')
        }, { conflictRetries: 0 }))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
        expect(await kept()).toEqual([])
      })

      it('are the same behind hooks', async () => {
        const hooked = await withHooks({ ...store, open: () => Promise.resolve(database) }, {}).open({ env, events, service: 'test' })
        const paying = once('hooked', { input: order, key: given => String(given.id), write: async ({ id }, { tx }) => { await client.insert(tx, id) } }, { ...kit, database: () => hooked })
        expect(await hooked.transaction('joined', tx => paying({ id: 1 }, { tx }))).toMatchObject({ outcome: 'done' })
        expect(await kept()).toEqual([1])
      })
    })

    describe('that the user opens and once joins', () => {
      it('commit both together', async () => {
        const paying = pay((id, tx) => client.insert(tx, id))
        await client.own(async tx => {
          await client.insert(tx, 100)
          expect(await paying({ id: 1 }, { tx })).toEqual({ outcome: 'done', value: 1 })
          expect(await paying({ id: 1 }, { tx })).toEqual({ outcome: 'replayed', value: 1 })
          expect([await kept(), await records()]).toEqual([[], 0])
        })
        expect([await kept(), await records()]).toEqual([[1, 100], 1])
      })

      it('roll both back together', async () => {
        const paying = pay((id, tx) => client.insert(tx, id))
        await errorOf(client.own(async tx => {
          await paying({ id: 1 }, { tx })
          throw new Error('of the user')
        }))
        expect([await kept(), await records()]).toEqual([[], 0])
      })

      it('go on when write fails: its savepoint takes back its writes and nothing else', async () => {
        const paying = pay(async (id, tx) => {
          await client.insert(tx, id)
          await client.insert(tx, id)
        })
        await client.own(async tx => {
          await client.insert(tx, 100)
          expect(sqlstateOf(await errorOf(paying({ id: 1 }, { tx })))).toBe('23505')
          await client.insert(tx, 101)
        })
        expect([await kept(), await records()]).toEqual([[100, 101], 0])
      })

      it('wait for a duplicate that is being written a bounded time, and go on', async () => {
        const paying = pay((id, tx) => client.insert(tx, id))
        const written = gate()
        const go = gate()
        const first = client.own(async tx => {
          await paying({ id: 1 }, { tx })
          written.open()
          await go.opened
        })
        await written.opened
        const startedMs = env.monotonic()
        await client.own(async tx => {
          expect(await paying({ id: 1 }, { tx })).toMatchObject({ outcome: 'in-progress' })
          await client.insert(tx, 100)
        })
        expect(env.monotonic() - startedMs).toBeLessThan(5_000)
        go.open()
        await first
        expect([await kept(), await records()]).toEqual([[1, 100], 1])
      })

      it('put messages into the outbox that leave when they commit', async () => {
        const messages = outbox<UserTx>({}, kit)
        messages.topic('note', { send: async () => undefined })
        await client.own(tx => messages.enqueue(tx, { topic: 'note', lane: 'a', onceKey: 'kept', payload: {} }))
        await errorOf(client.own(async tx => {
          await messages.enqueue(tx, { topic: 'note', lane: 'a', onceKey: 'lost', payload: {} })
          throw new Error('of the user')
        }))
        expect(await messages.relay()).toMatchObject({ sent: 1 })
      })

      it('under SERIALIZABLE fail with 40001 in the client\'s own error, and the user\'s retry of the whole does it once', async () => {
        await direct.transaction('rows', tx => tx.query('INSERT INTO paid (id) VALUES (100), (200)'))
        const bothRead = [gate(), gate()] as const
        const failures: unknown[] = []
        let turn = 0
        const paying = pay((id, tx) => client.insert(tx, id))
        const retried = async (id: number): Promise<unknown> => {
          for (;;) {
            const gateAt = turn < 2 ? turn++ : undefined
            try {
              return await client.own(async tx => {
                await client.execute(tx, 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE')
                // Write skew: each reads what the other changes.
                await client.ids(tx)
                if (gateAt !== undefined) bothRead[gateAt as 0 | 1].open()
                await Promise.all(bothRead.map(each => each.opened))
                return await paying({ id }, { tx })
              })
            } catch (error) {
              failures.push(sqlstateOf(error))
              if (sqlstateOf(error) !== '40001') throw error
            }
          }
        }
        expect(await Promise.all([retried(1), retried(2)])).toEqual([{ outcome: 'done', value: 1 }, { outcome: 'done', value: 2 }])
        expect(failures).toEqual(['40001'])
        expect([await kept(), await records()]).toEqual([[1, 2, 100, 200], 2])
      })

      it('allow no outside call inside, as the store\'s own do', async () => {
        const refund = once('refund', { input: order, key: given => String(given.id), call: async () => 1, onUnknown: 'hold' }, kit)
        const paying = pay(async id => { await refund({ id }) })
        expect(await client.own(tx => errorOf(paying({ id: 1 }, { tx })))).toMatchObject({ code: 'HF_CALL_IN_TX' })
      })
    })
  })
}

// ---- pg

let pool: pgPackage.Pool
suite({
  name: 'pg',
  store: url => postgres(url, { tx: pg(), connections: 2 }),
  insert: (tx, id) => tx.query({ text: 'INSERT INTO paid (id) VALUES ($1)', values: [id] }),
  ids: async tx => (await tx.query<[number]>({ text: 'SELECT id FROM paid ORDER BY id', rowMode: 'array' })).rows.map(([id]) => id),
  execute: (tx, sql) => tx.query(sql),
  open: url => { pool = new pgPackage.Pool({ connectionString: url, max: 3 }) },
  close: () => pool.end(),
  own: async work => {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      const value = await work(client)
      await client.query('COMMIT')
      return value
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  },
})

// ---- Kysely, with a plugin that renames columns

interface Tables {
  readonly paid: { readonly id: number; readonly userNote: string | null; readonly at: Date | null; readonly data: unknown }
}
let kyselyPool: pgPackage.Pool
const kyselyDb = new Kysely<Tables>({ dialect: new PostgresDialect({ pool: () => Promise.resolve(kyselyPool) }), plugins: [new CamelCasePlugin()] })
suite({
  name: 'Kysely',
  store: url => postgres(url, { tx: kysely(kyselyDb, { types: pgPackage.types }), connections: 2 }),
  insert: (tx, id) => tx.insertInto('paid').values({ id, userNote: null, at: null, data: null }).execute(),
  ids: async tx => (await tx.selectFrom('paid').select(['id', 'userNote']).orderBy('id').execute()).map(row => row.id),
  execute: (tx, sql) => kyselySql.raw(sql).execute(tx),
  open: url => { kyselyPool = new pgPackage.Pool({ connectionString: url, max: 3 }) },
  close: () => kyselyDb.destroy(),
  own: work => kyselyDb.transaction().execute(work),
})

// ---- Drizzle

const paid = pgTable('paid', { id: integer().primaryKey(), userNote: text('user_note'), at: timestamp({ withTimezone: true }), data: jsonb() })
let drizzlePool: pgPackage.Pool
const makeDrizzle = (client: pgPackage.Pool) => drizzleOf({ client, schema: { paid } })
suite({
  name: 'Drizzle',
  store: url => postgres(url, { tx: drizzle(makeDrizzle), connections: 2 }),
  insert: (tx, id) => tx.insert(paid).values({ id }),
  ids: async tx => (await tx.query.paid.findMany({ columns: { id: true }, orderBy: paid.id })).map(row => row.id),
  execute: (tx, sql) => tx.execute(drizzleSql.raw(sql)),
  open: url => { drizzlePool = new pgPackage.Pool({ connectionString: url, max: 3 }) },
  close: () => drizzlePool.end(),
  own: work => makeDrizzle(drizzlePool).transaction(work),
})

// ---- postgres, with column names transformed

let sql: createSql.Sql
suite({
  name: 'postgres',
  store: url => postgres(url, { tx: postgresJs(), connections: 2 }),
  insert: (tx, id) => tx`INSERT INTO paid ${tx({ id })}`,
  ids: async tx => (await tx<{ id: number }[]>`SELECT id FROM paid ${tx`ORDER BY id`}`).map(row => row.id),
  execute: (tx, text) => tx.unsafe(text),
  open: url => { sql = createSql(url, { max: 3, transform: createSql.camel, onnotice: () => undefined }) },
  close: () => sql.end({ timeout: 1 }),
  own: async <T>(work: (tx: createSql.TransactionSql) => Promise<T>): Promise<T> => {
    // The package unwraps arrays of promises, which its types cannot say of T.
    const value = await sql.begin(async tx => [await work(tx)] as const)
    return value[0]
  },
})

describe('values and savepoints', () => {
  const SELECT = `SELECT 9007199254740993::int8 AS big, '2026-11-28 10:00:00+02'::timestamptz AS at, '2026-11-28'::date AS day, '{"a":[1]}'::jsonb AS data, ARRAY['x','y'] AS list, 1.50::numeric AS price,
    '\\x00ff'::bytea AS bytes, '1 day'::interval AS span, true AS yes, NULL::text AS nothing, 0.5::float8 AS half`
  let url: string
  beforeAll(async () => { url = await (await testPostgres()).url() })
  const open = <Tx>(store: Store<Tx>): Promise<Database<Tx>> => store.open({ env, events: new EventBus(env), service: 'test' })

  it('of pg are read as by a client of pg, with the parsers that the program has set', async () => {
    const client = new pgPackage.Client({ connectionString: url })
    await client.connect()
    const database = await open(postgres(url, { tx: pg() }))
    const theirs = await client.query(SELECT)
    const ours = await database.transaction('values', tx => tx.query(SELECT))
    expect(ours.rows).toEqual(theirs.rows)
    expect([ours.rowCount, ours.command, ours.fields.map(field => [field.name, field.dataTypeID])]).toEqual([1, 'SELECT', theirs.fields.map(field => [field.name, field.dataTypeID])])
    const types = { getTypeParser: () => (value: string) => `<${value}>` }
    expect((await database.transaction('values', tx => tx.query({ text: 'SELECT 1 AS n, $1::text AS t', values: ['x'], types }))).rows).toEqual([{ n: '<1>', t: '<x>' }])
    await new Promise<void>((resolve, reject) => {
      void database.transaction('callback', tx => new Promise<void>((done, failed) => {
        tx.query('SELECT 2 AS n', (error, result: pgPackage.QueryResult<{ n: number }>) => {
          if (result.rows[0]?.n === 2) done()
          else failed(error)
        })
      })).then(resolve, reject)
    })
    await Promise.all([client.end(), database.close()])
  })

  it('of postgres are read as by the package alone, and its builders, fragments and savepoints work', async () => {
    const alone = createSql(url, { onnotice: () => undefined })
    const database = await open(postgres(url, { tx: postgresJs() }))
    await alone`CREATE TABLE thing (id int PRIMARY KEY, tags text[], data jsonb)`
    expect(Array.from(await database.transaction('values', async tx => Array.from(await tx.unsafe(SELECT))))).toEqual(Array.from(await alone.unsafe(SELECT)))
    const rows = await database.transaction('things', async tx => {
      await tx`INSERT INTO thing ${tx([{ id: 1, tags: ['a', 'b'], data: tx.json({ a: 1 }) }, { id: 2, tags: [], data: tx.json('text') }])}`
      await tx`UPDATE thing SET tags = ${tx.array(['c'])} WHERE id IN ${tx([2])}`
      await tx.savepoint(async inner => {
        await inner`DELETE FROM thing`
        throw new Error('taken back')
      }).catch(() => undefined)
      expect(await tx.savepoint('named', async inner => (await inner<{ n: number }[]>`SELECT count(*)::int AS n FROM thing`)[0]?.n)).toBe(2)
      return Array.from(await tx`SELECT id, tags, data FROM thing WHERE id = ANY(${[1, 2]}) ${tx`ORDER BY id`}`)
    })
    expect(rows).toEqual([{ id: 1, tags: ['a', 'b'], data: { a: 1 } }, { id: 2, tags: ['c'], data: 'text' }])
    await expect(database.transaction('two phases', tx => tx.prepare('x'))).rejects.toThrow(/two-phase/)
    await Promise.all([alone.end(), database.close()])
  })

  it('of postgres: a statement awaited after the end is refused and does not run outside of it', async () => {
    const database = await open(postgres(url, { tx: postgresJs(), connections: 1 }))
    await database.transaction('table', tx => tx`CREATE TABLE late (id int)`)
    const late = await database.transaction('forgets', async tx => ({ statement: tx`INSERT INTO late VALUES (1)` }))
    await expect(late.statement).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
    expect(Array.from(await database.transaction('look', tx => tx`SELECT id FROM late`))).toEqual([])
    await database.close()
  })

  it('of Kysely: rows changed are counted, plugins apply, values are as SqlTx gives them where no parsers are given', async () => {
    const database = await open(postgres(url, { tx: kysely(kyselyDb) }))
    await database.transaction('table', tx => kyselySql`CREATE TABLE paid (id int PRIMARY KEY, user_note text, at timestamptz, data jsonb)`.execute(tx))
    const result = await database.transaction('update', async tx => {
      await tx.insertInto('paid').values([1, 2, 3].map(id => ({ id, userNote: 'a', at: new Date(0), data: JSON.stringify({ someKey: id }) }))).execute()
      return tx.updateTable('paid').set({ userNote: 'b' }).where('id', '<', 3).executeTakeFirst()
    })
    expect(result.numUpdatedRows).toBe(2n)
    expect(await database.transaction('read', tx => tx.selectFrom('paid').selectAll().where('id', '=', 2).executeTakeFirst())).toEqual({ id: 2, userNote: 'b', at: new Date(0), data: { someKey: 2 } })
    await expect(database.transaction('stream', async tx => { for await (const row of tx.selectFrom('paid').selectAll().stream()) expect(row).toBeUndefined() })).rejects.toThrow(/stream/)
    await database.close()
  })

  it('of Drizzle: types are mapped by its schema, and a transaction inside is a savepoint', async () => {
    const database = await open(postgres(url, { tx: drizzle(makeDrizzle) }))
    await database.transaction('nested', async tx => {
      await tx.insert(paid).values({ id: 10, at: new Date(5), data: { a: [1] } })
      await tx.transaction(async inner => {
        await inner.delete(paid)
        throw new Error('taken back')
      }).catch(() => undefined)
    })
    expect(await database.transaction('read', tx => tx.select().from(paid).where(eq(paid.id, 10)))).toEqual([{ id: 10, userNote: null, at: new Date(5), data: { a: [1] } }])
    await database.close()
  })

  it('are the same on the embedded store, for the clients that bring no connection of their own', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'holdfast-clients-'))
    const singleInstance = true
    const TABLE = 'CREATE TABLE IF NOT EXISTS paid (id int PRIMARY KEY, user_note text, at timestamptz, data jsonb)'
    const viaPg = await open(embedded(dir, { singleInstance, tx: pg() }))
    expect(await viaPg.transaction('pg', async tx => {
      await tx.query(TABLE)
      await tx.query(`INSERT INTO paid (id, at, data) VALUES ($1, $2, $3)`, [1, new Date(0), { a: [1] }])
      const { rows, rowCount, command } = await tx.query('SELECT id, at, data, 1.5::numeric AS price, 7::int8 AS big FROM paid')
      return { rows, rowCount, command }
    })).toEqual({ rows: [{ id: 1, at: new Date(0), data: { a: [1] }, price: '1.5', big: '7' }], rowCount: 1, command: 'SELECT' })
    expect(sqlstateOf(await errorOf(viaPg.transaction('pg', tx => tx.query('INSERT INTO paid (id) VALUES (1)'))))).toBe('23505')
    await viaPg.close()
    const viaKysely = await open(embedded(dir, { singleInstance, tx: kysely(kyselyDb) }))
    expect((await viaKysely.transaction('kysely', tx => tx.updateTable('paid').set({ userNote: 'x' }).executeTakeFirst())).numUpdatedRows).toBe(1n)
    await viaKysely.close()
    const viaDrizzle = await open(embedded(dir, { singleInstance, tx: drizzle(makeDrizzle) }))
    expect(await viaDrizzle.transaction('drizzle', tx => tx.query.paid.findMany())).toEqual([{ id: 1, userNote: 'x', at: new Date(0), data: { a: [1] } }])
    await viaDrizzle.close()
    const viaPostgres = await open(embedded(dir, { singleInstance, tx: postgresJs() }))
    expect(await errorOf(viaPostgres.transaction('postgres', tx => tx`SELECT 1`))).toMatchObject({ code: 'HF_OPTION_INVALID' })
    await viaPostgres.close()
    await rm(dir, { recursive: true })
  })

  it('refuse to join what is no transaction', async () => {
    const pooled = new pgPackage.Pool({ connectionString: url })
    expect(() => pg().join(pooled)).toThrow(/pool/)
    expect(() => kysely(kyselyDb).join(kyselyDb as never)).toThrow(/transaction/)
    expect(() => postgresJs().join(createSql(url) as never)).toThrow(/begin/)
    expect(() => drizzle(makeDrizzle).join(makeDrizzle(pooled) as never)).toThrow(/transaction/)
    const client = new pgPackage.Client({ connectionString: url })
    await client.connect()
    const database = await open(postgres(url, { tx: pg() }))
    await migrate(sqlDatabase(database), 'durable', DURABLE_MIGRATIONS)
    const paying = once('pay', { input: order, key: ({ id }) => String(id), write: async () => 1 }, { env, events: new EventBus(env), service: 'test', instance: 'a', database: () => database })
    // Nothing was begun on it: the server refuses the savepoint.
    await expect(paying({ id: 1 }, { tx: client })).rejects.toMatchObject({ code: '25P01' })
    await Promise.all([client.end(), pooled.end(), database.close()])
  })
})

/** Compiled, never run: each marked line is refused by the type checker, or the check itself fails. */
async function refusedAtCompileTime(client: pgPackage.PoolClient, other: SqlTx): Promise<void> {
  const hold = createHoldfast({ service: 'test', store: postgres('postgres://db/bot', { tx: kysely(kyselyDb) }) })
  const paying = hold.once('pay', { input: order, key: ({ id }) => String(id), write: async ({ id }, { tx }) => {
    await tx.insertInto('paid').values({ id, userNote: null, at: null, data: null }).execute()
    // @ts-expect-error no such table
    await tx.selectFrom('unpaid').selectAll().execute()
    // @ts-expect-error a transaction of Kysely has no such method
    void tx.query
  } })
  await kyselyDb.transaction().execute(async tx => paying({ id: 1 }, { tx }))
  // @ts-expect-error not a transaction, a Kysely that opens them
  await paying({ id: 1 }, { tx: kyselyDb })
  // @ts-expect-error another client's
  await paying({ id: 1 }, { tx: client })
  // @ts-expect-error the store's own kind, where a client was declared
  await paying({ id: 1 }, { tx: other })
  const plain = createHoldfast({ service: 'test', store: postgres('postgres://db/bot') })
  await plain.transaction('plain', tx => tx.query<{ n: number }>('SELECT 1 AS n'))
  // @ts-expect-error no adapter
  const options: PostgresOptions<Transaction<Tables>> = { tx: kyselyDb }
  void options
}

it('types refuse at compile time what must not be written', () => {
  expect(refusedAtCompileTime).toBeTypeOf('function')
})
