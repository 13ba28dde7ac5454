import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, realEnv, type HoldfastError } from '../core/index.ts'
import { testPostgres } from '../../test/postgres.ts'
import { pgliteMemory } from './embedded/testing.ts'
import type { Database, SqlTx, Store } from './port.ts'
import { postgres } from './postgres/index.ts'

const env = realEnv()

describe.each<{ readonly name: string; readonly store: () => Promise<Store> }>([
  { name: 'PGlite', store: () => Promise.resolve(pgliteMemory()) },
  { name: 'postgres', store: async () => postgres(await (await testPostgres()).url()) },
  { name: 'postgres without prepared statements', store: async () => postgres(await (await testPostgres()).url(), { prepare: false }) },
])('SQL through $name', ({ store }) => {
  let database: Database<SqlTx>
  const query = <Row>(sql: string, params?: readonly unknown[]): Promise<readonly Row[]> => database.transaction('query', tx => tx.query<Row>(sql, params))
  const failure = (work: (tx: SqlTx) => Promise<unknown>): Promise<HoldfastError> => database.transaction('fails', work).then(() => { throw new Error('it did not fail') }, (error: unknown) => error as HoldfastError)

  beforeAll(async () => {
    database = await (await store()).open({ env, events: new EventBus(env), service: 'dialect' })
    await query(`CREATE TABLE person (id integer PRIMARY KEY, email text CONSTRAINT person_email UNIQUE, age integer CHECK (age > 0));
      INSERT INTO person VALUES (1, 'first@example.org', 30)`)
  })
  afterAll(() => database.close())

  describe('values', () => {
    it.each<{ readonly what: string; readonly sql: string; readonly params?: readonly unknown[]; readonly value: unknown }>([
      { what: 'bigint is text', sql: 'SELECT 9007199254740993::bigint AS value', value: '9007199254740993' },
      { what: 'count is text', sql: 'SELECT count(*) AS value FROM person', value: '1' },
      { what: 'numeric is text', sql: 'SELECT 1.50::numeric AS value', value: '1.50' },
      { what: 'integer and float are numbers', sql: 'SELECT 1.5::float8 AS value', value: 1.5 },
      { what: 'timestamptz is a Date', sql: `SELECT '2026-01-02T03:04:05.678Z'::timestamptz AS value`, value: new Date('2026-01-02T03:04:05.678Z') },
      { what: 'jsonb is decoded', sql: `SELECT '{"a":[1,null,"x"]}'::jsonb AS value`, value: { a: [1, null, 'x'] } },
      { what: 'a boolean', sql: 'SELECT $1::boolean AS value', params: [true], value: true },
      { what: 'text[] is an array', sql: `SELECT ARRAY['a','b,c'] AS value`, value: ['a', 'b,c'] },
      { what: 'an object goes to jsonb', sql: 'SELECT $1::jsonb AS value', params: [{ a: 1 }], value: { a: 1 } },
      { what: 'an array goes to jsonb', sql: 'SELECT $1::jsonb AS value', params: [[1, 'two']], value: [1, 'two'] },
      { what: 'a string is JSON text for jsonb', sql: 'SELECT $1::jsonb AS value', params: ['{"a":1}'], value: { a: 1 } },
      { what: 'a stringified string is a JSON string', sql: 'SELECT $1::jsonb AS value', params: [JSON.stringify('{"a":1}')], value: '{"a":1}' },
      { what: 'a Date goes to timestamptz', sql: 'SELECT $1::timestamptz AS value', params: [new Date(5)], value: new Date(5) },
      { what: 'a bigint goes to bigint', sql: 'SELECT $1::bigint AS value', params: [9_007_199_254_740_993n], value: '9007199254740993' },
      { what: 'a numeric text goes to integer', sql: 'SELECT $1::integer AS value', params: ['12'], value: 12 },
      { what: 'a number goes to text', sql: 'SELECT $1::text AS value', params: [12], value: '12' },
      { what: 'undefined is NULL', sql: 'SELECT $1::text AS value', params: [undefined], value: null },
      { what: 'null is NULL', sql: 'SELECT $1::jsonb AS value', params: [null], value: null },
      { what: 'ANY takes an array', sql: 'SELECT 2 = ANY($1::integer[]) AS value', params: [[1, 2]], value: true },
      { what: 'ANY takes an empty array', sql: 'SELECT 2 = ANY($1::integer[]) AS value', params: [[]], value: false },
      { what: 'array elements are escaped', sql: 'SELECT $1::text[] AS value', params: [['a"b', 'c,d', '\\', '']], value: ['a"b', 'c,d', '\\', ''] },
      { what: 'quotes and dollars are only data', sql: 'SELECT $1::text AS value', params: [`'; DROP TABLE person; -- $1`], value: `'; DROP TABLE person; -- $1` },
    ])('$what', async ({ sql, params, value }) => {
      const rows = await query<{ value: unknown }>(sql, params)
      expect(rows).toEqual([{ value }])
      expect(Object.getPrototypeOf(rows)).toBe(Array.prototype)
    })

    it('of several statements come from the last that gives rows', async () => {
      expect(await query('SELECT 1 AS a; SELECT 2 AS b')).toEqual([{ b: 2 }])
      expect(await query('CREATE TEMP TABLE scratch (a int); DROP TABLE scratch')).toEqual([])
    })

    it('of statements sent together come in the order of the calls', async () => {
      const rows = await database.transaction('together', tx => Promise.all([1, 2, 3].map(n => tx.query<{ n: number }>('SELECT $1::integer AS n', [n]))))
      expect(rows.map(row => row[0]?.n)).toEqual([1, 2, 3])
    })
  })

  describe('a refusal', () => {
    it('says by SQLSTATE and constraint what was violated, and never with which value', async () => {
      const secret = 'first@example.org'
      const error = await failure(tx => tx.query('INSERT INTO person VALUES (2, $1, 5)', [secret]))
      expect(error).toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '23505', constraint: 'person_email', table: 'person', transaction: 'fails' } })
      expect(everythingOf(error)).not.toContain(secret)
    })

    it.each<readonly [string, string, readonly unknown[], string]>([
      ['a value of the wrong form', 'SELECT $1::integer', ['s3cret-value'], '22P02'],
      ['a broken JSON text', 'SELECT $1::jsonb', ['s3cret-value'], '22P02'],
      ['a number out of range', 'SELECT ($1::text)::smallint', ['774411774411'], '22003'],
      ['a check', 'INSERT INTO person VALUES (3, $1, -774411)', ['s3cret-value'], '23514'],
    ])('of %s holds no value', async (_what, sql, params, sqlstate) => {
      const error = await failure(tx => tx.query(sql, params))
      expect(error).toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate } })
      for (const secret of ['s3cret', '774411']) expect(everythingOf(error)).not.toContain(secret)
    })

    it('of a value that cannot even be sent is no loss of the store', async () => {
      const cycle: Record<string, unknown> = {}
      cycle['self'] = cycle
      expect(await failure(tx => tx.query('SELECT $1::jsonb', [cycle]))).toMatchObject({ code: 'HF_QUERY_FAILED' })
      expect(await query('SELECT 1 AS one')).toEqual([{ one: 1 }])
    })

    it('that was caught inside does not look committed afterwards: the first failure is thrown', async () => {
      const error = await failure(async tx => {
        await tx.query('INSERT INTO person VALUES (10, $1, 1)', ['ten@example.org'])
        await tx.query('INSERT INTO person VALUES (1, NULL, 1)').catch(() => undefined)
        await tx.query('SELECT 1').catch(() => undefined)
        return 'as if nothing had happened'
      })
      expect(error).toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '23505', constraint: 'person_pkey' } })
      expect(await query('SELECT 1 FROM person WHERE id = 10')).toEqual([])
    })

    it('inside a savepoint that is rolled back to leaves the rest of the transaction alone', async () => {
      await database.transaction('savepoint', async tx => {
        await tx.query('INSERT INTO person VALUES (20, NULL, 1)')
        await tx.query('SAVEPOINT attempt')
        await tx.query('INSERT INTO person VALUES (1, NULL, 1)').catch(() => undefined)
        await tx.query('ROLLBACK TO SAVEPOINT attempt')
      })
      expect(await query('SELECT id FROM person WHERE id = 20')).toEqual([{ id: 20 }])
    })

    it('is a conflict, and work runs again, when the server says that transactions collided', async () => {
      let runs = 0
      await database.transaction('collides', async tx => {
        runs++
        if (runs === 1) await tx.query(`DO $$ BEGIN RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001'; END $$`)
      })
      expect(runs).toBe(2)
    })
  })

  describe('time', () => {
    it('cuts a transaction whose work takes too long, and the next one goes on', async () => {
      const error = await database.transaction('slow', async tx => {
        await tx.query('INSERT INTO person VALUES (30, NULL, 1)')
        await new Promise(() => undefined)
      }, { timeout: '100ms' }).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'HF_STORE_TX_TIMEOUT', context: { transaction: 'slow' } })
      expect(await query('SELECT 1 FROM person WHERE id = 30')).toEqual([])
    })

    it('lets nothing of a zombie in: what it still asks for after the cut is refused', async () => {
      let wake = (): void => undefined
      let late: unknown
      let tried: Promise<void> | undefined
      await database.transaction('slow', async tx => {
        tried = new Promise<void>(resolve => { wake = resolve }).then(async () => {
          late = await tx.query('INSERT INTO person VALUES (31, NULL, 1)').catch((error: unknown) => error)
        })
        await tried
      }, { timeout: '100ms' }).catch(() => undefined)
      wake()
      await tried
      expect(late).toMatchObject({ code: 'HF_STORE_TX_TIMEOUT' })
      expect(await query('SELECT 1 FROM person WHERE id = 31')).toEqual([])
    })

    it('is long enough where a transaction asks for more (the control)', async () => {
      expect(await database.transaction('patient', async tx => {
        await new Promise(resolve => { setTimeout(resolve, 150) })
        return tx.query('SELECT 1 AS one')
      }, { timeout: '5s' })).toEqual([{ one: 1 }])
    })
  })
})

/** Whatever a logger could print of an error. */
function everythingOf(error: Error): string {
  const { cause, stack, ...rest } = error as HoldfastError
  return [error.message, stack, JSON.stringify(error), JSON.stringify(rest), JSON.stringify(error.cause), cause instanceof Error ? everythingOf(cause) : String(cause)].join('\n')
}
