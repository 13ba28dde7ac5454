/**
 * Keys on the panel: made and removed by sagas that may stop anywhere and be run again by anybody.
 *
 * Whoever begins claims first, in the books, and the claim's number is part of the run's name; what a run found is
 * recorded under the generation and revision it was begun for. So two runs of one subscription do no harm, a run that was
 * overtaken records nothing, and a delivery message commits with the record of its key.
 */
import type { DurableHoldfast } from 'holdfast'
import { HoldfastError, messageOf } from 'holdfast/core'
import type { Dependency } from 'holdfast/guard'
import { z } from 'zod'
import type { Notices } from './notices.ts'
import type { VpnPanel } from './partners/vpn-panel.ts'
import { panelUserId, panelUsername } from './shop/ids.ts'
import type { Shop } from './shop/shop.ts'
import { TEXTS } from './texts.ts'

const Wanted = z.object({
  id: z.string(), generation: z.number().int(), revision: z.number().int(), run: z.number().int(), expiresAt: z.number(),
})
const Removal = z.object({ id: z.string(), generation: z.number().int() })

/** Nobody else begins on the same subscription for so long; a run that died is taken up by recovery before. */
const CLAIM_MS = 120_000
/** Activations begun at once by fresh payments; what is more waits for the worker. */
const AT_ONCE_MAX = 20

export interface Provisioning {
  /** Activates one subscription if one is due. @throws when the panel cannot do it now */
  activate(subscriptionId: string): Promise<void>
  /** Removes the key of one subscription if that is due. @throws when the panel cannot do it now */
  remove(subscriptionId: string): Promise<void>
  /** `activate` in the background, as soon as a payment has arrived; failures are left to the worker. Never throws. */
  activateSoon(subscriptionId: string): void
  /** The same for a removal that an admin has confirmed. */
  removeSoon(subscriptionId: string): void
  /** Resolves when nothing that was begun in the background is left. */
  drained(): Promise<void>
}

export interface ProvisioningDeps<Tx> {
  readonly hold: DurableHoldfast<Tx>
  readonly shop: Shop<Tx>
  readonly panel: VpnPanel
  readonly panelDependency: Dependency
  readonly notices: Notices<Tx>
  readonly adminIds: readonly string[]
  /** May keys be made or removed now? */
  readonly allowed: () => boolean
}

export function provisioning<Tx>({ hold, shop, panel, panelDependency, notices, adminIds, allowed }: ProvisioningDeps<Tx>): Provisioning {
  const provision = hold.saga('provision', {
    version: 1, input: Wanted, runbook: 'provisioning-stuck',
    run: async (step, wanted) => {
      const username = panelUsername(wanted)
      const made = await step('ensure-user', {
        effect: 'idempotent',
        run: ({ signal }) => panel.ensureUser({ username, id: panelUserId(wanted), expiresAt: wanted.expiresAt }, signal),
      })
      if (made.outcome === 'refused') {
        await step('record-refusal', {
          write: async ({ tx }) => {
            const after = await shop.refuseActivation(tx, { id: wanted.id, run: wanted.run, message: made.message })
            if (after?.status === 'activation_failed') await notices.toAdmins(tx, adminIds, { onceKey: `activation-failed:${wanted.id}:${String(wanted.run)}`, text: `Customer ${after.customerId} has paid and gets no key: ${made.message}` })
          },
        })
        return { outcome: 'refused', message: made.message }
      }
      const recorded = await step('record', {
        write: async ({ tx }) => {
          const activation = await shop.recordActivation(tx, { ...wanted, key: made.key })
          if (activation.outcome !== 'activated') return { outcome: activation.outcome }
          const { customer, subscription, renewed, orderIds } = activation
          const order = orderIds.at(-1)
          if (order !== undefined) await notices.toCustomer(tx, customer, { onceKey: `delivery:${order}`, text: TEXTS[customer.language].delivery(subscription, renewed) })
          return { outcome: activation.outcome }
        },
      })
      // Ended or revoked meanwhile: the key that was just made belongs to a generation that nobody has any more.
      if (recorded.outcome === 'gone') await step('remove-again', { effect: 'idempotent', run: ({ signal }) => panel.removeUser(username, signal) })
      return { outcome: recorded.outcome, message: '' }
    },
  })

  const removeKey = hold.saga('remove-key', {
    version: 1, input: Removal, runbook: 'removal-stuck',
    run: async (step, removal) => {
      await step('remove-user', { effect: 'idempotent', run: ({ signal }) => panel.removeUser(panelUsername(removal), signal) })
      // Only now: a status that ran ahead of the panel would leave a key that works and that nobody knows of.
      return step('record', {
        write: async ({ tx }) => {
          const after = await shop.recordRemoval(tx, removal)
          return { status: after?.status ?? 'unchanged' }
        },
      })
    },
  })

  /** A run that came to nothing: an open breaker ends the worker's batch, anything else is this item's failure. */
  const failed = (what: string, reason: string): HoldfastError => panelDependency.allows()
    ? new HoldfastError('HF_CALL_FAILED', { message: `${what}: ${reason}` })
    : new HoldfastError('HF_BREAKER_OPEN', { message: `${what}: ${reason}`, stackless: true })

  async function activate(id: string): Promise<void> {
    const claimed = await hold.transaction('shop.claim-activation', tx => shop.claimActivation(tx, id, CLAIM_MS))
    if (claimed === undefined) return
    const { generation, revision, runs: run, expiresAt } = claimed
    const result = await provision.start(`${id}:${String(run)}`, { id, generation, revision, run, expiresAt })
    if (result.outcome === 'done') {
      if (result.value.outcome === 'refused') throw new HoldfastError('HF_CALL_REJECTED', { message: `activation of ${id}: ${result.value.message}` })
      if (result.value.outcome === 'gone') return
      // A renewal during this run waits for its own.
      if (result.value.outcome === 'outdated') await activate(id)
      return
    }
    if (result.outcome === 'running') return
    await hold.transaction('shop.release-activation', tx => shop.releaseActivation(tx, { id, run, message: result.reason.slice(0, 300) }))
    throw failed(`activation of ${id}`, result.reason)
  }

  async function remove(id: string): Promise<void> {
    const claimed = await hold.transaction('shop.claim-removal', tx => shop.claimRemoval(tx, id, CLAIM_MS))
    if (claimed === undefined) return
    const result = await removeKey.start(`${id}:${String(claimed.runs)}`, { id, generation: claimed.generation })
    if (result.outcome === 'done') {
      if (result.value.status === 'pending_activation') await activate(id)
      return
    }
    if (result.outcome === 'running') return
    await hold.transaction('shop.release-removal', tx => shop.releaseRemoval(tx, { id, run: claimed.runs, message: result.reason.slice(0, 300) }))
    throw failed(`removal of ${id}`, result.reason)
  }

  const inFlight = new Map<string, Promise<void>>()
  const soon = (kind: string, id: string, work: (id: string) => Promise<void>): void => {
    const name = `${kind} ${id}`
    if (!allowed() || !panelDependency.allows() || inFlight.has(name) || inFlight.size >= AT_ONCE_MAX) return
    const running = work(id).catch((error: unknown) => {
      // Announced by the saga and the dependency already; the worker comes back to it.
      hold.log.debug({ subscription: id, reason: messageOf(error) }, `${kind} was left to the worker`)
    }).finally(() => { inFlight.delete(name) })
    inFlight.set(name, running)
  }

  return {
    activate, remove,
    activateSoon: id => { soon('activation', id, activate) },
    removeSoon: id => { soon('removal', id, remove) },
    drained: async () => { await Promise.all(inFlight.values()) },
  }
}
