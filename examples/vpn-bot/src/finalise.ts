/**
 * The one path of every payment, whoever brings the news: Telegram's successful_payment, Crypto Pay's webhook, the
 * watcher or the reconciler. Booked once per charge, in one transaction with the messages that follow from it.
 *
 * Nothing here asks a switch or a limit: the money has been taken. What does not fit is booked as owed, told to the
 * admins by a message that commits with the booking, and raised as an alert.
 */
import type { DurableHoldfast } from 'holdfast'
import { HoldfastError, isHoldfastError } from 'holdfast/core'
import type { Notices } from './notices.ts'
import type { Shop } from './shop/shop.ts'
import { decimalOf } from './shop/money.ts'
import { Payment, paymentKey, type SettlementOutcome } from './shop/types.ts'
import { TEXTS } from './texts.ts'

export interface Finalised {
  readonly outcome: SettlementOutcome | 'duplicate'
  readonly orderId: string | null
  readonly subscriptionId: string | null
}

export type Finalise = (payment: Payment) => Promise<Finalised>

export interface FinaliseDeps<Tx> {
  readonly hold: DurableHoldfast<Tx>
  readonly shop: Shop<Tx>
  readonly notices: Notices<Tx>
  readonly adminIds: readonly string[]
  /** Called after the commit for each subscription that waits for its activation. Must not throw. */
  readonly paid: (subscriptionId: string) => void
}

const ATTENTION: ReadonlySet<string> = new Set<SettlementOutcome>(['mismatch', 'orphan', 'foreign'])

export function finaliser<Tx>({ hold, shop, notices, adminIds, paid }: FinaliseDeps<Tx>): Finalise {
  const settlePayment = hold.once('settle-payment', {
    input: Payment,
    key: paymentKey,
    keepFor: '365d',
    runbook: 'payment-settle',
    write: async (payment, { tx }) => {
      const settlement = await shop.settle(tx, payment)
      const { outcome, why, orderId, customer, subscription } = settlement
      const key = paymentKey(payment)
      if (customer !== null && (subscription !== null || outcome !== 'foreign')) {
        const texts = TEXTS[customer.language]
        await notices.toCustomer(tx, customer, { onceKey: `received:${key}`, text: subscription === null ? texts.paymentHeld : texts.paymentReceived })
      }
      if (ATTENTION.has(outcome)) await notices.toAdmins(tx, adminIds, { onceKey: `attention:${key}`, text: sentence(payment, outcome, why) })
      return { outcome, why, orderId, subscriptionId: subscription?.id ?? null }
    },
  })

  return async payment => {
    const key = paymentKey(payment)
    const result = await settlePayment(payment).catch((error: unknown) => {
      if (!isHoldfastError(error) || error.code !== 'HF_KEY_REUSED') throw error
      // The same charge in two versions: the first one is booked, and somebody has to find out which is right.
      hold.fact('payment.conflict', { severity: 'attention', key, runbook: 'payment-attention', message: `charge ${key} was reported twice with different contents; the first report stands` })
      return { outcome: 'conflict' as const }
    })
    if (result.outcome === 'conflict') return { outcome: 'duplicate', orderId: null, subscriptionId: null }
    if (result.outcome === 'in-progress' || result.outcome === 'unknown') {
      throw new HoldfastError('HF_STORE_CONFLICT', { message: `charge ${key} is being booked by another; try again`, ...(result.outcome === 'in-progress' ? { retryAfterMs: result.retryAfterMs } : {}) })
    }
    const { outcome, why, orderId, subscriptionId } = result.value
    // Also for a duplicate: the one who booked it may have died before it could say so.
    if (subscriptionId !== null) paid(subscriptionId)
    if (result.outcome === 'replayed') {
      hold.fact('payment.duplicate', { severity: 'info', key, message: `charge ${key} was booked before (${outcome}); nothing was done` })
      return { outcome: 'duplicate', orderId, subscriptionId }
    }
    const severity = ATTENTION.has(outcome) ? 'attention' : 'info'
    hold.fact(`payment.${outcome}`, { severity, key, message: sentence(payment, outcome, why), ...(severity === 'attention' ? { runbook: 'payment-attention' } : {}) })
    return { outcome, orderId, subscriptionId }
  }
}

function sentence(payment: Payment, outcome: SettlementOutcome, why: string): string {
  return `Charge ${paymentKey(payment)} of ${decimalOf(payment.amountMinor, payment.currency)} ${payment.currency}: ${outcome} (${why})`
}
