import { BotError } from 'grammy'
import type { Update } from 'grammy/types'
import { describe, expect, it } from 'vitest'
import { currentContext, EventBus, HoldfastError, type HoldfastEvent } from '../core/index.ts'
import { simulatedEnv } from '../testing/simulated-env.ts'
import { telegramProcessing } from './processing.ts'

const text = { update_id: 7, message: { message_id: 1, date: 1, chat: { id: 42, type: 'private' }, from: { id: 42, is_bot: false, first_name: 'Anna', language_code: 'ru' }, text: 'hi' } } as unknown as Update
const payment = { update_id: 8, message: { ...text.message, successful_payment: {} } } as unknown as Update

function process(handleUpdate: (update: Update) => Promise<void>, apologise?: () => Promise<void>) {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const said: HoldfastEvent[] = []
  events.onAny(event => { said.push(event) })
  const told: [string | undefined, string][] = []
  const run = telegramProcessing({ bot: { handleUpdate }, env, events, apologise: async (facts, code) => { told.push([facts.chatId, code]); await apologise?.() } })
  const outcome = async (update: Update, within = '60s' as const): Promise<unknown> => {
    let result: unknown = 'still running'
    run(update).then(() => { result = 'done' }, (error: unknown) => { result = error })
    await env.until(() => result !== 'still running', within)
    return result
  }
  return { outcome, said, told, env }
}
const wrapped = (error: unknown) => Promise.reject(new BotError(error, {} as never))

describe('handling an update', () => {
  it('runs under its correlation id', async () => {
    let seen: unknown
    const { outcome } = process(async () => { seen = currentContext().correlationId })
    expect(await outcome(text)).toBe('done')
    expect(seen).toBe('tg-7')
  })

  it('that fails is told to the customer with the code that the log has, and is done', async () => {
    const { outcome, told, said } = process(() => wrapped(new TypeError('x is not a function')))
    expect(await outcome(text)).toBe('done')
    expect(told).toEqual([['42', 'tg-7']])
    expect(said).toMatchObject([{ name: 'handler.failed', correlationId: 'tg-7', data: { failure: 'defect' } }])
  })

  it('is tried again while the store is away, without a word to the customer', async () => {
    const away = new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })
    const { outcome, told } = process(() => wrapped(away))
    expect(await outcome(text)).toBe(away)
    expect(told).toEqual([])
  })

  it('of a payment is tried again whatever went wrong', async () => {
    const bug = new TypeError('NULL tariff')
    const { outcome, told } = process(() => wrapped(bug))
    expect(await outcome(payment)).toBe(bug)
    expect(told).toEqual([])
  })

  it('that hangs is given up after 25 s, and the customer is told', async () => {
    const { outcome, told, env } = process(() => new Promise(() => undefined))
    const before = env.monotonic()
    expect(await outcome(text)).toBe('done')
    expect(env.monotonic() - before).toBe(25_000)
    expect(told).toHaveLength(1)
  })

  it('that fails after it was given up disturbs nobody', async () => {
    const { outcome, env } = process(() => env.sleep(30_000).then(() => { throw new Error('late') }))
    expect(await outcome(text)).toBe('done')
    await env.advance('60s')
  })

  it('for a customer who blocked the bot is done: there is nobody to tell', async () => {
    const { outcome, told, said } = process(() => wrapped(new HoldfastError('HF_MESSAGE_UNREACHABLE', { message: 'blocked' })))
    expect(await outcome(text)).toBe('done')
    expect(told).toEqual([])
    expect(said.map(event => event.name)).toEqual(['handler.refused'])
  })

  it('is done even when the apology fails', async () => {
    const { outcome, said } = process(() => wrapped(new Error('x')), () => Promise.reject(new Error('Telegram is away')))
    expect(await outcome(text)).toBe('done')
    expect(said.map(event => event.name)).toEqual(['handler.failed', 'handler.failed'])
  })
})
