import { Api, GrammyError } from 'grammy'
import { describe, expect, it } from 'vitest'
import { EventBus, isHoldfastError } from '../core/index.ts'
import { failureVerdict } from '../durable/index.ts'
import { dependency } from '../guard/index.ts'
import { simulatedEnv } from '../testing/simulated-env.ts'
import { effectOf, guardedApi, telegramApi } from './api.ts'

const TOKEN = '123456:SECRET-token'

function world(answer: (method: string, body: Record<string, unknown>) => Response | Promise<Response>) {
  const env = simulatedEnv({ seed: 1 })
  const calls: string[] = []
  env.serve('http://telegram.test', async request => {
    const method = new URL(request.url).pathname.replace(`/bot${TOKEN}/`, '')
    calls.push(method)
    return answer(method, await request.json() as Record<string, unknown>)
  })
  const guarded = dependency('telegram', { tier: 'degradable', runbook: 'telegram-down', deadline: '10s', timeout: '3s', retry: { attempts: 3 } }, { env, events: new EventBus(env) })
  const telegram = telegramApi({ dependency: guarded, env, token: TOKEN, apiRoot: 'http://telegram.test' })
  const api = guardedApi(new Api(TOKEN), telegram)
  /** Lets time pass until the call has ended, and says how. */
  const outcome = async <T>(call: Promise<T>): Promise<T | Error> => {
    let result: T | Error | undefined
    call.then(value => { result = value }, (error: unknown) => { result = error as Error })
    await env.until(() => result !== undefined, '60s')
    return result as T | Error
  }
  return { env, calls, api, telegram, guarded, outcome }
}
const no = (error_code: number, description: string, parameters?: object) => Response.json({ ok: false, error_code, description, parameters }, { status: error_code })

describe('the guarded api', () => {
  it('posts JSON and gives grammY what Telegram answered', async () => {
    const { api, outcome } = world((_, body) => Response.json({ ok: true, result: { message_id: 7, text: body['text'] } }))
    expect(await outcome(api.sendMessage(42, 'hello'))).toEqual({ message_id: 7, text: 'hello' })
  })

  it('never repeats what sends, and repeats what may be', async () => {
    const { api, calls, outcome } = world(() => new Response('bad gateway', { status: 502 }))
    expect(await outcome(api.sendMessage(42, 'x'))).toMatchObject({ code: 'HF_CALL_FAILED' })
    expect(calls).toEqual(['sendMessage'])
    await outcome(api.answerCallbackQuery('q'))
    expect(calls).toEqual(['sendMessage', 'answerCallbackQuery', 'answerCallbackQuery', 'answerCallbackQuery'])
  })

  it('tells a chat that cannot be reached from a request that was wrong', async () => {
    const blocked = world(() => no(403, 'Forbidden: bot was blocked by the user'))
    expect(await blocked.outcome(blocked.api.sendMessage(42, 'x'))).toMatchObject({ code: 'HF_MESSAGE_UNREACHABLE' })
    const gone = world(() => no(400, 'Bad Request: chat not found'))
    expect(await gone.outcome(gone.api.sendMessage(42, 'x'))).toMatchObject({ code: 'HF_MESSAGE_UNREACHABLE' })
    const wrong = world(() => no(400, 'Bad Request: message text is empty'))
    expect(await wrong.outcome(wrong.api.sendMessage(42, 'x'))).toBeInstanceOf(GrammyError)
  })

  it('passes on how long Telegram asks to wait, without waiting and without blaming Telegram', async () => {
    const { api, guarded, outcome, calls } = world(() => no(429, 'Too Many Requests: retry after 5329', { retry_after: 5_329 }))
    for (let i = 0; i < 10; i++) expect(await outcome(api.sendMessage(42, 'x'))).toMatchObject({ code: 'HF_RATE_LIMITED', retryAfterMs: 5_329_000 })
    expect(guarded.snapshot().state).toBe('closed')
    expect(calls).toHaveLength(10)
  })

  it('takes for done what was done already or is too late to matter', async () => {
    const { api, outcome } = world(method => no(400, method === 'editMessageText' ? 'Bad Request: message is not modified' : 'Bad Request: query is too old and response timeout expired or query ID is invalid'))
    expect(await outcome(api.editMessageText(42, 7, 'same'))).toBe(true)
    expect(await outcome(api.answerCallbackQuery('q'))).toBe(true)
  })

  it('gives up on a Telegram that hangs, and opens its breaker', async () => {
    const { api, guarded, outcome } = world(() => new Promise<Response>(() => undefined))
    for (let i = 0; i < 5; i++) expect(await outcome(api.sendMessage(42, 'x'))).toMatchObject({ code: 'HF_TIMEOUT' })
    expect(guarded.snapshot().state).toBe('open')
    expect(await outcome(api.sendMessage(42, 'x'))).toMatchObject({ code: 'HF_BREAKER_OPEN' })
  })

  it('keeps the token out of every error', async () => {
    const { env, api, outcome } = world(() => Response.json({}))
    env.unserve('http://telegram.test')
    const error = await outcome(api.sendMessage(42, 'x')) as Error
    const texts: string[] = []
    for (let inner: unknown = error; inner instanceof Error; inner = inner.cause) texts.push(`${inner.message} ${inner.stack ?? ''} ${JSON.stringify(inner)}`)
    expect(texts.length).toBeGreaterThan(1)
    expect(texts.join('\n')).not.toContain('SECRET')
  })
})

describe('what became of a message', () => {
  it.each([
    ['a refused connection', 'not-applied', undefined],
    ['an answer that came too late', 'ambiguous', () => new Promise<Response>(() => undefined)],
    ['a broken connection', 'ambiguous', () => { throw Object.assign(new TypeError('fetch failed'), { cause: { code: 'ECONNRESET' } }) }],
    ['a 502 in between', 'ambiguous', () => new Response('', { status: 502 })],
    ['a 429', 'not-applied', () => no(429, 'Too Many Requests', { retry_after: 1 })],
    ['a 400', 'refused', () => no(400, 'Bad Request: message text is empty')],
    ['a blocked bot', 'refused', () => no(403, 'Forbidden: bot was blocked by the user')],
  ])('after %s is %s', async (_, verdict, answer) => {
    const { env, api, outcome } = world(answer ?? (() => Response.json({})))
    if (answer === undefined) env.unserve('http://telegram.test')
    const error = await outcome(api.sendMessage(42, 'x'))
    expect(error).toBeInstanceOf(Error)
    expect(failureVerdict(error)).toBe(verdict)
  })

  it('after our own refusal is known', async () => {
    const { api, guarded, outcome } = world(() => Response.json({ ok: true, result: true }))
    guarded.force('open', { reason: 'test', by: 'test' })
    const error = await outcome(api.sendMessage(42, 'x'))
    expect(isHoldfastError(error) && error.code).toBe('HF_BREAKER_OPEN')
    expect(failureVerdict(error)).toBe('not-applied')
  })
})

it('only what changes nothing or can be done again may be repeated', () => {
  expect(effectOf('getChat')).toBe('read')
  for (const method of ['answerPreCheckoutQuery', 'setWebhook', 'deleteMessage', 'editMessageText']) expect(effectOf(method)).toBe('idempotent')
  for (const method of ['sendMessage', 'sendInvoice', 'forwardMessage', 'copyMessage', 'createInvoiceLink', 'somethingNew']) expect(effectOf(method)).toBe('once')
})
