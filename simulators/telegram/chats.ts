/**
 * Who is there and what was said: users, chats, messages, and who has blocked the bot.
 *
 * Bounded: the newest messages of each chat are kept, as many as a phone would show.
 */
import { type Env } from 'holdfast/core'
import { ApiError, badRequest, type InlineKeyboardButton, type Message, type TelegramChat, type TelegramUser } from './types.ts'

/** What a user sees of a message of the bot. Edits change it in place. */
export interface InboxMessage {
  readonly messageId: number
  /** Wall clock, milliseconds. */
  readonly at: number
  /** As shown: tags are taken out. Captions count as text. */
  text: string
  buttons: readonly (readonly InlineButton[])[]
  /** Buttons of a reply keyboard that this message brought. */
  replyButtons: readonly string[]
  readonly invoice: { readonly title: string; readonly currency: string; readonly amount: number } | undefined
  edits: number
  deleted: boolean
  /** The Bot API's message. */
  raw: Message
}

export interface InlineButton {
  readonly text: string
  readonly data?: string
  readonly url?: string
  readonly pay?: boolean
}

export interface ChatState {
  readonly chat: TelegramChat
  /** In a private chat. */
  readonly user: TelegramUser | undefined
  readonly messages: Map<number, Message>
  readonly inbox: InboxMessage[]
  state: 'open' | 'blocked' | 'deactivated'
  /** Called when something was received or edited. */
  readonly listeners: Set<(message: InboxMessage) => void>
}

const MESSAGES_MAX = 300
const INBOX_MAX = 300

export class Chats {
  readonly #env: Env
  readonly #chats = new Map<number, ChatState>()
  #nextMessageId = 1

  constructor(env: Env) {
    this.#env = env
  }

  /** Opens a chat, or answers the one that is there. */
  open(chat: TelegramChat, user?: TelegramUser): ChatState {
    let state = this.#chats.get(chat.id)
    if (state === undefined) this.#chats.set(chat.id, state = { chat, user, messages: new Map(), inbox: [], state: 'open', listeners: new Set() })
    return state
  }

  find(id: unknown): ChatState | undefined {
    if (typeof id === 'number') return this.#chats.get(id)
    if (typeof id !== 'string') return undefined
    if (/^-?\d+$/.test(id)) return this.#chats.get(Number(id))
    return [...this.#chats.values()].find(state => state.chat.username !== undefined && `@${state.chat.username}` === id)
  }

  /** The chat that the bot wants to write to. @throws ApiError 400 or 403 */
  reachable(id: unknown): ChatState {
    const state = this.find(id)
    if (state === undefined) throw badRequest('chat not found')
    if (state.state === 'blocked') throw new ApiError(403, 'Forbidden: bot was blocked by the user')
    if (state.state === 'deactivated') throw new ApiError(403, 'Forbidden: user is deactivated')
    return state
  }

  all(): Iterable<ChatState> {
    return this.#chats.values()
  }

  nextMessageId(): number {
    this.#nextMessageId += 1
    return this.#nextMessageId - 1
  }

  /** Seconds, as the Bot API counts. */
  date(): number {
    return Math.floor(this.#env.now() / 1_000)
  }

  /** Keeps a message; one of the bot's shows up in the user's inbox. */
  keep(state: ChatState, message: Message, fromBot: boolean): void {
    state.messages.set(message.message_id, message)
    if (state.messages.size > MESSAGES_MAX) state.messages.delete(state.messages.keys().next().value ?? 0)
    if (!fromBot) return
    const seen: InboxMessage = {
      messageId: message.message_id, at: this.#env.now(), edits: 0, deleted: false, raw: message,
      ...shownOf(message),
    }
    state.inbox.push(seen)
    if (state.inbox.length > INBOX_MAX) state.inbox.shift()
    for (const listener of [...state.listeners]) listener(seen)
  }

  edit(state: ChatState, message: Message): void {
    state.messages.set(message.message_id, message)
    const seen = state.inbox.findLast(item => item.messageId === message.message_id)
    if (seen === undefined) return
    seen.raw = message
    seen.edits += 1
    const shown = shownOf(message)
    seen.text = shown.text
    seen.buttons = shown.buttons
    for (const listener of [...state.listeners]) listener(seen)
  }

  remove(state: ChatState, messageId: number): boolean {
    const seen = state.inbox.findLast(item => item.messageId === messageId)
    if (seen !== undefined) seen.deleted = true
    return state.messages.delete(messageId)
  }

  /** Forgets messages; chats and who blocked whom stay. */
  clear(): void {
    for (const state of this.#chats.values()) {
      state.messages.clear()
      state.inbox.length = 0
    }
  }
}

function shownOf(message: Message): Pick<InboxMessage, 'text' | 'buttons' | 'replyButtons' | 'invoice'> {
  const { text, caption, invoice, reply_markup: markup } = message
  const keyboard = typeof markup === 'object' && markup !== null ? (markup as { readonly inline_keyboard?: readonly (readonly InlineKeyboardButton[])[]; readonly keyboard?: readonly (readonly (string | { readonly text: string })[])[] }) : {}
  const total = invoice as { readonly title: string; readonly description: string; readonly currency: string; readonly total_amount: number } | undefined
  return {
    text: typeof text === 'string' ? text : typeof caption === 'string' ? caption : total === undefined ? '' : `${total.title}\n${total.description}`,
    buttons: (keyboard.inline_keyboard ?? []).map(row => row.map(button => ({
      text: button.text,
      ...(button.callback_data === undefined ? {} : { data: button.callback_data }),
      ...(button.url === undefined ? {} : { url: button.url }),
      ...(button.pay === undefined ? {} : { pay: button.pay }),
    }))),
    replyButtons: (keyboard.keyboard ?? []).flatMap(row => row.map(button => (typeof button === 'string' ? button : button.text))),
    invoice: total === undefined ? undefined : { title: total.title, currency: total.currency, amount: total.total_amount },
  }
}
