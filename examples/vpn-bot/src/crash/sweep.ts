/**
 * All crash points of a purchase, one run each: first a purchase that nobody disturbs tells which there are.
 */
import type { Env } from 'holdfast/core'
import type { Way } from './outside.ts'
import type { Control } from './protocol.ts'
import { crashRun, type RunReport } from './rig.ts'
import type { RunStores } from './stores.ts'

export interface SweepOptions {
  readonly env: Env
  readonly stores: RunStores
  readonly way: Way
  readonly seed?: number
  /** Runs at a time. Most of a run is waiting. */
  readonly atOnce?: number
  /** Every how many-th point, and from which one on. Default: all. */
  readonly every?: number
  readonly offset?: number
  /** These points and no others. */
  readonly points?: readonly string[]
  readonly without?: Control
  readonly onRun?: (point: string, report: RunReport) => void
}

export interface SweepReport {
  readonly way: Way
  readonly store: RunStores['kind']
  /** Points that a purchase has. */
  readonly known: number
  /** Points at which a process died. */
  readonly died: number
  /** Points that did not come up again: runs differ a little in what is done at once. */
  readonly missed: readonly string[]
  /** One sentence per broken promise, with how to see it again. */
  readonly broken: readonly string[]
  readonly tookMs: number
}

const AT_ONCE = 4
/** A point that did not come up is tried again so often. */
const TRIES = 3

export async function sweep(options: SweepOptions): Promise<SweepReport> {
  const { env, stores, way, without, every = 1, offset = 0, seed = 1 } = options
  const beganAt = env.monotonic()
  const common = { env, way, seed, ...(without === undefined ? {} : { without }) }
  const broken: string[] = []
  const missed: string[] = []
  let died = 0

  const points = options.points ?? await undisturbed()
  const chosen = options.points ?? points.filter((_, index) => index % every === offset % every)
  const queue = [...chosen]
  await Promise.all(Array.from({ length: Math.min(options.atOnce ?? AT_ONCE, queue.length) }, (_, slot) => work(slot)))
  return { way, store: stores.kind, known: points.length, died, missed, broken, tookMs: env.monotonic() - beganAt }

  async function undisturbed(): Promise<readonly string[]> {
    const report = await crashRun({ ...common, store: await stores.fresh(0) })
    broken.push(...report.broken.map(sentence => `undisturbed: ${sentence}`))
    return [...new Set(report.points)]
  }

  async function work(slot: number): Promise<void> {
    for (let point = queue.shift(); point !== undefined; point = queue.shift()) {
      const report = await untilDead(point, slot)
      options.onRun?.(point, report)
      if (report.died) died += 1
      else missed.push(point)
      broken.push(...report.broken.map(sentence => `${point}: ${sentence}; again: ${replay(point)}`))
    }
  }

  async function untilDead(point: string, slot: number): Promise<RunReport> {
    for (let attempt = 1; ; attempt += 1) {
      const report = await crashRun({ ...common, store: await stores.fresh(slot), dieAt: point })
      if (report.died || attempt === TRIES) return report
    }
  }

  function replay(point: string): string {
    return `node scripts/example.mjs crash vpn-bot --store ${stores.kind} --way ${way} --seed ${String(seed)} --point '${point}'${without === undefined ? '' : ` --without ${without}`}`
  }
}
