/**
 * Sagas in use: three steps (outside, local, outside) that end done or undone, with each way to settle the last one, and
 * one whose undo is refused for ever, so that an operator closes it or lets it go on without.
 */
import type { Json } from '../../../src/core/index.ts'
import { saga, sagaPort, type Step } from '../../../src/durable/index.ts'
import type { RunRow, StepRow } from '../../../src/durable/saga/port.ts'
import { effects, LEASE, loop, order, rows, text, type Flow, type FlowProcess, type FlowView } from '../flow.ts'
import { Panel } from './panel.ts'

interface Journal {
  readonly run: RunRow | undefined
  readonly steps: readonly StepRow[]
}

function journal<Tx>(view: FlowView<Tx>, saga: string): Promise<Journal> {
  const key = { saga, id: view.id }
  const port = sagaPort<Tx>(view)
  return view.read(async tx => ({ run: await port.read(tx, key), steps: await port.steps(tx, key) }))
}

export interface SagaFlowOptions {
  readonly last: 'idempotent' | 'verify' | 'hold'
  /** `stuck`: its undo is refused for ever and an operator says that it is undone. `skipped`: or that it is kept. */
  readonly ends: 'done' | 'undone' | 'stuck' | 'skipped'
  /** Its caller comes once and relies on the sweep. */
  readonly patient?: boolean
}

export function sagaFlow({ last, ends, patient = false }: SagaFlowOptions): Flow {
  const name = `provision-${last}-${ends}`
  const refused = ends === 'stuck' || ends === 'skipped'
  return {
    name: `saga-${last}-${ends}${patient ? '-patient' : ''}`,
    outside: (_, options = {}) => new Panel({ failsAfterEffect: [1, 3], ...options }, {
      refuses: [...(ends === 'done' ? [] : ['activate']), ...(refused ? ['release'] : [])],
      looks: { 'look-up': world => world.find('activate') ?? null },
    }),
    main<Tx>(process: FlowProcess<Tx>) {
      const { kit, env, id } = process
      const key = { saga: name, id }
      const ask = (what: string, given: string): Promise<Json> => process.call(what, { key: process.without('provider keys') ? env.uuid() : given })
      const lookUp = async () => {
        const found = process.without('verify') ? null : await process.call('look-up', null)
        return typeof found === 'string' ? { happened: true as const, value: found } : { happened: false as const }
      }
      const activate = async (step: Step<Tx>): Promise<string> => {
        const run = async (context: { readonly key: string }): Promise<string> => text(await ask('activate', context.key))
        if (last === 'idempotent') return step('activate', { effect: 'idempotent', run })
        return step('activate', { effect: 'once', run, verify: last === 'hold' ? 'hold' : lookUp })
      }
      const provision = saga(name, {
        version: 1, input: order(), lease: LEASE, attempts: 1_000, ...(refused ? { undoAttempts: 2 } : {}),
        run: async step => {
          await step('reserve', {
            effect: 'idempotent',
            run: context => ask('reserve', context.key),
            undo: async (_, context) => {
              if (process.without('undo before its record')) await recordUndo()
              await ask('release', context.key)
            },
          })
          await step('record', { write: async ({ tx }) => { await process.write(tx, 'record') }, undo: async (_, { tx }) => { await process.write(tx, 'unrecord') } })
          return activate(step)
        },
      }, kit)
      const recordUndo = (): Promise<boolean> => kit.database().transaction('saga.undone', async tx => {
        const port = sagaPort<Tx>(kit.database())
        return port.journal(tx, key, (await port.read(tx, key))?.fence ?? 0, [{ seq: 0, name: 'reserve', state: 'undone', output: null }])
      })
      let answered = false
      loop(process, 4_000, async () => {
        if (patient && answered) return
        const answer = await provision.start(id, { id, amount: 5 })
        answered = true
        if (answer.outcome === 'running' && answer.reason === 'another call is at it') process.reach('duplicate while in flight')
      })
      if (!process.without('sweep')) loop(process, 5_000, () => provision.sweep(10))
      loop(process, 25_000, async () => {
        const run = await kit.database().transaction('flow.look', tx => sagaPort<Tx>(kit.database()).read(tx, key))
        if (run?.state !== 'needs-human') return
        process.reach('needs a human')
        if (ends === 'stuck') {
          await provision.markDone(id, 'undone', 'released by hand at the panel')
          return
        }
        if (ends === 'skipped') {
          await provision.skip(id, 'the panel will never release it')
          return
        }
        await provision.resolveStep(id, await lookUp(), 'seen at the panel')
        await provision.retry(id, 'seen at the panel')
      })
    },
    async over(view) {
      return (await view.read(tx => sagaPort(view).read(tx, { saga: name, id: view.id })))?.state === (ends === 'done' ? 'done' : 'undone')
    },
    async holds(view) {
      const { world } = view.outside
      if (world.effects.length === 0) return []
      const { run, steps } = await journal(view, name)
      const state = (seq: number): string | undefined => steps[seq]?.state
      const violations: string[] = []
      // S1: nothing begins before what comes before it is recorded.
      if (world.count('activate') > 0 && (state(0) === 'intent' || state(1) === undefined || state(1) === 'intent')) violations.push('activate before record was recorded')
      // S3: undone in reverse order.
      if (world.count('release') > 0 && state(1) !== 'undone') violations.push('release before record was undone')
      // S4: what is recorded as undone is undone. An operator's word closes a run and leaves its steps.
      if (state(0) === 'undone' && world.count('release') === 0) violations.push('an undo is recorded that did not happen')
      // S6: no step forward after the way back has begun.
      if (run?.direction === 'undo' && steps.some(step => step.state === 'intent')) violations.push('a step is under way while the run is being undone')
      return violations
    },
    async check(view) {
      const done = ends === 'done'
      const { steps } = await journal(view, name)
      return [
        ...(ends !== 'skipped' || steps[0]?.state === 'kept' ? [] : [`what nobody released is recorded as ${String(steps[0]?.state)}`]),
        ...effects(view, 'reserve', 1), ...effects(view, 'activate', done ? 1 : 0), ...effects(view, 'release', ends === 'undone' ? 1 : 0),
        ...await rows(view, 'record', 1), ...await rows(view, 'unrecord', done ? 0 : 1),
        ...(done || (await view.written()).at(-1) === 'unrecord' ? [] : ['undone, and written to afterwards']),
      ]
    },
  }
}
