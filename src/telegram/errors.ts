/**
 * What Telegram's answers mean: which end the matter, which ask to wait, which are no error at all.
 *
 * Texts are those of the Bot API server (its source is the only place that lists them). What is not named here is
 * passed on as it came, in the Bot API's own shape.
 */
import { HoldfastError } from '../core/index.ts'

/** A Bot API answer that is no success. */
export interface TelegramRefusal {
  readonly ok: false
  readonly error_code: number
  readonly description: string
  readonly parameters?: { readonly retry_after?: number; readonly migrate_to_chat_id?: number }
}

/** Nothing reaches this chat any more, whatever is sent. */
const UNREACHABLE = /bot was blocked by the user|user is deactivated|bot was kicked|bot is not a member|chat not found|PEER_ID_INVALID|group chat was deleted|bot can't initiate conversation/i

/** Done already, or too late to matter: the caller has nothing to mend. */
const HARMLESS: Readonly<Record<string, RegExp>> = {
  editMessageText: /message is not modified/i,
  editMessageReplyMarkup: /message is not modified/i,
  editMessageCaption: /message is not modified/i,
  answerCallbackQuery: /query is too old|query ID is invalid|QUERY_ID_INVALID/i,
  answerPreCheckoutQuery: /query is too old|query ID is invalid|QUERY_ID_INVALID/i,
  deleteMessage: /message to delete not found/i,
}

export function isHarmless(method: string, refusal: TelegramRefusal): boolean {
  return refusal.error_code === 400 && HARMLESS[method]?.test(refusal.description) === true
}

/**
 * The coded error of an answer that Holdfast understands, or undefined for any other.
 * 429: HF_RATE_LIMITED with the wait that was asked for; a blocked, kicked or unknown chat: HF_MESSAGE_UNREACHABLE.
 */
export function telegramError(method: string, refusal: TelegramRefusal): HoldfastError | undefined {
  const context = { method, error_code: refusal.error_code }
  if (refusal.error_code === 429) {
    const retryAfterMs = (refusal.parameters?.retry_after ?? 1) * 1_000
    return new HoldfastError('HF_RATE_LIMITED', { message: `Telegram asks to wait ${String(retryAfterMs / 1_000)} s before the next ${method}`, retryAfterMs, context, failure: 'dependency_error', stackless: true })
  }
  if ((refusal.error_code === 403 || refusal.error_code === 400) && UNREACHABLE.test(refusal.description)) {
    return new HoldfastError('HF_MESSAGE_UNREACHABLE', { message: `${method}: ${refusal.description}`, context, stackless: true })
  }
  return undefined
}
