/**
 * Payments: invoices, the ten seconds of a pre-checkout, charges, refunds, the ledger of Stars.
 *
 * A customer who pays makes a `pre_checkout_query`; without `ok: true` within 10 s nothing is charged. A charge is the
 * simulator's own truth: invariants compare it with what the bot granted. The reply to the bot's `answerPreCheckoutQuery`
 * may be lost by a fault, and the charge still stands.
 */
import type { Env, Timer } from 'holdfast/core'
import type { SeededRandom } from '../kit/index.ts'
import { badRequest, type Message, type TelegramUser } from './types.ts'
import type { ChatState, Chats } from './chats.ts'
import type { Updates } from './updates.ts'

export interface Invoice {
  readonly title: string
  readonly payload: string
  /** `RUB`, `XTR`, ... */
  readonly currency: string
  /** In the smallest unit. */
  readonly amount: number
  readonly subscriptionPeriodS: number | undefined
}

export interface Charge {
  readonly chargeId: string
  readonly providerChargeId: string
  readonly userId: number
  readonly payload: string
  readonly amount: number
  readonly currency: string
  /** Wall clock, milliseconds. */
  readonly at: number
  readonly recurring: boolean
  /** The update that told the bot. */
  readonly updateId: number
  refunded: boolean
}

export interface Refund {
  readonly chargeId: string
  readonly userId: number
  readonly amount: number
  readonly at: number
}

export type Payment =
  | { readonly outcome: 'charged'; readonly charge: Charge }
  /** The bot said no. */
  | { readonly outcome: 'refused'; readonly message: string }
  /** The bot said nothing for 10 s. */
  | { readonly outcome: 'timeout' }
  /** The bot said yes; the bank said no, or the customer closed the window. */
  | { readonly outcome: 'declined' | 'abandoned' }

export type PayOutcome = 'ok' | 'declined' | 'abandoned'

interface Checkout {
  readonly chat: ChatState
  readonly user: TelegramUser
  readonly invoice: Invoice
  readonly outcome: PayOutcome
  readonly timer: Timer
  readonly settle: (payment: Payment) => void
}

const ANSWER_WITHIN_MS = 10_000
const TOO_OLD = 'query is too old and response timeout expired or query ID is invalid'
const LINKS_MAX = 10_000

export class Payments {
  readonly #env: Env
  readonly #random: SeededRandom
  readonly #chats: Chats
  readonly #updates: Updates
  readonly #checkouts = new Map<string, Checkout>()
  readonly #links = new Map<string, Invoice>()
  readonly #sent = new Map<string, Invoice>()
  readonly charges: Charge[] = []
  readonly refunds: Refund[] = []
  readonly counts = { asked: 0, refused: 0, timeout: 0 }

  constructor(env: Env, random: SeededRandom, chats: Chats, updates: Updates) {
    this.#env = env
    this.#random = random
    this.#chats = chats
    this.#updates = updates
  }

  /** createInvoiceLink */
  link(invoice: Invoice): string {
    const url = `https://t.me/$${this.#random.text(22)}`
    if (this.#links.size >= LINKS_MAX) this.#links.delete(this.#links.keys().next().value ?? '')
    this.#links.set(url, invoice)
    return url
  }

  linked(url: string): Invoice | undefined {
    return this.#links.get(url)
  }

  /** Remembers what a sent invoice asks for: the Bot API's message does not say its payload. */
  remember(message: Message, invoice: Invoice): void {
    if (this.#sent.size >= LINKS_MAX) this.#sent.delete(this.#sent.keys().next().value ?? '')
    this.#sent.set(`${String(message.chat.id)}:${String(message.message_id)}`, invoice)
  }

  sentAs(chatId: number, messageId: number): Invoice | undefined {
    return this.#sent.get(`${String(chatId)}:${String(messageId)}`)
  }

  pay(chat: ChatState, user: TelegramUser, invoice: Invoice, outcome: PayOutcome): Promise<Payment> {
    const id = `${String(this.#random.int(100_000_000, 999_999_999))}${String(this.#random.int(100_000_000, 999_999_999))}`
    this.counts.asked += 1
    return new Promise(resolve => {
      const timer = this.#env.timer(ANSWER_WITHIN_MS, () => {
        this.#checkouts.delete(id)
        this.counts.timeout += 1
        resolve({ outcome: 'timeout' })
      })
      this.#checkouts.set(id, { chat, user, invoice, outcome, timer, settle: resolve })
      this.#updates.emit('pre_checkout_query', { id, from: user, currency: invoice.currency, total_amount: invoice.amount, invoice_payload: invoice.payload })
    })
  }

  /** answerPreCheckoutQuery. @throws ApiError 400 */
  answer(id: string, ok: boolean, message: string | undefined): void {
    const checkout = this.#checkouts.get(id)
    if (checkout === undefined) throw badRequest(TOO_OLD)
    if (!ok && message === undefined) throw badRequest('parameter "error_message" is required')
    checkout.timer.cancel()
    this.#checkouts.delete(id)
    if (!ok) {
      this.counts.refused += 1
      checkout.settle({ outcome: 'refused', message: message ?? '' })
    } else if (checkout.outcome === 'ok') {
      checkout.settle({ outcome: 'charged', charge: this.charge(checkout.chat, checkout.user, checkout.invoice, false) })
    } else {
      checkout.settle({ outcome: checkout.outcome })
    }
  }

  /** Takes the money and tells the bot. */
  charge(chat: ChatState, user: TelegramUser, invoice: Invoice, recurring: boolean): Charge {
    const stars = invoice.currency === 'XTR'
    const chargeId = stars ? `stx${this.#random.text(60)}` : `${String(this.#random.int(1_000_000_000, 9_999_999_999))}_${this.#random.text(16)}`
    const providerChargeId = stars ? `${String(user.id)}_${String(this.charges.length + 1)}` : `${this.#random.hex(8)}-${this.#random.hex(4)}-${this.#random.hex(12)}`
    const period = invoice.subscriptionPeriodS
    const message: Message = {
      message_id: this.#chats.nextMessageId(), from: user, chat: chat.chat, date: this.#chats.date(),
      successful_payment: {
        currency: invoice.currency, total_amount: invoice.amount, invoice_payload: invoice.payload,
        ...(period === undefined ? {} : { subscription_expiration_date: this.#chats.date() + period, is_recurring: true, ...(recurring ? {} : { is_first_recurring: true }) }),
        telegram_payment_charge_id: chargeId, provider_payment_charge_id: providerChargeId,
      },
    }
    this.#chats.keep(chat, message, false)
    const charge: Charge = {
      chargeId, providerChargeId, userId: user.id, payload: invoice.payload, amount: invoice.amount, currency: invoice.currency,
      at: this.#env.now(), recurring, updateId: this.#updates.emit('message', message), refunded: false,
    }
    this.charges.push(charge)
    return charge
  }

  /** refundStarPayment. @throws ApiError 400 */
  refund(userId: number, chargeId: string): void {
    const charge = this.charges.find(item => item.chargeId === chargeId && item.userId === userId && item.currency === 'XTR')
    const chat = this.#chats.find(userId)
    if (charge === undefined || chat === undefined) throw badRequest('CHARGE_NOT_FOUND')
    if (charge.refunded) throw badRequest('CHARGE_ALREADY_REFUNDED')
    charge.refunded = true
    this.refunds.push({ chargeId, userId, amount: charge.amount, at: this.#env.now() })
    const message: Message = {
      message_id: this.#chats.nextMessageId(), ...(chat.user === undefined ? {} : { from: chat.user }), chat: chat.chat, date: this.#chats.date(),
      refunded_payment: { currency: 'XTR', total_amount: charge.amount, invoice_payload: charge.payload, telegram_payment_charge_id: chargeId },
    }
    this.#chats.keep(chat, message, false)
    this.#updates.emit('message', message)
  }

  /** getStarTransactions: oldest first. */
  transactions(offset: number, limit: number): readonly unknown[] {
    const partner = (userId: number, payload: string): unknown => ({
      type: 'user', transaction_type: 'invoice_payment', user: this.#chats.find(userId)?.user ?? { id: userId, is_bot: false, first_name: 'User' }, invoice_payload: payload,
    })
    const rows = [
      ...this.charges.filter(charge => charge.currency === 'XTR').map(charge => ({ id: charge.chargeId, amount: charge.amount, date: Math.floor(charge.at / 1_000), source: partner(charge.userId, charge.payload) })),
      ...this.refunds.map(refund => ({ id: refund.chargeId, amount: refund.amount, date: Math.floor(refund.at / 1_000), receiver: partner(refund.userId, this.charges.find(charge => charge.chargeId === refund.chargeId)?.payload ?? '') })),
    ].sort((a, b) => a.date - b.date)
    return rows.slice(offset, offset + limit)
  }

  clear(): void {
    for (const { timer, settle } of this.#checkouts.values()) {
      timer.cancel()
      settle({ outcome: 'abandoned' })
    }
    this.#checkouts.clear()
    this.#links.clear()
    this.#sent.clear()
    this.charges.length = 0
    this.refunds.length = 0
    Object.assign(this.counts, { asked: 0, refused: 0, timeout: 0 })
  }
}
