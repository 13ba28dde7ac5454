/**
 * Once in use: a local effect (alone and joined to a larger transaction), and an outside effect under each policy for
 * what nobody knows.
 */
import type { Json } from '../../../src/core/index.ts'
import { once, type OutsideOnce } from '../../../src/durable/index.ts'
import { oncePort } from '../../../src/durable/once/outcome.ts'
import type { OnceRecord } from '../../../src/durable/once/port.ts'
import { OutsideWorld, type OutsideOptions } from '../../../src/testing/index.ts'
import { effects, field, LEASE, loop, order, rows, text, type Flow, type FlowProcess, type FlowView, type Order, type Outside } from '../flow.ts'

function record<Tx>(view: FlowView<Tx>, name: string): Promise<OnceRecord | undefined> {
  return view.read(tx => oncePort<Tx>(view).read(tx, name, view.id))
}

/** I2: whoever was answered was answered the same. */
function sameAnswers(told: readonly string[]): readonly string[] {
  const answers = new Set(told)
  return answers.size > 1 ? [`different answers: ${[...answers].join(', ')}`] : []
}

export const onceLocal: Flow = {
  name: 'once-local',
  outside: () => ({ world: new OutsideWorld(), handle: () => null }),
  main<Tx>(process: FlowProcess<Tx>) {
    const { kit, id } = process
    const write = async (_: Order, { tx }: { readonly tx: Tx }): Promise<string> => {
      if (process.without('one transaction')) void kit.database().transaction('flow.apart', inner => process.write(inner, 'settled')).catch(() => undefined)
      else await process.write(tx, 'settled')
      return `settled ${id}`
    }
    const settle = once('settle', { input: order(), key: given => given.id, write }, kit)
    const hear = (answer: Awaited<ReturnType<typeof settle>>): void => {
      if (answer.outcome === 'replayed') process.reach('duplicate of what is done')
      if ('value' in answer) process.tell(answer.value)
    }
    loop(process, 4_000, async () => { hear(await settle({ id, amount: 5 })) })
    // Joined: the larger transaction rolls back whole, or its row commits with the effect.
    loop(process, 7_000, async () => {
      await kit.database().transaction('flow.order', async tx => {
        const answer = await settle({ id, amount: 5 }, { tx })
        if (answer.outcome === 'done') await process.write(tx, 'joined')
      })
    })
    // I3: the same key with another input is refused, whatever the state.
    loop(process, 6_000, async () => {
      try {
        const answer = await settle({ id, amount: 6 })
        if (answer.outcome !== 'done') process.tell(`another input was answered ${answer.outcome}`)
      } catch {
        process.reach('key reused with another input')
      }
    })
  },
  async over(view) {
    return (await record(view, 'settle'))?.state === 'done'
  },
  async check(view) {
    const joined = (await view.written()).filter(row => row === 'joined').length
    return [...await rows(view, 'settled', 1), ...sameAnswers(view.told), ...(joined > 1 ? [`joined ${String(joined)} times`] : [])]
  },
}

class Bank implements Outside {
  readonly world: OutsideWorld

  constructor(options: OutsideOptions) {
    this.world = new OutsideWorld(options)
  }

  handle(name: string, request: Json): Json {
    if (name === 'look-up') return this.world.find('pay') ?? null
    return this.world.request('pay', { key: field(request, 'key') })
  }
}

/** The first request is refused and the next one's outcome is lost by the bank itself, so that every path is taken without any fault of ours. */
const BAD_DAY: Readonly<Record<'retry' | 'verify' | 'hold', OutsideOptions>> = { retry: { refuses: [1], failsAfterEffect: [2] }, verify: { failsAfterEffect: [1] }, hold: { failsAfterEffect: [1] } }

export function onceOutside(policy: 'retry' | 'verify' | 'hold'): Flow {
  const name = `pay-${policy}`
  return {
    name: `once-${policy}`,
    outside: (_, options = {}) => new Bank({ ...BAD_DAY[policy], ...options }),
    main<Tx>(process: FlowProcess<Tx>) {
      const { kit, env, id } = process
      const onUnknown: OutsideOnce<Order, Order, string, Tx>['onUnknown'] = policy !== 'verify' ? policy : {
        verify: async () => {
          const found = process.without('verify') ? null : await process.call('look-up', null)
          return typeof found === 'string' ? { happened: true, value: found } : { happened: false }
        },
      }
      const pay = once(name, {
        input: order(), key: given => given.id, lease: LEASE, onUnknown,
        call: async (_, { key }) => text(await process.call('pay', { key: process.without('provider keys') ? env.uuid() : key })),
        complete: async (_, { tx }) => { await process.write(tx, 'paid') },
      }, kit)
      loop(process, 4_000, async () => {
        const answer = await pay({ id, amount: 5 })
        if (answer.outcome === 'in-progress') process.reach('duplicate while in flight')
        if (answer.outcome === 'replayed') process.reach('duplicate of what is done')
        if ('value' in answer) process.tell(answer.value)
      })
      if (!process.without('sweep')) loop(process, 5_000, () => pay.sweep(10))
      // The human behind `hold` looks at the bank before saying anything.
      if (policy === 'hold') loop(process, 25_000, async () => {
        const found = await kit.database().transaction('flow.look', tx => oncePort<Tx>(kit.database()).read(tx, name, id))
        if (found?.state !== 'unknown') return
        process.reach('needs a human')
        await pay.settleByHand(id, await process.call('look-up', null) === null ? 'retry' : 'discard', 'seen at the bank')
      })
    },
    async over(view) {
      return ['done', 'discarded'].includes((await record(view, name))?.state ?? '')
    },
    async check(view) {
      const state = (await record(view, name))?.state
      return [...effects(view, 'pay', 1), ...await rows(view, 'paid', state === 'done' ? 1 : 0), ...sameAnswers(view.told)]
    },
  }
}
