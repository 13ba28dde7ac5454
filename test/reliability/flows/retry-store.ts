/**
 * A retry store in use: the user's last inputs are kept with the order, a Retry button reads them, and they are forgotten
 * once they have led to a result.
 */
import type { Json } from '../../../src/core/index.ts'
import { once, retryStore } from '../../../src/durable/index.ts'
import { OutsideWorld } from '../../../src/testing/index.ts'
import { effects, field, LEASE, loop, order, rows, type Flow, type FlowProcess } from '../flow.ts'

export const retryStoreFlow: Flow = {
  name: 'retry-store',
  outside: (_, options = {}) => {
    const world = new OutsideWorld(options)
    return { world, handle: (_name: string, request: Json) => world.request('generate', { key: field(request, 'key') }) }
  },
  main<Tx>(process: FlowProcess<Tx>) {
    const { kit, id } = process
    const inputs = retryStore('inputs', { input: order() }, kit)
    const generate = once('generate', {
      input: order(), key: given => given.id, lease: LEASE, onUnknown: 'retry',
      call: async (_, { key }) => { await process.call('generate', { key }) },
      complete: async (_, { tx }) => {
        await process.write(tx, 'generated')
        await inputs.clear(id, 'flux', { tx })
      },
    }, kit)
    let sent = false
    loop(process, 5_000, async () => {
      if (!sent) await inputs.store(id, 'flux', { id, amount: 5 })
      sent = true
      // The Retry button.
      const found = await inputs.get(id, 'flux')
      if (found !== undefined) await generate(found.input)
      if ((await inputs.list(id)).length > 1) process.tell('one slot, two entries')
    })
    // A user that gives up what is left of another model.
    loop(process, 9_000, () => inputs.clear(id, 'kling'))
  },
  async over(view) {
    return (await view.written()).includes('generated')
  },
  async check(view) {
    return [...effects(view, 'generate', 1), ...await rows(view, 'generated', 1), ...view.told]
  },
}
