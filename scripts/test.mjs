/**
 * `npm test`: types, lint, every test; the last line is the runner's own count.
 *
 * `npm test -- src/guard` runs only the tests whose path holds that text (types and lint are skipped then).
 * What a test needs beside npm packages (Chromium, PgBouncer) is installed by scripts/install-*.mjs where possible.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const only = process.argv.slice(2)

/** Runs one step with its output shown, and says how long it took. */
async function step(name, args) {
  const begun = Date.now()
  console.log(`\n== ${name}`)
  const status = await ended(spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }))
  return said(name, status, begun)
}

/** Runs one step beside others: its output is shown whole when it has ended. */
async function stepBeside(name, args) {
  const begun = Date.now()
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  const output = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => output.push(chunk))
  const status = await ended(child)
  process.stdout.write(`\n== ${name}\n${Buffer.concat(output).toString()}`)
  return said(name, status, begun)
}

function ended(child) {
  return new Promise((resolve, reject) => { child.on('error', reject).on('close', resolve) })
}

function said(name, status, begun) {
  console.log(`== ${name}: ${status === 0 ? 'ok' : 'FAILED'} in ${((Date.now() - begun) / 1000).toFixed(1)} s`)
  return status === 0
}

const bin = path => resolve(root, 'node_modules', path)
const failures = []
if (only.length === 0) {
  const failing = async (name, args) => { if (!await stepBeside(name, args)) failures.push(name) }
  const types = async () => {
    await failing('types', [bin('typescript/bin/tsc'), '-p', 'tsconfig.json'])
    await failing('types of the console', [bin('typescript/bin/tsc'), '-p', 'web/tsconfig.json'])
  }
  const lint = () => failing('lint', [bin('eslint/bin/eslint.js'), '.', '--max-warnings', '0'])
  // One after the other: both may have to wait for the same package manager.
  const programs = async () => {
    await failing('browser', ['scripts/install-chromium.mjs'])
    await failing('pooler', ['scripts/install-pgbouncer.mjs'])
  }
  await Promise.all([types(), lint(), programs()])
}

const report = join(mkdtempSync(join(tmpdir(), 'holdfast-test-')), 'report.json')
const ok = await step('tests', [bin('vitest/vitest.mjs'), 'run', '--reporter=default', '--reporter=json', `--outputFile=${report}`, ...only])
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
