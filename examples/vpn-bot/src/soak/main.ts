/**
 * `npm run soak -- vpn-bot --minutes 10`: the real program with simulated customers and no faults, watched.
 *
 * Without faults nothing may be said louder than information: each warning and error is a finding, as are memory that
 * grows, an exit that is not clean, and a shop that sells nothing. Exit code 0 means none; 1 means there were; 64 wrong options.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { humanDuration, messageOf, realEnv } from 'holdfast/core'
import { watchLog } from './log-watch.ts'
import { judgeMemory, type MemorySample } from './memory.ts'

const USAGE = `usage: npm run soak -- vpn-bot [--minutes 10] [--customers 6] [--pace-ms 4000] [--json]
  --minutes     how long customers buy; memory is judged from 6 minutes on
  --customers   how many there are, 1 to 1000
  --pace-ms     how long a customer takes between two steps
  --json        one JSON object at the end instead of lines`
const READY_WITHIN_MS = 60_000
const SAMPLE_EVERY_MS = 5_000
const STOP_WITHIN_MS = 40_000
const MB = 1_048_576

const env = realEnv()
const write = (line: string): void => { process.stdout.write(`${line}\n`) }
const { minutes, customers, paceMs, json } = parseArguments(process.argv.slice(2))
const progress = (line: string): void => { if (!json) write(line) }

const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-soak-'))
const port = await freePort()
const url = `http://127.0.0.1:${String(port)}`
const program = fileURLToPath(new URL('../main.js', import.meta.url))
// Nothing of this shell's settings: with credentials it would sell for real.
// Memory is judged by what survives a collection: a program with little to do collects so seldom that its garbage would look like a leak.
const COLLECT_EVERY_MS = 10_000
const collector = `data:text/javascript,setInterval(() => globalThis.gc(), ${String(COLLECT_EVERY_MS)}).unref()`
const child = spawn(process.execPath, ['--expose-gc', '--import', collector, program], {
  env: { PATH: process.env['PATH'], PORT: String(port), DATA_DIR: dataDir, DEMO_CUSTOMERS: String(customers), DEMO_PACE_MS: String(paceMs) }, stdio: ['ignore', 'ignore', 'pipe'],
})
let said = ''
child.stderr.on('data', (chunk: Buffer) => { said = `${said}${chunk.toString()}`.slice(-10_000) })
let exit: string | undefined
const gone = new Promise<void>(resolve => {
  child.once('exit', (code, signal) => {
    exit = signal ?? `code ${String(code)}`
    resolve()
  })
})
const interrupted = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { interrupted.abort() })

const findings: string[] = []
const samples: MemorySample[] = []
const log = watchLog(join(dataDir, 'vpn-bot.log'))
const beganAt = env.monotonic()
const elapsedMs = (): number => env.monotonic() - beganAt

if (await ready()) {
  const readyAfter = humanDuration(elapsedMs())
  progress(`ready after ${readyAfter}; ${String(customers)} customers buy for ${String(minutes)} minutes`)
  await watch(elapsedMs() + minutes * 60_000)
} else {
  findings.push(`it was not ready: ${exit === undefined ? `not within ${humanDuration(READY_WITHIN_MS)}` : `it ended (${exit})`}: ${said}`)
}
const stoppedAfterMs = await stop()
report()

async function watch(untilMs: number): Promise<void> {
  let toldMinutes = 0
  const startedMs = elapsedMs()
  while (elapsedMs() < untilMs && exit === undefined && !interrupted.signal.aborted) {
    await env.sleep(Math.min(SAMPLE_EVERY_MS, untilMs - elapsedMs()), interrupted.signal)
    if (exit !== undefined) break
    log.read()
    const sample = await measure()
    if (sample !== undefined) samples.push(sample)
    const over = Math.floor((elapsedMs() - startedMs) / 60_000)
    if (over === toldMinutes) continue
    toldMinutes = over
    const last = samples.at(-1)
    progress(`minute ${String(over)}: ${String(bought())} purchases, ${String(log.lines)} log lines, ${String(log.findingsCount)} findings, resident ${String(Math.round((last?.rssBytes ?? 0) / MB))} MB, heap ${String(Math.round((last?.heapBytes ?? 0) / MB))} MB`)
  }
  if (exit !== undefined) findings.push(`it ended by itself (${exit}): ${said}`)
}

async function ready(): Promise<boolean> {
  while (elapsedMs() < READY_WITHIN_MS && exit === undefined && !interrupted.signal.aborted) {
    if (await env.fetch(`${url}/readyz`).then(response => response.status === 200, () => false)) return true
    await env.sleep(100, interrupted.signal)
  }
  return false
}

async function measure(): Promise<MemorySample | undefined> {
  try {
    const text = await (await env.fetch(`${url}/metrics`)).text()
    const of = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? NaN)
    return { atMs: elapsedMs(), rssBytes: of('holdfast_resident_memory_bytes'), heapBytes: of('holdfast_heap_used_bytes') }
  } catch (error) {
    findings.push(`/metrics did not answer: ${messageOf(error)}`)
    return undefined
  }
}

/** SIGTERM, as a deployment would. */
async function stop(): Promise<number> {
  const askedAt = env.monotonic()
  child.kill('SIGTERM')
  const waiting = new AbortController()
  await Promise.race([gone, env.sleep(STOP_WITHIN_MS, waiting.signal)])
  waiting.abort()
  if (exit === undefined) {
    findings.push(`it did not stop within ${humanDuration(STOP_WITHIN_MS)} after SIGTERM`)
    child.kill('SIGKILL')
    await gone
  } else if (exit !== 'code 0') {
    findings.push(`it ended with ${exit} after SIGTERM: ${said}`)
  }
  return env.monotonic() - askedAt
}

function bought(): number {
  return (log.payments.get('payment.ok') ?? 0) + (log.payments.get('payment.late') ?? 0)
}

function report(): never {
  try {
    log.read()
  } catch (error) {
    findings.push(`there is no log: ${messageOf(error)}`)
  }
  rmSync(dataDir, { recursive: true, force: true })
  const memory = judgeMemory(samples)
  if (!memory.flat) findings.push(memory.sentence)
  if (bought() === 0 && minutes >= 2) findings.push('nobody bought anything')
  for (const fact of log.payments.keys()) if (fact !== 'payment.ok' && fact !== 'payment.duplicate') findings.push(`${String(log.payments.get(fact))} times ${fact} without a fault`)
  if (log.findingsCount > 0) findings.push(`${String(log.findingsCount)} warnings or errors in the log, the first ones:`, ...log.findings)
  const ok = findings.length === 0
  if (json) write(JSON.stringify({ ok, minutes, customers, purchases: bought(), payments: Object.fromEntries(log.payments), logLines: log.lines, memory, stoppedAfterMs, exit, findings }))
  else {
    write(`${String(bought())} purchases, ${String(log.lines)} log lines; ${memory.sentence}; resident ${memory.firstRssMb.toFixed(0)} MB at the start, ${memory.lastRssMb.toFixed(0)} at the end, ${memory.maxRssMb.toFixed(0)} at most`)
    write(`stopped ${humanDuration(stoppedAfterMs)} after SIGTERM with ${String(exit)}`)
    write(ok ? 'no warning, no error' : findings.join('\n'))
  }
  process.exit(ok ? 0 : 1)
}

function parseArguments(args: readonly string[]): { readonly minutes: number; readonly customers: number; readonly paceMs: number; readonly json: boolean } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        'minutes': { type: 'string', default: '10' }, 'customers': { type: 'string', default: '6' }, 'pace-ms': { type: 'string', default: '4000' },
        'json': { type: 'boolean', default: false }, 'help': { type: 'boolean', default: false },
      },
    })
    if (values.help) {
      write(USAGE)
      process.exit(0)
    }
    return { minutes: number('--minutes', values.minutes, 0.1, 10_000), customers: number('--customers', values.customers, 1, 1_000), paceMs: number('--pace-ms', values['pace-ms'], 10, 600_000), json: values.json }
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n${USAGE}\n`)
    process.exit(64)
  }
}

function number(name: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (!(value >= min && value <= max)) throw new RangeError(`${name}: expected ${String(min)} to ${String(max)}, got ${text}`)
  return value
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  const { port: free } = server.address() as AddressInfo
  await new Promise(resolve => { server.close(resolve) })
  return free
}
