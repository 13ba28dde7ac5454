/**
 * Arrays of PostgreSQL, to and from their text.
 *
 * The driver would fetch the array types by itself when it connects; when the connection is cut in that very moment, the
 * rejection of its fetch is nobody's, and ends the process. So it does not, and we ask where somebody waits for the answer.
 */
/** What the driver knows of types. */
export interface DriverTypes {
  readonly parsers: Record<number, (text: string) => unknown>
  readonly serializers: Record<number, (value: unknown) => string>
  /** From a type to the type of its arrays. */
  readonly shared: { readonly typeArrayMap: Record<number, number> }
}

/** Every array type with the type of its elements. */
export const ARRAY_TYPES = 'SELECT typarray AS oid, oid AS element, typdelim AS delimiter FROM pg_catalog.pg_type WHERE typarray <> 0'

export interface ArrayType {
  readonly oid: number
  readonly element: number
  readonly delimiter: string
}

/** Makes results of these types arrays, and arrays parameters of them (for who hands the driver arrays, not ArrayParameters). */
export function learnArrays(types: DriverTypes, arrays: readonly ArrayType[]): void {
  for (const { oid, element, delimiter } of arrays) {
    const parse = types.parsers[element] ?? (text => text)
    types.parsers[oid] ??= text => parseArray(text, parse, delimiter)
    types.serializers[oid] ??= value => (Array.isArray(value) ? arrayText(value) : String(value))
    types.shared.typeArrayMap[element] ??= oid
  }
}

/** A parameter that is an array: of PostgreSQL or JSON, as the server's type of it demands, which only the driver learns. */
export class ArrayParameter {
  readonly json: string
  readonly #text: string

  /** Both are written here: what can't be written must throw before the driver has begun. */
  constructor(items: readonly unknown[], json: string) {
    this.json = json
    this.#text = arrayText(items)
  }

  toString(): string {
    return this.#text
  }
}

function arrayText(items: readonly unknown[]): string {
  return `{${items.map(itemText).join(',')}}`
}

function itemText(item: unknown): string {
  if (item === undefined || item === null) return 'NULL'
  if (Array.isArray(item)) return arrayText(item)
  return `"${plainText(item).replace(/["\\]/g, '\\$&')}"`
}

function plainText(item: unknown): string {
  if (item instanceof Date) return item.toISOString()
  if (item instanceof Uint8Array) return `\\x${Buffer.from(item).toString('hex')}`
  if (typeof item === 'symbol' || typeof item === 'function') throw new TypeError(`a ${typeof item} is no parameter`)
  if (typeof item === 'object') return JSON.stringify(item)
  const rest = item as string | number | bigint | boolean
  return String(rest)
}

/** `{1,NULL,"a \"b\"",{2,3}}`, also with bounds in front (`[0:1]={...}`). */
export function parseArray(text: string, item: (text: string) => unknown, delimiter = ','): unknown[] {
  let at = text.indexOf('{')
  const list = (): unknown[] => {
    const items: unknown[] = []
    at++
    while (at < text.length && text[at] !== '}') {
      if (text[at] === '{') items.push(list())
      else if (text[at] === '"') items.push(item(quoted()))
      else items.push(bare())
      if (text[at] === delimiter) at++
    }
    at++
    return items
  }
  const quoted = (): string => {
    let content = ''
    for (at++; text[at] !== '"'; at++) {
      if (text[at] === '\\') at++
      content += text[at] ?? ''
    }
    at++
    return content
  }
  const bare = (): unknown => {
    const from = at
    while (at < text.length && text[at] !== delimiter && text[at] !== '}') at++
    const content = text.slice(from, at)
    return content === 'NULL' ? null : item(content)
  }
  return list()
}
