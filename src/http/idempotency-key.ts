/**
 * The `Idempotency-Key` request header, as draft-ietf-httpapi-idempotency-key-header-07 writes it: a structured-field
 * string, `"8e03978e-40d5-43dd-bc93-6894a57f9324"`.
 *
 * Most clients (Stripe's among them) send the bare token, so that is taken too and means the same key. Anything else is
 * refused rather than guessed at: two requests whose keys are read differently by two versions would both take effect.
 */
import { HoldfastError } from '../core/index.ts'

export const IDEMPOTENCY_KEY_HEADER = 'idempotency-key' as const

/** As Stripe: long enough for every UUID and hash, short enough for an index. */
export const IDEMPOTENCY_KEY_LENGTH_MAX = 255 as const

/** RFC 9651 §3.3.3: printable ASCII, with backslash before quote and backslash. No parameters: the draft defines none. */
const QUOTED = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"$/
/** A token with the signs of base64, URLs and paths. A comma is none: that is how two headers of this name look. */
const BARE = /^[A-Za-z0-9!#$%&'*+.^_`|~:/=@-]+$/

/**
 * The key of a request; undefined when it carries none.
 * @throws HF_IDEMPOTENCY_KEY_INVALID for an empty, overlong, repeated or otherwise malformed one
 */
export function idempotencyKeyOf(request: Request): string | undefined {
  const header = request.headers.get(IDEMPOTENCY_KEY_HEADER)
  if (header === null) return undefined
  const text = header.trim()
  const key = BARE.test(text) ? text : QUOTED.exec(text)?.[1]?.replace(/\\(["\\])/g, '$1')
  if (key === undefined) throw invalid('is no quoted string and no token')
  if (key === '') throw invalid('is empty')
  if (key.length > IDEMPOTENCY_KEY_LENGTH_MAX) throw invalid(`has ${String(key.length)} characters, ${String(IDEMPOTENCY_KEY_LENGTH_MAX)} at most are taken`)
  return key
}

export function missingKey(): HoldfastError {
  return new HoldfastError('HF_IDEMPOTENCY_KEY_INVALID', { message: 'this operation requires an Idempotency-Key header: a new one for each operation, the same one for each attempt', stackless: true })
}

function invalid(what: string): HoldfastError {
  return new HoldfastError('HF_IDEMPOTENCY_KEY_INVALID', { message: `the Idempotency-Key ${what}; send a quoted string such as "8e03978e-40d5-43dd-bc93-6894a57f9324"`, stackless: true })
}
