/**
 * The shop's rows in PostgreSQL's dialect (the embedded store and a server). Instants are `timestamptz(3)`, so that
 * milliseconds go in and come out unchanged.
 *
 * Two callers at once: `FOR UPDATE` makes the second wait for the first's commit and then see it; the work lists take
 * no locks, because whoever acts on an id locks and re-checks its row.
 */
import type { SqlTx } from 'holdfast'
import type { Rows } from './port.ts'
import type { Customer, LedgerRow, Order, PaymentRow, PlanId, Provider, SettlementOutcome, Subscription, SubscriptionStatus } from './types.ts'

interface CustomerRow { id: string; chat_id: string; language: 'en' | 'ru'; reachable: boolean }
interface OrderRow {
  id: string; customer_id: string; plan: PlanId; price_minor: string; currency: string; provider: Provider; provider_ref: string | null; pay_url: string | null
  status: Order['status']; created_at: Date; expires_at: Date; settled_by: string | null; revision: number | null
}
interface PaymentSqlRow {
  key: string; provider: Provider; charge_id: string; amount_minor: string; currency: string; outcome: SettlementOutcome
  order_id: string | null; customer_id: string | null; received_at: Date
}
interface SubscriptionRow {
  id: string; customer_id: string; status: SubscriptionStatus; generation: number; revision: number; expires_at: Date; key: string | null
  runs: number; failures: number; last_error: string | null; claimed_until: Date; pending_since: Date; created_at: Date
}

const toCustomer = (row: CustomerRow): Customer => ({ id: row.id, chatId: row.chat_id, language: row.language, reachable: row.reachable })
const toOrder = (row: OrderRow): Order => ({
  id: row.id, customerId: row.customer_id, plan: row.plan, priceMinor: Number(row.price_minor), currency: row.currency, provider: row.provider, providerRef: row.provider_ref, payUrl: row.pay_url,
  status: row.status, createdAt: row.created_at.getTime(), expiresAt: row.expires_at.getTime(), settledBy: row.settled_by, revision: row.revision,
})
const toPayment = (row: PaymentSqlRow): PaymentRow => ({
  key: row.key, provider: row.provider, chargeId: row.charge_id, amountMinor: Number(row.amount_minor), currency: row.currency, outcome: row.outcome,
  orderId: row.order_id, customerId: row.customer_id, receivedAt: row.received_at.getTime(),
})
const toSubscription = (row: SubscriptionRow): Subscription => ({
  id: row.id, customerId: row.customer_id, status: row.status, generation: row.generation, revision: row.revision, expiresAt: row.expires_at.getTime(), key: row.key,
  runs: row.runs, failures: row.failures, lastError: row.last_error, claimedUntil: row.claimed_until.getTime(), pendingSince: row.pending_since.getTime(), createdAt: row.created_at.getTime(),
})

const at = (ms: number): string => new Date(ms).toISOString()

async function one<Row, Out>(rows: Promise<readonly Row[]>, map: (row: Row) => Out): Promise<Out | undefined> {
  const [row] = await rows
  return row === undefined ? undefined : map(row)
}

async function many<Row, Out>(rows: Promise<readonly Row[]>, map: (row: Row) => Out): Promise<readonly Out[]> {
  return (await rows).map(map)
}

const ORDER_VALUES = (order: Order): readonly unknown[] => [
  order.id, order.customerId, order.plan, order.priceMinor, order.currency, order.provider, order.providerRef, order.payUrl, order.status, at(order.createdAt), at(order.expiresAt), order.settledBy, order.revision,
]
const SUBSCRIPTION_VALUES = (item: Subscription): readonly unknown[] => [
  item.id, item.customerId, item.status, item.generation, item.revision, at(item.expiresAt), item.key, item.runs, item.failures, item.lastError, at(item.claimedUntil), at(item.pendingSince), at(item.createdAt),
]

export const sqlRows: Rows<SqlTx> = {
  now: async tx => (await one(tx.query<{ now: Date }>('SELECT clock_timestamp()::timestamptz(3) AS now'), row => row.now.getTime())) ?? 0,

  customer: (tx, id) => one(tx.query<CustomerRow>('SELECT * FROM shop.customer WHERE id = $1', [id]), toCustomer),
  lockCustomer: (tx, id) => one(tx.query<CustomerRow>('SELECT * FROM shop.customer WHERE id = $1 FOR UPDATE', [id]), toCustomer),
  saveCustomer: async (tx, customer) => {
    await tx.query(
      `INSERT INTO shop.customer (id, chat_id, language, reachable) VALUES ($1, $2, $3, $4)
       ON CONFLICT (id) DO UPDATE SET chat_id = excluded.chat_id, language = excluded.language, reachable = excluded.reachable`,
      [customer.id, customer.chatId, customer.language, customer.reachable])
  },

  order: (tx, id) => one(tx.query<OrderRow>('SELECT * FROM shop.orders WHERE id = $1', [id]), toOrder),
  lockOrder: (tx, id) => one(tx.query<OrderRow>('SELECT * FROM shop.orders WHERE id = $1 FOR UPDATE', [id]), toOrder),
  insertOrder: async (tx, order) => {
    const rows = await tx.query(
      `INSERT INTO shop.orders (id, customer_id, plan, price_minor, currency, provider, provider_ref, pay_url, status, created_at, expires_at, settled_by, revision)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (id) DO NOTHING RETURNING id`, ORDER_VALUES(order))
    return rows.length === 1
  },
  // What an order is about never changes, so only what may change is set.
  saveOrder: async (tx, order) => {
    await tx.query('UPDATE shop.orders SET provider_ref = $2, pay_url = $3, status = $4, expires_at = $5, settled_by = $6, revision = $7 WHERE id = $1',
      [order.id, order.providerRef, order.payUrl, order.status, at(order.expiresAt), order.settledBy, order.revision])
  },
  lockOpenOrders: (tx, customerId) => many(tx.query<OrderRow>(
    `SELECT * FROM shop.orders WHERE customer_id = $1 AND status IN ('created', 'invoiced') ORDER BY created_at, id FOR UPDATE`, [customerId]), toOrder),
  // Index orders_open. SKIP LOCKED: an order that is being paid right now is none of ours.
  expireOrders: async (tx, now, limit) => (await tx.query(
    `UPDATE shop.orders SET status = 'expired' WHERE id IN (
       SELECT id FROM shop.orders WHERE status IN ('created', 'invoiced') AND expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
     ) RETURNING id`, [at(now), limit])).length,
  // Index orders_to_watch.
  invoicesToWatch: (tx, since, limit) => many(tx.query<OrderRow>(
    `SELECT * FROM shop.orders WHERE provider = 'crypto' AND settled_by IS NULL AND provider_ref IS NOT NULL AND created_at >= $1 ORDER BY created_at, id LIMIT $2`, [at(since), limit]), toOrder),
  lockPaidOrders: (tx, customerId) => many(tx.query<OrderRow>(
    `SELECT * FROM shop.orders WHERE customer_id = $1 AND status = 'paid' ORDER BY created_at, id FOR UPDATE`, [customerId]), toOrder),

  payment: (tx, key) => one(tx.query<PaymentSqlRow>('SELECT * FROM shop.payment WHERE key = $1', [key]), toPayment),
  insertPayment: async (tx, payment) => {
    await tx.query('INSERT INTO shop.payment (key, provider, charge_id, amount_minor, currency, outcome, order_id, customer_id, received_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)',
      [payment.key, payment.provider, payment.chargeId, payment.amountMinor, payment.currency, payment.outcome, payment.orderId, payment.customerId, at(payment.receivedAt)])
  },
  insertLedger: async (tx, row) => {
    await tx.query('INSERT INTO shop.ledger (entry, account, amount_minor, currency) VALUES ($1, $2, $3, $4)', [row.entry, row.account, row.amountMinor, row.currency])
  },

  subscription: (tx, id) => one(tx.query<SubscriptionRow>('SELECT * FROM shop.subscription WHERE id = $1', [id]), toSubscription),
  lockSubscription: (tx, id) => one(tx.query<SubscriptionRow>('SELECT * FROM shop.subscription WHERE id = $1 FOR UPDATE', [id]), toSubscription),
  insertSubscription: async (tx, subscription) => {
    const rows = await tx.query(
      `INSERT INTO shop.subscription (id, customer_id, status, generation, revision, expires_at, key, runs, failures, last_error, claimed_until, pending_since, created_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (id) DO NOTHING RETURNING id`, SUBSCRIPTION_VALUES(subscription))
    return rows.length === 1
  },
  saveSubscription: async (tx, item) => {
    await tx.query(
      `UPDATE shop.subscription SET status = $3, generation = $4, revision = $5, expires_at = $6, key = $7, runs = $8, failures = $9, last_error = $10, claimed_until = $11, pending_since = $12
       WHERE id = $1 AND customer_id = $2 AND created_at = $13`, SUBSCRIPTION_VALUES(item))
  },
  // Index subscription_pending.
  activationsDue: (tx, now, limit) => many(tx.query<{ id: string }>(
    `SELECT id FROM shop.subscription WHERE status = 'pending_activation' AND claimed_until <= $1 ORDER BY pending_since, id LIMIT $2`, [at(now), limit]), row => row.id),
  // Index subscription_ending.
  removalsDue: (tx, now, limit) => many(tx.query<{ id: string }>(
    `SELECT id FROM shop.subscription
     WHERE ((status = 'active' OR (status = 'activation_failed' AND key IS NOT NULL)) AND expires_at <= $1) OR (status IN ('expiring', 'revoking') AND claimed_until <= $1) ORDER BY expires_at, id LIMIT $2`, [at(now), limit]), row => row.id),

  // The primary key. Ids are lower-case hexadecimal: every collation orders them alike.
  activeAfter: (tx, afterId, limit) => many(tx.query<SubscriptionRow>(
    `SELECT * FROM shop.subscription WHERE status = 'active' AND id > $1 ORDER BY id LIMIT $2`, [afterId, limit]), toSubscription),

  snapshot: async tx => ({
    customers: await many(tx.query<CustomerRow>('SELECT * FROM shop.customer ORDER BY id'), toCustomer),
    orders: await many(tx.query<OrderRow>('SELECT * FROM shop.orders ORDER BY created_at, id'), toOrder),
    payments: await many(tx.query<PaymentSqlRow>('SELECT * FROM shop.payment ORDER BY received_at, key'), toPayment),
    subscriptions: await many(tx.query<SubscriptionRow>('SELECT * FROM shop.subscription ORDER BY id'), toSubscription),
    ledger: await many(tx.query<{ entry: string; account: string; amount_minor: string; currency: string }>('SELECT entry, account, amount_minor, currency FROM shop.ledger ORDER BY booked_at, entry, account'),
      (row): LedgerRow => ({ entry: row.entry, account: row.account, amountMinor: Number(row.amount_minor), currency: row.currency })),
  }),
  counts: async tx => {
    const orders = await tx.query<{ status: string; n: string }>('SELECT status, count(*) AS n FROM shop.orders GROUP BY status')
    const subscriptions = await tx.query<{ status: string; n: string }>('SELECT status, count(*) AS n FROM shop.subscription GROUP BY status')
    const owed = await tx.query<{ sum: string | null }>(`SELECT sum(amount_minor) AS sum FROM shop.ledger WHERE account LIKE 'owed:%'`)
    const byStatus = (rows: readonly { status: string; n: string }[]): Record<string, number> => Object.fromEntries(rows.map(row => [row.status, Number(row.n)]))
    return { orders: byStatus(orders), subscriptions: byStatus(subscriptions), owedMinor: 0 - Number(owed[0]?.sum ?? 0) }
  },
}
