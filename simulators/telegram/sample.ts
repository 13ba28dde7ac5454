/**
 * Values that fit a type of the schema: what is required always, what is optional sometimes.
 *
 * Used for the replies of methods that the simulator only knows by their schema, and for updates of kinds that nobody
 * wrote a recipe for. Deterministic by the random stream. Depth is bounded: types of the Bot API contain each other.
 */
import type { SeededRandom } from '../kit/index.ts'
import { botApi, type FieldSchema, type TypeRef, type TypeSchema } from './schema.ts'

export interface SampleOptions {
  readonly random: SeededRandom
  /** Unix seconds for fields that are dates. */
  readonly date: number
  /** How often an optional field is filled in; 0 (default) gives the smallest value. */
  readonly optional?: number
}

const DEPTH_MAX = 5

/** One value of a named type, such as `Gift`. */
export function sample(name: string, options: SampleOptions): unknown {
  return sampleRef({ kind: 'named', name }, options, 0, undefined)
}

export function sampleRef(ref: TypeRef, options: SampleOptions, depth: number, field: FieldSchema | undefined): unknown {
  const { random } = options
  switch (ref.kind) {
    case 'integer': return integer(field?.name ?? '', options)
    case 'float': return field?.name === 'latitude' ? 55.75 : field?.name === 'longitude' ? 37.62 : random.int(0, 100) / 4
    case 'boolean': return field?.alwaysTrue === true || random.next() < 0.5
    case 'string': return text(field, random)
    case 'array': return Array.from({ length: depth >= DEPTH_MAX ? 0 : random.int(1, 2) }, () => sampleRef(ref.of, options, depth + 1, undefined))
    case 'named': {
      // By the id of one that is there already.
      if (ref.name === 'InputFile') return `file-${random.text(8)}`
      const type = botApi().types.get(ref.name)
      if (type === undefined) return {}
      if (ref.name === 'Chat') return { id: random.int(1_000, 9_999_999), type: 'private', first_name: 'Sample' }
      if (type.subtypes.length > 0) return sampleRef(pickSubtype(type, depth, random), options, depth, field)
      return object(type, options, depth)
    }
  }
}

function object(type: TypeSchema, options: SampleOptions, depth: number): Record<string, unknown> {
  const made: Record<string, unknown> = {}
  for (const field of type.fields.values()) {
    const wanted = field.required || (depth < 2 && options.optional !== undefined && options.random.next() < options.optional)
    const [first] = field.types
    if (wanted && first !== undefined) made[field.name] = sampleRef(first, options, depth + 1, field)
  }
  return made
}

/** Deep down, the subtype that contains least: a text where a text will do. */
function pickSubtype(type: TypeSchema, depth: number, random: SeededRandom): TypeRef {
  if (depth < 2) return random.pick(type.subtypes)
  const size = (ref: TypeRef): number => (ref.kind === 'named' ? 1 + [...botApi().types.get(ref.name)?.fields.values() ?? []].filter(field => field.required).length : ref.kind === 'array' ? 99 : 0)
  return [...type.subtypes].sort((a, b) => size(a) - size(b))[0] ?? { kind: 'string' }
}

function integer(name: string, { random, date }: SampleOptions): number {
  if (/(?:^|_)date$/.test(name)) return date
  if (/(?:^|_)id$/.test(name)) return random.int(1_000, 9_999_999)
  if (/width|height|length/.test(name)) return random.int(16, 1_280)
  return random.int(1, 60)
}

function text(field: FieldSchema | undefined, random: SeededRandom): string {
  if (field === undefined) return random.text(6)
  if (field.constants.length > 0) return random.pick(field.constants)
  if (/url|link/.test(field.name)) return `https://example.com/${random.text(6)}`
  if (field.name === 'currency') return 'XTR'
  if (/^(?:text|title|name|first_name|description|question)$/.test(field.name)) return `${field.name} ${random.text(5)}`
  return random.text(12)
}
