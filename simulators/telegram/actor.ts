/**
 * A customer with a phone: writes, presses what is on the screen, pays, blocks the bot, waits for an answer.
 *
 * An actor only does what a person could do: it presses buttons that it can see, on messages that are not deleted. What
 * it asks for and cannot see is an error that says what there was instead.
 */
import { type Duration, durationMs } from 'holdfast/core'
import type { CallbackAnswer } from './callbacks.ts'
import type { ChatState, InboxMessage, InlineButton } from './chats.ts'
import type { Payment, PayOutcome } from './payments.ts'
import { commandEntities } from './text.ts'
import type { World } from './world.ts'
import type { Message, TelegramUser } from './types.ts'

export type ButtonPattern = string | RegExp | { readonly data: string }

export type Pressed =
  | { readonly kind: 'callback'; readonly id: string; readonly updateId: number; readonly answered: Promise<CallbackAnswer | undefined> }
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'pay'; readonly payment: Promise<Payment> }
  /** A button of a reply keyboard: it sends its own text. */
  | { readonly kind: 'text'; readonly messageId: number }
  /** Something that stays on the phone. */
  | { readonly kind: 'none' }

export interface PayOptions {
  /** Default: the latest invoice in the chat. */
  readonly message?: number | InboxMessage
  /** From createInvoiceLink. */
  readonly link?: string
  /** What happens after the bot's yes. Default `ok`. */
  readonly outcome?: PayOutcome
}

const SEEN_MAX = 200

export class UserActor {
  readonly id: number
  readonly user: TelegramUser
  readonly #world: World
  readonly #chat: ChatState
  /** Received or edited since the last action. */
  #seen: InboxMessage[] = []

  constructor(world: World, user: TelegramUser) {
    this.id = user.id
    this.user = user
    this.#world = world
    this.#chat = world.chats.open({
      id: user.id, type: 'private', first_name: user.first_name,
      ...(user.last_name === undefined ? {} : { last_name: user.last_name }), ...(user.username === undefined ? {} : { username: user.username }),
    }, user)
    this.#chat.listeners.add(message => {
      this.#seen.push(message)
      if (this.#seen.length > SEEN_MAX) this.#seen.shift()
    })
  }

  /** What the bot sent, oldest first. */
  get inbox(): readonly InboxMessage[] {
    return this.#chat.inbox
  }

  get last(): InboxMessage | undefined {
    return this.#chat.inbox.findLast(message => !message.deleted)
  }

  get blocked(): boolean {
    return this.#chat.state === 'blocked'
  }

  /** Writes; answers the message's number. */
  send(text: string): number {
    const entities = commandEntities(text)
    return this.#say({ text, ...(entities.length === 0 ? {} : { entities }) }).message_id
  }

  command(command: string, argument?: string): number {
    return this.send(argument === undefined ? command : `${command} ${argument}`)
  }

  sendPhoto(options: { readonly caption?: string; readonly size?: number; readonly bytes?: Uint8Array } = {}): number {
    const file = this.#world.files.add('photos', '.jpg', options)
    const { file_id: id, file_unique_id: unique, file_size: size } = file
    const photo = [{ file_id: `${id}s`, file_unique_id: `${unique}s`, file_size: 1_200, width: 90, height: 60 }, { file_id: id, file_unique_id: unique, file_size: size, width: 1_280, height: 853 }]
    return this.#say({ photo, ...(options.caption === undefined ? {} : { caption: options.caption }) }).message_id
  }

  sendDocument(options: { readonly mimeType?: string; readonly fileName?: string; readonly caption?: string; readonly size?: number; readonly bytes?: Uint8Array } = {}): number {
    const { file_id: id, file_unique_id: unique, file_size: size } = this.#world.files.add('documents', '', options)
    const document = { file_id: id, file_unique_id: unique, file_size: size, file_name: options.fileName ?? 'file.pdf', mime_type: options.mimeType ?? 'application/pdf' }
    return this.#say({ document, ...(options.caption === undefined ? {} : { caption: options.caption }) }).message_id
  }

  /** Looks for a button without pressing it: on the latest message that has it. */
  button(pattern: ButtonPattern): InlineButton | undefined {
    return this.#find(pattern)?.button
  }

  /**
   * Presses a button, by its text or its data, on the latest message that has it.
   * @throws RangeError when there is none, naming those there are.
   */
  press(pattern: ButtonPattern): Pressed {
    const found = this.#find(pattern)
    if (found === undefined) {
      const reply = this.#chat.inbox.flatMap(message => (message.deleted ? [] : message.replyButtons)).findLast(text => matches(pattern, { text }))
      if (reply !== undefined) return { kind: 'text', messageId: this.send(reply) }
      const there = this.#chat.inbox.flatMap(message => (message.deleted ? [] : [...message.buttons.flat().map(button => button.text), ...message.replyButtons]))
      throw new RangeError(`${this.user.first_name} sees no button ${shown(pattern)}; there are: ${there.slice(-20).map(text => JSON.stringify(text)).join(', ') || 'none'}`)
    }
    const { button, message } = found
    if (button.url !== undefined) return { kind: 'url', url: button.url }
    if (button.pay === true) return { kind: 'pay', payment: this.pay({ message }) }
    if (button.data === undefined) return { kind: 'none' }
    return this.pressOn(message.messageId, button.data)
  }

  /** A press on a certain message with any data: an old keyboard, a forged button. */
  pressOn(messageId: number, data: string): Extract<Pressed, { kind: 'callback' }> {
    const { random, updates, callbacks } = this.#world
    this.#act()
    const id = `${String(random.int(100_000_000, 999_999_999))}${String(random.int(100_000_000, 999_999_999))}`
    const answered = callbacks.wait(id)
    const message = this.#chat.messages.get(messageId) ?? { chat: this.#chat.chat, message_id: messageId, date: 0 }
    const updateId = updates.emit('callback_query', { id, from: this.user, message, chat_instance: String(this.id * 7_919), data })
    return { kind: 'callback', id, updateId, answered }
  }

  /**
   * Pays an invoice: the bot is asked (`pre_checkout_query`) and has 10 s.
   * @throws RangeError when there is no invoice.
   */
  pay(options: PayOptions = {}): Promise<Payment> {
    const { payments } = this.#world
    const messageId = typeof options.message === 'object' ? options.message.messageId : options.message ?? this.#chat.inbox.findLast(message => message.invoice !== undefined && !message.deleted)?.messageId
    const invoice = options.link !== undefined ? payments.linked(options.link) : messageId === undefined ? undefined : payments.sentAs(this.id, messageId)
    if (invoice === undefined) throw new RangeError(`${this.user.first_name} sees no invoice to pay`)
    this.#act()
    return payments.pay(this.#chat, this.user, invoice, options.outcome ?? 'ok')
  }

  /** The bot gets 403 from now on, and is told (`my_chat_member`). */
  block(): void {
    if (this.#chat.state === 'blocked') return
    this.#chat.state = 'blocked'
    this.#membership('member', 'kicked')
  }

  unblock(): void {
    if (this.#chat.state !== 'blocked') return
    this.#chat.state = 'open'
    this.#membership('kicked', 'member')
  }

  /** The account is deleted: 403, and nobody is told. */
  deactivate(): void {
    this.#chat.state = 'deactivated'
  }

  /**
   * The first message that matches, of those received or edited since this user's last action; waits for it.
   * Rejects when there is none `within` (30 s), saying what there was.
   */
  waitFor(pattern: string | RegExp, within: Duration = '30s'): Promise<InboxMessage> {
    const fits = (message: InboxMessage): boolean => !message.deleted && (typeof pattern === 'string' ? message.text.includes(pattern) : pattern.test(message.text))
    const there = this.#seen.find(fits)
    if (there !== undefined) return Promise.resolve(there)
    return new Promise((resolve, reject) => {
      const listener = (message: InboxMessage): void => {
        if (!fits(message)) return
        timer.cancel()
        this.#chat.listeners.delete(listener)
        resolve(message)
      }
      const timer = this.#world.env.timer(durationMs(within, 'waitFor'), () => {
        this.#chat.listeners.delete(listener)
        reject(new RangeError(`${this.user.first_name} waited ${within} for ${String(pattern)}; since the last action there came: ${this.#seen.map(message => JSON.stringify(message.text.slice(0, 80))).join(', ') || 'nothing'}`))
      })
      this.#chat.listeners.add(listener)
    })
  }

  #find(pattern: ButtonPattern): { readonly message: InboxMessage; readonly button: InlineButton } | undefined {
    for (let index = this.#chat.inbox.length - 1; index >= 0; index -= 1) {
      const message = this.#chat.inbox[index]
      if (message === undefined || message.deleted) continue
      const button = message.buttons.flat().find(item => matches(pattern, item))
      if (button !== undefined) return { message, button }
    }
    return undefined
  }

  #say(content: Readonly<Record<string, unknown>>): Message {
    const { chats, updates } = this.#world
    this.#act()
    const message: Message = { message_id: chats.nextMessageId(), from: this.user, chat: this.#chat.chat, date: chats.date(), ...content }
    chats.keep(this.#chat, message, false)
    updates.emit('message', message)
    return message
  }

  #act(): void {
    this.#seen = []
  }

  #membership(before: 'member' | 'kicked', after: 'member' | 'kicked'): void {
    const { chats, updates, me } = this.#world
    const member = (status: 'member' | 'kicked'): unknown => (status === 'kicked' ? { status, user: me, until_date: 0 } : { status, user: me })
    updates.emit('my_chat_member', { chat: this.#chat.chat, from: this.user, date: chats.date(), old_chat_member: member(before), new_chat_member: member(after) })
  }
}

function matches(pattern: ButtonPattern, button: InlineButton): boolean {
  if (typeof pattern === 'string') return button.text === pattern || button.data === pattern
  if (pattern instanceof RegExp) return pattern.test(button.text) || (button.data !== undefined && pattern.test(button.data))
  return button.data === pattern.data
}

function shown(pattern: ButtonPattern): string {
  return pattern instanceof RegExp ? String(pattern) : JSON.stringify(pattern)
}
