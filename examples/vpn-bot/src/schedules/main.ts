/**
 * `npm run schedules -- vpn-bot --count 10000 --seed 1`: purchases under seeded crash schedules, in simulation.
 *
 * All single kills first, then mixtures. On the first failure it is made small, and one line says how to see it again.
 * Exit code 0 when nothing broke and everything that has to be reached was; 1 otherwise; 64 for wrong usage.
 */
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { messageOf, realEnv } from 'holdfast/core'
import { CONTROLS, type Control } from '../drill/without.ts'
import { type Plan, planOf } from './plan.ts'
import { runSchedule } from './run.ts'
import { type Found, mixtures, REACHES_AFTER, shrink, singleKills, together } from './search.ts'
import type { Share } from './thread.ts'

/** Small enough for a thread to end before it has gathered much. */
const SHARE = 500

const USAGE = `usage: npm run schedules -- vpn-bot [options]
  --count N          seeded mixtures, beside all single kills (default 1000)
  --seed N           the first one's number (default 1); alone: only this one, in detail
  --plan JSON        one schedule as it was printed
  --without CONTROL  takes a protection away and counts until harm is found: ${CONTROLS.join(', ')}
  --json             one object on standard output`

const out = (text: string): void => { process.stdout.write(`${text}\n`) }
const number = (name: string, text: string | undefined, otherwise: number): number => {
  const value = Number(text ?? String(otherwise))
  if (!Number.isInteger(value) || value < 0) throw new RangeError(`--${name}: expected a whole number, got ${JSON.stringify(text)}`)
  return value
}

async function one(plan: Plan, without: Control | undefined): Promise<number> {
  const { broken, reached, operations, tookMs } = await runSchedule(plan, { without })
  out(JSON.stringify(plan, undefined, 2))
  out(`${String(operations)} operations in ${String(Math.round(tookMs / 1_000))} simulated seconds`)
  for (const state of reached) out(`  reached: ${state}`)
  for (const sentence of broken) out(`  ✗ ${sentence}`)
  out(broken.length === 0 ? '✓ every promise held' : '✗ broken')
  return broken.length === 0 ? 0 : 1
}

/** In shares of `SHARE`, as many at a time as there are cores; ends after the first share with a failure. */
async function inThreads(plans: readonly Plan[], without: Control | undefined, progress: (done: number) => void): Promise<Found> {
  const program = new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url)
  const shares = Array.from({ length: Math.ceil(plans.length / SHARE) }, (_, index) => plans.slice(index * SHARE, (index + 1) * SHARE))
  const parts: Found[] = []
  const lane = async (): Promise<void> => {
    for (let share = shares.shift(); share !== undefined && !parts.some(part => part.failures.length > 0); share = shares.shift()) {
      const workerData: Share = { plans: share, without }
      const thread = new Worker(program, { workerData })
      const [part] = await once(thread, 'message') as [Found]
      await thread.terminate()
      parts.push(part)
      progress(parts.reduce((sum, each) => sum + each.schedules, 0))
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, lane))
  return together(parts)
}

async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { count: { type: 'string' }, seed: { type: 'string' }, plan: { type: 'string' }, without: { type: 'string' }, json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } })
  if (values.help === true) {
    out(USAGE)
    return 0
  }
  const without = CONTROLS.find(control => control === values.without)
  if (values.without !== undefined && without === undefined) throw new RangeError(`--without: expected one of ${CONTROLS.join(', ')}, got ${JSON.stringify(values.without)}`)
  const seed = number('seed', values.seed, 1)
  if (values.plan !== undefined) return one(JSON.parse(values.plan) as Plan, without)
  if (values.seed !== undefined && values.count === undefined) return one(planOf(seed), without)

  const env = realEnv()
  const began = env.monotonic()
  const count = number('count', values.count, 1_000)
  const kills = [...await singleKills('card'), ...await singleKills('crypto')]
  const say = values.json === true ? () => undefined : out
  say(`${String(kills.length)} single kills, then ${String(count)} mixtures from seed ${String(seed)}${without === undefined ? '' : `, without ${without}`}`)
  const found = await inThreads([...kills, ...mixtures(seed, count)], without, done => { say(`  ${String(done)} schedules`) })
  const seconds = (env.monotonic() - began) / 1_000
  // The simplest of them says most.
  const [failure] = [...found.failures].sort((a, b) => a.plan.troubles.length - b.plan.troubles.length)
  const missed = found.schedules >= REACHES_AFTER && failure === undefined ? found.missed : []
  if (values.json === true) {
    out(JSON.stringify({ schedules: 'vpn-bot', ran: found.schedules, operations: found.operations, seconds, reached: Object.fromEntries(found.reached), missed, failures: found.failures }, undefined, 2))
  } else {
    for (const [state, times] of [...found.reached].sort((a, b) => b[1] - a[1])) out(`  ${String(times).padStart(6)} ${state}`)
    for (const state of missed) out(`  ✗ never reached: ${state}`)
    out(`${String(found.schedules)} schedules, ${String(found.operations)} operations in ${seconds.toFixed(1)} s (${(found.schedules / seconds).toFixed(0)}/s)`)
  }
  if (failure !== undefined) {
    const small = await shrink(failure.plan, { without })
    const control = without === undefined ? '' : ` --without ${without}`
    say(`✗ broken after ${String(found.schedules)} schedules:`)
    for (const sentence of failure.broken) say(`    ${sentence}`)
    say(`  as it was:  npm run schedules -- vpn-bot --plan '${JSON.stringify(failure.plan)}'${control}`)
    say(`  made small: npm run schedules -- vpn-bot --plan '${JSON.stringify(small)}'${control}`)
  } else if (missed.length === 0) {
    say('✓ every promise held')
  }
  return failure === undefined && missed.length === 0 ? 0 : 1
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`${messageOf(error)}\n${USAGE}\n`)
  process.exitCode = 64
}
