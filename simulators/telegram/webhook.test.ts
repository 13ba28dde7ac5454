import { beforeEach, describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from 'holdfast/testing'
import { telegramSimulator, type TelegramSimulator, type Update } from './index.ts'

interface Arrival { at: number; kind: string; id: number; text: string | undefined }

let env: SimulatedEnv
let telegram: TelegramSimulator
let arrivals: Arrival[]
let answer: (update: Update, request: Request) => Response | Promise<Response>

function build(options: { probe?: boolean } = {}): void {
  env = simulatedEnv({ seed: 1 })
  telegram = telegramSimulator({ env: env.process('outside'), seed: 1, webhook: { probe: options.probe ?? false } })
  arrivals = []
  answer = () => new Response('ok')
  env.serve('http://bot.test', async request => {
    const update = (await request.json()) as Update
    const kind = Object.keys(update).find(key => key !== 'update_id') ?? ''
    arrivals.push({ at: env.monotonic(), kind, id: update.update_id, text: (update['message'] as { text?: string } | undefined)?.text })
    return answer(update, request)
  })
  telegram.setWebhook('http://bot.test/hook', { secretToken: 's3cret' })
}

function times(): number[] {
  return arrivals.map(arrival => arrival.at / 1_000)
}

const never = (): Promise<Response> => new Promise(() => undefined)
const anna = (): ReturnType<TelegramSimulator['user']> => telegram.user({ id: 1, firstName: 'Anna' })
const boris = (): ReturnType<TelegramSimulator['user']> => telegram.user({ id: 2, firstName: 'Boris' })

beforeEach(() => { build() })

describe('a webhook that answers', () => {
  it('gets each update once, as JSON with the secret', async () => {
    let headers: Headers | undefined
    answer = (_update, request) => { headers = request.headers; return new Response('ok') }
    anna().send('one')
    await env.advance('1h')
    expect(arrivals).toMatchObject([{ kind: 'message', text: 'one' }])
    expect(headers?.get('x-telegram-bot-api-secret-token')).toBe('s3cret')
    expect(headers?.get('content-type')).toBe('application/json')
    expect(telegram.pendingUpdates).toBe(0)
  })

  it('may answer with a call, which is carried out; not with one that reads', async () => {
    anna().send('hello')
    answer = () => Response.json({ method: 'sendMessage', chat_id: 1, text: 'in reply' })
    await env.advance('1s')
    expect(anna().inbox.map(message => message.text)).toEqual(['in reply'])
    answer = () => Response.json({ method: 'deleteWebhook' })
    anna().send('again')
    await env.advance('1s')
    expect(telegram.state().webhook).toBe('http://bot.test/hook')
    expect(telegram.ledger.count('deleteWebhook')).toBe(0)
  })
})

describe('lanes', () => {
  it('hold the messages of one chat in order behind the one that is under way', async () => {
    let release: (response: Response) => void = () => undefined
    answer = () => new Promise(resolve => { release = resolve })
    anna().send('one')
    anna().send('two')
    await env.advance('5s')
    expect(arrivals.map(arrival => arrival.text)).toEqual(['one'])
    release(new Response('ok'))
    await env.settle()
    expect(arrivals.map(arrival => arrival.text)).toEqual(['one', 'two'])
  })

  it('do not hold other chats, nor the same user\'s buttons and payments', async () => {
    await telegram.call('sendMessage', { chat_id: anna().id, text: 'menu', reply_markup: { inline_keyboard: [[{ text: 'Buy', callback_data: 'buy' }]] } })
    await telegram.call('sendInvoice', { chat_id: 1, title: 'Plan', description: 'A plan', payload: 'o1', provider_token: 'p', currency: 'RUB', prices: [{ label: 'Plan', amount: 100 }] })
    answer = never
    anna().send('hangs')
    boris().send('flows')
    anna().press('Buy')
    void anna().pay()
    await env.settle()
    expect(arrivals.map(arrival => arrival.kind).sort()).toEqual(['callback_query', 'message', 'message', 'pre_checkout_query'])
  })

  it('run no more than max_connections at a time', async () => {
    telegram.setWebhook('http://bot.test/hook', { maxConnections: 3 })
    answer = never
    for (let id = 1; id <= 10; id += 1) telegram.user({ id, firstName: 'User' }).send('hi')
    await env.advance('1s')
    expect(arrivals).toHaveLength(3)
  })

  it('probe with one connection while nothing succeeded for 10 s, then open up', async () => {
    build({ probe: true })
    let release: (response: Response) => void = () => undefined
    answer = () => new Promise(resolve => { release = resolve })
    for (let id = 1; id <= 5; id += 1) telegram.user({ id, firstName: 'User' }).send('hi')
    await env.advance('3s')
    expect(arrivals).toHaveLength(1)
    answer = () => new Response('ok')
    release(new Response('ok'))
    await env.settle()
    expect(arrivals).toHaveLength(5)
  })
})

describe('a webhook that fails', () => {
  it('is asked again at once, then after 2, 4, 8 ... seconds, at most a random 60 to 120', async () => {
    answer = () => new Response('no', { status: 500 })
    anna().send('one')
    await env.advance('10m')
    expect(times().slice(0, 7)).toEqual([0, 0, 2, 6, 14, 30, 62])
    const gaps = times().slice(7).map((time, index) => time - (times()[index + 6] ?? 0))
    expect(gaps.length).toBeGreaterThan(3)
    for (const gap of gaps) {
      expect(gap).toBeGreaterThanOrEqual(60)
      expect(gap).toBeLessThanOrEqual(120)
    }
  })

  it.each([301, 401, 403, 404, 413])('is asked again after %i as well', async status => {
    answer = () => new Response(null, { status })
    anna().send('one')
    await env.advance('1s')
    expect(arrivals).toHaveLength(2)
  })

  it('is left alone for as long as its Retry-After says, at most an hour', async () => {
    answer = () => new Response('busy', { status: 503, headers: { 'retry-after': '7' } })
    anna().send('one')
    await env.advance('20s')
    expect(times()).toEqual([0, 7, 14])
    build()
    answer = () => new Response('busy', { status: 503, headers: { 'retry-after': '999999' } })
    anna().send('one')
    await env.advance('61m')
    expect(times()).toEqual([0, 3_600])
  })

  it('is given 60 s to answer; then the same update comes again', async () => {
    answer = never
    anna().send('one')
    await env.advance('59s')
    expect(arrivals).toHaveLength(1)
    await env.advance('2s')
    expect(arrivals).toHaveLength(2)
    expect(arrivals[0]?.id).toBe(arrivals[1]?.id)
    expect((await telegram.call('getWebhookInfo'))).toMatchObject({ result: { last_error_message: 'Read timeout expired', pending_update_count: 1 } })
  })

  it('that died with the request in its hands gets it again, once it lives again', async () => {
    const first = env.process('bot-1')
    env.serve('http://bot.test', async request => {
      arrivals.push({ at: env.monotonic(), kind: '', id: ((await request.json()) as Update).update_id, text: 'first' })
      await first.sleep(1_000)
      return new Response('ok')
    })
    anna().send('one')
    await env.advance(500)
    first.kill()
    env.serve('http://bot.test', async request => { arrivals.push({ at: env.monotonic(), kind: '', id: ((await request.json()) as Update).update_id, text: 'second' }); return new Response('ok') })
    await env.advance('2m')
    expect(arrivals.map(arrival => [arrival.text, arrival.at])).toEqual([['first', 0], ['second', 60_000]])
    expect(telegram.pendingUpdates).toBe(0)
  })

  it('keeps a message for 24 hours, a press and a pre-checkout for 150 s', async () => {
    await telegram.call('sendMessage', { chat_id: anna().id, text: 'menu', reply_markup: { inline_keyboard: [[{ text: 'Buy', callback_data: 'buy' }]] } })
    env.unserve('http://bot.test')
    anna().send('one')
    anna().press('Buy')
    await env.advance('151s')
    expect(telegram.state().updates).toMatchObject({ pending: 1, expired: 1 })
    await env.advance('23h')
    expect(telegram.state().updates.pending).toBe(1)
    await env.advance('1h')
    expect(telegram.state().updates).toMatchObject({ pending: 0, expired: 2 })
  })

  it('delivers what waited, in order, when it is back', async () => {
    env.unserve('http://bot.test')
    for (const text of ['one', 'two', 'three']) anna().send(text)
    await env.advance('20s')
    env.serve('http://bot.test', async request => { arrivals.push({ at: 0, kind: '', id: 0, text: ((await request.json()) as { message: { text: string } }).message.text }); return new Response('ok') })
    await env.advance('20s')
    expect(arrivals.map(arrival => arrival.text)).toEqual(['one', 'two', 'three'])
  })

  it('loses its registration after 23 hours of 410, and not before', async () => {
    answer = () => new Response('gone', { status: 410 })
    for (let id = 1; id < 5; id += 1) telegram.user({ id, firstName: 'User' }).send('hi')
    await env.advance('22h')
    expect(telegram.state().webhook).toBe('http://bot.test/hook')
    await env.advance('90m')
    expect(telegram.state().webhook).toBeUndefined()
  })
})

describe('faults on the way to the bot', () => {
  it('apply-then-drop: the bot has handled it and gets it again', async () => {
    telegram.faults.add({ match: { operation: 'webhook:*', times: 1 }, fault: { kind: 'apply-then-drop' } })
    anna().send('one')
    await env.advance('1s')
    expect(arrivals).toHaveLength(2)
    expect(new Set(arrivals.map(arrival => arrival.id)).size).toBe(1)
  })

  it('duplicate: twice in one go', async () => {
    telegram.faults.add({ match: { operation: 'webhook:message', times: 1 }, fault: { kind: 'duplicate' } })
    anna().send('one')
    await env.advance('1s')
    expect(arrivals).toHaveLength(2)
  })
})

describe('several instances, duplicates, raw updates', () => {
  it('delivers every update to both targets until the second is removed', async () => {
    const other: number[] = []
    env.serve('http://bot2.test', async request => { other.push(((await request.json()) as Update).update_id); return new Response('ok') })
    const second = telegram.alsoDeliverTo('http://bot2.test/hook')
    anna().send('one')
    await env.settle()
    second.remove()
    anna().send('two')
    await env.settle()
    expect(arrivals).toHaveLength(2)
    expect(other).toEqual([arrivals[0]?.id])
  })

  it('forgets what waits on reset, and both targets go on', async () => {
    const other: number[] = []
    env.serve('http://bot2.test', async request => { other.push(((await request.json()) as Update).update_id); return new Response('ok') })
    const second = telegram.alsoDeliverTo('http://bot2.test/hook')
    answer = never
    anna().send('under way')
    anna().send('waits')
    await env.settle()
    telegram.reset()
    answer = () => new Response('ok')
    boris().send('fresh')
    await env.advance('3m')
    expect(arrivals.map(arrival => arrival.text)).toEqual(['under way', 'fresh'])
    expect(telegram.pendingUpdates).toBe(0)
    second.remove()
    boris().send('again')
    await env.settle()
    expect(other).toHaveLength(3)
  })

  it('redelivers one update a hundred times at once', async () => {
    anna().send('one')
    await env.settle()
    const statuses = await telegram.redeliver(arrivals[0]?.id ?? 0, 100)
    expect(statuses).toEqual(Array.from({ length: 100 }, () => 200))
    expect(arrivals).toHaveLength(101)
  })

  it('queues any update and numbers it', async () => {
    const id = telegram.deliver({ poll: { id: '5', question: 'q', options: [], total_voter_count: 0, is_closed: false, is_anonymous: true, type: 'regular', allows_multiple_answers: false } })
    await env.settle()
    expect(arrivals).toMatchObject([{ kind: 'poll', id }])
  })
})

describe('setWebhook', () => {
  it('changes nothing when asked for the same, and is limited to one a second otherwise', async () => {
    expect(await telegram.call('setWebhook', { url: 'http://bot.test/other' })).toMatchObject({ ok: true, description: 'Webhook was set' })
    expect(await telegram.call('setWebhook', { url: 'http://bot.test/other' })).toMatchObject({ ok: true, description: 'Webhook is already set' })
    expect(await telegram.call('setWebhook', { url: 'http://bot.test/third' })).toMatchObject({ ok: false, error_code: 429, parameters: { retry_after: 1 } })
    await env.advance('1s')
    expect(await telegram.call('setWebhook', { url: 'http://bot.test/third', secret_token: 'not allowed' })).toMatchObject({ error_code: 400 })
  })

  it('leaves out the kinds that are only sent on request, and those that were not asked for', async () => {
    const reaction = { message_reaction: { chat: { id: 1, type: 'private' }, message_id: 1, date: 1, old_reaction: [], new_reaction: [] } }
    telegram.deliver(reaction)
    await env.settle()
    expect(arrivals).toHaveLength(0)
    telegram.setWebhook('http://bot.test/hook', { allowedUpdates: ['message_reaction'] })
    telegram.deliver(reaction)
    anna().send('not asked for')
    await env.settle()
    expect(arrivals.map(arrival => arrival.kind)).toEqual(['message_reaction'])
  })

  it('with drop_pending_updates throws away what waits, successful payments too', async () => {
    answer = () => new Response('no', { status: 500 })
    anna().send('one')
    await env.advance('1s')
    await telegram.call('setWebhook', { url: 'http://bot.test/hook', drop_pending_updates: true })
    expect(telegram.pendingUpdates).toBe(0)
  })
})

describe('getUpdates', () => {
  it('is refused while there is a webhook; afterwards it gets what waited, until confirmed', async () => {
    expect(await telegram.call('getUpdates')).toMatchObject({ ok: false, error_code: 409, description: expect.stringContaining('webhook is active') as string })
    await telegram.call('deleteWebhook')
    anna().send('one')
    const first = await telegram.call('getUpdates')
    expect(first).toEqual(await telegram.call('getUpdates'))
    const [update] = (first as { result: Update[] }).result
    expect(await telegram.call('getUpdates', { offset: (update?.update_id ?? 0) + 1 })).toEqual({ ok: true, result: [] })
  })

  it('waits for an update as long as asked, and ends an older poll with 409', async () => {
    await telegram.call('deleteWebhook')
    const older = telegram.call('getUpdates', { timeout: 30 })
    const newer = telegram.call('getUpdates', { timeout: 30 })
    expect(await older).toMatchObject({ ok: false, error_code: 409, description: expect.stringContaining('only one bot instance') as string })
    await env.advance('10s')
    anna().send('at last')
    expect((await newer as { result: Update[] }).result).toHaveLength(1)
  })
})

describe('stop', () => {
  it('leaves no timer and sends nothing more', async () => {
    answer = never
    anna().send('one')
    void anna().waitFor('x', '1s').catch(() => undefined)
    await env.advance('2s')
    telegram.stop()
    await env.settle()
    expect(env.pendingTimers).toBe(0)
    boris().send('nobody hears')
    await env.advance('2m')
    expect(arrivals).toHaveLength(1)
  })
})
