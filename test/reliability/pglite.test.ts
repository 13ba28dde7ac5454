/**
 * The same flows and faults as in simulation, on real SQL: at least 2,000 crash points on PGlite in memory; and statements
 * from which a fence or an expiry was taken, which must be missed.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { explore, printSchedule } from '../../src/testing/index.ts'
import { leaseFlow } from './flows/lease.ts'
import { onceOutside } from './flows/once.ts'
import { sagaFlow } from './flows/saga.ts'
import { pgliteTier, type PgliteTier, type Rewrite } from './pglite-tier.ts'
import { play, type Scenario } from './play.ts'
import { runSimulation } from './simulation.ts'

Error.stackTraceLimit = 0

const POINTS = 2_000
/** Each meets several crash points, so that they come to more than `POINTS` together. */
const SCHEDULES = 900
const GOOD_DAY = { refuses: [], failsAfterEffect: [] }

let tier: PgliteTier
beforeAll(async () => { tier = await pgliteTier() }, 60_000)
afterAll(() => tier.close())

interface SqlKnockOut extends Rewrite {
  readonly name: string
  readonly scenario: Scenario
  readonly finds: RegExp
}

const KNOCK_OUTS: readonly SqlKnockOut[] = [
  {
    name: 'the fence of a completion', scenario: { flow: onceOutside('retry'), outside: GOOD_DAY, kinds: ['pause'] }, finds: /paid: [2-9] rows/,
    from: /(SET state = 'done', result = \$4[\s\S]*?)AND fence = \$3::bigint AND state IN \('started', 'unknown'\)/, to: '$1AND $$3::bigint > 0',
  },
  {
    name: 'the fence of a journal', scenario: { flow: sagaFlow({ last: 'idempotent', ends: 'done' }), outside: GOOD_DAY, kinds: ['pause'] }, finds: /record: [2-9] rows|before record was recorded/,
    from: /(WITH run AS MATERIALIZED[\s\S]*?)fence = \$3::bigint( AND [a-z_]+ > clock_timestamp\(\))?/, to: '$1$$3::bigint > 0',
  },
  { name: 'the expiry of a lease', scenario: { flow: leaseFlow, kinds: ['die'] }, from: 'WHERE name = $1 AND expires_at <= clock_timestamp()', to: 'WHERE name = $1 AND owner IS NULL', finds: /never over/ },
  { name: 'the expiry of a claim', scenario: { flow: onceOutside('retry'), outside: GOOD_DAY, kinds: ['die'] }, from: /(state = 'started' AND )lease_until <= clock_timestamp\(\)/, to: '$1false', finds: /never over/ },
]

describe('without', () => {
  it.each(KNOCK_OUTS)('$name a violation comes', { timeout: 300_000 }, async ({ scenario, from, to, finds }) => {
    tier.rewrite({ from, to })
    try {
      const { violation } = await explore({
        count: 150, singlesMax: 100, shrinkRunsMax: 0, points: scenario.points, ...(scenario.kinds === undefined ? {} : { kinds: scenario.kinds }),
        run: (schedule, options) => play(tier, scenario, schedule, options),
      })
      expect(violation?.violations.join('; ') ?? 'not missed').toMatch(finds)
    } finally {
      expect(tier.rewrite(undefined), 'statements that were changed').toBeGreaterThan(0)
    }
  })
})

it('everything holds on PGlite after 2,000 crash points', { timeout: 1_200_000 }, async () => {
  const figures = await runSimulation(tier, { count: SCHEDULES, seed: 11, singles: 0.1, faultsMin: 5 })
  expect(figures.violations.map(({ scenario, schedule, violations }) => `${scenario}: ${violations.join('; ')}: ${printSchedule(schedule)}`)).toEqual([])
  const met = Object.values(figures.faults).reduce((sum, times) => sum + times, 0)
  expect(met).toBeGreaterThanOrEqual(POINTS)
  expect(figures.replayed).toBeGreaterThan(0)
  process.stdout.write(`${JSON.stringify({ pglite: { schedules: figures.schedules, points: met, operations: figures.operations, seconds: Math.round(figures.seconds), faults: figures.faults } })}\n`)
})
