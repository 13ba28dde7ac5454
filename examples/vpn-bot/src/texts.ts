/**
 * Everything that customers read, in English and Russian. A customer whose Telegram is Russian gets Russian, everybody
 * else English. HTML is Telegram's: what comes from outside goes through `escapeHtml`.
 */
import { decimalOf } from './shop/money.ts'
import { type Language, type PlanId, PLANS, type Subscription } from './shop/types.ts'

export function languageOf(code: string | undefined): Language {
  return code?.toLowerCase().startsWith('ru') === true ? 'ru' : 'en'
}

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

function price(minor: number): string {
  return `${decimalOf(minor, 'RUB').replace(/\.00$/, '')} ₽`
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}

function russianMonths(months: number): string {
  return months === 1 ? '1 месяц' : months < 5 ? `${String(months)} месяца` : `${String(months)} месяцев`
}

export interface Texts {
  readonly welcome: string
  readonly help: string
  readonly choosePlan: string
  readonly plan: (plan: PlanId) => string
  readonly choosePayment: (plan: PlanId) => string
  readonly byCard: string
  readonly byCrypto: string
  readonly back: string
  readonly invoiceTitle: (plan: PlanId) => string
  readonly invoiceDescription: (plan: PlanId) => string
  readonly cryptoInvoice: (plan: PlanId) => string
  readonly payNow: string
  readonly paymentsPaused: string
  readonly tryAgainIn: (seconds: number) => string
  readonly invoiceFailed: string
  readonly orderGone: string
  readonly orderPaid: string
  readonly orderOfAnother: string
  readonly priceChanged: string
  readonly cannotCheck: string
  readonly paymentReceived: string
  readonly paymentHeld: string
  readonly delivery: (subscription: Pick<Subscription, 'key' | 'expiresAt'>, renewed: boolean) => string
  readonly key: (subscription: Pick<Subscription, 'key' | 'expiresAt'>) => string
  readonly keyPending: string
  readonly keyFailed: string
  readonly keyNone: string
  readonly keyOver: string
  readonly status: (subscription: Subscription | undefined) => string
  readonly buy: string
  readonly oldButton: string
  readonly notUnderstood: (what: string) => string
  /** By the message's field; the first that is there names it (an animation fills in `document`, too). */
  readonly kinds: Readonly<Record<string, string>>
  readonly failed: (code: string) => string
}

const en: Texts = {
  welcome: 'Hello! I sell access to a VPN. /plans shows the prices, /key shows your key, /status how long it lasts, /help everything else.',
  help: '/plans: choose a plan and pay\n/key: your key, whenever you need it\n/status: how long it lasts\n/help: this list',
  choosePlan: 'Choose how long:',
  plan: plan => `${String(PLANS[plan].months)} ${PLANS[plan].months === 1 ? 'month' : 'months'}: ${price(PLANS[plan].priceMinor)}`,
  choosePayment: plan => `${en.plan(plan)}. How would you like to pay?`,
  byCard: 'By card',
  byCrypto: 'By crypto',
  back: 'Back',
  invoiceTitle: plan => `VPN for ${String(PLANS[plan].months)} ${PLANS[plan].months === 1 ? 'month' : 'months'}`,
  invoiceDescription: plan => `Access to the VPN for ${String(PLANS[plan].days)} days. The key comes right after the payment.`,
  cryptoInvoice: plan => `${en.plan(plan)}. The invoice can be paid for 30 minutes; the key comes by itself.`,
  payNow: 'Pay',
  paymentsPaused: 'Payments are paused at the moment. What you have paid for works as always; please come back a little later.',
  tryAgainIn: seconds => `That was a lot at once. Please try again in ${String(seconds)} s.`,
  invoiceFailed: 'The invoice could not be made just now, and nothing was charged. Please try again in a minute, or pay another way.',
  orderGone: 'This invoice is no longer valid. Please choose a plan again with /plans.',
  orderPaid: 'This invoice has been paid already. /key shows your key.',
  orderOfAnother: 'This invoice was made for somebody else. Please make one of your own with /plans.',
  priceChanged: 'The price has changed. Please choose a plan again with /plans.',
  cannotCheck: 'The payment cannot be checked right now, so nothing was charged. Please try again in a minute.',
  paymentReceived: 'Thank you, the payment has arrived. Your key is being made and comes as the next message.',
  paymentHeld: 'A payment has arrived that does not fit an open order. Nothing is lost: we look at it by hand and write to you.',
  delivery: (subscription, renewed) => `${renewed ? 'Renewed: your key stays the same.' : 'Your key:'}\n<code>${escapeHtml(subscription.key ?? '')}</code>\nIt works until ${day(subscription.expiresAt)}.`,
  key: subscription => `Your key:\n<code>${escapeHtml(subscription.key ?? '')}</code>\nIt works until ${day(subscription.expiresAt)}.`,
  keyPending: 'Your payment has arrived and the key is being made. It comes by itself; /key shows it, too.',
  keyFailed: 'Your payment has arrived, but the key could not be made. We have been told and look at it by hand.',
  keyNone: 'You have no key yet. /plans shows the prices.',
  keyOver: 'Your access has ended. /plans shows the prices.',
  status: subscription => {
    if (subscription === undefined) return en.keyNone
    switch (subscription.status) {
      case 'active': return `Your access works until ${day(subscription.expiresAt)}.`
      case 'pending_activation': return subscription.key === null ? en.keyPending : `Your access works; the renewal until ${day(subscription.expiresAt)} is being entered.`
      case 'activation_failed': return en.keyFailed
      case 'expiring': case 'expired': case 'revoking': case 'revoked': return en.keyOver
    }
  },
  buy: 'See the plans',
  oldButton: 'This button is old. /plans shows what there is now.',
  notUnderstood: what => `I can't do anything with ${what}. /help shows what I can do.`,
  kinds: {
    photo: 'a photo', video: 'a video', video_note: 'a video message', voice: 'a voice message', audio: 'music', animation: 'an animation', document: 'a file', sticker: 'a sticker', location: 'a location',
    venue: 'a place', contact: 'a contact', poll: 'a poll', dice: 'dice', game: 'a game', story: 'a story', invoice: 'an invoice', text: 'this',
  },
  failed: code => `Something went wrong on our side. What you have paid for is safe. If it happens again, please tell us this code: ${code}`,
}

const ru: Texts = {
  welcome: 'Здравствуйте! Я продаю доступ к VPN. /plans покажет цены, /key ваш ключ, /status срок, /help всё остальное.',
  help: '/plans: выбрать срок и оплатить\n/key: ваш ключ, когда он нужен\n/status: до какого дня он работает\n/help: этот список',
  choosePlan: 'Выберите срок:',
  plan: plan => `${russianMonths(PLANS[plan].months)}: ${price(PLANS[plan].priceMinor)}`,
  choosePayment: plan => `${ru.plan(plan)}. Как вам удобно оплатить?`,
  byCard: 'Картой',
  byCrypto: 'Криптовалютой',
  back: 'Назад',
  invoiceTitle: plan => `VPN на ${russianMonths(PLANS[plan].months)}`,
  invoiceDescription: plan => `Доступ к VPN на ${String(PLANS[plan].days)} дней. Ключ придёт сразу после оплаты.`,
  cryptoInvoice: plan => `${ru.plan(plan)}. Счёт можно оплатить в течение 30 минут, ключ придёт сам.`,
  payNow: 'Оплатить',
  paymentsPaused: 'Оплата сейчас приостановлена. Всё оплаченное работает как обычно; зайдите, пожалуйста, чуть позже.',
  tryAgainIn: seconds => `Слишком много запросов сразу. Попробуйте через ${String(seconds)} с.`,
  invoiceFailed: 'Сейчас не удалось выставить счёт, деньги не списаны. Попробуйте через минуту или выберите другой способ.',
  orderGone: 'Этот счёт больше не действует. Выберите срок ещё раз: /plans.',
  orderPaid: 'Этот счёт уже оплачен. Ключ покажет /key.',
  orderOfAnother: 'Этот счёт выставлен другому человеку. Выставьте свой: /plans.',
  priceChanged: 'Цена изменилась. Выберите срок ещё раз: /plans.',
  cannotCheck: 'Сейчас не получается проверить платёж, деньги не списаны. Попробуйте через минуту.',
  paymentReceived: 'Спасибо, оплата получена. Ключ готовится и придёт следующим сообщением.',
  paymentHeld: 'Пришёл платёж, который не подходит ни к одному заказу. Ничего не потеряно: мы разберёмся и напишем вам.',
  delivery: (subscription, renewed) => `${renewed ? 'Продлено, ключ остаётся прежним.' : 'Ваш ключ:'}\n<code>${escapeHtml(subscription.key ?? '')}</code>\nРаботает до ${day(subscription.expiresAt)}.`,
  key: subscription => `Ваш ключ:\n<code>${escapeHtml(subscription.key ?? '')}</code>\nРаботает до ${day(subscription.expiresAt)}.`,
  keyPending: 'Оплата получена, ключ готовится. Он придёт сам, и /key его тоже покажет.',
  keyFailed: 'Оплата получена, но ключ сделать не удалось. Мы уже знаем и разбираемся.',
  keyNone: 'У вас ещё нет ключа. Цены покажет /plans.',
  keyOver: 'Доступ закончился. Цены покажет /plans.',
  status: subscription => {
    if (subscription === undefined) return ru.keyNone
    switch (subscription.status) {
      case 'active': return `Доступ работает до ${day(subscription.expiresAt)}.`
      case 'pending_activation': return subscription.key === null ? ru.keyPending : `Доступ работает; продление до ${day(subscription.expiresAt)} записывается.`
      case 'activation_failed': return ru.keyFailed
      case 'expiring': case 'expired': case 'revoking': case 'revoked': return ru.keyOver
    }
  },
  buy: 'Посмотреть цены',
  oldButton: 'Эта кнопка устарела. Что есть сейчас, покажет /plans.',
  notUnderstood: what => `Я не знаю, что делать: ${what}. Что я умею, покажет /help.`,
  kinds: {
    photo: 'фотография', video: 'видео', video_note: 'видеосообщение', voice: 'голосовое сообщение', audio: 'музыка', animation: 'анимация', document: 'файл', sticker: 'стикер', location: 'геопозиция',
    venue: 'место', contact: 'контакт', poll: 'опрос', dice: 'кубик', game: 'игра', story: 'история', invoice: 'счёт', text: 'это сообщение',
  },
  failed: code => `У нас что-то сломалось. Всё оплаченное в сохранности. Если повторится, назовите нам код: ${code}`,
}

export const TEXTS: Readonly<Record<Language, Texts>> = { en, ru }
