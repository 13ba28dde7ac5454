/**
 * @module holdfast-simulators/telegram
 * A hostile Telegram: the Bot API with its webhook scheduler and payments, customers that press buttons, and updates of
 * every kind.
 */
export { type ButtonPattern, type PayOptions, type Pressed, UserActor } from './actor.ts'
export type { CallbackAnswer } from './callbacks.ts'
export type { InboxMessage, InlineButton } from './chats.ts'
export * from './crowd.ts'
export { FLOOD_LIMITS, type FloodLimits } from './flood.ts'
export * from './generate.ts'
export type { Charge, Payment, PayOutcome, Refund } from './payments.ts'
export { botApi, checkType, checkUpdate } from './schema.ts'
export * from './telegram-simulator.ts'
export type { ApiReply, Message, TelegramChat, TelegramUser, Update } from './types.ts'
export { kindOf, laneOf } from './updates.ts'
export type { WebhookAnswer } from './webhook.ts'
