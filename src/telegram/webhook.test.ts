import { describe, expect, it } from 'vitest'
import { EventBus, HoldfastError } from '../core/index.ts'
import type { InboxMessage } from '../durable/index.ts'
import { simulatedEnv } from '../testing/simulated-env.ts'
import { telegramWebhook } from './webhook.ts'

function webhook(claim: (message: InboxMessage) => Promise<'new' | 'duplicate'>) {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const said: string[] = []
  events.onAny(event => { said.push(event.name) })
  const claimed: InboxMessage[] = []
  const handler = telegramWebhook({ secret: 's3cret', events, inbox: { claim: async message => { claimed.push(message); return claim(message) } } })
  const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}, method = 'POST') =>
    handler(new Request('http://bot.test/hook', { method, headers: { 'x-telegram-bot-api-secret-token': 's3cret', ...headers }, ...(method === 'GET' ? {} : { body }) }))
  return { post, claimed, said }
}
const message = JSON.stringify({ update_id: 9, message: { message_id: 1, date: 1, chat: { id: 42, type: 'private' }, from: { id: 42, is_bot: false, first_name: 'Anna' }, text: 'hi' } })

describe('an update', () => {
  it('is claimed before it is acknowledged', async () => {
    let claim: (() => void) | undefined
    const { post, claimed } = webhook(() => new Promise(resolve => { claim = () => { resolve('new') } }))
    let status: number | undefined
    const answered = post(message).then(response => { status = response.status })
    while (claim === undefined) await new Promise(resolve => { setImmediate(resolve) })
    expect(status).toBeUndefined()
    claim()
    await answered
    expect(status).toBe(200)
    expect(claimed).toEqual([{ source: 'telegram', id: '9', lane: 'user:42', priority: 100, payload: JSON.parse(message) as unknown }])
  })

  it('that came before is acknowledged, too', async () => {
    const { post } = webhook(async () => 'duplicate')
    expect((await post(message)).status).toBe(200)
  })

  it.each([
    new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' }), new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: 'lost' }), new Error('a defect'),
  ])('is sent again later when it could not be claimed: %s', async error => {
    const { post, said } = webhook(() => Promise.reject(error))
    const response = await post(message)
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(said).toEqual(['handler.failed'])
  })
})

it('that comes while the instance stops is refused without an alarm: nothing has failed', async () => {
  const { post, said } = webhook(async () => { throw new HoldfastError('HF_STOPPING', { message: 'draining' }) })
  const response = await post(message)
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2'])
  expect(said).toEqual(['handler.refused'])
})

describe('what is no update', () => {
  it.each([
    ['another method', 405, { method: 'GET' }],
    ['no secret', 401, { headers: { 'x-telegram-bot-api-secret-token': '' } }],
    ['a wrong secret', 401, { headers: { 'x-telegram-bot-api-secret-token': 's3cret2' } }],
    ['a wrong secret and a broken body', 401, { headers: { 'x-telegram-bot-api-secret-token': 'x' }, body: '{' }],
    ['a body of more than a megabyte', 413, { body: `{"update_id":1,"x":"${'x'.repeat(1_048_576)}"}` }],
    ['broken JSON', 400, { body: '{"update_id":1' }],
    ['bytes that are no text', 400, { body: new Uint8Array([0xff, 0xfe, 0x7b]) }],
    ['no body', 400, { body: '' }],
    ['a list', 400, { body: '[{"update_id":1}]' }],
    ['null', 400, { body: 'null' }],
    ['no update_id', 400, { body: '{"message":{}}' }],
    ['an update_id that is no integer', 400, { body: '{"update_id":1.5}' }],
    ['an update_id in quotes', 400, { body: '{"update_id":"1"}' }],
  ] as const)('(%s) is answered with %i and changes nothing', async (_, status, request: { method?: string; headers?: Record<string, string>; body?: string | Uint8Array<ArrayBuffer> }) => {
    const { post, claimed, said } = webhook(async () => 'new')
    const response = await post(request.body ?? message, request.headers, request.method)
    expect(response.status).toBe(status)
    expect(claimed).toEqual([])
    expect(said).toEqual(['handler.refused'])
  })
})

it('cannot be made with a secret that Telegram would not send', () => {
  for (const secret of ['', 'has space', 'ä', 'x'.repeat(257)]) expect(() => telegramWebhook({ inbox: { claim: async () => 'new' }, secret })).toThrow(/secret/)
})
