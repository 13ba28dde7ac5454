/**
 * Telegram's webhook: an update is claimed durably, and only then acknowledged.
 *
 * Telegram repeats everything that is not answered 2xx until the update expires, and honours Retry-After; so while the
 * store is away or the instance drains the answer is 503, and nothing is lost. A duplicate is acknowledged and changes
 * nothing. Handling happens later, from the inbox (./processing.ts): a slow handler never makes Telegram repeat.
 */
import type { Update } from 'grammy/types'
import { type EventBus, HoldfastError, isHoldfastError, type Json, messageOf, readBody, secretMatches, type Size, sizeBytes, withContext } from '../core/index.ts'
import type { Inbox } from '../durable/index.ts'
import { correlationOf, updateFacts } from './update.ts'

export interface TelegramWebhookOptions {
  /** `hold.inbox` */
  readonly inbox: Pick<Inbox<never>, 'claim'>
  /** `secret_token` of setWebhook: 1 to 256 of A-Z a-z 0-9 _ -. There is no way to leave it out. */
  readonly secret: string
  readonly events?: EventBus
  /** Longest body. Default 1 MB; updates have a few kilobytes. */
  readonly bodyLimit?: Size
}

/** The name under which updates are in the inbox. */
export const TELEGRAM_SOURCE: string = 'telegram'
/** Seconds that Telegram is asked to wait while updates cannot be claimed. */
const RETRY_AFTER_S = 2

/**
 * A web-standard handler. 401 for a missing or wrong secret, 405 for another method, 413 for a body beyond the limit, 400
 * for what is no update; each changes nothing. 503 with Retry-After when the update could not be claimed; else 200.
 * Emits `handler.refused` and `handler.failed`.
 * @throws HF_OPTION_INVALID for a secret that Telegram would not accept (when it is made, not when it is called)
 */
export function telegramWebhook(options: TelegramWebhookOptions): (request: Request) => Promise<Response> {
  const { inbox, secret, events } = options
  if (!/^[A-Za-z0-9_-]{1,256}$/.test(secret)) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: 'telegram webhook: expected a secret of 1 to 256 letters, digits, _ and -' })
  }
  const limit = options.bodyLimit ?? '1mb'
  sizeBytes(limit, 'telegram webhook: bodyLimit')
  const refuse = (status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}): Response => {
    events?.emit('handler.refused', { handler: 'telegram webhook', code, message })
    return answer(status, message, headers)
  }

  return async request => {
    if (request.method !== 'POST') return refuse(405, 'HF_BODY_INVALID', 'only POST', { allow: 'POST' })
    if (!secretMatches(request.headers.get('x-telegram-bot-api-secret-token'), [secret])) return refuse(401, 'HF_SIGNATURE_INVALID', 'not the secret that was agreed on')
    let update: Update | undefined
    try {
      update = parse(await readBody(request, limit))
    } catch (error) {
      if (isHoldfastError(error) && error.code === 'HF_BODY_TOO_LARGE') return refuse(413, error.code, error.message)
      return refuse(400, 'HF_BODY_INVALID', 'the body could not be read')
    }
    if (update === undefined) return refuse(400, 'HF_BODY_INVALID', 'expected an update: a JSON object with an integer update_id')
    const { lane, priority } = updateFacts(update)
    try {
      const message = { source: TELEGRAM_SOURCE, id: String(update.update_id), lane, priority, payload: update as unknown as Json }
      await withContext({ correlationId: correlationOf(update), component: 'telegram webhook' }, () => inbox.claim(message))
      return new Response(null, { status: 200 })
    } catch (error) {
      // On its way out: the next instance takes the update, nothing has failed.
      if (isHoldfastError(error) && error.code === 'HF_STOPPING') return refuse(503, error.code, 'this instance is stopping; please deliver it again', { 'retry-after': String(RETRY_AFTER_S) })
      const failure = isHoldfastError(error) ? error.failure : 'defect'
      events?.emit('handler.failed', { handler: 'telegram webhook', failure, message: messageOf(error), error })
      // Whatever it was, the update is not ours yet: Telegram keeps it and comes again.
      return answer(503, 'the update could not be taken; please deliver it again', { 'retry-after': String(RETRY_AFTER_S) })
    }
  }
}

function parse(body: Uint8Array): Update | undefined {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    // Not JSON, or not even text: answered with 400 like every other body that is no update.
    return undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  const id = (value as { readonly update_id?: unknown }).update_id
  return typeof id === 'number' && Number.isSafeInteger(id) ? value as Update : undefined
}

function answer(status: number, detail: string, headers: Readonly<Record<string, string>>): Response {
  return new Response(JSON.stringify({ type: 'about:blank', status, detail }), { status, headers: { 'content-type': 'application/problem+json; charset=utf-8', 'cache-control': 'no-store', ...headers } })
}
