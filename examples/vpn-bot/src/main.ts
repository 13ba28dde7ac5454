/**
 * Starts the bot: against the real world with credentials, against simulators without any.
 *
 * What stands in the way of a start is one clear sentence and an exit code: 78 settings, 69 a port or a store that is
 * taken or away, 70 a defect. SIGTERM and SIGINT drain; a second one ends at once.
 */
import { createWriteStream, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { HoldfastError, humanDuration, isHoldfastError, realEnv } from 'holdfast/core'
import { embedded } from 'holdfast/embedded'
import type { HttpHandler } from 'holdfast/http'
import { type Served, serve } from 'holdfast/http/node'
import { writeRuntimeFile } from 'holdfast/operate'
import { postgres } from 'holdfast/postgres'
import type { Logger } from 'holdfast'
import { createApp } from './app.ts'
import { type Demo, startDemo } from './demo/demo.ts'
import { LOOPBACK, readSettings, type Settings } from './settings.ts'
import { createShop } from './shop/shop.ts'
import { sqlRows } from './shop/sql.ts'

/** The checkout's root, wherever the program is started from: dist/ and src/ are equally deep. */
const ROOT = resolve(import.meta.dirname, '../../..')
const EXIT = { settings: 78, unavailable: 69, defect: 70, insisted: 130 } as const

const env = realEnv()
/** For people. The log is standard output's, as JSON. */
const say = (line: string): void => { console.error(line) }

/** What was started, in order; undone in reverse. */
const undo: (() => Promise<unknown> | void)[] = []
let leaving = false

async function leave(code: number): Promise<never> {
  for (const step of undo.splice(0).reverse()) await step()
  process.exit(code)
}

function onSignal(signal: string): void {
  // Whoever sends it twice does not want to wait. What is open is recovered at the next start.
  if (leaving) process.exit(EXIT.insisted)
  leaving = true
  const drainedAt = env.monotonic()
  say(`${signal}: finishing what is under way (send it again to stop at once)`)
  undo.unshift(() => { say(`stopped after ${humanDuration(env.monotonic() - drainedAt)}`) })
  void leave(0)
}

/** Answers while everything else is still being started: alive, not ready. */
const startingUp: HttpHandler = async request => new URL(request.url).pathname === '/livez'
  ? Response.json({ status: 'alive' })
  : Response.json({ status: 'starting' }, { status: 503, headers: { 'retry-after': '1' } })

async function main(environment: NodeJS.ProcessEnv): Promise<void> {
  say('vpn-bot: starting')
  const beganAt = env.monotonic()
  const settings = readSettings(environment)
  const loopback = LOOPBACK.includes(settings.host)
  if (settings.bot === undefined && !loopback) {
    throw new HoldfastError('HF_CONFIG_INVALID', { message: `HOST is ${settings.host} and there are no credentials, but a demonstration is for this machine only. Leave HOST out, or set the credentials (examples/vpn-bot/README.md).` })
  }
  const dataDir = resolve(ROOT, settings.dataDir ?? 'data')
  mkdirSync(dataDir, { recursive: true })

  // The port first: another program on it is found before anything is touched.
  let answer = startingUp
  const served = await serve((request, info) => answer(request, info), { port: settings.port, host: settings.host })
  undo.push(() => served.close())

  const demo = settings.bot === undefined ? await demonstrate(dataDir, served) : undefined
  const config = settings.bot ?? demo?.config
  if (config === undefined) throw new HoldfastError('HF_INVARIANT', { message: 'there are either credentials or a demonstration' })
  const log = demo === undefined ? undefined : demoLog(join(dataDir, 'vpn-bot.log'))
  const app = createApp({
    env, config, environment, dataDir, host: settings.host, shop: createShop(sqlRows),
    store: settings.databaseUrl === undefined ? embedded(dataDir, { singleInstance: true }) : postgres(settings.databaseUrl),
    secrets: [...settings.secrets, config.botToken, config.webhookSecret, config.cryptoPayToken, config.panelToken],
    ...(log === undefined ? {} : { log }), ...(demo === undefined ? {} : { demo: demo.controls }), ...(settings.consoleToken === undefined ? {} : { consoleToken: settings.consoleToken }),
  })
  app.hold.events.on('app.progress', ({ data }) => { say(`vpn-bot: ${data.message}`) })
  undo.push(() => app.stop('stopped by a signal'))
  await app.start()
  answer = app.fetch
  const { remove } = writeRuntimeFile(dataDir, { url: `${served.url}/console`, pid: process.pid, ...(settings.consoleToken === undefined ? {} : { token: settings.consoleToken }) })
  undo.push(remove)
  say(welcome(served, settings, demo, humanDuration(env.monotonic() - beganAt)))
}

async function demonstrate(dataDir: string, served: Served): Promise<Demo> {
  say('vpn-bot: no credentials are set, so this is a demonstration: Telegram, Crypto Pay and the VPN panel are simulated on this machine')
  const demo = await startDemo({ env, dataDir, botUrl: served.url, port: served.port })
  if (demo.found) say('vpn-bot: found the simulated world of the last run: charges that were made are still made')
  undo.push(() => { demo.stop() })
  return demo
}

/** In a demonstration the terminal is for people: JSON goes to a file, warnings and errors are said, too. */
function demoLog(path: string): Logger {
  const file = createWriteStream(path, { flags: 'w' })
  // A disk that is full must not end a demonstration.
  file.on('error', () => undefined)
  const write = (level: string) => (fields: object, message: string): void => {
    file.write(`${JSON.stringify({ level, time: new Date(env.now()).toISOString(), ...fields, message })}\n`)
    if (level === 'warn' || level === 'error') say(`${level === 'warn' ? 'warning' : 'error'}: ${message}`)
  }
  return { debug: () => undefined, info: write('info'), warn: write('warn'), error: write('error') }
}

function welcome({ url }: Served, settings: Settings, demo: Demo | undefined, took: string): string {
  const ready = `vpn-bot: ready after ${took} on ${url}`
  if (demo === undefined) return `${ready}\n  console   ${url}/console\n  ready?    curl -fsS ${url}/readyz`
  const { panel } = demo.world
  return [
    ready, '',
    `  Open      ${url}/console   (a few simulated customers are buying by card and by crypto)`,
    '  Try',
    `    break the panel        curl -fsS -X POST ${panel.url}/__sim/faults -d '{"fault":{"kind":"drop-before"}}'`,
    `    mend it                curl -fsS -X DELETE ${panel.url}/__sim/faults`,
    '    pause payments         npx holdfast flags set payments off --reason "trying it out" --for 5m',
    `    kill it                kill -9 ${String(process.pid)}   then npm start: it goes on where it was`,
    `  Log       ${join(settings.dataDir ?? 'data', 'vpn-bot.log')}; warnings are shown here`, '',
  ].join('\n')
}

/** One sentence for what a person can put right; a stack only for what is our own fault. */
function explain(error: unknown): { readonly text: string; readonly code: number } {
  if (!isHoldfastError(error) || error.failure === 'defect') return { text: `vpn-bot: this is a defect: ${error instanceof Error ? error.stack ?? error.message : String(error)}`, code: EXIT.defect }
  return { text: `vpn-bot cannot start: ${error.message}`, code: error.code === 'HF_CONFIG_INVALID' ? EXIT.settings : EXIT.unavailable }
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => { onSignal(signal) })
try {
  await main(process.env)
} catch (error) {
  const { text, code } = explain(error)
  say(text)
  await leave(code)
}
