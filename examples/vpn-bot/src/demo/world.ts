/**
 * The outside world of a demonstration, as a process of its own: Telegram, Crypto Pay and the VPN panel on loopback, and a
 * few simulated customers. It outlives a kill -9 of the bot, as the real world would: charges that were made stay made,
 * updates wait and come again. It goes away by itself when the bot does not come back.
 */
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { realEnv } from 'holdfast/core'
import { cryptoPaySimulator } from 'holdfast-simulators/crypto-pay'
import { listen } from 'holdfast-simulators/kit'
import { crowd, telegramSimulator } from 'holdfast-simulators/telegram'
import { vpnPanelSimulator } from 'holdfast-simulators/vpn-panel'
import { CROWD_SCRIPT, DEMO_ADMIN_ID, type WorldFile } from './shared.ts'

const LOOK_EVERY_MS = 2_000
/** The first start of the bot may take a while; afterwards there is time enough to start it again by hand. */
const BOT_AWAY_MAX_MS = 120_000

const { values } = parseArgs({ options: { bot: { type: 'string' }, file: { type: 'string' }, customers: { type: 'string' }, pace: { type: 'string' } } })
const { bot = '', file = '' } = values
const env = realEnv()
const seed = Math.floor(env.random() * 0xffffffff)

const telegram = telegramSimulator({ env, seed })
// The bot's books may be older than this world: numbers of invoices must not come again.
const cryptoPay = cryptoPaySimulator({ env, seed, webhookUrl: `${bot}/webhooks/crypto-pay`, firstInvoiceId: Math.floor(env.now() / 1_000) % 1_000_000_000 })
const panel = vpnPanelSimulator({ env, seed })
const servers = [await listen(telegram), await listen(cryptoPay), await listen(panel)]
const [telegramUrl = '', cryptoPayUrl = '', panelUrl = ''] = servers.map(server => server.url)

const count = Number(values.customers ?? process.env['DEMO_CUSTOMERS'] ?? 6)
const customers = crowd({ telegram, cryptoPay, env, count, paceMs: Number(values.pace ?? process.env['DEMO_PACE_MS'] ?? 4_000), seed, script: CROWD_SCRIPT })
telegram.user({ id: DEMO_ADMIN_ID, firstName: 'Admin' }).command('/start')

const world: WorldFile = {
  pid: process.pid, bot, telegram: { url: telegramUrl, token: telegram.token }, cryptoPay: { url: cryptoPayUrl, token: cryptoPay.token }, panel: { url: panelUrl, token: panel.token },
}
writeFileSync(`${file}.tmp`, JSON.stringify(world), { mode: 0o600 })
renameSync(`${file}.tmp`, file)

const leaving = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { leaving.abort() })

let started = false
let seenAt = env.monotonic()
while (!leaving.signal.aborted && env.monotonic() - seenAt < BOT_AWAY_MAX_MS) {
  const ready = await env.fetch(`${bot}/readyz`, { signal: leaving.signal }).then(response => response.status === 200, () => false)
  if (ready) {
    seenAt = env.monotonic()
    if (!started) customers.start()
    started = true
  }
  await env.sleep(LOOK_EVERY_MS, leaving.signal)
}
void customers.stop()
for (const simulator of [telegram, cryptoPay, panel]) simulator.stop()
for (const server of servers) await server.close()
rmSync(file, { force: true })
process.exit(0)
