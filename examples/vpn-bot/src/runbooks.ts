/**
 * What to do about each named trouble of the shop. Shown beside the switch, the alert and the work item it belongs to.
 */
import type { Runbook } from 'holdfast'

export const runbooks = {
  // ---- switches
  'payments-paused': {
    title: 'Payments are paused', when: 'The switch `payments` is off: no invoices are made and pre-checkouts are refused. What was charged is still booked and delivered.', safeToRetry: true,
    steps: ['Find out who switched it off and why (console, or `holdfast flags`).', 'When the reason is gone, switch it on.'], commands: ['npx holdfast flags', 'npx holdfast flags set payments on --reason "..."'],
  },
  'provisioning-paused': {
    title: 'Provisioning is paused', when: 'The switch `vpnProvisioning` is off: paid subscriptions wait in `pending_activation`, nothing is lost.', safeToRetry: true,
    steps: ['Look at the panel first (runbook vpn-panel-down).', 'Switch it on; the activation worker drains what waits, oldest first.'], commands: ['npx holdfast flags set vpnProvisioning on --reason "..."'],
  },
  'workers-paused': {
    title: 'Background work is paused', when: 'The switch `backgroundWorkers` is off: no activation, no expiry, no reconciliation. Payments by webhook are still booked.', safeToRetry: true,
    steps: ['Switch it on as soon as the reason is gone: keys that should have ended keep working meanwhile.'], commands: ['npx holdfast flags set backgroundWorkers on --reason "..."'],
  },
  'admin-paused': {
    title: 'Admin actions in Telegram are paused', when: 'The switch `adminActions` is off: /admin and /revoke are refused in Telegram. Console and command line work.', safeToRetry: true,
    steps: ['Check that the admin accounts are in the right hands.', 'Switch it on from the console or the command line.'], commands: ['npx holdfast flags set adminActions on --reason "..."'],
  },
  // ---- dependencies
  'telegram-down': {
    title: 'Telegram cannot be reached', when: 'Calls to the Bot API fail or time out. Updates wait at Telegram (24 h; payments before the charge are refused by silence).', safeToRetry: false,
    steps: ['Look at https://t.me/BotNews and at the network of this machine.', 'A 401 means that the token was revoked: set a new one and start again.', 'Messages whose outcome is unknown are not sent again by themselves; customers get their key by /key.'],
  },
  'crypto-pay-down': {
    title: 'Crypto Pay cannot be reached', when: 'Invoices cannot be made; paid ones are found by the watcher and the reconciler as soon as it is back.', safeToRetry: true,
    steps: ['Look at the status channel of @CryptoBot.', 'Nothing has to be done afterwards: the reconciler looks back.'],
  },
  'vpn-panel-down': {
    title: 'The VPN panel cannot be reached', when: 'Keys can neither be made nor removed. Existing keys work. Paid subscriptions wait.', safeToRetry: true,
    steps: ['Log in at the panel and look whether it runs and answers.', 'A 401 means that the token is wrong: set VPN_PANEL_TOKEN and start again.', 'When it answers, the breaker closes after two good calls and the activation worker drains what waits.'],
    commands: ['npx holdfast status'],
  },
  // ---- workers
  'activation-stuck': {
    title: 'A paid subscription cannot be activated', when: 'The panel refused five times, or the panel has been away for long. The customer has paid and has no key.', safeToRetry: true,
    steps: ['Read the last error in /admin or the console.', 'Mend the cause on the panel (a foreign user of the same name, a full inbound).', 'Send /admin retry <customer id>, or refund the customer.'],
  },
  'expiry-stuck': {
    title: 'A key cannot be removed', when: 'A subscription has ended or was revoked and its key still works, because the panel does not remove it.', safeToRetry: true,
    steps: ['Look at the panel.', 'The worker tries again by itself; the status changes only after the key is gone.'],
  },
  'crypto-watcher-stuck': {
    title: 'Pending crypto invoices are not being watched', when: 'The watcher fails. Webhooks still book payments at once, the reconciler finds the rest.', safeToRetry: true,
    steps: ['Follow crypto-pay-down.'],
  },
  'crypto-reconciler-stuck': {
    title: 'Crypto payments are not being reconciled', when: 'The reconciler fails. A payment whose webhook was lost stays unknown until it works again.', safeToRetry: true,
    steps: ['Follow crypto-pay-down.', 'Paid invoices are found however old the gap is, as far back as Crypto Pay lists them.'],
  },
  'panel-differs': {
    title: 'The panel and the books differ', when: 'Keys are on the panel that the books do not know, or many that are over in the books. Nothing of it is deleted by itself.', safeToRetry: true,
    steps: ['Was the database restored from a backup, or is it another one? Then the panel is right: do not delete anything.', 'Otherwise delete the keys by hand on the panel.'],
  },
  // ---- sagas
  'provisioning-stuck': {
    title: 'A provisioning run needs a person', when: 'A run can neither be finished nor undone.', safeToRetry: true,
    steps: ['Compare the panel user `sub_<subscription>_g<generation>` with /admin.', 'Retry the run: every step of it may be repeated.'],
  },
  'removal-stuck': {
    title: 'A removal run needs a person', when: 'A key could not be removed and the run gave up.', safeToRetry: true,
    steps: ['Remove the user by hand on the panel if it is still there.', 'Retry the run: removing what is gone counts as done.'],
  },
  // ---- irreversible
  'revoke-access': {
    title: 'Revoking somebody\'s access', when: 'An admin deletes the key of a customer before its time. It cannot be given back, only a new one sold.', safeToRetry: false,
    steps: ['Ask for it with /revoke <customer id> and read the summary.', 'Confirm within two minutes by the button. Refund what is due by hand.'],
  },
  // ---- money
  'payment-attention': {
    title: 'A payment does not fit', when: 'Another amount, currency or payer (mismatch), an order that cannot take it (orphan), or a payload that is not ours (foreign). The money is booked as owed.', safeToRetry: false,
    steps: ['Look the charge up at the provider.', 'Refund it there, or deliver by hand and write to the customer.', 'A foreign payment usually means that the token is used by another program, too.'],
  },
  'payment-settle': {
    title: 'Settling a payment failed', when: 'A charge is known and could not be booked.', safeToRetry: true,
    steps: ['Look at the store.', 'Retry the parked update or wait for the reconciler: a charge is booked once, however often it is tried.'],
  },
  'payment-refunded': {
    title: 'A payment was refunded', when: 'Telegram says that a payment was taken back.', safeToRetry: false,
    steps: ['Check that the refund was ours.', 'Revoke the access it paid for with /revoke <customer id> when it should not stay.'],
  },
} as const satisfies Readonly<Record<string, Runbook>>
