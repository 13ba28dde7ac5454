/**
 * `npm run drill -- vpn-bot`: breaks the bot's world on purpose, eighteen ways, and says whether every promise held.
 *
 * The real app, simulated time, simulators in process. Exit code 0 only when all scenarios passed; 64 for wrong usage.
 */
import { parseArgs } from 'node:util'
import { messageOf, realEnv } from 'holdfast/core'
import { carryOut, type ScenarioResult } from './kit.ts'
import { SCENARIOS } from './scenarios/index.ts'
import { CONTROLS, type Control } from './without.ts'

const USAGE = `usage: npm run drill -- vpn-bot [options]
  --list             what there is
  --only NAME        one scenario (may be given several times)
  --seed N           another course of events (default 1)
  --without CONTROL  takes a protection away, to see the drill fail: ${CONTROLS.join(', ')}
  --json             one object on standard output`

interface Asked {
  readonly list: boolean
  readonly json: boolean
  readonly help: boolean
  readonly seed: number
  readonly only: readonly string[]
  readonly without: Control | undefined
}

/** @throws RangeError saying what is wrong */
function asked(args: readonly string[]): Asked {
  const { values } = parseArgs({
    args: [...args], options: {
      list: { type: 'boolean' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, seed: { type: 'string' }, only: { type: 'string', multiple: true }, without: { type: 'string' },
    },
  })
  const seed = Number(values.seed ?? '1')
  if (!Number.isInteger(seed) || seed < 0) throw new RangeError(`--seed: expected a whole number, got ${JSON.stringify(values.seed)}`)
  for (const name of values.only ?? []) if (!SCENARIOS.some(scenario => scenario.name === name)) throw new RangeError(`--only: no scenario is called ${JSON.stringify(name)}; --list names them`)
  const without = CONTROLS.find(control => control === values.without)
  if (values.without !== undefined && without === undefined) throw new RangeError(`--without: expected one of ${CONTROLS.join(', ')}, got ${JSON.stringify(values.without)}`)
  return { list: values.list === true, json: values.json === true, help: values.help === true, seed, only: values.only ?? [], without }
}

const out = (text: string): void => { process.stdout.write(`${text}\n`) }

function show({ name, ok, ms, checks, invariants }: ScenarioResult): void {
  const failed = checks.filter(check => !check.ok)
  out(`${ok ? '✓' : '✗'} ${name.padEnd(30)} ${String(checks.length).padStart(3)} checks ${String(ms).padStart(6)} ms`)
  for (const { what, detail } of failed) out(`    ✗ ${what}${detail === undefined ? '' : `\n        ${detail}`}`)
  for (const sentence of invariants) out(`    ✗ invariant: ${sentence}`)
}

async function main(args: readonly string[]): Promise<number> {
  const { list, json, help, seed, only, without } = asked(args)
  if (help) {
    out(USAGE)
    return 0
  }
  if (list) {
    for (const { name, about } of SCENARIOS) out(`${name.padEnd(30)} ${about}`)
    return 0
  }
  const env = realEnv()
  const chosen = SCENARIOS.filter(scenario => only.length === 0 || only.includes(scenario.name))
  const scenarios: ScenarioResult[] = []
  for (const scenario of chosen) {
    const result = await carryOut(scenario, { seed, without }, () => env.monotonic())
    scenarios.push(result)
    if (!json) show(result)
  }
  const passed = scenarios.filter(result => result.ok).length
  const failed = scenarios.length - passed
  if (json) out(JSON.stringify({ drill: 'vpn-bot', passed, failed, scenarios }, undefined, 2))
  else out(`${String(passed)} of ${String(scenarios.length)} scenarios passed${failed === 0 ? ': every promise held' : ''} (seed ${String(seed)}${without === undefined ? '' : `, without ${without}`})`)
  return failed === 0 ? 0 : 1
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n${USAGE}\n`)
  process.exitCode = 64
}
