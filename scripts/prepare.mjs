/**
 * `npm ci` ends here: builds what `npm start` runs, so that a newcomer needs no further step.
 *
 * Types are not checked here (the tests do that); a build that only strips types takes seconds. Each step says what
 * it does and how long it took, and a failure names the step. A step whose sources have not changed since it was built
 * is left out: `npx holdfast` makes npm run this script each time, because it stands in the package itself.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const tsc = resolve(root, 'node_modules/typescript/bin/tsc')
const vite = resolve(root, 'node_modules/vite/bin/vite.js')

// Installed as a dependency of somebody else's program: everything is built already.
if (!existsSync(tsc) || !existsSync(vite)) process.exit(0)

/** What is built, from which sources, where the result is seen, and by which command. */
const STEPS = [
  { name: 'library', sources: ['src', 'tsconfig.base.json', 'tsconfig.build.json'], result: 'dist/index.js', command: [tsc, '-p', 'tsconfig.build.json', '--noCheck'] },
  { name: 'simulators', sources: ['simulators', 'src/core'], result: 'simulators/dist/main.js', command: [tsc, '-p', 'simulators/tsconfig.build.json', '--noCheck'] },
  { name: 'vpn-bot', sources: ['examples/vpn-bot', 'src/index.ts'], result: 'examples/vpn-bot/dist/main.js', command: [tsc, '-p', 'examples/vpn-bot/tsconfig.build.json', '--noCheck'] },
  { name: 'console', sources: ['web', 'src/operate/api.ts'], result: 'dist/web/index.html', command: [vite, 'build', '--config', 'web/vite.config.ts', '--logLevel', 'warn'] },
  { name: 'embedded database template', sources: ['scripts/build-template.mjs', 'src/store/embedded', 'node_modules/@electric-sql/pglite/package.json'], result: 'dist/embedded-template.tar.gz', command: ['scripts/build-template.mjs'] },
]

const quiet = process.argv.includes('--quiet')
const stampFile = resolve(root, 'dist/built.json')
const stamps = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, 'utf8')) : {}

for (const { name, sources, result, command } of STEPS) {
  const stamp = stampOf(sources)
  if (stamps[name] === stamp && existsSync(resolve(root, result))) continue
  const begun = Date.now()
  const { status } = spawnSync(process.execPath, command, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) {
    console.error(`holdfast: building the ${name} failed (node ${command.join(' ')}); the output above says why`)
    process.exit(status ?? 1)
  }
  if (!quiet) console.log(`holdfast: built the ${name} in ${((Date.now() - begun) / 1000).toFixed(1)} s`)
  stamps[name] = stamp
  mkdirSync(resolve(root, 'dist'), { recursive: true })
  writeFileSync(stampFile, JSON.stringify(stamps))
}

/** Names, sizes and times of all source files; one that changed makes another stamp. */
function stampOf(sources) {
  const hash = createHash('sha256')
  const add = path => {
    const entry = statSync(path)
    if (!entry.isDirectory()) {
      hash.update(`${path} ${entry.size} ${entry.mtimeMs}\n`)
      return
    }
    for (const child of readdirSync(path).sort()) if (child !== 'node_modules' && child !== 'dist') add(join(path, child))
  }
  for (const source of sources) add(resolve(root, source))
  return hash.digest('hex')
}
