/**
 * Real processes, killed by SIGKILL on a real PostgreSQL.
 *
 * Which points have their turn moves on each day; `npm run prove -- --only postgres` does thousands.
 */
import { describe, expect, it } from 'vitest'
import { FLOWS } from '../flows/index.ts'
import { KILL_CONTROLS, killControls, killRun } from './run.ts'
import { postgresKillStore } from './stores.ts'

const KILLS = 40
const seed = Math.floor(Date.now() / 86_400_000)

describe(`processes that are killed on PostgreSQL (seed ${String(seed)})`, () => {
  it('leave nothing done twice and nothing undone, whichever point they died at', async () => {
    const figures = await killRun({ store: postgresKillStore, flows: FLOWS, seed, kills: KILLS })
    expect(figures.violations).toEqual([])
    expect(figures.kills).toBeGreaterThanOrEqual(KILLS)
    expect(Object.keys(figures.killsByFlow).length).toBeGreaterThanOrEqual(FLOWS.length - 2)
    expect(figures.points).toBeGreaterThanOrEqual(KILLS * 0.7)
    for (const state of ['saga.resumed', 'once.settled', 'lease.acquired', 'outbox.sent', 'inbox.done', 'worker.iteration']) expect(figures.reached).toHaveProperty([state])
  }, 600_000)

  it('do harm where a protection is taken away, and only by their death', async () => {
    const found = await killControls(postgresKillStore, FLOWS, KILL_CONTROLS, seed)
    expect(found.filter(control => control.quiet.length > 0)).toEqual([])
    expect(found.filter(control => control.harm.length === 0)).toEqual([])
    expect(found).toHaveLength(KILL_CONTROLS.length)
  }, 300_000)
})
