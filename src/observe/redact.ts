/**
 * Takes secrets out of whatever is about to be written down.
 *
 * By value: every secret that was registered is replaced wherever it appears, also URL- or JSON-encoded, as a key, in a stack.
 * By key: what is called `token`, `password`, `secret`... is masked at any depth, whatever its value.
 * By shape: credentials in URLs, Bearer tokens, Telegram bot tokens, `password=`, registered or not.
 * Peers that redact by path leak what lies one level deeper; see docs/DECISIONS.md. Not here: personal data.
 */

/** The last word of a key, after `apiKey` became `api-key`. */
const SECRET_KEY = /(?:^|[-_. ])(?:token|secret|password|passwd|passphrase|authorization|cookie|api[-_ ]?key|private[-_ ]?key|secret[-_ ]?key|access[-_ ]?key|credential)s?$/
const MASK = '***'
/** Shorter values would blacken ordinary text. */
const SECRET_LENGTH_MIN = 6
const SECRETS_MAX = 1_000
const DEPTH_MAX = 8
const ITEMS_MAX = 100
const TEXT_MAX = 4_096
/** How much of a long text is looked at, and how much of its end is then left out: a secret that the cut went through has no shape left. */
const LOOKED_AT_MAX = 16_384
const EDGE_MAX = 4_096
const CUT = '...'
const UNREADABLE = '[unreadable]'

/** What gives a secret away by how it looks: a hint that is cheap to look for (lower case), the shape, and what is written in its place. */
const SHAPES: readonly (readonly [hint: string, shape: RegExp, instead: string])[] = [
  // `postgres://user:pw@host`, `https://token@host`; a password may hold a raw slash, a port may not be taken for one.
  ['://', /:\/\/[^\s/?#]*@/g, `://${MASK}@`],
  ['://', /:\/\/[^\s:/?#@[]*:(?!\d{1,5}(?:[/?#\s]|$))\S*@/g, `://${MASK}@`],
  ['/bot', /\/bot\d+(?::|%3a)[^\s/?#]+/gi, `/bot${MASK}`],
  [':', /\b\d{6,12}:[\w-]{30,}/g, MASK],
  ['bearer', /\bBearer\s+[^\s"',;]{8,}/gi, `Bearer ${MASK}`],
  ['authorization', /(\bauthorization["']?\s*[:=]\s*["']?(?:[a-z]+\s+)?)[^\s"',;]{6,}/gi, `$1${MASK}`],
  ['=', /([?&][\w.-]*(?:token|secret|password|passwd|signature|sig|api[-_]?key)=)[^\s&#"']+/gi, `$1${MASK}`],
  ['"', /("[\w.-]*(?:token|secret|password|passwd|api[-_]?key)"\s*:\s*")(?:[^"\\]|\\.)+/gi, `$1${MASK}`],
  ['=', /(\b(?:password|passwd|pwd)=)[^\s&;"']+/gi, `$1${MASK}`],
]

export interface Redactor {
  /** From now on this value is never written, nor are its URL- and JSON-encoded forms. 6 to 4096 characters, others are ignored; 1000 at most are kept. */
  register(secret: string): void
  /** At most 4096 characters. */
  text(value: string): string
  /** A copy fit for JSON: secrets masked, depth and size bounded, errors as plain objects, cycles cut. Never throws. */
  value(value: unknown): unknown
}

export function redactor(): Redactor {
  // Longest first: a secret that contains another must not leave its rest behind.
  let secrets: readonly string[] = []
  let registered = 0

  const mask = (value: string): string => {
    let clean = value
    for (const secret of secrets) if (clean.includes(secret)) clean = clean.replaceAll(secret, MASK)
    const lower = clean.toLowerCase()
    for (const [hint, shape, instead] of SHAPES) if (lower.includes(hint)) clean = clean.replace(shape, instead)
    return clean
  }
  const text = (value: string): string => {
    const whole = value.length <= LOOKED_AT_MAX
    const masked = mask(whole ? value : value.slice(0, LOOKED_AT_MAX))
    const shown = whole ? masked : masked.slice(0, Math.max(0, masked.length - EDGE_MAX))
    if (whole && shown.length <= TEXT_MAX) return shown
    return `${shown.slice(0, TEXT_MAX)}${CUT}`
  }
  const walk = (value: unknown, depth: number, seen: ReadonlySet<object>): unknown => {
    if (typeof value === 'string') return text(value)
    if (typeof value === 'bigint') return value.toString()
    if (typeof value !== 'object' || value === null) return typeof value === 'function' || typeof value === 'symbol' ? undefined : value
    if (seen.has(value)) return '[cycle]'
    if (depth > DEPTH_MAX) return '[deep]'
    try {
      return copyOf(value, depth, new Set(seen).add(value))
    } catch {
      // A getter or a toJSON of somebody else threw: the line is written without it.
      return UNREADABLE
    }
  }
  const copyOf = (value: object, depth: number, path: ReadonlySet<object>): unknown => {
    if (value instanceof Error) return errorFields(value, depth, path)
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
    // Bytes may be a key, and nobody reads them in a log.
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${String(value.byteLength)} bytes]`
    if ('toJSON' in value && typeof value.toJSON === 'function') return walk((value.toJSON as () => unknown)(), depth + 1, path)
    if (Array.isArray(value)) return value.slice(0, ITEMS_MAX).map(item => walk(item, depth + 1, path))
    const copy: Record<string, unknown> = {}
    for (const [key, item] of Object.entries(value).slice(0, ITEMS_MAX)) copy[text(key)] = isSecretKey(key) && hides(item) ? MASK : walk(item, depth + 1, path)
    return copy
  }
  const errorFields = (error: Error, depth: number, path: ReadonlySet<object>): Record<string, unknown> => ({
    type: text(error.name),
    message: text(error.message),
    ...('code' in error && typeof error.code === 'string' ? { code: text(error.code) } : {}),
    ...(error.stack === undefined ? {} : { stack: text(error.stack) }),
    ...(error.cause === undefined ? {} : { cause: walk(error.cause, depth + 1, path) }),
    ...(error instanceof AggregateError ? { errors: walk(error.errors, depth + 1, path) } : {}),
  })
  return {
    register: secret => {
      if (secret.length < SECRET_LENGTH_MIN || secret.length > EDGE_MAX || secrets.includes(secret) || registered >= SECRETS_MAX) return
      registered += 1
      secrets = [...new Set([...secrets, secret, urlEncoded(secret), JSON.stringify(secret).slice(1, -1)])].sort((a, b) => b.length - a.length)
    },
    text,
    value: value => walk(value, 0, new Set()),
  }
}

function isSecretKey(key: string): boolean {
  return SECRET_KEY.test(key.replace(/([a-z0-9])([A-Z])/g, '$1-$2').toLowerCase())
}

/** `hasToken: true` hides nothing. */
function hides(value: unknown): boolean {
  return value !== undefined && value !== null && typeof value !== 'boolean'
}

function urlEncoded(secret: string): string {
  try {
    return encodeURIComponent(secret)
  } catch {
    // Half of a surrogate pair has no encoding; nobody can put it into a URL either.
    return secret
  }
}
