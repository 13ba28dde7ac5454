/**
 * Takes secrets out of whatever is about to be written down.
 *
 * By value: every secret that was registered is replaced wherever it appears, also inside a URL, a message or a stack.
 * By key: what is called `token`, `password`, `secret`... is masked at any depth, whatever its value.
 * Peers that redact by path leak what lies one level deeper; see docs/DECISIONS.md.
 */

const SECRET_KEY = /^(?:.*[_-])?(?:token|secret|password|passwd|authorization|cookie|api[_-]?key|private[_-]?key|credential)s?$|(?:Token|Secret|Password|ApiKey|PrivateKey)$/
const MASK = '***'
/** Shorter values would blacken ordinary text. */
const SECRET_LENGTH_MIN = 6
const SECRETS_MAX = 1_000
const DEPTH_MAX = 8
const ITEMS_MAX = 100
const TEXT_MAX = 4_096

export interface Redactor {
  /** From now on this value is never written. Values shorter than 6 characters are ignored; 1000 at most are kept. */
  register(secret: string): void
  text(value: string): string
  /** A copy fit for JSON: secrets masked, depth and size bounded, errors as plain objects, cycles cut. */
  value(value: unknown): unknown
}

export function redactor(): Redactor {
  const secrets = new Set<string>()
  const text = (value: string): string => {
    let clean = value.length > TEXT_MAX ? `${value.slice(0, TEXT_MAX)}...` : value
    for (const secret of secrets) if (clean.includes(secret)) clean = clean.replaceAll(secret, MASK)
    return clean
  }
  const walk = (value: unknown, depth: number, seen: ReadonlySet<object>): unknown => {
    if (typeof value === 'string') return text(value)
    if (typeof value === 'bigint') return value.toString()
    if (typeof value !== 'object' || value === null) return typeof value === 'function' || typeof value === 'symbol' ? undefined : value
    if (seen.has(value)) return '[cycle]'
    if (depth > DEPTH_MAX) return '[deep]'
    const path = new Set(seen).add(value)
    if (value instanceof Error) return errorFields(value, depth, path)
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
    if ('toJSON' in value && typeof value.toJSON === 'function') return walk((value.toJSON as () => unknown)(), depth + 1, path)
    if (Array.isArray(value)) return value.slice(0, ITEMS_MAX).map(item => walk(item, depth + 1, path))
    const copy: Record<string, unknown> = {}
    for (const [key, item] of Object.entries(value).slice(0, ITEMS_MAX)) copy[key] = SECRET_KEY.test(key) && item !== undefined && item !== null ? MASK : walk(item, depth + 1, path)
    return copy
  }
  const errorFields = (error: Error, depth: number, seen: ReadonlySet<object>): Record<string, unknown> => ({
    type: error.name,
    message: text(error.message),
    ...('code' in error && typeof error.code === 'string' ? { code: error.code } : {}),
    ...(error.stack === undefined ? {} : { stack: text(error.stack) }),
    ...(error.cause === undefined ? {} : { cause: walk(error.cause, depth + 1, seen) }),
  })
  return {
    register: secret => {
      if (secret.length >= SECRET_LENGTH_MIN && secrets.size < SECRETS_MAX) secrets.add(secret)
    },
    text,
    value: value => walk(value, 0, new Set()),
  }
}
