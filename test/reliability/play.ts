/**
 * Plays one schedule of one flow in a simulated world, on any store, and judges it.
 *
 * The store behind it is a `Tier`: the memory store (thousands of schedules a second) or PGlite in memory (the same SQL as
 * PostgreSQL). Both run the same flows, the same processes, the same faults.
 */
import { setMaxListeners } from 'node:events'
import { EventBus, type EventName, type HoldfastEvent, type Json } from '../../src/core/index.ts'
import type { MemoryTx } from '../../src/store/index.ts'
import { memory, memoryDisk } from '../../src/store/memory/index.ts'
import type { Disk } from '../../src/store/memory/disk.ts'
import { TableView } from '../../src/store/memory/table.ts'
import { World, type Connection, type FaultKind, type OutsideOptions, type Schedule, type WorldProcess } from '../../src/testing/index.ts'
import type { Flow, FlowMechanism, FlowProcess, FlowView } from './flow.ts'

/** A flow under certain conditions. */
export interface Scenario {
  readonly flow: Flow
  /** Beside the flow's own: what else the other side does or does not do. */
  readonly outside?: OutsideOptions
  /** Kinds of faults; default all. Some promises hold only against some (a provider that knows no keys, and a pause). */
  readonly kinds?: readonly FaultKind[]
  /** Only points that this matches fail. Default all. */
  readonly points?: RegExp
  /** Of the schedules in which a clock jumps. Default that of the swarm. */
  readonly jumpShare?: number
  /** Default true. False: processes take their own clocks for the database's. */
  readonly databaseClock?: boolean
  /** Switched off, for a control. */
  readonly without?: readonly FlowMechanism[]
}

/** The database of one world. */
export interface TierDatabase<Tx> {
  readonly dialect: 'sql' | 'memory'
  connect(process: string): Connection<Tx>
  /** Reads committed state, outside of every process. */
  read<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  write(tx: Tx, run: string, text: string): Promise<void>
  written(tx: Tx, run: string): Promise<readonly string[]>
}

export interface Tier<Tx> {
  /** False: a process does not stall inside a transaction, where every other would wait for it. Default true. */
  readonly stallInside?: boolean
  /** A database for a new world. */
  open(world: () => World<Tx>, run: string): Promise<TierDatabase<Tx>>
}

export interface Played {
  readonly points: number
  readonly operations: number
  readonly hash: number
  readonly violations: readonly string[]
  readonly trace: readonly string[]
  /** Names of the points, where they were asked for. */
  readonly passed: readonly string[]
  readonly reached: ReadonlySet<string>
  readonly faults: ReadonlyMap<FaultKind, number>
}

/** Virtual time in which everything must be over (S10, L7): far beyond what any number of faults here costs. */
const OVER_WITHIN_MS = 1_200_000
const STALL_MAX_MS = 25_000

let runs = 0

export async function play<Tx>(tier: Tier<Tx>, scenario: Scenario, schedule: Schedule, { record = false } = {}): Promise<Played> {
  const { flow } = scenario
  const id = `r${String(++runs)}`
  // One signal per world: a shared one would hold on to everything that ever listened.
  const living = new AbortController()
  setMaxListeners(0, living.signal)
  const reached = new Set<string>()
  const told: string[] = []
  const outside = flow.outside(id, scenario.outside)
  // The world asks the database for connections, and the database asks the world for its time.
  const late: { world?: World<Tx> } = {}
  const database = await tier.open(() => late.world ?? unborn(), id)
  const view: FlowView<Tx> = { id, dialect: database.dialect, told, outside, read: work => database.read(work), written: () => database.read(tx => database.written(tx, id)) }
  const observe = flow.holds === undefined ? undefined : async (): Promise<void> => {
    for (const violation of await flow.holds?.(view) ?? []) if (!world.violations.includes(violation)) world.violations.push(violation)
  }
  const world: World<Tx> = new World<Tx>({ schedule, connect: name => database.connect(name), record, observe, points: scenario.points, databaseClock: scenario.databaseClock, stallInside: tier.stallInside, main: process => main(process) })
  late.world = world

  async function main(process: WorldProcess<Tx>): Promise<void> {
    const { env, name } = process
    const events = new EventBus(env)
    const reach = (state: string): void => { reached.add(state) }
    for (const heard of HEARD) events.on(heard, fact => { stateOf(fact, reach) })
    const open = await process.store.open({ env, events, service: 'test' })
    const own: FlowProcess<Tx> = {
      env, id, reach,
      signal: living.signal,
      kit: { env, events, service: 'test', instance: name, database: () => open },
      write: (tx, text) => database.write(tx, id, text),
      call: (what: string, request: Json) => process.call(what, () => outside.handle(what, request)),
      tell: fact => { told.push(fact) },
      without: mechanism => scenario.without?.includes(mechanism) === true,
    }
    await flow.main(own)
  }

  await world.start()
  const ended = await world.until(() => flow.over(view), OVER_WITHIN_MS)
  const { points } = world
  // Whoever is stalled wakes up and tries to go on.
  const stalls = world.stalled > 0 || schedule.faults.some(fault => fault.kind === 'pause')
  if (stalls && world.violations.length === 0) {
    await world.env.until(() => world.stalled === 0, STALL_MAX_MS)
    await world.env.advance(5_000)
  }
  if (world.violations.length === 0 && !await flow.over(view)) world.violations.push(ended ? 'was over and then was not' : 'never over')
  for (const line of world.trace) if (/ die after call (pay|reserve|activate|send|charge)/.test(line)) reached.add('crash between effect and record')
  const violations = [...world.violations, ...await flow.check(view)]
  return { points, operations: world.operations, hash: world.hash, violations, trace: world.trace, passed: world.passed, reached, faults: world.faults }
}

const HEARD = ['lease.lost', 'saga.resumed', 'once.settled', 'outbox.parked', 'store.lost', 'lease.acquired', 'inbox.failed'] as const satisfies readonly EventName[]

function stateOf(fact: HoldfastEvent, reach: (state: string) => void): void {
  if (fact.name === 'lease.lost') reach(fact.data.reason.includes('refused') ? 'zombie write refused' : 'lease lost in the middle')
  if (fact.name === 'saga.resumed') reach(fact.data.direction === 'undo' ? 'undo interrupted and resumed' : 'run resumed')
  if (fact.name === 'once.settled' && fact.data.as === 'done') reach('unknown outcome settled')
  if (fact.name === 'outbox.parked' && fact.data.state === 'unknown') reach('unknown and shown')
  if (fact.name === 'store.lost') reach('unknown commit or store away')
  if (fact.name === 'lease.acquired' && fact.data.takenOver) reach('lease taken over')
  if (fact.name === 'inbox.failed' && fact.data.parked) reach('parked for a human')
}

function unborn(): never {
  throw new Error('the world is not made yet')
}

/** The memory store, one disk per world. */
export const memoryTier: Tier<MemoryTx> = {
  open: async world => {
    const disk = memoryDisk() as Disk
    const committed: MemoryTx = {
      table: <Row>(name: string) => new TableView<Row>(name, disk.table(name), () => undefined),
      sequence: () => { throw new Error('committed state is only read') },
      now: () => world().clock.now(),
    }
    return {
      dialect: 'memory',
      connect: () => {
        const store = memory(disk)
        return { store, abandon: () => { store.abandon() } }
      },
      read: work => work(committed),
      write: async (tx, run, text) => { tx.table<Row>('effect').set(String(tx.sequence('effect')), { run, text }) },
      written: async (tx, run) => {
        const texts: string[] = []
        for (const [, row] of tx.table<Row>('effect').entries()) if (row.run === run) texts.push(row.text)
        return texts
      },
    }
  },
}

interface Row {
  readonly run: string
  readonly text: string
}
