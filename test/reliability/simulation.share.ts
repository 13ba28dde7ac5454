/**
 * One half of the simulated tier as a test: the two halves are files of their own, so that both cores work.
 */
import { describe, expect, it } from 'vitest'
import { printSchedule } from '../../src/testing/index.ts'
import { memoryTier } from './play.ts'
import { runSimulation, SCENARIOS, STATES } from './simulation.ts'

/** Of the hundred thousand that every commit must pass. */
export const SCHEDULES_PER_SHARE = 50_000

export function simulationShare(index: number): void {
  // A trace of the stack costs more than the error that carries it, and half of what is simulated are errors.
  Error.stackTraceLimit = 0

  describe('whatever dies, stalls, lies or jumps', () => {
    it(`holds in ${SCHEDULES_PER_SHARE.toLocaleString('en')} schedules, and every interesting state is reached`, { timeout: 1_200_000 }, async () => {
      const figures = await runSimulation(memoryTier, { count: SCHEDULES_PER_SHARE, share: { index, of: 2 } })
      const replays = figures.violations.map(({ scenario, schedule, violations }) => `${scenario}: ${violations.join('; ')}: npm run simulate -- --scenario '${scenario}' --schedule '${printSchedule(schedule)}'`)
      expect(replays).toEqual([])
      expect(figures.schedules).toBeGreaterThanOrEqual(SCHEDULES_PER_SHARE)
      expect(figures.replayed).toBeGreaterThanOrEqual(SCHEDULES_PER_SHARE / 200)
      expect(STATES.filter(state => figures.reached[state] === undefined)).toEqual([])
      expect(figures.scenarios.filter(({ schedules }) => schedules < 50)).toEqual([])
      expect(figures.scenarios.length).toBe(SCENARIOS.length)
      const { schedules, operations, seconds, faults } = figures
      process.stdout.write(`${JSON.stringify({ simulation: { share: index, schedules, operations, seconds: Math.round(seconds), faults } })}\n`)
    })
  })
}
