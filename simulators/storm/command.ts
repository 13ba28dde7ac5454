/**
 * `npm run sim:storm`: arguments in, CSV (or JSON) out, a table and the verdict beside it.
 *
 * Exit code 0: the defaults keep the budget and naive retries stay down; 1: they don't; 2: the arguments make no sense.
 */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { messageOf } from 'holdfast/core'
import { chart } from './chart.ts'
import { COLUMNS, type Column } from './columns.ts'
import { figuresOf } from './figures.ts'
import { scenarioText, secondsCsv, SECONDS_HEADER, summaryCsv, SUMMARY_HEADER, summaryJson, table, verdictOf } from './report.ts'
import { runColumn, type Series } from './run.ts'
import { REAL_AFTER_SECONDS, REAL_LOADS, runReal, scaledDown } from './real/run.ts'
import { capacityOf, LOADS, OUTAGES, SCENARIO_DEFAULTS, type Scenario } from './scenario.ts'

export interface Output {
  /** Results: CSV or JSON, nothing else. */
  out(text: string): void
  /** What a person reads. */
  say(text: string): void
  /** Where the picture of a full run goes; undefined draws none unless `--svg` says where. */
  readonly picture: string | undefined
}

export const HELP = `Usage: npm run sim:storm [-- options]

A retry storm in virtual time: ${String(SCENARIO_DEFAULTS.clients)} clients call a server that can do ${String(capacityOf(SCENARIO_DEFAULTS))} requests a second, the server is out for ${String(SCENARIO_DEFAULTS.outageSeconds)} s,
and what matters is what happens afterwards. The same seed gives the same bytes.

Options:
  --seed <n>        which run (default 1)
  --load <list>     percent of the capacity that is offered (default ${LOADS.join(',')})
  --seconds <n>     how long is watched after the outage, 15 to 600 (default ${String(SCENARIO_DEFAULTS.afterSeconds)})
  --outage <kind>   ${OUTAGES.join(', ')} (default ${SCENARIO_DEFAULTS.outage})
  --columns <list>  only these: ${COLUMNS.map(({ id }) => id).join(', ')}
  --csv             a row for every second in place of the summary
  --json            the summary, one object a line
  --svg <file>      where the picture goes (a run with all loads and columns draws docs/retry-storm.svg)
  --real            with real processes on loopback and in real time, scaled down: naive retries and the defaults
  --help

Standard output is CSV:
  ${SUMMARY_HEADER}
with --csv:
  ${SECONDS_HEADER}
Calls count in the second in which they began. Goodput is the share of calls that ended well; amplification is requests at the server for
each call; back_after_s is empty where goodput was not back at 95 % when the run ended. The table and the verdict go to standard error.
`

interface Settings {
  readonly scenario: Scenario
  readonly loads: readonly number[]
  readonly columns: readonly Column[]
  readonly format: 'summary' | 'seconds' | 'json'
  readonly svg: string | undefined
  readonly real: boolean
  /** Nothing was chosen that changes the run: this is the one that the documentation shows. */
  readonly documented: boolean
}

export async function storm(args: readonly string[], output: Output): Promise<number> {
  const settings = parse(args)
  if (settings === undefined) {
    output.out(HELP)
    return 0
  }
  if (typeof settings === 'string') {
    output.say(`${settings}\n`)
    return 2
  }
  const scenario = settings.real ? scaledDown(settings.scenario) : settings.scenario
  output.say(`${scenarioText(scenario)}${settings.real ? ', in real time with real processes' : ', in virtual time'}\n`)
  const runs: Series[] = []
  for (const load of settings.loads) {
    for (const column of settings.columns) runs.push(await (settings.real ? runReal : runColumn)(scenario, column, load))
  }
  const figures = runs.map(run => figuresOf(scenario, run))
  output.out(settings.format === 'seconds' ? secondsCsv(runs) : settings.format === 'json' ? summaryJson(scenario, figures) : summaryCsv(figures))
  const svg = settings.svg ?? (settings.documented ? output.picture : undefined)
  if (svg !== undefined) writeFileSync(svg, chart(scenario, runs, figures))
  const verdict = verdictOf(scenario, figures)
  output.say(`\n${table(scenario, figures)}\n${verdict.lines.join('\n')}\n${svg === undefined ? '' : `drawn: ${svg}\n`}`)
  return verdict.kept ? 0 : 1
}

/** The settings; nothing when help is asked for; or what is wrong with the arguments. */
function parse(args: readonly string[]): Settings | string | undefined {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        seed: { type: 'string' }, load: { type: 'string' }, seconds: { type: 'string' }, outage: { type: 'string' }, columns: { type: 'string' },
        csv: { type: 'boolean' }, json: { type: 'boolean' }, svg: { type: 'string' }, real: { type: 'boolean' }, help: { type: 'boolean' },
      },
    })
    if (values.help === true) return undefined
    if (values.csv === true && values.json === true) return '--csv and --json: choose one'
    const real = values.real === true
    return {
      real,
      scenario: {
        ...SCENARIO_DEFAULTS,
        seed: wholeNumber('--seed', values.seed, SCENARIO_DEFAULTS.seed, 0, 1_000_000),
        afterSeconds: wholeNumber('--seconds', values.seconds, real ? REAL_AFTER_SECONDS : SCENARIO_DEFAULTS.afterSeconds, 15, 600),
        outage: oneOf('--outage', values.outage, SCENARIO_DEFAULTS.outage, OUTAGES),
      },
      loads: values.load === undefined ? (real ? REAL_LOADS : LOADS) : listOf(values.load).map(text => wholeNumber('--load', text, 0, 1, 100)),
      columns: values.columns === undefined ? COLUMNS.filter(column => !real || column.role !== undefined) : listOf(values.columns).map(text => columnOf(text)),
      format: values.json === true ? 'json' : values.csv === true ? 'seconds' : 'summary',
      svg: values.svg,
      documented: args.every(arg => arg === '--csv' || arg === '--json'),
    }
  } catch (error) {
    return messageOf(error)
  }
}

function listOf(text: string): readonly string[] {
  return [...new Set(text.split(','))]
}

function wholeNumber(option: string, text: string | undefined, otherwise: number, min: number, max: number): number {
  if (text === undefined) return otherwise
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= min && value <= max) return value
  throw new RangeError(`${option}: expected a whole number from ${String(min)} to ${String(max)}, got ${JSON.stringify(text)}`)
}

function oneOf<T extends string>(option: string, text: string | undefined, otherwise: T, choices: readonly T[]): T {
  if (text === undefined) return otherwise
  const choice = choices.find(one => one === text)
  if (choice === undefined) throw new RangeError(`${option}: expected one of ${choices.join(', ')}, got ${JSON.stringify(text)}`)
  return choice
}

function columnOf(text: string): Column {
  const id = oneOf('--columns', text, '', COLUMNS.map(column => column.id))
  const column = COLUMNS.find(one => one.id === id)
  if (column === undefined) throw new RangeError(`--columns: there is no ${text}`)
  return column
}
