/**
 * Keys on the panel: made and removed by sagas that may stop anywhere and are taken up again by anybody.
 *
 * A run's name follows from the books (subscription, revision, count of runs), so whoever begins it twice joins it; what
 * it made is recorded under the generation and revision it was begun for. So two at one subscription do no harm, a run
 * that was overtaken records nothing, and a delivery message commits with the record of its key.
 */
import type { DurableHoldfast } from 'holdfast'
import { HoldfastError, humanDuration, messageOf } from 'holdfast/core'
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

/** Nobody else looks at the same subscription for so long; a run that died is taken up by recovery before. */
const CLAIM_MS = 120_000
/**
 * A panel that is away is nobody's fault: a run goes on for most of a day before it wants a person, and looks often
 * enough to deliver soon after the panel is back. Refusals by the open breaker don't count.
 */
const PATIENCE = { attempts: 1_000, giveUpAfter: '7d', backoffMax: '60s' } as const
/** A customer who has paid and waits longer than this is told to a person. */
const DELAYED_MS = 30 * 60_000
/** Activations begun at once by fresh payments; what is more waits for the worker. */
const AT_ONCE_MAX = 20

/** `waiting`: begun, and tried again by itself until it is over. `nothing`: not due, or another is at it. */
export type RunResult = 'done' | 'waiting' | 'nothing'

export interface Provisioning {
  /** Activates one subscription if one is due. @throws when the run was given up, or the panel said a definite no */
  activate(subscriptionId: string): Promise<RunResult>
  /** Removes the key of one subscription if that is due. @throws when the run was given up */
  remove(subscriptionId: string): Promise<RunResult>
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
    version: 1, input: Wanted, runbook: 'provisioning-stuck', ...PATIENCE,
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
    version: 1, input: Removal, runbook: 'removal-stuck', ...PATIENCE,
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

  /** A run that was given up: an open breaker ends the worker's batch, anything else is this item's failure. */
  const givenUp = (what: string, reason: string): HoldfastError => panelDependency.allows()
    ? new HoldfastError('HF_CALL_FAILED', { message: `${what}: ${reason}` })
    : new HoldfastError('HF_BREAKER_OPEN', { message: `${what}: ${reason}`, stackless: true })

  async function activate(id: string): Promise<RunResult> {
    const claimed = await hold.transaction('shop.claim-activation', tx => shop.claimActivation(tx, id, CLAIM_MS))
    if (claimed === undefined) return 'nothing'
    const { generation, revision, runs: run, expiresAt } = claimed
    const waitedMs = claimed.claimedUntil - CLAIM_MS - claimed.pendingSince
    if (waitedMs > DELAYED_MS) {
      hold.fact('activation.delayed', { severity: 'attention', key: id, runbook: 'activation-stuck', message: `customer ${claimed.customerId} has paid and has waited for the key for ${humanDuration(waitedMs)}` })
    }
    const result = await provision.start(`${id}:r${String(revision)}:${String(run)}`, { id, generation, revision, run, expiresAt })
    switch (result.outcome) {
      case 'done':
        if (result.value.outcome === 'refused') throw new HoldfastError('HF_CALL_REJECTED', { message: `activation of ${id}: ${result.value.message}` })
        // Paid for again during this run: the newer revision waits for a run of its own.
        return result.value.outcome === 'outdated' ? activate(id) : 'done'
      case 'running': return 'waiting'
      case 'undone':
        await hold.transaction('shop.release-activation', tx => shop.releaseActivation(tx, { id, run, message: result.reason.slice(0, 300) }))
        throw givenUp(`activation of ${id}`, result.reason)
      case 'needs-human': throw new HoldfastError('HF_CALL_REJECTED', { message: `activation of ${id} needs a person: ${result.reason}` })
    }
  }

  async function remove(id: string): Promise<RunResult> {
    const claimed = await hold.transaction('shop.claim-removal', tx => shop.claimRemoval(tx, id, CLAIM_MS))
    if (claimed === undefined) return 'nothing'
    const { generation, runs: run } = claimed
    const result = await removeKey.start(`${id}:g${String(generation)}:${String(run)}`, { id, generation })
    switch (result.outcome) {
      // Paid for again while the key was being removed: the next generation is due at once.
      case 'done': return result.value.status === 'pending_activation' ? activate(id) : 'done'
      case 'running': return 'waiting'
      case 'undone':
        await hold.transaction('shop.release-removal', tx => shop.releaseRemoval(tx, { id, run, message: result.reason.slice(0, 300) }))
        throw givenUp(`removal of ${id}`, result.reason)
      case 'needs-human': throw new HoldfastError('HF_CALL_REJECTED', { message: `removal of ${id} needs a person: ${result.reason}` })
    }
  }

  const inFlight = new Map<string, Promise<void>>()
  const soon = (kind: string, id: string, work: (id: string) => Promise<unknown>): void => {
    const name = `${kind} ${id}`
    if (!allowed() || !panelDependency.allows() || inFlight.has(name) || inFlight.size >= AT_ONCE_MAX) return
    const running = work(id).then(() => undefined, (error: unknown) => {
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
