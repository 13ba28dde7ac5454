import { request as httpRequest } from 'node:http'
import { realEnv } from 'holdfast/core'
import { memory, memoryDisk } from 'holdfast/memory'
import { fixtureUpdates, generateUpdates, type TelegramSimulator, type Update } from 'holdfast-simulators/telegram'
import { describe, expect, it } from 'vitest'
import { MESSAGE_KINDS } from '../../../simulators/telegram/message-kinds.ts'
import { TELEGRAM_PATH } from './app.ts'
import { runInMemory, world } from './bench.ts'
import { ensureBuilt } from './crash/built.ts'
import { openOutside, SECRET } from './crash/outside.ts'
import { startProgram } from './crash/program.ts'
import { embeddedStores } from './crash/stores.ts'
import { languageOf, TEXTS } from './texts.ts'

interface Person { readonly id: number; readonly first_name: string; readonly language_code?: string }
interface MessageIn extends Readonly<Record<string, unknown>> {
  readonly chat: { readonly id: number; readonly type: string; readonly first_name?: string }
  readonly from?: Person
  readonly successful_payment?: { readonly telegram_payment_charge_id: string }
  readonly refunded_payment?: { readonly telegram_payment_charge_id: string }
}

const UPDATES: readonly Update[] = [...fixtureUpdates().map(({ update }) => update), ...generateUpdates({ seed: 7, count: 300 })]
const messageOf = (update: Update): MessageIn | undefined => update['message'] as MessageIn | undefined
/** What customers send that a shop has no use for; by the field that makes it what it is, the most telling first. */
const MEDIA = ['photo', 'video', 'video_note', 'voice', 'audio', 'animation', 'document', 'sticker', 'contact', 'venue', 'location', 'dice', 'game', 'poll', 'story'] as const

/** Everybody who writes is somebody: Telegram refuses messages to chats that it does not know. */
function introduce(telegram: TelegramSimulator, updates: readonly Update[]): void {
  for (const update of updates) {
    const message = messageOf(update)
    if (message?.chat.type !== 'private') continue
    telegram.user({ id: message.chat.id, firstName: message.from?.first_name ?? 'Somebody', ...(message.from?.language_code === undefined ? {} : { languageCode: message.from.language_code }) })
  }
}

/** What must be said louder than information about these updates, sorted: charges that are none of ours, and refunds. */
function expectedTroubles(updates: readonly Update[]): readonly string[] {
  return updates.flatMap(update => {
    const { successful_payment: paid, refunded_payment: refunded } = messageOf(update) ?? {}
    if (paid !== undefined) return [`ALERT Charge card:${paid.telegram_payment_charge_id} foreign`, `Charge card:${paid.telegram_payment_charge_id} foreign`]
    return refunded === undefined ? [] : [`charge card:${refunded.telegram_payment_charge_id} refunded`]
  }).sort()
}

/** A line of the log, reduced to what the expectation says; anything else stays as it is, and is not expected. */
function reduced(message: string): string {
  const charge = /^(?:warn: )?(ALERT )?(?:fact: )?([Cc]harge card:\S+).*?(: foreign|was refunded)/.exec(message)
  return charge === null ? message : `${charge[1] ?? ''}${charge[2] ?? ''} ${charge[3] === 'was refunded' ? 'refunded' : 'foreign'}`
}

async function bench() {
  const outside = world({ seed: 5 })
  const disk = memoryDisk()
  const warnings: string[] = []
  const errors: string[] = []
  const bot = await runInMemory(outside, {
    store: memory(disk),
    log: { debug: () => undefined, info: () => undefined, warn: (_, message) => { warnings.push(message) }, error: (_, message) => { errors.push(message) } },
  })
  // The workers' first look is over: from here on only updates change anything.
  await outside.env.advance('1s')
  return { outside, bot, disk, warnings, errors }
}

describe('updates of every kind', () => {
  it('are enough, and among them is each kind of message that Telegram is known to send, and each kind of update', () => {
    const generated = generateUpdates({ seed: 7, count: 300 })
    expect(generated.length).toBeGreaterThanOrEqual(200)
    expect(fixtureUpdates().length).toBeGreaterThanOrEqual(10)
    const first = generateUpdates({ seed: 7, count: Object.keys(MESSAGE_KINDS).length })
    expect(first.every(update => messageOf(update) !== undefined)).toBe(true)
    const kinds = new Set(generated.flatMap(update => Object.keys(update)))
    for (const kind of ['message', 'edited_message', 'channel_post', 'callback_query', 'pre_checkout_query', 'shipping_query', 'inline_query', 'my_chat_member', 'message_reaction', 'poll', 'chat_join_request']) expect(kinds).toContain(kind)
    expect(generated.filter(update => messageOf(update)?.successful_payment !== undefined).length).toBeGreaterThan(2)
    expect(generated.filter(update => messageOf(update)?.refunded_payment !== undefined).length).toBeGreaterThan(0)
  })

  it('are answered 2xx, crash nothing and log no error; exactly the charges that are none of ours and the refunds are told', async () => {
    const { outside, bot, warnings, errors } = await bench()
    introduce(outside.telegram, UPDATES)
    const statuses: number[] = []
    for (const update of UPDATES) void outside.telegram.post(update).then(({ status }) => { statuses.push(status) })
    await outside.env.advance('3m')
    expect(statuses).toHaveLength(UPDATES.length)
    expect(statuses.filter(status => status < 200 || status > 299)).toEqual([])
    expect(errors).toEqual([])
    expect(warnings.map(reduced).sort()).toEqual(expectedTroubles(UPDATES))
    const { work } = await bot.app.hold.status()
    expect(work).toEqual([])
    const { payments } = await bot.snapshot()
    expect(new Set(payments.map(payment => payment.outcome))).toEqual(new Set(['foreign']))
    expect(await bot.broken({ atRest: false })).toEqual(payments.map(payment => `payment ${payment.key} is on record and was never charged`))
  })

  it('that a shop has no use for get one friendly reply each, in the customer\'s language, that names what came', async () => {
    const { outside } = await bench()
    const media = UPDATES.flatMap(update => {
      const message = messageOf(update)
      const kind = message === undefined ? undefined : MEDIA.find(name => name in message)
      // Random samples of the whole message put together what never comes together.
      return message?.chat.type === 'private' && message.chat.first_name !== 'Sample' && message.from !== undefined && kind !== undefined ? [{ update, message, kind }] : []
    })
    expect(new Set(media.map(({ kind }) => kind)).size).toBeGreaterThanOrEqual(12)
    introduce(outside.telegram, UPDATES)
    for (const { update, message, kind } of media) {
      const before = outside.telegram.inboxOf(message.chat.id).length
      void outside.telegram.post(update)
      await outside.env.advance('2s')
      const replies = outside.telegram.inboxOf(message.chat.id).slice(before)
      const texts = TEXTS[languageOf(message.from?.language_code)]
      // A venue is a location, too: either name is right.
      const names = kind === 'venue' ? ['venue', 'location'] : [kind]
      expect(names.map(name => texts.notUnderstood(texts.kinds[name] ?? '')), JSON.stringify(message).slice(0, 300)).toContain(replies.map(reply => reply.text).join(' | '))
    }
  })
})

const refusals = (): readonly (readonly [what: string, status: number, request: Request])[] => {
  const url = `http://bot.test${TELEGRAM_PATH}`
  const secret = { 'x-telegram-bot-api-secret-token': 'simulated-webhook-secret' }
  const update = JSON.stringify({ update_id: 1, message: { message_id: 1, date: 1, chat: { id: 1, type: 'private' }, from: { id: 1, is_bot: false, first_name: 'A' }, text: '/start' } })
  const post = (body: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>, headers: Readonly<Record<string, string>> = secret): Request => new Request(url, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body, duplex: 'half' })
  const endless = (): ReadableStream<Uint8Array> => new ReadableStream({ pull: controller => { controller.enqueue(new Uint8Array(65_536).fill(0x20)) } })
  return [
    ['broken JSON', 400, post('{"update_id": 1, "message"')],
    ['an empty body', 400, post('')],
    ['no update_id', 400, post('{"message":{}}')],
    ['an update_id that is no number', 400, post('{"update_id":"1"}')],
    ['an update_id beyond what a number can hold', 400, post('{"update_id":99999999999999999999}')],
    ['an array', 400, post('[1,2]')],
    ['null', 400, post('null')],
    ['bytes that are no text', 400, post(new Uint8Array([0xff, 0xfe, 0x00]))],
    ['the wrong secret', 401, post(update, { 'x-telegram-bot-api-secret-token': 'simulated-webhook-secreT' })],
    ['no secret', 401, post(update, {})],
    ['an empty secret', 401, post(update, { 'x-telegram-bot-api-secret-token': '' })],
    ['a body that is too long', 413, post(JSON.stringify({ update_id: 1, text: 'x'.repeat(1_100_000) }))],
    ['a body that says it is too long', 413, post(update, { ...secret, 'content-length': '2000000' })],
    ['a body without an end and without a length', 413, post(endless())],
    ['GET', 405, new Request(url, { headers: secret })],
    ['PUT', 405, new Request(url, { method: 'PUT', headers: secret, body: update })],
  ]
}

describe('what is no update of Telegram\'s', () => {
  it.each(refusals().map(([what, status]) => [what, status] as const))('(%s) is answered %i and changes nothing', async (what, status) => {
    const { outside, bot, disk, warnings, errors } = await bench()
    const request = refusals().find(([name]) => name === what)?.[2]
    if (request === undefined) throw new Error('no such refusal')
    const before = JSON.stringify(disk.snapshot())
    const response = await bot.app.fetch(request, { remoteAddress: '203.0.113.7' })
    expect(response.status).toBe(status)
    await response.text()
    expect(JSON.stringify(disk.snapshot())).toBe(before)
    expect(outside.telegram.ledger.count('sendMessage')).toBe(0)
    expect([...warnings, ...errors]).toEqual([])
  })

  it('control: the same update with the secret is taken, and the store has changed', async () => {
    const { bot, disk } = await bench()
    const before = JSON.stringify(disk.snapshot())
    const [, , refused] = refusals().find(([what]) => what === 'no secret') ?? []
    if (refused === undefined) throw new Error('no such refusal')
    const request = new Request(refused, { headers: { ...Object.fromEntries(refused.headers), 'x-telegram-bot-api-secret-token': 'simulated-webhook-secret' } })
    expect((await bot.app.fetch(request, { remoteAddress: '203.0.113.7' })).status).toBe(200)
    expect(JSON.stringify(disk.snapshot())).not.toBe(before)
  })
})

describe('a real process with real sockets on the embedded database', () => {
  it('takes all updates and refuses what is none; nothing but what must be told is told', async () => {
    const env = realEnv()
    await ensureBuilt(env)
    const outside = await openOutside(env, 3)
    const stores = embeddedStores(env)
    const program = await startProgram(env, { port: outside.port, store: await stores.fresh(0), config: outside.config, leaseFor: '60s' })
    try {
      introduce(outside.telegram, UPDATES)
      const queue = [...UPDATES]
      const statuses: number[] = []
      await Promise.all(Array.from({ length: 8 }, async () => {
        for (let update = queue.shift(); update !== undefined; update = queue.shift()) statuses.push((await outside.telegram.post(update)).status)
      }))
      expect(statuses.filter(status => status !== 200)).toEqual([])
      let seen = await program.look()
      for (let waited = 0; waited < 60_000 && seen?.open !== 0; waited += 200) {
        await env.sleep(200)
        seen = await program.look()
      }
      expect(seen?.open).toBe(0)
      expect(seen?.stuck).toEqual([])
      expect(program.ended).toBeUndefined()
      expect(program.log.map(line => reduced(line.replace(/ \{"event":.*$/s, ''))).sort()).toEqual(expectedTroubles(UPDATES))

      const before = JSON.stringify(seen?.snapshot)
      expect(await rawPost(outside.port, { headers: { 'x-telegram-bot-api-secret-token': SECRET, 'transfer-encoding': 'chunked' }, megabytes: 4 })).toBe(413)
      expect(await rawPost(outside.port, { headers: { 'x-telegram-bot-api-secret-token': SECRET, 'content-length': String(4 * 1_048_576) }, megabytes: 4 })).toBe(413)
      expect(await rawPost(outside.port, { headers: { 'transfer-encoding': 'chunked' }, megabytes: 0 })).toBe(401)
      expect(JSON.stringify((await program.look())?.snapshot)).toBe(before)
    } finally {
      await program.kill()
      await outside.close()
      await stores.close()
    }
  }, 240_000)
})

/** The status of a POST whose sender goes on sending whatever the answer is; asked again where the cut came before the answer was read. */
async function rawPost(port: number, options: { readonly headers: Readonly<Record<string, string>>; readonly megabytes: number }): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await rawPostOnce(port, options)
    } catch (error) {
      const cut = ['EPIPE', 'ECONNRESET'].includes((error as NodeJS.ErrnoException).code ?? '')
      if (!cut || attempt >= 10) throw error
    }
  }
}

function rawPostOnce(port: number, { headers, megabytes }: { readonly headers: Readonly<Record<string, string>>; readonly megabytes: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    const sending = httpRequest({ host: '127.0.0.1', port, path: TELEGRAM_PATH, method: 'POST', headers, agent: false }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    // The connection may be cut while we still send; the answer came before.
    sending.on('error', reject)
    for (let sent = 0; sent < megabytes * 16; sent += 1) sending.write(Buffer.alloc(65_536, 0x20))
    sending.end()
  })
}
