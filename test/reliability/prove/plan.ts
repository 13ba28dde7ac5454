/**
 * How much each section of the long run is, and in which parts it is worked off.
 */
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
  /** Parts that run at the same time. */
  readonly atOnce: number
}

/** Seeds of parts are so far apart that no two share a schedule. */
export const SEED_STEP = 10_000_000

export const PLANS: readonly SectionPlan[] = [
  { name: 'postgres', what: 'real processes killed by SIGKILL on a PostgreSQL server', unit: 'kills', count: 2_000, part: 100, atOnce: 2 },
  { name: 'embedded', what: 'real processes killed by SIGKILL on the embedded store in a directory', unit: 'kills', count: 300, part: 30, atOnce: 2 },
]

/** `--quick`: a look at whether everything runs, not a proof. */
export const QUICK_DIVISOR = 100
