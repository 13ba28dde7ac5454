/**
 * Methods that put a message into a chat or change one: send*, copy, forward, edit*, delete.
 */
import { sample } from './sample.ts'
import { botApi, Upload } from './schema.ts'
import { checkKeyboard } from './keyboard.ts'
import { plainText } from './text.ts'
import type { ChatState } from './chats.ts'
import type { World } from './world.ts'
import { badRequest, type Arguments, type Message } from './types.ts'

type Content = Readonly<Record<string, unknown>>

const TEXT_MAX = 4_096
const CAPTION_MAX = 1_024
const UPLOAD_MAX_BYTES = 50 * 1_048_576
const PHOTO_MAX_BYTES = 10 * 1_048_576
const DELETE_WITHIN_S = 48 * 3_600

/** Puts a message of the bot into the chat. @throws ApiError 400, 403, 429 */
export function send(world: World, args: Arguments, content: Content, invoice = false): Message {
  const state = world.chats.reachable(args['chat_id'])
  checkKeyboard(args['reply_markup'], { invoice })
  const replyTo = repliedTo(state, args)
  world.flood.take(state.chat.id)
  const markup = args['reply_markup']
  const message: Message = {
    message_id: world.chats.nextMessageId(), from: world.me, chat: state.chat, date: world.chats.date(),
    ...(replyTo === undefined ? {} : { reply_to_message: replyTo }),
    ...(args['protect_content'] === true ? { has_protected_content: true } : {}),
    ...content,
  }
  // The Bot API returns inline keyboards only; the customer's phone shows the other kind as well.
  const inline = isInline(markup)
  world.chats.keep(state, markup === undefined ? message : { ...message, reply_markup: markup }, true)
  return inline ? { ...message, reply_markup: markup } : message
}

export function sendMessage(world: World, args: Arguments): Message {
  return send(world, args, textContent(String(args['text']), args))
}

/** sendPhoto, sendDocument, sendVideo, ...: a message with one thing in it. */
export function sendMedia(world: World, args: Arguments, field: string): Message {
  const given = args[field]
  const caption = captionContent(args)
  if (field === 'photo') {
    const file = fileOf(world, given, 'photos', '.jpg', PHOTO_MAX_BYTES)
    return send(world, args, { photo: [{ ...file, width: 90, height: 60 }, { ...file, width: 1_280, height: 853 }], ...caption })
  }
  if (field === 'document') {
    const file = fileOf(world, given, 'documents', '.bin', UPLOAD_MAX_BYTES)
    return send(world, args, { document: { ...file, file_name: given instanceof Upload ? given.fileName : 'file', mime_type: 'application/octet-stream' }, ...caption })
  }
  const type = botApi().types.get('Message')?.fields.get(field)?.types[0]
  const value = type?.kind === 'named' ? sample(type.name, { random: world.random, date: world.chats.date() }) : undefined
  return send(world, args, { ...(value === undefined ? {} : { [field]: value }), ...caption })
}

export function sendMediaGroup(world: World, args: Arguments): readonly Message[] {
  const media = args['media'] as readonly { readonly type: string; readonly caption?: string }[]
  if (media.length < 2 || media.length > 10) throw badRequest('media must include 2-10 items')
  const group = String(world.random.int(10_000_000_000_000, 19_999_999_999_999))
  return media.map(item => {
    const caption = item.caption === undefined ? {} : { caption: item.caption }
    const file = fileOf(world, 'album', `${item.type}s`, '', UPLOAD_MAX_BYTES)
    return send(world, args, { media_group_id: group, [item.type]: item.type === 'photo' ? [{ ...file, width: 1_280, height: 853 }] : file, ...caption })
  })
}

export function copyMessage(world: World, args: Arguments): { readonly message_id: number } {
  const content = without(existing(world, args['from_chat_id'], args['message_id'], 'message to copy not found'), 'message_id', 'date', 'chat', 'from')
  return { message_id: send(world, args, { ...content, ...captionContent(args) }).message_id }
}

export function forwardMessage(world: World, args: Arguments): Message {
  const original = existing(world, args['from_chat_id'], args['message_id'], 'message to forward not found')
  const { date, from } = original
  const content = without(original, 'message_id', 'date', 'chat', 'from', 'reply_markup')
  return send(world, args, { ...content, forward_origin: { type: 'user', sender_user: from ?? world.me, date } })
}

/** editMessageText, editMessageCaption, editMessageReplyMarkup, editMessageMedia. */
export function edit(world: World, args: Arguments, what: 'text' | 'caption' | 'reply_markup' | 'media'): unknown {
  if (args['inline_message_id'] !== undefined) return true
  const state = world.chats.reachable(args['chat_id'])
  const before = state.messages.get(Number(args['message_id']))
  if (before === undefined) throw badRequest('message to edit not found')
  if (before.from?.id !== world.me.id) throw badRequest("message can't be edited")
  checkKeyboard(args['reply_markup'], { invoice: before['invoice'] !== undefined })
  const rest = without(before, 'reply_markup', 'edit_date', 'entities', 'caption_entities')
  const changed: Content = what === 'text' ? textContent(String(args['text']), args) : what === 'caption' ? captionContent(args) : {}
  const markup = args['reply_markup']
  const after = { ...rest, ...(what === 'reply_markup' ? entitiesOf(before) : {}), ...changed, ...(markup === undefined ? {} : { reply_markup: markup }) }
  const comparable = without(before, 'edit_date')
  if (what !== 'media' && JSON.stringify(sorted(comparable)) === JSON.stringify(sorted(after))) {
    throw badRequest('message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message')
  }
  world.flood.take(state.chat.id)
  const message = { ...after, edit_date: world.chats.date() } as unknown as Message
  world.chats.edit(state, message)
  return message
}

export function deleteMessage(world: World, args: Arguments): true {
  const state = world.chats.reachable(args['chat_id'])
  const message = state.messages.get(Number(args['message_id']))
  if (message === undefined) throw badRequest('message to delete not found')
  if (world.chats.date() - message.date > DELETE_WITHIN_S) throw badRequest("message can't be deleted for everyone")
  world.chats.remove(state, message.message_id)
  return true
}

function existing(world: World, chatId: unknown, messageId: unknown, otherwise: string): Message {
  const message = world.chats.find(chatId)?.messages.get(Number(messageId))
  if (message === undefined) throw badRequest(otherwise)
  return message
}

function repliedTo(state: ChatState, args: Arguments): Message | undefined {
  const parameters = args['reply_parameters'] as { readonly message_id: number; readonly allow_sending_without_reply?: boolean } | undefined
  if (parameters === undefined) return undefined
  const message = state.messages.get(parameters.message_id)
  if (message === undefined && parameters.allow_sending_without_reply !== true) throw badRequest('message to be replied not found')
  return message === undefined ? undefined : (without(message, 'reply_to_message') as unknown as Message)
}

function textContent(source: string, args: Arguments): Content {
  const given = args['entities']
  const { text, entities } = plainText(source, args['parse_mode'])
  if (text.trim() === '') throw badRequest('message text is empty')
  if (text.length > TEXT_MAX && [...text].length > TEXT_MAX) throw badRequest('message is too long')
  const all = Array.isArray(given) ? given : entities
  return all.length === 0 ? { text } : { text, entities: all }
}

function captionContent(args: Arguments): Content {
  const source = args['caption']
  if (typeof source !== 'string') return {}
  const { text, entities } = plainText(source, args['parse_mode'])
  if (text.length > CAPTION_MAX && [...text].length > CAPTION_MAX) throw badRequest('message caption is too long')
  return entities.length === 0 ? { caption: text } : { caption: text, caption_entities: entities }
}

function entitiesOf(message: Message): Content {
  const { entities, caption_entities: captionEntities } = message
  return { ...(entities === undefined ? {} : { entities }), ...(captionEntities === undefined ? {} : { caption_entities: captionEntities }) }
}

function fileOf(world: World, given: unknown, folder: string, extension: string, maxBytes: number): Content {
  if (given instanceof Upload) {
    if (given.bytes.length === 0) throw badRequest('file must be non-empty')
    if (given.bytes.length > maxBytes) throw badRequest('file is too big')
  }
  const known = typeof given === 'string' && world.files.has(given)
  const file = world.files.add(folder, extension, given instanceof Upload ? { bytes: given.bytes } : {})
  return { file_id: known ? given : file.file_id, file_unique_id: file.file_unique_id, file_size: file.file_size }
}

function without(message: Message, ...fields: readonly string[]): Content {
  return Object.fromEntries(Object.entries(message).filter(([name]) => !fields.includes(name)))
}

function isInline(markup: unknown): boolean {
  return typeof markup === 'object' && markup !== null && 'inline_keyboard' in markup
}

/** Keys in one order, on the first level: enough to compare two versions of a message. */
function sorted(record: object): unknown {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1))
}
