/**
 * The shop's operations: each is atomic within the caller's transaction, and none makes an outside call.
 *
 * An operation locks what it decides about, asks ./rules.ts, and writes. What it returns says what became of it, so
 * that the caller never has to look again outside the transaction.
 */
import type { Rows } from './port.ts'
import { orderIdIn, subscriptionIdOf, uuid5 } from './ids.ts'
import { afterPayment, afterRemoval, judge, ledgerOf, payable, pending, renewalOrder } from './rules.ts'
import {
  CURRENCY, type Customer, type Language, type Order, PAY_WITHIN_MS, type Payment, paymentKey, type PlanId, PLANS, type Provider, type SettlementOutcome, type Snapshot, type Subscription,
} from './types.ts'

export interface Settlement {
  readonly outcome: SettlementOutcome
  readonly why: string
  readonly orderId: string | null
  readonly customer: Customer | null
  readonly subscription: Subscription | null
}

export type Activation =
  /** The key is recorded; these orders are fulfilled by it. */
  | { readonly outcome: 'activated'; readonly orderIds: readonly string[]; readonly customer: Customer; readonly subscription: Subscription; readonly renewed: boolean }
  /** Recorded before. */
  | { readonly outcome: 'already' }
  /** Paid for again meanwhile: the same key is wanted, with another end; an activation of the newer revision follows. */
  | { readonly outcome: 'outdated' }
  /** Nobody wants this generation's key any more: it must be removed. */
  | { readonly outcome: 'gone' }

/** Most rows that one work list returns. */
export const BATCH = 50
/** Definite refusals of the panel after which a person is needed. */
export const FAILURES_MAX = 5

export interface Shop<Tx> {
  /** A customer who writes to us is known, and reachable again. Says whether anything changed. */
  remember(tx: Tx, customer: { readonly id: string; readonly chatId: string; readonly language: Language }): Promise<boolean>
  customer(tx: Tx, id: string): Promise<Customer | undefined>
  /** Telegram says that nothing reaches this customer. */
  unreachable(tx: Tx, customerId: string): Promise<void>

  /** The order of this id; made now, and earlier unpaid offers of the customer superseded, unless it exists already. */
  order(tx: Tx, wanted: { readonly id: string; readonly customerId: string; readonly plan: PlanId; readonly provider: Provider }): Promise<{ readonly order: Order; readonly made: boolean }>
  findOrder(tx: Tx, id: string): Promise<Order | undefined>
  /** May this order be paid now, so? By the database's clock. */
  mayPay(tx: Tx, id: string, asked: Parameters<typeof payable>[1]): Promise<ReturnType<typeof payable>>
  /** The invoice is out. False when the order is no longer waiting for one. */
  invoiced(tx: Tx, orderId: string, invoice: { readonly providerRef: string | null; readonly payUrl: string | null }): Promise<boolean>
  expireOrders(tx: Tx): Promise<number>
  invoicesToWatch(tx: Tx, lookBackMs: number, limit: number): Promise<readonly Order[]>

  /**
   * Takes one charge to the books, for good: payment row, ledger, order, subscription. Called once per charge
   * (`hold.once`); a second call fails on the payment's unique key and changes nothing.
   */
  settle(tx: Tx, payment: Payment): Promise<Settlement>
  /** Those of the keys that no payment is on record for. */
  unsettled(tx: Tx, keys: readonly string[]): Promise<readonly string[]>

  subscriptionOf(tx: Tx, customerId: string): Promise<Subscription | undefined>
  subscription(tx: Tx, id: string): Promise<Subscription | undefined>
  activationsDue(tx: Tx): Promise<readonly string[]>
  /** Begins an activation, or goes on with the one of the same `revision` and `runs`; undefined when another is at it or none is due. */
  claimActivation(tx: Tx, id: string, claimForMs: number): Promise<Subscription | undefined>
  recordActivation(tx: Tx, made: { readonly id: string; readonly generation: number; readonly revision: number; readonly key: string }): Promise<Activation>
  /** The panel said a definite no. After `FAILURES_MAX` in a row the subscription waits for a person. */
  refuseActivation(tx: Tx, refused: { readonly id: string; readonly run: number; readonly message: string }): Promise<Subscription | undefined>
  /** The run was given up (panel away for long): whoever comes next may begin another at once. */
  releaseActivation(tx: Tx, released: { readonly id: string; readonly run: number; readonly message: string }): Promise<void>
  /** A person says: try again. False when it does not wait for one. */
  retryActivation(tx: Tx, id: string): Promise<boolean>

  removalsDue(tx: Tx): Promise<readonly string[]>
  /** Begins a removal when the time is over (`active` and ended: one condition, re-checked under the lock) or one is pending. */
  claimRemoval(tx: Tx, id: string, claimForMs: number): Promise<Subscription | undefined>
  /** The key is gone from the panel. Only then does the status say so. */
  recordRemoval(tx: Tx, removed: { readonly id: string; readonly generation: number }): Promise<Subscription | undefined>
  /** The run was given up: whoever comes next may begin another at once. */
  releaseRemoval(tx: Tx, released: { readonly id: string; readonly run: number; readonly message: string }): Promise<void>
  /** Marks the subscription for removal whatever it paid for. */
  revoke(tx: Tx, customerId: string): Promise<'revoking' | 'already' | 'nothing'>

  activeAfter(tx: Tx, afterId: string, limit: number): Promise<readonly Subscription[]>
  /** The panel has lost the key of an active subscription: it is to be made again. False when it is none (any more). */
  reactivate(tx: Tx, lost: { readonly id: string; readonly generation: number }): Promise<boolean>

  snapshot(tx: Tx): Promise<Snapshot>
  counts(tx: Tx): ReturnType<Rows<Tx>['counts']>
}

export function createShop<Tx>(rows: Rows<Tx>): Shop<Tx> {
  async function insertOrLock(tx: Tx, subscription: Subscription): Promise<Subscription | undefined> {
    return (await rows.insertSubscription(tx, subscription)) ? undefined : rows.lockSubscription(tx, subscription.id)
  }

  /** Under the lock: a first payment inserts, every other one extends; two first payments at once become one of each. */
  async function extend(tx: Tx, order: Order, now: number): Promise<Subscription> {
    const id = subscriptionIdOf(order.customerId)
    let before = await rows.lockSubscription(tx, id)
    if (before === undefined) {
      const first = afterPayment(undefined, order, now)
      before = await insertOrLock(tx, first)
      if (before === undefined) return first
    }
    const after = afterPayment(before, order, now)
    await rows.saveSubscription(tx, after)
    return after
  }

  return {
    async remember(tx, { id, chatId, language }) {
      const known = await rows.customer(tx, id)
      if (known !== undefined && known.reachable && known.chatId === chatId && known.language === language) return false
      await rows.saveCustomer(tx, { id, chatId, language, reachable: true })
      return true
    },
    customer: (tx, id) => rows.customer(tx, id),
    async unreachable(tx, customerId) {
      const known = await rows.lockCustomer(tx, customerId)
      if (known?.reachable === true) await rows.saveCustomer(tx, { ...known, reachable: false })
    },

    async order(tx, wanted) {
      // The customer's lock makes two presses at once one after the other: each sees the other's order.
      await rows.lockCustomer(tx, wanted.customerId)
      const known = await rows.order(tx, wanted.id)
      if (known !== undefined) return { order: known, made: false }
      const now = await rows.now(tx)
      for (const open of await rows.lockOpenOrders(tx, wanted.customerId)) await rows.saveOrder(tx, { ...open, status: 'superseded' })
      const order: Order = {
        ...wanted, priceMinor: PLANS[wanted.plan].priceMinor, currency: CURRENCY, providerRef: null, payUrl: null, status: 'created',
        createdAt: now, expiresAt: now + PAY_WITHIN_MS, settledBy: null, revision: null,
      }
      await rows.insertOrder(tx, order)
      return { order, made: true }
    },
    findOrder: (tx, id) => rows.order(tx, id),
    mayPay: async (tx, id, asked) => payable(await rows.order(tx, id), asked, await rows.now(tx)),
    async invoiced(tx, orderId, invoice) {
      const order = await rows.lockOrder(tx, orderId)
      if (order === undefined) return false
      // The reference is kept whatever became of the offer: the invoice exists and may be paid.
      await rows.saveOrder(tx, { ...order, ...invoice, status: order.status === 'created' ? 'invoiced' : order.status })
      return order.status === 'created' || order.status === 'invoiced'
    },
    expireOrders: async tx => rows.expireOrders(tx, await rows.now(tx), BATCH),
    invoicesToWatch: async (tx, lookBackMs, limit) => rows.invoicesToWatch(tx, (await rows.now(tx)) - lookBackMs, limit),

    async settle(tx, payment) {
      const now = await rows.now(tx)
      const key = paymentKey(payment)
      const named = orderIdIn(payment.payload)
      const found = named === undefined ? undefined : await rows.lockOrder(tx, named)
      const judgement = judge(payment, found, now)
      const fulfilled = judgement.outcome === 'ok' || judgement.outcome === 'late'
      let order = found
      if (fulfilled && found !== undefined && found.settledBy !== null) {
        order = renewalOrder(found, uuid5(`renewal:${key}`), now)
        await rows.insertOrder(tx, order)
      }
      const customerId = order?.customerId ?? payment.payerId
      await rows.insertPayment(tx, {
        key, provider: payment.provider, chargeId: payment.chargeId, amountMinor: payment.amountMinor, currency: payment.currency,
        outcome: judgement.outcome, orderId: order?.id ?? null, customerId, receivedAt: now,
      })
      for (const leg of ledgerOf(payment, judgement, customerId)) await rows.insertLedger(tx, leg)
      const customer = customerId === null ? undefined : await rows.customer(tx, customerId)
      let subscription: Subscription | null = null
      if (fulfilled && order !== undefined) {
        subscription = await extend(tx, order, now)
        await rows.saveOrder(tx, { ...order, status: 'paid', settledBy: key, revision: subscription.revision })
      }
      return { ...judgement, orderId: order?.id ?? null, customer: customer ?? null, subscription }
    },
    async unsettled(tx, keys) {
      const left: string[] = []
      for (const key of keys) if ((await rows.payment(tx, key)) === undefined) left.push(key)
      return left
    },

    subscriptionOf: (tx, customerId) => rows.subscription(tx, subscriptionIdOf(customerId)),
    subscription: (tx, id) => rows.subscription(tx, id),
    activationsDue: async tx => rows.activationsDue(tx, await rows.now(tx), BATCH),
    async claimActivation(tx, id, claimForMs) {
      const now = await rows.now(tx)
      const before = await rows.lockSubscription(tx, id)
      if (before?.status !== 'pending_activation' || before.claimedUntil > now) return undefined
      const claimed = { ...before, claimedUntil: now + claimForMs }
      await rows.saveSubscription(tx, claimed)
      return claimed
    },
    async recordActivation(tx, made) {
      const now = await rows.now(tx)
      const before = await rows.lockSubscription(tx, made.id)
      if (before === undefined || before.generation !== made.generation) return { outcome: 'gone' }
      if (before.status !== 'pending_activation' && before.status !== 'active' && before.status !== 'activation_failed') return { outcome: 'gone' }
      if (before.revision !== made.revision) {
        // The older end was written to the panel, perhaps after the newer one: have it written again.
        if (before.status === 'active') await rows.saveSubscription(tx, pending(before, now))
        return { outcome: 'outdated' }
      }
      if (before.status === 'active') return { outcome: 'already' }
      const customer = await rows.customer(tx, before.customerId)
      if (customer === undefined) return { outcome: 'gone' }
      const after: Subscription = { ...before, status: 'active', key: made.key, failures: 0, lastError: null, claimedUntil: 0 }
      await rows.saveSubscription(tx, after)
      const orderIds: string[] = []
      for (const order of await rows.lockPaidOrders(tx, before.customerId)) {
        if (order.revision === null || order.revision > made.revision) continue
        await rows.saveOrder(tx, { ...order, status: 'fulfilled' })
        orderIds.push(order.id)
      }
      return { outcome: 'activated', orderIds, customer, subscription: after, renewed: before.key !== null }
    },
    async refuseActivation(tx, { id, run, message }) {
      const before = await rows.lockSubscription(tx, id)
      if (before?.status !== 'pending_activation' || before.runs !== run) return undefined
      const failures = before.failures + 1
      const after: Subscription = { ...before, runs: run + 1, failures, lastError: message, claimedUntil: 0, status: failures >= FAILURES_MAX ? 'activation_failed' : 'pending_activation' }
      await rows.saveSubscription(tx, after)
      return after
    },
    async releaseActivation(tx, { id, run, message }) {
      const before = await rows.lockSubscription(tx, id)
      if (before?.status !== 'pending_activation' || before.runs !== run) return
      await rows.saveSubscription(tx, { ...before, runs: run + 1, claimedUntil: 0, lastError: message })
    },
    async retryActivation(tx, id) {
      const before = await rows.lockSubscription(tx, id)
      if (before?.status !== 'activation_failed') return false
      await rows.saveSubscription(tx, pending(before, await rows.now(tx)))
      return true
    },

    removalsDue: async tx => rows.removalsDue(tx, await rows.now(tx), BATCH),
    async claimRemoval(tx, id, claimForMs) {
      const now = await rows.now(tx)
      const before = await rows.lockSubscription(tx, id)
      if (before === undefined) return undefined
      // A renewal that could not be activated leaves the old key served: that one ends in time, too.
      const over = (before.status === 'active' || (before.status === 'activation_failed' && before.key !== null)) && before.expiresAt <= now
      const waiting = (before.status === 'expiring' || before.status === 'revoking') && before.claimedUntil <= now
      if (!over && !waiting) return undefined
      const claimed: Subscription = { ...before, status: over ? 'expiring' : before.status, claimedUntil: now + claimForMs }
      await rows.saveSubscription(tx, claimed)
      return claimed
    },
    async recordRemoval(tx, { id, generation }) {
      const before = await rows.lockSubscription(tx, id)
      if (before === undefined || before.generation !== generation || (before.status !== 'expiring' && before.status !== 'revoking')) return undefined
      const after = afterRemoval(before, await rows.now(tx))
      await rows.saveSubscription(tx, after)
      return after
    },
    async releaseRemoval(tx, { id, run, message }) {
      const before = await rows.lockSubscription(tx, id)
      if (before === undefined || before.runs !== run || (before.status !== 'expiring' && before.status !== 'revoking')) return
      await rows.saveSubscription(tx, { ...before, runs: run + 1, claimedUntil: 0, lastError: message })
    },
    async revoke(tx, customerId) {
      const before = await rows.lockSubscription(tx, subscriptionIdOf(customerId))
      if (before === undefined || before.status === 'expired' || before.status === 'revoked') return 'nothing'
      if (before.status === 'revoking') return 'already'
      const now = await rows.now(tx)
      await rows.saveSubscription(tx, { ...before, status: 'revoking', expiresAt: Math.min(before.expiresAt, now), claimedUntil: 0 })
      return 'revoking'
    },

    activeAfter: (tx, afterId, limit) => rows.activeAfter(tx, afterId, limit),
    async reactivate(tx, { id, generation }) {
      const before = await rows.lockSubscription(tx, id)
      if (before?.status !== 'active' || before.generation !== generation) return false
      await rows.saveSubscription(tx, pending(before, await rows.now(tx)))
      return true
    },

    snapshot: tx => rows.snapshot(tx),
    counts: tx => rows.counts(tx),
  }
}
