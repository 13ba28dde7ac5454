/** A slice's flows under faults, a few schedules each: what no single test of a room sees, as a mutant's death or loss between two lines. */
import { expect, it } from 'vitest'
import { memoryTier } from '../play.ts'
import { runSimulation, SCENARIOS } from '../simulation.ts'

const SCHEDULES = 25
const flows = new RegExp(process.env['HOLDFAST_MUTATION_FLOWS'] ?? '.')

// A trace of the stack costs more than the error that carries it.
Error.stackTraceLimit = 0

it.each(SCENARIOS.filter(({ name }) => flows.test(name)))('$name', async ({ name }) => {
  const { violations } = await runSimulation(memoryTier, { count: SCHEDULES, only: new RegExp(`^${name}$`) })
  expect(violations).toEqual([])
})
