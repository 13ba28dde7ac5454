/**
 * From an HTTP request to checked arguments, the way the Bot API server reads them.
 *
 * JSON, form, multipart and query are all accepted, numbers may come as text and objects as JSON text. What is missing
 * or of the wrong type is refused with the server's own sentences where they are known. Unknown arguments are ignored,
 * as the real server does; they are reported, so that a test can refuse them.
 */
import { badRequest, type Arguments } from './types.ts'
import { parseMultipart } from './multipart.ts'
import { checkRef, type FieldSchema, type MethodSchema, type TypeRef, Upload } from './schema.ts'

/** The arguments as they came, before the schema. */
export async function readArguments(request: Request): Promise<Record<string, unknown>> {
  const args: Record<string, unknown> = {}
  const query = request.url.indexOf('?')
  if (query >= 0) for (const [name, value] of new URLSearchParams(request.url.slice(query + 1))) args[name] = value
  if (request.method === 'GET' || request.method === 'HEAD') return args
  const type = request.headers.get('content-type') ?? ''
  if (type.startsWith('multipart/form-data')) {
    Object.assign(args, parseMultipart(type, Buffer.from(await request.arrayBuffer())))
    return args
  }
  const text = await request.text()
  if (text === '') return args
  if (type.startsWith('application/x-www-form-urlencoded')) {
    for (const [name, value] of new URLSearchParams(text)) args[name] = value
    return args
  }
  const body = parseJson(text)
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw badRequest("can't parse request: expected a JSON object")
  return query < 0 ? (body as Record<string, unknown>) : Object.assign(args, body)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw badRequest("can't parse request: invalid JSON")
  }
}

export interface CheckedArguments {
  readonly args: Arguments
  /** Names that the method does not have. */
  readonly unknown: readonly string[]
}

/** @throws ApiError 400 */
export function checkArguments(method: MethodSchema, raw: Readonly<Record<string, unknown>>): CheckedArguments {
  const args: Record<string, unknown> = {}
  const unknown: string[] = []
  for (const name in raw) {
    // Uploads come as parts of their own; `attach://name` points to them.
    if (!method.fields.has(name) && name !== 'method' && !(raw[name] instanceof Upload)) unknown.push(name)
  }
  for (const field of method.fields.values()) {
    const given = raw[field.name]
    const value = typeof given === 'string' && given.startsWith('attach://') ? raw[given.slice('attach://'.length)] ?? given : given
    if (value === undefined || value === null || value === '') {
      if (value === '' && method.name === 'setWebhook' && field.name === 'url') args['url'] = ''
      else if (field.required) throw badRequest(missing(field.name))
      continue
    }
    args[field.name] = decode(field, value)
  }
  return { args, unknown }
}

function decode(field: FieldSchema, value: unknown): unknown {
  for (const ref of field.types) {
    const decoded = decodeRef(ref, value)
    if (decoded !== undefined && checkRef(ref, decoded, field.name, [])) {
      if (typeof decoded === 'string') checkLength(field, decoded)
      return decoded
    }
  }
  throw badRequest(mistyped(field, value))
}

function decodeRef(ref: TypeRef, value: unknown): unknown {
  switch (ref.kind) {
    case 'integer':
      return typeof value === 'string' && /^-?\d{1,16}$/.test(value) ? Number(value) : value
    case 'float':
      return typeof value === 'string' && /^-?\d+(?:\.\d+)?$/.test(value) ? Number(value) : value
    case 'boolean':
      return value === 'true' || value === 'True' || value === '1' || value === 1 ? true : value === 'false' || value === 'False' || value === '0' || value === 0 ? false : value
    case 'string':
      return typeof value === 'number' || typeof value === 'boolean' ? String(value) : value
    case 'array':
    case 'named':
      if (typeof value !== 'string' || (ref.kind === 'named' && ref.name === 'InputFile')) return value
      try {
        return JSON.parse(value)
      } catch {
        return undefined
      }
  }
}

const MISSING: Readonly<Record<string, string>> = {
  chat_id: 'chat_id is empty', text: 'message text is empty', message_id: 'message identifier is not specified', file_id: 'file_id not specified',
  photo: 'there is no photo in the request', document: 'there is no document in the request', video: 'there is no video in the request',
  audio: 'there is no audio in the request', voice: 'there is no voice in the request', animation: 'there is no animation in the request', sticker: 'there is no sticker in the request',
  user_id: 'invalid user_id specified', callback_query_id: 'query is too old and response timeout expired or query ID is invalid',
  pre_checkout_query_id: 'query is too old and response timeout expired or query ID is invalid',
}

function missing(field: string): string {
  return MISSING[field] ?? `parameter "${field}" is required`
}

const KEYBOARDS: readonly string[] = ['InlineKeyboardMarkup', 'ReplyKeyboardMarkup', 'ReplyKeyboardRemove', 'ForceReply']

function mistyped(field: FieldSchema, value: unknown): string {
  const [first] = field.types
  if (field.name === 'reply_markup') return keyboardProblem(field, value)
  switch (first?.kind) {
    case 'integer': return `field "${field.name}" must be of type Number`
    case 'float': return `field "${field.name}" must be of type Number`
    case 'boolean': return `field "${field.name}" must be of type Boolean`
    case 'string': return `field "${field.name}" must be of type String`
    default: {
      const problems: string[] = []
      if (first !== undefined) checkRef(first, decodeRef(first, value), field.name, problems)
      return `can't parse ${field.name.replaceAll('_', ' ')} JSON object: ${problems[0] ?? 'invalid JSON'}`
    }
  }
}

function keyboardProblem(field: FieldSchema, value: unknown): string {
  const decoded = typeof value === 'string' ? decodeRef({ kind: 'named', name: 'InlineKeyboardMarkup' }, value) : value
  if (typeof decoded !== 'object' || decoded === null) return 'object expected as reply markup'
  const problems: string[] = []
  const inline = field.types.find(ref => ref.kind === 'named' && KEYBOARDS.includes(ref.name) && ('inline_keyboard' in decoded) === (ref.name === 'InlineKeyboardMarkup'))
  if (inline !== undefined) checkRef(inline, decoded, 'reply_markup', problems)
  return `can't parse ${'inline_keyboard' in decoded ? 'inline keyboard button' : 'reply keyboard markup JSON object'}: ${problems[0] ?? 'unexpected reply markup'}`
}

const TOO_LONG: Readonly<Record<string, string>> = {
  text: 'message is too long', caption: 'message caption is too long', payload: 'INVOICE_PAYLOAD_INVALID', title: 'INVOICE_TITLE_INVALID', description: 'INVOICE_DESCRIPTION_INVALID',
  secret_token: 'secret token is too long',
}

function checkLength(field: FieldSchema, value: string): void {
  const { length } = field
  // Text and captions count after entities are taken out: ./methods.ts does that.
  if (length === undefined || field.name === 'text' || field.name === 'caption') return
  if (value.length * 4 < length.min || (value.length <= length.max / 4 && value.length >= length.min)) return
  const size = length.unit === 'bytes' ? Buffer.byteLength(value) : [...value].length
  if (size > length.max || size < length.min) throw badRequest(TOO_LONG[field.name] ?? `${field.name} must be ${String(length.min)}-${String(length.max)} ${length.unit} long`)
}
