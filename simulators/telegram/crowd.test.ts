import { describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from 'holdfast/testing'
import { cryptoPaySimulator, type CryptoPaySimulator } from '../crypto-pay/index.ts'
import { crowd, type Crowd, telegramSimulator, type TelegramSimulator, type Update } from './index.ts'

/** The smallest shop: plans, a card invoice or a crypto link, and a key for whoever has paid. */
function shop(options: { broken?: boolean } = {}): { env: SimulatedEnv; telegram: TelegramSimulator; pay: CryptoPaySimulator; customers: Crowd } {
  const env = simulatedEnv({ seed: 1 })
  const outside = env.process('outside')
  const telegram = telegramSimulator({ env: outside, seed: 1 })
  const pay = cryptoPaySimulator({ env: outside, seed: 1 })
  env.serve('http://bot.test', async request => {
    const update = (await request.json()) as Update & { message?: { chat: { id: number }; text?: string }; callback_query?: { id: string; from: { id: number }; data: string }; pre_checkout_query?: { id: string } }
    const { message, callback_query: pressed, pre_checkout_query: asked } = update
    if (options.broken === true) return new Response('ok')
    if (asked !== undefined) await telegram.call('answerPreCheckoutQuery', { pre_checkout_query_id: asked.id, ok: true })
    if (message?.text === '/start') await telegram.call('sendMessage', { chat_id: message.chat.id, text: 'Plans', reply_markup: { inline_keyboard: [[{ text: '1 month', callback_data: 'plan' }]] } })
    if (message?.text === '/key') await telegram.call('sendMessage', { chat_id: message.chat.id, text: 'Your key: vless://x' })
    if (pressed === undefined) return new Response('ok')
    await telegram.call('answerCallbackQuery', { callback_query_id: pressed.id })
    const chat = { chat_id: pressed.from.id }
    if (pressed.data === 'plan') await telegram.call('sendMessage', { ...chat, text: 'How?', reply_markup: { inline_keyboard: [[{ text: 'Card', callback_data: 'card' }, { text: 'Crypto', callback_data: 'crypto' }]] } })
    if (pressed.data === 'card') await telegram.call('sendInvoice', { ...chat, title: 'Plan', description: 'Month', payload: 'o', provider_token: 'p', currency: 'RUB', prices: [{ label: 'x', amount: 100 }] })
    if (pressed.data === 'crypto') {
      const answer = await (await pay.fetch(new Request('http://pay.test/api/createInvoice', { method: 'POST', headers: { 'crypto-pay-api-token': pay.token }, body: JSON.stringify({ currency_type: 'fiat', fiat: 'RUB', amount: '1' }) }))).json() as { result: { bot_invoice_url: string } }
      await telegram.call('sendMessage', { ...chat, text: 'Pay here', reply_markup: { inline_keyboard: [[{ text: 'Pay', url: answer.result.bot_invoice_url }]] } })
    }
    return new Response('ok')
  })
  telegram.setWebhook('http://bot.test/')
  const customers = crowd({ telegram, cryptoPay: pay, env, count: 6, paceMs: 2_000, seed: 3, script: { plan: /month/i, card: /card/i, crypto: /crypto/i } })
  return { env, telegram, pay, customers }
}

describe('a crowd', () => {
  it('buys by card and by crypto, sees its keys, and goes home when told', async () => {
    const { env, telegram, pay, customers } = shop()
    customers.start()
    await env.advance('3m')
    const stats = customers.stats()
    expect(stats).toMatchObject({ gaveUp: 0, refused: 0, lastTrouble: undefined })
    expect([stats.paidByCard > 2, stats.paidByCrypto > 2, stats.keysSeen > 4]).toEqual([true, true, true])
    expect(telegram.charges).toHaveLength(stats.paidByCard)
    expect(pay.state().paid).toBe(stats.paidByCrypto)
    let home = false
    void customers.stop().then(() => { home = true })
    await env.advance('40s')
    expect(home).toBe(true)
    const visits = customers.stats().visits
    await env.advance('5m')
    expect(customers.stats().visits).toBe(visits)
  })

  it('gives up without a word of complaint when the bot is silent', async () => {
    const { env, customers } = shop({ broken: true })
    customers.start()
    await env.advance('2m')
    expect(customers.stats().gaveUp).toBeGreaterThan(3)
    expect(customers.stats().lastTrouble).toContain('waited 30000ms')
  })

  it('does the same for the same seed', async () => {
    const run = async (): Promise<unknown> => {
      const { env, customers } = shop()
      customers.start()
      await env.advance('3m')
      return customers.stats()
    }
    expect(await run()).toEqual(await run())
  })
})
