/**
 * One crash run: a purchase during which the program dies at one point, is started again, and must come to rest with
 * exactly one charge, one subscription, one key and at most one delivery.
 */
import type { Env } from 'holdfast/core'
import { panelUsername } from '../shop/ids.ts'
import { brokenInvariants } from '../shop/invariants.ts'
import { browse, buy, openOutside, type Outside, patiently, type Way } from './outside.ts'
import { type Program, startProgram } from './program.ts'
import type { ChildSettings, Control, Look } from './protocol.ts'

export interface RunOptions {
  readonly env: Env
  readonly store: ChildSettings['store']
  readonly way: Way
  readonly seed: number
  /** Without one the purchase goes through undisturbed, and tells which points there are. */
  readonly dieAt?: string
  readonly without?: Control
  /** How long everything may take to come to rest after the second start. */
  readonly restWithinMs?: number
}

export interface RunReport {
  /** Points that were passed before the death, in order. */
  readonly points: readonly string[]
  /** False: the purchase was over before the point came, and nothing died. */
  readonly died: boolean
  /** Broken promises; empty is what everybody wants. */
  readonly broken: readonly string[]
  /** Warnings and errors that the programs logged. */
  readonly log: readonly string[]
  readonly tookMs: number
}

const REST_WITHIN_MS = 20_000
const LOOK_EVERY_MS = 150
const HURRY_EVERY = 4

export async function crashRun(options: RunOptions): Promise<RunReport> {
  const { env, store, way, dieAt, without } = options
  const beganAt = env.monotonic()
  const outside = await openOutside(env, options.seed)
  const settings: ChildSettings = { port: outside.port, store, config: outside.config, ...(without === undefined ? {} : { without }) }
  const started: Program[] = []
  try {
    const victim = await startProgram(env, { ...settings, ...(dieAt === undefined ? {} : { dieAt }) })
    started.push(victim)
    await browse(env, outside)
    victim.tell({ type: 'arm' })
    const bought = buy(env, outside, way).then(() => undefined, (error: unknown) => (error instanceof Error ? error.message : String(error)))
    let current = victim
    if (dieAt !== undefined) {
      const died = await Promise.race([victim.gone.then(() => true), wholePurchase(env, outside, bought)])
      if (!died) return { points: victim.points, died: false, broken: [], log: victim.log, tookMs: env.monotonic() - beganAt }
      if (victim.ended !== 'SIGKILL') throw new Error(`the program ended by itself (${String(victim.ended)}) and not at ${dieAt}`)
      current = await startProgram(env, settings)
      started.push(current)
    }
    const failed = await bought
    const broken = failed === undefined ? await rest(env, outside, current, options) : [`the customer gave up: ${failed}`]
    const points = [...victim.points]
    if (broken.length === 0) broken.push(...await keyAnswers(env, outside))
    return { points, died: dieAt !== undefined, broken, log: started.flatMap(program => program.log), tookMs: env.monotonic() - beganAt }
  } finally {
    for (const program of started) await program.kill()
    await outside.close()
  }
}

/** False when the purchase is over and some time has passed: the point does not come any more. */
async function wholePurchase(env: Env, outside: Outside, bought: Promise<unknown>): Promise<boolean> {
  await bought
  for (let waited = 0; waited < 5_000 && outside.deliveries() === 0; waited += LOOK_EVERY_MS) await env.sleep(LOOK_EVERY_MS)
  await env.sleep(1_500)
  return false
}

/** Waits until nothing is left to do, then judges. What is still broken at the end of the time is broken. */
export async function rest(env: Env, outside: Outside, program: Program, options: Pick<RunOptions, 'restWithinMs' | 'without'>): Promise<string[]> {
  const deadline = env.monotonic() + (options.restWithinMs ?? REST_WITHIN_MS)
  let broken = ['nothing was seen']
  for (let turn = 0; env.monotonic() < deadline; turn += 1) {
    const seen = await program.look()
    if (seen === undefined) return [`the program that was started again ended (${program.ended ?? 'it does not answer'})`]
    broken = [...(seen.open === 0 && outside.telegram.pendingUpdates === 0 ? [] : [`${String(seen.open)} pieces of work are open, ${String(outside.telegram.pendingUpdates)} updates wait`]), ...judge(seen, outside, options.without)]
    if (broken.length === 0) return []
    if (turn % HURRY_EVERY === HURRY_EVERY - 1) program.tell({ type: 'hurry' })
    await env.sleep(LOOK_EVERY_MS)
  }
  return broken
}

function judge(seen: Look, outside: Outside, without: Control | undefined): readonly string[] {
  const { snapshot, stuck } = seen
  const counts: readonly (readonly [what: string, count: number])[] = [
    ['charges', outside.charges().length],
    ['payments on record', snapshot.payments.length],
    ['active subscriptions', snapshot.subscriptions.filter(item => item.status === 'active').length],
    ['keys on the panel', outside.panel.keys().length],
  ]
  // Under names of its own the panel's users are counted and not compared: else the control would be red without a death.
  const panelUsers = without === 'panel-names' ? snapshot.subscriptions.filter(item => item.status === 'active').map(panelUsername) : outside.panel.keys().map(user => user.username)
  const deliveries = outside.deliveries()
  return [
    ...counts.filter(([, count]) => count !== 1).map(([what, count]) => `${what}: ${String(count)}, not 1`),
    ...(deliveries > 1 ? [`the key was delivered ${String(deliveries)} times`] : []),
    ...stuck.map(what => `waits for a person: ${what}`),
    ...brokenInvariants(snapshot, { atRest: true, outside: { charges: outside.charges(), panelUsers } }),
  ]
}

/** Whatever became of the message: who asks gets the key that is on the panel. */
async function keyAnswers(env: Env, outside: Outside): Promise<readonly string[]> {
  const { anna, panel } = outside
  const link = panel.keys()[0]?.links[0] ?? ''
  const known = anna.inbox.length
  const answered = (): boolean => anna.inbox.slice(known).some(message => message.text.includes(link))
  try {
    await patiently(env, 'an answer to /key with the key on the panel', () => { anna.command('/key') }, answered, 2)
    return []
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
}
