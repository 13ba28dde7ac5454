import { describe, expect, it } from 'vitest'
import { HoldfastError } from '../core/index.ts'
import type { Irreversible, Ticket } from '../control/index.ts'
import { confirmations } from './keyboard.ts'

const admin = { id: '1', via: 'telegram', roles: ['admin'] } as const
const ticket: Ticket = { token: 'a'.repeat(22), summary: 'Delete the key of 42', expiresAt: new Date(0) }
const action = (confirm: (token: string) => Promise<string>, name = 'revoke-access'): Irreversible<never, string> =>
  ({ kind: 'irreversible', name, runbook: undefined, request: () => Promise.resolve(ticket), confirm })
const texts = { yes: 'Delete', no: 'Cancel' }

describe('a confirmation by buttons', () => {
  it('confirms with the token of the button, and says what came of it', async () => {
    const used: string[] = []
    const revoke = action(async token => { used.push(token); return 'revoked' })
    const buttons = confirmations([revoke])
    const [yes = { callback_data: '' }, no = { callback_data: '' }] = buttons.keyboard(revoke, ticket, texts).inline_keyboard.flat()
    expect(await buttons.press(no.callback_data, admin)).toEqual({ outcome: 'cancelled', action: 'revoke-access' })
    expect(used).toEqual([])
    expect(await buttons.press(yes.callback_data, admin)).toEqual({ outcome: 'done', action: 'revoke-access', value: 'revoked' })
    expect(used).toEqual([ticket.token])
  })

  it('fits into a button, or is refused when it is made', () => {
    const short = action(async () => '')
    for (const button of confirmations([short]).keyboard(short, ticket, texts).inline_keyboard.flat()) expect(Buffer.byteLength(button.callback_data)).toBeLessThanOrEqual(64)
    const long = action(async () => '', 'a'.repeat(40))
    expect(() => confirmations([long]).keyboard(long, ticket, texts)).toThrow(/64 bytes/)
  })

  it.each([
    [new HoldfastError('HF_TICKET_INVALID', { message: 'used', context: { why: 'used' } }), 'used'],
    [new HoldfastError('HF_TICKET_INVALID', { message: 'not yours', context: { why: 'other-actor' } }), 'other-actor'],
    [new HoldfastError('HF_RATE_LIMITED', { message: 'slow down' }), 'too-many'],
    [new HoldfastError('HF_FORBIDDEN', { message: 'no role' }), 'forbidden'],
  ])('that the server refuses is a refusal, not an error: %s', async (error, why) => {
    const revoke = action(() => Promise.reject(error))
    expect(await confirmations([revoke]).press(`hf+revoke-access:${ticket.token}`, admin)).toMatchObject({ outcome: 'refused', why })
  })

  it('lets everything else through', async () => {
    const away = new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })
    const buttons = confirmations([action(() => Promise.reject(away))])
    await expect(buttons.press('hf+revoke-access:x', admin)).rejects.toBe(away)
    expect(await buttons.press('plan:m1', admin)).toBeUndefined()
    expect(await buttons.press('hf+another-action:x', admin)).toBeUndefined()
  })
})
