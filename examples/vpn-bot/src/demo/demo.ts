/**
 * A demonstration without credentials: starts the simulated world (or finds the one that a killed bot left), points the
 * bot at it, and gives the console its buttons that break things.
 */
import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Env, HoldfastError } from 'holdfast/core'
import type { DemoControls, DemoFault } from 'holdfast/operate'
import type { BotConfig } from '../settings.ts'
import { DEMO_ADMIN_ID, type WorldFile } from './shared.ts'

export interface Demo {
  readonly config: BotConfig
  readonly controls: DemoControls
  readonly world: WorldFile
  /** Found running: the bot was killed and comes back to the same world. */
  readonly found: boolean
  /** Ends the world. A bot that is killed does not get here, and the world waits two minutes for it. */
  stop(): void
}

const WORLD_READY_WITHIN_MS = 15_000
const LOOK_EVERY_MS = 50

export interface DemoOptions {
  readonly env: Env
  readonly dataDir: string
  /** Where the bot will listen. */
  readonly botUrl: string
  /** Two bots with one data directory (the second will be refused) must not take each other's world. */
  readonly port: number
}

/** @throws HF_CONFIG_INVALID when the world does not come up */
export async function startDemo({ env, dataDir, botUrl, port }: DemoOptions): Promise<Demo> {
  mkdirSync(dataDir, { recursive: true })
  const file = join(dataDir, `demo-world-${String(port)}.json`)
  const left = await alive(env, file, botUrl)
  const world = left ?? await launch(env, file, botUrl)
  return {
    world, found: left !== undefined,
    config: {
      botToken: world.telegram.token, telegramApiRoot: world.telegram.url, webhookSecret: 'demo-secret-0123456789', publicUrl: botUrl,
      cryptoPayToken: world.cryptoPay.token, cryptoPayUrl: world.cryptoPay.url, paymentProviderToken: 'demo:TEST:provider',
      panelUrl: world.panel.url, panelToken: world.panel.token, adminIds: [String(DEMO_ADMIN_ID)],
    },
    controls: controls(env, world),
    stop: () => {
      try {
        process.kill(world.pid, 'SIGTERM')
      } catch {
        // It has gone already.
      }
    },
  }
}

/** The world of a bot that was killed, when it is still there and was made for the same address. */
async function alive(env: Env, file: string, botUrl: string): Promise<WorldFile | undefined> {
  const world = read(file)
  if (world?.bot !== botUrl) return undefined
  const answers = await env.fetch(`${world.panel.url}/__sim/help`).then(response => response.status === 200, () => false)
  return answers ? world : undefined
}

async function launch(env: Env, file: string, botUrl: string): Promise<WorldFile> {
  rmSync(file, { force: true })
  const program = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './world.ts' : './world.js', import.meta.url))
  // Not our own stderr: it outlives us, and would keep whoever reads our output waiting for its end.
  const log = openSync(join(dirname(file), 'demo-world.log'), 'a')
  const child = spawn(process.execPath, [...process.execArgv, program, '--bot', botUrl, '--file', file], { detached: true, stdio: ['ignore', 'ignore', log] })
  closeSync(log)
  child.unref()
  let failed: string | undefined
  child.once('error', error => { failed = error.message })
  child.once('exit', code => { failed = `it ended with code ${String(code)}` })
  for (let waited = 0; waited < WORLD_READY_WITHIN_MS && failed === undefined; waited += LOOK_EVERY_MS) {
    const world = read(file)
    if (world?.pid === child.pid && world !== undefined) {
      child.removeAllListeners()
      return world
    }
    await env.sleep(LOOK_EVERY_MS)
  }
  throw new HoldfastError('HF_CONFIG_INVALID', { message: `the simulators did not start: ${failed ?? 'they took too long'}` })
}

function read(file: string): WorldFile | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as WorldFile
  } catch {
    // Not there yet, or not there any more.
    return undefined
  }
}

interface FaultButton extends Omit<DemoFault, 'active'> {
  readonly at: 'telegram' | 'cryptoPay' | 'panel'
  readonly rules: readonly object[]
}

const BUTTONS: readonly FaultButton[] = [
  { id: 'panel-down', label: 'VPN panel down', hint: 'The breaker opens after five failures; paid customers wait; when it is back everything is delivered, nothing twice.', at: 'panel', rules: [{ fault: { kind: 'drop-before' } }] },
  { id: 'panel-loses-answers', label: 'VPN panel loses its answers', hint: 'Keys are made, the answers get lost: the next attempt finds the key and adopts it.', at: 'panel', rules: [{ match: { operation: 'createUser' }, fault: { kind: 'apply-then-drop' } }] },
  { id: 'panel-slow', label: 'VPN panel hangs', hint: 'Each attempt is cut after 3 s; customers still get their answers.', at: 'panel', rules: [{ fault: { kind: 'hang' } }] },
  { id: 'crypto-down', label: 'Crypto Pay down', hint: 'No crypto invoices; paying by card works on.', at: 'cryptoPay', rules: [{ match: { operation: ['createInvoice', 'getInvoices', 'getMe'] }, fault: { kind: 'status', status: 503 } }] },
  { id: 'crypto-no-webhooks', label: 'Crypto Pay loses webhooks', hint: 'The watcher finds the payments within half a minute.', at: 'cryptoPay', rules: [{ match: { operation: 'webhook' }, fault: { kind: 'drop-before' } }] },
  { id: 'telegram-slow-down', label: 'Telegram says: slow down', hint: 'A third of the messages is refused with 429; their chats pause and nothing is sent twice.', at: 'telegram', rules: [{ match: { operation: 'sendMessage', probability: 0.3 }, fault: { kind: 'rate-limit', retryAfterS: 3 } }] },
]

/** Faults are set where the world is, over HTTP, so that the console's buttons and `curl` do the same. */
function controls(env: Env, world: WorldFile): DemoControls {
  const active = new Map<string, readonly string[]>()
  return {
    list: () => BUTTONS.map(({ id, label, hint }) => ({ id, label, hint, active: active.has(id) })),
    async set(id, on) {
      const button = BUTTONS.find(item => item.id === id)
      if (button === undefined) throw new HoldfastError('HF_UNKNOWN_NAME', { message: `there is no fault ${JSON.stringify(id)}` })
      const url = `${world[button.at].url}/__sim/faults`
      for (const rule of active.get(id) ?? []) await env.fetch(`${url}/${rule}`, { method: 'DELETE' })
      active.delete(id)
      if (!on) return
      const answer = await env.fetch(url, { method: 'POST', body: JSON.stringify(button.rules) })
      active.set(id, (await answer.json() as { readonly ids: readonly string[] }).ids)
    },
  }
}
