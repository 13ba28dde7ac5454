/**
 * What each method does. Methods that are not listed are known by the schema alone: their arguments are checked, and
 * they answer `true` or the smallest object of the type that they return.
 */
import { sample, sampleRef } from './sample.ts'
import { botApi, type MethodSchema } from './schema.ts'
import { copyMessage, deleteMessage, edit, forwardMessage, send, sendMedia, sendMediaGroup, sendMessage } from './sending.ts'
import type { Invoice } from './payments.ts'
import type { World } from './world.ts'
import { ApiError, badRequest, type Arguments } from './types.ts'

/** A result that comes with a sentence: `"description": "Webhook was set"`. */
export class Described {
  readonly result: unknown
  readonly description: string

  constructor(result: unknown, description: string) {
    this.result = result
    this.description = description
  }
}

type Handler = (world: World, args: Arguments, signal: AbortSignal | undefined) => unknown

/** @throws ApiError */
export function perform(world: World, method: MethodSchema, args: Arguments, signal: AbortSignal | undefined): unknown {
  const handler = HANDLERS[method.name]
  return handler === undefined ? bySchema(world, method, args) : handler(world, args, signal)
}

const HANDLERS: Readonly<Record<string, Handler>> = {
  getMe: world => world.me,
  setWebhook,
  deleteWebhook,
  getWebhookInfo,
  getUpdates: (world, args, signal) => world.updates.getUpdates(args, signal),
  sendMessage,
  sendMediaGroup,
  copyMessage,
  copyMessages: (world, args) => (args['message_ids'] as readonly number[]).map(id => copyMessage(world, { ...args, message_id: id })),
  forwardMessage,
  forwardMessages: (world, args) => (args['message_ids'] as readonly number[]).map(id => ({ message_id: forwardMessage(world, { ...args, message_id: id }).message_id })),
  editMessageText: (world, args) => edit(world, args, 'text'),
  editMessageCaption: (world, args) => edit(world, args, 'caption'),
  editMessageReplyMarkup: (world, args) => edit(world, args, 'reply_markup'),
  editMessageMedia: (world, args) => edit(world, args, 'media'),
  deleteMessage,
  deleteMessages: (world, args) => {
    const state = world.chats.reachable(args['chat_id'])
    for (const id of args['message_ids'] as readonly number[]) world.chats.remove(state, id)
    return true
  },
  answerCallbackQuery: (world, args) => {
    const { text, url } = args
    if (typeof text === 'string' && [...text].length > 200) throw badRequest('MESSAGE_TOO_LONG')
    world.callbacks.answer(String(args['callback_query_id']), {
      ...(typeof text === 'string' ? { text } : {}), ...(args['show_alert'] === true ? { showAlert: true } : {}), ...(typeof url === 'string' ? { url } : {}),
    })
    return true
  },
  sendInvoice: (world, args) => {
    const invoice = invoiceOf(args)
    const message = send(world, args, {
      invoice: { title: invoice.title, description: String(args['description']), start_parameter: textOf(args['start_parameter']), currency: invoice.currency, total_amount: invoice.amount },
    }, true)
    world.payments.remember(message, invoice)
    return message
  },
  createInvoiceLink: (world, args) => world.payments.link(invoiceOf(args)),
  answerPreCheckoutQuery: (world, args) => {
    const message = args['error_message']
    world.payments.answer(String(args['pre_checkout_query_id']), args['ok'] === true, typeof message === 'string' ? message : undefined)
    return true
  },
  refundStarPayment: (world, args) => {
    world.payments.refund(Number(args['user_id']), String(args['telegram_payment_charge_id']))
    return true
  },
  getStarTransactions: (world, args) => ({ transactions: world.payments.transactions(Number(args['offset'] ?? 0), Math.min(100, Number(args['limit'] ?? 100))) }),
  getMyStarBalance: world => ({
    amount: world.payments.charges.filter(charge => charge.currency === 'XTR' && !charge.refunded).reduce((sum, charge) => sum + charge.amount, 0),
  }),
  getFile: (world, args) => world.files.open(String(args['file_id'])),
  getChat: (world, args) => {
    const { chat } = world.chats.find(args['chat_id']) ?? refuseChat()
    return { ...(sample('ChatFullInfo', { random: world.random, date: world.chats.date() }) as object), ...chat }
  },
  sendChatAction: (world, args) => {
    world.chats.reachable(args['chat_id'])
    if (!ACTIONS.includes(String(args['action']))) throw badRequest('wrong parameter action in request')
    return true
  },
  setMyCommands: (world, args) => {
    for (const { command, description } of args['commands'] as readonly { readonly command: string; readonly description: string }[]) {
      if (!/^\/?[a-z0-9_]{1,32}$/.test(command)) throw badRequest('BOT_COMMAND_INVALID')
      if (description === '' || description.length > 256) throw badRequest('BOT_COMMAND_DESCRIPTION_INVALID')
    }
    world.profile.set(scopeOf('commands', args), args['commands'])
    return true
  },
  getMyCommands: (world, args) => world.profile.get(scopeOf('commands', args)) ?? [],
  deleteMyCommands: (world, args) => {
    world.profile.delete(scopeOf('commands', args))
    return true
  },
}

const ACTIONS: readonly string[] = [
  'typing', 'upload_photo', 'record_video', 'upload_video', 'record_voice', 'upload_voice', 'upload_document', 'choose_sticker', 'find_location', 'record_video_note', 'upload_video_note',
]

function refuseChat(): never {
  throw badRequest('chat not found')
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function scopeOf(what: string, args: Arguments): string {
  return `${what}:${JSON.stringify(args['scope'] ?? { type: 'default' })}:${textOf(args['language_code'])}`
}

/** Everything else: `sendVideo` puts a video into the chat, the others answer what the schema says. */
function bySchema(world: World, method: MethodSchema, args: Arguments): unknown {
  const [first] = method.returns
  if (first?.kind === 'named' && first.name === 'Message' && args['chat_id'] !== undefined) {
    const field = method.name.startsWith('send') ? method.name.slice(4).replace(/[A-Z]/g, (letter, index) => `${index === 0 ? '' : '_'}${String(letter).toLowerCase()}`) : ''
    return sendMedia(world, args, botApi().types.get('Message')?.fields.has(field) === true ? field : 'dice')
  }
  if (args['chat_id'] !== undefined && world.chats.find(args['chat_id']) === undefined) throw badRequest('chat not found')
  if (method.returns.some(ref => ref.kind === 'boolean') || first === undefined) return true
  return sampleRef(first, { random: world.random, date: world.chats.date() }, 0, undefined)
}

/** @throws ApiError 400 */
function invoiceOf(args: Arguments): Invoice {
  const currency = String(args['currency'])
  const prices = args['prices'] as readonly { readonly label: string; readonly amount: number }[]
  const amount = prices.reduce((sum, price) => sum + price.amount, 0)
  const token = args['provider_token']
  const period = args['subscription_period']
  if (!/^[A-Z]{3}$/.test(currency)) throw badRequest('CURRENCY_INVALID')
  if (prices.length === 0) throw badRequest('there must be at least one price')
  if (currency === 'XTR') {
    if (prices.length !== 1) throw badRequest('STARS_INVOICE_INVALID')
    if (token !== undefined) throw badRequest('PAYMENT_PROVIDER_INVALID')
    if (period !== undefined && period !== 2_592_000) throw badRequest('SUBSCRIPTION_PERIOD_INVALID')
  } else {
    if (token === undefined) throw badRequest('PAYMENT_PROVIDER_INVALID')
    if (period !== undefined) throw badRequest('SUBSCRIPTION_PERIOD_INVALID')
  }
  if (amount <= 0) throw badRequest('CURRENCY_TOTAL_AMOUNT_INVALID')
  return { title: String(args['title']), payload: String(args['payload']), currency, amount, subscriptionPeriodS: typeof period === 'number' ? period : undefined }
}

const WEBHOOK_EVERY_MS = 1_000
const PORTS: readonly string[] = ['', '443', '80', '88', '8443']

function setWebhook(world: World, args: Arguments): unknown {
  const url = String(args['url'])
  if (url === '') return deleteWebhook(world, args)
  const secret = args['secret_token'] === undefined ? undefined : textOf(args['secret_token'])
  const connections = Number(args['max_connections'] ?? 40)
  const allowed = args['allowed_updates'] as readonly string[] | undefined
  if (!URL.canParse(url)) throw badRequest('bad webhook: invalid URL')
  const parsed = new URL(url)
  if (!world.local && parsed.protocol !== 'https:') throw badRequest('bad webhook: An HTTPS URL must be provided for webhook')
  if (!world.local && !PORTS.includes(parsed.port)) throw badRequest('bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443')
  if (secret !== undefined && !/^[A-Za-z0-9_-]{1,256}$/.test(secret)) throw badRequest('secret token contains unallowed characters')
  if (connections < 1 || connections > 100) throw badRequest('max_connections must be 1-100')
  const before = world.updates.webhook?.settings
  const settings = { url, secretToken: secret, maxConnections: connections, allowedUpdates: allowed ?? before?.allowedUpdates }
  const drop = args['drop_pending_updates'] === true
  if (before !== undefined && !drop && JSON.stringify(before) === JSON.stringify(settings)) return new Described(true, 'Webhook is already set')
  if (world.env.now() - world.lastSetWebhookAt < WEBHOOK_EVERY_MS) throw new ApiError(429, 'Too Many Requests: retry after 1', 1)
  world.lastSetWebhookAt = world.env.now()
  if (drop) world.updates.dropPending()
  world.updates.setWebhook(settings)
  return new Described(true, 'Webhook was set')
}

function deleteWebhook(world: World, args: Arguments): unknown {
  const registered = world.updates.webhook !== undefined
  world.updates.removeWebhook()
  if (args['drop_pending_updates'] === true) world.updates.dropPending()
  return new Described(true, registered ? 'Webhook was deleted' : 'Webhook is already deleted')
}

function getWebhookInfo(world: World): unknown {
  const { webhook } = world.updates
  if (webhook === undefined) return { url: '', has_custom_certificate: false, pending_update_count: world.updates.pending }
  const { url, maxConnections, allowedUpdates } = webhook.settings
  return {
    url, has_custom_certificate: false, pending_update_count: webhook.pending, max_connections: maxConnections, ip_address: '127.0.0.1',
    ...(webhook.lastError === undefined ? {} : { last_error_date: webhook.lastError.at, last_error_message: webhook.lastError.message }),
    ...(allowedUpdates === undefined ? {} : { allowed_updates: allowedUpdates }),
  }
}
