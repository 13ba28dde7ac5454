/**
 * `npm test`: types, lint, every test; the last line is the runner's own count.
 *
 * `npm test -- src/guard` runs only the tests whose path holds that text (types and lint are skipped then).
 * What a test needs beside npm packages (Chromium, PgBouncer) is installed by scripts/install-*.mjs where possible.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const only = process.argv.slice(2)

/** Runs one step with its output shown, and says how long it took. */
function step(name, args) {
  const begun = Date.now()
  console.log(`\n== ${name}`)
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
  console.log(`== ${name}: ${status === 0 ? 'ok' : 'FAILED'} in ${((Date.now() - begun) / 1000).toFixed(1)} s`)
  return status === 0
}

const bin = path => resolve(root, 'node_modules', path)
const failures = []
if (only.length === 0) {
  if (!step('types', [bin('typescript/bin/tsc'), '-p', 'tsconfig.json'])) failures.push('types')
  if (!step('types of the console', [bin('typescript/bin/tsc'), '-p', 'web/tsconfig.json'])) failures.push('types of the console')
  if (!step('lint', [bin('eslint/bin/eslint.js'), '.', '--max-warnings', '0'])) failures.push('lint')
  if (!step('browser', ['scripts/install-chromium.mjs'])) failures.push('browser')
  if (!step('pooler', ['scripts/install-pgbouncer.mjs'])) failures.push('pooler')
}

const report = join(mkdtempSync(join(tmpdir(), 'holdfast-test-')), 'report.json')
const ok = step('tests', [bin('vitest/vitest.mjs'), 'run', '--reporter=default', '--reporter=json', `--outputFile=${report}`, ...only])
let count = { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numTotalTests: 0 }
try {
  count = JSON.parse(readFileSync(report, 'utf8'))
} catch {
  failures.push('tests (the runner left no report)')
}
rmSync(resolve(report, '..'), { recursive: true, force: true })
if (!ok && count.numFailedTests === 0) failures.push('tests (outside a test: see the output above)')

if (failures.length > 0) console.log(`\nfailed: ${failures.join(', ')}`)
// A step that failed is a failure of the run, so it is counted as one.
const failed = count.numFailedTests + failures.length
const skipped = count.numPendingTests > 0 ? `, ${count.numPendingTests} skipped` : ''
console.log(`${count.numPassedTests} passed, ${failed} failed${skipped}`)
process.exit(failed === 0 ? 0 : 1)
