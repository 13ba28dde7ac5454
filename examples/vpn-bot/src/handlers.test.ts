import { readdirSync } from 'node:fs'
import { fixtureUpdates, generateUpdates } from 'holdfast-simulators/telegram'
import { describe, expect, it } from 'vitest'
import { runInMemory, world } from './bench.ts'

async function open() {
  const outside = world()
  const troubles: string[] = []
  const trouble = (level: string) => (fields: object, message: string): void => { troubles.push(`${level} ${message} ${JSON.stringify(fields)}`) }
  const bot = await runInMemory(outside, { log: { debug: () => undefined, info: () => undefined, warn: trouble('warn'), error: trouble('error') } })
  return { outside, bot, troubles }
}

describe('whatever Telegram sends', () => {
  it('is answered with 2xx, crashes nothing and logs no error: every fixture and 400 generated updates', async () => {
    const { outside, bot, troubles } = await open()
    const updates = [...fixtureUpdates().map(({ update }) => update), ...generateUpdates({ seed: 3, count: 400 })]
    expect(updates.length).toBeGreaterThanOrEqual(400 + readdirSync(new URL('../../../simulators/telegram/data/updates/', import.meta.url)).filter(name => name.endsWith('.json')).length)
    const statuses = new Map<number, number>()
    for (const update of updates) void outside.telegram.post(update).then(({ status }) => { statuses.set(status, (statuses.get(status) ?? 0) + 1) })
    await outside.env.advance('2m')
    expect([...statuses]).toEqual([[200, updates.length]])
    // A charge that is not ours alerts a person, as it must; nothing else may be an error.
    expect(troubles.filter(line => line.startsWith('error') && !line.startsWith('error ALERT fact: Charge card:'))).toEqual([])
    const { work } = await bot.app.hold.status()
    expect(work.filter(item => item.kind === 'inbox')).toEqual([])
    // And it is still alive.
    const anna = outside.telegram.user({ id: 42, firstName: 'Anna' })
    anna.command('/start')
    await outside.env.advance('1s')
    expect(anna.last?.text).toContain('Hello')
  })

  it.each([
    ['a photo', { photo: [{ file_id: 'f', file_unique_id: 'u', width: 1, height: 1 }] }, /a photo/], ['a sticker', { sticker: { file_id: 'f', file_unique_id: 'u', type: 'regular', width: 1, height: 1, is_animated: false, is_video: false } }, /a sticker/],
    ['a voice message', { voice: { file_id: 'f', file_unique_id: 'u', duration: 1 } }, /a voice message/], ['a video', { video: { file_id: 'f', file_unique_id: 'u', width: 1, height: 1, duration: 1 } }, /a video/],
    ['an animation', { animation: { file_id: 'f', file_unique_id: 'u', width: 1, height: 1, duration: 1 }, document: { file_id: 'f', file_unique_id: 'u' } }, /a file|an animation/], ['a poll', { poll: { id: '1', question: 'q', options: [], total_voter_count: 0, is_closed: false, is_anonymous: true, type: 'regular', allows_multiple_answers: false } }, /a poll/],
    ['a contact', { contact: { phone_number: '1', first_name: 'x' } }, /a contact/], ['a location', { location: { latitude: 1, longitude: 1 } }, /a location/], ['dice', { dice: { emoji: '🎲', value: 1 } }, /dice/],
    ['chatter', { text: 'what is this?' }, /\/help/], ['a command that does not exist', { text: '/frobnicate', entities: [{ type: 'bot_command', offset: 0, length: 11 }] }, /\/help/],
    ['an admin command from a customer', { text: '/admin', entities: [{ type: 'bot_command', offset: 0, length: 6 }] }, /\/help/],
  ])('(%s) that it cannot use gets a friendly reply', async (_, content, expected) => {
    const { outside, troubles } = await open()
    const anna = outside.telegram.user({ id: 42, firstName: 'Anna', languageCode: 'en' })
    outside.telegram.deliver({ message: { message_id: 5, date: 1, chat: { id: 42, type: 'private', first_name: 'Anna' }, from: { id: 42, is_bot: false, first_name: 'Anna', language_code: 'en' }, ...content } })
    anna.command('/help')
    await outside.env.advance('2s')
    expect(anna.inbox.map(message => message.text).join('\n')).toMatch(expected)
    expect(troubles).toEqual([])
  })

  it('(an old button) is answered', async () => {
    const { outside } = await open()
    const anna = outside.telegram.user({ id: 42, firstName: 'Anna' })
    anna.command('/start')
    await outside.env.advance('1s')
    const pressed = anna.pressOn(anna.last?.messageId ?? 0, 'menu:v1:premium')
    await outside.env.advance('1s')
    expect(await pressed.answered).toMatchObject({ text: expect.stringContaining('old') as unknown })
  })

  it('(in a group) is not talked into', async () => {
    const { outside, troubles } = await open()
    outside.telegram.group({ id: -100, title: 'Friends' })
    outside.telegram.deliver({ message: { message_id: 5, date: 1, chat: { id: -100, type: 'supergroup', title: 'Friends' }, from: { id: 42, is_bot: false, first_name: 'Anna' }, text: 'hello everybody' } })
    await outside.env.advance('2s')
    expect(outside.telegram.ledger.count('sendMessage')).toBe(0)
    expect(troubles).toEqual([])
  })

  it('a customer whose update hits a defect is told a code, and the next one works', async () => {
    const { outside, bot, troubles } = await open()
    const { hold } = bot.app
    const transaction = hold.transaction.bind(hold)
    Object.assign(hold, { transaction: (name: string, work: never, options: never) => (name === 'shop.status' ? Promise.reject(new TypeError('x is undefined')) : transaction(name, work, options)) })
    const anna = outside.telegram.user({ id: 42, firstName: 'Anna', languageCode: 'en' })
    anna.command('/status')
    await outside.env.advance('2s')
    const code = /tg-\d+/.exec(anna.last?.text ?? '')?.[0] ?? 'none'
    expect(troubles.filter(line => line.startsWith('error') && line.includes(code))).toHaveLength(1)
    anna.command('/key')
    await outside.env.advance('2s')
    expect(anna.last?.text).toContain('no key yet')
  })
})

describe('an admin', () => {
  const begin = async () => {
    const bench = await open()
    const { outside } = bench
    outside.admin.command('/start')
    await outside.env.advance('1s')
    const anna = outside.telegram.user({ id: 42, firstName: 'Anna', languageCode: 'en' })
    anna.command('/plans')
    await outside.env.advance('1s')
    for (const press of [/^1 month/, /By card/]) {
      anna.press(press)
      await outside.env.advance('2s')
    }
    void anna.pay()
    await outside.env.advance('10s')
    expect(outside.panel.keys()).toHaveLength(1)
    return { ...bench, anna }
  }
  const ask = async (bench: Awaited<ReturnType<typeof begin>>, command: string, argument = '') => {
    bench.outside.admin.command(command, argument)
    await bench.outside.env.advance('2s')
    return bench.outside.admin.last?.text ?? ''
  }

  it('sees how everything is', async () => {
    const text = await ask(await begin(), '/admin')
    for (const word of ['vpn-panel: closed', 'payments: on', 'active 1', 'owed to customers: 0.00 RUB']) expect(text).toContain(word)
  })

  it('flips a switch with a reason, and not without', async () => {
    const bench = await begin()
    await ask(bench, '/admin', 'off payments')
    expect(bench.bot.app.definitions.switches.payments.on).toBe(true)
    expect(await ask(bench, '/admin', 'off payments 30m provider is down')).toContain('switched off for 30 min')
    expect(bench.bot.app.definitions.switches.payments.on).toBe(false)
    expect((await bench.bot.app.hold.status()).flags.find(flag => flag.name === 'payments')?.because).toContain('telegram:7')
    expect(await ask(bench, '/admin', 'off paymnts because')).toContain('there is')
    await ask(bench, '/admin', 'on payments provider is back')
    expect(bench.bot.app.definitions.switches.payments.on).toBe(true)
  })

  it('is refused while admin actions are switched off, and after ten within a minute', async () => {
    const bench = await begin()
    const actor = { id: 'test', via: 'code' } as const
    await bench.bot.app.hold.command('flag.set', { target: 'adminActions', args: { on: false }, actor, reason: 'test' })
    expect(await ask(bench, '/admin')).toContain('switched off')
    await bench.bot.app.hold.command('flag.set', { target: 'adminActions', args: { on: true }, actor, reason: 'test' })
    for (let i = 0; i < 10; i++) bench.outside.admin.command('/admin', 'help')
    expect(await ask(bench, '/admin', 'help')).toMatch(/Too many .* again in \d+ s/)
  })

  it('revokes access by a ticket and a second tap; the key is gone, and only then the status says so', async () => {
    const bench = await begin()
    expect(await ask(bench, '/revoke', '42')).toContain('Delete the VPN key of customer 42')
    expect(bench.outside.panel.keys()).toHaveLength(1)
    bench.outside.admin.press(/Delete the key/)
    await bench.outside.env.advance('5s')
    expect(bench.outside.panel.keys()).toEqual([])
    expect((await bench.bot.snapshot()).subscriptions[0]?.status).toBe('revoked')
    bench.anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(bench.anna.last?.text).toContain('has ended')
  })

  it('who taps twice revokes once', async () => {
    const bench = await begin()
    await ask(bench, '/revoke', '42')
    const message = bench.outside.admin.last
    const data = message?.buttons.flat().find(button => /Delete/.test(button.text))?.data ?? ''
    const taps = [1, 2].map(() => bench.outside.admin.pressOn(message?.messageId ?? 0, data))
    await bench.outside.env.advance('5s')
    expect((await Promise.all(taps.map(tap => tap.answered))).map(answer => answer?.text)).toEqual([undefined, 'This was confirmed already.'])
    expect(bench.outside.panel.ledger.count('deleteUser')).toBe(1)
  })

  it('other than the one who asked, or too late, or no admin at all, confirms nothing', async () => {
    const bench = await begin()
    await ask(bench, '/revoke', '42')
    const message = bench.outside.admin.last
    const data = message?.buttons.flat().find(button => /Delete/.test(button.text))?.data ?? ''
    const foreign = bench.anna.pressOn(bench.anna.inbox[0]?.messageId ?? 0, data)
    await bench.outside.env.advance('2s')
    expect((await foreign.answered)?.text).toBe('This is for admins.')
    await bench.outside.env.advance('3m')
    const late = bench.outside.admin.pressOn(message?.messageId ?? 0, data)
    await bench.outside.env.advance('2s')
    expect((await late.answered)?.text).toContain('expired')
    expect(bench.outside.panel.keys()).toHaveLength(1)
  })

  it('who changes his mind changes nothing', async () => {
    const bench = await begin()
    await ask(bench, '/revoke', '42')
    bench.outside.admin.press(/Cancel/)
    await bench.outside.env.advance('2s')
    expect(bench.outside.panel.keys()).toHaveLength(1)
    expect(bench.outside.admin.last?.text).toContain('nothing was changed')
  })
})
