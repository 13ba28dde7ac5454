/**
 * A lease in use: several candidates, guarded writes, an outside system that is given the fence.
 *
 * What counts is in which order the fences come out: whoever was overtaken writes no more.
 */
import type { Json } from '../../../src/core/index.ts'
import { lease } from '../../../src/durable/index.ts'
import { OutsideWorld } from '../../../src/testing/index.ts'
import { LEASE, loop, type Flow, type FlowProcess, type FlowView } from '../flow.ts'

const WRITES = 10
const WRITES_PER_TERM = 3

async function fences<Tx>(view: FlowView<Tx>): Promise<readonly number[]> {
  return (await view.written()).map(Number)
}

export const leaseFlow: Flow = {
  name: 'lease',
  outside: (_, options = {}) => {
    const world = new OutsideWorld({ honoursFences: true, ...options })
    return { world, handle: (_name: string, request: Json) => world.request('work', { fence: Number(request) }) }
  },
  main<Tx>(process: FlowProcess<Tx>) {
    const leader = lease(`leader-${process.id}`, { ttl: LEASE }, process.kit)
    loop(process, 2_000, async () => {
      const held = await leader.acquire()
      if (held === undefined) {
        process.reach('duplicate while in flight')
        return
      }
      process.tell(String(held.fence))
      const work = (tx: Tx): Promise<void> => process.write(tx, String(held.fence))
      try {
        for (let i = 0; i < WRITES_PER_TERM; i++) {
          await (process.without('guard') ? process.kit.database().transaction('flow.guarded', work) : held.transaction('flow.guarded', work))
          await process.call('work', held.fence)
        }
      } finally {
        await held.release()
      }
    })
  },
  async over(view) {
    return (await view.written()).length >= WRITES
  },
  async check(view) {
    const written = await fences(view)
    const granted = view.told
    return [
      // L2, L5: an older fence is refused after a newer one.
      ...(written.some((fence, i) => fence < (written[i - 1] ?? 0)) ? [`fences went back: ${written.join(' ')}`] : []),
      // L1: no fence is granted twice.
      ...(new Set(granted).size < granted.length ? [`a fence was granted twice: ${granted.join(' ')}`] : []),
    ]
  },
}
