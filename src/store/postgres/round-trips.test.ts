/**
 * What travels together: round trips and commits of transactions on a real server, counted on the wire.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { EventBus, realEnv, type Schema } from '../../core/index.ts'
import { DURABLE_MIGRATIONS, once, type DurableKit, type Once } from '../../durable/index.ts'
import { testPostgres } from '../../../test/postgres.ts'
import { countRoundTrips, type RoundTrips } from '../../../test/round-trips.ts'
import { last } from '../last.ts'
import { migrate } from '../migrations.ts'
import type { Database, SqlTx } from '../port.ts'
import { postgres } from './index.ts'

const env = realEnv()
const events = new EventBus(env)
let wire: RoundTrips
let database: Database<SqlTx>

beforeAll(async () => {
  wire = await countRoundTrips(await (await testPostgres()).url())
  database = await postgres(wire.url, { connections: 1 }).open({ env, events, service: 'test' })
  await migrate(database, 'durable', DURABLE_MIGRATIONS)
  await database.transaction('set-up', tx => tx.query('CREATE TABLE t (id int PRIMARY KEY, text text)'))
})
beforeEach(async () => {
  await database.transaction('empty', tx => tx.query('DELETE FROM t'))
  wire.taken()
})
afterAll(async () => {
  await database.close()
  wire.close()
})

/** First words of what was sent, per round trip. */
const words = (): readonly string[] => wire.taken().map(texts => texts.map(text => text.trim().replace(/^BEGIN;[\s\S]*/, 'BEGIN').replace(/^(\w+)\b[\s\S]*/, '$1')).join(' + '))
/** The second time every statement is prepared. */
async function twice(run: (time: number) => Promise<unknown>): Promise<readonly string[]> {
  await run(1)
  wire.taken()
  await run(2)
  return words()
}
const rows = (): Promise<readonly unknown[]> => database.transaction('read', tx => tx.query('SELECT id, text FROM t ORDER BY id'))

describe('round trips of a transaction', () => {
  it('BEGIN travels with the first statement', async () => {
    expect(await twice(id => database.transaction('insert', tx => tx.query('INSERT INTO t VALUES ($1)', [id])))).toEqual(['BEGIN + INSERT', 'COMMIT'])
  })

  it('statements that do not wait for each other travel together', async () => {
    expect(await twice(id => database.transaction('several', tx => Promise.all([
      tx.query('INSERT INTO t VALUES ($1)', [id]), tx.query('UPDATE t SET text = $1', ['x']), tx.query('SELECT id FROM t WHERE id = $1', [id]),
    ])))).toEqual(['BEGIN + INSERT + UPDATE + SELECT', 'COMMIT'])
  })

  it('statements that wait for each other do not (the control)', async () => {
    expect(await twice(id => database.transaction('one by one', async tx => {
      await tx.query('INSERT INTO t VALUES ($1)', [id])
      await tx.query('UPDATE t SET text = $1', ['x'])
    }))).toEqual(['BEGIN + INSERT', 'UPDATE', 'COMMIT'])
  })

  it('a last statement travels with COMMIT', async () => {
    expect(await twice(id => database.transaction('last', async tx => {
      await tx.query('INSERT INTO t VALUES ($1)', [id])
      await last(tx).query('UPDATE t SET text = $2 WHERE id = $1', [id, `it's \\ ${String(id)}`])
    }))).toEqual(['BEGIN + INSERT', 'UPDATE + COMMIT'])
    expect(await rows()).toEqual([{ id: 1, text: "it's \\ 1" }, { id: 2, text: "it's \\ 2" }])
  })

  it('of once with a write of one statement are three, as of BEGIN, statement and COMMIT one by one; of a replay four', async () => {
    const pay = payOnce()
    expect(await twice(id => pay(id))).toEqual(['BEGIN + INSERT', 'INSERT', 'UPDATE + COMMIT'])
    await pay(2)
    expect(words()).toEqual(['BEGIN + INSERT', 'UPDATE', 'SELECT', 'COMMIT'])
  })
})

describe('a last statement', () => {
  it('that fails keeps everything of its transaction from being committed, and leaves the connection usable', async () => {
    await expect(database.transaction('fails', async tx => {
      await tx.query('INSERT INTO t VALUES (1)')
      await last(tx).query('INSERT INTO t VALUES ($1)', [1])
    })).rejects.toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '23505', constraint: 't_pkey' } })
    expect(await rows()).toEqual([])
  })

  it('that collides makes work run again', async () => {
    let runs = 0
    await database.transaction('collides', async tx => {
      runs++
      await tx.query('INSERT INTO t VALUES ($1)', [runs])
      if (runs === 1) await last(tx).query(`DO $do$ BEGIN RAISE EXCEPTION 'as the server would' USING ERRCODE = '40001'; END $do$`)
    })
    expect([runs, await rows()]).toEqual([2, [{ id: 2, text: null }]])
  })
})

function payOnce(): Once<number, number, SqlTx> {
  const kit: DurableKit<SqlTx> = { env, events, service: 'test', instance: 'a', database: () => database }
  const input: Schema<number, number> = { '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as number }) } }
  return once('pay', { input, key: id => `charge-${String(id)}`, write: async (id, { tx }) => {
    await tx.query('INSERT INTO t VALUES ($1)', [id])
    return id
  } }, kit)
}
