/**
 * What must be true of the books at any moment, and what must be true once everything has come to rest. Used by tests,
 * drills and crash runs; every sentence returned is a broken promise.
 */
import { panelUsername } from './ids.ts'
import type { Snapshot } from './types.ts'

export interface Outside {
  /** Charges that providers really made, by payment key. */
  readonly charges?: readonly string[]
  /** Names of the users on the panel. */
  readonly panelUsers?: readonly string[]
  /** How many automatic delivery messages each order's customer really got, by order id. */
  readonly deliveries?: ReadonlyMap<string, number>
}

export interface InvariantOptions {
  /** Everything had time to finish: nothing may be half done any more. */
  readonly atRest: boolean
  readonly outside?: Outside
}

export function brokenInvariants(snapshot: Snapshot, options: InvariantOptions): readonly string[] {
  const broken: string[] = []
  const expect = (condition: boolean, sentence: string): void => { if (!condition) broken.push(sentence) }

  const sums = new Map<string, number>()
  const legs = new Map<string, number>()
  for (const row of snapshot.ledger) {
    sums.set(`${row.entry} in ${row.currency}`, (sums.get(`${row.entry} in ${row.currency}`) ?? 0) + row.amountMinor)
    legs.set(row.entry, (legs.get(row.entry) ?? 0) + 1)
  }
  for (const [entry, sum] of sums) expect(sum === 0, `ledger entry ${entry} sums up to ${String(sum)}, not to nothing`)

  const settledOrders = new Map<string, number>()
  for (const payment of snapshot.payments) {
    expect(legs.get(`payment:${payment.key}`) === 2, `payment ${payment.key} has ${String(legs.get(`payment:${payment.key}`) ?? 0)} ledger legs, not two`)
    if (payment.outcome !== 'ok' && payment.outcome !== 'late') continue
    expect(payment.orderId !== null, `payment ${payment.key} counts as ${payment.outcome} and settles no order`)
    if (payment.orderId !== null) settledOrders.set(payment.orderId, (settledOrders.get(payment.orderId) ?? 0) + 1)
  }
  expect(legs.size === snapshot.payments.length, `${String(legs.size)} ledger entries for ${String(snapshot.payments.length)} payments`)
  expect(new Set(snapshot.payments.map(payment => payment.key)).size === snapshot.payments.length, 'a charge is on record twice')

  const subscriptions = new Map(snapshot.subscriptions.map(item => [item.customerId, item]))
  expect(subscriptions.size === snapshot.subscriptions.length, 'a customer has two subscriptions')
  for (const order of snapshot.orders) {
    const times = settledOrders.get(order.id) ?? 0
    if (order.settledBy === null) {
      expect(times === 0, `order ${order.id} is ${order.status} but ${String(times)} payments settled it`)
      continue
    }
    expect(times === 1, `order ${order.id} was settled by ${String(times)} payments`)
    expect(subscriptions.has(order.customerId), `order ${order.id} is paid and its customer has no subscription`)
  }
  for (const item of snapshot.subscriptions) {
    const paid = snapshot.orders.filter(order => order.customerId === item.customerId && order.settledBy !== null).length
    expect(item.revision === paid, `subscription ${item.id} was extended ${String(item.revision)} times for ${String(paid)} paid orders`)
    expect(item.status !== 'active' || item.key !== null, `subscription ${item.id} is active without a key`)
  }

  const { charges, panelUsers, deliveries } = options.outside ?? {}
  if (charges !== undefined) {
    const known = new Set(snapshot.payments.map(payment => payment.key))
    const real = new Set(charges)
    for (const key of known) expect(real.has(key), `payment ${key} is on record and was never charged`)
    if (options.atRest) for (const key of real) expect(known.has(key), `charge ${key} was made and is not on record`)
  }
  if (deliveries !== undefined) for (const [order, count] of deliveries) expect(count <= 1, `order ${order} was delivered ${String(count)} times`)

  if (options.atRest) {
    // What a revocation cut off before it was delivered is paid and stays so until a person settles it.
    for (const order of snapshot.orders) expect(order.status !== 'paid' || subscriptions.get(order.customerId)?.status === 'revoked', `order ${order.id} is paid and not fulfilled`)
    for (const item of snapshot.subscriptions) expect(['active', 'expired', 'revoked'].includes(item.status), `subscription ${item.id} rests in ${item.status}`)
    if (panelUsers !== undefined) {
      const wanted = new Set(snapshot.subscriptions.filter(item => item.status === 'active').map(panelUsername))
      const there = new Set(panelUsers)
      for (const name of wanted) expect(there.has(name), `${name} is active and has no key on the panel`)
      for (const name of there) expect(wanted.has(name), `${name} has a key on the panel and no active subscription`)
    }
  }
  return broken
}
