/**
 * An HTTP answer as it is kept for replays, and a request as it is kept for being carried out again.
 *
 * Both are plain JSON and bounded. Bodies come back byte for byte: text that is UTF-8 is kept as text, so that a person
 * can read a record, anything else as base64. Only named headers are kept: the others may hold secrets or belong to one
 * connection.
 */
import { HoldfastError, type Json } from '../core/index.ts'

/** One of the two. A type and no interface: only types are JSON by structure. */
export type KeptBody = { readonly text: string } | { readonly base64: string }

export type KeptAnswer = {
  readonly status: number
  readonly headers: { readonly [name: string]: string }
  /** Null: an answer without a body (204). */
  readonly body: KeptBody | null
}

export type KeptRequest = {
  readonly tenant: string
  /** As the client sent it. */
  readonly key: string
  readonly method: string
  readonly url: string
  readonly headers: { readonly [name: string]: string }
  readonly body: KeptBody
}

/** Statuses that have no body, which `Response` insists on. */
const BODILESS: ReadonlySet<number> = new Set([101, 204, 205, 304])

/**
 * Reads an answer to its end.
 * @throws HF_ANSWER_TOO_LARGE beyond `limitBytes`; what the answer's own stream throws
 */
export async function keepAnswer(response: Response, names: readonly string[], limitBytes: number): Promise<KeptAnswer> {
  return { status: response.status, headers: pick(response.headers, names), body: response.body === null ? null : keepBody(await readAnswer(response.body as ReadableStream<Uint8Array>, limitBytes)) }
}

/** The answer again; `replayed` is said in a header, as Stripe does. */
export function answerOf(kept: KeptAnswer, replayed: boolean): Response {
  const body = kept.body === null || BODILESS.has(kept.status) ? null : bytesOf(kept.body)
  return new Response(body, { status: kept.status, headers: { ...kept.headers, ...(replayed ? { 'idempotency-replayed': 'true' } : {}) } })
}

export function keepBody(bytes: Uint8Array): KeptBody {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) }
  } catch {
    // Not UTF-8: an image, a gzipped body.
    return { base64: Buffer.from(bytes).toString('base64') }
  }
}

export function bytesOf(body: KeptBody): Uint8Array<ArrayBuffer> {
  return new Uint8Array('text' in body ? new TextEncoder().encode(body.text) : Buffer.from(body.base64, 'base64'))
}

/** A web-standard request with what was kept, so that a handler sees the same now and when it is carried out again. */
export function requestOf(kept: KeptRequest): Request {
  const bytes = bytesOf(kept.body)
  return new Request(kept.url, { method: kept.method, headers: kept.headers, body: bytes.byteLength === 0 ? null : bytes })
}

export function pick(headers: Headers, names: readonly string[]): { readonly [name: string]: string } {
  return Object.fromEntries(names.flatMap(name => {
    const value = headers.get(name)
    return value === null ? [] : [[name.toLowerCase(), value]]
  }))
}

/** A kept request was written by this library and comes out of its own record. */
export function isKeptRequest(value: unknown): value is KeptRequest {
  const { tenant, key, method, url, headers, body } = (value ?? {}) as Readonly<Record<string, Json | undefined>>
  return [tenant, key, method, url].every(each => typeof each === 'string') && typeof headers === 'object' && typeof body === 'object'
}

async function readAnswer(stream: ReadableStream<Uint8Array>, limitBytes: number): Promise<Uint8Array> {
  const reader = stream.getReader()
  const chunks: Uint8Array[] = []
  let length = 0
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return Buffer.concat(chunks)
    length += value.byteLength
    if (length > limitBytes) {
      // Whatever makes the body may go on for ever, and cannot say anything of use any more.
      void reader.cancel().catch(() => undefined)
      throw new HoldfastError('HF_ANSWER_TOO_LARGE', { message: `the answer is larger than the ${String(limitBytes)} bytes that are kept for replays`, context: { limitBytes } })
    }
    chunks.push(value)
  }
}
