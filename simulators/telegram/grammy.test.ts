import { Bot, GrammyError, HttpError, InlineKeyboard, InputFile, webhookCallback } from 'grammy'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { realEnv } from 'holdfast/core'
import { listen, type Listening } from '../kit/index.ts'
import { telegramSimulator, type TelegramSimulator } from './index.ts'

let telegram: TelegramSimulator
let server: Listening
let bot: Bot

beforeEach(async () => {
  telegram = telegramSimulator({ env: realEnv(), seed: 1 })
  server = await listen(telegram)
  bot = new Bot(telegram.token, { client: { apiRoot: server.url } })
  telegram.user({ id: 42, firstName: 'Anna' })
})

afterEach(async () => {
  telegram.stop()
  await server.close()
})

describe('a real grammY client over HTTP', () => {
  it('gets what it expects from the methods of a shop', async () => {
    const anna = telegram.user({ id: 42, firstName: 'Anna' })
    await bot.init()
    expect(bot.botInfo.username).toBe('holdfast_demo_bot')
    expect(await bot.api.setMyCommands([{ command: 'start', description: 'Start' }])).toBe(true)
    expect(await bot.api.getMyCommands()).toEqual([{ command: 'start', description: 'Start' }])
    const sent = await bot.api.sendMessage(42, '<b>Plans</b>', { parse_mode: 'HTML', reply_markup: new InlineKeyboard().text('Month', 'plan:1') })
    await bot.api.editMessageText(42, sent.message_id, 'Other plans')
    expect(anna.last).toMatchObject({ text: 'Other plans', edits: 1 })
    await bot.api.deleteMessage(42, sent.message_id)
    const photo = await bot.api.sendPhoto(42, new InputFile(Buffer.from('jpeg'), 'a.jpg'), { caption: 'look' })
    expect(photo.photo).toHaveLength(2)
    expect((await bot.api.sendDocument(42, new InputFile(Buffer.from('pdf'), 'a.pdf'))).document).toMatchObject({ file_name: 'a.pdf', file_size: 3 })
    await bot.api.sendChatAction(42, 'typing')
    expect((await bot.api.sendInvoice(42, 'Plan', 'A month', 'order-1', 'RUB', [{ label: 'Plan', amount: 19_900 }], { provider_token: 'p' })).invoice?.total_amount).toBe(19_900)
    expect(await bot.api.createInvoiceLink('Plan', 'A month', 'order-2', '', 'XTR', [{ label: 'Plan', amount: 250 }])).toMatch(/^https:\/\/t\.me\/\$/)
    expect(await bot.api.getStarTransactions()).toEqual({ transactions: [] })
    expect(await bot.api.setWebhook('http://127.0.0.1:1/hook', { secret_token: 'abc', max_connections: 5 })).toBe(true)
    expect(await bot.api.getWebhookInfo()).toMatchObject({ url: 'http://127.0.0.1:1/hook', pending_update_count: 0, max_connections: 5 })
    expect(await bot.api.deleteWebhook()).toBe(true)
  })

  it('sees refusals as grammY errors with code, text and retry_after', async () => {
    const error = async (work: Promise<unknown>): Promise<GrammyError> => (await work.then(() => undefined, (thrown: unknown) => thrown)) as GrammyError
    const unknown = await error(bot.api.sendMessage(43, 'x'))
    expect(unknown).toBeInstanceOf(GrammyError)
    expect([unknown.error_code, unknown.description]).toEqual([400, 'Bad Request: chat not found'])
    telegram.user({ id: 42, firstName: 'Anna' }).block()
    expect((await error(bot.api.sendMessage(42, 'x'))).error_code).toBe(403)
    telegram.faults.set([{ fault: { kind: 'rate-limit', retryAfterS: 3 } }])
    expect((await error(bot.api.getMe())).parameters.retry_after).toBe(3)
    telegram.faults.set([{ fault: { kind: 'apply-then-drop' } }])
    expect(await error(bot.api.getMe())).toBeInstanceOf(HttpError)
    telegram.faults.set([{ fault: { kind: 'malformed' } }])
    expect(await error(bot.api.getMe())).toBeInstanceOf(HttpError)
    const wrong = new Bot('1:AAAAAAAAAAAAAAAAAAAAAAAAAAAA', { client: { apiRoot: server.url } })
    expect((await error(wrong.api.getMe())).error_code).toBe(401)
  })

  it('sells by webhook: start, press, pay, be charged once', async () => {
    bot.command('start', context => context.reply('Plans', { reply_markup: new InlineKeyboard().text('Month', 'plan:1') }))
    bot.callbackQuery('plan:1', async context => {
      await context.answerCallbackQuery()
      await context.replyWithInvoice('Plan', 'A month', 'order-1', 'RUB', [{ label: 'Plan', amount: 19_900 }], { provider_token: 'p' })
    })
    bot.on('pre_checkout_query', context => context.answerPreCheckoutQuery(true))
    bot.on('message:successful_payment', context => context.reply('Thank you'))
    const hook: Server = createServer(webhookCallback(bot, 'http', { secretToken: 's3cret' }) as never)
    await new Promise<void>(resolve => { hook.listen(0, '127.0.0.1', resolve) })
    await bot.init()
    telegram.setWebhook(`http://127.0.0.1:${String((hook.address() as AddressInfo).port)}/`, { secretToken: 's3cret' })
    try {
      const anna = telegram.user({ id: 42, firstName: 'Anna' })
      anna.command('/start')
      await anna.waitFor('Plans')
      anna.press('Month')
      await anna.waitFor('A month')
      expect(await anna.pay()).toMatchObject({ outcome: 'charged', charge: { payload: 'order-1', amount: 19_900 } })
      await anna.waitFor('Thank you')
      expect(telegram.charges).toHaveLength(1)
    } finally {
      hook.closeAllConnections()
      await new Promise(resolve => { hook.close(resolve) })
    }
  })

  it('polls, and a second poller throws it out', async () => {
    telegram.user({ id: 42, firstName: 'Anna' }).send('hello')
    const updates = await bot.api.getUpdates()
    expect(updates).toMatchObject([{ message: { text: 'hello' } }])
    const first = bot.api.getUpdates({ offset: (updates[0]?.update_id ?? 0) + 1, timeout: 30 }).catch((thrown: unknown) => (thrown as GrammyError).error_code)
    while (telegram.ledger.count('getUpdates') < 2) await new Promise(resolve => { setTimeout(resolve, 5) })
    await bot.api.getUpdates()
    expect(await first).toBe(409)
  })
})
