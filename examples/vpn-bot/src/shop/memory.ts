/**
 * The shop's rows in the memory store: transactions there are serial, so a read is a lock.
 */
import type { MemoryTx } from 'holdfast/memory'
import type { Rows } from './port.ts'
import type { Customer, LedgerRow, Order, PaymentRow, Subscription } from './types.ts'

const customers = (tx: MemoryTx) => tx.table<Customer>('shop.customer')
const orders = (tx: MemoryTx) => tx.table<Order>('shop.orders')
const payments = (tx: MemoryTx) => tx.table<PaymentRow>('shop.payment')
const subscriptions = (tx: MemoryTx) => tx.table<Subscription>('shop.subscription')
const ledger = (tx: MemoryTx) => tx.table<LedgerRow>('shop.ledger')

function values<Row>(table: { entries(): IterableIterator<readonly [string, Row]> }): Row[] {
  return [...table.entries()].map(([, row]) => row)
}

const OPEN: readonly Order['status'][] = ['created', 'invoiced']

export const memoryRows: Rows<MemoryTx> = {
  now: async tx => tx.now(),

  customer: async (tx, id) => customers(tx).get(id),
  lockCustomer: async (tx, id) => customers(tx).get(id),
  saveCustomer: async (tx, customer) => { customers(tx).set(customer.id, customer) },

  order: async (tx, id) => orders(tx).get(id),
  lockOrder: async (tx, id) => orders(tx).get(id),
  insertOrder: async (tx, order) => {
    if (orders(tx).get(order.id) !== undefined) return false
    orders(tx).set(order.id, order)
    return true
  },
  saveOrder: async (tx, order) => { orders(tx).set(order.id, order) },
  lockOpenOrders: async (tx, customerId) =>
    values(orders(tx)).filter(order => order.customerId === customerId && OPEN.includes(order.status)).sort(byCreation),
  expireOrders: async (tx, now, limit) => {
    const over = values(orders(tx)).filter(order => OPEN.includes(order.status) && order.expiresAt <= now).slice(0, limit)
    for (const order of over) orders(tx).set(order.id, { ...order, status: 'expired' })
    return over.length
  },
  invoicesToWatch: async (tx, since, limit) =>
    values(orders(tx)).filter(order => order.provider === 'crypto' && order.providerRef !== null && order.settledBy === null && order.createdAt >= since).sort(byCreation).slice(0, limit),
  lockPaidOrders: async (tx, customerId) => values(orders(tx)).filter(order => order.customerId === customerId && order.status === 'paid').sort(byCreation),

  payment: async (tx, key) => payments(tx).get(key),
  insertPayment: async (tx, payment) => {
    if (payments(tx).get(payment.key) !== undefined) throw new Error(`payment ${payment.key} is on record already`)
    payments(tx).set(payment.key, payment)
  },
  insertLedger: async (tx, row) => {
    const key = `${row.entry} ${row.account}`
    if (ledger(tx).get(key) !== undefined) throw new Error(`ledger entry ${key} is on the books already`)
    ledger(tx).set(key, row)
  },

  subscription: async (tx, id) => subscriptions(tx).get(id),
  lockSubscription: async (tx, id) => subscriptions(tx).get(id),
  insertSubscription: async (tx, subscription) => {
    if (subscriptions(tx).get(subscription.id) !== undefined) return false
    subscriptions(tx).set(subscription.id, subscription)
    return true
  },
  saveSubscription: async (tx, subscription) => { subscriptions(tx).set(subscription.id, subscription) },
  activationsDue: async (tx, now, limit) =>
    values(subscriptions(tx)).filter(item => item.status === 'pending_activation' && item.claimedUntil <= now).sort((a, b) => a.pendingSince - b.pendingSince).slice(0, limit).map(item => item.id),
  removalsDue: async (tx, now, limit) =>
    values(subscriptions(tx))
      .filter(item => ((item.status === 'active' || (item.status === 'activation_failed' && item.key !== null)) && item.expiresAt <= now) || ((item.status === 'expiring' || item.status === 'revoking') && item.claimedUntil <= now))
      .sort((a, b) => a.expiresAt - b.expiresAt).slice(0, limit).map(item => item.id),

  activeAfter: async (tx, afterId, limit) => values(subscriptions(tx)).filter(item => item.status === 'active' && item.id > afterId).sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit),

  snapshot: async tx => ({
    customers: values(customers(tx)), orders: values(orders(tx)), payments: values(payments(tx)), subscriptions: values(subscriptions(tx)), ledger: values(ledger(tx)),
  }),
  counts: async tx => ({
    orders: countBy(values(orders(tx))),
    subscriptions: countBy(values(subscriptions(tx))),
    owedMinor: 0 - values(ledger(tx)).filter(row => row.account.startsWith('owed:')).reduce((sum, row) => sum + row.amountMinor, 0),
  }),
}

function byCreation(a: Order, b: Order): number {
  return a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)
}

function countBy(rows: readonly { readonly status: string }[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { status } of rows) counts[status] = (counts[status] ?? 0) + 1
  return counts
}
