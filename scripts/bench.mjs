/**
 * `npm run bench -- NAME`: figures beside those of the peers, in one run. `--help` says the rest, bench/README.md why.
 *
 * Builds holdfast when it is stale and installs the peers into bench/ when they are missing; both are said on standard
 * error, because standard output belongs to the figures.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { resolve } from 'node:path'
import { benchNames, helpText, readOptions, selected, UsageError } from '../bench/options.mjs'
import { judged, jsonLines, keyOf, markdown, readJsonLines, table } from '../bench/report.mjs'
import { definitionOf, packagesOf, run } from '../bench/run.mjs'

const root = resolve(import.meta.dirname, '..')
const peers = resolve(root, 'bench')
const say = text => { process.stderr.write(`${text}\n`) }

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  say(`bench: ${error.message}\nnpm run bench -- --help says more`)
  process.exitCode = 64
}

async function main(args) {
  const options = readOptions(args)
  if (options.help) {
    process.stdout.write(helpText())
    for (const name of benchNames()) process.stdout.write(`\ncases of ${name}, ${(await definitionOf(name)).summary}:\n${(await definitionOf(name)).cases.map(one => `  ${one.name}\n`).join('')}`)
    return 0
  }
  const definition = await definitionOf(options.name)
  const cases = selected(definition, options)
  const { rows, failures, server } = options.from === undefined ? await measured(options, definition, cases) : { rows: saved(options, definition), failures: [], server: undefined }

  const noteOf = name => definition.cases.find(one => one.name === name)?.note
  if (options.json) process.stdout.write(jsonLines(rows))
  else if (options.markdown) process.stdout.write(markdown(rows, noteOf))
  else process.stdout.write(`${options.from === undefined ? conditions(options, server) : ''}${table(rows, noteOf)}`)

  for (const failure of failures) say(`bench: failed: ${failure}`)
  const withinBudgets = options.check ? check(definition, rows, options) : true
  return failures.length === 0 && withinBudgets ? 0 : 1
}

async function measured(options, definition, cases) {
  if (!options.source) build()
  if (packagesOf(definition, cases).length > 0) install()
  return run(options.name, definition, cases, options)
}

/** The lines of an earlier run, of the cases and subjects that are asked for. */
function saved({ name, from, only, subjects }) {
  let text
  try {
    text = readFileSync(resolve(from), 'utf8')
  } catch (error) {
    throw new UsageError(`--from: ${error instanceof Error ? error.message : String(error)}`)
  }
  const wanted = row => row.bench === name && (only === undefined || row.case.includes(only)) && (subjects === undefined || subjects.includes(keyOf(row.subject)))
  const rows = readJsonLines(text).filter(wanted)
  if (rows.length === 0) throw new UsageError(`--from: ${from} has no line of the bench ${name} that was asked for`)
  return rows
}

/** @returns whether every budget that could be judged is kept. Where the run was narrowed on purpose, the others are only named. */
function check(definition, rows, { json, only, subjects }) {
  const out = json ? process.stderr : process.stdout
  const narrowed = only !== undefined || subjects !== undefined
  const verdicts = judged(definition.budgets, rows)
  out.write(`\nbudgets\n${verdicts.map(verdict => `${verdict.line}\n`).join('')}`)
  const counted = narrowed ? verdicts.filter(verdict => verdict.measured !== undefined) : verdicts
  if (counted.length === 0) say('bench: no budget is about what was measured')
  return counted.length > 0 && counted.every(verdict => verdict.ok)
}

/** What figures have to be read with. */
function conditions({ runs, quick }, server) {
  const processors = cpus()
  const load = (loadavg()[0] ?? 0).toFixed(1)
  const noisy = Number(load) > 1.5 ? ' (others are at work: trust the ratios only)' : ''
  return [
    `node ${process.version}, ${process.platform} ${process.arch}, ${processors[0]?.model ?? 'unknown processor'} x ${processors.length}, load ${load}${noisy}`,
    ...(server === undefined ? [] : [server]),
    `median of ${runs} process${runs === 1 ? '' : 'es'}, of each the median chunk${quick ? '; quick: these figures mean little' : ''}`,
    '',
    '',
  ].join('\n')
}

function build() {
  // Its own lines go where ours go.
  const { status } = spawnSync(process.execPath, [resolve(root, 'scripts/prepare.mjs')], { cwd: root, stdio: ['ignore', process.stderr.fd, process.stderr.fd] })
  if (status !== 0) giveUp('holdfast could not be built; the output above says why')
}

function install() {
  if (installed()) return
  say('bench: installing the peers (npm ci in bench/)')
  const { status, error } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: peers, stdio: ['ignore', process.stderr.fd, process.stderr.fd], shell: process.platform === 'win32', env: ownEnvironment(),
  })
  if (status !== 0) giveUp(`the peers could not be installed${error === undefined ? '; the output above says why' : `: ${error.message}`}`)
}

function giveUp(why) {
  say(`bench: ${why}`)
  process.exit(1)
}

/** What the lockfile says is what is there. */
function installed() {
  const hidden = resolve(peers, 'node_modules/.package-lock.json')
  if (!existsSync(hidden)) return false
  const versions = path => JSON.stringify(Object.entries(JSON.parse(readFileSync(path, 'utf8')).packages).filter(([name]) => name !== '').map(([name, { version }]) => [name, version]).sort())
  return versions(hidden) === versions(resolve(peers, 'package-lock.json'))
}

/** Without what `npm run` says about the package it was started in, which is not this one. */
function ownEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_(package_|lifecycle_|config_local_prefix)/i.test(name)))
}
