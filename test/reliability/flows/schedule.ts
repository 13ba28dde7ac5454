/**
 * A worker by the clock: one of several instances runs each due time to its end, over deaths and take-overs.
 *
 * A run that was cut off is begun again; what is judged is that due times go on being run, whoever dies.
 */
import type { Json } from '../../../src/core/index.ts'
import { lease } from '../../../src/durable/index.ts'
import { OutsideWorld } from '../../../src/testing/index.ts'
import { storedSchedule, worker } from '../../../src/worker/index.ts'
import { field, LEASE, type Flow, type FlowProcess } from '../flow.ts'

const REPORTS = 3

export const scheduleFlow: Flow = {
  name: 'schedule',
  outside: (_, options = {}) => {
    const world = new OutsideWorld(options)
    return { world, handle: (_name: string, request: Json) => world.request('report', { key: field(request, 'key') }) }
  },
  main<Tx>(process: FlowProcess<Tx>) {
    const { kit, id } = process
    const name = `report-${id}`
    const loops = worker(name, {
      every: '20s', align: true, mode: 'leader', safeSleep: '2s',
      run: async () => {
        await kit.database().transaction('flow.began', tx => process.write(tx, 'began'))
        await process.call('report', { key: kit.env.uuid() })
        await kit.database().transaction('flow.reported', tx => process.write(tx, 'reported'))
      },
    }, kit, { lease: lease(name, { ttl: LEASE }, kit), schedule: storedSchedule(kit) })
    loops.start()
    process.signal.addEventListener('abort', () => { void loops.stop() }, { once: true })
  },
  async over(view) {
    return (await view.written()).filter(row => row === 'reported').length >= REPORTS
  },
  async check(view) {
    const written = await view.written()
    const began = written.filter(row => row === 'began').length
    // What was reported was begun; what was begun and not reported was cut off by a fault.
    return began < written.length - began ? [`reported more often than begun: ${written.join(' ')}`] : []
  },
}
