/**
 * What Telegram's answers mean: which end the matter, which ask to wait, which are no error at all.
 *
 * Texts are those of the Bot API server (its source is the only place that lists them). What is not named here is
 * passed on as it came, in the Bot API's own shape.
 */
import { HoldfastError, isHoldfastError } from '../core/index.ts'

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

/** Codes of connections that were never made: not a byte of the request has left. */
const NEVER_CONNECTED: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'UND_ERR_CONNECT_TIMEOUT', 'CONNECT_TIMEOUT'])
/** Refusals of our own guard before anything was sent. */
const NEVER_TRIED: ReadonlySet<string> = new Set(['HF_BREAKER_OPEN', 'HF_OVERLOADED', 'HF_SWITCHED_OFF', 'HF_STOPPING', 'HF_CALL_IN_TX', 'HF_NOT_STARTED'])

/**
 * Whether a failed call surely had no effect: the connection was never made, our own guard refused it, or Telegram
 * answered that it did nothing. False means "unknown": it may have been carried out, and a message must not be sent again.
 */
export function surelyNotSent(error: unknown): boolean {
  for (let inner: unknown = error, depth = 0; depth < 6 && typeof inner === 'object' && inner !== null; depth += 1) {
    if (isHoldfastError(inner) && (NEVER_TRIED.has(inner.code) || inner.code === 'HF_RATE_LIMITED' || inner.code === 'HF_MESSAGE_UNREACHABLE')) return true
    const { code, error_code: answered } = inner as { readonly code?: unknown; readonly error_code?: unknown }
    if (typeof code === 'string' && NEVER_CONNECTED.has(code)) return true
    if (typeof answered === 'number' && answered >= 400 && answered < 500) return true
    inner = inner instanceof Error ? inner.cause : undefined
  }
  return false
}
