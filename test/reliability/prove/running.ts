/**
 * Works off a part in real processes: kills on a store, and several instances.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { beginRun, endRun, RUN_DIR_VARIABLE } from '../../postgres.ts'
import { FLOWS } from '../flows/index.ts'
import { KILL_CONTROLS, killControls, killRun, type KillFigures, type KillRunOptions } from '../kill/run.ts'
import { embeddedKillStore, postgresKillStore } from '../kill/stores.ts'
import { NOTHING, type Figures } from './figures.ts'
import { tellSoFar, work, type Part } from './protocol.ts'

const ROOT = resolve(import.meta.dirname, '../../..')

async function killed(store: KillRunOptions['store'], { seed, count, withControl }: Part): Promise<Figures> {
  const dir = beginRun()
  process.env[RUN_DIR_VARIABLE] = dir
  try {
    const controls = withControl ? await killControls(store, FLOWS, KILL_CONTROLS, seed + 1) : []
    const control = Object.fromEntries(controls.map(({ name, quiet, harm }) => [name, quiet.length > 0 ? `harm without a kill: ${quiet.join('; ')}` : harm.length > 0 ? `found: ${harm.join('; ')}` : 'not found']))
    const figures = await killRun({ store, flows: FLOWS, seed, kills: count, onProgress: soFar => { tellSoFar(() => ({ ...figuresOf(soFar), control })) } })
    return { ...figuresOf(figures), control }
  } finally {
    endRun(dir)
  }
}

function figuresOf(figures: KillFigures): Figures {
  return {
    ...NOTHING, count: figures.kills, operations: figures.operations, faults: figures.kinds, reached: figures.reached,
    anomalies: figures.violations.length, found: figures.violations.map(({ plan, why }) => `${JSON.stringify(plan)}: ${why.join('; ')}`),
    sums: { iterations: figures.iterations, ...Object.fromEntries(Object.entries(figures.killsByFlow).map(([flow, kills]) => [`kills in ${flow}`, kills])) },
    recoveriesMs: figures.recoveriesMs, seconds: figures.seconds,
  }
}

interface InstancesRun {
  readonly seconds: number
  readonly steps: number
  readonly faults: Readonly<Record<string, number>>
  readonly counts: Readonly<Record<string, number>>
  readonly anomalies: readonly unknown[]
  readonly stuck: readonly string[]
  readonly reached: Readonly<Record<string, number>>
  readonly staleWritesRefused: number
  readonly leaseOperations: number
  readonly orders: number
  readonly leaseMs: number
  readonly recovery: { readonly n: number; readonly p50: number; readonly p95: number; readonly max: number; readonly withinTwiceTheLease: number }
}

/** Whoever ends us ends it. */
async function endOf(child: ChildProcess): Promise<number | null> {
  const end = (): void => { child.kill('SIGTERM') }
  process.once('SIGTERM', end)
  const [code] = await once(child, 'close') as [number | null]
  process.off('SIGTERM', end)
  return code
}

/** Their own command runs them, and has its own control. */
async function instances({ seed, count }: Part): Promise<Figures> {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-prove-'))
  const out = join(dir, 'instances.json')
  try {
    const code = await endOf(spawn(process.execPath, ['--conditions=holdfast-source', '--import', 'tsx', 'test/instances/main.ts', '--steps', String(count), '--minutes', '60', '--seed', String(seed), '--out', out], { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] }))
    // 1: something was found, and the figures say what.
    if (code !== 0 && code !== 1) throw new Error(`the instances ended with ${String(code)}`)
    const { guarded, control } = JSON.parse(readFileSync(out, 'utf8')) as { readonly guarded: InstancesRun; readonly control: InstancesRun }
    const wrong = (run: InstancesRun): number => Object.values(run.counts).reduce((sum, times) => sum + times, 0) + run.stuck.length
    return {
      ...NOTHING, count: guarded.steps, operations: guarded.steps + guarded.leaseOperations, faults: guarded.faults, reached: guarded.reached, anomalies: wrong(guarded),
      found: [...guarded.anomalies.map(anomaly => JSON.stringify(anomaly)), ...guarded.stuck],
      sums: { ...guarded.counts, 'orders': guarded.orders, 'lease operations': guarded.leaseOperations, 'stale writes refused': guarded.staleWritesRefused, 'recoveries': guarded.recovery.n, 'recoveries within twice the lease': guarded.recovery.withinTwiceTheLease, 'recoveries (ms): lease': guarded.leaseMs, 'recoveries (ms): median': guarded.recovery.p50, 'recoveries (ms): within, for 95 %': guarded.recovery.p95, 'recoveries (ms): longest': guarded.recovery.max },
      control: { 'all guards off': wrong(control) === 0 ? 'not found' : `${String(wrong(control))} anomalies in ${String(control.steps)} steps: ${JSON.stringify(control.counts)}` },
      seconds: guarded.seconds,
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

await work(part => {
  switch (part.section) {
    case 'postgres': return killed(postgresKillStore, part)
    case 'embedded': return killed(embeddedKillStore, part)
    case 'instances': return instances(part)
    default: throw new RangeError(`${part.section} is simulated`)
  }
})
