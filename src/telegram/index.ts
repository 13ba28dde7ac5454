/**
 * @module holdfast/telegram
 * Telegram bots (grammY) that lose nothing: updates are claimed before they are acknowledged, calls go through a guarded
 * dependency, messages through the outbox, and what is irreversible through a ticket with buttons.
 */
export { effectOf, guardedApi, telegramApi, type TelegramAnswer, type TelegramApi, type TelegramApiOptions } from './api.ts'
export { telegramError, type TelegramRefusal } from './errors.ts'
export { CALLBACK_BYTES_MAX, confirmations, type Confirmations, type ConfirmationTexts, type Confirmed, type InlineButton } from './keyboard.ts'
export { carriesPayment, telegramProcessing, type ProcessingOptions } from './processing.ts'
export { chatLane, TELEGRAM_TOPIC, telegramSender, type TelegramPayload, type TelegramSenderOptions } from './sender.ts'
export { correlationOf, updateFacts, type UpdateFacts } from './update.ts'
export { TELEGRAM_SOURCE, telegramWebhook, type TelegramWebhookOptions } from './webhook.ts'
