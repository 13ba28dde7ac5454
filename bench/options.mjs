/**
 * What the command line says, checked; and the help text.
 */
import { existsSync, readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'

/** A mistake of whoever typed the command; its message is all they need. */
export class UsageError extends Error {}

const OPTIONS = Object.freeze({
  json: { type: 'boolean', default: false },
  markdown: { type: 'boolean', default: false },
  check: { type: 'boolean', default: false },
  quick: { type: 'boolean', default: false },
  source: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
  runs: { type: 'string' },
  only: { type: 'string' },
  subjects: { type: 'string' },
  from: { type: 'string' },
})

/** Each folder with a definition is a bench. */
export function benchNames() {
  return readdirSync(import.meta.dirname).filter(name => existsSync(resolve(import.meta.dirname, name, 'index.mjs'))).sort()
}

export function helpText() {
  return `usage: npm run bench -- NAME [options]

benches: ${benchNames().join(', ')}

  --json            one object per line: {"bench","case","subject","value","unit"}, nothing else on standard output
                    (npm prints two lines of its own before; npm run --silent bench leaves them out)
  --markdown        tables for documentation
  --check           compares with the budgets; exit code 1 when one is missed or was not measured
  --runs N          processes per figure, whose median is taken; at least 3, which is the default
  --only TEXT       cases whose name contains TEXT
  --subjects A,B    only these: holdfast, bare or the name of a peer
  --quick           one short run, to see that everything works: its figures mean little
  --from FILE       no measuring: shows or checks the lines that --json wrote into FILE
  --source          holdfast from src/ in place of the build
  --help
`
}

/** @param {readonly string[]} args @throws UsageError */
export function readOptions(args) {
  let parsed
  try {
    parsed = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
  const { values, positionals } = parsed
  const [name = ''] = positionals
  if (!values.help) {
    const known = `the benches are: ${benchNames().join(', ')}`
    if (positionals.length === 0) throw new UsageError(`which bench? ${known}`)
    if (positionals.length > 1) throw new UsageError(`one bench at a time, got: ${positionals.join(' ')}`)
    if (!benchNames().includes(name)) throw new UsageError(`no bench is called ${name}; ${known}`)
    if (values.json && values.markdown) throw new UsageError('--json or --markdown, not both')
  }
  return {
    name,
    json: values.json,
    markdown: values.markdown,
    check: values.check,
    quick: values.quick,
    source: values.source,
    help: values.help,
    runs: runsOf(values.runs, values.quick),
    only: values.only,
    subjects: values.subjects?.split(',').map(subject => subject.trim()),
    from: values.from,
  }
}

function runsOf(given, quick) {
  if (given === undefined) return quick ? 1 : 3
  const runs = Number(given)
  if (!Number.isInteger(runs) || runs < 1 || runs > 100) throw new UsageError(`--runs: expected a whole number of 3 to 100, got ${given}`)
  if (runs < 3 && !quick) throw new UsageError(`--runs: figures are medians of at least 3 runs, got ${given} (--quick takes fewer)`)
  return runs
}

/** The cases and subjects that were asked for. @throws UsageError */
export function selected(definition, { only, subjects }) {
  const keys = definition.subjects.map(subject => subject.key)
  const unknown = subjects?.find(subject => !keys.includes(subject))
  if (unknown !== undefined) throw new UsageError(`--subjects: no subject is called ${unknown}; there are: ${keys.join(', ')}`)
  const named = definition.cases.filter(one => only === undefined || one.name.includes(only))
  if (named.length === 0) throw new UsageError(`--only: no case contains ${only}; there are: ${definition.cases.map(one => one.name).join('; ')}`)
  const cases = named
    .map(one => ({ ...one, subjects: one.subjects.filter(subject => subjects === undefined || subjects.includes(subject)) }))
    .filter(one => one.subjects.length > 0)
  if (cases.length === 0) throw new UsageError(`--subjects: nothing to measure; ${subjects?.join(', ')} take part in none of: ${named.map(one => one.name).join('; ')}`)
  return cases
}
