/**
 * Crash points of one's own program, in a test: the program runs in a simulated world, once for every fault at every point.
 *
 * Given what boots the program, what a caller does, and what must be so in the end, it kills, stalls and lies around every
 * transaction and every outside call, boots again after each death, and says which schedule breaks it, made small.
 */
import { HoldfastError, messageOf } from '../core/index.ts'
import type { MemoryTx, Store } from '../store/index.ts'
import { memory, memoryDisk, type MemoryDisk } from '../store/memory/index.ts'
import { explore, type Exploration, type Explored } from './explore.ts'
import { printSchedule, type FaultKind, type Schedule } from './schedule.ts'
import type { SimulatedEnv } from './simulated-env.ts'
import { World, type WorldProcess } from './world.ts'

/** What a program is given at each boot, in place of the real store and the real world. */
export interface CrashTestProcess {
  readonly store: Store<MemoryTx>
  readonly env: SimulatedEnv
  /** An outside call with a crash point on either side: `call('charge', () => bank.charge(key))`. Carried out also when its caller dies meanwhile. */
  readonly call: <T>(what: string, carryOut: () => T) => Promise<T>
}

export interface CrashTestOptions<Outside> {
  /** The other side of one run: what survives the program. Made anew for each schedule. */
  readonly outside: () => Outside
  /**
   * The program's main(), for each boot of each process: opens the app over `{ store, env }` and does what callers ask for. When it
   * throws, the process ends and boots again some seconds later, as under a supervisor.
   */
  readonly run: (process: CrashTestProcess, outside: Outside) => void | Promise<unknown>
  /** True when everything that should happen has happened. */
  readonly over: (outside: Outside, disk: MemoryDisk) => boolean
  /** What is wrong in the end, in words; nothing is well. `disk.rows('table')` has what was committed. */
  readonly check: (outside: Outside, disk: MemoryDisk) => readonly string[]
  /** Schedules in all: every single fault at every point first, then several at once. Default 500. */
  readonly schedules?: number
  /** Default 1. */
  readonly seed?: number
  /** Kinds of faults. Default all. */
  readonly kinds?: readonly FaultKind[]
  /** Processes at a time. Default 1. */
  readonly processes?: number
  /** A run whose `over` isn't reached within so much virtual time fails. Default one hour. */
  readonly withinMs?: number
  /** Only this one: the schedule that a failure printed. */
  readonly replay?: Schedule
}

export interface CrashTestReport {
  readonly schedules: number
  /** Names of the crash points of a run without faults. */
  readonly points: readonly string[]
}

const SCHEDULES_DEFAULT = 500
const WITHIN_DEFAULT_MS = 3_600_000
/** Whoever is stalled when it is over wakes up and tries to go on. */
const AFTER_MS = 30_000

/** @throws HF_CRASH_TEST_FAILED with the smallest schedule that breaks it */
export async function crashTest<Outside>(options: CrashTestOptions<Outside>): Promise<CrashTestReport> {
  let points: readonly string[] = []
  const run = async (schedule: Schedule, { record }: { readonly record: boolean }): Promise<Explored> => {
    const explored = await playOnce(options, { processes: options.processes ?? 1, ...schedule }, record)
    if (record) points = explored.passed
    return explored
  }
  if (options.replay !== undefined) {
    const { violations, trace } = await run(options.replay, { record: true })
    if (violations.length > 0) throw failure(options.replay, violations, trace)
    return { schedules: 1, points }
  }
  const { schedules, violation }: Exploration = await explore({
    run, count: options.schedules ?? SCHEDULES_DEFAULT, seed: options.seed ?? 1, ...(options.kinds === undefined ? {} : { kinds: options.kinds }),
  })
  if (violation !== undefined) throw failure(violation.schedule, violation.violations, violation.trace)
  return { schedules, points }
}

async function playOnce<Outside>({ outside: make, run, over, check, withinMs = WITHIN_DEFAULT_MS }: CrashTestOptions<Outside>, schedule: Schedule, record: boolean): Promise<Explored> {
  const outside = make()
  const disk = memoryDisk()
  const world = new World<MemoryTx>({
    schedule, record,
    connect: () => {
      const store = memory(disk)
      return { store, abandon: () => { store.abandon() } }
    },
    // A main() that waits for its work is not waited for: others boot, and time passes, meanwhile.
    main: process => { void work(process) },
  })
  async function work(process: WorldProcess<MemoryTx>): Promise<void> {
    try {
      await run(process, outside)
    } catch (error) {
      world.trace.push(`${process.name} ended: ${messageOf(error)}`)
      process.exit()
    }
  }
  await world.start()
  const ended = await world.env.until(() => over(outside, disk), withinMs)
  await world.env.advance(AFTER_MS)
  const violations = [...world.violations, ...(ended ? [] : [`not over within ${String(withinMs / 1_000)} s of virtual time`]), ...check(outside, disk)]
  return { violations, hash: world.hash, points: world.points, passed: world.passed, trace: world.trace }
}

function failure(schedule: Schedule, violations: readonly string[], trace: readonly string[]): HoldfastError {
  return new HoldfastError('HF_CRASH_TEST_FAILED', {
    message: `${violations.join('; ')}\n  ${trace.length === 0 ? 'without any fault' : trace.join('\n  ')}\n  again: crashTest({ ..., replay: ${printSchedule(schedule)} })`,
    context: { schedule: printSchedule(schedule) },
  })
}
