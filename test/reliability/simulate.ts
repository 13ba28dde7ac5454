/**
 * `npm run simulate -- --count 20000 --seed 7`: the simulated tier from the command line; or one schedule again, from the line
 * that a failing test prints: `npm run simulate -- --scenario 'once, retry' --schedule '{"seed":7,"faults":[{"at":12,"kind":"die"}]}'`.
 */
import { parseArgs } from 'node:util'
import { parseSchedule, printSchedule } from '../../src/testing/index.ts'
import { memoryTier, play } from './play.ts'
import { runSimulation, SCENARIOS } from './simulation.ts'

const { values } = parseArgs({ options: { count: { type: 'string', default: '10000' }, seed: { type: 'string', default: '1' }, scenario: { type: 'string' }, schedule: { type: 'string' }, help: { type: 'boolean', default: false } } })
Error.stackTraceLimit = 0

async function replay(name: string | undefined, line: string): Promise<boolean> {
  const scenario = SCENARIOS.find(each => each.name === name)
  if (scenario === undefined) {
    console.error(`--scenario: expected one of: ${SCENARIOS.map(each => each.name).join('; ')}`)
    return false
  }
  const played = await play(memoryTier, scenario, parseSchedule(line), { record: true })
  for (const trouble of played.trace) console.log(trouble)
  for (const violation of played.violations) console.log(`violated: ${violation}`)
  console.log(`${String(played.points)} points, hash ${played.hash.toString(16)}, ${played.violations.length === 0 ? 'everything holds' : 'does not hold'}`)
  return played.violations.length === 0
}

async function search(): Promise<boolean> {
  const only = values.scenario
  const figures = await runSimulation(memoryTier, {
    count: Number(values.count), seed: Number(values.seed), only: only === undefined ? undefined : new RegExp(`^${only}$`),
    onProgress: schedules => { if (schedules % 5_000 === 0) console.log(`${String(schedules)} schedules`) },
  })
  for (const { scenario, schedule, violations } of figures.violations) console.log(`${scenario}: ${violations.join('; ')}: npm run simulate -- --scenario '${scenario}' --schedule '${printSchedule(schedule)}'`)
  console.log(JSON.stringify({ ...figures, violations: figures.violations.length }))
  return figures.violations.length === 0
}

if (values.help) console.log("usage: npm run simulate -- [--count N] [--seed N] [--scenario NAME] [--schedule JSON]")
else process.exitCode = (values.schedule === undefined ? await search() : await replay(values.scenario, values.schedule)) ? 0 : 1
