/**
 * Many kills on one store, and what came of them: for the test run, and in numbers for `npm run prove`.
 */
import type { Flow } from '../flow.ts'
import { killPlans, type KillPlan } from './plan.ts'
import { KillRig, type Conditions } from './rig.ts'
import type { KillStore } from './stores.ts'

export interface KillRunOptions {
  readonly store: (nowMs: () => number) => Promise<KillStore>
  readonly flows: readonly Flow[]
  readonly seed: number
  /** How many real deaths; the run goes on until it has had them. */
  readonly kills: number
  readonly onProgress?: (figures: KillFigures) => void
}

export interface KillFigures {
  readonly seed: number
  readonly kills: number
  readonly iterations: number
  /** Transactions and outside calls begun. */
  readonly operations: number
  /** Deaths by where: before a transaction, before its commit, after it, on either side of an outside call. */
  readonly kinds: Readonly<Record<string, number>>
  readonly killsByFlow: Readonly<Record<string, number>>
  /** Different points of different flows at which a process died. */
  readonly points: number
  readonly violations: readonly { readonly plan: KillPlan; readonly why: readonly string[] }[]
  /** From a death until everything was over, each. */
  readonly recoveriesMs: readonly number[]
  /** Facts that were announced and states that flows told of, and how often. */
  readonly reached: Readonly<Record<string, number>>
  readonly seconds: number
}

/** A run that finds so many is broken for good; more would not teach more. */
const VIOLATIONS_MAX = 10

export async function killRun({ store, flows, seed, kills, onProgress }: KillRunOptions): Promise<KillFigures> {
  const startedMs = performance.now()
  const rig = new KillRig(seed)
  const count = { kills: 0, iterations: 0, operations: 0 }
  const kinds: Record<string, number> = {}
  const killsByFlow: Record<string, number> = {}
  const diedAt = new Set<string>()
  const violations: { plan: KillPlan; why: readonly string[] }[] = []
  const recoveries: number[] = []
  const figures = (): KillFigures => ({
    seed, ...count, kinds, killsByFlow, points: diedAt.size, violations, recoveriesMs: recoveries,
    reached: Object.fromEntries(rig.reached), seconds: Math.round((performance.now() - startedMs) / 1_000),
  })
  const iterate = async (flow: Flow, plan: KillPlan): Promise<readonly string[]> => {
    const seen = await rig.iterate(flow, plan)
    count.iterations += 1
    count.operations += seen.operations
    count.kills += seen.diedAt.length
    for (const point of seen.diedAt) {
      const kind = point.replace(/^((?:before|after) call|\w+) .*$/, '$1')
      kinds[kind] = (kinds[kind] ?? 0) + 1
      killsByFlow[flow.name] = (killsByFlow[flow.name] ?? 0) + 1
      diedAt.add(`${flow.name}: ${point}`)
    }
    if (seen.recoveryMs !== undefined) recoveries.push(Math.round(seen.recoveryMs))
    if (seen.violations.length > 0) violations.push({ plan, why: seen.violations })
    onProgress?.(figures())
    return seen.passed
  }
  try {
    await rig.open(store)
    const points = new Map<string, readonly string[]>()
    for (const flow of flows) points.set(flow.name, await iterate(flow, { flow: flow.name, kills: [] }))
    for (const plan of killPlans(flows, points, seed)) {
      if (count.kills >= kills || violations.length >= VIOLATIONS_MAX) break
      const flow = flows.find(each => each.name === plan.flow)
      if (flow !== undefined) await iterate(flow, plan)
    }
    return figures()
  } finally {
    await rig.close()
  }
}

/** A mechanism that is taken away, and the point at which a death must then do harm. */
export interface KillControl {
  readonly name: string
  readonly flow: string
  readonly conditions: Conditions
  readonly point: RegExp
}

/** The other side has a good day: whatever happens twice is the death's work. */
const GOOD_DAY = { failsAfterEffect: [], refuses: [] } as const

export const KILL_CONTROLS: readonly KillControl[] = [
  { name: 'once: keys of the provider are new at each attempt', flow: 'once-retry', conditions: { without: ['provider keys'], outside: GOOD_DAY }, point: /^after call pay/ },
  { name: 'saga: keys of the provider are new at each attempt', flow: 'saga-idempotent-done', conditions: { without: ['provider keys'], outside: GOOD_DAY }, point: /^after call reserve/ },
  { name: 'outbox: keys of the provider are new at each attempt', flow: 'outbox-repeatable', conditions: { without: ['provider keys'], outside: GOOD_DAY }, point: /^after call send 2/ },
  { name: 'once: nobody looks whether it happened', flow: 'once-verify', conditions: { without: ['verify'], outside: { ...GOOD_DAY, honoursKeys: false } }, point: /^after call pay/ },
]

export interface ControlFound {
  readonly name: string
  /** Without a death nothing may be wrong. */
  readonly quiet: readonly string[]
  /** With one something must be. */
  readonly harm: readonly string[]
}

export async function killControls(store: KillRunOptions['store'], flows: readonly Flow[], controls: readonly KillControl[], seed: number): Promise<readonly ControlFound[]> {
  const rig = new KillRig(seed)
  try {
    await rig.open(store)
    const found: ControlFound[] = []
    for (const { name, flow: flowName, conditions, point } of controls) {
      const flow = flows.find(each => each.name === flowName)
      if (flow === undefined) throw new Error(`no flow is called ${flowName}`)
      const quiet = await rig.iterate(flow, { flow: flowName, kills: [] }, conditions)
      const at = quiet.passed.find(passed => point.test(passed)) ?? ''
      const harmed = await rig.iterate(flow, { flow: flowName, kills: [{ at, how: 'at' }] }, conditions)
      found.push({ name, quiet: quiet.violations, harm: harmed.diedAt.length === 0 ? [] : harmed.violations })
    }
    return found
  } finally {
    await rig.close()
  }
}
