/**
 * Every drill of the bot, in the order in which they are carried out.
 */
import type { Scenario } from '../kit.ts'
import { blocked, sentAndLost, slowDown } from './messages.ts'
import { panelAnswerLost, panelDown, panelSaysExists, provisioningOff } from './panel.ts'
import { cryptoWebhookNever, moneyThatDoesNotFit, paidLate, paymentsOffAfter, paymentsOffBefore, supersededPaid } from './payments.ts'
import { expiryRacesRenewal, revoke, stopUnderLoad } from './subscription.ts'
import { databaseAway, duplicates } from './updates.ts'

export const SCENARIOS: readonly Scenario[] = [
  panelDown, paymentsOffBefore, paymentsOffAfter, duplicates, paidLate, supersededPaid, panelAnswerLost, panelSaysExists, databaseAway,
  expiryRacesRenewal, blocked, revoke, moneyThatDoesNotFit, cryptoWebhookNever, slowDown, sentAndLost, provisioningOff, stopUnderLoad,
]
