/**
 * The compile-time promises of the public API, held by the compiler: every `@ts-expect-error` here is an error that a user
 * must get. Nothing of `refusals` runs; `npm test` type-checks this file.
 */
import { createHoldfast, type Actor, type Schema, type SqlTx } from 'holdfast'
import { postgres } from 'holdfast/postgres'
import { describe, expect, it } from 'vitest'

declare const Payment: Schema<{ chargeId: string; amountMinor: number }>
declare const Subscription: Schema<{ id: string }>
declare const Revoke: Schema<{ userId: string }>
declare const api: {
  addUser(s: { id: string }, o: { key: string; signal: AbortSignal }): Promise<{ id: string }>
  removeUser(id: string, o: { signal: AbortSignal }): Promise<void>
}
declare const stars: { refund(p: { chargeId: string }, o: { key: string; signal: AbortSignal }): Promise<{ at: string }>; isRefunded(id: string): Promise<boolean> }
declare const admin: Actor

export async function refusals(tx: SqlTx): Promise<void> {
  const hold = createHoldfast({ service: 'vpn-bot', store: postgres('postgres://localhost/bot') })
  const flags = hold.flags({
    payments: { default: true, whenOff: 'Customers are told that payments are paused', runbook: 'payments-paused' },
    vpnProvisioning: { default: true, whenOff: 'Paid subscriptions wait; nothing is lost' },
  })
  const panel = hold.dependency('vpn-panel', {
    tier: 'degradable', runbook: 'vpn-panel-down',
    deadline: '10s', retry: { attempts: 3 }, breaker: { failures: 5, openFor: '60s', closeAfter: 2 }, concurrency: 20, timeout: '3s',
  })
  const settle = hold.once('settle-payment', { input: Payment, key: p => p.chargeId, write: async (p, { tx: inner }) => {
    await inner.query('insert into payment values ($1, $2)', [p.chargeId, p.amountMinor])
    return { amount: p.amountMinor }
  } })
  const refund = hold.once('refund', { input: Payment, key: p => p.chargeId,
    call: (p, { key, signal }) => stars.refund(p, { key, signal }),
    onUnknown: { verify: async p => ((await stars.isRefunded(p.chargeId)) ? { happened: true, value: { at: '' } } : { happened: false }) },
    complete: async (done, { tx: inner }) => { await inner.query('update payment set refunded = $1', [done.at]) } })
  const provision = hold.saga('provision', { version: 1, input: Subscription, run: async (step, s) => {
    const user = await step('add-user', { effect: 'idempotent',
      run: ({ key }) => panel.call('add-user', { effect: 'idempotent', key }, ({ signal }) => api.addUser(s, { key, signal })),
      undo: u => panel.call('remove-user', { effect: 'idempotent' }, ({ signal }) => api.removeUser(u.id, { signal })) })
    for (const part of ['a', 'b']) await step(`record-${part}`, { write: async ({ tx: inner }) => { await inner.query('select 1', [user.id, part]) } })
    return { user: user.id }
  } })
  hold.worker('activation', { every: '5m', safeSleep: '10s', needs: [flags.vpnProvisioning, panel, 'not-unavailable', 'leader'],
    run: async ({ each }) => each(['1', '2'], String, async id => { await provision.start(id, { id }) }) })
  const revoke = hold.irreversible('revoke-access', { input: Revoke, summary: r => `Delete the key of ${r.userId}`, ticketFor: '2m', run: async r => ({ revoked: r.userId }) })

  const paid = await settle({ chargeId: 'c', amountMinor: 100 }, { tx })
  if (paid.outcome === 'done' || paid.outcome === 'replayed') {
    const amount: number = paid.value.amount
    void amount
  }
  const ticket = await revoke.request({ userId: '7' }, admin)
  const { revoked } = await revoke.confirm(ticket.token, admin)
  const soft = await panel.try('get-user', { effect: 'read' }, () => 42)
  if (!soft.ok) void soft.retryAfterMs
  void [revoked, flags.payments.on, refund, (await hold.limit('payment_init', { limit: 5, per: '60s' }).take('user-1')).ok]

  const inputs = hold.retryStore('generation', { input: Subscription, keepFor: '7d' })
  await inputs.store('user', 'model', { id: '1' })
  const again: string | undefined = (await inputs.get('user', 'model'))?.input.id
  hold.worker('nightly', { cron: '0 3 * * *', timeZone: 'Europe/Berlin', mode: 'leader', safeSleep: '10s', run: async () => undefined })
  void again
  // @ts-expect-error wrong input
  await inputs.store('user', 'model', { name: '1' })
  // @ts-expect-error a pattern and an interval
  hold.worker('both', { cron: '0 3 * * *', every: '1m', safeSleep: '10s', run: async () => undefined })

  // @ts-expect-error unknown flag
  void flags.paymnts
  // @ts-expect-error no unit
  hold.dependency('x', { tier: 'required', runbook: 'r', timeout: 3000 })
  // @ts-expect-error unit misspelt
  hold.dependency('x', { tier: 'required', runbook: 'r', timeout: '3sec' })
  // @ts-expect-error option misspelt
  hold.dependency('x', { tier: 'required', runbook: 'r', retry: { attemps: 3 } })
  // @ts-expect-error effect not declared
  await panel.call('x', {}, () => 1)
  // @ts-expect-error a once call can't be retried
  await panel.call('x', { effect: 'once', retry: { attempts: 2 } }, () => 1)
  // @ts-expect-error a once call can't be hedged
  await panel.call('x', { effect: 'once', hedge: { after: '1s' } }, () => 1)
  // @ts-expect-error an irreversible action can't be run
  void revoke.run
  // @ts-expect-error it needs a summary
  hold.irreversible('y', { input: Revoke, ticketFor: '2m', run: async () => 1 })
  // @ts-expect-error wrong input
  await settle({ chargeId: 1, amountMinor: 3 })
  // @ts-expect-error no key
  hold.once('z', { input: Payment, write: async () => 1 })
  // @ts-expect-error an outside effect says what happens when the outcome is unknown
  hold.once('z', { input: Payment, key: p => p.chargeId, call: async () => 1 })
  // @ts-expect-error needs takes what was declared, not a name
  hold.worker('w', { every: '1m', safeSleep: '1s', needs: ['vpnProvisioning'], run: async () => {} })
  hold.saga('s', { version: 1, input: Subscription, run: async (step, s) => {
    // @ts-expect-error undo takes its own step's result
    await step('a', { effect: 'idempotent', run: async () => ({ id: s.id }), undo: async (n: number) => n })
    // @ts-expect-error a once step says how its outcome is found out
    await step('b', { effect: 'once', run: async () => 1 })
    // @ts-expect-error a Date does not survive the journal
    await step('c', { effect: 'idempotent', run: async () => new Date() })
  } })
  const bare = createHoldfast({ service: 'no-store' })
  // @ts-expect-error once needs a store
  void bare.once
}

describe('the public API', () => {
  it('refuses at compile time what the docs say it refuses', () => {
    expect(refusals).toBeTypeOf('function')
  })
})
