/**
 * Bodies and secrets as every webhook needs them: raw bytes, bounded, and a comparison that tells nothing by its time.
 *
 * The limit is enforced on what arrives, not on what Content-Length says: a header that lies and a chunked body without one
 * are counted like any other, and reading stops at the first byte too many. Signatures are made over these bytes, so nothing
 * is decoded before they were checked.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { type Size, sizeBytes } from './duration.ts'
import { HoldfastError } from './errors.ts'

/** Default of every body limit (MISSION H1). */
export const BODY_LIMIT_DEFAULT: Size = '10mb'

/**
 * The whole body.
 * @throws HF_BODY_TOO_LARGE when it is longer than `limit` (default 10 MB), by its header or by what arrives
 * @throws HF_BODY_INVALID when its length is not the declared one, or the connection broke
 */
export async function readBody(request: Request, limit: Size = BODY_LIMIT_DEFAULT): Promise<Uint8Array> {
  const limitBytes = sizeBytes(limit, 'body limit')
  const declared = declaredLength(request)
  if (declared !== undefined && declared > limitBytes) throw tooLarge(limit)
  const chunks: Uint8Array[] = []
  let length = 0
  if (request.body !== null) {
    const reader = (request.body as ReadableStream<Uint8Array>).getReader()
    for (;;) {
      const part = await readPart(reader)
      if (part === undefined) break
      length += part.byteLength
      if (length > limitBytes) {
        // The sender may go on for ever; whether it can be told to stop does not matter, we stop listening.
        void reader.cancel().catch(() => undefined)
        throw tooLarge(limit)
      }
      chunks.push(part)
    }
  }
  if (declared !== undefined && declared !== length) throw invalid(`the body has ${String(length)} bytes, its header promised ${String(declared)}`)
  const body = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    body.set(chunk, offset)
    offset += chunk.byteLength
  }
  return body
}

/**
 * JSON out of raw bytes, which must be UTF-8.
 * @throws HF_BODY_INVALID
 */
export function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body)) as unknown
  } catch (error) {
    // The parser's message quotes the input, which is not ours to repeat.
    throw invalid('the body is not JSON in UTF-8', error)
  }
}

function declaredLength(request: Request): number | undefined {
  const header = request.headers.get('content-length')
  if (header === null) return undefined
  if (!/^\d{1,15}$/.test(header)) throw invalid('the Content-Length is not a number')
  return Number(header)
}

async function readPart(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<Uint8Array | undefined> {
  try {
    const { done, value } = await reader.read()
    return done ? undefined : value
  } catch (error) {
    throw invalid('the body ended before its end', error)
  }
}

function tooLarge(limit: Size): HoldfastError {
  return new HoldfastError('HF_BODY_TOO_LARGE', { message: `the body is larger than ${limit}`, context: { limit }, stackless: true })
}

function invalid(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError('HF_BODY_INVALID', { message, stackless: true, ...(cause === undefined ? {} : { cause }) })
}

/** Is `given` one of `secrets`? Takes the same time whatever differs, and looks at every secret. */
export function secretMatches(given: string | null | undefined, secrets: readonly string[]): boolean {
  // Digests have one length, so that neither length nor position of a difference shows in the time taken.
  const digest = createHash('sha256').update(given ?? '').digest()
  let matches = false
  for (const secret of secrets) {
    const same = timingSafeEqual(digest, createHash('sha256').update(secret).digest())
    matches = matches || (same && secret !== '')
  }
  return matches
}
