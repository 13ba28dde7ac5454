/**
 * `npm run power-loss -- 240 [seed]`: the power goes at that many points of a recorded run of the embedded store (about a second each);
 * after each it is opened again and must have every commit that was acknowledged. The test run does the same at a few points.
 */
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const [points = '240', seed = '1'] = process.argv.slice(2)
if (![points, seed].every(given => /^[1-9]\d*$/.test(given))) {
  console.error('usage: npm run power-loss -- POINTS [SEED], both whole and positive')
  process.exit(64)
}
const { status } = spawnSync(process.execPath, [resolve(root, 'node_modules/vitest/vitest.mjs'), 'run', 'src/store/embedded/power-loss.test.ts'], {
  cwd: root, stdio: 'inherit', env: { ...process.env, HOLDFAST_POWER_POINTS: points, HOLDFAST_SEED: seed },
})
process.exit(status ?? 1)
