/**
 * The bot, assembled: every part is handed in or made here, and nothing lives in a module. So the same app runs on
 * simulated time with simulators in process, on real sockets, and twice in one process.
 */
import { createHoldfast, type DurableHoldfast, type HoldfastOptions, type Store } from 'holdfast'
import { type Env, HoldfastError, withContext } from 'holdfast/core'
import { combine, cryptoPaySignature, type HttpHandler, mount, type Mounted, probes, webhook } from 'holdfast/http'
import { type DemoControls, operate } from 'holdfast/operate'
import { guardedApi, TELEGRAM_SOURCE, TELEGRAM_TOPIC, telegramApi, telegramProcessing, telegramSender, telegramWebhook } from 'holdfast/telegram'
import type { Bot } from 'grammy'
import type { Update, UserFromGetMe } from 'grammy/types'
import { adminCommands } from './admin.ts'
import { customersBot, handleTheRest } from './bot.ts'
import { define, type Definitions } from './definitions.ts'
import { type Finalise, finaliser } from './finalise.ts'
import { notices } from './notices.ts'
import { chargeOf, cryptoPay as cryptoPayClient, InvoicePaid } from './partners/crypto-pay.ts'
import { vpnPanel } from './partners/vpn-panel.ts'
import { provisioning as provisioningOf, type Provisioning } from './provisioning.ts'
import { runbooks } from './runbooks.ts'
import type { BotConfig } from './settings.ts'
import { shopMigrations } from './shop/migrations.ts'
import type { Shop } from './shop/shop.ts'
import { languageOf, TEXTS } from './texts.ts'
import { workers } from './workers.ts'

export const TELEGRAM_PATH = '/webhooks/telegram'
export const CRYPTO_PAY_PATH = '/webhooks/crypto-pay'
const PROVISIONING_DRAIN_MS = 5_000

export interface AppOptions<Tx> extends Pick<HoldfastOptions, 'environment' | 'dataDir' | 'log' | 'alertSinks' | 'secrets' | 'leaseFor' | 'drainFor'> {
  readonly env: Env
  readonly store: Store<Tx>
  readonly shop: Shop<Tx>
  readonly config: BotConfig
  /** Given by a demonstration: the console then shows its buttons. */
  readonly demo?: DemoControls
  /** Of the console. Without one only this machine is answered. */
  readonly consoleToken?: string
  /** The address that the server listens on. */
  readonly host?: string
}

export interface VpnBot<Tx> {
  readonly hold: DurableHoldfast<Tx>
  readonly bot: Bot
  readonly definitions: Definitions
  readonly finalise: Finalise
  readonly provisioning: Provisioning
  /** Every HTTP route: webhooks, probes, console. */
  readonly fetch: HttpHandler
  start(): Promise<void>
  /** Drains. Never throws. */
  stop(reason?: string): Promise<void>
}

export function createApp<Tx>(options: AppOptions<Tx>): VpnBot<Tx> {
  const { env, store, shop, config } = options
  const hold = createHoldfast({
    service: 'vpn-bot', version: '0.1.0', env, store, runbooks,
    ...given(options, ['environment', 'dataDir', 'log', 'alertSinks', 'secrets', 'leaseFor', 'drainFor']),
  })
  hold.migrations(shopMigrations)
  const definitions = define(hold)
  const { switches, limits } = definitions

  const telegram = telegramApi({ dependency: definitions.telegram, env, token: config.botToken, apiRoot: config.telegramApiRoot })
  const panel = vpnPanel({ dependency: definitions.vpnPanel, env, url: config.panelUrl, token: config.panelToken })
  const cryptoPay = cryptoPayClient({ dependency: definitions.cryptoPay, env, url: config.cryptoPayUrl, token: config.cryptoPayToken })
  hold.outbox.topic(TELEGRAM_TOPIC, {
    runbook: 'telegram-down',
    send: telegramSender({ telegram, unreachable: chatId => hold.transaction('shop.unreachable', tx => shop.unreachable(tx, chatId)) }),
  })

  let stopping = false
  const messages = notices(hold.outbox)
  const provisioning = provisioningOf({ hold, shop, panel, panelDependency: definitions.vpnPanel, notices: messages, adminIds: config.adminIds, allowed: () => switches.vpnProvisioning.on && !stopping })
  const finalise = finaliser({ hold, shop, notices: messages, adminIds: config.adminIds, paid: id => { provisioning.activateSoon(id) } })
  workers({ hold, shop, definitions, provisioning, cryptoPay, panel, finalise })

  // Also without customers: an outage shows before somebody pays, and a breaker closes again after it.
  for (const [name, ping] of Object.entries({
    'telegram-ping': (signal: AbortSignal) => telegram.call('getMe', {}, signal),
    'crypto-pay-ping': (signal: AbortSignal) => cryptoPay.ping(signal),
    'vpn-panel-ping': (signal: AbortSignal) => panel.ping(signal),
  })) {
    hold.health.check(name, { tier: 'degradable', every: '30s', timeout: '5s', check: ({ signal }) => ping(signal) })
  }

  const bot = customersBot({
    hold, env, shop, notices: messages, switches, paymentInit: limits.paymentInit, cryptoPay, finalise,
    paymentProviderToken: config.paymentProviderToken, token: config.botToken, botInfo: botInfoOf(config.botToken),
  })
  adminCommands(bot, { hold, shop, switches, adminAction: limits.adminAction, adminIds: config.adminIds, provisioning })
  handleTheRest(bot)
  guardedApi(bot.api, telegram)

  const handleUpdate = telegramProcessing({
    bot, env, events: hold.events,
    apologise: async ({ chatId, userId, language }, code) => {
      // Only in private: a group is nobody's customer.
      if (chatId !== undefined && chatId === userId) await telegram.call('sendMessage', { chat_id: chatId, text: TEXTS[languageOf(language)].failed(code) })
    },
  })
  hold.inbox.process(TELEGRAM_SOURCE, ({ payload }) => handleUpdate(payload as unknown as Update))

  const cryptoPayWebhook = webhook({
    path: CRYPTO_PAY_PATH, name: 'crypto-pay', bodyLimit: '1mb', events: hold.events, verify: cryptoPaySignature(config.cryptoPayToken),
    handle: async ({ json }) => {
      const update = InvoicePaid.safeParse(json())
      const charge = update.success ? chargeOf(update.data.payload) : undefined
      // Signed and not about a paid invoice: a kind of news that we do not need.
      if (charge === undefined) return
      // Booked before it is acknowledged; while the store is away the answer is 503 and Crypto Pay comes again.
      await withContext({ correlationId: `crypto-pay-${charge.chargeId}`, component: 'webhook crypto-pay' }, () => finalise(charge))
    },
  })

  const desk = operate(hold, {
    host: options.host ?? '127.0.0.1',
    ...(options.demo === undefined ? {} : { demo: options.demo }),
    ...(options.consoleToken === undefined ? {} : { token: options.consoleToken }),
  })
  const parts: readonly Mounted[] = [
    mount(TELEGRAM_PATH, telegramWebhook({ inbox: hold.inbox, secret: config.webhookSecret, events: hold.events })),
    cryptoPayWebhook,
    probes(notReadyOnce(() => stopping, hold), { version: '0.1.0', ...(options.consoleToken === undefined ? {} : { token: options.consoleToken }) }),
    desk,
    mount('/', async () => new Response(null, { status: 302, headers: { location: '/console' } })),
  ]

  if (config.publicUrl !== undefined) {
    const url = `${config.publicUrl}${TELEGRAM_PATH}`
    hold.worker('telegram-webhook', {
      every: '600s', safeSleep: '15s', runbook: 'telegram-down', needs: [definitions.telegram, 'leader'],
      run: async () => {
        const me = await telegram.call('getMe', {})
        if (me.ok) bot.botInfo = me.result as UserFromGetMe
        const info = await telegram.call('getWebhookInfo', {})
        if (info.ok && (info.result as { readonly url?: string }).url === url) return
        // Never with drop_pending_updates: what waits there may be a payment.
        const set = await telegram.call('setWebhook', { url, secret_token: config.webhookSecret, max_connections: 40, allowed_updates: [] })
        if (!set.ok) throw new HoldfastError('HF_CALL_REJECTED', { message: `setWebhook: ${set.description}` })
      },
    })
  }

  return {
    hold, bot, definitions, finalise, provisioning,
    fetch: combine(parts, { events: hold.events }),
    start: () => hold.start(),
    async stop(reason) {
      stopping = true
      desk.stop()
      // What is begun on the panel is a saga: what does not end in time is taken up by recovery at the next start.
      await Promise.race([provisioning.drained(), env.sleep(PROVISIONING_DRAIN_MS)])
      await hold.stop(reason)
    },
  }
}

/** Those of the options that were given: an optional property is left out, not undefined. */
function given<T extends object, Name extends keyof T>(options: T, names: readonly Name[]): Pick<T, Name> {
  return Object.fromEntries(names.flatMap(name => (options[name] === undefined ? [] : [[name, options[name]]]))) as Pick<T, Name>
}

/** The same service, not ready from the first moment of a stop: runs on the panel are waited for before `hold` itself drains. */
function notReadyOnce<Tx>(stopping: () => boolean, hold: DurableHoldfast<Tx>): DurableHoldfast<Tx> {
  return Object.create(hold, { phase: { get: () => (stopping() && hold.phase === 'ready' ? 'draining' : hold.phase) } }) as DurableHoldfast<Tx>
}

/** Enough for grammY to begin with; the worker asks Telegram for the rest. */
function botInfoOf(token: string): UserFromGetMe {
  return {
    id: Number(token.split(':')[0]), is_bot: true, first_name: 'vpn-bot', username: 'vpn_bot', can_join_groups: false, can_read_all_group_messages: false, supports_inline_queries: false,
    can_connect_to_business: false, has_main_web_app: false,
  } as UserFromGetMe
}
