import { describe, expect, it } from 'vitest'
import type { Actor, Kit, Schema } from '../core/index.ts'
import type { SqlTx } from '../store/index.ts'
import { flags, irreversible, type FlagBoardOptions, type StoreKit } from './index.ts'

declare const kit: Kit
declare const storeKit: StoreKit<SqlTx>
declare const options: FlagBoardOptions
declare const Revoke: Schema<{ userId: string }>
declare const admin: Actor

/** Compiled, never run: each line below is refused by the type checker, or the check itself fails. */
export async function refusedAtCompileTime(): Promise<void> {
  const board = flags({ payments: { default: true, whenOff: 'paused' } }, kit, options)
  const on: boolean = board.flags.payments.on
  // @ts-expect-error unknown flag
  void board.flags.paymnts
  // @ts-expect-error a flag is flipped by an operator with a reason, not assigned
  board.flags.payments.on = false
  // @ts-expect-error a flag says what off means
  flags({ payments: { default: true } }, kit, options)
  // @ts-expect-error flipping needs an actor and a reason
  await board.set('payments', false)

  const revoke = irreversible('revoke', { input: Revoke, summary: r => r.userId, ticketFor: '2m', run: async (r, { tx }) => { await tx.query('select 1'); return { revoked: r.userId } } }, storeKit)
  const ticket = await revoke.request({ userId: '7' }, admin)
  const { revoked } = await revoke.confirm(ticket.token, admin)
  const text: string = revoked
  // @ts-expect-error an irreversible action can't be run
  void revoke.run
  // @ts-expect-error it needs a summary
  irreversible('y', { input: Revoke, ticketFor: '2m', run: async () => 1 }, storeKit)
  // @ts-expect-error no unit
  irreversible('y', { input: Revoke, summary: () => 'x', ticketFor: 120, run: async () => 1 }, storeKit)
  // @ts-expect-error wrong input
  await revoke.request({ userId: 7 }, admin)
  // @ts-expect-error a Date is no result
  irreversible('y', { input: Revoke, summary: () => 'x', ticketFor: '2m', run: async () => new Date() }, storeKit)
  void [on, text]
}

describe('the types', () => {
  it('are checked by tsc', () => { expect(refusedAtCompileTime).toBeTypeOf('function') })
})
