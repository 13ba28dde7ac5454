import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { EventBus, realEnv } from 'holdfast/core'
import { embedded, migrate, type SqlTx, type Store } from 'holdfast/embedded'
import { memory, memoryDisk, type MemoryTx } from 'holdfast/memory'
import { postgres } from 'holdfast/postgres'
import { simulatedEnv } from 'holdfast/testing'
import { describe, expect, it } from 'vitest'
import { testPostgres } from '../../../../test/postgres.ts'
import { type Bench, describeShop } from './contract.ts'
import { orderIdFor, orderIdIn, panelUsername, payloadOf, subscriptionIdOf, subscriptionIn } from './ids.ts'
import { brokenInvariants } from './invariants.ts'
import { memoryRows } from './memory.ts'
import { shopMigrations } from './migrations.ts'
import { decimalOf, minorOf } from './money.ts'
import { createShop } from './shop.ts'
import { sqlRows } from './sql.ts'
import type { Snapshot } from './types.ts'

describeShop('the memory store', async (): Promise<Bench<MemoryTx>> => {
  const env = simulatedEnv({ seed: 1 })
  const database = await memory(memoryDisk()).open({ env, events: new EventBus(env), service: 'test' })
  return {
    shop: createShop(memoryRows),
    transaction: work => database.transaction('test', work),
    age: ms => env.advance(ms),
    empty: () => database.transaction('empty', async tx => {
      for (const name of ['customer', 'orders', 'payment', 'subscription', 'ledger']) {
        const table = tx.table(`shop.${name}`)
        for (const [key] of [...table.entries()]) table.delete(key)
      }
    }),
    close: () => database.close(),
  }
})

async function sqlBench(store: Store, close: () => void = () => undefined): Promise<Bench<SqlTx>> {
  const env = realEnv()
  const database = await store.open({ env, events: new EventBus(env), service: 'test' })
  await migrate(database, 'vpn-bot', shopMigrations)
  return {
    shop: createShop(sqlRows),
    transaction: work => database.transaction('test', work),
    age: ms => database.transaction('age', async tx => {
      const back = `$1::float8 * interval '1 millisecond'`
      await tx.query(`UPDATE shop.orders SET created_at = created_at - ${back}, expires_at = expires_at - ${back}`, [ms])
      await tx.query(`UPDATE shop.subscription SET expires_at = expires_at - ${back}, claimed_until = claimed_until - ${back}, pending_since = pending_since - ${back}`, [ms])
    }),
    empty: () => database.transaction('empty', async tx => { await tx.query('TRUNCATE shop.customer, shop.orders, shop.payment, shop.subscription, shop.ledger') }),
    close: async () => { await database.close(); close() },
  }
}

describeShop('the embedded store', () => {
  const dir = mkdtempSync(join(tmpdir(), 'vpn-bot-shop-'))
  return sqlBench(embedded(dir, { singleInstance: true }), () => { rmSync(dir, { recursive: true, force: true }) })
})
describeShop('PostgreSQL', async () => sqlBench(postgres(await (await testPostgres()).url())))

describe('ids', () => {
  it('are the same for the same cause and fit where they are used', () => {
    expect(orderIdFor('x')).toBe(orderIdFor('x'))
    expect(orderIdFor('x')).not.toBe(orderIdFor('y'))
    const name = panelUsername({ id: subscriptionIdOf('9007199254740991'), generation: 999_999 })
    expect(name).toMatch(/^[a-z0-9_]{3,32}$/)
    expect(subscriptionIn(name)).toEqual({ id: subscriptionIdOf('9007199254740991'), generation: 999_999 })
    expect(Buffer.byteLength(payloadOf(orderIdFor('x')))).toBeLessThanOrEqual(128)
  })

  it.each(['', 'donation', 'hf1:', 'hf1:42', `hf1:${orderIdFor('x')} `, `HF1:${orderIdFor('x')}`])('takes the payload %j for a foreign one', payload => {
    expect(orderIdIn(payload)).toBeUndefined()
  })
})

describe('money', () => {
  it.each([['199', 19_900], ['199.0', 19_900], ['199.00', 19_900], ['199.000', 19_900], ['0.01', 1], ['0.1', 10]])('%s RUB is %i', (text, minor) => {
    expect(minorOf(text, 'RUB')).toBe(minor)
  })

  it.each(['', '-1', '1e3', '199.001', '199,00', ' 199', '99999999999999999', '0x10', 'NaN'])('does not guess at %j', text => {
    expect(minorOf(text, 'RUB')).toBeUndefined()
  })

  it('goes both ways', () => {
    for (const minor of [0, 1, 99, 100, 19_900, 169_901]) expect(minorOf(decimalOf(minor, 'RUB'), 'RUB')).toBe(minor)
    expect(decimalOf(5, 'XTR')).toBe('5')
  })
})

describe('the invariants', () => {
  const order = { id: 'o', customerId: '1', plan: 'm1', priceMinor: 1, currency: 'RUB', provider: 'card', providerRef: null, payUrl: null, status: 'fulfilled', createdAt: 0, expiresAt: 0, settledBy: 'card:c', revision: 1 } as const
  const payment = { key: 'card:c', provider: 'card', chargeId: 'c', amountMinor: 1, currency: 'RUB', outcome: 'ok', orderId: 'o', customerId: '1', receivedAt: 0 } as const
  const subscription = { id: subscriptionIdOf('1'), customerId: '1', status: 'active', generation: 1, revision: 1, expiresAt: 1, key: 'k', runs: 1, failures: 0, lastError: null, claimedUntil: 0, pendingSince: 0, createdAt: 0 } as const
  const legs = [{ entry: 'payment:card:c', account: 'provider:card', amountMinor: 1, currency: 'RUB' }, { entry: 'payment:card:c', account: 'income', amountMinor: -1, currency: 'RUB' }]
  const good: Snapshot = { customers: [], orders: [order], payments: [payment], subscriptions: [subscription], ledger: legs }
  const outside = { charges: ['card:c'], panelUsers: [panelUsername(subscription)], deliveries: new Map([['o', 1]]) }

  it('hold for one charge, one subscription, one key, one message', () => {
    expect(brokenInvariants(good, { atRest: true, outside })).toEqual([])
  })

  it.each<[string, Partial<Snapshot>, Partial<typeof outside>]>([
    ['a leg is missing', { ledger: legs.slice(1) }, {}],
    ['the legs do not cancel out', { ledger: [{ ...legs[0], amountMinor: 2 } as never, ...legs.slice(1)] }, {}],
    ['an order was settled twice', { payments: [payment, { ...payment, key: 'card:d', chargeId: 'd' }] }, {}],
    ['a payment is on record twice', { payments: [payment, payment] }, {}],
    ['an order is paid without a payment', { payments: [], ledger: [] }, {}],
    ['a subscription was extended twice for one order', { subscriptions: [{ ...subscription, revision: 2 }] }, {}],
    ['a paid order has no subscription', { subscriptions: [] }, {}],
    ['an order rests unfulfilled', { orders: [{ ...order, status: 'paid' }] }, {}],
    ['a subscription rests half done', { subscriptions: [{ ...subscription, status: 'expiring' }] }, {}],
    ['a charge is not on record', {}, { charges: ['card:c', 'card:d'] }],
    ['a recorded payment was never charged', {}, { charges: [] }],
    ['the panel has no key', {}, { panelUsers: [] }],
    ['the panel has a key too many', {}, { panelUsers: [panelUsername(subscription), 'sub_0000000000000000_g1'] }],
    ['a delivery came twice', {}, { deliveries: new Map([['o', 2]]) }],
  ])('are broken when %s', (_, change, seen) => {
    expect(brokenInvariants({ ...good, ...change }, { atRest: true, outside: { ...outside, ...seen } })).not.toEqual([])
  })
})
