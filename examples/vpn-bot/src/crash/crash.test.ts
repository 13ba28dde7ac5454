import { realEnv } from 'holdfast/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testPostgres } from '../../../../test/postgres.ts'
import { TELEGRAM_PATH } from '../app.ts'
import { ensureBuilt } from './built.ts'
import { browse, buy, openOutside, SECRET } from './outside.ts'
import { startProgram } from './program.ts'
import type { Control } from './protocol.ts'
import { crashRun, rest } from './rig.ts'
import { embeddedStores, postgresStores, type RunStores } from './stores.ts'
import { sweep, type SweepReport } from './sweep.ts'

/**
 * Real processes, real time: on two quiet cores a run takes 3 s on PostgreSQL and 6 s on the embedded database, and there are about
 * 60 points in a purchase by card and 50 in one by crypto. All of them in both ways on both stores are
 * `node scripts/example.mjs crash vpn-bot --store postgres` (or embedded); here, what fits into a test run.
 */
const env = realEnv()
/** Moves on each day, so that every point has its turn: by card on PostgreSQL within four days, by crypto within six, on the embedded database within eight. */
const today = Math.floor(env.now() / 86_400_000)
const SWEEP_MS = 900_000

let postgresRuns: RunStores
let embeddedRuns: RunStores
let url: () => Promise<string>
beforeAll(async () => {
  await ensureBuilt(env)
  const server = await testPostgres()
  url = () => server.url()
  postgresRuns = postgresStores(env, url)
  embeddedRuns = embeddedStores(env)
}, 180_000)
afterAll(async () => { await embeddedRuns.close() })

function expectSound(report: SweepReport, runsMin: number): void {
  expect(report.broken).toEqual([])
  expect(report.died).toBeGreaterThanOrEqual(runsMin)
  // What two tasks do at once has no fixed order; a point that never comes up again is rare, and said.
  expect(report.missed.length, `not reached: ${report.missed.join(', ')}`).toBeLessThanOrEqual(3)
}

describe('a process that is killed at any point of a purchase and started again', () => {
  it('ends with one charge, one subscription, one key, at most one delivery and an answer to /key (by card, PostgreSQL, a quarter of the points)', async () => {
    expectSound(await sweep({ env, stores: postgresRuns, way: 'card', every: 4, offset: today }), 12)
  }, SWEEP_MS)

  it('ends the same way by crypto (PostgreSQL, a sixth of the points)', async () => {
    expectSound(await sweep({ env, stores: postgresRuns, way: 'crypto', every: 6, offset: today }), 6)
  }, SWEEP_MS)

  it('ends the same way on the embedded database (by card, an eighth of the points)', async () => {
    expectSound(await sweep({ env, stores: embeddedRuns, way: 'card', every: 8, offset: today, atOnce: 2 }), 6)
  }, SWEEP_MS)
})

describe('with a protection taken away', () => {
  const controls: readonly (readonly [without: Control, dieAt: string, harm: RegExp])[] = [
    ['panel-names', 'panel:POST /api/user#1:after', /keys on the panel: 2/],
    ['sending-marks', 'telegram:sendMessage#2:after', /delivered 2 times/],
    ['once-keys', 'once.write#1:after', /on record twice|payments on record: 2/],
  ]
  // Beside each other: what is broken stays broken, and is waited for in vain.
  it.concurrent.each(controls)('(%s) the same kill does harm, and without a kill there is none', async (without, dieAt, harm) => {
    const slot = controls.findIndex(([name]) => name === without)
    const run = async (options: { readonly dieAt?: string }) => crashRun({ env, way: 'card', seed: 1, without, store: await postgresRuns.fresh(slot), restWithinMs: 12_000, ...options })
    expect((await run({})).broken).toEqual([])
    const killed = await run({ dieAt })
    expect(killed.died).toBe(true)
    expect(killed.broken.join('\n')).toMatch(harm)
  }, 120_000)
})

describe('two processes on one PostgreSQL', () => {
  it('do once what 100 posts of the same payment at once, spread over both, ask for', async () => {
    const outside = await openOutside(env, 1)
    const other = await openOutside(env, 2)
    const store = { kind: 'postgres', url: await url() } as const
    const first = await startProgram(env, { port: outside.port, store, config: outside.config })
    const second = await startProgram(env, { port: other.port, store, config: outside.config })
    try {
      await browse(env, outside)
      // The news of the payment is lost: nobody has heard of it when it comes a hundred times.
      outside.telegram.faults.add({ match: { operation: 'webhook:message' }, fault: { kind: 'drop-before' } })
      await buy(env, outside, 'card')
      outside.telegram.faults.clear()
      const payment = outside.telegram.ledger.entries('webhook:message').at(-1)?.args as Parameters<typeof outside.telegram.post>[0]
      expect(payment).toHaveProperty('message.successful_payment')
      const posts = Array.from({ length: 100 }, (_, index) => {
        const port = index % 2 === 0 ? outside.port : other.port
        return outside.telegram.post(payment, { url: `http://127.0.0.1:${String(port)}${TELEGRAM_PATH}`, secretToken: SECRET })
      })
      expect(new Set((await Promise.all(posts)).map(answer => answer.status))).toEqual(new Set([200]))
      expect(await rest(env, outside, first, {})).toEqual([])
      expect(await rest(env, outside, second, {})).toEqual([])
      expect(outside.deliveries()).toBe(1)
      expect(outside.panel.ledger.entries('createUser').filter(entry => entry.applied)).toHaveLength(1)
      expect([first.ended, second.ended]).toEqual([undefined, undefined])
    } finally {
      await first.kill()
      await second.kill()
      await outside.close()
      await other.close()
    }
  }, 60_000)
})
