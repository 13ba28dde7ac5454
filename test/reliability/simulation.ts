/**
 * The simulated tier: which flows run under which conditions, how many schedules of each, and what they came to.
 *
 * Programmatic, so that a test runs its share and the long run runs millions in threads: `runSimulation` needs nothing but
 * its options. Cheap flows get most schedules, long ones fewer; the figures say how many of each.
 */
import { explore, type FaultKind, type Violation } from '../../src/testing/index.ts'
import { leaseFlow } from './flows/lease.ts'
import { inboxFlow, outboxFlow } from './flows/messages.ts'
import { onceLocal, onceOutside } from './flows/once.ts'
import { recoveryFlow } from './flows/recovery.ts'
import { retryStoreFlow } from './flows/retry-store.ts'
import { sagaFlow } from './flows/saga.ts'
import { cancelFlow, confirmFlow, hangingFlow, trackFlow } from './flows/saga-depth.ts'
import { scheduleFlow } from './flows/schedule.ts'
import { workerFlow } from './flows/worker.ts'
import { play, type Played, type Scenario, type Tier } from './play.ts'

/** A scenario and how much of the whole it gets. */
export interface Weighted extends Scenario {
  readonly name: string
  readonly weight: number
}

const GOOD_DAY = { refuses: [], failsAfterEffect: [] }
const sagas = {
  done: sagaFlow({ last: 'idempotent', ends: 'done' }), undone: sagaFlow({ last: 'idempotent', ends: 'undone', patient: true }),
  verify: sagaFlow({ last: 'verify', ends: 'done' }), hold: sagaFlow({ last: 'hold', ends: 'done' }), stuck: sagaFlow({ last: 'idempotent', ends: 'stuck' }), skipped: sagaFlow({ last: 'idempotent', ends: 'skipped' }),
}
const onces = { retry: onceOutside('retry'), verify: onceOutside('verify'), hold: onceOutside('hold') }
const outboxes = { repeatable: outboxFlow({ repeatable: true }), single: outboxFlow({ repeatable: false }) }

export const SCENARIOS: readonly Weighted[] = [
  { name: 'once, local', flow: onceLocal, weight: 400 },
  { name: 'once, retry', flow: onces.retry, weight: 15 },
  { name: 'once, retry, good day', flow: onces.retry, outside: GOOD_DAY, weight: 130 },
  { name: 'once, verify', flow: onces.verify, weight: 15 },
  { name: 'once, verify, good day', flow: onces.verify, outside: GOOD_DAY, weight: 100 },
  // A look-up settles what a provider that knows no keys did, as long as nothing that was sent arrives after it.
  { name: 'once, verify, no keys', flow: onces.verify, outside: { ...GOOD_DAY, honoursKeys: false }, kinds: ['die', 'conflict'], weight: 40 },
  { name: 'once, hold', flow: onces.hold, weight: 10 },
  { name: 'once, hold, good day', flow: onces.hold, outside: GOOD_DAY, weight: 50 },
  { name: 'saga, done', flow: sagas.done, weight: 10 },
  { name: 'saga, done, good day', flow: sagas.done, outside: GOOD_DAY, weight: 120 },
  { name: 'saga, undone', flow: sagas.undone, weight: 10 },
  { name: 'saga, undone, good day', flow: sagas.undone, outside: GOOD_DAY, weight: 90 },
  { name: 'saga, verify', flow: sagas.verify, weight: 10 },
  // Nor is there a look-up for its first step: nobody dies while that is on its way, and at a `saga.start` a process's own sweep may have sent it.
  { name: 'saga, verify, no keys', flow: sagas.verify, outside: { ...GOOD_DAY, honoursKeys: false }, kinds: ['die', 'conflict'], points: /call activate|saga\.finish/, weight: 20 },
  { name: 'saga, hold, good day', flow: sagas.hold, outside: GOOD_DAY, weight: 40 },
  { name: 'saga, stuck', flow: sagas.stuck, outside: GOOD_DAY, weight: 10 },
  { name: 'saga, skipped', flow: sagas.skipped, outside: GOOD_DAY, weight: 8 },
  { name: 'saga, track, good day', flow: trackFlow, outside: GOOD_DAY, weight: 8 },
  { name: 'saga, confirm, good day', flow: confirmFlow, outside: GOOD_DAY, weight: 8 },
  { name: 'saga, cancel, good day', flow: cancelFlow, outside: GOOD_DAY, weight: 8 },
  { name: 'saga, cancel', flow: cancelFlow, weight: 4 },
  { name: 'saga, hanging', flow: hangingFlow, outside: GOOD_DAY, weight: 2 },
  { name: 'lease', flow: leaseFlow, weight: 30 },
  { name: 'inbox', flow: inboxFlow(), weight: 8 },
  { name: 'outbox, repeatable', flow: outboxes.repeatable, outside: GOOD_DAY, weight: 20 },
  { name: 'outbox, repeatable, bad day', flow: outboxes.repeatable, weight: 4 },
  { name: 'outbox, at most once', flow: outboxes.single, weight: 8 },
  { name: 'worker', flow: workerFlow, weight: 8 },
  { name: 'schedule', flow: scheduleFlow, weight: 8 },
  { name: 'retry store', flow: retryStoreFlow, weight: 20 },
  { name: 'recovery', flow: recoveryFlow, weight: 2 },
]

/** A run that did not reach all of them proves less than it says. */
export const STATES: readonly string[] = [
  'zombie write refused', 'lease lost in the middle', 'lease taken over', 'duplicate while in flight', 'duplicate of what is done', 'key reused with another input',
  'crash between effect and record', 'unknown outcome settled', 'unknown and shown', 'unknown and kept', 'needs a human', 'parked for a human', 'run resumed',
  'undo interrupted and resumed', 'handled twice, happened once', 'unknown commit or store away',
]

const PROCESS_CLOCKS = ['p1', 'p2']
const CLOCKS = [...PROCESS_CLOCKS, 'database']

export interface SimulationOptions {
  /** Schedules in all. */
  readonly count: number
  /** Default 1. */
  readonly seed?: number
  /** One of several runs that share the work. Default the only one. */
  readonly share?: { readonly index: number; readonly of: number }
  /** Of a scenario's schedules those with a single fault, 0 to 1. Default 0.6. */
  readonly singles?: number
  /** At least so many faults in each of the others. Default 2. */
  readonly faultsMin?: number | undefined
  /** Only scenarios whose names match. */
  readonly only?: RegExp | undefined
  readonly onProgress?: (schedules: number) => void
}

export interface ScenarioFigures {
  readonly name: string
  readonly schedules: number
  readonly operations: number
}

export interface SimulationFigures {
  readonly seed: number
  readonly schedules: number
  /** Run a second time, and came to the same hash. */
  readonly replayed: number
  /** Transactions and outside calls that were begun. */
  readonly operations: number
  readonly faults: Readonly<Partial<Record<FaultKind, number>>>
  readonly reached: Readonly<Record<string, number>>
  readonly scenarios: readonly ScenarioFigures[]
  readonly violations: readonly (Violation & { readonly scenario: string })[]
  readonly seconds: number
}

/** Every scenario's share of the schedules: single faults first, then the swarm. A scenario stops at its first violation. */
export async function runSimulation<Tx>(tier: Tier<Tx>, { count, seed = 1, share = { index: 0, of: 1 }, singles = 0.6, faultsMin, only, onProgress }: SimulationOptions): Promise<SimulationFigures> {
  const scenarios = SCENARIOS.filter(scenario => only?.test(scenario.name) !== false)
  const total = scenarios.reduce((sum, { weight }) => sum + weight, 0)
  const began = process.hrtime.bigint()
  const tally = new Tally(onProgress)
  for (const scenario of scenarios) {
    const wanted = Math.ceil(count * scenario.weight / total)
    const before = { ...tally.sums }
    const { schedules, replayed, violation } = await explore({
      // A database's clock that jumps ends leases whose holders are at work; only keys can help where both then call.
      count: wanted, seed, share, clocks: scenario.outside?.honoursKeys === false ? PROCESS_CLOCKS : CLOCKS, points: scenario.points,
      ...(scenario.kinds === undefined ? {} : { kinds: scenario.kinds }),
      singlesMax: Math.ceil(wanted * share.of * singles), faultsMin,
      run: async (schedule, given) => tally.add(await play(tier, scenario, schedule, given)),
    })
    tally.scenarios.push({ name: scenario.name, schedules, operations: tally.sums.operations - before.operations })
    tally.sums.schedules += schedules
    tally.sums.replayed += replayed
    if (violation !== undefined) tally.violations.push({ ...violation, scenario: scenario.name })
  }
  return { seed, ...tally.figures(), seconds: Number(process.hrtime.bigint() - began) / 1e9 }
}

class Tally {
  readonly sums = { schedules: 0, replayed: 0, operations: 0 }
  readonly scenarios: ScenarioFigures[] = []
  readonly violations: (Violation & { readonly scenario: string })[] = []
  readonly #faults = new Map<FaultKind, number>()
  readonly #reached = new Map<string, number>()
  readonly #onProgress: ((schedules: number) => void) | undefined
  #played = 0

  constructor(onProgress: ((schedules: number) => void) | undefined) {
    this.#onProgress = onProgress
  }

  add(played: Played): Played {
    this.sums.operations += played.operations
    for (const state of played.reached) this.#reached.set(state, (this.#reached.get(state) ?? 0) + 1)
    for (const [kind, times] of played.faults) this.#faults.set(kind, (this.#faults.get(kind) ?? 0) + times)
    if (++this.#played % 1_000 === 0) this.#onProgress?.(this.#played)
    return played
  }

  figures(): Pick<SimulationFigures, 'schedules' | 'replayed' | 'operations' | 'faults' | 'reached' | 'scenarios' | 'violations'> {
    return { ...this.sums, faults: Object.fromEntries(this.#faults), reached: Object.fromEntries(this.#reached), scenarios: this.scenarios, violations: this.violations }
  }
}

/** What several shares came to together. */
export function addFigures(parts: readonly SimulationFigures[]): SimulationFigures {
  const sum = (of: (part: SimulationFigures) => number): number => parts.reduce((total, part) => total + of(part), 0)
  const records = (of: (part: SimulationFigures) => Readonly<Record<string, number>>): Record<string, number> => {
    const total: Record<string, number> = {}
    for (const part of parts) for (const [name, times] of Object.entries(of(part))) total[name] = (total[name] ?? 0) + times
    return total
  }
  const names = [...new Set(parts.flatMap(part => part.scenarios.map(({ name }) => name)))]
  const inScenario = (name: string, of: (figures: ScenarioFigures) => number): number => sum(part => part.scenarios.filter(each => each.name === name).reduce((total, each) => total + of(each), 0))
  return {
    seed: parts[0]?.seed ?? 0, schedules: sum(part => part.schedules), replayed: sum(part => part.replayed), operations: sum(part => part.operations),
    faults: records(part => part.faults), reached: records(part => part.reached), violations: parts.flatMap(part => part.violations), seconds: Math.max(...parts.map(part => part.seconds)),
    scenarios: names.map(name => ({ name, schedules: inScenario(name, each => each.schedules), operations: inScenario(name, each => each.operations) })),
  }
}
