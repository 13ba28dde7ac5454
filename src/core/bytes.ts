/**
 * Bodies and secrets as every webhook needs them: read a body that may be hostile, compare a secret without telling
 * how much of it was right.
 *
 * Promise: never more than `limitBytes` are held, whatever the sender declares or sends.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { HoldfastError } from './errors.ts'

/**
 * The body, exactly as it was sent (signatures are over these bytes, not over what a parser makes of them).
 * @throws HF_BODY_TOO_LARGE when it declares or turns out to be longer than `limitBytes`; the rest is not read.
 */
export async function readBody(request: Request, limitBytes: number): Promise<Uint8Array> {
  const tooLarge = (): HoldfastError => new HoldfastError('HF_BODY_TOO_LARGE', {
    message: `the request body is longer than ${String(limitBytes)} bytes`,
    context: { limitBytes },
    stackless: true,
  })
  if (Number(request.headers.get('content-length') ?? 0) > limitBytes) {
    await request.body?.cancel()
    throw tooLarge()
  }
  if (request.body === null) return new Uint8Array(0)
  const chunks: Uint8Array[] = []
  let length = 0
  const reader = (request.body as ReadableStream<Uint8Array>).getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    length += value.byteLength
    if (length > limitBytes) {
      await reader.cancel()
      throw tooLarge()
    }
    chunks.push(value)
  }
  const body = new Uint8Array(length)
  let offset = 0
  for (const chunk of chunks) {
    body.set(chunk, offset)
    offset += chunk.byteLength
  }
  return body
}

/**
 * Are the two the same? Takes the same time whatever the difference: both are hashed first, so that not even the
 * length shows. A missing secret is never the same as anything, an empty one neither.
 */
export function sameSecret(got: string | Uint8Array | null | undefined, expected: string | Uint8Array): boolean {
  if (got === null || got === undefined || got.length === 0 || expected.length === 0) return false
  const digest = (value: string | Uint8Array): Buffer => createHash('sha256').update(value).digest()
  return timingSafeEqual(digest(got), digest(expected))
}
