import { describe, expect, it } from 'vitest'
import type { Schema } from '../core/index.ts'
import type { SqlTx } from '../store/index.ts'
import { once, saga, type DurableKit } from './index.ts'

declare const kit: DurableKit<SqlTx>
declare const Payment: Schema<{ chargeId: string; amountMinor: number }>
declare const Subscription: Schema<{ id: string }>
declare const tx: SqlTx
const chargeId = (payment: { readonly chargeId: string }): string => payment.chargeId

/** Compiled, never run: each marked line is refused by the type checker, or the check itself fails. */
async function refusedAtCompileTime(): Promise<void> {
  const settle = once('settle', { input: Payment, key: p => p.chargeId, write: async (p, { tx: open }) => {
    await open.query('insert into payment values ($1)', [p.chargeId])
    return { amount: p.amountMinor }
  } }, kit)
  const refund = once('refund', { input: Payment, key: p => p.chargeId,
    call: async (p, { key, signal }) => ({ at: `${p.chargeId} ${key} ${String(signal.aborted)}` }),
    onUnknown: { verify: async p => p.amountMinor > 0 ? { happened: true, value: { at: '' } } : { happened: false } },
    complete: async (done, { tx: open }) => { await open.query('update payment set refunded = $1', [done.at]) } }, kit)
  const paid = await settle({ chargeId: 'c', amountMinor: 100 }, { tx })
  if (paid.outcome === 'done' || paid.outcome === 'replayed') { const n: number = paid.value.amount; void n }
  // @ts-expect-error there is no value where the outcome is not known
  void paid.value
  void refund
  // @ts-expect-error wrong input
  await settle({ chargeId: 1, amountMinor: 3 })
  // @ts-expect-error no key
  once('z', { input: Payment, write: async () => 1 }, kit)
  // @ts-expect-error the key is text
  once('z', { input: Payment, key: p => p.amountMinor, write: async () => 1 }, kit)
  // @ts-expect-error an outside effect says what happens when the outcome is unknown
  once('z', { input: Payment, key: chargeId, call: async () => 1 }, kit)
  // @ts-expect-error there is no fourth way
  once('z', { input: Payment, key: chargeId, call: async () => 1, onUnknown: 'ignore' }, kit)
  // @ts-expect-error what the look-up finds is what the call answers
  once('z', { input: Payment, key: chargeId, call: async () => 1, onUnknown: { verify: async () => ({ happened: true, value: 'text' }) } }, kit)
  // @ts-expect-error an outside call is given no transaction
  once('z', { input: Payment, key: chargeId, call: async (_, { tx: open }) => { void open }, onUnknown: 'hold' }, kit)
  // @ts-expect-error a Date does not survive the record
  once('z', { input: Payment, key: chargeId, write: async () => new Date() }, kit)
  // @ts-expect-error no unit
  once('z', { input: Payment, key: chargeId, write: async () => 1, keepFor: 3000 }, kit)

  const provision = saga('provision', { version: 1, input: Subscription, run: async (step, s) => {
    const user = await step('add-user', { effect: 'idempotent', run: async ({ key, signal }) => ({ id: `${s.id} ${key} ${String(signal.aborted)}` }), undo: async u => u.id })
    for (const part of ['a', 'b']) await step(`record-${part}`, { write: async ({ tx: open }) => { await open.query('select 1', [user.id, part]) } })
    await step('charge', { effect: 'once', verify: 'hold', run: async () => 1 })
    await step('charge', { effect: 'once', verify: async () => ({ happened: true, value: 1 }), run: async () => 1 })
    return { user: user.id }
  } }, kit)
  const answer = await provision.start('id', { id: 'id' })
  if (answer.outcome === 'done') { const id: string = answer.value.user; void id }
  // @ts-expect-error there is a result only when it is done
  void answer.value
  const tracking = saga('t', { version: 2, input: Subscription, undo: { workspace: async (id, { key, signal }) => `${id} ${key} ${String(signal.aborted)}` }, olderVersions: { 1: async (_, s) => s.id }, run: async (step, s) => {
    await step('a', { effect: 'idempotent', run: async ({ track, tracked }) => { await track('workspace', s.id, `of ${String(tracked.length)}`) } })
    // @ts-expect-error nothing undoes a bucket
    await step('b', { effect: 'idempotent', run: async ({ track }) => { await track('bucket', s.id) } })
    await step('c', { effect: 'idempotent', pivot: true, timeout: '3s', run: async () => 1 })
    // @ts-expect-error a point of no return has no undo
    await step('d', { effect: 'idempotent', pivot: true, run: async () => 1, undo: async () => undefined })
    await step('e', { irreversible: { summary: `Erase ${s.id}` }, write: async ({ tx: open }) => { await open.query('select 1') } })
    // @ts-expect-error what is confirmed is said
    await step('f', { effect: 'idempotent', irreversible: {}, run: async () => 1 })
    return s.id
  } }, kit)
  await tracking.markDone('id', 'undone', 'by hand')
  await tracking.markDone('id', { value: 'text' }, 'by hand')
  // @ts-expect-error done has a result that fits
  await tracking.markDone('id', { value: 1 }, 'by hand')
  // @ts-expect-error done has a result
  await tracking.markDone('id', 'done', 'by hand')
  saga('u', { version: 1, input: Subscription, run: async step => {
    // @ts-expect-error no handlers, nothing to track
    await step('a', { effect: 'idempotent', run: async ({ track }) => { await track('workspace', 'w') } })
    return 1
  } }, kit)
  // @ts-expect-error wrong input
  await provision.start('id', { name: 'id' })
  // @ts-expect-error a run has an id
  await provision.start({ id: 'id' })
  // @ts-expect-error a version is declared
  saga('s', { input: Subscription, run: async () => 1 }, kit)
  // @ts-expect-error a Date is no result
  saga('s', { version: 1, input: Subscription, run: async () => new Date() }, kit)
  // @ts-expect-error unit misspelt
  saga('s', { version: 1, input: Subscription, giveUpAfter: '30min', run: async () => 1 }, kit)
  saga('s', { version: 1, input: Subscription, run: async (step, s) => {
    // @ts-expect-error undo takes its own step's result
    await step('a', { effect: 'idempotent', run: async () => ({ id: s.id }), undo: async (n: number) => n })
    // @ts-expect-error a once step says how its outcome is found out
    await step('b', { effect: 'once', run: async () => 1 })
    // @ts-expect-error a Date does not survive the journal
    await step('c', { effect: 'idempotent', run: async () => new Date() })
    // @ts-expect-error an outside step says whether it may be run again
    await step('d', { run: async () => 1 })
    // @ts-expect-error an outside step is given no transaction
    await step('e', { effect: 'idempotent', run: async ({ tx: open }) => { void open } })
    // @ts-expect-error a step is either outside or local
    await step('f', { effect: 'idempotent', run: async () => 1, write: async () => 1 })
    // @ts-expect-error what the look-up finds is what the step answers
    await step('g', { effect: 'once', verify: async () => ({ happened: true, value: 'text' }), run: async () => 1 })
  } }, kit)
}

describe('types', () => {
  it('refuse at compile time what must not be written', () => {
    expect(refusedAtCompileTime).toBeTypeOf('function')
  })
})
