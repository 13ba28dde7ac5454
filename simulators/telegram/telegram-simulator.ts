/**
 * Telegram, as a bot sees it: the Bot API on one side, customers with phones on the other.
 *
 * Promises: every method of Bot API 10.1 is checked against the schema and refused as the server would; updates are
 * delivered as the server delivers them (./webhook.ts); what a customer was charged is never forgotten. All time and
 * all chance come from `env` and `seed`.
 * Not here: what is listed in README.md as not simulated.
 */
import { type Env, HoldfastError } from 'holdfast/core'
import { control, type ControlRoute, FaultScript, json, Ledger, pathOf, seededRandom, type Simulator } from '../kit/index.ts'
import { UserActor } from './actor.ts'
import { checkArguments, readArguments } from './arguments.ts'
import { Callbacks } from './callbacks.ts'
import { Chats, type InboxMessage } from './chats.ts'
import { Files } from './files.ts'
import { Flood, FLOOD_LIMITS, type FloodLimits } from './flood.ts'
import { Described, perform } from './methods.ts'
import { type Charge, Payments, type Refund } from './payments.ts'
import { botApi } from './schema.ts'
import { ApiError, type ApiReply, type TelegramUser, type Update } from './types.ts'
import { kindOf, Updates } from './updates.ts'
import type { WebhookAnswer } from './webhook.ts'
import type { World } from './world.ts'

export interface TelegramOptions {
  readonly env: Env
  /** Default 1. */
  readonly seed?: number
  /** Default `1000000001:SIMULATED-token-of-the-telegram-simulator`. */
  readonly token?: string
  /** Without `@`. Default `holdfast_demo_bot`. */
  readonly username?: string
  /** Default `generous`. */
  readonly flood?: 'off' | 'generous' | 'real' | FloodLimits
  /** Accept any webhook URL, as a local Bot API server does. Default true. */
  readonly local?: boolean
  /** Refuse unknown arguments, which the real server ignores. Default false. */
  readonly strictArguments?: boolean
  readonly webhook?: {
    /** Probe with one connection after 10 s without a success, as the server does. Default true. */
    readonly probe?: boolean
  }
}

export interface NewUser {
  readonly id: number
  readonly firstName: string
  readonly lastName?: string
  readonly username?: string
  readonly languageCode?: string
}

export interface TelegramState {
  readonly updates: { readonly pending: number; readonly delivered: number; readonly failed: number; readonly expired: number }
  readonly webhook: string | undefined
  readonly chats: readonly { readonly id: number; readonly name: string; readonly state: string; readonly messages: number }[]
  readonly callbacks: { readonly pressed: number; readonly answered: number; readonly unanswered: number }
  readonly checkouts: { readonly asked: number; readonly refused: number; readonly timeout: number }
  readonly charges: readonly Charge[]
  readonly refunds: readonly Refund[]
  /** `sendMessage.disable_web_page_preview`: 3. */
  readonly unknownArguments: Readonly<Record<string, number>>
}

export interface TelegramSimulator extends Simulator<TelegramState> {
  readonly token: string
  readonly me: TelegramUser
  /** Every charge, oldest first; refunded ones too. */
  readonly charges: readonly Charge[]
  readonly refunds: readonly Refund[]
  /** Updates that somebody still has to get. */
  readonly pendingUpdates: number
  /** As the bot would, but without HTTP, faults and ledger. */
  call(method: string, args?: Readonly<Record<string, unknown>>): Promise<ApiReply>
  setWebhook(url: string, options?: { readonly secretToken?: string; readonly maxConnections?: number; readonly allowedUpdates?: readonly string[] }): void
  removeWebhook(): void
  /** A second target that gets every new update as well: two instances, one bot. */
  alsoDeliverTo(url: string, options?: { readonly secretToken?: string; readonly maxConnections?: number }): { remove(): void }
  /** Queues any update; answers its number. Without `update_id` it gets the next one. */
  deliver(update: Readonly<Record<string, unknown>>): number
  /** Sends one update now, once, outside the lanes. Default: to the registered webhook. */
  post(update: Update, options?: { readonly url?: string; readonly secretToken?: string }): Promise<WebhookAnswer>
  /** The same update again, `times` at once to every target; the statuses that came back, 0 where there was none. */
  redeliver(updateId: number, times?: number): Promise<readonly number[]>
  /** The same id gives the same actor. */
  user(user: NewUser): UserActor
  users(): readonly UserActor[]
  group(group: { readonly id: number; readonly title: string }): void
  inboxOf(chatId: number): readonly InboxMessage[]
  /** A recurring payment: a new charge for the same payload, without pre-checkout. @throws RangeError */
  renew(chargeId: string): Charge
}

const DEFAULT_TOKEN = '1000000001:SIMULATED-token-of-the-telegram-simulator'
const SUBSCRIPTION_S = 2_592_000

export function telegramSimulator(options: TelegramOptions): TelegramSimulator {
  return new Telegram(options)
}

class Telegram implements TelegramSimulator {
  readonly name = 'telegram'
  readonly token: string
  readonly me: TelegramUser
  readonly ledger: Ledger
  readonly faults: FaultScript
  readonly fetch: (request: Request) => Promise<Response>
  readonly #world: World
  readonly #strict: boolean
  readonly #users = new Map<number, UserActor>()
  readonly #unknown = new Map<string, number>()
  readonly #prefix: string

  constructor({ env, seed = 1, token = DEFAULT_TOKEN, username = 'holdfast_demo_bot', flood = 'generous', local = true, strictArguments = false, webhook }: TelegramOptions) {
    if (!/^\d+:[\w-]{20,}$/.test(token)) throw new HoldfastError('HF_OPTION_INVALID', { message: 'telegram simulator: token: expected <digits>:<at least 20 letters, digits, - or _>' })
    const random = seededRandom(seed)
    this.token = token
    this.me = {
      ...{ id: Number(token.slice(0, token.indexOf(':'))), is_bot: true, first_name: 'Holdfast demo', username },
      ...{ can_join_groups: true, can_read_all_group_messages: false, supports_inline_queries: false, can_connect_to_business: false, has_main_web_app: false },
    }
    this.ledger = new Ledger(env)
    this.faults = new FaultScript(env, seededRandom(seed ^ 0x5f3759df), this.ledger)
    this.fetch = request => this.#answer(request)
    this.#strict = strictArguments
    this.#prefix = `/bot${token}/`
    const chats = new Chats(env)
    const updates = new Updates({
      env, firstId: random.int(100_000_000, 900_000_000),
      context: { env, random, faults: this.faults, probe: webhook?.probe ?? true, onMethod: (body, contentType) => { void this.#methodInReply(body, contentType) } },
    })
    this.#world = {
      env, random, me: this.me, chats, updates, local,
      payments: new Payments(env, random, chats, updates), callbacks: new Callbacks(env), files: new Files(env, random),
      flood: new Flood(env, flood === 'off' ? undefined : typeof flood === 'string' ? FLOOD_LIMITS[flood] : flood),
      profile: new Map(), lastSetWebhookAt: Number.NEGATIVE_INFINITY,
    }
  }

  get charges(): readonly Charge[] {
    return this.#world.payments.charges
  }

  get refunds(): readonly Refund[] {
    return this.#world.payments.refunds
  }

  get pendingUpdates(): number {
    return this.#world.updates.pending
  }

  setWebhook(url: string, options: { readonly secretToken?: string; readonly maxConnections?: number; readonly allowedUpdates?: readonly string[] } = {}): void {
    this.#world.updates.setWebhook({ url, secretToken: options.secretToken, maxConnections: options.maxConnections ?? 40, allowedUpdates: options.allowedUpdates })
  }

  removeWebhook(): void {
    this.#world.updates.removeWebhook()
  }

  alsoDeliverTo(url: string, options: { readonly secretToken?: string; readonly maxConnections?: number } = {}): { remove(): void } {
    return this.#world.updates.addTarget({ url, secretToken: options.secretToken, maxConnections: options.maxConnections ?? 40, allowedUpdates: undefined })
  }

  deliver(update: Readonly<Record<string, unknown>>): number {
    const { updates } = this.#world
    const numbered: Update = { ...update, update_id: typeof update['update_id'] === 'number' ? update['update_id'] : updates.nextId() }
    updates.deliver(numbered)
    return numbered.update_id
  }

  post(update: Update, options: { readonly url?: string; readonly secretToken?: string } = {}): Promise<WebhookAnswer> {
    const { updates } = this.#world
    const registered = updates.webhook
    if (options.url === undefined && registered === undefined) return Promise.reject(new RangeError('no webhook is set: call setWebhook, or give a url'))
    const target = options.url === undefined ? registered : updates.looseTarget(options.url, options.secretToken ?? registered?.settings.secretToken)
    return target?.post(update, kindOf(update)) ?? Promise.reject(new RangeError('no webhook is set'))
  }

  async redeliver(updateId: number, times = 1): Promise<readonly number[]> {
    const { updates } = this.#world
    const update = updates.find(updateId)
    if (update === undefined) throw new RangeError(`update ${String(updateId)} is not among the last ones`)
    const posts = updates.targets().flatMap(target => Array.from({ length: times }, () => target.post(update, kindOf(update)).then(answer => answer.status, () => 0)))
    return Promise.all(posts)
  }

  user({ id, firstName, lastName, username, languageCode }: NewUser): UserActor {
    let actor = this.#users.get(id)
    if (actor === undefined) {
      actor = new UserActor(this.#world, {
        id, is_bot: false, first_name: firstName,
        ...(lastName === undefined ? {} : { last_name: lastName }), ...(username === undefined ? {} : { username }), ...(languageCode === undefined ? {} : { language_code: languageCode }),
      })
      this.#users.set(id, actor)
    }
    return actor
  }

  users(): readonly UserActor[] {
    return [...this.#users.values()]
  }

  group({ id, title }: { readonly id: number; readonly title: string }): void {
    this.#world.chats.open({ id, type: 'supergroup', title })
  }

  inboxOf(chatId: number): readonly InboxMessage[] {
    return this.#world.chats.find(chatId)?.inbox ?? []
  }

  renew(chargeId: string): Charge {
    const { payments, chats } = this.#world
    const first = payments.charges.find(charge => charge.chargeId === chargeId)
    const chat = chats.find(first?.userId)
    if (first === undefined || chat?.user === undefined) throw new RangeError(`there is no charge ${chargeId}`)
    return payments.charge(chat, chat.user, { title: 'Renewal', payload: first.payload, currency: first.currency, amount: first.amount, subscriptionPeriodS: SUBSCRIPTION_S }, true)
  }

  async call(method: string, args: Readonly<Record<string, unknown>> = {}): Promise<ApiReply> {
    const schema = botApi().methods.get(method.toLowerCase())
    if (schema === undefined) return new ApiError(404, 'Not Found: method not found').reply()
    return this.#perform(schema.name, args, undefined)
  }

  state(): TelegramState {
    const { updates, chats, callbacks, payments } = this.#world
    const sum = { delivered: 0, failed: 0, expired: 0 }
    for (const { counts } of updates.targets()) {
      sum.delivered += counts.delivered
      sum.failed += counts.failed
      sum.expired += counts.expired
    }
    return {
      updates: { pending: updates.pending, ...sum },
      webhook: updates.webhook?.settings.url,
      chats: [...chats.all()].map(({ chat, state, messages }) => ({ id: chat.id, name: chat.title ?? chat.first_name ?? '', state, messages: messages.size })),
      callbacks: { ...callbacks.counts }, checkouts: { ...payments.counts },
      charges: payments.charges, refunds: payments.refunds,
      unknownArguments: Object.fromEntries(this.#unknown),
    }
  }

  /** Forgets messages, payments, pending updates, faults and ledger. Users, who blocked whom, and webhooks stay. */
  reset(): void {
    const { updates, chats, payments, callbacks, files, flood } = this.#world
    this.faults.clear()
    this.faults.release()
    updates.dropPending()
    payments.clear()
    callbacks.clear()
    chats.clear()
    files.clear()
    flood.clear()
    this.#unknown.clear()
    this.ledger.clear()
  }

  stop(): void {
    const { updates, payments, callbacks } = this.#world
    updates.stop()
    this.faults.clear()
    this.faults.release()
    payments.clear()
    callbacks.clear()
  }

  async #answer(request: Request): Promise<Response> {
    const path = pathOf(request.url)
    if (path.startsWith('/__sim')) return control(this, request, { help: HELP, routes: { users: (parts, asked) => this.#userRoute(parts, asked), deliver: (_parts, asked) => this.#deliverRoute(asked) } })
    if (path.startsWith('/file/bot')) return path.startsWith(`/file${this.#prefix}`) ? this.#world.files.download(decodeURIComponent(path.slice(this.#prefix.length + 5))) : unauthorized()
    if (!path.startsWith('/bot')) return respond(new ApiError(404, 'Not Found').reply())
    if (!path.startsWith(this.#prefix)) return unauthorized()
    const schema = botApi().methods.get(path.slice(this.#prefix.length).toLowerCase())
    if (schema === undefined) return respond(new ApiError(404, 'Not Found: method not found').reply())
    let raw: Record<string, unknown>
    try {
      raw = await readArguments(request)
    } catch (error) {
      if (error instanceof ApiError) return respond(error.reply())
      throw error
    }
    const { signal } = request
    return this.faults.run({
      direction: 'in', operation: schema.name, method: request.method, args: raw, signal,
      apply: async () => respond(await this.#perform(schema.name, raw, signal)),
      refuse: (status, retryAfterS) => respond(new ApiError(status, refusalText(status, retryAfterS), retryAfterS ?? (status === 429 ? 1 : undefined)).reply()),
    })
  }

  async #perform(method: string, raw: Readonly<Record<string, unknown>>, signal: AbortSignal | undefined): Promise<ApiReply> {
    const schema = botApi().methods.get(method.toLowerCase())
    if (schema === undefined) return new ApiError(404, 'Not Found: method not found').reply()
    try {
      const { args, unknown } = checkArguments(schema, raw)
      for (const name of unknown) {
        if (this.#strict) throw new ApiError(400, `Bad Request: unknown parameter "${name}" of ${method}`)
        this.#unknown.set(`${method}.${name}`, (this.#unknown.get(`${method}.${name}`) ?? 0) + 1)
      }
      const result: unknown = await perform(this.#world, schema, args, signal)
      return result instanceof Described ? { ok: true, result: result.result, description: result.description } : { ok: true, result }
    } catch (error) {
      if (error instanceof ApiError) return error.reply()
      throw error
    }
  }

  /** A webhook's 2xx body may carry a call. Its result goes nowhere, as with the real server. */
  async #methodInReply(body: string, contentType: string): Promise<void> {
    let raw: Record<string, unknown>
    try {
      raw = await readArguments(new Request('http://reply.invalid/', { method: 'POST', headers: { 'content-type': contentType }, body }))
    } catch {
      // The body happened to contain the word "method"; the server ignores what it cannot read, too.
      return
    }
    const schema = botApi().methods.get((typeof raw['method'] === 'string' ? raw['method'] : '').toLowerCase())
    if (schema === undefined || schema.name.startsWith('get') || NOT_IN_REPLY.includes(schema.name)) return
    await this.faults.run({
      direction: 'in', operation: schema.name, method: 'REPLY', args: raw, signal: undefined,
      apply: async () => respond(await this.#perform(schema.name, raw, undefined)),
      refuse: status => respond(new ApiError(status, refusalText(status, undefined)).reply()),
    }).catch(() => undefined)
  }

  readonly #userRoute: ControlRoute = async (parts, request) => {
    const [id, action] = parts
    const body = request.method === 'POST' ? (JSON.parse((await request.text()) || '{}') as Readonly<Record<string, unknown>>) : {}
    if (id === undefined) {
      if (request.method === 'GET') return json(200, { users: this.users().map(user => user.user) })
      const user = this.user({ id: Number(body['id']), firstName: typeof body['firstName'] === 'string' ? body['firstName'] : 'User', languageCode: typeof body['languageCode'] === 'string' ? body['languageCode'] : 'en' })
      return json(201, user.user)
    }
    const user = this.#users.get(Number(id))
    if (user === undefined) return json(404, { error: `no user ${id}: POST /__sim/users {"id": ${id}, "firstName": "Anna"} first` })
    switch (action) {
      case 'inbox': return json(200, { inbox: user.inbox.slice(-20).map(({ raw: _raw, ...seen }) => seen) })
      case 'send': return json(200, { messageId: user.send(String(body['text'])) })
      case 'press': {
        const pressed = user.press(new RegExp(String(body['button']), 'i'))
        return json(200, pressed.kind === 'callback' ? { kind: pressed.kind, answered: await pressed.answered } : pressed.kind === 'pay' ? await pressed.payment : pressed)
      }
      case 'pay': return json(200, await user.pay({ outcome: body['outcome'] === 'declined' || body['outcome'] === 'abandoned' ? body['outcome'] : 'ok' }))
      case 'block': user.block(); return json(200, { blocked: true })
      case 'unblock': user.unblock(); return json(200, { blocked: false })
      default: return json(404, { error: `no action ${String(action)}; see GET /__sim/help` })
    }
  }

  async #deliverRoute(request: Request): Promise<Response> {
    return json(202, { updateId: this.deliver(JSON.parse(await request.text()) as Record<string, unknown>) })
  }
}

const NOT_IN_REPLY: readonly string[] = ['setWebhook', 'deleteWebhook', 'close', 'logOut']

const HELP = [
  'GET    /__sim/users            who has a phone',
  'POST   /__sim/users            {"id":42,"firstName":"Anna","languageCode":"en"}',
  'GET    /__sim/users/42/inbox   what the bot sent',
  'POST   /__sim/users/42/send    {"text":"/start"}',
  'POST   /__sim/users/42/press   {"button":"month"}   the text or data of a button, as a pattern',
  'POST   /__sim/users/42/pay     {"outcome":"ok"}      or declined, abandoned',
  'POST   /__sim/users/42/block, /unblock',
  'POST   /__sim/deliver          any update, as JSON',
  'Calls are named after Bot API methods, webhook deliveries webhook:message, webhook:callback_query, webhook:pre_checkout_query, ...',
]

function respond(reply: ApiReply): Response {
  if (reply.ok) return json(200, reply)
  const retryAfterS = reply.parameters?.retry_after
  return json(reply.error_code, reply, retryAfterS === undefined ? undefined : { 'retry-after': String(retryAfterS) })
}

function unauthorized(): Response {
  return respond(new ApiError(401, 'Unauthorized').reply())
}

const REFUSALS: Readonly<Record<number, string>> = {
  400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 409: 'Conflict: terminated by other getUpdates request; make sure that only one bot instance is running',
  500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout',
}

function refusalText(status: number, retryAfterS: number | undefined): string {
  return status === 429 ? `Too Many Requests: retry after ${String(retryAfterS ?? 1)}` : REFUSALS[status] ?? `Error ${String(status)}`
}
