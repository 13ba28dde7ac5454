import { describe, expect, it } from 'vitest'
import type { Update } from 'grammy/types'
import { updateFacts } from './update.ts'

const facts = (update: unknown) => updateFacts(update as Update)
const anna = { id: 42, is_bot: false, first_name: 'Anna', language_code: 'ru' }

describe('an update', () => {
  it('of one user has one lane, whether a message or a press', () => {
    const message = facts({ update_id: 1, message: { message_id: 1, date: 1, chat: { id: 42, type: 'private' }, from: anna, text: 'hi' } })
    const press = facts({ update_id: 2, callback_query: { id: 'q', from: anna, chat_instance: 'x', message: { message_id: 1, date: 1, chat: { id: 42 } } } })
    expect(message.lane).toBe('user:42')
    expect(press.lane).toBe(message.lane)
    expect([message.priority, press.priority]).toEqual([100, 50])
    expect(press).toMatchObject({ kind: 'callback_query', userId: '42', chatId: '42', language: 'ru' })
  })

  it('before a payment has a lane of its own and goes first', () => {
    expect(facts({ update_id: 3, pre_checkout_query: { id: 'p', from: anna } })).toMatchObject({ lane: 'pre-checkout:42', priority: 0, chatId: '42' })
  })

  it('in a group waits behind its own sender, not behind the group', () => {
    expect(facts({ update_id: 4, message: { chat: { id: -100, type: 'group' }, from: anna } })).toMatchObject({ lane: 'user:42', chatId: '-100' })
  })

  it.each([
    [{ update_id: 5 }], [{ update_id: 5, message: null }], [{ update_id: 5, message: 7 }], [{ update_id: 5, message: { from: 'x', chat: [] } }],
    [{ update_id: 5, poll: { id: '1' } }], [{ update_id: 5, something_new: { user: { id: 1.5 } } }],
  ])('of whatever shape is given a lane: %j', update => {
    expect(facts(update).lane).toMatch(/^user:\w+$/)
  })
})
