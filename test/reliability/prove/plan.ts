/**
 * How much each section of the long run is, and in which parts it is worked off.
 */
import { KNOCK_OUTS } from '../knock-outs.ts'
import type { SectionName } from './figures.ts'

export interface SectionPlan {
  readonly name: Exclude<SectionName, 'mutation'>
  readonly what: string
  /** What is counted. */
  readonly unit: string
  /** At least so many, for the figures to be worth printing. */
  readonly count: number
  /** Of one part. */
  readonly part: number
  /** Without real processes: the program of its parts is bundled, because it is the speed of the code that counts. */
  readonly simulated: boolean
  /** Parts that run at the same time. */
  readonly atOnce: number
}

/** Seeds of parts are so far apart that no two share a schedule. */
export const SEED_STEP = 10_000_000

export const PLANS: readonly SectionPlan[] = [
  { name: 'simulation', simulated: true, what: 'every flow in simulated processes on the memory store', unit: 'schedules', count: 3_000_000, part: 5_000, atOnce: 2 },
  { name: 'pglite', simulated: true, what: 'the same flows and faults on PGlite in memory: the SQL of PostgreSQL', unit: 'schedules', count: 40_000, part: 500, atOnce: 2 },
  { name: 'postgres', simulated: false, what: 'real processes killed by SIGKILL on a PostgreSQL server', unit: 'kills', count: 2_000, part: 100, atOnce: 2 },
  { name: 'embedded', simulated: false, what: 'real processes killed by SIGKILL on the embedded store in a directory', unit: 'kills', count: 300, part: 100, atOnce: 2 },
  { name: 'instances', simulated: false, what: 'four instances on one PostgreSQL server with kills, pauses, cut connections and crashes of the server', unit: 'confirmed steps', count: 500_000, part: 500_000, atOnce: 1 },
  { name: 'knock-outs', simulated: true, what: 'one protection at a time taken away, in simulation', unit: 'protections', count: KNOCK_OUTS.length, part: KNOCK_OUTS.length, atOnce: 1 },
]

/** `--quick`: a look at whether everything runs, not a proof. */
export const QUICK_DIVISOR = 100
