import type { MemoryTx } from 'holdfast/memory'
import { describe, expect, it } from 'vitest'
import { type Running, runInMemory, world, type World } from './bench.ts'
import { subscriptionIdOf } from './shop/ids.ts'

interface Bench { readonly outside: World; readonly bot: Running<MemoryTx>; readonly facts: string[]; readonly troubles: string[] }

async function open(seed = 1): Promise<Bench> {
  const outside = world({ seed })
  const facts: string[] = []
  const troubles: string[] = []
  const log = {
    debug: () => undefined, info: () => undefined,
    warn: (fields: object, message: string) => { troubles.push(`warn ${message} ${JSON.stringify(fields)}`) },
    error: (fields: object, message: string) => { troubles.push(`error ${message} ${JSON.stringify(fields)}`) },
  }
  const bot = await runInMemory(outside, { log })
  bot.app.hold.events.on('app.fact', ({ data }) => { facts.push(data.fact) })
  return { outside, bot, facts, troubles }
}
const customer = ({ outside }: Bench, id = 42, languageCode = 'en') => outside.telegram.user({ id, firstName: 'Anna', languageCode })

/** From /start to the invoice. */
async function choose(bench: Bench, how: RegExp, id = 42) {
  const anna = customer(bench, id)
  anna.command('/start')
  await bench.outside.env.advance('1s')
  for (const press of [/See the plans/, /^1 month/, how]) {
    anna.press(press)
    await bench.outside.env.advance('1s')
  }
  await bench.outside.env.advance('1s')
  return anna
}
/** Pays and lets time pass until the customer knows how it ended. */
async function pay(bench: Bench, anna: ReturnType<typeof customer>, options: Parameters<typeof anna.pay>[0] = {}) {
  const payment = anna.pay(options)
  await bench.outside.env.advance('12s')
  return payment
}
async function buyByCard(bench: Bench, id = 42) {
  const anna = await choose(bench, /By card/, id)
  expect(await pay(bench, anna)).toMatchObject({ outcome: 'charged' })
  return anna
}
async function expectAtRest({ outside, bot }: Bench) {
  expect(await bot.broken({ atRest: true })).toEqual([])
  for (const user of outside.telegram.users()) expect(outside.deliveries(user.id)).toBeLessThanOrEqual(outside.charges().length)
}
const subscriptionOf = async ({ bot }: Bench, id = 42) => (await bot.snapshot()).subscriptions.find(item => item.id === subscriptionIdOf(String(id)))
const keys = ({ outside }: Bench) => outside.panel.keys().map(user => user.username)

describe('a purchase', () => {
  it('by card ends with one charge, one subscription, one key, one message, and /key answers with it', async () => {
    const bench = await open()
    const anna = await buyByCard(bench)
    await expectAtRest(bench)
    expect(bench.outside.telegram.charges).toHaveLength(1)
    expect(keys(bench)).toHaveLength(1)
    expect(bench.outside.deliveries(42)).toBe(1)
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain(bench.outside.panel.keys()[0]?.links[0])
    expect(bench.facts).toEqual(['payment.ok'])
    expect(bench.troubles).toEqual([])
    await bench.bot.app.stop()
  })

  it('by crypto ends the same way', async () => {
    const bench = await open()
    const anna = await choose(bench, /By crypto/)
    bench.outside.cryptoPay.pay(anna.button(/Pay/)?.url ?? '')
    await bench.outside.env.advance('5s')
    await expectAtRest(bench)
    expect(keys(bench)).toHaveLength(1)
    expect(bench.outside.deliveries(42)).toBe(1)
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain('vless://')
    expect(bench.troubles).toEqual([])
  })

  it('in Russian for a Russian', async () => {
    const bench = await open()
    const boris = customer(bench, 43, 'ru')
    boris.command('/start')
    await bench.outside.env.advance('1s')
    for (const press of [/Посмотреть цены/, /^1 месяц/, /Картой/]) {
      boris.press(press)
      await bench.outside.env.advance('1s')
    }
    await pay(bench, boris)
    expect(boris.last?.text).toContain('Ваш ключ')
  })

  it('twice in a row extends one key', async () => {
    const bench = await open()
    const anna = await buyByCard(bench)
    const first = await subscriptionOf(bench)
    await choose(bench, /By card/)
    await pay(bench, anna)
    await expectAtRest(bench)
    expect(await subscriptionOf(bench)).toMatchObject({ generation: 1, expiresAt: (first?.expiresAt ?? 0) + 30 * 86_400_000 })
    expect(bench.outside.panel.keys().map(user => user.expire)).toEqual([Math.ceil(((first?.expiresAt ?? 0) + 30 * 86_400_000) / 1_000)])
    expect(bench.outside.deliveries(42)).toBe(2)
  })
})

describe('before the charge', () => {
  it('payments that are switched off are refused at pre-checkout, and nobody is charged', async () => {
    const bench = await open()
    const anna = await choose(bench, /By card/)
    await bench.bot.app.hold.command('flag.set', { target: 'payments', args: { on: false }, actor: { id: 'test', via: 'code' }, reason: 'test' })
    expect(await pay(bench, anna)).toMatchObject({ outcome: 'refused', message: expect.stringContaining('paused') as unknown })
    expect(bench.outside.charges()).toEqual([])
    const pressed = anna.pressOn(anna.inbox.find(message => message.buttons.length > 0)?.messageId ?? 0, 'pay:card:m1')
    await bench.outside.env.advance('1s')
    expect(await pressed.answered).toMatchObject({ text: expect.stringContaining('paused') as unknown })
  })

  it('an order that another one took the place of is refused', async () => {
    const bench = await open()
    const anna = await choose(bench, /By card/)
    const old = anna.inbox.find(message => message.invoice !== undefined)
    await choose(bench, /By card/)
    expect(await pay(bench, anna, { message: old?.messageId ?? 0 })).toMatchObject({ outcome: 'refused', message: expect.stringContaining('no longer valid') as unknown })
    expect(await pay(bench, anna)).toMatchObject({ outcome: 'charged' })
    await expectAtRest(bench)
  })

  it('an order that is paid already is refused', async () => {
    const bench = await open()
    const anna = await buyByCard(bench)
    expect(await pay(bench, anna)).toMatchObject({ outcome: 'refused', message: expect.stringContaining('paid already') as unknown })
  })

  it('the answer comes within 10 s even when the check hangs: a refusal, and nobody is charged', async () => {
    const bench = await open()
    const anna = await choose(bench, /By card/)
    const { hold } = bench.bot.app
    const transaction = hold.transaction.bind(hold)
    Object.assign(hold, { transaction: (name: string, work: never, options: never) => (name === 'shop.pre-checkout' ? new Promise(() => undefined) : transaction(name, work, options)) })
    expect(await pay(bench, anna)).toMatchObject({ outcome: 'refused' })
    expect(bench.outside.charges()).toEqual([])
  })

  it('the sixth invoice within a minute is refused with the exact wait', async () => {
    const bench = await open()
    const anna = customer(bench)
    anna.command('/plans')
    await bench.outside.env.advance('1s')
    anna.press(/^1 month/)
    await bench.outside.env.advance('1s')
    const message = anna.last?.messageId ?? 0
    for (let i = 0; i < 5; i++) anna.pressOn(message, 'pay:card:m1')
    await bench.outside.env.advance('1s')
    const sixth = anna.pressOn(message, 'pay:card:m1')
    await bench.outside.env.advance('1s')
    expect((await sixth.answered)?.text).toMatch(/try again in \d+ s/)
    expect(anna.inbox.filter(item => item.invoice !== undefined)).toHaveLength(5)
    expect(bench.troubles).toEqual([])
  })
})

describe('after the charge', () => {
  it('nothing is refused: payments switched off, limits used up, all the same', async () => {
    const bench = await open()
    const anna = await choose(bench, /By card/)
    bench.outside.telegram.faults.add({ match: { operation: 'webhook:message', contains: 'successful_payment', times: 3 }, fault: { kind: 'drop-before' } })
    void anna.pay()
    await bench.outside.env.advance('2s')
    await bench.bot.app.hold.command('flag.set', { target: 'payments', args: { on: false }, actor: { id: 'test', via: 'code' }, reason: 'test' })
    await bench.outside.env.advance('60s')
    await expectAtRest(bench)
    expect(keys(bench)).toHaveLength(1)
  })

  it('the same news a hundred times is one payment', async () => {
    const bench = await open()
    await buyByCard(bench)
    const [charge] = bench.outside.telegram.charges
    let statuses: readonly number[] = []
    void bench.outside.telegram.redeliver(charge?.updateId ?? 0, 100).then(found => { statuses = found })
    await bench.outside.env.advance('10s')
    expect(statuses).toEqual(Array.from({ length: 100 }, () => 200))
    await expectAtRest(bench)
    expect(bench.facts).toEqual(['payment.ok'])
  })

  it('a renewal by the provider needs no order', async () => {
    const bench = await open()
    await buyByCard(bench)
    bench.outside.telegram.renew(bench.outside.telegram.charges[0]?.chargeId ?? '')
    await bench.outside.env.advance('10s')
    expect(bench.facts).toEqual(['payment.ok', 'payment.ok'])
    expect(await subscriptionOf(bench)).toMatchObject({ revision: 2, status: 'active' })
    await expectAtRest(bench)
  })

  it('money that does not fit is owed, told to the admins and raised', async () => {
    const bench = await open()
    bench.outside.admin.command('/start')
    const anna = await choose(bench, /By card/)
    const { orders } = await bench.bot.snapshot()
    const message = (total_amount: number, charge: string, invoice_payload = `hf1:${orders[0]?.id ?? ''}`) => ({
      message: {
        message_id: 900, date: 1, chat: { id: 42, type: 'private', first_name: 'Anna' }, from: { id: 42, is_bot: false, first_name: 'Anna' },
        successful_payment: { currency: 'RUB', total_amount, invoice_payload, telegram_payment_charge_id: charge, provider_payment_charge_id: 'p' },
      },
    })
    bench.outside.telegram.deliver(message(100, 'wrong-amount'))
    bench.outside.telegram.deliver(message(19_900, 'not-ours', 'donation'))
    bench.outside.telegram.deliver(message(19_900, 'no-order', 'hf1:00000000-0000-5000-8000-000000000000'))
    await bench.outside.env.advance('5s')
    expect([...bench.facts].sort()).toEqual(['payment.foreign', 'payment.mismatch', 'payment.orphan'])
    expect(bench.outside.admin.inbox.filter(item => /^Charge card:/.test(item.text))).toHaveLength(3)
    expect((await bench.bot.app.hold.status()).alerts.map(alert => alert.alert)).toEqual(['fact', 'fact', 'fact'])
    expect(anna.inbox.filter(item => /Nothing is lost/.test(item.text))).toHaveLength(2)
    expect(await bench.bot.broken({ atRest: false })).toEqual(['payment card:wrong-amount is on record and was never charged', 'payment card:not-ours is on record and was never charged', 'payment card:no-order is on record and was never charged'])
  })

  it('two crypto invoices, the superseded one paid late, too: both count, nothing is lost', async () => {
    const bench = await open()
    const anna = await choose(bench, /By crypto/)
    const first = anna.button(/Pay/)?.url ?? ''
    await choose(bench, /By crypto/)
    bench.outside.cryptoPay.pay(first)
    bench.outside.cryptoPay.pay(anna.button(/Pay/)?.url ?? '')
    await bench.outside.env.advance('10s')
    expect([...bench.facts].sort()).toEqual(['payment.late', 'payment.ok'])
    expect(await subscriptionOf(bench)).toMatchObject({ revision: 2, status: 'active' })
    await expectAtRest(bench)
  })

  it('a crypto payment whose webhook never comes is found by the watcher, even after the invoice expired', async () => {
    const bench = await open()
    const anna = await choose(bench, /By crypto/)
    bench.outside.cryptoPay.webhook.never = true
    await bench.outside.env.advance('31m')
    bench.outside.cryptoPay.pay(anna.button(/Pay/)?.url ?? '', { evenIfExpired: true })
    await bench.outside.env.advance('46s')
    expect(bench.facts).toEqual(['payment.late'])
    await expectAtRest(bench)
  })

  it('a crypto payment that nobody watches any more is found by the reconciler', async () => {
    const bench = await open()
    const anna = await choose(bench, /By crypto/)
    bench.outside.cryptoPay.webhook.never = true
    bench.outside.cryptoPay.faults.add({ match: { operation: 'getInvoices', contains: 'invoice_ids' }, fault: { kind: 'status', status: 400 } })
    bench.outside.cryptoPay.pay(anna.button(/Pay/)?.url ?? '')
    await bench.outside.env.advance('301s')
    expect(bench.facts).toEqual(['payment.ok'])
    await expectAtRest(bench)
  })
})

describe('the webhook of Crypto Pay', () => {
  it('takes nothing that is not signed over its very bytes', async () => {
    const bench = await open()
    const anna = await choose(bench, /By crypto/)
    bench.outside.cryptoPay.webhook.never = true
    const invoice = bench.outside.cryptoPay.pay(anna.button(/Pay/)?.url ?? '')
    const statuses: number[] = []
    for (const options of [{ signature: 'x' }, { signature: '' }, { signature: '0'.repeat(64) }]) void bench.outside.cryptoPay.sendWebhook(invoice.invoice_id, options).then(status => statuses.push(status))
    await bench.outside.env.advance('1s')
    expect(statuses).toEqual([401, 401, 401])
    expect(bench.facts).toEqual([])
  })
})

describe('the panel', () => {
  const faults: [string, Parameters<World['panel']['faults']['add']>[0]][] = [
    ['makes the key and loses its answer', { match: { operation: 'createUser', times: 1 }, fault: { kind: 'apply-then-drop' } }],
    ['makes the key and hangs', { match: { operation: 'createUser', times: 1 }, fault: { kind: 'apply-then-hang' } }],
    ['makes the key and answers with nothing', { match: { operation: 'createUser', times: 1 }, fault: { kind: 'empty' } }],
    ['makes the key and answers half a body', { match: { operation: 'createUser', times: 1 }, fault: { kind: 'truncated' } }],
    ['is away for a moment', { match: { operation: 'createUser', times: 2 }, fault: { kind: 'drop-before' } }],
    ['answers 503 for a while', { match: { times: 8 }, fault: { kind: 'status', status: 503 } }],
  ]
  it.each(faults)('that %s makes one key, and delivers once', async (_, rule) => {
    const bench = await open()
    bench.outside.panel.faults.add(rule)
    await buyByCard(bench)
    await bench.outside.env.advance('6m')
    await expectAtRest(bench)
    expect(keys(bench)).toHaveLength(1)
    expect(bench.outside.deliveries(42)).toBe(1)
  })

  it('that is down for an hour opens the breaker, loses nothing, and closes after two successes', async () => {
    const bench = await open()
    const { vpnPanel } = bench.bot.app.definitions
    bench.outside.panel.faults.add({ fault: { kind: 'drop-before' } })
    for (const id of [42, 43, 44]) await buyByCard(bench, id)
    await bench.outside.env.advance('1m')
    expect(vpnPanel.snapshot().state).not.toBe('closed')
    const status = await bench.bot.app.hold.status()
    expect(status.verdict.state).toBe('degraded')
    const anna = customer(bench)
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain('being made')
    await bench.outside.env.advance('1h')
    bench.outside.panel.faults.clear()
    await bench.outside.env.advance('8m')
    expect(vpnPanel.snapshot().state).toBe('closed')
    await expectAtRest(bench)
    expect(keys(bench)).toHaveLength(3)
    for (const id of [42, 43, 44]) expect(bench.outside.deliveries(id)).toBe(1)
    // Somebody was told that customers waited.
    expect(bench.facts.filter(fact => fact === 'activation.delayed').length).toBeGreaterThan(0)
  })

  it('that has a foreign user of the same name is told to a person after five refusals, and the admin tries again', async () => {
    const bench = await open()
    bench.outside.admin.command('/start')
    const username = `sub_${subscriptionIdOf('42')}_g1`
    bench.outside.panel.put({ username, uuid: '11111111-1111-4111-8111-111111111111' })
    const anna = await buyByCard(bench)
    await bench.outside.env.advance('40m')
    expect(await subscriptionOf(bench)).toMatchObject({ status: 'activation_failed', failures: 5 })
    expect(bench.outside.admin.inbox.filter(item => /gets no key/.test(item.text))).toHaveLength(1)
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain('look at it by hand')
    bench.outside.panel.remove(username)
    bench.outside.admin.command('/admin', 'retry 42')
    await bench.outside.env.advance('10s')
    await expectAtRest(bench)
    expect(bench.outside.deliveries(42)).toBe(1)
  })

  it('is not asked while provisioning is switched off; afterwards everything is delivered', async () => {
    const bench = await open()
    await bench.bot.app.hold.command('flag.set', { target: 'vpnProvisioning', args: { on: false }, actor: { id: 'test', via: 'code' }, reason: 'test' })
    await buyByCard(bench)
    await bench.outside.env.advance('10m')
    expect(keys(bench)).toEqual([])
    await bench.bot.app.hold.command('flag.set', { target: 'vpnProvisioning', args: { on: true }, actor: { id: 'test', via: 'code' }, reason: 'test' })
    await bench.outside.env.advance('6m')
    await expectAtRest(bench)
    expect(keys(bench)).toHaveLength(1)
  })
})

describe('the panel and the books', () => {
  it('that lost a key gets it again, and the customer is not written to twice', async () => {
    const bench = await open()
    await buyByCard(bench)
    const before = bench.outside.panel.keys()[0]
    bench.outside.panel.restart({ loseLast: 1 })
    expect(keys(bench)).toEqual([])
    await bench.outside.env.advance('11m')
    expect(bench.outside.panel.keys()[0]?.links).toEqual(before?.links)
    expect(bench.outside.deliveries(42)).toBe(1)
    await expectAtRest(bench)
  })

  it('agree again after a creation that arrived after its removal', async () => {
    const bench = await open()
    await buyByCard(bench)
    const username = keys(bench)[0] ?? ''
    bench.bot.env.jump(31 * 86_400_000)
    await bench.outside.env.advance('2m')
    bench.outside.panel.put({ username })
    await bench.outside.env.advance('11m')
    await expectAtRest(bench)
  })

  it('of a stranger are left alone, and a person is told', async () => {
    const bench = await open()
    bench.outside.panel.put({ username: 'sub_0123456789abcdef_g1' })
    bench.outside.panel.put({ username: 'somebody_elses' })
    await bench.outside.env.advance('11m')
    expect(keys(bench)).toEqual(['sub_0123456789abcdef_g1', 'somebody_elses'])
    expect(bench.facts).toContain('panel.differs')
  })
})

describe('the end of a subscription', () => {
  it('removes the key, and only then says so', async () => {
    const bench = await open()
    const anna = await buyByCard(bench)
    bench.outside.panel.faults.add({ match: { operation: 'deleteUser', times: 4 }, fault: { kind: 'drop-before' } })
    bench.bot.env.jump(30 * 86_400_000)
    await bench.outside.env.advance('10m')
    expect(await subscriptionOf(bench)).toMatchObject({ status: 'expired', key: null })
    expect(keys(bench)).toEqual([])
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain('has ended')
    await expectAtRest(bench)
  })

  it('races a renewal: the customer has one working key in the end', async () => {
    const bench = await open()
    const anna = await buyByCard(bench)
    const until = (await subscriptionOf(bench))?.expiresAt ?? 0
    bench.bot.env.jump(until - bench.bot.env.now() - 8_000)
    await choose(bench, /By card/)
    bench.outside.panel.faults.add({ match: { operation: 'deleteUser', times: 1 }, fault: { kind: 'late', ms: 20_000, caller: 'hang' } })
    await bench.outside.env.advance('61s')
    expect((await subscriptionOf(bench))?.status).not.toBe('active')
    await pay(bench, anna)
    await bench.outside.env.advance('6m')
    expect(await subscriptionOf(bench)).toMatchObject({ status: 'active', generation: 2 })
    await expectAtRest(bench)
  })
})

describe('a customer who blocked the bot', () => {
  it('is not written to again, has what was paid for, and gets the key after unblocking', async () => {
    const bench = await open()
    const anna = await choose(bench, /By card/)
    bench.outside.panel.faults.add({ match: { operation: 'createUser', times: 1 }, fault: { kind: 'delay', ms: 2_000 } })
    void anna.pay()
    await bench.outside.env.until(() => bench.outside.telegram.charges.length > 0, '10s')
    anna.block()
    await bench.outside.env.advance('1m')
    expect(keys(bench)).toHaveLength(1)
    expect((await bench.bot.snapshot()).customers.find(item => item.id === '42')?.reachable).toBe(false)
    const sentWhileBlocked = bench.outside.telegram.ledger.entries('sendMessage').length
    await bench.outside.env.advance('30m')
    expect(bench.outside.telegram.ledger.entries('sendMessage')).toHaveLength(sentWhileBlocked)
    anna.unblock()
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain('vless://')
  })
})
