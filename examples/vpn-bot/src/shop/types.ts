/**
 * The words of the shop: customers, orders, payments, subscriptions and the ledger.
 *
 * Money is an integer of the currency's smallest unit (kopecks), instants are milliseconds of the database's clock.
 * A subscription has a generation: everything that is done on the panel names it, so that a late removal of an old key
 * cannot hurt a new one. It has a revision too, which rises whenever what the customer paid for changes.
 */
import { z } from 'zod'

export const PLANS = {
  m1: { months: 1, days: 30, priceMinor: 19_900 },
  m3: { months: 3, days: 90, priceMinor: 53_900 },
  m6: { months: 6, days: 180, priceMinor: 95_900 },
  m12: { months: 12, days: 365, priceMinor: 169_900 },
} as const
export type PlanId = keyof typeof PLANS
export const PLAN_IDS = Object.keys(PLANS) as readonly PlanId[]
export const CURRENCY = 'RUB'

export const DAY_MS = 86_400_000
/** How long an invoice may be paid. A payment that comes later is still a payment. */
export const PAY_WITHIN_MS = 30 * 60_000

export type Provider = 'card' | 'crypto'
export type Language = 'en' | 'ru'

export interface Customer {
  readonly id: string
  readonly chatId: string
  readonly language: Language
  /** False since Telegram said that the bot was blocked; true again as soon as the customer writes. */
  readonly reachable: boolean
}

/** `created > invoiced > paid > fulfilled`; `superseded` and `expired` are terminal for the offer, never for money. */
export type OrderStatus = 'created' | 'invoiced' | 'paid' | 'fulfilled' | 'superseded' | 'expired'

export interface Order {
  readonly id: string
  readonly customerId: string
  readonly plan: PlanId
  readonly priceMinor: number
  readonly currency: string
  readonly provider: Provider
  /** Crypto Pay's invoice id. */
  readonly providerRef: string | null
  readonly payUrl: string | null
  readonly status: OrderStatus
  readonly createdAt: number
  readonly expiresAt: number
  /** The payment that settled it: an order is settled by one payment at most. */
  readonly settledBy: string | null
  /** The subscription's revision that this order's payment brought about. */
  readonly revision: number | null
}

export type SubscriptionStatus =
  | 'pending_activation' | 'active' | 'expiring' | 'expired' | 'revoking' | 'revoked' | 'activation_failed'

export interface Subscription {
  readonly id: string
  readonly customerId: string
  readonly status: SubscriptionStatus
  readonly generation: number
  readonly revision: number
  readonly expiresAt: number
  /** What the customer puts into the app. Served while a renewal is pending, too. */
  readonly key: string | null
  /** Counts the runs (activations, removals) that are over without success or were made void: part of a run's name. */
  readonly runs: number
  /** Definite refusals of the panel in a row. */
  readonly failures: number
  readonly lastError: string | null
  /** Nobody else begins an activation before this instant. */
  readonly claimedUntil: number
  readonly pendingSince: number
  readonly createdAt: number
}

/** What a provider told us about one charge. The same charge always gives the same value, whoever tells us. */
export const Payment = z.object({
  provider: z.enum(['card', 'crypto']),
  chargeId: z.string().min(1).max(256),
  payload: z.string().max(4096),
  amountMinor: z.number().int().nonnegative(),
  currency: z.string().min(1).max(16),
  /** Who paid, where the provider says so. */
  payerId: z.string().max(32).nullable(),
  /** A renewal that the provider charged by itself: no order is waiting for it. */
  renewal: z.boolean(),
})
export type Payment = z.infer<typeof Payment>

/** The unique name of a charge, in keys, rows and messages. */
export function paymentKey(payment: Pick<Payment, 'provider' | 'chargeId'>): string {
  return `${payment.provider}:${payment.chargeId}`
}

/**
 * What a charge turned out to be. `ok` and `late` are fulfilled. For `mismatch` (other amount, currency or payer) and
 * `orphan` (our payload, but no order that could take it) the money is booked as owed and a person is told; `foreign`
 * is not ours at all.
 */
export type SettlementOutcome = 'ok' | 'late' | 'mismatch' | 'orphan' | 'foreign'

export interface PaymentRow {
  readonly key: string
  readonly provider: Provider
  readonly chargeId: string
  readonly amountMinor: number
  readonly currency: string
  readonly outcome: SettlementOutcome
  readonly orderId: string | null
  readonly customerId: string | null
  readonly receivedAt: number
}

/** One leg of a double entry: the legs of an entry sum up to nothing. Positive: the account has more; negative: it gave. */
export interface LedgerRow {
  readonly entry: string
  readonly account: string
  readonly amountMinor: number
  readonly currency: string
}

export interface Snapshot {
  readonly customers: readonly Customer[]
  readonly orders: readonly Order[]
  readonly payments: readonly PaymentRow[]
  readonly subscriptions: readonly Subscription[]
  readonly ledger: readonly LedgerRow[]
}
