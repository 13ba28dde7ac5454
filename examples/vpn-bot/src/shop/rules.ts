/**
 * What the shop decides, as pure functions: what a charge is, what a payment makes of a subscription, and how the
 * books are kept. No store, no clock: the operations (./shop.ts) read under a lock, ask here, and write.
 */
import { CURRENCY, DAY_MS, type LedgerRow, type Order, paymentKey, type Payment, PLANS, type SettlementOutcome, type Subscription } from './types.ts'
import { orderIdIn, subscriptionIdOf } from './ids.ts'

export interface Judgement {
  readonly outcome: SettlementOutcome
  /** For the person who is told. */
  readonly why: string
}

/** What is this charge? `order` is the one that the payload names, if there is one. */
export function judge(payment: Payment, order: Order | undefined, now: number): Judgement {
  if (orderIdIn(payment.payload) === undefined) return { outcome: 'foreign', why: 'the payload is not one of ours' }
  if (order === undefined) return { outcome: 'orphan', why: 'no such order' }
  if (order.settledBy !== null && !payment.renewal) return { outcome: 'orphan', why: `the order was settled by ${order.settledBy} already` }
  if (payment.provider !== order.provider) return { outcome: 'mismatch', why: `paid by ${payment.provider}, invoiced by ${order.provider}` }
  if (payment.currency !== order.currency) return { outcome: 'mismatch', why: `paid in ${payment.currency}, invoiced in ${order.currency}` }
  if (payment.amountMinor !== order.priceMinor) return { outcome: 'mismatch', why: `paid ${String(payment.amountMinor)}, invoiced ${String(order.priceMinor)} (smallest units)` }
  if (payment.payerId !== null && payment.payerId !== order.customerId) return { outcome: 'mismatch', why: 'paid by somebody else than the one who ordered' }
  if (payment.renewal) return { outcome: 'ok', why: 'renewed by the provider' }
  if (order.status === 'superseded') return { outcome: 'late', why: 'paid after the customer had begun another order' }
  if (order.status === 'expired' || order.expiresAt <= now) return { outcome: 'late', why: 'paid after the invoice had expired' }
  return { outcome: 'ok', why: 'paid' }
}

/** May this order still be paid? Asked before the charge; afterwards it is too late to say no. */
export function payable(order: Order | undefined, asked: { readonly amountMinor: number; readonly currency: string; readonly payerId: string }, now: number): 'yes' | 'gone' | 'paid' | 'changed' | 'other-payer' {
  if (order === undefined) return 'gone'
  if (order.settledBy !== null) return 'paid'
  if (order.customerId !== asked.payerId) return 'other-payer'
  if (order.priceMinor !== asked.amountMinor || order.currency !== asked.currency) return 'changed'
  if (order.status !== 'created' && order.status !== 'invoiced') return 'gone'
  return order.expiresAt > now ? 'yes' : 'gone'
}

/**
 * The subscription after a payment. While a key is being removed the status stays: the removal's own record finds the
 * new end and begins the next generation. Otherwise it waits for (another) activation; an old key is served meanwhile.
 */
export function afterPayment(before: Subscription | undefined, order: Pick<Order, 'customerId' | 'plan'>, now: number): Subscription {
  const durationMs = PLANS[order.plan].days * DAY_MS
  if (before === undefined) {
    return {
      id: subscriptionIdOf(order.customerId), customerId: order.customerId, status: 'pending_activation', generation: 1, revision: 1,
      expiresAt: now + durationMs, key: null, runs: 0, failures: 0, lastError: null, claimedUntil: 0, pendingSince: now, createdAt: now,
    }
  }
  const paid = { ...before, revision: before.revision + 1, expiresAt: Math.max(now, before.expiresAt) + durationMs }
  switch (before.status) {
    case 'expiring':
    case 'revoking':
      return paid
    case 'expired':
    case 'revoked':
      return pending({ ...paid, generation: before.generation + 1, key: null }, now)
    case 'pending_activation':
      return { ...paid, claimedUntil: 0 }
    case 'active':
    case 'activation_failed':
      return pending(paid, now)
  }
}

/** Waiting for an activation that nobody has begun: a run of another name than any before. */
export function pending(subscription: Subscription, now: number): Subscription {
  return { ...subscription, runs: subscription.runs + 1, status: 'pending_activation', failures: 0, lastError: null, claimedUntil: 0, pendingSince: now }
}

/** The subscription after its key is gone from the panel: over, unless it was paid for meanwhile. */
export function afterRemoval(before: Subscription, now: number): Subscription {
  if (before.expiresAt > now) return pending({ ...before, generation: before.generation + 1, key: null }, now)
  return { ...before, status: before.status === 'revoking' ? 'revoked' : 'expired', key: null, failures: 0, lastError: null, claimedUntil: 0 }
}

/**
 * Both legs of one charge. What is fulfilled is income; what is not is owed, to the payer where one is known, and
 * stays on the books until a person settles it.
 */
export function ledgerOf(payment: Payment, judgement: Judgement, customerId: string | null): readonly [LedgerRow, LedgerRow] {
  const fulfilled = judgement.outcome === 'ok' || judgement.outcome === 'late'
  const owed = payment.payerId ?? customerId
  const counter = fulfilled ? 'income' : owed === null ? 'owed:unknown' : `owed:${owed}`
  const entry = `payment:${paymentKey(payment)}`
  return [
    { entry, account: `provider:${payment.provider}`, amountMinor: payment.amountMinor, currency: payment.currency },
    { entry, account: counter, amountMinor: 0 - payment.amountMinor, currency: payment.currency },
  ]
}

/** The order that a provider's own renewal stands for. */
export function renewalOrder(original: Order, id: string, now: number): Order {
  return { ...original, id, providerRef: null, payUrl: null, status: 'created', createdAt: now, expiresAt: now, settledBy: null, revision: null, priceMinor: original.priceMinor, currency: CURRENCY }
}
