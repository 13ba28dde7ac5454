/**
 * `npm ci` ends here: builds what `npm start` runs, so that a newcomer needs no further step.
 *
 * Types are not checked here (the tests do that); a build that only strips types takes seconds. Each step says what
 * it does and how long it took, and a failure names the step.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const tsc = resolve(root, 'node_modules/typescript/bin/tsc')
const vite = resolve(root, 'node_modules/vite/bin/vite.js')

// Installed as a dependency of somebody else's program: everything is built already.
if (!existsSync(tsc) || !existsSync(vite)) process.exit(0)

const steps = [
  ['library', [tsc, '-p', 'tsconfig.build.json', '--noCheck']],
  ['simulators', [tsc, '-p', 'simulators/tsconfig.build.json', '--noCheck']],
  ['vpn-bot', [tsc, '-p', 'examples/vpn-bot/tsconfig.build.json', '--noCheck']],
  ['console', [vite, 'build', '--config', 'web/vite.config.ts', '--logLevel', 'warn']],
  ['embedded database template', ['scripts/build-template.mjs']],
]

for (const [name, command] of steps) {
  const begun = Date.now()
  const result = spawnSync(process.execPath, command, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
  if (result.status !== 0) {
    console.error(`holdfast: building the ${name} failed (node ${command.join(' ')}); the output above says why`)
    process.exit(result.status ?? 1)
  }
  console.log(`holdfast: built the ${name} in ${((Date.now() - begun) / 1000).toFixed(1)} s`)
}
