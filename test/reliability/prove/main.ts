/**
 * `npm run prove`: the long run behind docs/reliability.md. `--help` says the rest.
 *
 * Exit code 0: no anomaly, and every control found harm. 1: not so. 64: wrong options. 130: ended; the next run goes on.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { FLOWS } from '../flows/index.ts'
import type { KillPlan } from '../kill/plan.ts'
import { KillRig } from '../kill/rig.ts'
import { embeddedKillStore, postgresKillStore } from '../kill/stores.ts'
import { added, recoveryOf, type Figures, type Reliability, type Section } from './figures.ts'
import { runParts } from './parts.ts'
import { PLANS, QUICK_DIVISOR, SEED_STEP, type SectionPlan } from './plan.ts'
import { rendered } from './render.ts'

const USAGE = `usage: npm run prove -- [options]
  --only A,B     of ${PLANS.map(plan => plan.name).join(', ')}; default: all
  --quick        a hundredth of everything, nothing is written to docs/
  --count N      instead of the full count of each section (for one section)
  --at-once N    parts that run at the same time
  --seed N       default 1
  --anew         forgets what earlier runs of the same commit and seed have done
  --replay postgres|embedded --plan '{"flow":...,"kills":[...]}'   one kill plan again, as printed with a violation
Full counts: ${PLANS.map(plan => `${plan.name} ${String(plan.count)} ${plan.unit}`).join(', ')}.
Writes docs/reliability.json, section by section, and docs/reliability.md.`

const ROOT = resolve(import.meta.dirname, '../../..')
const JSON_FILE = join(ROOT, 'docs/reliability.json')
const MD_FILE = join(ROOT, 'docs/reliability.md')
const STATE_DIR = join(ROOT, 'node_modules/.cache/holdfast-prove')

const say = (line: string): void => { process.stdout.write(`${line}\n`) }

class UsageError extends Error {}

interface Arguments {
  readonly plans: readonly SectionPlan[]
  readonly quick: boolean
  readonly seed: number
  readonly anew: boolean
  readonly replay: { readonly store: 'postgres' | 'embedded'; readonly plan: KillPlan } | undefined
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`prove: ${error.message}\n${USAGE}\n`)
  process.exitCode = 64
}

async function main(args: readonly string[]): Promise<number> {
  const given = parseArguments(args)
  if (given === 'help') {
    say(USAGE)
    return 0
  }
  if (given.replay !== undefined) return replay(given.replay.store, given.replay.plan)
  const ended = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { ended.abort() })
  const commit = commitNow()
  const dir = join(STATE_DIR, given.quick ? 'quick' : 'full')
  if (given.anew) rmSync(dir, { recursive: true, force: true })
  let good = true
  for (const plan of given.plans) {
    const parts = await runParts({ plan, seed: given.seed, commit, dir, signal: ended.signal, say })
    const section = sectionOf(parts, commit, given.seed)
    good &&= section.anomalies === 0 && Object.values(section.control).every(found => found !== 'not found')
    say(`${plan.name}: ${String(section.count)} ${plan.unit}, ${String(section.anomalies)} anomalies; ${JSON.stringify(section.control)}`)
    if (!given.quick && parts.length > 0) publish({ ...published(), sections: { ...published().sections, [plan.name]: section } })
    if (ended.signal.aborted) return 130
  }
  return good ? 0 : 1
}

function sectionOf(parts: readonly Figures[], commit: string, seed: number): Section {
  const { recoveriesMs, seconds, ...figures } = added(parts)
  const recovery = recoveryOf(recoveriesMs)
  return {
    commit, date: new Date().toISOString().slice(0, 10), node: process.versions.node, cpus: cpus().length, seeds: { first: seed, parts: parts.length, step: SEED_STEP },
    ...figures, ...(recovery === undefined ? {} : { recovery }), seconds: Math.round(seconds),
  }
}

function published(): Reliability {
  try {
    return JSON.parse(readFileSync(JSON_FILE, 'utf8')) as Reliability
  } catch {
    // The first run.
    return { sections: {} }
  }
}

function publish(reliability: Reliability): void {
  writeFileSync(JSON_FILE, `${JSON.stringify(reliability, null, 2)}\n`)
  writeFileSync(MD_FILE, rendered(reliability))
}

function commitNow(): string {
  const git = (...args: readonly string[]): string => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim()
  // What was tried is then not what the commit says.
  const changed = git('status', '--porcelain', '--', 'src', 'test', 'package-lock.json') !== ''
  return `${git('rev-parse', '--short=12', 'HEAD')}${changed ? '+changes' : ''}`
}

async function replay(store: 'postgres' | 'embedded', plan: KillPlan): Promise<number> {
  const flow = FLOWS.find(each => each.name === plan.flow)
  if (flow === undefined) throw new UsageError(`--plan: no flow is called ${plan.flow}; they are ${FLOWS.map(each => each.name).join(', ')}`)
  const rig = new KillRig(1)
  try {
    await rig.open(store === 'postgres' ? postgresKillStore : embeddedKillStore)
    const seen = await rig.iterate(flow, plan)
    say(`died at: ${seen.diedAt.join(', ')}; violations: ${JSON.stringify(seen.violations)}`)
    return seen.violations.length === 0 ? 0 : 1
  } finally {
    await rig.close()
  }
}

function parseArguments(args: readonly string[]): Arguments | 'help' {
  let values
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        'help': { type: 'boolean' }, 'only': { type: 'string' }, 'quick': { type: 'boolean' }, 'count': { type: 'string' }, 'at-once': { type: 'string' }, 'seed': { type: 'string' },
        'anew': { type: 'boolean' }, 'replay': { type: 'string' }, 'plan': { type: 'string' },
      },
    }))
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
  if (values.help === true) return 'help'
  const names = values.only?.split(',') ?? PLANS.map(plan => plan.name)
  const quick = values.quick === true
  const plans = names.map(name => {
    const plan = PLANS.find(each => each.name === name)
    if (plan === undefined) throw new UsageError(`--only: no section is called ${name}`)
    const count = values.count === undefined ? Math.ceil(plan.count / (quick ? QUICK_DIVISOR : 1)) : whole('--count', values.count)
    return { ...plan, count, part: Math.min(plan.part, count), atOnce: values['at-once'] === undefined ? plan.atOnce : whole('--at-once', values['at-once']) }
  })
  return { plans, quick, seed: whole('--seed', values.seed ?? '1'), anew: values.anew === true, replay: replayOf(values.replay, values.plan) }
}

function replayOf(store: string | undefined, plan: string | undefined): Arguments['replay'] {
  if (store === undefined && plan === undefined) return undefined
  if ((store !== 'postgres' && store !== 'embedded') || plan === undefined) throw new UsageError('--replay needs postgres or embedded, and --plan')
  return { store, plan: JSON.parse(plan) as KillPlan }
}

function whole(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new UsageError(`${name}: expected a whole number from 1, got ${text}`)
  return value
}
