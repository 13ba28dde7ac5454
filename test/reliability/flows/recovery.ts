/**
 * Recovery in use: every feature at once, nobody but the sweep to finish what a crash left, and what is
 * unknown is kept until a person has looked.
 */
import type { Json } from '../../../src/core/index.ts'
import { inbox, lease, once, outbox, recovery, saga, sagaPort } from '../../../src/durable/index.ts'
import { oncePort } from '../../../src/durable/once/outcome.ts'
import { outboxPort } from '../../../src/durable/outbox/outbox.ts'
import { OutsideError, OutsideWorld } from '../../../src/testing/index.ts'
import { effects, field, LEASE, loop, order, rows, text, type Flow, type FlowProcess } from '../flow.ts'

/** A person comes late: whatever prunes has had its turns by then. */
const PERSON_AFTER_MS = 40_000

export const recoveryFlow: Flow = {
  name: 'recovery',
  outside: (_, options = {}) => {
    const world = new OutsideWorld(options)
    return {
      world,
      handle: (name: string, request: Json) => {
        if (name === 'look-up') return world.find('charge') ?? null
        const answer = world.request(name, { key: field(request, 'key') })
        if (name === 'charge') throw new OutsideError(500, 'charged, and then something broke')
        return answer
      },
    }
  },
  main<Tx>(process: FlowProcess<Tx>) {
    const { kit, env, id } = process
    const box = inbox({ lease: LEASE, attempts: 100 }, kit)
    const out = outbox({ lease: LEASE, poll: '5s' }, kit)
    out.topic('welcome', { repeatable: true, attempts: 100, send: async (_, { key }) => { await process.call('send', { key: process.without('provider keys') ? env.uuid() : key }) } })
    const charge = once('charge', {
      input: order<unknown>(), key: given => given.id, lease: LEASE, onUnknown: 'hold',
      call: async (_, { key }) => text(await process.call('charge', { key: process.without('provider keys') ? env.uuid() : key })),
      complete: async (_, { tx }) => { await process.write(tx, 'charged') },
    }, kit)
    const open = saga('open', {
      version: 1, input: order<unknown>(), lease: LEASE, attempts: 1_000,
      run: async step => {
        await step('grant', { effect: 'idempotent', run: ({ key }) => process.call('grant', { key: process.without('provider keys') ? env.uuid() : key }) })
        await step('welcome', { write: async ({ tx }) => {
          await process.write(tx, 'opened')
          await out.enqueue(tx, { lane: `chat:${id}`, topic: 'welcome', onceKey: `welcome:${id}`, payload: null })
        } })
      },
    }, kit)
    const recover = recovery<Tx>({ onces: () => [charge], sagas: () => [open], inbox: box, outbox: out }, kit)
    const guard = lease(`recovery-${id}`, { ttl: LEASE }, kit)
    // The caller comes until it was answered once, whatever the answer; everything else is the sweep's.
    let accepted = false
    loop(process, 6_000, async () => {
      if (!accepted) await open.start(id, { id, amount: 5 })
      accepted = true
    })
    // A caller that is told `unknown` asks again; it must never be charged anew.
    loop(process, 20_000, async () => {
      const { outcome } = await charge({ id, amount: 5 })
      if (outcome === 'unknown') process.reach('unknown and kept')
    })
    out.start()
    process.signal.addEventListener('abort', () => { void out.stop() }, { once: true })
    if (!process.without('sweep')) loop(process, 10_000, async () => {
      const held = await guard.acquire()
      try {
        await recover.sweep()
      } finally {
        await held?.release()
      }
    })
    let seenAtMs: number | undefined
    loop(process, 30_000, async () => {
      if (!(await recover.workItems(1_000)).some(item => item.kind === 'once' && item.id === id)) return
      process.reach('needs a human')
      seenAtMs ??= env.monotonic()
      if (env.monotonic() - seenAtMs < PERSON_AFTER_MS) return
      await charge.settleByHand(id, await process.call('look-up', null) === null ? 'retry' : 'discard', 'seen at the bank')
    })
  },
  async over(view) {
    return view.read(async tx => {
      const charge = await oncePort(view).read(tx, 'charge', view.id)
      const open = await sagaPort(view).read(tx, { saga: 'open', id: view.id })
      return charge?.state === 'discarded' && open?.state === 'done' && await outboxPort(view).head(tx, `chat:${view.id}`) === undefined
    })
  },
  async check(view) {
    return [...effects(view, 'charge', 1), ...effects(view, 'grant', 1), ...effects(view, 'send', 1), ...await rows(view, 'opened', 1), ...await rows(view, 'charged', 0)]
  },
}
