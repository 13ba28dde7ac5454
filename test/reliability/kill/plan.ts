/**
 * Which process is killed where: a plan per iteration, by a seed.
 *
 * Every flow is run once without a kill, so that its crash points are known by name. Then flows take turns, and each has
 * its points in an order of the seed until all had theirs; a part of the kills hits the recovering process too.
 */
import { seededRandom } from '../../../src/testing/index.ts'
import type { Flow } from '../flow.ts'
import type { Kill } from './protocol.ts'

/** One iteration: JSON, and with it the same kills again. */
export interface KillPlan {
  readonly flow: string
  /** Of the first process, of the one that recovers, and so on. */
  readonly kills: readonly Kill[]
}

/** Of those before a commit. */
const AMID_RATIO = 0.45
const AGAIN_RATIO = 0.2
/** A recovering process passes about so many points before all is over. */
const AGAIN_POINTS = 25

/** For ever; whoever runs them says when it is enough. */
export function* killPlans(flows: readonly Flow[], points: ReadonlyMap<string, readonly string[]>, seed: number): Generator<KillPlan> {
  const random = seededRandom(seed)
  const left = new Map<string, string[]>()
  for (let turn = Math.floor(random() * flows.length); ; turn++) {
    const flow = flows[turn % flows.length]
    if (flow === undefined) return
    const known = points.get(flow.name) ?? []
    let open = left.get(flow.name) ?? []
    if (open.length === 0) open = shuffled(known, random)
    const at = open.pop() ?? 0
    left.set(flow.name, open)
    const how = typeof at === 'string' && at.startsWith('commit ') && random() < AMID_RATIO ? 'amid' : 'at'
    const again: Kill[] = random() < AGAIN_RATIO ? [{ at: Math.floor(random() * AGAIN_POINTS), how: 'at' }] : []
    yield { flow: flow.name, kills: [{ at, how }, ...again] }
  }
}

function shuffled(points: readonly string[], random: () => number): string[] {
  return points.map(point => ({ point, place: random() })).sort((a, b) => a.place - b.place).map(({ point }) => point)
}
