import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, realEnv } from '../../core/index.ts'
import { faultProxy } from '../../testing/index.ts'
import { testPostgres } from '../../../test/postgres.ts'
import type { Database, SqlTx } from '../port.ts'
import { parseArray } from './arrays.ts'
import { postgres } from './index.ts'

const env = realEnv()
let url: string
let database: Database<SqlTx>
beforeAll(async () => {
  url = await (await testPostgres()).url()
  database = await postgres(url).open({ env, events: new EventBus(env), service: 'test' })
})
afterAll(() => database.close())

const one = (sql: string, params: readonly unknown[] = []): Promise<unknown> => database.transaction('one', async tx => (await tx.query<{ v: unknown }>(sql, params))[0]?.v)

describe('arrays', () => {
  it.each<[type: string, value: unknown[]]>([
    ['text[]', ['a', '', 'with "quotes", {braces}, \\ and , commas', 'NULL', null, 'null']],
    ['int4[]', [1, -2, null]],
    ['int4[][]', [[1, 2], [3, 4]]],
    ['int8[]', ['9007199254740993']],
    ['boolean[]', [true, false]],
    ['timestamptz[]', [new Date(0)]],
    ['jsonb[]', [{ a: 1 }, [1], 'x']],
    ['text[]', []],
  ])('of %s go there and back: %j', async (type, value) => {
    const sent = type === 'jsonb[]' ? value.map(item => JSON.stringify(item)) : value
    expect(await one(`SELECT $1::${type} AS v`, [sent])).toEqual(value)
  })

  it('as json are JSON, and a big number in one is written as its digits', async () => {
    expect(await one('SELECT $1::jsonb AS v', [[1, 'a', null, { b: [true] }]])).toEqual([1, 'a', null, { b: [true] }])
    expect(await one('SELECT $1::jsonb AS v', [[1n]])).toEqual(['1'])
    expect(await one('SELECT $1::int8[] AS v', [[1n]])).toEqual(['1'])
  })

  it('of a user\'s type, with bounds, and with another delimiter', async () => {
    await database.transaction('mood', tx => tx.query(`CREATE TYPE mood AS ENUM ('sad', 'very happy')`))
    const later = await postgres(url).open({ env, events: new EventBus(env), service: 'test' })
    expect(await later.transaction('read', tx => tx.query(`SELECT ARRAY['very happy', NULL]::mood[] AS v`))).toEqual([{ v: ['very happy', null] }])
    await later.close()
    expect(await one(`SELECT '[0:1]={7,8}'::int4[] AS v`)).toEqual([7, 8])
    expect(parseArray('{(1,1),(0,0);(2,2),(0,0)}', text => text, ';')).toEqual(['(1,1),(0,0)', '(2,2),(0,0)'])
    expect(await one(`SELECT '1 2'::int2vector AS v`)).toBe('1 2')
  })

  it('what cannot be written fails before anything is sent', async () => {
    await expect(one('SELECT $1::text[] AS v', [[Symbol('x')]])).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
    expect(await one('SELECT 1 AS v')).toBe(1)
  })
})

describe('a connection that is cut while it is being made', () => {
  it('fails whoever waits for it, and nobody else', async () => {
    const unhandled: unknown[] = []
    const listener = (error: unknown): void => { unhandled.push(error) }
    process.on('unhandledRejection', listener)
    const { hostname, port } = new URL(url)
    const proxy = await faultProxy({ to: { host: hostname, port: Number(port) } })
    const through = new URL(url)
    through.port = String(proxy.port)
    // At every message of the handshake and of what comes behind it.
    for (let sent = 1; sent <= 8; sent++) {
      let seen = 0
      const cut = proxy.cutWhen({ when: () => ++seen === sent })
      const opening = await postgres(through.href, { openWithin: '1s', connectTimeout: '300ms' }).open({ env, events: new EventBus(env), service: 'test' }).catch(() => undefined)
      await opening?.transaction('use', tx => tx.query('SELECT 1')).catch(() => undefined)
      await opening?.close()
      cut.disarm()
    }
    await env.sleep(50)
    process.off('unhandledRejection', listener)
    await proxy.close()
    expect([unhandled, proxy.seen.reset > 3]).toEqual([[], true])
  })
})
