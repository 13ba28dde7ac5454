/**
 * Drills of what goes out: blocked by the customer, slowed down by Telegram, sent and not confirmed.
 */
import type { Scenario } from '../kit.ts'

export const blocked: Scenario = {
  name: 'customer-blocked',
  about: 'the customer blocks the bot right after paying: dead letter without retries, no alarm, /key works after unblocking',
  async run(drill) {
    const bench = await drill.open()
    const { telegram, panel } = bench.outside
    const anna = await bench.choose('card')
    panel.faults.add({ match: { operation: 'createUser', times: 1 }, fault: { kind: 'delay', ms: 2_000 } })
    const paying = anna.pay()
    await bench.until(() => telegram.charges.length > 0, '10s')
    anna.block()
    drill.equal('the customer is charged', (await bench.waitFor(paying, '15s')).outcome, 'charged')
    await bench.advance('1m')
    drill.equal('what was paid for is there', bench.keys.length, 1)
    drill.equal('the customer is known to be unreachable', (await bench.snapshot()).customers.find(item => item.id === '42')?.reachable, false)
    const attempts = bench.rows('holdfast.outbox_message').filter(row => row['state'] === 'dead').map(row => row['attempts'])
    drill.expect('what could not be sent was tried once', attempts.every(count => Number(count) <= 1), attempts)
    const sent = telegram.ledger.count('sendMessage')
    await bench.advance('2h')
    drill.equal('and is not tried again', telegram.ledger.count('sendMessage'), sent)
    drill.equal('nobody is alarmed', bench.bot.alerts.length, 0)
    drill.equal('nothing is logged as an error', bench.bot.errors, [])
    anna.unblock()
    drill.expect('/key answers after unblocking', /vless:\/\//.test((await bench.ask(anna, '/key'))?.text ?? ''), anna.last?.text)
    drill.equal('the customer is reachable again', (await bench.snapshot()).customers.find(item => item.id === '42')?.reachable, true)
  },
}

export const slowDown: Scenario = {
  name: 'telegram-says-slow-down',
  about: '429 with retry_after: that chat pauses and keeps its order, others flow, no handler waits',
  async run(drill) {
    const bench = await drill.open()
    const { telegram } = bench.outside
    const durations: number[] = []
    bench.bot.hold.events.on('inbox.done', ({ data }) => { durations.push(data.durationMs) })
    const paused: string[] = []
    bench.bot.hold.events.on('outbox.paused', ({ data }) => { paused.push(`${data.lane} ${String(data.forMs)}`) })
    const anna = await bench.choose('card')
    const boris = await bench.choose('card', 43)
    telegram.faults.add({ match: { operation: 'sendMessage', contains: '"chat_id":"42"', times: 1 }, fault: { kind: 'rate-limit', retryAfterS: 117 } })
    await bench.pay(anna)
    await bench.pay(boris)
    await bench.advance('5s')
    drill.equal('the other customer is served at once', bench.deliveries(43), 1)
    drill.equal('the slowed chat waits', [paused, anna.inbox.filter(item => /arrived|Your key/.test(item.text)).length], [['chat:42 117000'], 0])
    const before = telegram.ledger.count('sendMessage')
    await bench.advance('60s')
    drill.equal('nothing is sent to it meanwhile', telegram.ledger.count('sendMessage'), before)
    await bench.advance('60s')
    drill.equal('then everything comes, in order', anna.inbox.filter(item => /arrived|Your key/.test(item.text)).map(item => item.text.slice(0, 5)), ['Thank', 'Your '])
    telegram.faults.add({ match: { operation: 'sendMessage', contains: '"chat_id":42', times: 1 }, fault: { kind: 'rate-limit', retryAfterS: 5_329 } })
    anna.command('/status')
    await bench.advance('6s')
    drill.expect('no handler was blocked for more than 5 s', durations.every(ms => ms <= 5_000), durations.filter(ms => ms > 5_000))
    drill.expect('and the customer is served after that', /works until|active|until/i.test((await bench.ask(anna, '/status'))?.text ?? ''), anna.last?.text)
  },
}

export const sentAndLost: Scenario = {
  name: 'message-sent-answer-lost',
  about: 'Telegram sends the key and its answer is lost: never sent again by itself, a work item says so, /key answers',
  async run(drill) {
    const bench = await drill.open()
    bench.outside.telegram.faults.add({ match: { operation: 'sendMessage', contains: 'Your key', times: 1 }, fault: { kind: 'apply-then-drop' } })
    const anna = await bench.buyByCard()
    await bench.advance('2h')
    drill.equal('one delivery message', bench.deliveries(), 1)
    const { work, alerts } = await bench.bot.hold.status()
    drill.equal('a work item says that nobody knows', work.map(item => [item.kind, item.state]), [['outbox', 'unknown']])
    drill.equal('and an alert', alerts.map(alert => alert.alert), ['outcome-unknown'])
    drill.expect('/key answers', /vless:\/\//.test((await bench.ask(anna, '/key'))?.text ?? ''), anna.last?.text)
    const item = work[0]
    await bench.waitFor(bench.bot.hold.command('work.discard', { target: item?.id ?? '', args: { kind: item?.kind ?? '', name: item?.name ?? '' }, actor: { id: 'drill', via: 'code' }, reason: 'the customer has it' }), '10s')
    drill.equal('a person settles it', (await bench.bot.hold.status()).work, [])
  },
}
