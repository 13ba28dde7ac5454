/**
 * `npm run instances -- --minutes 30`: the long run of several instances, with its control column.
 *
 * Exit code 0: nothing doubled, lost, out of order or stuck with the guards on, and something found with them off. 1: not so. 64: wrong options.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { beginRun, endRun, RUN_DIR_VARIABLE } from '../postgres.ts'
import { runInstances, type Progress, type RunOptions, type RunReport } from './run.ts'

const USAGE = `usage: npm run instances -- [options]
  --minutes N        how long, default 30
  --steps N          ends earlier when about so many steps are confirmed
  --control-seconds N   length of the run with the guards off, default 60; 0 leaves it out
  --instances N      default 4
  --backlog N        orders under way at a time, default 96
  --seed N           default 4
  --calm             nothing goes wrong: how fast it is by itself
  --out FILE --json`

const write = (line: string): void => { process.stdout.write(`${line}\n`) }

interface Arguments {
  readonly minutes: number
  readonly steps: number | undefined
  readonly controlSeconds: number
  readonly instances: number
  readonly backlog: number
  readonly seed: number
  readonly calm: boolean
  readonly out: string | undefined
  readonly json: boolean
}

const given = parseArguments(process.argv.slice(2))
const dir = beginRun()
process.env[RUN_DIR_VARIABLE] = dir
try {
  process.exitCode = await main(given)
} finally {
  endRun(dir)
}

async function main({ minutes, steps, controlSeconds, instances, backlog, seed, calm, out, json }: Arguments): Promise<number> {
  const options: Omit<RunOptions, 'seconds' | 'guards'> = {
    seed, instances, backlog, calm, leaseMs: 2_000, lanes: 64, concurrency: 24, holders: 4, leaseKeys: 1_000, holderRestMs: 20, crashEveryMs: 8_000, restWithinMs: 120_000,
    onPhase: phase => { if (!json) write(phase) },
    onProgress: (progress: Progress) => { if (!json) write(`${String(progress.seconds)} s: ${String(progress.orders)} orders acknowledged, ${String(progress.finished)} finished, ${String(progress.faults)} faults, ${String(progress.recovered)} dead instances recovered from`) },
  }
  const guarded = await runInstances({ ...options, seconds: minutes * 60, guards: 'on', ...(steps === undefined ? {} : { steps }) })
  if (!json) say('guards on', guarded)
  const control = controlSeconds === 0 ? undefined : await runInstances({ ...options, seconds: controlSeconds, guards: 'off' })
  const report = {
    what: 'several instances', date: new Date().toISOString(), commit: commit(), machine: { cpus: cpus().length, model: cpus()[0]?.model ?? '', node: process.version },
    guarded: shown(guarded), ...(control === undefined ? {} : { control: shown(control) }), ok: isGood(guarded) && (control === undefined || anomaliesOf(control) > 0),
  }
  if (out !== undefined) writeFileSync(out, `${JSON.stringify(report, null, 2)}\n`)
  if (json) write(JSON.stringify(report))
  else {
    if (control !== undefined) say('guards off (control)', control)
    write(report.ok ? 'nothing doubled, lost, out of order or stuck; the control was found out' : 'NOT GOOD')
  }
  return report.ok ? 0 : 1
}

function say(title: string, report: RunReport): void {
  const { counts, recovery } = report
  write(`\n${title}: ${String(report.steps)} steps, ${String(report.orders)} orders, ${String(report.faultsTotal)} faults ${JSON.stringify(report.faults)} in ${String(report.seconds)} s`)
  write(`  ${JSON.stringify(counts)}; stale writes refused: ${String(report.staleWritesRefused)}; lease operations: ${String(report.leaseOperations)} on ${String(report.leaseKeys)} keys (median ${String(report.leaseOperationsPerKey.median)})`)
  write(`  recovery with leases of ${String(report.leaseMs)} ms: n ${String(recovery.n)}, p50 ${String(recovery.p50)}, p95 ${String(recovery.p95)}, max ${String(recovery.max)} ms, ${String(recovery.withinTwiceTheLease)} within twice the lease; across a crash of the server: ${JSON.stringify(recovery.acrossServerCrash)}`)
  for (const { kind, key, message } of report.anomalies.slice(0, 20)) write(`  ${kind}: ${key}: ${message}`)
  write(`  ${JSON.stringify(report.reached)} ${report.parkedBecause.join(' | ')}`)
  for (const what of report.stuck) write(`  stuck: ${what}`)
  for (const what of report.endedByThemselves.slice(0, 5)) write(`  ended by itself: ${what}`)
}

/** At most so many anomalies are written out; the counts count all. */
function shown(report: RunReport): RunReport {
  return { ...report, anomalies: report.anomalies.slice(0, 20), endedByThemselves: report.endedByThemselves.slice(0, 20) }
}

function anomaliesOf({ counts }: RunReport): number {
  return Object.values(counts).reduce((total, each) => total + each, 0)
}

function isGood(report: RunReport): boolean {
  return anomaliesOf(report) === 0 && report.stuck.length === 0
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return 'unknown'
  }
}

function parseArguments(args: readonly string[]): Arguments {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        'minutes': { type: 'string', default: '30' }, 'steps': { type: 'string' }, 'control-seconds': { type: 'string', default: '60' }, 'instances': { type: 'string', default: '4' },
        'backlog': { type: 'string', default: '96' }, 'seed': { type: 'string', default: '4' }, 'calm': { type: 'boolean', default: false }, 'out': { type: 'string' }, 'json': { type: 'boolean', default: false }, 'help': { type: 'boolean', default: false },
      },
    })
    if (values.help) {
      write(USAGE)
      process.exit(0)
    }
    const number = (name: string, text: string, min: number): number => {
      const value = Number(text)
      if (!Number.isFinite(value) || value < min) throw new RangeError(`${name}: expected a number from ${String(min)}, got ${text}`)
      return value
    }
    return {
      minutes: number('--minutes', values.minutes, 0.1), steps: values.steps === undefined ? undefined : number('--steps', values.steps, 1), controlSeconds: number('--control-seconds', values['control-seconds'], 0),
      instances: number('--instances', values.instances, 2), backlog: number('--backlog', values.backlog, 1), seed: number('--seed', values.seed, 0), calm: values.calm, out: values.out, json: values.json,
    }
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${USAGE}\n`)
    process.exit(64)
  }
}
