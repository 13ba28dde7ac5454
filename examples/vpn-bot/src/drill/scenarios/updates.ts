/**
 * Drills of what comes in: the same update a hundred times and on two instances, and a database that is away meanwhile.
 */
import type { Scenario } from '../kit.ts'

const TIMES = 100
const SECOND = 'http://bot-b.test'

export const duplicates: Scenario = {
  name: 'duplicate-updates',
  about: 'every update 100 times at once, the payment included, and each on two instances: one effect',
  async run(drill) {
    const bench = await drill.open({ latencyMs: [1, 30] })
    await bench.start({ origin: SECOND })
    bench.outside.telegram.alsoDeliverTo(`${SECOND}/webhooks/telegram`, { secretToken: bench.outside.config.webhookSecret })
    const { telegram } = bench.outside
    const again = async (what: string, updateId: number): Promise<void> => {
      const statuses = await bench.waitFor(telegram.redeliver(updateId, TIMES), '60s')
      drill.equal(`${what}: all ${String(statuses.length)} deliveries are acknowledged`, [statuses.length, ...new Set(statuses)], [2 * TIMES, 200])
      await bench.advance('5s')
    }
    const updates = (): number => Number(telegram.ledger.entries().filter(entry => entry.direction === 'out').map(entry => (entry.args as { readonly update_id: number }).update_id).at(-1))

    const anna = bench.customer()
    anna.command('/start')
    await bench.advance('2s')
    await again('/start', updates())
    drill.equal('one welcome', anna.inbox.filter(item => /Hello/.test(item.text)).length, 1)
    for (const press of [/See the plans/, /^1 month/]) {
      anna.press(press)
      await bench.advance('2s')
    }
    const pressed = anna.press(/By card/)
    await bench.advance('2s')
    await again('the button', pressed.kind === 'callback' ? pressed.updateId : 0)
    drill.equal('one invoice', anna.inbox.filter(item => item.invoice !== undefined).length, 1)
    drill.equal('one order', (await bench.snapshot()).orders.length, 1)
    drill.equal('one charge', (await bench.pay(anna)).outcome, 'charged')
    await bench.advance('5s')
    await again('the payment', telegram.charges[0]?.updateId ?? 0)
    drill.equal('booked once, by one of the two', bench.instances.flatMap(instance => instance.facts), ['payment.ok'])
    drill.equal('one ledger entry', new Set((await bench.snapshot()).ledger.map(row => row.entry)).size, 1)
    drill.equal('one key, made once', [bench.keys.length, bench.outside.panel.state().created], [1, 1])
    drill.equal('one delivery message', bench.deliveries(), 1)
    drill.equal('one thank-you', anna.inbox.filter(item => /the payment has arrived/.test(item.text)).length, 1)
    // The same charge under another update number is the same charge.
    const news = telegram.ledger.entries('webhook:message').map(entry => entry.args as Readonly<Record<string, unknown>>).find(update => JSON.stringify(update).includes('successful_payment'))
    for (let copy = 1; copy <= TIMES; copy++) telegram.deliver({ ...news, update_id: 900_000_000 + copy })
    await bench.advance('30s')
    drill.equal('under 100 other numbers: a duplicate each time', (await bench.snapshot()).payments.length, 1)
    drill.equal('and still one delivery message', bench.deliveries(), 1)
  },
}

export const databaseAway: Scenario = {
  name: 'database-away',
  about: 'database away while the news of a payment arrives: 503 with Retry-After, alive, Telegram comes again, nothing lost',
  async run(drill) {
    let away = false
    const bench = await drill.open({ latencyMs: [1, 30], databaseAway: () => away })
    const { telegram } = bench.outside
    const anna = await bench.choose('card')
    telegram.faults.add({ match: { operation: 'webhook:message', contains: 'successful_payment', times: 1 }, fault: { kind: 'delay', ms: 500 } })
    const payment = await bench.pay(anna)
    drill.equal('the customer is charged', payment.outcome, 'charged')
    away = true
    await bench.advance('20s')
    const refused = telegram.ledger.entries('webhook:message').filter(entry => entry.status === 503)
    drill.expect('the webhook answers 503', refused.length >= 2, refused.length)
    const asked = async (path: string, init?: RequestInit): Promise<Response> => bench.waitFor(bench.bot.app.fetch(new Request(`http://bot.test${path}`, init), { remoteAddress: '127.0.0.1' }), '10s')
    const answer = await asked('/webhooks/telegram', { method: 'POST', headers: { 'x-telegram-bot-api-secret-token': bench.outside.config.webhookSecret }, body: JSON.stringify({ update_id: 5 }) })
    drill.equal('with Retry-After', [answer.status, answer.headers.get('retry-after')], [503, '2'])
    drill.equal('the process is alive', (await asked('/livez')).status, 200)
    drill.equal('and not ready', (await asked('/readyz')).status, 503)
    drill.equal('the service says that it is unavailable', bench.bot.hold.health.state, 'unavailable')
    const crypto = await bench.waitFor(bench.outside.cryptoPay.sendWebhook(1).catch(() => 0), '5s')
    drill.expect('nothing of it was taken as done', crypto !== 200, crypto)
    await bench.advance('40s')
    away = false
    await bench.advance('2m')
    drill.equal('the payment is booked once', (await bench.snapshot()).payments.map(item => item.outcome), ['ok'])
    drill.equal('the key is delivered once', bench.deliveries(), 1)
    drill.equal('the service is healthy again', bench.bot.hold.health.state, 'healthy')
    drill.equal('and ready', (await asked('/readyz')).status, 200)
    drill.equal('the alert is taken back', (await bench.bot.hold.status()).alerts.length, 0)
  },
}
