/**
 * The bot's background loops. Each finishes what a crash, an outage or a lost webhook left open, from what the books say;
 * none is the only way that something happens, and all of them may run twice.
 */
import type { DurableHoldfast } from 'holdfast'
import { humanDuration } from 'holdfast/core'
import type { Definitions } from './definitions.ts'
import type { Finalise } from './finalise.ts'
import { chargeOf, type CryptoPay, type Invoice } from './partners/crypto-pay.ts'
import type { VpnPanel } from './partners/vpn-panel.ts'
import type { Provisioning } from './provisioning.ts'
import { panelUsername, subscriptionIn } from './shop/ids.ts'
import type { Shop } from './shop/shop.ts'
import { DAY_MS, paymentKey } from './shop/types.ts'

export interface WorkerDeps<Tx> {
  readonly hold: DurableHoldfast<Tx>
  readonly shop: Shop<Tx>
  readonly definitions: Definitions
  readonly provisioning: Provisioning
  readonly cryptoPay: CryptoPay
  readonly panel: VpnPanel
  readonly finalise: Finalise
}

/** An invoice is watched for a day beyond its end: people pay late, and webhooks get lost. */
const LOOK_BACK_MS = DAY_MS + 30 * 60_000
const WATCHED_AT_ONCE = 100
/** The reconciler reads this many of the newest paid invoices, page by page, until a page brings nothing new. */
const RECONCILED_PER_PAGE = 100
const RECONCILED_PAGES_MAX = 10
const PANEL_PAGE = 200
const PANEL_USERS_MAX = 100_000
/** More keys than this that nobody should have are not a leftover of a crash but a mistake, perhaps in our books. */
const LEFTOVERS_MAX = 10

export function workers<Tx>({ hold, shop, definitions, provisioning, cryptoPay, panel, finalise }: WorkerDeps<Tx>): void {
  const { switches, vpnPanel, cryptoPay: cryptoDependency } = definitions

  hold.worker('activation', {
    every: '300s', safeSleep: '10s', runbook: 'activation-stuck',
    needs: [switches.backgroundWorkers, switches.vpnProvisioning, vpnPanel, 'not-unavailable', 'leader'],
    // Definite refusals are counted in the books (5, then a person). What remains here is a panel that is away, which is
    // nobody's fault and must not park what a customer has paid for.
    maxAttempts: 100,
    run: async ({ each, degraded }) => {
      const due = await hold.transaction('shop.activations-due', tx => shop.activationsDue(tx))
      let waiting = 0
      await each(due, id => id, async id => { if ((await provisioning.activate(id)) === 'waiting') waiting += 1 }, { concurrency: 4 })
      if (waiting > 0) degraded(`${String(waiting)} activations wait for the panel`)
    },
  })

  hold.worker('expiry', {
    every: '60s', safeSleep: '10s', runbook: 'expiry-stuck',
    needs: [switches.backgroundWorkers, vpnPanel, 'not-unavailable', 'leader'],
    maxAttempts: 100,
    run: async ({ each, degraded }) => {
      await hold.transaction('shop.expire-orders', tx => shop.expireOrders(tx))
      const due = await hold.transaction('shop.removals-due', tx => shop.removalsDue(tx))
      let waiting = 0
      await each(due, id => id, async id => { if ((await provisioning.remove(id)) === 'waiting') waiting += 1 }, { concurrency: 4 })
      if (waiting > 0) degraded(`${String(waiting)} removals wait for the panel`)
    },
  })

  const settle = async (invoice: Invoice): Promise<void> => {
    const charge = chargeOf(invoice)
    if (charge !== undefined) await finalise(charge)
  }

  hold.worker('crypto-watcher', {
    every: '30s', safeSleep: '15s', runbook: 'crypto-watcher-stuck',
    needs: [switches.backgroundWorkers, cryptoDependency, 'not-unavailable', 'leader'],
    run: async ({ each }) => {
      const orders = await hold.transaction('shop.invoices-to-watch', tx => shop.invoicesToWatch(tx, LOOK_BACK_MS, WATCHED_AT_ONCE))
      const invoices = await cryptoPay.invoices(orders.flatMap(order => (order.providerRef === null ? [] : [order.providerRef])))
      await each(invoices.filter(invoice => invoice.status === 'paid'), invoice => String(invoice.invoice_id), settle)
    },
  })

  hold.worker('crypto-reconciler', {
    every: '300s', safeSleep: '15s', runbook: 'crypto-reconciler-stuck',
    needs: [switches.backgroundWorkers, cryptoDependency, 'not-unavailable', 'leader'],
    run: async ({ each, degraded }) => {
      for (let page = 0; page < RECONCILED_PAGES_MAX; page += 1) {
        const paid = await cryptoPay.paidInvoices({ offset: page * RECONCILED_PER_PAGE, count: RECONCILED_PER_PAGE })
        const keyOf = (invoice: Invoice): string => paymentKey({ provider: 'crypto', chargeId: String(invoice.invoice_id) })
        const unsettled = new Set(await hold.transaction('shop.unsettled', tx => shop.unsettled(tx, paid.map(keyOf))))
        await each(paid.filter(invoice => unsettled.has(keyOf(invoice))), invoice => String(invoice.invoice_id), settle)
        if (paid.length < RECONCILED_PER_PAGE || unsettled.size === 0) return
      }
      degraded(`more than ${String(RECONCILED_PAGES_MAX * RECONCILED_PER_PAGE)} paid invoices were new; the rest follows in ${humanDuration(300_000)}`)
    },
  })

  hold.worker('panel-reconciler', {
    every: '600s', safeSleep: '15s', runbook: 'panel-differs',
    needs: [switches.backgroundWorkers, switches.vpnProvisioning, vpnPanel, 'not-unavailable', 'leader'],
    maxAttempts: 100,
    run: async ({ each, degraded }) => {
      const there = new Set<string>()
      for (let offset = 0; offset < PANEL_USERS_MAX; offset += PANEL_PAGE) {
        const page = await panel.list({ offset, limit: PANEL_PAGE })
        for (const username of page.usernames) there.add(username)
        if (page.usernames.length < PANEL_PAGE) break
      }

      // What is paid for and not there: the panel was restored from a backup, or somebody deleted it.
      for (let after: string | undefined = ''; after !== undefined;) {
        const cursor: string = after
        const active = await hold.transaction('shop.active-after', tx => shop.activeAfter(tx, cursor, PANEL_PAGE))
        await each(active.filter(item => !there.has(panelUsername(item))), item => `lost ${item.id}`, async item => {
          // One that was activated after the list was read is made again, too: that finds it and changes nothing.
          if (await hold.transaction('shop.reactivate', tx => shop.reactivate(tx, item))) await provisioning.activate(item.id)
        })
        after = active.length < PANEL_PAGE ? undefined : active.at(-1)?.id
      }

      // What is there and over in our books: a creation that arrived after its removal. Names that our books don't know are left alone.
      const ours = [...there].flatMap(username => { const found = subscriptionIn(username); return found === undefined ? [] : [{ username, ...found }] })
      const leftovers: string[] = []
      let strangers = 0
      for (let start = 0; start < ours.length; start += PANEL_PAGE) {
        await hold.transaction('shop.compare-panel', async tx => {
          for (const { username, id, generation } of ours.slice(start, start + PANEL_PAGE)) {
            const known = await shop.subscription(tx, id)
            if (known === undefined || generation > known.generation) strangers += 1
            else if (generation < known.generation || known.status === 'expired' || known.status === 'revoked') leftovers.push(username)
          }
        }, { conflictRetries: 0 })
      }
      if (strangers > 0 || leftovers.length > LEFTOVERS_MAX) {
        hold.fact('panel.differs', { severity: 'attention', key: 'panel', runbook: 'panel-differs', message: `the panel has ${String(strangers)} keys that the books do not know and ${String(leftovers.length)} that are over in the books` })
        degraded(`${String(strangers)} keys are not in the books`)
      }
      if (leftovers.length <= LEFTOVERS_MAX) await each(leftovers, username => `leftover ${username}`, username => panel.removeUser(username))
    },
  })
}
