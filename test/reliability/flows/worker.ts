/**
 * A worker in use: one leader among several instances, items behind their own boundaries, one that fails for a while, one
 * that is parked and retried by a person, one that is discarded.
 */
import type { Json } from '../../../src/core/index.ts'
import { lease, once, type HeldLease } from '../../../src/durable/index.ts'
import { oncePort } from '../../../src/durable/once/outcome.ts'
import { OutsideError, OutsideWorld } from '../../../src/testing/index.ts'
import { bodyFor } from '../../../src/store/index.ts'
import { storedItems, worker, type ItemState } from '../../../src/worker/index.ts'
import type { ItemTable } from '../../../src/worker/items/ledger.ts'
import { memoryItems } from '../../../src/worker/items/memory.ts'
import { sqlItems } from '../../../src/worker/items/sql.ts'
import { effects, field, LEASE, loop, order, rows, type Flow, type FlowProcess } from '../flow.ts'

const ITEMS = ['easy', 'slow', 'broken', 'hopeless'] as const
const LISTED_MAX = 1_000

export const workerFlow: Flow = {
  name: 'worker',
  outside: (_, options = {}) => {
    const world = new OutsideWorld(options)
    let slowAsked = 0
    let repaired = false
    return {
      world,
      handle: (name: string, request: Json) => {
        const item = field(request, 'item')
        if (name === 'repair') repaired = true
        else if (item === 'hopeless' || (item === 'broken' && !repaired) || (item === 'slow' && slowAsked++ === 0)) throw new OutsideError(503, `${item}: not available`)
        else return world.request(`activate ${item}`, { key: field(request, 'key') })
        return null
      },
    }
  },
  main<Tx>(process: FlowProcess<Tx>) {
    const { kit, env, id } = process
    const name = `activation-${id}`
    const items = storedItems(kit)
    const leader = lease(name, { ttl: LEASE }, kit)
    let held: HeldLease<Tx> | undefined
    const activated = once('activated', { input: order(), key: given => given.id, write: async (given, { tx }) => {
      await process.write(tx, given.id.slice(id.length + 1))
    } }, kit)
    const loops = worker(name, {
      every: '4s', safeSleep: '2s', maxAttempts: 2, deadline: '60s', needs: process.without('leadership') ? [] : ['leader'],
      run: async ({ each }) => {
        if (held !== undefined) {
          const { fence } = held
          await held.transaction('flow.led', tx => process.write(tx, `led ${String(fence)}`))
        }
        const open = await kit.database().transaction('flow.look', async tx => {
          const left: string[] = []
          for (const item of ITEMS) if (await oncePort<Tx>(kit.database()).read(tx, 'activated', `${id}:${item}`) === undefined) left.push(item)
          return left
        })
        await each(open, item => item, async item => {
          await process.call('activate', { item, key: process.without('provider keys') ? env.uuid() : `${id}:${item}` })
          await activated({ id: `${id}:${item}`, amount: 5 })
        })
      },
    }, kit, {
      items,
      lease: { acquire: async options => {
        held = await leader.acquire(options)
        if (held === undefined) process.reach('duplicate while in flight')
        return held
      } },
    })
    loops.start()
    process.signal.addEventListener('abort', () => { void loops.stop() }, { once: true })
    const person = async (item: ItemState): Promise<void> => {
      if (item.condition !== 'parked') return
      process.reach('parked for a human')
      if (item.item === 'hopeless') {
        await loops.discard(item.item)
        return
      }
      await process.call('repair', {})
      await loops.retry(item.item)
    }
    loop(process, 15_000, async () => {
      for (const item of await items.list(name, LISTED_MAX)) await person(item)
    })
  },
  async over(view) {
    const written = await view.written()
    const list = await view.read(tx => itemsOf(view.dialect, tx, `activation-${view.id}`))
    return ['easy', 'slow', 'broken'].every(item => written.includes(item)) && list.some(item => item.item === 'hopeless' && item.condition === 'discarded')
  },
  async check(view) {
    const led = (await view.written()).filter(row => row.startsWith('led ')).map(row => Number(row.slice(4)))
    return [
      ...['easy', 'slow', 'broken'].flatMap(item => effects(view, `activate ${item}`, 1)),
      ...effects(view, 'activate hopeless', 0),
      ...(await Promise.all(['easy', 'slow', 'broken'].map(item => rows(view, item, 1)))).flat(),
      ...(led.some((fence, i) => fence < (led[i - 1] ?? 0)) ? [`an overtaken leader wrote: ${led.join(' ')}`] : []),
    ]
  },
}

async function itemsOf<Tx>(dialect: 'sql' | 'memory', tx: Tx, name: string): Promise<readonly ItemState[]> {
  return bodyFor<Tx, ItemTable<Tx>>({ dialect }, { sql: sqlItems, memory: memoryItems }).list(tx, name, LISTED_MAX)
}
