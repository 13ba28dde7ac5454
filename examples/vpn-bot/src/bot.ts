/**
 * What customers can do: look at plans, buy, get their key, ask how long it lasts.
 *
 * A handler books in one transaction and leaves the message to the outbox wherever the message matters; what is merely an
 * answer is sent directly. Switches and limits are asked where something is offered or invoiced and, for the last time, at
 * pre-checkout; once the money is taken nothing is asked any more.
 */
import type { DurableHoldfast } from 'holdfast'
import { type Env, isHoldfastError, messageOf } from 'holdfast/core'
import type { Limit } from 'holdfast/limits'
import { Bot, type CallbackQueryContext, type Context, InlineKeyboard } from 'grammy'
import type { UserFromGetMe } from 'grammy/types'
import type { Finalise } from './finalise.ts'
import type { Notices } from './notices.ts'
import type { CryptoPay } from './partners/crypto-pay.ts'
import type { Switches } from './definitions.ts'
import { orderIdFor, orderIdIn, payloadOf } from './shop/ids.ts'
import type { Shop } from './shop/shop.ts'
import { PAY_WITHIN_MS, PLAN_IDS, type PlanId, PLANS } from './shop/types.ts'
import { languageOf, type Texts, TEXTS } from './texts.ts'

/** Telegram waits 10 s for the answer to a pre-checkout; the call that answers needs up to 3 of them. */
const CHECK_MS = 6_000

export interface BotDeps<Tx> {
  readonly hold: DurableHoldfast<Tx>
  readonly env: Env
  readonly shop: Shop<Tx>
  readonly notices: Notices<Tx>
  readonly switches: Switches
  readonly paymentInit: Limit
  readonly cryptoPay: CryptoPay
  readonly finalise: Finalise
  readonly paymentProviderToken: string
  readonly token: string
  readonly botInfo: UserFromGetMe
}

export function customersBot<Tx>(deps: BotDeps<Tx>): Bot {
  const { hold, env, shop, notices, switches, paymentInit, cryptoPay, finalise } = deps
  const bot = new Bot(deps.token, { botInfo: deps.botInfo })
  const textsOf = (ctx: Context): Texts => TEXTS[languageOf(ctx.from?.language_code)]
  const shopTransaction = <T>(name: string, work: (tx: Tx) => Promise<T>): Promise<T> => hold.transaction(`shop.${name}`, work)
  const html = { parse_mode: 'HTML' as const }

  /** Whoever writes is known from then on: orders refer to the customer. */
  bot.use(async (ctx, next) => {
    if (ctx.chat?.type === 'private' && ctx.from !== undefined && !ctx.from.is_bot && ctx.myChatMember === undefined) {
      const customer = { id: String(ctx.from.id), chatId: String(ctx.chat.id), language: languageOf(ctx.from.language_code) }
      await shopTransaction('remember', tx => shop.remember(tx, customer))
    }
    await next()
  })

  // ---- before the money: everything may still be refused
  bot.on('pre_checkout_query', async ctx => {
    const query = ctx.preCheckoutQuery
    const texts = textsOf(ctx)
    const verdict = await withinTime(env, CHECK_MS, async () => {
      if (!switches.payments.check('handler pre-checkout').ok) return texts.paymentsPaused
      const orderId = orderIdIn(query.invoice_payload)
      if (orderId === undefined) return texts.orderGone
      const asked = { amountMinor: query.total_amount, currency: query.currency, payerId: String(query.from.id) }
      const answer = await shopTransaction('pre-checkout', tx => shop.mayPay(tx, orderId, asked))
      return { 'yes': undefined, 'gone': texts.orderGone, 'paid': texts.orderPaid, 'changed': texts.priceChanged, 'other-payer': texts.orderOfAnother }[answer]
    }, texts.cannotCheck, hold)
    await (verdict === undefined ? ctx.answerPreCheckoutQuery(true) : ctx.answerPreCheckoutQuery(false, verdict))
  })
  bot.on('shipping_query', ctx => ctx.answerShippingQuery(false, { error_message: textsOf(ctx).orderGone }))

  // ---- after the money: everything is booked
  bot.on('message:successful_payment', async ctx => {
    const paid = ctx.message.successful_payment
    await finalise({
      provider: 'card', chargeId: paid.telegram_payment_charge_id, payload: paid.invoice_payload, amountMinor: paid.total_amount, currency: paid.currency,
      payerId: String(ctx.from.id), renewal: paid.is_recurring === true && paid.is_first_recurring !== true,
    })
  })
  bot.on('message:refunded_payment', ctx => {
    const refund = ctx.message.refunded_payment
    const key = `card:${refund.telegram_payment_charge_id}`
    hold.fact('payment.refunded', { severity: 'warning', key, runbook: 'payment-refunded', message: `charge ${key} of ${String(refund.total_amount)} ${refund.currency} (smallest units) was refunded` })
  })

  // ---- what customers ask for
  const plansKeyboard = (texts: Texts): InlineKeyboard => {
    const keyboard = new InlineKeyboard()
    for (const plan of PLAN_IDS) keyboard.text(texts.plan(plan), `plan:${plan}`).row()
    return keyboard
  }
  const privately = bot.chatType('private')
  privately.command('start', ctx => ctx.reply(textsOf(ctx).welcome, { reply_markup: new InlineKeyboard().text(textsOf(ctx).buy, 'plans') }))
  privately.command('help', ctx => ctx.reply(textsOf(ctx).help))
  privately.command(['plans', 'buy'], ctx => ctx.reply(textsOf(ctx).choosePlan, { reply_markup: plansKeyboard(textsOf(ctx)) }))
  privately.command('key', async ctx => {
    const texts = textsOf(ctx)
    const subscription = await shopTransaction('key', tx => shop.subscriptionOf(tx, String(ctx.from.id)))
    if (subscription === undefined) return ctx.reply(texts.keyNone)
    const served = subscription.status === 'active' || subscription.status === 'pending_activation' || subscription.status === 'activation_failed'
    if (served && subscription.key !== null) return ctx.reply(texts.key(subscription), html)
    return ctx.reply(subscription.status === 'activation_failed' ? texts.keyFailed : served ? texts.keyPending : texts.keyOver)
  })
  privately.command('status', async ctx => ctx.reply(textsOf(ctx).status(await shopTransaction('status', tx => shop.subscriptionOf(tx, String(ctx.from.id))))))

  bot.callbackQuery('plans', async ctx => {
    await ctx.answerCallbackQuery()
    await ctx.editMessageText(textsOf(ctx).choosePlan, { reply_markup: plansKeyboard(textsOf(ctx)) })
  })
  bot.callbackQuery(/^plan:(\w+)$/, async (ctx, next) => {
    const plan = planIn(ctx.match[1])
    if (plan === undefined) return next()
    const texts = textsOf(ctx)
    const off = switches.payments.check('handler plan')
    if (!off.ok) return void await ctx.answerCallbackQuery({ text: texts.paymentsPaused, show_alert: true })
    await ctx.answerCallbackQuery()
    const keyboard = new InlineKeyboard().text(texts.byCard, `pay:card:${plan}`).text(texts.byCrypto, `pay:crypto:${plan}`).row().text(texts.back, 'plans')
    await ctx.editMessageText(texts.choosePayment(plan), { reply_markup: keyboard })
  })
  bot.callbackQuery(/^pay:(card|crypto):(\w+)$/, async (ctx, next) => {
    const plan = planIn(ctx.match[2])
    if (plan === undefined || ctx.chat?.type !== 'private') return next()
    const texts = textsOf(ctx)
    const refusal = await mayInvoice(ctx, texts)
    if (refusal !== undefined) return void await ctx.answerCallbackQuery({ text: refusal, show_alert: true })
    // Answered first: the button stops spinning, whatever the provider does.
    await ctx.answerCallbackQuery()
    await (ctx.match[1] === 'card' ? invoiceByCard(ctx, plan, texts) : invoiceByCrypto(ctx, plan, texts))
  })

  async function mayInvoice(ctx: Context, texts: Texts): Promise<string | undefined> {
    if (!switches.payments.check('handler pay').ok) return texts.paymentsPaused
    const taken = await paymentInit.take(String(ctx.from?.id))
    return taken.ok ? undefined : texts.tryAgainIn(Math.ceil(taken.retryAfterMs / 1_000))
  }

  const wanted = (ctx: CallbackQueryContext<Context>, plan: PlanId, provider: 'card' | 'crypto') =>
    ({ id: orderIdFor(ctx.callbackQuery.id), customerId: String(ctx.from.id), plan, provider })

  async function invoiceByCard(ctx: CallbackQueryContext<Context>, plan: PlanId, texts: Texts): Promise<void> {
    await shopTransaction('order-by-card', async tx => {
      const { order } = await shop.order(tx, wanted(ctx, plan, 'card'))
      await shop.invoiced(tx, order.id, { providerRef: null, payUrl: null })
      await notices.send(tx, order.customerId, {
        onceKey: `invoice:${order.id}`, method: 'sendInvoice',
        args: {
          title: texts.invoiceTitle(plan), description: texts.invoiceDescription(plan), payload: payloadOf(order.id), provider_token: deps.paymentProviderToken,
          currency: order.currency, prices: [{ label: texts.invoiceTitle(plan), amount: order.priceMinor }],
        },
      })
    })
  }

  async function invoiceByCrypto(ctx: CallbackQueryContext<Context>, plan: PlanId, texts: Texts): Promise<void> {
    const { order } = await shopTransaction('order-by-crypto', tx => shop.order(tx, wanted(ctx, plan, 'crypto')))
    let invoice: { readonly id: string; readonly url: string }
    try {
      invoice = await cryptoPay.createInvoice({
        amountMinor: order.priceMinor, currency: order.currency, payload: payloadOf(order.id), description: texts.invoiceTitle(plan), expiresInS: PAY_WITHIN_MS / 1_000,
      })
    } catch (error) {
      // A refusal of the provider or of its breaker is told to the customer; nothing was charged. Defects are not.
      if (!isHoldfastError(error) || error.failure === 'defect') throw error
      hold.log.info({ order: order.id, code: error.code, reason: messageOf(error) }, 'no crypto invoice')
      await ctx.reply(texts.invoiceFailed)
      return
    }
    await shopTransaction('crypto-invoiced', async tx => {
      await shop.invoiced(tx, order.id, { providerRef: invoice.id, payUrl: invoice.url })
      await notices.send(tx, order.customerId, {
        onceKey: `invoice:${order.id}`, method: 'sendMessage',
        args: { text: texts.cryptoInvoice(plan), reply_markup: { inline_keyboard: [[{ text: texts.payNow, url: invoice.url }]] } },
      })
    })
  }

  // ---- coming and going
  bot.on('my_chat_member', async ctx => {
    if (ctx.chat.type !== 'private') return
    const { status } = ctx.myChatMember.new_chat_member
    const id = String(ctx.from.id)
    if (status === 'kicked' || status === 'left') await shopTransaction('unreachable', tx => shop.unreachable(tx, id))
    else await shopTransaction('remember', tx => shop.remember(tx, { id, chatId: String(ctx.chat.id), language: languageOf(ctx.from.language_code) }))
  })
  return bot
}

/** Everything that nobody handled: said kindly, and never silently. Comes after all other handlers. */
export function handleTheRest(bot: Bot): void {
  bot.on('callback_query', ctx => ctx.answerCallbackQuery({ text: TEXTS[languageOf(ctx.from.language_code)].oldButton, show_alert: true }))
  bot.on('inline_query', ctx => ctx.answerInlineQuery([]))
  bot.chatType('private').on('message', async ctx => {
    if (isServiceMessage(ctx.message)) return
    const texts = TEXTS[languageOf(ctx.from.language_code)]
    const kind = Object.keys(texts.kinds).find(name => name !== 'text' && name in ctx.message) ?? 'text'
    await ctx.reply(texts.notUnderstood(texts.kinds[kind] ?? ''))
  })
}

/** Told by Telegram, not written by anybody: nobody waits for an answer. */
const SERVICE = /^(?:new_chat_members|left_chat_member|new_chat_title|new_chat_photo|delete_chat_photo|group_chat_created|supergroup_chat_created|channel_chat_created|pinned_message|message_auto_delete_timer_changed|migrate_(?:to|from)_chat_id|users_shared|chat_shared|write_access_allowed|boost_added|chat_background_set|(?:general_)?forum_topic_\w+|video_chat_\w+|giveaway_(?:created|completed)|proximity_alert_triggered|connected_website|passport_data|successful_payment|refunded_payment)$/

function isServiceMessage(message: object): boolean {
  return Object.keys(message).some(key => SERVICE.test(key))
}

function planIn(text: string | undefined): PlanId | undefined {
  return text !== undefined && Object.hasOwn(PLANS, text) ? text as PlanId : undefined
}

/** The verdict on a pre-checkout, in time: a check that fails or takes too long is a refusal, and nobody is charged. */
async function withinTime<Tx>(env: Env, ms: number, check: () => Promise<string | undefined>, otherwise: string, hold: DurableHoldfast<Tx>): Promise<string | undefined> {
  let timer: { cancel(): void } | undefined
  const late = new Promise<string>(resolve => { timer = env.timer(ms, () => { resolve(otherwise) }) })
  const checked = check().catch((error: unknown) => {
    hold.log.warn({ reason: messageOf(error) }, 'a pre-checkout could not be checked and was refused')
    return otherwise
  })
  try {
    return await Promise.race([checked, late])
  } finally {
    timer?.cancel()
  }
}
