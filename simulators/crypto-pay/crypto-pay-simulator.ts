/**
 * Crypto Pay API 1.5 (help.crypt.bot/crypto-pay-api), as a shop sees it.
 *
 * Keeps its traps: creating an invoice has no idempotency key, `update_id` of webhooks repeats, the signature is over raw
 * bytes, webhooks come at least once or never. What was paid is the simulator's own truth for invariants.
 * Not here: checks, app statistics, swaps, the real retry schedule (unpublished; here 1 s, 5 s, 25 s ...).
 */
import { type Env, HoldfastError } from 'holdfast/core'
import { control, FaultScript, json, Ledger, pathOf, type SeededRandom, seededRandom, type Simulator } from '../kit/index.ts'
import { ASSETS, checkInvoice, type CryptoInvoice, CryptoPayError, decimal, FIATS, type InvoiceRequest, rate, signatureOf } from './invoice.ts'

export type { CryptoInvoice } from './invoice.ts'

export interface CryptoPayOptions {
  readonly env: Env
  /** Default 1. */
  readonly seed?: number
  /** Default `10001:SIMULATED-crypto-pay-token`. */
  readonly token?: string
  readonly webhookUrl?: string
  /** Number of the first invoice. Default 1001. A world that is made anew beside books that were kept begins elsewhere. */
  readonly firstInvoiceId?: number
  readonly webhook?: {
    /** How often a webhook is tried at most. Default 5. */
    readonly attempts?: number
    /** Lose every webhook: only polling finds payments. Default false. */
    readonly never?: boolean
  }
  /** May an expired invoice still be paid (the customer had it open)? Default false. */
  readonly payExpired?: boolean
}

export interface PayInvoiceOptions {
  /** Default: the invoice's own, or the first that it accepts. */
  readonly asset?: string
  /** A customer who had the page open when it expired. */
  readonly evenIfExpired?: boolean
}

export interface Transfer {
  readonly transfer_id: number
  readonly spend_id: string
  readonly user_id: number
  readonly asset: string
  readonly amount: string
  readonly status: 'completed'
  readonly completed_at: string
}

export interface CryptoPayState {
  readonly invoices: readonly CryptoInvoice[]
  readonly paid: number
  readonly transfers: readonly Transfer[]
  readonly webhooks: { readonly sent: number; readonly accepted: number; readonly lost: number }
}

export interface CryptoPaySimulator extends Simulator<CryptoPayState> {
  readonly token: string
  /** Where webhooks go, and whether they are all lost. May be changed at any time. */
  readonly webhook: { url: string | undefined; never: boolean }
  /** The customer pays. @throws RangeError when there is no such invoice, or it is paid, deleted or expired. */
  pay(invoice: number | string, options?: PayInvoiceOptions): CryptoInvoice
  /** By number or by any of its URLs. */
  invoice(invoice: number | string): CryptoInvoice | undefined
  invoices(): readonly CryptoInvoice[]
  transfers(): readonly Transfer[]
  /** Sends a webhook by hand, once, whatever `never` says: a duplicate, a forged signature, other bytes. Answers the status, 0 without one. */
  sendWebhook(invoice: number | string, options?: { readonly updateId?: number; readonly signature?: string; readonly body?: string }): Promise<number>
}

interface Row {
  readonly id: number
  readonly hash: string
  readonly request: InvoiceRequest
  readonly createdAt: number
  readonly expiresAt: number | undefined
  paid: { readonly at: number; readonly asset: string; readonly amount: string } | undefined
}

const ATTEMPTS = 5
const RESPONSE_LIMIT_MS = 10_000
const COUNT_MAX = 1_000

export function cryptoPaySimulator(options: CryptoPayOptions): CryptoPaySimulator {
  return new CryptoPay(options)
}

class CryptoPay implements CryptoPaySimulator {
  readonly name = 'crypto-pay'
  readonly token: string
  readonly webhook: { url: string | undefined; never: boolean }
  readonly ledger: Ledger
  readonly faults: FaultScript
  readonly fetch: (request: Request) => Promise<Response>
  readonly #env: Env
  readonly #random: SeededRandom
  readonly #attempts: number
  readonly #payExpired: boolean
  readonly #invoices = new Map<number, Row>()
  readonly #byUrl = new Map<string, number>()
  readonly #transfers = new Map<string, Transfer>()
  readonly #webhooks = { sent: 0, accepted: 0, lost: 0 }
  #nextId: number
  /** Counts restarts: what was under way before one does not go on. */
  #epoch = 0

  constructor({ env, seed = 1, token = '10001:SIMULATED-crypto-pay-token', webhookUrl, webhook, payExpired = false, firstInvoiceId = 1_001 }: CryptoPayOptions) {
    const attempts = webhook?.attempts ?? ATTEMPTS
    if (!Number.isInteger(attempts) || attempts < 1 || attempts > 20) throw new HoldfastError('HF_OPTION_INVALID', { message: `crypto-pay simulator: webhook.attempts: expected 1 to 20, got ${String(attempts)}` })
    if (!Number.isInteger(firstInvoiceId) || firstInvoiceId < 1) throw new HoldfastError('HF_OPTION_INVALID', { message: `crypto-pay simulator: firstInvoiceId: expected a whole number from 1, got ${String(firstInvoiceId)}` })
    this.#env = env
    this.#random = seededRandom(seed)
    this.#attempts = attempts
    this.#nextId = firstInvoiceId
    this.#payExpired = payExpired
    this.token = token
    this.webhook = { url: webhookUrl, never: webhook?.never ?? false }
    this.ledger = new Ledger(env)
    this.faults = new FaultScript(env, seededRandom(seed ^ 0x6c078965), this.ledger)
    this.fetch = request => this.#answer(request)
  }

  pay(invoice: number | string, { asset, evenIfExpired }: PayInvoiceOptions = {}): CryptoInvoice {
    const row = this.#find(invoice)
    if (row === undefined) throw new RangeError(`there is no invoice ${String(invoice)}`)
    if (row.paid !== undefined) throw new RangeError(`invoice ${String(row.id)} is paid already`)
    if (this.#statusOf(row) === 'expired' && !(evenIfExpired ?? this.#payExpired)) throw new RangeError(`invoice ${String(row.id)} has expired`)
    const { request } = row
    const paidAsset = asset ?? request.asset ?? request.acceptedAssets?.[0] ?? 'USDT'
    const amount = request.currencyType === 'crypto' ? request.amount : decimal(Number(request.amount) * Number(rate(request.fiat ?? 'USD', paidAsset)))
    row.paid = { at: this.#env.now(), asset: paidAsset, amount }
    void this.#notify(row, this.#epoch)
    return this.#shown(row)
  }

  invoice(invoice: number | string): CryptoInvoice | undefined {
    const row = this.#find(invoice)
    return row === undefined ? undefined : this.#shown(row)
  }

  invoices(): readonly CryptoInvoice[] {
    return [...this.#invoices.values()].map(row => this.#shown(row))
  }

  transfers(): readonly Transfer[] {
    return [...this.#transfers.values()]
  }

  async sendWebhook(invoice: number | string, options: { readonly updateId?: number; readonly signature?: string; readonly body?: string } = {}): Promise<number> {
    const row = this.#find(invoice)
    if (row === undefined) throw new RangeError(`there is no invoice ${String(invoice)}`)
    const body = options.body ?? this.#webhookBody(row, options.updateId)
    return this.#post(row, body, options.signature ?? signatureOf(this.token, body))
  }

  state(): CryptoPayState {
    const invoices = this.invoices()
    return { invoices, paid: invoices.filter(invoice => invoice.status === 'paid').length, transfers: this.transfers(), webhooks: { ...this.#webhooks } }
  }

  /** Forgets everything but where webhooks go. */
  reset(): void {
    this.stop()
    this.#invoices.clear()
    this.#byUrl.clear()
    this.#transfers.clear()
    this.ledger.clear()
    Object.assign(this.#webhooks, { sent: 0, accepted: 0, lost: 0 })
  }

  stop(): void {
    this.#epoch += 1
    this.faults.clear()
    this.faults.release()
  }

  async #answer(request: Request): Promise<Response> {
    const path = pathOf(request.url)
    if (path.startsWith('/__sim')) return control(this, request, { help: HELP, routes: { pay: async (parts, asked) => this.#payRoute(parts, asked), webhook: async (_parts, asked) => this.#webhookRoute(asked) } })
    const operation = path.startsWith('/api/') ? METHODS.find(name => name === path.slice(5)) : undefined
    if (operation === undefined) return failure(new CryptoPayError(405, 'METHOD_NOT_FOUND'))
    const args = await argumentsOf(request)
    const authorized = request.headers.get('crypto-pay-api-token') === this.token
    return this.faults.run({
      direction: 'in', operation, method: request.method, args, signal: request.signal,
      apply: () => {
        if (!authorized) return failure(new CryptoPayError(401, 'UNAUTHORIZED'))
        try {
          return json(200, { ok: true, result: this.#perform(operation, args) })
        } catch (error) {
          if (error instanceof CryptoPayError) return failure(error)
          throw error
        }
      },
      refuse: (status, retryAfterS) => json(status, { ok: false, error: { code: status, name: REFUSALS[status] ?? 'INTERNAL_ERROR' } }, retryAfterS === undefined ? undefined : { 'retry-after': String(retryAfterS) }),
    })
  }

  #perform(operation: Method, args: Readonly<Record<string, unknown>>): unknown {
    switch (operation) {
      case 'getMe': return { app_id: Number(this.token.split(':')[0]) || 10_001, name: 'Holdfast demo', payment_processing_bot_username: 'CryptoTestnetBot' }
      case 'createInvoice': return this.#create(checkInvoice(args))
      case 'getInvoices': return this.#list(args)
      case 'deleteInvoice': {
        const row = this.#invoices.get(Number(args['invoice_id']))
        if (row === undefined) throw new CryptoPayError(400, 'INVOICE_NOT_FOUND')
        if (row.paid !== undefined) throw new CryptoPayError(400, 'INVOICE_ALREADY_PAID')
        this.#invoices.delete(row.id)
        return true
      }
      case 'transfer': return this.#transfer(args)
      case 'getBalance': return ASSETS.map(asset => ({ currency_code: asset, available: decimal(this.#balance(asset)), onhold: '0' }))
      case 'getExchangeRates':
        return ASSETS.flatMap(source => FIATS.map(target => ({ is_valid: true, is_crypto: true, is_fiat: false, source, target, rate: rate(source, target) })))
      case 'getCurrencies':
        return [...ASSETS.map(code => ({ is_blockchain: true, is_stablecoin: code.startsWith('USD'), is_fiat: false, name: code, code, decimals: 8 })), ...FIATS.map(code => ({ is_blockchain: false, is_stablecoin: false, is_fiat: true, name: code, code, decimals: 8 }))]
    }
  }

  #create(request: InvoiceRequest): CryptoInvoice {
    const now = this.#env.now()
    const row: Row = { id: this.#nextId, hash: `IV${this.#random.text(10)}`, request, createdAt: now, expiresAt: request.expiresInS === undefined ? undefined : now + request.expiresInS * 1_000, paid: undefined }
    this.#nextId += 1
    this.#invoices.set(row.id, row)
    this.#byUrl.set(row.hash, row.id)
    return this.#shown(row)
  }

  #list(args: Readonly<Record<string, unknown>>): unknown {
    const { asset, fiat, status } = args
    const asked: unknown = args['invoice_ids']
    const ids = asked === undefined ? undefined : (Array.isArray(asked) ? asked : typeof asked === 'string' ? asked.split(',') : [asked]).map(Number)
    const offset = Number(args['offset'] ?? 0)
    const count = Number(args['count'] ?? 100)
    if (!Number.isInteger(offset) || offset < 0) throw new CryptoPayError(400, 'OFFSET_INVALID')
    if (!Number.isInteger(count) || count < 1 || count > COUNT_MAX) throw new CryptoPayError(400, 'COUNT_INVALID')
    if (ids?.some(id => !Number.isInteger(id)) === true) throw new CryptoPayError(400, 'INVOICE_IDS_INVALID')
    if (status !== undefined && status !== 'active' && status !== 'paid' && status !== 'expired') throw new CryptoPayError(400, 'STATUS_INVALID')
    const found = (ids === undefined ? [...this.#invoices.values()].reverse() : ids.flatMap(id => this.#invoices.get(id) ?? []))
      .filter(row => (asset === undefined || row.request.asset === asset) && (fiat === undefined || row.request.fiat === fiat) && (status === undefined || this.#statusOf(row) === status))
    return { items: found.slice(offset, offset + count).map(row => this.#shown(row)) }
  }

  #transfer(args: Readonly<Record<string, unknown>>): Transfer {
    const { user_id: userId, asset, amount, spend_id: spendId } = args
    if (!Number.isInteger(Number(userId)) || Number(userId) <= 0) throw new CryptoPayError(400, 'USER_ID_INVALID')
    if (typeof asset !== 'string' || !ASSETS.includes(asset)) throw new CryptoPayError(400, 'ASSET_INVALID')
    if (!(Number(amount) > 0)) throw new CryptoPayError(400, 'AMOUNT_INVALID')
    if (typeof spendId !== 'string' || spendId === '' || spendId.length > 64) throw new CryptoPayError(400, 'SPEND_ID_INVALID')
    const before = this.#transfers.get(spendId)
    if (before !== undefined) return before
    if (this.#balance(asset) < Number(amount)) throw new CryptoPayError(400, 'NOT_ENOUGH_COINS')
    const transfer: Transfer = { transfer_id: 500 + this.#transfers.size, spend_id: spendId, user_id: Number(userId), asset, amount: String(amount), status: 'completed', completed_at: iso(this.#env.now()) }
    this.#transfers.set(spendId, transfer)
    return transfer
  }

  #balance(asset: string): number {
    let sum = 0
    for (const { paid } of this.#invoices.values()) if (paid?.asset === asset) sum += Number(paid.amount)
    for (const transfer of this.#transfers.values()) if (transfer.asset === asset) sum -= Number(transfer.amount)
    return sum
  }

  #find(invoice: number | string): Row | undefined {
    if (typeof invoice === 'number') return this.#invoices.get(invoice)
    const hash = /IV[A-Za-z0-9]{10}/.exec(invoice)?.[0]
    return this.#invoices.get(hash === undefined ? Number(invoice) : this.#byUrl.get(hash) ?? 0)
  }

  #statusOf(row: Row): CryptoInvoice['status'] {
    if (row.paid !== undefined) return 'paid'
    return row.expiresAt !== undefined && row.expiresAt <= this.#env.now() ? 'expired' : 'active'
  }

  #shown(row: Row): CryptoInvoice {
    const { id, hash, request, paid } = row
    return {
      invoice_id: id, hash, currency_type: request.currencyType,
      ...(request.asset === undefined ? {} : { asset: request.asset }), ...(request.fiat === undefined ? {} : { fiat: request.fiat }),
      ...(request.acceptedAssets === undefined ? {} : { accepted_assets: request.acceptedAssets }),
      amount: request.amount,
      bot_invoice_url: `https://t.me/CryptoTestnetBot?start=${hash}`, mini_app_invoice_url: `https://t.me/CryptoTestnetBot/app?startapp=invoice-${hash}`, web_app_invoice_url: `https://testnet-app.crypt.bot/invoices/${hash}`,
      ...(request.description === undefined ? {} : { description: request.description }), ...(request.payload === undefined ? {} : { payload: request.payload }),
      status: this.#statusOf(row), created_at: iso(row.createdAt), ...(row.expiresAt === undefined ? {} : { expiration_date: iso(row.expiresAt) }),
      allow_comments: true, allow_anonymous: true,
      ...(paid === undefined ? {} : {
        paid_at: iso(paid.at), paid_anonymously: false, paid_asset: paid.asset, paid_amount: paid.amount, paid_usd_rate: rate(paid.asset, 'USD'),
        ...(request.fiat === undefined ? {} : { paid_fiat_rate: rate(paid.asset, request.fiat) }), fee_asset: paid.asset, fee_amount: decimal(Number(paid.amount) * 0.03),
      }),
    }
  }

  #webhookBody(row: Row, updateId?: number): string {
    // Documented as "non-unique": few numbers, so that a shop which takes them for a key is found out.
    return JSON.stringify({ update_id: updateId ?? this.#random.int(1, 3), update_type: 'invoice_paid', request_date: iso(this.#env.now()), payload: this.#shown(row) })
  }

  /** Never rejects. At least once, unless all attempts fail. */
  async #notify(row: Row, epoch: number): Promise<void> {
    for (let attempt = 0; attempt < this.#attempts; attempt += 1) {
      if (this.webhook.url === undefined || this.webhook.never) break
      const body = this.#webhookBody(row)
      const status = await this.#post(row, body, signatureOf(this.token, body))
      if (this.#epoch !== epoch) return
      if (status >= 200 && status < 300) {
        this.#webhooks.accepted += 1
        return
      }
      await this.#pause(1_000 * 5 ** attempt)
      if (this.#epoch !== epoch) return
    }
    this.#webhooks.lost += 1
  }

  /** The status, 0 without one. */
  async #post(row: Row, body: string, signature: string): Promise<number> {
    const { url } = this.webhook
    if (url === undefined) return 0
    this.#webhooks.sent += 1
    const controller = new AbortController()
    const timer = this.#env.timer(RESPONSE_LIMIT_MS, () => { controller.abort() })
    const gone = new Promise<never>((_resolve, reject) => { controller.signal.addEventListener('abort', () => { reject(new DOMException('timeout', 'TimeoutError')) }, { once: true }) })
    const { signal } = controller
    try {
      const sending = this.faults.run({
        direction: 'out', operation: 'webhook', method: 'POST', args: { invoice_id: row.id }, signal,
        apply: () => this.#env.fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', 'crypto-pay-api-signature': signature }, body, signal, redirect: 'manual' }),
        refuse: status => json(status, {}),
      })
      const response = await Promise.race([sending, gone])
      await Promise.race([response.text(), gone])
      return response.status
    } catch {
      // A webhook that does not arrive is an everyday thing: the ledger has it, and the next attempt follows.
      return 0
    } finally {
      timer.cancel()
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => { this.#env.timer(ms, resolve) })
  }

  async #payRoute([id]: readonly string[], request: Request): Promise<Response> {
    const body = JSON.parse((await request.text()) || '{}') as { readonly evenIfExpired?: boolean; readonly asset?: string }
    return json(200, this.pay(id ?? '', { ...(body.evenIfExpired === undefined ? {} : { evenIfExpired: body.evenIfExpired }), ...(body.asset === undefined ? {} : { asset: body.asset }) }))
  }

  async #webhookRoute(request: Request): Promise<Response> {
    if (request.method === 'POST') {
      const body = JSON.parse(await request.text()) as { readonly url?: string; readonly never?: boolean }
      if (body.url !== undefined) this.webhook.url = String(body.url)
      if (body.never !== undefined) this.webhook.never = body.never
    }
    return json(200, this.webhook)
  }
}

const METHODS = ['getMe', 'createInvoice', 'getInvoices', 'deleteInvoice', 'transfer', 'getBalance', 'getExchangeRates', 'getCurrencies'] as const
type Method = (typeof METHODS)[number]

const HELP = [
  'POST   /__sim/pay/1001         {"evenIfExpired":true}: the customer pays (number, hash or URL of the invoice)',
  'POST   /__sim/webhook          {"url":"http://127.0.0.1:8700/crypto-pay"} or {"never":true}: lose every webhook',
  `Operations: ${METHODS.join(', ')}; webhook (outgoing)`,
]

const REFUSALS: Readonly<Record<number, string>> = { 401: 'UNAUTHORIZED', 403: 'FORBIDDEN', 429: 'TOO_MANY_REQUESTS', 500: 'INTERNAL_ERROR', 503: 'SERVICE_UNAVAILABLE' }

async function argumentsOf(request: Request): Promise<Readonly<Record<string, unknown>>> {
  const query = request.url.includes('?') ? Object.fromEntries(new URL(request.url).searchParams) : {}
  const text = request.method === 'GET' ? '' : await request.text()
  if (text === '') return query
  if ((request.headers.get('content-type') ?? '').includes('x-www-form-urlencoded')) return { ...query, ...Object.fromEntries(new URLSearchParams(text)) }
  try {
    const body: unknown = JSON.parse(text)
    return { ...query, ...(body as object) }
  } catch {
    // What is missing is then refused by name.
    return query
  }
}

function failure(error: CryptoPayError): Response {
  return json(error.code, { ok: false, error: { code: error.code, name: error.error } })
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
