/**
 * The shop's contract: what must hold on every store. Run by ./shop.test.ts over memory, PGlite and PostgreSQL.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { brokenInvariants } from './invariants.ts'
import { orderIdFor, panelUsername, payloadOf, subscriptionIdOf } from './ids.ts'
import { type Shop } from './shop.ts'
import { type Payment, PLANS, type Snapshot, type Subscription } from './types.ts'

/** One open database with the shop's tables, empty before each test. */
export interface Bench<Tx> {
  readonly shop: Shop<Tx>
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>
  /** Moves every instant of the database's rows into the past by `ms`: a test cannot wait 30 days. */
  age(ms: number): Promise<void>
  empty(): Promise<void>
  close(): Promise<void>
}

export function describeShop<Tx>(name: string, open: () => Promise<Bench<Tx>>): void {
  describe(`the shop on ${name}`, () => {
    let bench: Bench<Tx>
    let shop: Shop<Tx>
    const run = <T>(work: (tx: Tx) => Promise<T>): Promise<T> => bench.transaction(work)
    beforeAll(async () => { bench = await open(); shop = bench.shop })
    afterAll(() => bench.close())
    beforeEach(() => bench.empty())

    const anna = { id: '42', chatId: '42', language: 'en' as const }
    const order = (cause: string, customer = anna, provider: 'card' | 'crypto' = 'card') => run(async tx => {
      await shop.remember(tx, customer)
      return (await shop.order(tx, { id: orderIdFor(cause), customerId: customer.id, plan: 'm1', provider })).order
    })
    const charge = (orderId: string, chargeId: string, change: Partial<Payment> = {}): Payment => ({
      provider: 'card', chargeId, payload: payloadOf(orderId), amountMinor: PLANS.m1.priceMinor, currency: 'RUB', payerId: anna.id, renewal: false, ...change,
    })
    const settle = (payment: Payment) => run(tx => shop.settle(tx, payment))
    const mine = () => run(tx => shop.subscriptionOf(tx, anna.id)) as Promise<Subscription>
    const activate = async () => {
      const claimed = await run(tx => shop.claimActivation(tx, subscriptionIdOf(anna.id), 60_000))
      if (claimed === undefined) throw new Error('nothing to activate')
      return run(tx => shop.recordActivation(tx, { id: claimed.id, generation: claimed.generation, revision: claimed.revision, key: `vless://${panelUsername(claimed)}` }))
    }
    const remove = async () => {
      const claimed = await run(tx => shop.claimRemoval(tx, subscriptionIdOf(anna.id), 60_000))
      return claimed === undefined ? undefined : run(tx => shop.recordRemoval(tx, claimed))
    }
    const books = (): Promise<Snapshot> => run(tx => shop.snapshot(tx))
    const expectBooksInOrder = async (atRest = false) => { expect(brokenInvariants(await books(), { atRest })).toEqual([]) }

    describe('an order', () => {
      it('is made once for one cause, however often the cause is delivered', async () => {
        const first = await order('press-1')
        expect(await run(tx => shop.order(tx, { id: first.id, customerId: anna.id, plan: 'm12', provider: 'crypto' }))).toEqual({ order: first, made: false })
      })

      it('supersedes the unpaid ones before it', async () => {
        const first = await order('press-1')
        const second = await order('press-2')
        expect((await books()).orders.map(({ id, status }) => [id, status]).sort()).toEqual([[first.id, 'superseded'], [second.id, 'created']].sort())
      })

      it('keeps the reference of its invoice even when it was superseded meanwhile', async () => {
        const first = await order('press-1', anna, 'crypto')
        await order('press-2')
        expect(await run(tx => shop.invoiced(tx, first.id, { providerRef: '7', payUrl: 'https://pay' }))).toBe(false)
        expect((await run(tx => shop.invoicesToWatch(tx, 60_000, 10))).map(({ id, providerRef }) => [id, providerRef])).toEqual([[first.id, '7']])
      })

      it('may be paid by its customer, at its price, once, until it ends', async () => {
        const made = await order('press-1')
        const asked = { amountMinor: made.priceMinor, currency: 'RUB', payerId: anna.id }
        const may = (id: string, change: Partial<typeof asked> = {}) => run(tx => shop.mayPay(tx, id, { ...asked, ...change }))
        expect(await may(made.id)).toBe('yes')
        expect(await may(orderIdFor('never'))).toBe('gone')
        expect(await may(made.id, { payerId: '666' })).toBe('other-payer')
        expect(await may(made.id, { amountMinor: 1 })).toBe('changed')
        await bench.age(31 * 60_000)
        expect(await may(made.id)).toBe('gone')
        const second = await order('press-2')
        expect(await may(made.id)).toBe('gone')
        await settle(charge(second.id, 'c1'))
        expect(await may(second.id)).toBe('paid')
      })

      it('expires when nobody pays', async () => {
        const made = await order('press-1')
        expect(await run(tx => shop.expireOrders(tx))).toBe(0)
        await bench.age(31 * 60_000)
        expect(await run(tx => shop.expireOrders(tx))).toBe(1)
        expect((await run(tx => shop.findOrder(tx, made.id)))?.status).toBe('expired')
      })
    })

    describe('a charge', () => {
      it('settles its order, begins a subscription and is on the books in two legs', async () => {
        const made = await order('press-1')
        const settlement = await settle(charge(made.id, 'c1'))
        expect(settlement).toMatchObject({ outcome: 'ok', orderId: made.id, subscription: { status: 'pending_activation', generation: 1, revision: 1 } })
        const { ledger } = await books()
        expect(ledger.map(({ account, amountMinor }) => [account, amountMinor]).sort()).toEqual([['income', -19_900], ['provider:card', 19_900]])
        await expectBooksInOrder()
      })

      it('cannot be booked twice, even by a caller that forgot the key', async () => {
        const made = await order('press-1')
        await settle(charge(made.id, 'c1'))
        await expect(settle(charge(made.id, 'c1'))).rejects.toThrow()
        expect((await books()).payments).toHaveLength(1)
        await expectBooksInOrder()
      })

      it('of a superseded order is late and fulfilled', async () => {
        const first = await order('press-1')
        await order('press-2')
        expect(await settle(charge(first.id, 'c1'))).toMatchObject({ outcome: 'late', subscription: { status: 'pending_activation' } })
        await expectBooksInOrder()
      })

      it('of an expired order is late and fulfilled, whether or not anybody has marked it', async () => {
        const unmarked = await order('press-1')
        await bench.age(31 * 60_000)
        expect((await settle(charge(unmarked.id, 'c1'))).outcome).toBe('late')
        const marked = await order('press-2')
        await bench.age(31 * 60_000)
        await run(tx => shop.expireOrders(tx))
        expect((await settle(charge(marked.id, 'c2'))).outcome).toBe('late')
        expect((await mine()).revision).toBe(2)
        await expectBooksInOrder()
      })

      it.each([
        ['another amount', { amountMinor: 100 }],
        ['another currency', { currency: 'USD' }],
        ['another payer', { payerId: '666' }],
        ['another provider', { provider: 'crypto' as const }],
      ])('with %s is a mismatch: nothing is delivered, the money is booked as owed to its payer', async (_, change) => {
        const made = await order('press-1')
        const payment = charge(made.id, 'c1', change)
        expect(await settle(payment)).toMatchObject({ outcome: 'mismatch', subscription: null })
        expect((await run(tx => shop.findOrder(tx, made.id)))?.status).toBe('created')
        expect((await books()).ledger.map(row => row.account).sort()).toEqual([`owed:${payment.payerId ?? ''}`, `provider:${payment.provider}`])
        await expectBooksInOrder()
      })

      it('of an order that another charge settled is an orphan, and owed', async () => {
        const made = await order('press-1')
        await settle(charge(made.id, 'c1'))
        expect(await settle(charge(made.id, 'c2'))).toMatchObject({ outcome: 'orphan', subscription: null })
        expect((await mine()).revision).toBe(1)
        expect((await run(tx => shop.counts(tx))).owedMinor).toBe(19_900)
        await expectBooksInOrder()
      })

      it('of an order that never was is an orphan; with a payload that is not ours it is foreign', async () => {
        expect((await settle(charge(orderIdFor('never'), 'c1'))).outcome).toBe('orphan')
        expect((await settle(charge('x', 'c2', { payload: 'donation' }))).outcome).toBe('foreign')
        expect((await settle(charge('x', 'c3', { payload: 'donation', payerId: null, amountMinor: 0 }))).outcome).toBe('foreign')
        await expectBooksInOrder()
      })

      it('that the provider renewed by itself needs no waiting order', async () => {
        const made = await order('press-1')
        await settle(charge(made.id, 'c1'))
        await activate()
        const before = await mine()
        const renewal = await settle(charge(made.id, 'c2', { renewal: true }))
        expect(renewal).toMatchObject({ outcome: 'ok', subscription: { revision: 2, expiresAt: before.expiresAt + 30 * 86_400_000 } })
        expect(renewal.orderId).not.toBe(made.id)
        await activate()
        await expectBooksInOrder(true)
      })

      it('is looked for by its key', async () => {
        const made = await order('press-1')
        await settle(charge(made.id, 'c1'))
        expect(await run(tx => shop.unsettled(tx, ['card:c1', 'card:c2']))).toEqual(['card:c2'])
      })

      it('and another of the same customer at the same time extend one subscription', async () => {
        const first = await order('press-1')
        const second = await order('press-2')
        await Promise.all([settle(charge(first.id, 'c1')), settle(charge(second.id, 'c2'))])
        expect(await mine()).toMatchObject({ revision: 2, generation: 1 })
        await expectBooksInOrder()
      })

      it('and its duplicate at the same time make one payment', async () => {
        const made = await order('press-1')
        const both = await Promise.allSettled([settle(charge(made.id, 'c1')), settle(charge(made.id, 'c1'))])
        expect(both.map(one => one.status).sort()).toEqual(['fulfilled', 'rejected'])
        expect((await books()).payments).toHaveLength(1)
        await expectBooksInOrder()
      })
    })

    describe('an activation', () => {
      const paid = async (cause = 'press-1') => {
        const made = await order(cause)
        await settle(charge(made.id, `charge-${cause}`))
        return made
      }

      it('is begun by one of two', async () => {
        await paid()
        const id = subscriptionIdOf(anna.id)
        expect(await run(tx => shop.activationsDue(tx))).toEqual([id])
        const claims = await Promise.all([1, 2].map(() => run(tx => shop.claimActivation(tx, id, 60_000))))
        expect(claims.filter(claim => claim !== undefined)).toHaveLength(1)
        expect(await run(tx => shop.activationsDue(tx))).toEqual([])
      })

      it('is the same run when it is taken up again after its claim has run out', async () => {
        await paid()
        const id = subscriptionIdOf(anna.id)
        const first = await run(tx => shop.claimActivation(tx, id, 60_000)) as Subscription
        await bench.age(61_000)
        expect(await run(tx => shop.claimActivation(tx, id, 60_000))).toMatchObject({ revision: first.revision, runs: first.runs })
      })

      it('records the key and fulfils the order, once', async () => {
        const made = await paid()
        expect(await activate()).toMatchObject({ outcome: 'activated', orderIds: [made.id], renewed: false })
        const subscription = await mine()
        expect(subscription).toMatchObject({ status: 'active', key: `vless://sub_${subscription.id}_g1` })
        expect(await run(tx => shop.recordActivation(tx, { ...subscription, key: 'other' }))).toEqual({ outcome: 'already' })
        expect((await mine()).key).toBe(subscription.key)
        await expectBooksInOrder(true)
      })

      it('of a renewal keeps the generation and serves the old key meanwhile', async () => {
        await paid()
        await activate()
        const before = await mine()
        await paid('press-2')
        expect(await mine()).toMatchObject({ status: 'pending_activation', key: before.key, generation: 1, revision: 2, expiresAt: before.expiresAt + 30 * 86_400_000 })
        expect(await activate()).toMatchObject({ outcome: 'activated', renewed: true })
        await expectBooksInOrder(true)
      })

      it('that was overtaken by another payment records nothing, and asks for the newer end when it came last', async () => {
        await paid()
        const old = await run(tx => shop.claimActivation(tx, subscriptionIdOf(anna.id), 60_000)) as Subscription
        await paid('press-2')
        expect(await run(tx => shop.recordActivation(tx, { ...old, key: 'k' }))).toEqual({ outcome: 'outdated' })
        expect(await activate()).toMatchObject({ outcome: 'activated' })
        expect(await run(tx => shop.recordActivation(tx, { ...old, key: 'k' }))).toEqual({ outcome: 'outdated' })
        expect(await mine()).toMatchObject({ status: 'pending_activation', runs: old.runs + 1 })
        await activate()
        await expectBooksInOrder(true)
      })

      it('is begun anew when the panel has lost the key, under another name, and delivers nothing again', async () => {
        await paid()
        await activate()
        const before = await mine()
        expect((await run(tx => shop.activeAfter(tx, '', 10))).map(item => item.id)).toEqual([before.id])
        expect(await run(tx => shop.activeAfter(tx, before.id, 10))).toEqual([])
        expect(await run(tx => shop.reactivate(tx, before))).toBe(true)
        expect(await run(tx => shop.reactivate(tx, before))).toBe(false)
        expect(await mine()).toMatchObject({ status: 'pending_activation', generation: 1, runs: before.runs + 1, key: before.key })
        expect(await activate()).toMatchObject({ outcome: 'activated', orderIds: [] })
        await expectBooksInOrder(true)
      })

      it('waits for a person after five definite refusals, and goes on when told to', async () => {
        await paid()
        const id = subscriptionIdOf(anna.id)
        const names = new Set<number>()
        for (let time = 1; time <= 5; time++) {
          const claimed = await run(tx => shop.claimActivation(tx, id, 60_000)) as Subscription
          names.add(claimed.runs)
          await run(tx => shop.refuseActivation(tx, { id, run: claimed.runs, message: 'no' }))
          // Told twice, counted once.
          await run(tx => shop.refuseActivation(tx, { id, run: claimed.runs, message: 'no' }))
        }
        expect(names.size).toBe(5)
        expect(await mine()).toMatchObject({ status: 'activation_failed', failures: 5, lastError: 'no' })
        expect(await run(tx => shop.activationsDue(tx))).toEqual([])
        expect(await run(tx => shop.retryActivation(tx, id))).toBe(true)
        expect(await activate()).toMatchObject({ outcome: 'activated' })
      })

      it('that came to nothing costs no attempt and may be begun again at once', async () => {
        await paid()
        const id = subscriptionIdOf(anna.id)
        const claimed = await run(tx => shop.claimActivation(tx, id, 60_000)) as Subscription
        await run(tx => shop.releaseActivation(tx, { id, run: claimed.runs, message: 'panel away' }))
        expect(await mine()).toMatchObject({ failures: 0, lastError: 'panel away' })
        expect(await run(tx => shop.activationsDue(tx))).toEqual([id])
      })
    })

    describe('the end of a subscription', () => {
      const active = async () => {
        const made = await order('press-1')
        await settle(charge(made.id, 'c1'))
        await activate()
      }

      it('comes when its time is over and no sooner; the status says so only after the removal', async () => {
        await active()
        expect(await remove()).toBeUndefined()
        await bench.age(30 * 86_400_000 + 1_000)
        expect(await run(tx => shop.removalsDue(tx))).toEqual([subscriptionIdOf(anna.id)])
        const claimed = await run(tx => shop.claimRemoval(tx, subscriptionIdOf(anna.id), 60_000)) as Subscription
        expect((await mine()).status).toBe('expiring')
        await run(tx => shop.recordRemoval(tx, claimed))
        expect(await mine()).toMatchObject({ status: 'expired', key: null })
        await expectBooksInOrder(true)
      })

      it('does not come to a key that was renewed a moment before', async () => {
        await active()
        await bench.age(30 * 86_400_000 + 1_000)
        const renewal = await order('press-2')
        await settle(charge(renewal.id, 'c2'))
        expect(await remove()).toBeUndefined()
        await activate()
        expect(await mine()).toMatchObject({ status: 'active', generation: 1 })
        await expectBooksInOrder(true)
      })

      it('that was begun before the renewal ends in the next generation: the old removal cannot hurt the new key', async () => {
        await active()
        await bench.age(30 * 86_400_000 + 1_000)
        const old = await run(tx => shop.claimRemoval(tx, subscriptionIdOf(anna.id), 60_000)) as Subscription
        const renewal = await order('press-2')
        await settle(charge(renewal.id, 'c2'))
        expect((await mine()).status).toBe('expiring')
        expect(await run(tx => shop.recordRemoval(tx, old))).toMatchObject({ status: 'pending_activation', generation: 2, key: null })
        await activate()
        expect(await run(tx => shop.recordRemoval(tx, old))).toBeUndefined()
        expect(await mine()).toMatchObject({ status: 'active', generation: 2 })
        await expectBooksInOrder(true)
      })

      it('after which a payment begins the next generation', async () => {
        await active()
        await bench.age(31 * 86_400_000)
        await remove()
        const again = await order('press-2')
        await settle(charge(again.id, 'c2'))
        expect(await mine()).toMatchObject({ status: 'pending_activation', generation: 2 })
      })

      it('by revocation takes effect whatever was paid for, and is begun once', async () => {
        await active()
        expect(await run(tx => shop.revoke(tx, anna.id))).toBe('revoking')
        expect(await run(tx => shop.revoke(tx, anna.id))).toBe('already')
        expect(await remove()).toMatchObject({ status: 'revoked', key: null })
        expect(await run(tx => shop.revoke(tx, anna.id))).toBe('nothing')
        await expectBooksInOrder(true)
      })

      it('by revocation makes an activation in flight remove what it made', async () => {
        const made = await order('press-1')
        await settle(charge(made.id, 'c1'))
        const inFlight = await run(tx => shop.claimActivation(tx, subscriptionIdOf(anna.id), 60_000)) as Subscription
        await run(tx => shop.revoke(tx, anna.id))
        expect(await run(tx => shop.recordActivation(tx, { ...inFlight, key: 'k' }))).toEqual({ outcome: 'gone' })
        expect(await remove()).toMatchObject({ status: 'revoked' })
        expect(await run(tx => shop.recordActivation(tx, { ...inFlight, key: 'k' }))).toEqual({ outcome: 'gone' })
      })
    })

    it('remembers a customer, and that one who writes is reachable again', async () => {
      expect(await run(tx => shop.remember(tx, anna))).toBe(true)
      expect(await run(tx => shop.remember(tx, anna))).toBe(false)
      await run(tx => shop.unreachable(tx, anna.id))
      expect((await run(tx => shop.customer(tx, anna.id)))?.reachable).toBe(false)
      expect(await run(tx => shop.remember(tx, anna))).toBe(true)
      expect((await run(tx => shop.customer(tx, anna.id)))?.reachable).toBe(true)
    })
  })
}
