/**
 * One JSON request to a partner: what was answered, as a value; what was no answer, as an error the guard understands.
 */
import { type Attempt, HttpStatusError } from 'holdfast/guard'
import { type Env, HoldfastError } from 'holdfast/core'

export interface JsonRequest {
  readonly url: string
  readonly method?: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  /** Names the call in errors, without secrets. */
  readonly what: string
}

export interface JsonAnswer {
  readonly status: number
  /** Undefined when the body was empty. */
  readonly body: unknown
}

/**
 * Answers with any status below 500 but 408, 425 and 429.
 * @throws HttpStatusError for those and for 5xx; HF_CALL_FAILED for a body that is no JSON (cut off, an error page):
 *   whether the effect happened is then unknown, and an idempotent call may be made again.
 */
export async function requestJson(env: Env, attempt: Attempt, request: JsonRequest): Promise<JsonAnswer> {
  const response = await env.fetch(request.url, {
    method: request.method ?? 'GET',
    headers: { accept: 'application/json', ...(request.body === undefined ? {} : { 'content-type': 'application/json' }), ...request.headers },
    signal: attempt.signal,
    ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
  })
  if (response.status >= 500 || [408, 425, 429].includes(response.status)) throw new HttpStatusError(response, { what: request.what, now: env.now() })
  const text = await response.text()
  if (text === '') return { status: response.status, body: undefined }
  try {
    return { status: response.status, body: JSON.parse(text) as unknown }
  } catch (error) {
    throw new HoldfastError('HF_CALL_FAILED', { message: `${request.what}: status ${String(response.status)} with a body that is no JSON`, cause: error })
  }
}
