/**
 * Works off a part in simulated processes: schedules on the memory store, and knock-outs.
 */
import { KNOCK_OUTS, withMechanism, withoutMechanism } from '../knock-outs.ts'
import { pgliteTier } from '../pglite-tier.ts'
import { memoryTier } from '../play.ts'
import { runSimulation, type SimulationFigures } from '../simulation.ts'
import { NOTHING, type Figures } from './figures.ts'
import { work, type Part } from './protocol.ts'

// Errors are part of the game here, and their stacks cost more than the rest of it.
Error.stackTraceLimit = 0

function simulated(figures: SimulationFigures): Figures {
  return {
    ...NOTHING, count: figures.schedules, operations: figures.operations, faults: figures.faults, reached: figures.reached,
    anomalies: figures.violations.length, found: figures.violations.map(({ scenario, schedule, violations }) => `${scenario}: ${JSON.stringify(schedule)}: ${violations.join('; ')}`),
    sums: { 'run twice with the same outcome': figures.replayed, ...Object.fromEntries(figures.scenarios.map(({ name, schedules }) => [`schedules of ${name}`, schedules])) },
    seconds: figures.seconds,
  }
}

/** Each protection taken away alone, in simulation: how many schedules until that was found. */
async function knockedOut({ seed }: Part): Promise<Figures> {
  const startedMs = performance.now()
  const control: Record<string, string> = {}
  const found: string[] = []
  let count = 0
  for (const knockOut of KNOCK_OUTS) {
    const held = await withMechanism(knockOut, seed)
    const { violation, schedules } = await withoutMechanism(knockOut, seed)
    if (held.violation !== undefined) found.push(`${knockOut.name}: broken with the protection in place: ${held.violation.violations.join('; ')}`)
    control[knockOut.name] = violation === undefined ? 'not found' : `found after ${String(schedules)} schedules: ${violation.violations[0] ?? ''}`
    count += 1
  }
  return { ...NOTHING, count, anomalies: found.length, found, control, seconds: Math.round((performance.now() - startedMs) / 1_000) }
}

async function onPglite(count: number, seed: number): Promise<Figures> {
  const tier = await pgliteTier()
  try {
    return simulated(await runSimulation(tier, { count, seed }))
  } finally {
    await tier.close()
  }
}

await work(async part => {
  const { section, seed, count } = part
  switch (section) {
    case 'simulation': return simulated(await runSimulation(memoryTier, { count, seed }))
    case 'pglite': return onPglite(count, seed)
    case 'knock-outs': return knockedOut(part)
    default: throw new RangeError(`${section} is not simulated`)
  }
})
