/**
 * The bot with its whole world in one process, on simulated time: for tests, drills and schedules. Same app, same
 * protocols, no sockets; a purchase takes a millisecond and is replayed by its seed.
 */
import type { HoldfastOptions, Store } from 'holdfast'
import { memory, type MemoryTx } from 'holdfast/memory'
import { simulatedEnv, type SimulatedEnv } from 'holdfast/testing'
import { type CryptoPaySimulator, cryptoPaySimulator } from 'holdfast-simulators/crypto-pay'
import { type TelegramSimulator, telegramSimulator, type UserActor } from 'holdfast-simulators/telegram'
import { type VpnPanelSimulator, vpnPanelSimulator } from 'holdfast-simulators/vpn-panel'
import { type AppOptions, createApp, CRYPTO_PAY_PATH, TELEGRAM_PATH, type VpnBot } from './app.ts'
import type { BotConfig } from './settings.ts'
import { memoryRows } from './shop/memory.ts'
import { brokenInvariants } from './shop/invariants.ts'
import { createShop, type Shop } from './shop/shop.ts'
import type { Snapshot } from './shop/types.ts'

export const ADMIN_ID = 7
const SECRET = 'simulated-webhook-secret'
export const BOT = 'http://bot.test'

interface Sent { readonly chat_id: number | string; readonly text: string }

function isDelivery(text: string | undefined): boolean {
  return text !== undefined && /^(?:Your key:|Ваш ключ:|Renewed|Продлено)/.test(text)
}

export interface WorldOptions {
  readonly seed?: number
  readonly latencyMs?: readonly [number, number]
}

/** Everything outside the bot: it goes on when a bot dies. */
export interface World {
  readonly env: SimulatedEnv
  readonly telegram: TelegramSimulator
  readonly cryptoPay: CryptoPaySimulator
  readonly panel: VpnPanelSimulator
  readonly config: BotConfig
  readonly admin: UserActor
  /** Automatic delivery messages that customers really got, by customer id. */
  deliveries(customerId: number): number
  /** Charges that really happened, by payment key. */
  charges(): readonly string[]
}

export function world({ seed = 1, latencyMs }: WorldOptions = {}): World {
  const root = simulatedEnv({ seed, ...(latencyMs === undefined ? {} : { latencyMs }) })
  const outside = root.process('outside')
  const telegram = telegramSimulator({ env: outside, seed })
  const cryptoPay = cryptoPaySimulator({ env: outside, seed, webhookUrl: `${BOT}${CRYPTO_PAY_PATH}` })
  const panel = vpnPanelSimulator({ env: outside, seed })
  root.serve('http://telegram.test', telegram.fetch)
  root.serve('http://crypto-pay.test', cryptoPay.fetch)
  root.serve('http://panel.test', panel.fetch)
  telegram.setWebhook(`${BOT}${TELEGRAM_PATH}`, { secretToken: SECRET })
  const admin = telegram.user({ id: ADMIN_ID, firstName: 'Admin', languageCode: 'en' })
  return {
    env: root, telegram, cryptoPay, panel, admin,
    config: {
      botToken: telegram.token, telegramApiRoot: 'http://telegram.test', webhookSecret: SECRET, publicUrl: undefined,
      cryptoPayToken: cryptoPay.token, cryptoPayUrl: 'http://crypto-pay.test', paymentProviderToken: 'simulated-provider',
      panelUrl: 'http://panel.test', panelToken: panel.token, adminIds: [String(ADMIN_ID)],
    },
    deliveries: customerId => {
      // An answer to /key reads the same. It is the one that goes to the chat it answers, by number; kept messages name it by text.
      const answers = telegram.ledger.entries('sendMessage').filter(({ args, applied }) => applied > 0 && (args as Partial<Sent>).chat_id === customerId && isDelivery((args as Partial<Sent>).text))
      return telegram.inboxOf(customerId).filter(message => isDelivery(message.text)).length - answers.length
    },
    charges: () => [
      ...telegram.charges.map(charge => `card:${charge.chargeId}`),
      ...cryptoPay.invoices().filter(invoice => invoice.status === 'paid').map(invoice => `crypto:${String(invoice.invoice_id)}`),
    ],
  }
}

export interface RunningOptions<Tx> extends Pick<HoldfastOptions, 'environment' | 'dataDir' | 'log'> {
  readonly store: Store<Tx>
  readonly shop: Shop<Tx>
  /** Which of several instances; the webhooks go to the one that started last, unless another name is given. */
  readonly origin?: string
  /** What a control takes away, or a drill breaks: the app is given this instead. */
  readonly given?: (options: AppOptions<Tx>) => AppOptions<Tx>
}

export interface Running<Tx> {
  readonly app: VpnBot<Tx>
  /** The process it runs in: `kill()` is SIGKILL. */
  readonly env: SimulatedEnv
  snapshot(): Promise<Snapshot>
  /** Broken promises of books, panel and providers together. */
  broken(options: { readonly atRest: boolean }): Promise<readonly string[]>
}

/** One instance of the bot in `outside`, started. */
export async function run<Tx>(outside: World, options: RunningOptions<Tx>): Promise<Running<Tx>> {
  const env = outside.env.process()
  const given: AppOptions<Tx> = {
    env, store: options.store, shop: options.shop, config: outside.config, log: options.log ?? 'silent', environment: options.environment ?? {},
    ...(options.dataDir === undefined ? {} : { dataDir: options.dataDir }),
  }
  const app = createApp(options.given?.(given) ?? given)
  outside.env.serve(options.origin ?? BOT, request => app.fetch(request, { remoteAddress: '127.0.0.1' }))
  let started = false
  const starting = app.start().then(() => { started = true })
  await Promise.race([starting, outside.env.until(() => started, '60s')])
  await starting
  const snapshot = (): Promise<Snapshot> => app.hold.transaction('snapshot', tx => options.shop.snapshot(tx))
  return {
    app, env, snapshot,
    async broken({ atRest }) {
      const books = await snapshot()
      return brokenInvariants(books, { atRest, outside: { charges: outside.charges(), panelUsers: outside.panel.keys().map(user => user.username) } })
    },
  }
}

/** On a memory store of its own. */
export function runInMemory(outside: World, options: Partial<RunningOptions<MemoryTx>> = {}): Promise<Running<MemoryTx>> {
  return run(outside, { store: memory(), shop: createShop(memoryRows), ...options })
}
