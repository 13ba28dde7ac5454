/**
 * What is known about an update before anybody handles it: whose it is, which lane it waits in, how urgent it is.
 *
 * Telegram keeps a user's button presses and messages in different lanes and may deliver them at once. Here both of a
 * user share one lane, so that two handlers of one user never run together. Pre-checkout queries, which Telegram gives
 * up on after 10 s, have a lane of their own and go first.
 */
import type { Update } from 'grammy/types'

export interface UpdateFacts {
  /** `message`, `callback_query`, ... ; `unknown` for what a newer Bot API brings. */
  readonly kind: string
  /** The user who caused it, where there is one. */
  readonly userId: string | undefined
  /** Where an answer may be written to. */
  readonly chatId: string | undefined
  readonly language: string | undefined
  readonly lane: string
  /** Of the inbox: 0 goes first, 100 is ordinary. */
  readonly priority: number
}

interface Person { readonly id?: unknown; readonly language_code?: unknown }
interface Body { readonly from?: Person; readonly user?: Person; readonly user_chat_id?: unknown; readonly chat?: { readonly id?: unknown }; readonly message?: { readonly chat?: { readonly id?: unknown } } }

/** Reads with care: whatever is sent to the webhook by whoever knows the secret must not throw here. */
export function updateFacts(update: Update): UpdateFacts {
  const entries: readonly (readonly [string, unknown])[] = Object.entries(update)
  const [kind, value] = entries.find(([key, item]) => key !== 'update_id' && typeof item === 'object' && item !== null) ?? ['unknown', {}]
  const body = value as Body
  const person = body.from ?? body.user
  const userId = idOf(person?.id)
  const chatId = idOf(body.chat?.id) ?? idOf(body.message?.chat?.id) ?? idOf(body.user_chat_id)
  const language = typeof person?.language_code === 'string' ? person.language_code : undefined
  const beforePayment = kind === 'pre_checkout_query' || kind === 'shipping_query'
  const owner = userId ?? chatId ?? kind
  return {
    kind, userId, chatId: chatId ?? userId, language,
    lane: beforePayment ? `pre-checkout:${owner}` : `user:${owner}`,
    priority: beforePayment ? 0 : kind === 'callback_query' ? 50 : 100,
  }
}

function idOf(value: unknown): string | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) ? String(value) : undefined
}

/** The id of the update in log, timeline, audit, and the code that a customer is shown. */
export function correlationOf(update: { readonly update_id: number }): string {
  return `tg-${String(update.update_id)}`
}
