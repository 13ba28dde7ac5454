/**
 * The Bot API as data: every method and type of `data/bot-api.json` (Bot API 10.1, PaulSonOfLars/telegram-bot-api-spec,
 * MIT), and a validator over it.
 *
 * The same validator checks what a bot sends and what the update generator makes. Lengths and constants are read from
 * the documentation's sentences ("1-4096 characters", "always "user""), because the schema has them nowhere else.
 */
import { existsSync, readFileSync } from 'node:fs'

/** `Array of Integer` as a tree. */
export type TypeRef =
  | { readonly kind: 'integer' | 'float' | 'string' | 'boolean' }
  | { readonly kind: 'array'; readonly of: TypeRef }
  | { readonly kind: 'named'; readonly name: string }

export interface FieldSchema {
  readonly name: string
  readonly types: readonly TypeRef[]
  readonly required: boolean
  /** The values that the documentation lists, where it does: one of them, or the only one. */
  readonly constants: readonly string[]
  /** `true` where the documentation says that a flag is only ever true. */
  readonly alwaysTrue: boolean
  readonly length: { readonly min: number; readonly max: number; readonly unit: 'characters' | 'bytes' } | undefined
}

export interface TypeSchema {
  readonly name: string
  readonly fields: ReadonlyMap<string, FieldSchema>
  /** A union has these and no fields. */
  readonly subtypes: readonly TypeRef[]
}

export interface MethodSchema {
  readonly name: string
  readonly fields: ReadonlyMap<string, FieldSchema>
  readonly returns: readonly TypeRef[]
}

export interface BotApi {
  readonly version: string
  /** By lower-case name: the server does not mind the case of methods. */
  readonly methods: ReadonlyMap<string, MethodSchema>
  readonly types: ReadonlyMap<string, TypeSchema>
}

interface RawField { readonly name: string; readonly types: readonly string[]; readonly required: boolean; readonly description: string }
interface RawSchema {
  readonly version: string
  readonly methods: Readonly<Record<string, { readonly fields?: readonly RawField[]; readonly returns: readonly string[] }>>
  readonly types: Readonly<Record<string, { readonly fields?: readonly RawField[]; readonly subtypes?: readonly string[] }>>
}

let loaded: BotApi | undefined

/** Reads the schema once per process. */
export function botApi(): BotApi {
  loaded ??= load()
  return loaded
}

/** Beside the source, and beside nothing once this is compiled into `dist/`. */
export function dataFile(name: string): URL {
  const beside = new URL(`./data/${name}`, import.meta.url)
  return existsSync(beside) ? beside : new URL(`../../telegram/data/${name}`, import.meta.url)
}

function load(): BotApi {
  const raw = JSON.parse(readFileSync(dataFile('bot-api.json'), 'utf8')) as RawSchema
  const types = new Map<string, TypeSchema>()
  for (const [name, type] of Object.entries(raw.types)) {
    types.set(name, { name, fields: fieldsOf(type.fields ?? []), subtypes: (type.subtypes ?? []).map(typeRef) })
  }
  const methods = new Map<string, MethodSchema>()
  for (const [name, method] of Object.entries(raw.methods)) {
    methods.set(name.toLowerCase(), { name, fields: fieldsOf(method.fields ?? []), returns: method.returns.map(typeRef) })
  }
  return { version: raw.version, methods, types }
}

function fieldsOf(fields: readonly RawField[]): ReadonlyMap<string, FieldSchema> {
  return new Map(fields.map(field => [field.name, {
    name: field.name,
    types: field.types.map(typeRef),
    required: field.required,
    constants: field.types.length === 1 && field.types[0] === 'String' ? constantsOf(field.description) : [],
    alwaysTrue: field.types[0] === 'Boolean' && /\b(?:Always True|True, if)\b/.test(field.description),
    length: lengthOf(field.description),
  }]))
}

function typeRef(text: string): TypeRef {
  if (text.startsWith('Array of ')) return { kind: 'array', of: typeRef(text.slice(9)) }
  switch (text) {
    case 'Integer': return { kind: 'integer' }
    case 'Float': return { kind: 'float' }
    case 'String': return { kind: 'string' }
    case 'Boolean': return { kind: 'boolean' }
    default: return { kind: 'named', name: text }
  }
}

function constantsOf(description: string): readonly string[] {
  const only = /\balways "([^"]+)"/.exec(description) ?? /^(?:Type of [a-z ]+|Scope type|Error source), must be ([a-z0-9_]+)$/.exec(description)
  if (only?.[1] !== undefined) return [only[1]]
  if (!/\b(?:one of|either) "/.test(description)) return []
  return [...description.matchAll(/"([^"]+)"/g)].map(match => match[1] ?? '')
}

function lengthOf(description: string): FieldSchema['length'] {
  const match = /\b(\d+)-(\d+) (characters|bytes)\b/.exec(description)
  return match === null ? undefined : { min: Number(match[1]), max: Number(match[2]), unit: match[3] === 'bytes' ? 'bytes' : 'characters' }
}

/** What an upload is inside decoded arguments. */
export class Upload {
  readonly fileName: string
  readonly bytes: Uint8Array

  constructor(fileName: string, bytes: Uint8Array) {
    this.fileName = fileName
    this.bytes = bytes
  }

  /** In a ledger its size says enough. */
  toJSON(): unknown {
    return { upload: this.fileName, bytes: this.bytes.length }
  }
}

/** Everything that is wrong with a value, as `path: expected ..., got ...`; empty when nothing is. */
export function checkType(name: string, value: unknown): readonly string[] {
  const problems: string[] = []
  checkRef({ kind: 'named', name }, value, name, problems)
  return problems
}

/** Everything that is wrong with an update: against the schema, and against "at most one of the optional fields". */
export function checkUpdate(update: unknown): readonly string[] {
  const problems = [...checkType('Update', update)]
  if (problems.length === 0 && Object.keys(update as object).length !== 2) problems.push('Update: expected update_id and exactly one kind')
  return problems
}

/** Appends to `problems`; answers whether the value fits. */
export function checkRef(ref: TypeRef, value: unknown, path: string, problems: string[]): boolean {
  switch (ref.kind) {
    case 'integer': return expect(Number.isSafeInteger(value), path, 'a whole number', value, problems)
    case 'float': return expect(typeof value === 'number' && Number.isFinite(value), path, 'a number', value, problems)
    case 'string': return expect(typeof value === 'string', path, 'a text', value, problems)
    case 'boolean': return expect(typeof value === 'boolean', path, 'true or false', value, problems)
    case 'array': {
      if (!expect(Array.isArray(value), path, 'a list', value, problems)) return false
      return (value as unknown[]).map((item, index) => checkRef(ref.of, item, `${path}[${String(index)}]`, problems)).every(Boolean)
    }
    case 'named': return checkNamed(ref.name, value, path, problems)
  }
}

function checkNamed(name: string, value: unknown, path: string, problems: string[]): boolean {
  if (name === 'InputFile') return expect(value instanceof Upload || typeof value === 'string', path, 'a file', value, problems)
  const type = botApi().types.get(name)
  if (type === undefined) return expect(false, path, `a known type instead of ${name}`, value, problems)
  if (type.subtypes.length > 0) return checkUnion(type, value, path, problems)
  if (!expect(typeof value === 'object' && value !== null && !Array.isArray(value), path, `an object (${name})`, value, problems)) return false
  const before = problems.length
  const given = value as Readonly<Record<string, unknown>>
  for (const field of type.fields.values()) if (field.required && given[field.name] === undefined) problems.push(`${path}.${field.name}: expected to be there (${name})`)
  for (const [key, item] of Object.entries(given)) {
    if (item === undefined) continue
    const field = type.fields.get(key)
    if (field === undefined) problems.push(`${path}.${key}: not a field of ${name}`)
    else checkField(field, item, `${path}.${key}`, problems)
  }
  return problems.length === before
}

function checkField(field: FieldSchema, value: unknown, path: string, problems: string[]): void {
  const [only, ...others] = field.types
  if (only !== undefined && others.length === 0) checkRef(only, value, path, problems)
  else if (!field.types.some(ref => checkRef(ref, value, path, []))) problems.push(`${path}: fits none of its types, got ${shown(value)}`)
  if (typeof value === 'string' && field.constants.length > 0 && !field.constants.includes(value)) {
    problems.push(`${path}: expected ${field.constants.map(constant => JSON.stringify(constant)).join(' or ')}, got ${shown(value)}`)
  }
}

function checkUnion(type: TypeSchema, value: unknown, path: string, problems: string[]): boolean {
  const attempts = type.subtypes.map(ref => {
    const found: string[] = []
    return checkRef(ref, value, path, found) ? undefined : found
  })
  if (attempts.includes(undefined)) return true
  // The subtype that fits best tells most about what is wrong.
  const best = attempts.filter(found => found !== undefined).sort((a, b) => a.length - b.length)[0] ?? []
  problems.push(...(best.length === 0 ? [`${path}: expected a ${type.name}, got ${shown(value)}`] : best))
  return false
}

function expect(holds: boolean, path: string, expected: string, value: unknown, problems: string[]): boolean {
  if (!holds) problems.push(`${path}: expected ${expected}, got ${shown(value)}`)
  return holds
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}
