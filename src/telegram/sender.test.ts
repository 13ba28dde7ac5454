import { describe, expect, it } from 'vitest'
import { EventBus, type Json } from '../core/index.ts'
import { failureVerdict } from '../durable/index.ts'
import { dependency } from '../guard/index.ts'
import { simulatedEnv } from '../testing/simulated-env.ts'
import { telegramApi } from './api.ts'
import { telegramSender } from './sender.ts'

function sender(answer: ((body: Record<string, unknown>) => Response | Promise<Response>) | 'unreachable') {
  const env = simulatedEnv({ seed: 1 })
  const sent: Record<string, unknown>[] = []
  if (answer !== 'unreachable') {
    env.serve('http://telegram.test', async request => {
      const body = await request.json() as Record<string, unknown>
      sent.push(body)
      return answer(body)
    })
  }
  const guarded = dependency('telegram', { tier: 'degradable', runbook: 'r', timeout: '3s' }, { env, events: new EventBus(env) })
  const blocked: string[] = []
  const send = telegramSender({
    telegram: telegramApi({ dependency: guarded, env, token: '1:t', apiRoot: 'http://telegram.test' }),
    unreachable: async chatId => { blocked.push(chatId); throw new Error('the store is away') },
  })
  const outcome = async (): Promise<unknown> => {
    let result: unknown
    const message = { lane: 'chat:42', topic: 'telegram', onceKey: 'k', attempt: 1, payload: { method: 'sendMessage', args: { chat_id: '42', text: 'hi' } } as Json }
    send(message, { signal: new AbortController().signal, key: 'k', untilMs: Infinity }).then(value => { result = value }, (error: unknown) => { result = failureVerdict(error) })
    await env.until(() => result !== undefined, '60s')
    return result
  }
  return { outcome, sent, blocked, guarded }
}
const no = (error_code: number, description: string, parameters?: object) => Response.json({ ok: false, error_code, description, parameters }, { status: error_code })

describe('a kept message', () => {
  it('is sent', async () => {
    const { outcome, sent } = sender(() => Response.json({ ok: true, result: {} }))
    expect(await outcome()).toEqual({ kind: 'sent' })
    expect(sent).toEqual([{ chat_id: '42', text: 'hi' }])
  })

  it('to a customer who blocked the bot is dead, and the customer is reported, even if that fails', async () => {
    const { outcome, blocked } = sender(() => no(403, 'Forbidden: bot was blocked by the user'))
    expect(await outcome()).toMatchObject({ kind: 'dead' })
    expect(blocked).toEqual(['42'])
  })

  it.each([3, 117, 5_329])('that comes too fast pauses its chat for the %i s that Telegram asks for', async seconds => {
    const { outcome } = sender(() => no(429, `Too Many Requests: retry after ${String(seconds)}`, { retry_after: seconds }))
    expect(await outcome()).toMatchObject({ kind: 'retry', pause: 'lane', afterMs: seconds * 1_000 })
  })

  it('that Telegram refuses for what it says is dead', async () => {
    const { outcome } = sender(() => no(400, 'Bad Request: can\'t parse entities'))
    expect(await outcome()).toMatchObject({ kind: 'dead', reason: expect.stringContaining('parse entities') as unknown })
  })

  it('whose answer got lost is unknown', async () => {
    expect(await sender(() => new Promise<Response>(() => undefined)).outcome()).toBe('ambiguous')
    expect(await sender(() => new Response('', { status: 502 })).outcome()).toBe('ambiguous')
  })

  it('waits with all others while Telegram surely is not reached, and costs no attempt', async () => {
    expect(await sender('unreachable').outcome()).toMatchObject({ kind: 'retry', pause: 'all' })
    const { outcome, guarded } = sender(() => Response.json({ ok: true, result: {} }))
    guarded.force('open', { reason: 'test', by: 'test', forMs: 60_000 })
    expect(await outcome()).toMatchObject({ kind: 'retry', pause: 'all' })
  })

  it('follows a group that became a supergroup', async () => {
    const { outcome, sent } = sender(body => (body['chat_id'] === '42' ? no(400, 'Bad Request: group chat was upgraded to a supergroup chat', { migrate_to_chat_id: -1_001 }) : Response.json({ ok: true, result: {} })))
    expect(await outcome()).toEqual({ kind: 'sent' })
    expect(sent.map(body => body['chat_id'])).toEqual(['42', -1_001])
  })
})
