/**
 * What each durable operation costs on the wire: round trips, and transactions that write (each waits for the disk).
 *
 * Counted on a real server once every statement is prepared. The numbers are the budget: who changes one says why here.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, realEnv, type Schema } from '../src/core/index.ts'
import { DURABLE_MIGRATIONS, inbox, lease, once, outbox, saga, type DurableKit } from '../src/durable/index.ts'
import { migrate, type Database, type SqlTx } from '../src/store/index.ts'
import { postgres } from '../src/store/postgres/index.ts'
import { testPostgres, type OwnTestPostgres } from './postgres.ts'
import { countRoundTrips, type RoundTrips } from './round-trips.ts'

const env = realEnv()
const text: Schema<string, string> = { '~standard': { version: 1, vendor: 'test', validate: value => (typeof value === 'string' ? { value } : { issues: [{ message: 'a string' }] }) } }
const INSERT = 'INSERT INTO effect (text) VALUES ($1)'

let wire: RoundTrips
let database: Database<SqlTx>
let direct: Database<SqlTx>
let kit: DurableKit<SqlTx>
/** Of its own: the server numbers the writes of all its databases together. */
let server: OwnTestPostgres
beforeAll(async () => {
  server = await testPostgres({ own: true })
  const url = await server.url()
  wire = await countRoundTrips(url)
  database = await postgres(wire.url, { connections: 1 }).open({ env, events: new EventBus(env), service: 'test' })
  direct = await postgres(url, { connections: 1 }).open({ env, events: new EventBus(env), service: 'test' })
  await migrate(database, 'durable', DURABLE_MIGRATIONS)
  await database.transaction('table', tx => tx.query('CREATE TABLE effect (text text PRIMARY KEY)'))
  kit = { env, events: new EventBus(env), service: 'test', instance: 'one', database: () => database }
})
afterAll(async () => {
  await database.close()
  await direct.close()
  wire.close()
  server.remove()
})

/** The server gives a number to each transaction that writes, and to nothing else. */
async function written(): Promise<number> {
  const [row] = await direct.transaction('count', tx => tx.query<{ n: string }>('SELECT pg_snapshot_xmax(pg_current_snapshot()) AS n'))
  return Number(row?.n)
}

interface Cost {
  readonly roundTrips: number
  readonly writes: number
}

/** Of the last of `times` runs: by then every statement is prepared. */
async function cost(run: (n: string) => Promise<unknown>, times = 3): Promise<Cost> {
  let last: Cost = { roundTrips: 0, writes: 0 }
  for (let time = 0; time < times; time++) {
    const before = await written()
    wire.taken()
    await run(`n${String(time)}`)
    last = { roundTrips: wire.taken().length, writes: await written() - before }
  }
  return last
}

describe('the raw transaction, for comparison', () => {
  it('costs a round trip less than BEGIN, statement and COMMIT one by one', async () => {
    expect(await cost(n => database.transaction('raw', tx => tx.query(INSERT, [`raw ${n}`])))).toEqual({ roundTrips: 2, writes: 1 })
  })

  it('of which each further one is seen (the control)', async () => {
    expect(await cost(n => database.transaction('raw', async tx => {
      await tx.query(INSERT, [`a ${n}`])
      await tx.query(INSERT, [`b ${n}`])
    }))).toEqual({ roundTrips: 3, writes: 1 })
    expect(await cost(async n => {
      await database.transaction('raw', tx => tx.query(INSERT, [`c ${n}`]))
      await database.transaction('raw', tx => tx.query('SELECT 1 FROM effect WHERE text = $1', [n]))
    })).toEqual({ roundTrips: 4, writes: 1 })
  })
})

describe('once', () => {
  const write = async (id: string, { tx }: { readonly tx: SqlTx }): Promise<string> => {
    await tx.query(INSERT, [id])
    return id
  }

  it('local: one write; claim, business row, and result with COMMIT', async () => {
    const pay = once('pay', { input: text, key: id => id, write }, kit)
    expect(await cost(n => pay(`pay ${n}`))).toEqual({ roundTrips: 3, writes: 1 })
    expect(await cost(() => pay('pay n0'))).toEqual({ roundTrips: 4, writes: 0 })
  })

  it('joined: no write and no COMMIT of its own', async () => {
    const pay = once('pay-joined', { input: text, key: id => id, write }, kit)
    const costs = await cost(n => database.transaction('joined', async tx => {
      await tx.query(INSERT, [`joins ${n}`])
      await pay(`pay joined ${n}`, { tx })
    }))
    // Its savepoint is a number of its own to the server, and no commit.
    expect(costs).toEqual({ roundTrips: 9, writes: 2 })
  })

  it('outside: a claim before the call and a completion after it', async () => {
    const refund = once('refund', { input: text, key: id => id, onUnknown: 'hold', call: async id => id }, kit)
    expect(await cost(n => refund(`refund ${n}`))).toEqual({ roundTrips: 4, writes: 2 })
    expect(await cost(() => refund('refund n0'))).toEqual({ roundTrips: 5, writes: 0 })
  })
})

describe('saga', () => {
  it('of three outside steps: its beginning, an intent for each step with the end of the one before, its end; one round trip each', async () => {
    const provision = saga('outside', { version: 1, input: text, run: async step => {
      const a = await step('a', { effect: 'idempotent', run: async () => 1 })
      const b = await step('b', { effect: 'idempotent', run: async () => a + 1 })
      return step('c', { effect: 'idempotent', run: async () => b + 1 })
    } }, kit)
    expect(await cost(n => provision.start(n, n))).toEqual({ roundTrips: 5, writes: 5 })
    expect(await cost(() => provision.start('n0', 'n0'))).toEqual({ roundTrips: 4, writes: 0 })
  })

  it('of three local steps: its beginning, each step with what it writes, its end', async () => {
    const record = saga('local', { version: 1, input: text, run: async (step, id) => {
      for (const name of ['a', 'b', 'c']) await step(name, { write: async ({ tx }) => { await tx.query(INSERT, [`saga ${id} ${name}`]) } })
      return id
    } }, kit)
    expect(await cost(n => record.start(n, n))).toEqual({ roundTrips: 11, writes: 5 })
  })
})

describe('leases and messages', () => {
  it('lease: a new one, a guarded write, a heartbeat, a return', async () => {
    const leader = lease<SqlTx>('leader', {}, kit)
    const held = async (): Promise<NonNullable<Awaited<ReturnType<typeof leader.acquire>>>> => {
      const got = await leader.acquire()
      if (got === undefined) throw new Error('it is held')
      return got
    }
    await (await held()).release()
    const costs: Record<string, Cost> = {}
    let mine = await held()
    costs['release'] = await cost(() => mine.release(), 1)
    costs['acquire'] = await cost(async () => { mine = await held() }, 1)
    await mine.transaction('warm', tx => tx.query(INSERT, ['guarded warm']))
    costs['guarded write'] = await cost(n => mine.transaction('guarded', tx => tx.query(INSERT, [`guarded ${n}`])), 1)
    // Its lease is short, so that it is due after a third of it.
    const beating = await lease<SqlTx>('beating', { ttl: '1500ms' }, kit).acquire()
    // The first prepares its statement.
    await env.sleep(600)
    const renewals = await cost(() => env.sleep(1_250), 1)
    await beating?.release()
    expect(renewals.writes).toBeGreaterThanOrEqual(2)
    costs['renewal'] = { roundTrips: renewals.roundTrips / renewals.writes, writes: 1 }
    await mine.release()
    expect(costs).toEqual({ acquire: { roundTrips: 2, writes: 1 }, 'guarded write': { roundTrips: 3, writes: 1 }, renewal: { roundTrips: 2, writes: 1 }, release: { roundTrips: 1, writes: 1 } })
  })

  it('outbox: nothing but a statement in a joined transaction; a mark before the send and one after it', async () => {
    const out = outbox<SqlTx>({}, kit)
    out.topic('mail', { send: async () => undefined })
    const enqueue = (n: string): Promise<unknown> => database.transaction('order', async tx => {
      await tx.query(INSERT, [`order ${n}`])
      await out.enqueue(tx, { lane: n, topic: 'mail', onceKey: `mail ${n}`, payload: null })
    })
    expect(await cost(enqueue)).toEqual({ roundTrips: 3, writes: 1 })
    await out.relay()
    await enqueue('later')
    const relayed = await cost(() => out.relay(), 1)
    expect(relayed).toEqual({ roundTrips: 17, writes: 5 })
  })

  it('inbox: a write when it comes, one when it is taken, one when it is done; nothing when there is nothing', async () => {
    const incoming = inbox<SqlTx>({}, kit)
    expect(await cost(n => incoming.claim({ source: 'chat', id: n, lane: n, payload: null }))).toEqual({ roundTrips: 1, writes: 1 })
    expect(await cost(() => incoming.claim({ source: 'chat', id: 'n0', lane: 'n0', payload: null }))).toEqual({ roundTrips: 1, writes: 0 })

    const processor = incoming.process('chat', () => Promise.resolve(), { poll: '10m' })
    const rest = (): Promise<void> => env.sleep(300)
    processor.start()
    await rest()
    // Comes; what is exhausted, and with COMMIT what is next; is done; a look whether there is more.
    expect(await cost(async n => {
      await incoming.claim({ source: 'chat', id: `work ${n}`, lane: n, payload: null })
      await rest()
    })).toEqual({ roundTrips: 6, writes: 3 })
    await processor.stop()
    expect(await cost(async () => {
      processor.start()
      await rest()
      await processor.stop()
    })).toEqual({ roundTrips: 2, writes: 0 })
  })
})
