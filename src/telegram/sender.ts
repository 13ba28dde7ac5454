/**
 * The outbox topic `telegram`: how a kept message goes out, and what each failure means for it.
 *
 * Telegram has no idempotency keys, so a message whose answer got lost is `unknown` and never sent again by itself. A
 * 429 pauses its chat; a Telegram that surely was not reached (connection refused, our breaker open) pauses everything
 * and costs no attempt; a customer who blocked the bot is reported and not tried again.
 */
import { HoldfastError, isHoldfastError, type Json, messageOf } from '../core/index.ts'
import { failureVerdict, type Send } from '../durable/index.ts'
import type { TelegramApi } from './api.ts'

export const TELEGRAM_TOPIC: string = 'telegram'

/** What is kept: any method that sends, with its arguments. */
export interface TelegramPayload {
  readonly method: string
  readonly args: { readonly chat_id: string | number } & Readonly<Record<string, Json>>
}

export interface TelegramSenderOptions {
  readonly telegram: TelegramApi
  /** Told once per refusal that nothing reaches this chat. What it throws is ignored: the message is dead either way. */
  readonly unreachable?: (chatId: string, reason: string) => Promise<void>
}

/** How long everything waits where Telegram surely was not reached and nobody says for how long. */
const AWAY_MS = 5_000

/** The lane of a chat: its messages keep their order. */
export function chatLane(chatId: string | number): string {
  return `chat:${String(chatId)}`
}

/** `hold.outbox.topic(TELEGRAM_TOPIC, { send: telegramSender({ telegram }), timeout: '15s' })` */
export function telegramSender({ telegram, unreachable }: TelegramSenderOptions): Send {
  return async ({ payload }, { signal }) => {
    const { method, args } = payload as unknown as TelegramPayload
    try {
      let answer = await telegram.call(method, args, signal)
      const migrated = answer.ok ? undefined : answer.parameters?.migrate_to_chat_id
      // The group became a supergroup: nothing was sent, and this is where it goes now.
      if (migrated !== undefined) answer = await telegram.call(method, { ...args, chat_id: migrated }, signal)
      return answer.ok ? { kind: 'sent' } : { kind: 'dead', reason: `${method}: ${String(answer.error_code)} ${answer.description}` }
    } catch (error) {
      if (isHoldfastError(error) && error.code === 'HF_MESSAGE_UNREACHABLE') {
        await unreachable?.(String(args.chat_id), error.message).catch(() => undefined)
        return { kind: 'dead', reason: error.message }
      }
      if (isHoldfastError(error) && error.code === 'HF_RATE_LIMITED') return { kind: 'retry', reason: error.message, afterMs: error.retryAfterMs ?? AWAY_MS, pause: 'lane' }
      if (failureVerdict(error) !== 'not-applied') throw error
      const afterMs = error instanceof HoldfastError ? error.retryAfterMs : undefined
      return { kind: 'retry', reason: messageOf(error), afterMs: Math.max(AWAY_MS, afterMs ?? 0), pause: 'all' }
    }
  }
}
