/**
 * Lanes under real concurrency, pauses that all instances keep, bounded payloads, and what can be seen of a backlog.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { postgresStore, realServer, testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import { seededRandom } from '../../testing/simulated-env.ts'
import type { SqlTx } from '../../store/index.ts'
import { backlog } from '../backlog.ts'
import { inbox } from '../inbox/inbox.ts'
import { outbox } from './outbox.ts'
import type { Outbox, Send } from './types.ts'

describe.each(testStores)('lanes on $name', store => {
  let world: TestWorld
  beforeEach(async () => { world = await store.open() })
  afterEach(() => world.close())
  const make = (instance: string, send: Send): Outbox<unknown> => {
    const out = outbox<unknown>({}, world.kit(instance))
    out.topic('notice', { send })
    return out
  }
  const put = (out: Outbox<unknown>, onceKey: string, lane = 'chat:1'): Promise<boolean> => world.database.transaction('test.put', tx => out.enqueue(tx, { lane, topic: 'notice', onceKey, payload: null }))

  it('paused on a 429 by one instance are left alone by the others and by the next life, for as long as was asked', async () => {
    const sent: string[] = []
    const limited = make('a', async () => { throw new HoldfastError('HF_CALL_REJECTED', { message: 'slow down', retryAfterMs: 600_000, cause: Object.assign(new Error('429'), { status: 429 }), context: { attempts: 1 } }) })
    const others = ['b', 'a again'].map(name => make(name, async ({ onceKey }) => { sent.push(onceKey) }))
    await put(limited, '1')
    await put(limited, 'other lane', 'chat:2')
    await limited.relay()
    for (const lane of ['chat:1', 'chat:2']) await put(limited, `later ${lane}`, lane)
    for (const other of others) await other.relay()
    expect(sent).toEqual([])
    await world.elapse(300_000)
    for (const other of others) await other.relay()
    expect(sent).toEqual([])
    await world.elapse(300_001)
    for (const other of others) await other.relay()
    expect([...sent].sort()).toEqual(['1', 'later chat:1', 'later chat:2', 'other lane'])
    expect(sent.indexOf('1')).toBeLessThan(sent.indexOf('later chat:1'))
    expect(world.names('outbox.paused').map(event => event.data)).toContainEqual({ lane: 'chat:1', forMs: 600_000 })
  })

  it('take no payload beyond their limit, and nothing of its transaction\'s other messages is lost', async () => {
    const out = outbox<unknown>({ payloadMax: '1kb' }, world.kit())
    out.topic('notice', { send: async () => undefined })
    await world.database.transaction('test.put', async tx => {
      await expect(out.enqueue(tx, { lane: 'l', topic: 'notice', onceKey: 'big', payload: 'ü'.repeat(600) })).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
      await out.enqueue(tx, { lane: 'l', topic: 'notice', onceKey: 'small', payload: 'x'.repeat(1_000) })
    })
    expect((await out.relay()).sent).toBe(1)
    await expect(inbox<unknown>({ payloadMax: '1kb' }, world.kit()).claim({ source: 's', id: '1', lane: 'l', payload: 'x'.repeat(1_100) })).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
  })

  it('show how much waits and since when, by topic and source', async () => {
    const kit = world.kit()
    const out = make('a', async () => ({ kind: 'retry', reason: 'busy' }))
    const box = inbox<unknown>({}, kit)
    expect(await backlog(kit)).toEqual([])
    await put(out, '1')
    await world.elapse(60_000)
    await put(out, '2')
    await put(out, '3', 'chat:2')
    await box.claim({ source: 'telegram', id: '1', lane: '7', payload: null })
    await out.relay()
    await world.elapse(1_000)
    const [messages, updates] = await backlog(kit)
    expect([messages, updates]).toMatchObject([{ kind: 'outbox', name: 'notice', waiting: 3 }, { kind: 'inbox', name: 'telegram', waiting: 1 }])
    expect(messages?.oldestMs).toBeGreaterThanOrEqual(61_000)
    expect(updates?.oldestMs).toBeLessThan(60_000)
    await out.discard('1', 'not dead: stays')
    expect((await backlog(kit))[0]?.waiting).toBe(3)
  })
})

describe.skipIf(!realServer)('order under real concurrency, on a server', () => {
  let world: TestWorld
  beforeAll(async () => { world = await postgresStore.open() })
  afterAll(() => world.close())
  const LANES = 3
  const WRITERS = 6
  const MESSAGES = 20

  /** Writers whose transactions stay open for a random time after they have enqueued, while somebody reads. */
  async function write(enqueue: (tx: SqlTx, lane: string, key: string) => Promise<void>): Promise<void> {
    const random = seededRandom(7)
    await Promise.all(Array.from({ length: WRITERS }, async (_, writer) => {
      for (let i = 0; i < MESSAGES; i++) {
        const lane = `lane:${String(Math.floor(random() * LANES))}`
        await world.database.transaction('test.write', async tx => {
          await enqueue(tx as SqlTx, lane, `${String(writer)}-${String(i)}`)
          await (tx as SqlTx).query('SELECT pg_sleep($1)', [random() * 0.01])
        })
      }
    }))
  }

  it('two relays lose nothing, send nothing twice, and each lane in the order of its commits', async () => {
    const sent: { readonly lane: string; readonly onceKey: string }[] = []
    const relays = ['a', 'b'].map(name => {
      const out = outbox<unknown>({}, world.kit(name))
      out.topic('notice', { send: async ({ lane, onceKey }) => { sent.push({ lane, onceKey }) } })
      return out
    })
    let writing = true
    const reading = Promise.all(relays.map(async out => { while (writing) await out.relay() }))
    await write(async (tx, lane, onceKey) => { await relays[0]?.enqueue(tx, { lane, topic: 'notice', onceKey, payload: null }) })
    writing = false
    await reading
    for (const out of relays) await out.relay()
    expect(new Set(sent.map(({ onceKey }) => onceKey)).size).toBe(WRITERS * MESSAGES)
    expect(sent).toHaveLength(WRITERS * MESSAGES)
    const rows = await world.database.transaction('test.order', tx => (tx as SqlTx).query<{ lane: string; once_key: string }>('SELECT lane, once_key FROM holdfast.outbox_message ORDER BY lane, seq'))
    for (const lane of new Set(rows.map(row => row.lane))) expect(sent.filter(one => one.lane === lane).map(one => one.onceKey)).toEqual(rows.filter(row => row.lane === lane).map(row => row.once_key))
  }, 30_000)

  it('control: a relay that remembers the last id of a plain table passes by what commits later', async () => {
    await world.database.transaction('test.table', tx => (tx as SqlTx).query('CREATE TABLE IF NOT EXISTS plain_outbox (id bigserial PRIMARY KEY, key text NOT NULL)'))
    const seen = new Set<string>()
    let last = '0'
    const read = async (): Promise<void> => {
      for (const { id, key } of await world.database.transaction('test.read', tx => (tx as SqlTx).query<{ id: string; key: string }>('SELECT id, key FROM plain_outbox WHERE id > $1::bigint ORDER BY id', [last]))) {
        seen.add(key)
        last = id
      }
    }
    let writing = true
    const reading = (async () => { while (writing) await read() })()
    await write(async (tx, _lane, key) => { await tx.query('INSERT INTO plain_outbox (key) VALUES ($1)', [key]) })
    writing = false
    await reading
    await read()
    expect(seen.size).toBeLessThan(WRITERS * MESSAGES)
  }, 30_000)
})
