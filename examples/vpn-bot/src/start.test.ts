import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { realEnv } from 'holdfast/core'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { ensureBuilt } from './crash/built.ts'

/**
 * What a newcomer does, with the program that `npm start` runs. On a quiet machine the first start takes about 3 s and the next
 * ones 2 s (the promise is 30 and 5); the limits here leave room for a machine that does other things.
 */
const env = realEnv()
const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url))
const FIRST_START_MS = 30_000
const NEXT_START_MS = 20_000
/** "Within a second or two", with room for a busy machine: a refusal, never a hang. */
const REFUSAL_MS = 10_000
const LAST_WORDS_MS = 500

interface Run {
  readonly child: ChildProcess
  readonly url: string
  /** What people read. */
  readonly said: () => string
  /** What the log collector reads. */
  readonly logged: () => string
  readonly exit: Promise<{ readonly code: number | null; readonly signal: string | null; readonly afterMs: number }>
  readonly readyWithin: (ms: number) => Promise<number>
}

const undo: (() => Promise<unknown> | void)[] = []
beforeAll(() => ensureBuilt(env), 180_000)
afterEach(async () => { for (const step of undo.splice(0).reverse()) await step() })

function dataDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-start-'))
  undo.push(() => {
    // The simulated world of a bot that was killed waits for it; here nobody comes back.
    for (const pid of worldsOf(dir)) {
      try {
        process.kill(pid, 'SIGTERM')
      } catch {
        // It has gone.
      }
    }
    rmSync(dir, { recursive: true, force: true })
  })
  return dir
}

let lastPort: number | undefined
function worldsOf(dir: string): readonly number[] {
  const file = join(dir, `demo-world-${String(lastPort)}.json`)
  return existsSync(file) ? [(JSON.parse(readFileSync(file, 'utf8')) as { readonly pid: number }).pid] : []
}

function start(settings: Readonly<Record<string, string>>, port: number): Run {
  lastPort = port
  const beganAt = env.monotonic()
  // Nothing of the tester's own settings.
  const child = spawn(process.execPath, [MAIN], { env: { PATH: process.env['PATH'], PORT: String(port), ...settings }, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let logged = ''
  child.stderr.on('data', (chunk: Buffer) => { said += chunk.toString() })
  child.stdout.on('data', (chunk: Buffer) => { logged += chunk.toString() })
  let over = false
  const exit = new Promise<Awaited<Run['exit']>>(resolve => {
    child.once('exit', (code, signal) => {
      over = true
      const ended = { code, signal, afterMs: env.monotonic() - beganAt }
      // Its last words are read first; but the simulated world holds the same pipe, and outlives a bot that is killed.
      void Promise.race([once(child, 'close'), env.sleep(LAST_WORDS_MS)]).then(() => { resolve(ended) })
    })
  })
  undo.push(async () => {
    if (!over) child.kill('SIGKILL')
    await exit
  })
  const url = `http://127.0.0.1:${String(port)}`
  return {
    child, url, exit, said: () => said, logged: () => logged,
    readyWithin: async ms => {
      while (env.monotonic() - beganAt < ms && !over) {
        if (await env.fetch(`${url}/readyz`).then(response => response.status === 200, () => false)) return env.monotonic() - beganAt
        await env.sleep(25)
      }
      throw new Error(`not ready within ${String(ms)} ms; it said: ${said}`)
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  const port = await listening(server)
  await new Promise(resolve => { server.close(resolve) })
  return port
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  return (server.address() as AddressInfo).port
}

const STACK = /\n\s+at .+:\d+:\d+/
/** What is left of what it said when progress is taken away. */
function sentences(said: string): readonly string[] {
  return said.trim().split('\n').filter(line => !/^vpn-bot: (?:starting|no credentials are set|opening|making|applying|migrat|found)/.test(line))
}

describe('npm start', () => {
  it('is ready in time, says what to open and what to try, and again after kill -9 at once and after SIGTERM', async () => {
    const dir = dataDir()
    const port = await freePort()
    const first = start({ DATA_DIR: dir }, port)
    const firstMs = await first.readyWithin(FIRST_START_MS)
    expect((await env.fetch(`${first.url}/livez`)).status).toBe(200)
    expect((await env.fetch(`${first.url}/console`)).status).toBe(200)
    await expect.poll(first.said, { timeout: 5_000 }).toMatch(/ready after/)
    for (const hint of [/\/console/, /break the panel/, /pause payments/, /kill -9/, /simulated on this machine/]) expect(first.said()).toMatch(hint)
    first.child.kill('SIGKILL')
    expect(await first.exit).toMatchObject({ signal: 'SIGKILL' })

    const second = start({ DATA_DIR: dir }, port)
    const secondMs = await second.readyWithin(NEXT_START_MS)
    expect(second.said()).toMatch(/found the simulated world of the last run/)
    second.child.kill('SIGTERM')
    expect(await second.exit).toMatchObject({ code: 0, signal: null })
    expect(second.said()).toMatch(/stopped after/)

    const third = start({ DATA_DIR: dir }, port)
    const thirdMs = await third.readyWithin(NEXT_START_MS)
    third.child.kill('SIGTERM')
    expect(await third.exit).toMatchObject({ code: 0 })
    for (const run of [first, second, third]) {
      expect(run.said()).not.toMatch(STACK)
      expect(run.said()).not.toMatch(/\b(?:warning|error):/)
    }
    console.log(`ready after ${String(Math.round(firstMs))} ms, after kill -9 ${String(Math.round(secondMs))} ms, after SIGTERM ${String(Math.round(thirdMs))} ms`)
  }, 90_000)

  it('twice on the same data is refused in one clear sentence, and the first goes on', async () => {
    const dir = dataDir()
    const first = start({ DATA_DIR: dir }, await freePort())
    const firstPort = lastPort
    await first.readyWithin(FIRST_START_MS)
    const second = start({ DATA_DIR: dir }, await freePort())
    const { code, afterMs } = await second.exit
    expect(code).toBe(69)
    expect(afterMs).toBeLessThan(REFUSAL_MS)
    expect(second.said()).not.toMatch(STACK)
    expect(sentences(second.said())).toEqual([expect.stringMatching(/^vpn-bot cannot start: the data directory \S+ is .*\b\d+\b/)])
    expect((await env.fetch(`${first.url}/readyz`)).status).toBe(200)
    lastPort = firstPort
    first.child.kill('SIGTERM')
    expect(await first.exit).toMatchObject({ code: 0 })
  }, 60_000)

  it('on a port that is in use is refused in one clear sentence, and nothing is touched', async () => {
    const dir = dataDir()
    const server = createServer()
    const port = await listening(server)
    undo.push(() => new Promise(resolve => { server.close(resolve) }))
    const run = start({ DATA_DIR: join(dir, 'data') }, port)
    const { code, afterMs } = await run.exit
    expect(code).toBe(69)
    expect(afterMs).toBeLessThan(REFUSAL_MS)
    expect(run.said()).not.toMatch(STACK)
    expect(sentences(run.said())).toEqual([expect.stringMatching(new RegExp(`^vpn-bot cannot start: .*${String(port)}.*in use`))])
    expect(existsSync(join(dir, 'data/postgres'))).toBe(false)
  }, 30_000)
})

describe('settings', () => {
  it('that are missing are all named at once, each with its remedy', async () => {
    const run = start({ DATA_DIR: dataDir(), BOT_TOKEN: '123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAA' }, await freePort())
    const { code, afterMs } = await run.exit
    expect(code).toBe(78)
    expect(afterMs).toBeLessThan(REFUSAL_MS)
    for (const name of ['TELEGRAM_WEBHOOK_SECRET', 'CRYPTO_PAY_TOKEN', 'PAYMENT_PROVIDER_TOKEN', 'VPN_PANEL_URL', 'VPN_PANEL_TOKEN', 'ADMIN_IDS', 'PUBLIC_URL']) expect(run.said()).toMatch(new RegExp(`${name} is missing.*\\S`))
    for (const remedy of [/openssl rand/, /@CryptoBot/, /@userinfobot/, /Marzban/, /or none of them for a demonstration/]) expect(run.said()).toMatch(remedy)
    expect(run.said()).not.toMatch(STACK)
    expect(run.said()).not.toContain('AAAAAAAAAAAAAAAAAAAAAAAAAAAA')
  }, 30_000)

  it('that are malformed are all named at once, and secrets are not repeated', async () => {
    const run = start({ DATA_DIR: dataDir(), BOT_TOKEN: 'not-a-token-but-secret', ADMIN_IDS: 'alice', VPN_PANEL_URL: 'ftp//x', DATABASE_URL: 'mysql://u:hunter2@h/d' }, await freePort())
    expect((await run.exit).code).toBe(78)
    for (const name of ['BOT_TOKEN', 'ADMIN_IDS', 'VPN_PANEL_URL', 'DATABASE_URL']) expect(run.said()).toContain(name)
    expect(run.said()).not.toMatch(STACK)
    for (const secret of ['not-a-token-but-secret', 'hunter2']) expect(run.said()).not.toContain(secret)
  }, 30_000)

  it('with a port that is none are refused', async () => {
    const run = start({ DATA_DIR: dataDir(), PORT: 'eighty' }, await freePort())
    expect((await run.exit).code).toBe(78)
    expect(run.said()).toMatch(/PORT.*0 to 65535|PORT.*number/)
    expect(run.said()).not.toMatch(STACK)
  }, 30_000)

  it('that name a database which is away end in one clear sentence, without its password', async () => {
    const run = start({ DATA_DIR: dataDir(), DATABASE_URL: `postgres://bot:hunter2@127.0.0.1:${String(await freePort())}/shop` }, await freePort())
    expect((await run.exit).code).toBe(69)
    expect(sentences(run.said())).toEqual([expect.stringMatching(/^vpn-bot cannot start: /)])
    expect(run.said()).not.toContain('hunter2')
    expect(run.said()).not.toMatch(STACK)
  }, 60_000)
})
