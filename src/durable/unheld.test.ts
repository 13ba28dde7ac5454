/**
 * "No row that isn't finished goes unheld for longer than the sweep's interval", over every durable table, while instances die and stall at random.
 *
 * An observer looks every second of virtual time. A row is unheld where nobody's lease covers it, it is due, and it waits for no person; it may be
 * so for one interval, plus the moments that taking it up costs. Each has its control.
 */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { memoryStore } from '../../test/durable-stores.ts'
import type { Json } from '../core/index.ts'
import type { MemoryTx } from '../store/index.ts'
import { seededRandom, type SimulatedEnv } from '../testing/simulated-env.ts'
import { inbox, once, outbox, recovery, saga, type DurableKit, type Once, type Saga } from './index.ts'

const Order = z.object({ id: z.string() })
const EVERY_MS = 5_000
/** Taking up means a few transactions and, for a crew that is busy, a place in it. */
const MOMENTS_MS = 2_000
const LEASE = '6s'

interface Instance {
  readonly env: SimulatedEnv
  readonly begin: (id: string) => void
}

type Sweeping = 'in time' | 'never'

function boot(kit: DurableKit<unknown> & { readonly env: SimulatedEnv }, sweeping: Sweeping): Instance {
  const { env } = kit
  const random = (): number => env.random()
  const work = async (): Promise<string> => {
    await env.sleep(200 + random() * 4_000)
    if (random() < 0.1) throw Object.assign(new Error('reset'), { code: 'ECONNRESET' })
    return 'ok'
  }
  const pay = once('pay', { input: Order, key: ({ id }) => id, lease: LEASE, onUnknown: 'retry', call: work }, kit)
  const hold = once('hold', { input: Order, key: ({ id }) => id, lease: LEASE, onUnknown: 'hold', call: work }, kit)
  const provision = saga('provision', { version: 1, input: Order, lease: LEASE, run: async step => {
    await step('a', { effect: 'idempotent', run: work, undo: async () => undefined })
    return step('b', { effect: 'idempotent', run: work })
  } }, kit)
  const box = inbox<unknown>({ lease: LEASE }, kit)
  const out = outbox<unknown>({ lease: LEASE }, kit)
  out.topic('notice', { send: async () => { await env.sleep(100 + random() * 1_000); return random() < 0.1 ? { kind: 'retry', reason: 'busy' } : undefined }, repeatable: true })
  box.process('web', async () => { await env.sleep(100 + random() * 2_000); if (random() < 0.1) throw new Error('not now') }).start()
  out.start()
  const sweeps = recovery({ onces: () => [pay, hold] as unknown as Once<unknown, Json | void, unknown>[], sagas: () => [provision as unknown as Saga<unknown, Json | void>], inbox: box, outbox: out }, kit)
  void (async () => {
    while (sweeping !== 'never') {
      await sweeps.sweep().catch(() => undefined)
      await env.sleep(EVERY_MS)
    }
  })()
  const begin = (id: string): void => {
    const quiet = (answer: Promise<unknown>): void => { answer.catch(() => undefined) }
    quiet(pay({ id }))
    quiet(hold({ id }))
    quiet(provision.start(id, { id }))
    quiet(box.claim({ source: 'web', id, lane: `user:${String(Number(id) % 3)}`, payload: null }))
    quiet(kit.database().transaction('test.put', tx => out.enqueue(tx, { lane: `chat:${String(Number(id) % 3)}`, topic: 'notice', onceKey: id, payload: null })))
  }
  return { env, begin }
}

/** Rows that are due and that nobody holds now, and nobody need look at. */
function unheld(tx: MemoryTx): readonly string[] {
  const now = tx.now()
  const rows = (table: string): readonly Record<string, Json>[] => [...tx.table<Record<string, Json>>(`holdfast.${table}`).entries()].map(([, row]) => row)
  const over = (value: Json | undefined): boolean => typeof value !== 'number' || value <= now
  const text = (value: Json | undefined): string => (typeof value === 'string' ? value : JSON.stringify(value))
  const found: string[] = []
  for (const row of rows('once_record')) {
    const waits = row['state'] === 'started' || (row['state'] === 'unknown' && row['name'] === 'pay' && Number(row['attempts']) < 20)
    if (waits && row['leaseUntil'] !== null && over(row['leaseUntil'])) found.push(`once ${text(row['name'])} ${text(row['key'])}`)
  }
  for (const row of rows('saga_run')) {
    if ((row['state'] === 'running' || row['state'] === 'undoing') && over(row['leaseUntil']) && over(row['wakeAt'])) found.push(`saga ${text(row['id'])}`)
  }
  const inboxRows = rows('inbox_row').filter(row => row['state'] === 'queued' || row['state'] === 'working')
  for (const lane of new Set(inboxRows.map(row => row['lane']))) {
    const ofLane = inboxRows.filter(row => row['lane'] === lane)
    const head = ofLane.find(row => row['state'] === 'working') ?? ofLane.sort((a, b) => Number(a['seq']) - Number(b['seq']))[0]
    if (head !== undefined && over(head['state'] === 'working' ? head['leaseUntil'] : head['wakeAt'])) found.push(`inbox ${text(head['id'])}`)
  }
  const senders = new Map([...tx.table<Record<string, Json>>('holdfast.outbox_sender').entries()])
  const messages = rows('outbox_message').filter(row => row['state'] === 'queued' || row['state'] === 'sending')
  for (const lane of new Set(messages.map(row => text(row['lane'])))) {
    const head = messages.filter(row => row['lane'] === lane).sort((a, b) => Number(a['seq']) - Number(b['seq']))[0]
    const sender = senders.get(lane)
    if (head !== undefined && over(head['wakeAt']) && over(sender?.['leaseUntil']) && over(sender?.['pausedUntil'])) found.push(`outbox ${text(head['onceKey'])}`)
  }
  return found
}

interface Run {
  /** Longest time that a row was due and unheld. */
  readonly worstMs: number
  readonly worst: string
  readonly kinds: ReadonlySet<string>
  /** Rows that are due and unheld long after the last fault. */
  readonly left: readonly string[]
  readonly deaths: number
}

async function live(seed: number, sweeping: Sweeping): Promise<Run> {
  const world = await memoryStore.open()
  const random = seededRandom(seed)
  let instances = [0, 1, 2].map(number => boot(world.kit(`i${String(number)}`), sweeping))
  const since = new Map<string, number>()
  const kinds = new Set<string>()
  let worstMs = 0
  let worst = ''
  let next = 0
  let deaths = 0
  for (let second = 0; second < 110; second++) {
    const faults = second < 80
    if (faults) {
      for (let i = 0; i < 2; i++) instances[Math.floor(random() * instances.length)]?.begin(String(next++))
      if (random() < 0.2) {
        const victim = instances[Math.floor(random() * instances.length)]
        deaths += 1
        victim?.env.kill()
        instances = [...instances.filter(one => one !== victim), boot(world.kit(`i${String(second)}`), sweeping)]
      } else if (random() < 0.1) {
        const stalled = instances[Math.floor(random() * instances.length)]
        stalled?.env.pause()
        world.env.timer(2_000 + random() * 10_000, () => { stalled?.env.resume() })
      }
    }
    await world.env.advance(1_000 + Math.floor(random() * 10))
    const now = await world.database.transaction('test.look', async tx => unheld(tx as MemoryTx))
    for (const row of [...since.keys()]) if (!now.includes(row)) since.delete(row)
    for (const row of now) {
      kinds.add(row.split(' ')[0] ?? '')
      const first = since.get(row) ?? second
      since.set(row, first)
      if ((second - first) * 1_000 > worstMs) [worstMs, worst] = [(second - first) * 1_000, row]
    }
  }
  for (const { env } of instances) env.kill()
  await world.close()
  return { worstMs, worst, kinds, left: [...since.keys()], deaths }
}

const seen = new Set<string>()

describe('no row that is not finished goes unheld for longer than the interval of the sweep', () => {
  it.each([1, 2, 3])('while instances die and stall (seed %i)', async seed => {
    const run = await live(seed, 'in time')
    for (const kind of run.kinds) seen.add(kind)
    expect(run.deaths).toBeGreaterThan(3)
    expect(run.worstMs, run.worst).toBeLessThanOrEqual(EVERY_MS + MOMENTS_MS)
  })

  it('and rows of every kind were seen unheld: the observer sees', () => {
    expect([...seen].sort()).toEqual(['inbox', 'once', 'outbox', 'saga'])
  })

  it('control: without sweeps, rows stay behind', async () => {
    const run = await live(1, 'never')
    expect(run.worstMs).toBeGreaterThan(30_000)
    expect(run.left.length).toBeGreaterThan(0)
  })
})

describe('an outside call that hangs in what a sweep took up', () => {
  /** One instance is left, and its sweep has taken up a call that never ends; then another key is left behind. */
  async function settled(waitMs: number | undefined): Promise<string | undefined> {
    const world = await memoryStore.open()
    const declare = (kit: DurableKit<unknown>, call: (id: string) => Promise<string>): Once<{ id: string }, string, unknown> => once('pay', { input: Order, key: ({ id }) => id, lease: LEASE, onUnknown: 'retry', call: ({ id }) => call(id) }, kit)
    const never = (): Promise<string> => new Promise(() => undefined)
    const die = async (id: string): Promise<void> => {
      const kit = world.kit(`dead ${id}`)
      void declare(kit, never)({ id })
      await world.env.advance(100)
      kit.env.kill()
    }
    const kit = world.kit('left')
    const pay = declare(kit, id => (id === 'hangs' ? never() : Promise.resolve('ok')))
    const sweeps = recovery({ onces: () => [pay as unknown as Once<unknown, Json | void, unknown>], sagas: () => [], inbox: inbox<unknown>({}, kit), outbox: outbox<unknown>({}, kit) }, kit)
    void (async () => { for (;;) { await sweeps.sweep(waitMs); await kit.env.sleep(EVERY_MS) } })()
    await die('hangs')
    await world.env.advance(6_000 + EVERY_MS + MOMENTS_MS)
    await die('other')
    await world.env.advance(6_000 + EVERY_MS + MOMENTS_MS + 2_000)
    const row = await world.database.transaction('test.look', async tx => (tx as MemoryTx).table<Record<string, Json>>('holdfast.once_record').get('pay other'))
    kit.env.kill()
    await world.close()
    return row?.['state'] as string | undefined
  }

  it('keeps nothing else from being taken up', async () => {
    expect(await settled(undefined)).toBe('done')
  })

  it('control: a sweep that waits for all that it took up leaves the others', async () => {
    expect(await settled(600_000)).toBe('started')
  })
})
