/**
 * One subject in one case: the program of the processes that ./run.mjs starts. Writes one JSON object and ends.
 *
 * A process has one subject only, so that no subject's code, timers or garbage weighs on another's figures.
 * Where subjects take turns it says `turn` on standard output, and goes on when it reads a line.
 */
import { once } from 'node:events'
import { PACES } from './measure.mjs'

const { bench, caseName, subject, unit, quick } = JSON.parse(process.argv[2] ?? '{}')
const { default: definition } = await import(`./${bench}/index.mjs`)
const one = definition.cases.find(candidate => candidate.name === caseName)
const { default: parts } = await import(`./${bench}/${subject}.mjs`)
const how = one.measures.find(candidate => candidate.unit === unit)
const turn = async work => {
  process.stdout.write('turn\n')
  await once(process.stdin, 'data')
  return work()
}
const figure = await how.measure(parts[one.part], one, { ...(quick ? PACES.quick : PACES.full), quick, turn })
// A subject may leave timers behind; the figure is all that is wanted of this process.
process.stdout.write(`${JSON.stringify(figure)}\n`, () => process.exit(0))
