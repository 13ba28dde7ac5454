/**
 * What a newcomer does, in an empty folder: clone, `npm ci`, `npm start`, look, kill -9, start again, stop.
 *
 *   node test/newcomer/newcomer.mjs [--keep] [--json] [--port 8700]
 *
 * The clone is of the last commit; what is not committed is not tried. Prints how long each step took and a verdict; the exit
 * code is 0 only when every step kept its promise (ready within 30 s the first time, within 5 s after). Not part of
 * `npm test`: it installs from the registry, and its times mean something on a quiet machine only.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { availableParallelism, loadavg, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const FIRST_READY_MS = 30_000
const NEXT_READY_MS = 5_000
const GIVE_UP_MS = 120_000

const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false }, json: { type: 'boolean', default: false }, port: { type: 'string' } } })
const root = resolve(import.meta.dirname, '../..')
const folder = mkdtempSync(join(tmpdir(), 'holdfast-newcomer-'))
const clone = join(folder, 'holdfast')
const port = values.port === undefined ? await freePort() : Number(values.port)
const url = `http://127.0.0.1:${port}`
// Only what a plain shell has: no setting of this one, no cache of the checkout.
const environment = { PATH: process.env.PATH, HOME: process.env.HOME, ...(port === 8700 ? {} : { PORT: String(port) }) }

const steps = []
const note = (step, ms, ok, detail = '') => {
  steps.push({ step, ms: Math.round(ms), ok, ...(detail === '' ? {} : { detail }) })
  if (!values.json) console.log(`${ok ? 'ok    ' : 'FAILED'} ${step}: ${(ms / 1_000).toFixed(1)} s${detail === '' ? '' : ` (${detail})`}`)
}

let running
try {
  run('git clone', 'git', ['clone', '--quiet', '--no-hardlinks', root, clone], folder)
  run('npm ci', 'npm', ['ci', '--no-audit', '--no-fund'], clone)
  await start('npm start, the first time', FIRST_READY_MS)
  await answers('/readyz', 200)
  await answers('/console', 200)
  await kill('SIGKILL')
  await start('npm start after kill -9', NEXT_READY_MS)
  await kill('SIGTERM', 0)
  await start('npm start after SIGTERM', NEXT_READY_MS)
  await kill('SIGTERM', 0)
} catch (error) {
  note('the run', 0, false, error instanceof Error ? error.message : String(error))
} finally {
  running?.kill('SIGKILL')
  if (!values.keep) rmSync(folder, { recursive: true, force: true })
}
const ok = steps.every(step => step.ok)
const [load] = loadavg()
const busy = load > availableParallelism() * 1.5
if (busy && !values.json) console.log(`this machine is not quiet (load ${load.toFixed(1)} on ${availableParallelism()} cores): its times say little`)
if (values.json) console.log(JSON.stringify({ ok, load, steps, folder: values.keep ? folder : undefined }))
else console.log(ok ? 'a newcomer gets what is promised' : `a newcomer does not get what is promised${values.keep ? `; see ${folder}` : ' (--keep leaves the folder)'}`)
process.exit(ok ? 0 : 1)

function run(step, command, args, cwd) {
  const begun = performance.now()
  const { status, stderr } = spawnSync(command, args, { cwd, env: environment, encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] })
  note(step, performance.now() - begun, status === 0, status === 0 ? '' : stderr.trim().split('\n').at(-1))
  if (status !== 0) throw new Error(`${step} failed`)
}

/** `npm start` is the program's parent; the program says its own pid among the hints. */
async function start(step, withinMs) {
  const begun = performance.now()
  // A file and no pipe: the simulated world inherits it and outlives the bot.
  const output = join(folder, `output-${steps.length}.txt`)
  const descriptor = openSync(output, 'w')
  running = spawn('npm', ['start'], { cwd: clone, env: environment, stdio: ['ignore', descriptor, descriptor] })
  const child = running
  child.output = output
  while (performance.now() - begun < GIVE_UP_MS && child.exitCode === null) {
    const status = await fetch(`${url}/readyz`).then(response => response.status, () => 0)
    if (status === 200) {
      const ms = performance.now() - begun
      note(step, ms, ms <= withinMs, `promised within ${withinMs / 1_000} s`)
      return
    }
    await new Promise(next => { setTimeout(next, 50) })
  }
  throw new Error(`${step}: not ready; it said: ${readFileSync(output, 'utf8').slice(-2_000)}`)
}

async function answers(path, expected) {
  const begun = performance.now()
  const status = await fetch(`${url}${path}`).then(response => response.status, error => String(error))
  note(`GET ${path}`, performance.now() - begun, status === expected, `${status}`)
}

/** Kills the program itself, as the hints say; npm ends with it. */
async function kill(signal, expectedCode) {
  const begun = performance.now()
  let pid
  for (let waited = 0; pid === undefined && waited < 5_000; waited += 50) {
    pid = /kill -9 (\d+)/.exec(readFileSync(running.output, 'utf8'))?.[1]
    if (pid === undefined) await new Promise(next => { setTimeout(next, 50) })
  }
  if (pid === undefined) throw new Error('the program does not say its pid')
  const gone = new Promise(next => { running.once('exit', code => { next(code) }) })
  process.kill(Number(pid), signal)
  const code = await gone
  note(signal, performance.now() - begun, expectedCode === undefined || code === expectedCode, `exit ${code}`)
  running = undefined
}

async function freePort() {
  const server = createServer()
  await new Promise(next => { server.listen(0, '127.0.0.1', next) })
  const { port: free } = server.address()
  await new Promise(next => { server.close(next) })
  return free
}
