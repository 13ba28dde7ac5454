/**
 * What can be switched, what is called, what is limited: the bot's declarations, made before anything starts.
 */
import type { DurableHoldfast, Flag } from 'holdfast'
import type { Dependency } from 'holdfast/guard'
import type { Limit } from 'holdfast/limits'

export interface Switches {
  readonly payments: Flag
  readonly vpnProvisioning: Flag
  readonly backgroundWorkers: Flag
  readonly adminActions: Flag
}

export interface Definitions {
  readonly switches: Switches
  readonly telegram: Dependency
  readonly cryptoPay: Dependency
  readonly vpnPanel: Dependency
  readonly limits: { readonly paymentInit: Limit; readonly adminAction: Limit }
}

/** 2 repetitions where a call may be repeated; 5 failures open for 60 s; 2 successes of at most 3 trial calls close. */
const PARTNER = {
  tier: 'degradable', deadline: '10s', timeout: '3s', retry: { attempts: 3 }, breaker: { failures: 5, openFor: '60s', closeAfter: 2, trialCalls: 3 },
} as const

export function define<Tx>(hold: DurableHoldfast<Tx>): Definitions {
  const switches = hold.flags({
    payments: { default: true, whenOff: 'Customers are told that payments are paused; what was charged is still delivered', runbook: 'payments-paused' },
    vpnProvisioning: { default: true, whenOff: 'Paid subscriptions wait for their key; nothing is lost', runbook: 'provisioning-paused' },
    backgroundWorkers: { default: true, whenOff: 'Nothing is activated, expired or reconciled in the background', runbook: 'workers-paused' },
    adminActions: { default: true, whenOff: 'Admin commands in Telegram are refused; console and command line work', runbook: 'admin-paused' },
  })
  return {
    switches,
    telegram: hold.dependency('telegram', { ...PARTNER, runbook: 'telegram-down', concurrency: 40 }),
    cryptoPay: hold.dependency('crypto-pay', { ...PARTNER, runbook: 'crypto-pay-down', concurrency: 10 }),
    vpnPanel: hold.dependency('vpn-panel', { ...PARTNER, runbook: 'vpn-panel-down', concurrency: 20 }),
    limits: {
      paymentInit: hold.limit('payment_init', { limit: 5, per: '60s' }),
      adminAction: hold.limit('admin_action', { limit: 10, per: '60s' }),
    },
  }
}
