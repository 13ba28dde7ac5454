/**
 * Real processes, killed by SIGKILL on the embedded database in a directory.
 *
 * Which points have their turn moves on each day; `npm run prove -- --only embedded` does hundreds.
 */
import { describe, expect, it } from 'vitest'
import { FLOWS } from '../flows/index.ts'
import { KILL_CONTROLS, killControls, killRun } from './run.ts'
import { embeddedKillStore } from './stores.ts'

const KILLS = 20
const seed = Math.floor(Date.now() / 86_400_000)

describe(`processes that are killed on the embedded database (seed ${String(seed)})`, () => {
  it('leave nothing done twice and nothing undone, whichever point they died at', async () => {
    const figures = await killRun({ store: embeddedKillStore, flows: FLOWS, seed, kills: KILLS })
    expect(figures.violations).toEqual([])
    expect(figures.kills).toBeGreaterThanOrEqual(KILLS)
    expect(Object.keys(figures.killsByFlow).length).toBeGreaterThanOrEqual(10)
    expect(figures.points).toBeGreaterThanOrEqual(KILLS * 0.7)
  }, 600_000)

  it('do harm where a protection is taken away, and only by their death', async () => {
    const [control] = KILL_CONTROLS
    const found = await killControls(embeddedKillStore, FLOWS, control === undefined ? [] : [control], seed)
    expect(found.map(each => each.quiet)).toEqual([[]])
    expect(found[0]?.harm.join()).toMatch(/pay: 2 effects/)
  }, 300_000)
})
