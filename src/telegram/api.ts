/**
 * Telegram's Bot API behind a guarded dependency: as a plain `call`, and as a grammY transformer.
 *
 * grammY's own client (with its real timers and its 500 s timeout) is not used: the request goes out by `env.fetch`,
 * within the dependency's deadline, breaker and concurrency limit. What sends is never repeated (Telegram has no
 * idempotency keys); what reads, answers, sets, edits or deletes may be. The token never appears in an error.
 * Not here: uploads (files go by id or URL), flood control (the outbox pauses its lanes).
 */
import type { Api, Transformer } from 'grammy'
import { HoldfastError, type Effect, type Env } from '../core/index.ts'
import { HttpStatusError, type Attempt, type Dependency } from '../guard/index.ts'
import { isHarmless, telegramError, type TelegramRefusal } from './errors.ts'

export interface TelegramApiOptions {
  /** `hold.dependency('telegram', ...)` */
  readonly dependency: Dependency
  readonly env: Env
  readonly token: string
  /** Default `https://api.telegram.org`. */
  readonly apiRoot?: string
}

export type TelegramAnswer = { readonly ok: true; readonly result: unknown } | TelegramRefusal

export interface TelegramApi {
  /**
   * One method of the Bot API. Answers in the Bot API's shape, "message is not modified" and its like as successes.
   * @throws HF_MESSAGE_UNREACHABLE, HF_RATE_LIMITED with `retryAfterMs`, and what `dependency.call` throws
   */
  call(method: string, payload: Readonly<Record<string, unknown>>, signal?: AbortSignal): Promise<TelegramAnswer>
}

const REPEATABLE = /^(answer|set|delete|edit|pin|unpin|ban|unban|restrict|promote|approve|decline|leave|close|reopen|stop|refund)/

/** May a method be repeated? What sends may not: each repetition is another message. */
export function effectOf(method: string): Effect {
  if (method.startsWith('get')) return 'read'
  return REPEATABLE.test(method) ? 'idempotent' : 'once'
}

export function telegramApi({ dependency, env, token, apiRoot = 'https://api.telegram.org' }: TelegramApiOptions): TelegramApi {
  const post = async (method: string, body: string, signal: AbortSignal): Promise<TelegramAnswer> => {
    let response: Response
    try {
      response = await env.fetch(`${apiRoot}/bot${token}/${method}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body, signal })
    } catch (error) {
      throw withoutToken(method, token, error)
    }
    const answer = await read(response)
    if (answer === undefined) throw new HttpStatusError(response, { what: `telegram ${method}`, now: env.now() })
    if (answer.ok) return answer
    if (answer.error_code >= 500) throw new HttpStatusError({ status: answer.error_code, headers: response.headers }, { what: `telegram ${method}`, now: env.now() })
    // A "no" is an answer about this request: no failure of Telegram's, and nothing that the breaker counts.
    return isHarmless(method, answer) ? { ok: true, result: true } : answer
  }
  return {
    async call(method, payload, signal) {
      const effect = effectOf(method)
      const body = JSON.stringify(payload)
      const caller = signal === undefined ? {} : { signal }
      const work = (attempt: Attempt): Promise<TelegramAnswer> => post(method, body, attempt.signal)
      const answer = await (effect === 'once' ? dependency.call(method, { effect, ...caller }, work) : dependency.call(method, { effect, ...caller }, work))
      const error = answer.ok ? undefined : telegramError(method, answer)
      if (error !== undefined) throw error
      return answer
    },
  }
}

/** Routes every call of a grammY `bot.api` (and of every `ctx.api`) through the guarded API. Returns the same api. */
export function guardedApi(api: Api, telegram: TelegramApi): Api {
  const transformer: Transformer = async (_previous, method, payload, signal) => {
    // grammY's signal is the standard one by another declaration, and so is its answer: `ok: false` becomes its GrammyError.
    const answer = await telegram.call(method, payload, signal as unknown as AbortSignal | undefined)
    return answer as never
  }
  api.config.use(transformer)
  return api
}

/** The answer, when it is one of the Bot API: a proxy's error page is none. */
async function read(response: Response): Promise<TelegramAnswer | undefined> {
  let body: unknown
  try {
    body = await response.json()
  } catch (error) {
    // An aborted body is the attempt's own ending; a body that is no JSON is judged by its status.
    if (error instanceof Error && error.name === 'AbortError') throw error
    if (response.ok) throw new HoldfastError('HF_CALL_FAILED', { message: `Telegram answered ${String(response.status)} with a body that is no JSON`, cause: error })
    return undefined
  }
  if (typeof body !== 'object' || body === null || !('ok' in body)) return undefined
  if (body.ok === true && 'result' in body) return { ok: true, result: body.result }
  const { error_code: code, description, parameters } = body as Partial<TelegramRefusal>
  if (body.ok !== false || typeof code !== 'number') return undefined
  return { ok: false, error_code: code, description: typeof description === 'string' ? description : '', ...(parameters === undefined ? {} : { parameters }) }
}

/** The token is part of the URL, and some runtimes put URLs into messages. The connection's code is kept: it says whether anything was sent. */
function withoutToken(method: string, token: string, error: unknown): unknown {
  if (error instanceof Error && error.name === 'AbortError') return error
  const cause: unknown = error instanceof Error ? error.cause : undefined
  const codeOf = (value: unknown): string | undefined => {
    const code = typeof value === 'object' && value !== null && 'code' in value ? value.code : undefined
    return typeof code === 'string' ? code : undefined
  }
  const code = codeOf(cause) ?? codeOf(error)
  const message = error instanceof Error ? error.message : String(error)
  return Object.assign(new Error(`telegram ${method}: ${message.replaceAll(token, '<token>')}`), { code: code ?? 'ECONNRESET' })
}
