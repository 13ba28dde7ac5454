/**
 * Message text as Telegram shows it: `parse_mode: HTML` becomes plain text and entities, and what the server would
 * refuse is refused (an unescaped `<` in a customer's name is the classic).
 *
 * Not here: MarkdownV2 and Markdown are not parsed; their text is kept as it was sent.
 */
import { badRequest } from './types.ts'

export interface Entity {
  readonly type: string
  readonly offset: number
  readonly length: number
  readonly url?: string
  readonly language?: string
}

export interface PlainText {
  readonly text: string
  readonly entities: readonly Entity[]
}

const TAGS: Readonly<Record<string, string>> = {
  'b': 'bold', 'strong': 'bold', 'i': 'italic', 'em': 'italic', 'u': 'underline', 'ins': 'underline', 's': 'strikethrough', 'strike': 'strikethrough', 'del': 'strikethrough',
  'code': 'code', 'pre': 'pre', 'a': 'text_link', 'blockquote': 'blockquote', 'tg-spoiler': 'spoiler', 'span': 'spoiler', 'tg-emoji': 'custom_emoji',
}
const NAMED: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"' }

/** @throws ApiError 400 "can't parse entities: ..." */
export function plainText(source: string, parseMode: unknown): PlainText {
  if (typeof parseMode !== 'string' || parseMode.toLowerCase() !== 'html') return { text: source, entities: [] }
  const entities: Entity[] = []
  const open: { readonly tag: string; readonly offset: number; readonly attributes: string }[] = []
  let text = ''
  let at = 0
  while (at < source.length) {
    const character = source.charAt(at)
    if (character === '&') {
      const match = /^&(?:#(\d+)|#x([0-9a-f]+)|([a-z]+));/i.exec(source.slice(at, at + 12))
      const decoded = match === null ? undefined : match[3] === undefined ? String.fromCodePoint(match[1] === undefined ? parseInt(match[2] ?? '0', 16) : Number(match[1])) : NAMED[match[3]]
      text += decoded ?? '&'
      at += decoded === undefined || match === null ? 1 : match[0].length
      continue
    }
    if (character !== '<') {
      text += character
      at += 1
      continue
    }
    const offset = String(Buffer.byteLength(source.slice(0, at)))
    const end = source.indexOf('>', at)
    if (end < 0) throw badRequest(`can't parse entities: Unclosed start tag at byte offset ${offset}`)
    const inner = source.slice(at + 1, end)
    const [, closing = '', tag = '', attributes = ''] = /^(\/?)([a-z-]*)\s*(.*)$/is.exec(inner.toLowerCase() === inner ? inner : lowerTag(inner)) ?? []
    if (closing === '/') {
      const top = open.pop()
      if (top === undefined) throw badRequest(`can't parse entities: Unexpected end tag at byte offset ${offset}`)
      if (tag !== '' && tag !== top.tag) throw badRequest(`can't parse entities: Unmatched end tag at byte offset ${offset}, expected "</${top.tag}>", found "</${tag}>"`)
      addEntity(entities, top, text)
    } else {
      if (TAGS[tag] === undefined) throw badRequest(`can't parse entities: Unsupported start tag "${tag}" at byte offset ${offset}`)
      open.push({ tag, offset: text.length, attributes })
    }
    at = end + 1
  }
  const left = open.pop()
  if (left !== undefined) throw badRequest(`can't parse entities: Can't find end tag corresponding to start tag "${left.tag}"`)
  return { text, entities: entities.sort((a, b) => a.offset - b.offset || b.length - a.length) }
}

function lowerTag(inner: string): string {
  return inner.replace(/^\/?[a-z-]+/i, name => name.toLowerCase())
}

function addEntity(entities: Entity[], { tag, offset, attributes }: { readonly tag: string; readonly offset: number; readonly attributes: string }, text: string): void {
  const length = text.length - offset
  const type = TAGS[tag]
  if (length === 0 || type === undefined) return
  const href = /href\s*=\s*(?:"([^"]*)"|'([^']*)')/i.exec(attributes)
  if (type === 'text_link') {
    const url = href?.[1] ?? href?.[2]
    if (url !== undefined && url !== '') entities.push({ type, offset, length, url })
    return
  }
  entities.push({ type, offset, length })
}

/** The entities that clients find by themselves: commands at the start, which grammY's command filter needs. */
export function commandEntities(text: string): readonly Entity[] {
  const match = /^\/[a-z0-9_]{1,32}(?:@\w+)?/i.exec(text)
  return match === null ? [] : [{ type: 'bot_command', offset: 0, length: match[0].length }]
}
