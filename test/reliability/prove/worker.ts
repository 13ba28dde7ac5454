/**
 * One part of a section, in a process of its own: `worker.ts '{"section":"postgres","seed":1,"count":100}'`.
 *
 * Tells its parent how far it is, and in the end what it came to.
 */
import { beginRun, endRun, RUN_DIR_VARIABLE } from '../../postgres.ts'
import { FLOWS } from '../flows/index.ts'
import { KILL_CONTROLS, killControls, killRun, type KillRunOptions } from '../kill/run.ts'
import { embeddedKillStore, postgresKillStore } from '../kill/stores.ts'
import { NOTHING, type Figures, type SectionName } from './figures.ts'

export interface Part {
  readonly section: Exclude<SectionName, 'mutation'>
  readonly seed: number
  readonly count: number
  /** The first part of a section also takes protections away. */
  readonly withControl: boolean
}

export type FromWorker = { readonly type: 'progress'; readonly count: number } | { readonly type: 'figures'; readonly figures: Figures }

function tell(message: FromWorker): void {
  process.send?.(message)
}

async function killed(store: KillRunOptions['store'], { seed, count, withControl }: Part): Promise<Figures> {
  const dir = beginRun()
  process.env[RUN_DIR_VARIABLE] = dir
  try {
    const figures = await killRun({ store, flows: FLOWS, seed, kills: count, onProgress: ({ kills }) => { tell({ type: 'progress', count: kills }) } })
    const controls = withControl ? await killControls(store, FLOWS, KILL_CONTROLS, seed + 1) : []
    return {
      ...NOTHING, count: figures.kills, operations: figures.operations, faults: figures.kinds, reached: figures.reached,
      anomalies: figures.violations.length, found: figures.violations.map(({ plan, why }) => `${JSON.stringify(plan)}: ${why.join('; ')}`),
      sums: { iterations: figures.iterations, ...Object.fromEntries(Object.entries(figures.killsByFlow).map(([flow, kills]) => [`kills in ${flow}`, kills])) },
      recoveriesMs: figures.recoveriesMs,
      control: Object.fromEntries(controls.map(({ name, quiet, harm }) => [name, quiet.length > 0 ? `harm without a kill: ${quiet.join('; ')}` : harm.length > 0 ? `found: ${harm.join('; ')}` : 'not found'])),
      seconds: figures.seconds,
    }
  } finally {
    endRun(dir)
  }
}

const STORES: Readonly<Record<Part['section'], KillRunOptions['store']>> = { postgres: postgresKillStore, embedded: embeddedKillStore }

async function run(part: Part): Promise<Figures> {
  return killed(STORES[part.section], part)
}

tell({ type: 'figures', figures: await run(JSON.parse(process.argv[2] ?? '{}') as Part) })
process.disconnect()
