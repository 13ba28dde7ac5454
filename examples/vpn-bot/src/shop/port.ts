/**
 * What the shop needs of a store: rows, read under a lock and written, within the caller's transaction.
 *
 * Two bodies (./sql.ts, ./memory.ts), one contract (./shop.test.ts). `lock*` holds the row until the transaction ends,
 * so that what ./rules.ts decides is still true when it is written. Everything an operation locks, it locks in this
 * order: customer, order, subscription.
 */
import type { Customer, LedgerRow, Order, PaymentRow, Snapshot, Subscription } from './types.ts'

export interface Rows<Tx> {
  /** The database's clock, milliseconds. */
  now(tx: Tx): Promise<number>

  customer(tx: Tx, id: string): Promise<Customer | undefined>
  lockCustomer(tx: Tx, id: string): Promise<Customer | undefined>
  /** Inserts or replaces. */
  saveCustomer(tx: Tx, customer: Customer): Promise<void>

  order(tx: Tx, id: string): Promise<Order | undefined>
  lockOrder(tx: Tx, id: string): Promise<Order | undefined>
  /** False when an order of this id exists; then nothing is changed. */
  insertOrder(tx: Tx, order: Order): Promise<boolean>
  saveOrder(tx: Tx, order: Order): Promise<void>
  /** Unpaid offers of one customer, oldest first, locked. */
  lockOpenOrders(tx: Tx, customerId: string): Promise<readonly Order[]>
  /** Marks unpaid offers whose time is over; at most `limit`. */
  expireOrders(tx: Tx, now: number, limit: number): Promise<number>
  /** Unsettled crypto orders with an invoice, whatever became of the offer, made at or after `since`; oldest first. */
  invoicesToWatch(tx: Tx, since: number, limit: number): Promise<readonly Order[]>
  /** Paid orders of one customer that wait for their key, locked. */
  lockPaidOrders(tx: Tx, customerId: string): Promise<readonly Order[]>

  payment(tx: Tx, key: string): Promise<PaymentRow | undefined>
  /** Fails the transaction when the charge is on record already: the last line against a double charge. */
  insertPayment(tx: Tx, payment: PaymentRow): Promise<void>
  /** Fails the transaction when this leg is on the books already. */
  insertLedger(tx: Tx, row: LedgerRow): Promise<void>

  subscription(tx: Tx, id: string): Promise<Subscription | undefined>
  lockSubscription(tx: Tx, id: string): Promise<Subscription | undefined>
  /** False when one of this id exists (two first payments at once): lock and look again. */
  insertSubscription(tx: Tx, subscription: Subscription): Promise<boolean>
  saveSubscription(tx: Tx, subscription: Subscription): Promise<void>
  /** Waiting for an activation that nobody has claimed, longest waiting first. */
  activationsDue(tx: Tx, now: number, limit: number): Promise<readonly string[]>
  /** Over by time, or being removed with nobody at it; oldest end first. */
  removalsDue(tx: Tx, now: number, limit: number): Promise<readonly string[]>

  /** Active ones in order of their ids, after `afterId`. */
  activeAfter(tx: Tx, afterId: string, limit: number): Promise<readonly Subscription[]>

  /** Everything, for invariants in tests and drills. */
  snapshot(tx: Tx): Promise<Snapshot>
  /** Rows by status, for an operator. */
  counts(tx: Tx): Promise<{ readonly orders: Readonly<Record<string, number>>; readonly subscriptions: Readonly<Record<string, number>>; readonly owedMinor: number }>
}
