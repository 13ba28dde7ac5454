/**
 * The few shapes of the Bot API that the simulator itself reads and writes. Everything else passes through as JSON and
 * is checked by the schema, so that a field Telegram adds needs no change here.
 */
export interface TelegramUser {
  readonly id: number
  readonly is_bot: boolean
  readonly first_name: string
  readonly last_name?: string
  readonly username?: string
  readonly language_code?: string
}

export interface TelegramChat {
  readonly id: number
  readonly type: 'private' | 'group' | 'supergroup' | 'channel'
  readonly title?: string
  readonly username?: string
  readonly first_name?: string
  readonly last_name?: string
}

export interface Message {
  readonly message_id: number
  readonly date: number
  readonly chat: TelegramChat
  readonly from?: TelegramUser
  readonly [field: string]: unknown
}

/** `update_id` and exactly one kind. */
export interface Update {
  readonly update_id: number
  readonly [kind: string]: unknown
}

export interface InlineKeyboardButton {
  readonly text: string
  readonly callback_data?: string
  readonly url?: string
  readonly pay?: boolean
  readonly [field: string]: unknown
}

/** Decoded and checked against the schema. */
export type Arguments = Readonly<Record<string, unknown>>

/** What a Bot API call answers. */
export type ApiReply =
  | { readonly ok: true; readonly result: unknown; readonly description?: string }
  | { readonly ok: false; readonly error_code: number; readonly description: string; readonly parameters?: { readonly retry_after?: number; readonly migrate_to_chat_id?: number } }

/** A refusal on its way to the caller. */
export class ApiError extends Error {
  override readonly name: string = 'ApiError'
  readonly code: number
  readonly description: string
  readonly retryAfterS: number | undefined

  constructor(code: number, description: string, retryAfterS?: number) {
    // Refusals are as common as answers here: they build no stack.
    const limit = Error.stackTraceLimit
    Error.stackTraceLimit = 0
    super(description)
    Error.stackTraceLimit = limit
    this.code = code
    this.description = description
    this.retryAfterS = retryAfterS
  }

  reply(): ApiReply {
    return { ok: false, error_code: this.code, description: this.description, ...(this.retryAfterS === undefined ? {} : { parameters: { retry_after: this.retryAfterS } }) }
  }
}

export function badRequest(what: string): ApiError {
  return new ApiError(400, `Bad Request: ${what}`)
}
