/**
 * Inbox and outbox in use: redelivered updates in lanes, with one that fails until somebody repairs what it needs; and
 * three notices of one lane that are kept with a business row.
 */
import type { Json } from '../../../src/core/index.ts'
import { inbox, once, outbox } from '../../../src/durable/index.ts'
import { inboxPort } from '../../../src/durable/inbox/inbox.ts'
import { outboxPort } from '../../../src/durable/outbox/outbox.ts'
import { OutsideError, OutsideWorld } from '../../../src/testing/index.ts'
import { effects, field, LEASE, loop, order, rows, type Flow, type FlowProcess, type FlowView } from '../flow.ts'

const LISTED_MAX = 1_000
const PARTS = ['first', 'second', 'poison'] as const

export interface InboxFlowOptions {
  /** The handler's write has no once of its own: only where no fault is near the handler may it be counted. */
  readonly bare?: boolean
}

/** Two updates of one user in order, and one of another user that fails until the dependency is repaired. */
export function inboxFlow({ bare = false }: InboxFlowOptions = {}): Flow {
  return {
    name: bare ? 'inbox-bare' : 'inbox',
    outside: (_, options = {}) => {
      const world = new OutsideWorld(options)
      let repaired = false
      return {
        world,
        handle: (name: string): Json => {
          if (name === 'repair') repaired = true
          else if (!repaired) throw new OutsideError(409, 'what it needs is missing')
          return null
        },
      }
    },
    main<Tx>(process: FlowProcess<Tx>) {
      const { kit, env, id } = process
      const box = inbox({ lease: LEASE, attempts: 3 }, kit)
      const handled = once('handled', {
        input: order(), key: given => given.id,
        write: async (given, { tx }) => { await process.write(tx, given.id.slice(id.length + 1)) },
      }, kit)
      // The sender delivers in order, each until it is acknowledged, and once more because its own record of that was lost.
      const toDeliver = PARTS.flatMap(part => [part, part])
      loop(process, 3_000, async () => {
        const part = toDeliver[0]
        if (part === undefined) return
        const lane = part === 'poison' ? `other:${id}` : `user:${id}`
        const answer = await box.claim({ source: 'telegram', id: process.without('inbox id') ? env.uuid() : `${id}:${part}`, lane, payload: { id: `${id}:${part}`, amount: 5 } })
        if (answer === 'duplicate') process.reach('duplicate of what is done')
        toDeliver.shift()
      })
      const processor = box.process('telegram', async ({ payload }) => {
        const given = payload as { readonly id: string; readonly amount: number }
        if (!given.id.startsWith(`${id}:`)) return
        if (given.id.endsWith('poison')) await process.call('need', null)
        if (bare) {
          await kit.database().transaction('flow.handled', tx => process.write(tx, given.id.slice(id.length + 1)))
          return
        }
        if ((await handled(given)).outcome === 'replayed') process.reach('handled twice, happened once')
      }, { poll: '2s' })
      processor.start()
      process.signal.addEventListener('abort', () => { void processor.stop() }, { once: true })
      loop(process, 5_000, () => box.sweep(10))
      // The human behind what is parked repairs first.
      loop(process, 20_000, async () => {
        const parked = await kit.database().transaction('flow.look', tx => inboxPort<Tx>(kit.database()).parked(tx, LISTED_MAX))
        for (const row of parked) {
          process.reach('parked for a human')
          process.tell(`parked ${row.id}`)
          await process.call('repair', null)
          await box.retry(row.source, row.id, 'repaired')
        }
      })
    },
    async over(view) {
      return (await view.written()).length >= PARTS.length
    },
    async check(view) {
      const lane = (await view.written()).filter(row => row !== 'poison')
      // A stalled holder uses up attempts like a dead one; what is parked leaves its lane, and a retry by hand puts it at the end.
      const parked = view.told.includes(`parked ${view.id}:first`)
      return [
        ...(await Promise.all(PARTS.map(part => rows(view, part, 1)))).flat(),
        ...(lane[0] === 'first' || parked ? [] : [`order of the lane: ${lane.join(' ')}`]),
      ]
    },
  }
}

const NOTICES = [1, 2, 3] as const

export interface OutboxFlowOptions {
  /** The other side recognises keys; else a message whose outcome is unknown waits for a human. */
  readonly repeatable: boolean
}

/** Three notices of one chat, kept with the row that they tell about. */
export function outboxFlow({ repeatable }: OutboxFlowOptions): Flow {
  const laneOf = (id: string): string => `chat:${id}`
  const isOver = async <Tx>(view: FlowView<Tx>): Promise<boolean> => {
    if (!(await view.written()).includes('ordered')) return false
    const port = outboxPort<Tx>(view)
    return view.read(async tx => await port.head(tx, laneOf(view.id)) === undefined && !(await port.stuck(tx, LISTED_MAX)).some(row => row.lane === laneOf(view.id)))
  }
  return {
    name: `outbox-${repeatable ? 'repeatable' : 'at-most-once'}`,
    outside: (_, options = {}) => {
      const world = new OutsideWorld({ refuses: [1], failsAfterEffect: [2], ...options })
      return {
        world,
        handle: (name: string, request: Json) => name === 'look-up' ? world.find(field(request, 'what')) ?? null : world.request(name, { key: field(request, 'key') }),
      }
    },
    main<Tx>(process: FlowProcess<Tx>) {
      const { kit, env, id } = process
      const out = outbox({ lease: LEASE, poll: '2s' }, kit)
      out.topic('notice', {
        repeatable, attempts: 100, onDead: 'hold',
        send: async ({ payload }, { key }) => { await process.call(`send ${field(payload, 'part')}`, { key: process.without('provider keys') ? env.uuid() : key }) },
      })
      const settle = once('order', { input: order(), key: given => given.id, write: async (_, { tx }) => {
        await process.write(tx, 'ordered')
        for (const part of NOTICES) {
          const onceKey = process.without('once-key') ? env.uuid() : `${id}:${String(part)}`
          const payload = { part: String(part) }
          await out.enqueue(tx, { lane: laneOf(id), topic: 'notice', onceKey, payload })
          // The same notice again, from another place of the program.
          if (await out.enqueue(tx, { lane: laneOf(id), topic: 'notice', onceKey: process.without('once-key') ? env.uuid() : onceKey, payload })) process.tell('enqueued twice')
        }
      } }, kit)
      let settled = false
      loop(process, 4_000, async () => {
        if (!settled) await settle({ id, amount: 5 })
        settled = true
        out.wake()
      })
      out.start()
      process.signal.addEventListener('abort', () => { void out.stop() }, { once: true })
      if (!process.without('sweep')) loop(process, 5_000, () => out.sweep(10))
      // The human behind a message of unknown outcome looks at the chat first.
      loop(process, 25_000, async () => {
        const stuck = await kit.database().transaction('flow.look', tx => outboxPort<Tx>(kit.database()).stuck(tx, LISTED_MAX))
        for (const row of stuck) {
          if (row.lane !== laneOf(id)) continue
          process.reach('needs a human')
          const what = `send ${row.onceKey.slice(id.length + 1)}`
          if (await process.call('look-up', { what }) === null) await out.requeue(row.onceKey, 'not seen in the chat')
          else await out.discard(row.onceKey, 'seen in the chat')
        }
      })
    },
    over: isOver,
    async check(view) {
      const sent = view.outside.world.effects.map(effect => effect.what)
      const first = [...new Set(sent)]
      return [
        ...NOTICES.flatMap(part => effects(view, `send ${String(part)}`, 1)),
        ...await rows(view, 'ordered', 1),
        ...(first.join() === 'send 1,send 2,send 3' ? [] : [`order of the lane: ${first.join(', ')}`]),
        ...view.told,
      ]
    },
  }
}
