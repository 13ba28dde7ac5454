/**
 * Everything that a crash of the bot does not touch: the partners, on loopback, and a patient customer who does again what
 * brought no answer, as people do.
 */
import { createServer } from 'node:http'
import type { Env } from 'holdfast/core'
import { type CryptoPaySimulator, cryptoPaySimulator } from 'holdfast-simulators/crypto-pay'
import { listen } from 'holdfast-simulators/kit'
import { type InboxMessage, type TelegramSimulator, telegramSimulator, type UserActor } from 'holdfast-simulators/telegram'
import { type VpnPanelSimulator, vpnPanelSimulator } from 'holdfast-simulators/vpn-panel'
import { CRYPTO_PAY_PATH, TELEGRAM_PATH } from '../app.ts'
import type { BotConfig } from '../settings.ts'

export type Way = 'card' | 'crypto'

export interface Outside {
  readonly telegram: TelegramSimulator
  readonly cryptoPay: CryptoPaySimulator
  readonly panel: VpnPanelSimulator
  /** Where the bot listens, before and after its death. */
  readonly port: number
  readonly config: BotConfig
  readonly anna: UserActor
  /** Charges that were really made, by payment key. */
  charges(): readonly string[]
  /** Automatic delivery messages that the customer really got. */
  deliveries(): number
  close(): Promise<void>
}

export const CUSTOMER_ID = 42
const ADMIN_ID = 7
export const SECRET = 'crash-run-webhook-secret'

export async function openOutside(env: Env, seed: number): Promise<Outside> {
  const port = await freePort(env)
  const bot = `http://127.0.0.1:${String(port)}`
  const telegram = telegramSimulator({ env, seed })
  const cryptoPay = cryptoPaySimulator({ env, seed, webhookUrl: `${bot}${CRYPTO_PAY_PATH}` })
  const panel = vpnPanelSimulator({ env, seed })
  const [telegramAt, cryptoPayAt, panelAt] = [await listen(telegram), await listen(cryptoPay), await listen(panel)]
  telegram.setWebhook(`${bot}${TELEGRAM_PATH}`, { secretToken: SECRET })
  telegram.user({ id: ADMIN_ID, firstName: 'Admin' })
  const anna = telegram.user({ id: CUSTOMER_ID, firstName: 'Anna', languageCode: 'en' })
  return {
    telegram, cryptoPay, panel, port, anna,
    config: {
      botToken: telegram.token, telegramApiRoot: telegramAt.url, webhookSecret: SECRET, publicUrl: undefined, cryptoPayToken: cryptoPay.token, cryptoPayUrl: cryptoPayAt.url,
      paymentProviderToken: 'simulated-provider', panelUrl: panelAt.url, panelToken: panel.token, adminIds: [String(ADMIN_ID)],
    },
    charges: () => [
      ...telegram.charges.map(charge => `card:${charge.chargeId}`),
      ...cryptoPay.invoices().filter(invoice => invoice.status === 'paid').map(invoice => `crypto:${String(invoice.invoice_id)}`),
    ],
    deliveries: () => deliveriesOf(anna.inbox).length,
    async close() {
      for (const simulator of [telegram, cryptoPay, panel]) simulator.stop()
      for (const server of [telegramAt, cryptoPayAt, panelAt]) await server.close()
    },
  }
}

/** The message that comes by itself, not the answer to /key: that one repeats it on request. */
function deliveriesOf(inbox: readonly InboxMessage[]): readonly InboxMessage[] {
  return inbox.filter(message => message.text.startsWith('Your key:'))
}

const PORTS = { first: 20_000, count: 10_000 } as const

/** Below the range that outgoing connections draw from: nobody takes it while the bot is dead. */
async function freePort(env: Env): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = PORTS.first + Math.floor(env.random() * PORTS.count)
    const server = createServer()
    const free = await new Promise<boolean>(resolve => {
      server.once('error', () => { resolve(false) })
      server.listen(port, '127.0.0.1', () => { resolve(true) })
    })
    if (!free) continue
    await new Promise(resolve => { server.close(resolve) })
    return port
  }
  throw new Error('no free port was found')
}

const ANSWER_WITHIN_MS = 5_000
const LOOK_EVERY_MS = 25
const TRIES_MAX = 4
const PAUSE_MS = 1_500

/** Does `act` until `done` says so; what brought no answer in time is done again. @throws Error naming what never came */
export async function patiently(env: Env, what: string, act: () => void, done: () => boolean, tries = TRIES_MAX): Promise<void> {
  for (let attempt = 1; attempt <= tries; attempt += 1) {
    act()
    for (let waited = 0; waited < ANSWER_WITHIN_MS; waited += LOOK_EVERY_MS) {
      if (done()) return
      await env.sleep(LOOK_EVERY_MS)
    }
  }
  throw new Error(`${what} did not come after ${String(tries)} tries`)
}

/** From /start to the choice of how to pay. */
export async function browse(env: Env, { anna }: Outside): Promise<void> {
  await patiently(env, 'the welcome', () => { anna.command('/start') }, () => anna.button(/See the plans/) !== undefined)
  await patiently(env, 'the plans', () => { anna.press(/See the plans/) }, () => anna.button(/^1 month/) !== undefined)
  await patiently(env, 'the choice', () => { anna.press(/^1 month/) }, () => anna.button(/By card/) !== undefined)
}

/** From there to a charge. */
export async function buy(env: Env, outside: Outside, way: Way): Promise<void> {
  const { anna, cryptoPay } = outside
  if (way === 'crypto') {
    await patiently(env, 'the crypto invoice', () => { anna.press(/By crypto/) }, () => anna.button(/^Pay$/) !== undefined)
    const url = anna.button(/^Pay$/)?.url
    if (url === undefined) throw new Error('the button that pays has no link')
    cryptoPay.pay(url)
    return
  }
  await patiently(env, 'the invoice', () => { anna.press(/By card/) }, () => anna.inbox.some(message => message.invoice !== undefined))
  for (let attempt = 1; attempt <= TRIES_MAX; attempt += 1) {
    const payment = await anna.pay()
    if (payment.outcome === 'charged') return
    // Refused or not answered, so not charged. Perhaps it was the invoice of an order that a second press has replaced.
    await env.sleep(PAUSE_MS)
  }
  throw new Error('the payment was never taken')
}
