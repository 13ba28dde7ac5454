/**
 * Drills of the money: switched off before and after the charge, paid late, paid for what was superseded, what fits
 * nowhere, and news that never came or is forged.
 */
import type { Bench, Scenario } from '../kit.ts'

export const paymentsOffBefore: Scenario = {
  name: 'payments-off-at-pre-checkout',
  about: 'payments switched off with an invoice already out: refused within 10 s, not charged',
  async run(drill) {
    const bench = await drill.open()
    const anna = await bench.choose('card')
    await bench.flip('payments', false)
    const askedAt = bench.outside.env.monotonic()
    const payment = await bench.pay(anna)
    drill.equal('the payment is refused', payment.outcome, 'refused')
    drill.expect('the customer reads why', payment.outcome === 'refused' && /paused/.test(payment.message), payment)
    const tookMs = bench.outside.env.monotonic() - askedAt
    drill.expect('within 10 s', tookMs <= 10_000, tookMs)
    drill.equal('nobody was charged', bench.outside.charges(), [])
    const pressed = anna.press(/By card|pay:card/)
    await bench.advance('1s')
    const answered = pressed.kind === 'callback' ? await pressed.answered : undefined
    drill.expect('no new invoice is made', /paused/.test(answered?.text ?? ''), answered)
    await bench.flip('payments', true)
    drill.equal('switched on, the same invoice can be paid', (await bench.pay(anna)).outcome, 'charged')
    await bench.advance('5s')
    drill.equal('and is delivered', bench.deliveries(), 1)
  },
}

export const paymentsOffAfter: Scenario = {
  name: 'payments-off-after-charge',
  about: 'payments switched off between the charge and its news: still booked, still fulfilled',
  async run(drill) {
    const bench = await drill.open()
    const anna = await bench.choose('card')
    bench.outside.telegram.faults.add({ match: { operation: 'webhook:message', contains: 'successful_payment', times: 3 }, fault: { kind: 'drop-before' } })
    drill.equal('the customer is charged', (await bench.pay(anna)).outcome, 'charged')
    await bench.flip('payments', false)
    drill.equal('the news has not come yet', (await bench.snapshot()).payments.length, 0)
    await bench.advance('2m')
    drill.equal('the charge is booked', (await bench.snapshot()).payments.map(payment => payment.outcome), ['ok'])
    drill.equal('the key is made', bench.keys.length, 1)
    drill.equal('and delivered once', bench.deliveries(), 1)
  },
}

export const paidLate: Scenario = {
  name: 'paid-after-expiry',
  about: 'crypto invoice paid after it had expired: booked as late, fulfilled',
  async run(drill) {
    const bench = await drill.open()
    const anna = await bench.choose('crypto')
    await bench.advance('31m')
    drill.equal('the order has expired', (await bench.snapshot()).orders[0]?.status, 'expired')
    bench.outside.cryptoPay.pay(anna.button(/Pay/)?.url ?? '', { evenIfExpired: true })
    await bench.advance('1m')
    drill.equal('it is booked as late', bench.bot.facts, ['payment.late'])
    drill.equal('and fulfilled', bench.deliveries(), 1)
    drill.equal('nobody is alarmed', (await bench.bot.hold.status()).alerts.length, 0)
  },
}

export const supersededPaid: Scenario = {
  name: 'superseded-order-paid',
  about: 'the customer asked for a second invoice and paid the first one: fulfilled, nothing lost; both paid: both count',
  async run(drill) {
    const bench = await drill.open()
    const anna = await bench.choose('crypto')
    const first = anna.button(/Pay/)?.url ?? ''
    await bench.choose('crypto')
    drill.equal('the first order was superseded', (await bench.snapshot()).orders.map(order => order.status), ['superseded', 'invoiced'])
    bench.outside.cryptoPay.pay(first)
    await bench.advance('10s')
    drill.equal('the payment of the superseded order counts', bench.bot.facts, ['payment.late'])
    drill.equal('and is delivered', bench.deliveries(), 1)
    const until = (await bench.subscription())?.expiresAt ?? 0
    bench.payCrypto(anna)
    await bench.advance('10s')
    const after = await bench.subscription()
    drill.equal('the second one extends the same key', [after?.generation, after?.revision, (after?.expiresAt ?? 0) - until], [1, 2, 30 * 86_400_000])
    drill.equal('on the panel, too', bench.outside.panel.keys().map(key => key.expire), [Math.ceil((after?.expiresAt ?? 0) / 1_000)])
  },
}

/** News of a charge that passed no pre-checkout of ours. */
function paidMessage(amount: number, chargeId: string, payload: string): Readonly<Record<string, unknown>> {
  return {
    message: {
      message_id: 900, date: 1, chat: { id: 42, type: 'private', first_name: 'Anna' }, from: { id: 42, is_bot: false, first_name: 'Anna' },
      successful_payment: { currency: 'RUB', total_amount: amount, invoice_payload: payload, telegram_payment_charge_id: chargeId, provider_payment_charge_id: 'p' },
    },
  }
}

function forge(bench: Bench, amount: number, chargeId: string, payload: string): void {
  bench.forged.push(`card:${chargeId}`)
  bench.outside.telegram.deliver(paidMessage(amount, chargeId, payload))
}

export const moneyThatDoesNotFit: Scenario = {
  name: 'money-that-does-not-fit',
  about: 'wrong amount, unknown order, foreign payload: three different alerts, the money booked as owed',
  async run(drill) {
    const bench = await drill.open()
    bench.outside.admin.command('/start')
    const anna = await bench.choose('card')
    const order = (await bench.snapshot()).orders[0]
    forge(bench, 100, 'wrong-amount', `hf1:${order?.id ?? ''}`)
    forge(bench, 19_900, 'no-order', 'hf1:00000000-0000-5000-8000-000000000000')
    forge(bench, 19_900, 'not-ours', 'donation')
    await bench.advance('10s')
    const { payments, ledger } = await bench.snapshot()
    drill.equal('three different outcomes', payments.map(payment => payment.outcome).sort(), ['foreign', 'mismatch', 'orphan'])
    drill.equal('three different alerts', bench.bot.alerts.map(alert => alert.key.split(' ')[0]).sort(), ['fact:payment.foreign', 'fact:payment.mismatch', 'fact:payment.orphan'])
    drill.equal('each with its runbook', [...new Set(bench.bot.alerts.map(alert => alert.runbook))], ['payment-attention'])
    drill.equal('the admins got three messages', bench.outside.admin.inbox.filter(item => /^Charge card:/.test(item.text)).length, 3)
    drill.equal('the money is owed to who paid it', ledger.filter(row => row.account.startsWith('owed:')).reduce((sum, row) => sum - row.amountMinor, 0), 100 + 19_900 + 19_900)
    drill.equal('no key was made', bench.keys, [])
    for (const [amount, id, payload] of [[100, 'wrong-amount', `hf1:${order?.id ?? ''}`], [19_900, 'not-ours', 'donation']] as const) bench.outside.telegram.deliver(paidMessage(amount, id, payload))
    await bench.advance('10s')
    drill.equal('the same news again changes nothing', [(await bench.snapshot()).payments.length, bench.bot.alerts.length], [3, 3])
    drill.equal('the open order can still be paid', (await bench.pay(anna)).outcome, 'charged')
    await bench.advance('5s')
    drill.equal('and is delivered', bench.deliveries(), 1)
  },
}

export const cryptoWebhookNever: Scenario = {
  name: 'crypto-webhook-lost',
  about: 'Crypto Pay never sends its webhook: the watcher finds the payment, without the watcher the reconciler; forged webhooks are 401',
  async run(drill) {
    const bench = await drill.open()
    const { cryptoPay } = bench.outside
    cryptoPay.webhook.never = true
    const anna = await bench.choose('crypto')
    const invoice = cryptoPay.invoice(anna.button(/Pay/)?.url ?? '')
    const statuses: number[] = []
    for (const signature of ['', 'x', '0'.repeat(64)]) void cryptoPay.sendWebhook(invoice?.invoice_id ?? 0, { signature }).then(status => { statuses.push(status) })
    await bench.advance('1s')
    drill.equal('what is not signed is refused', statuses, [401, 401, 401])
    drill.equal('and changes nothing', (await bench.snapshot()).payments, [])
    bench.payCrypto(anna)
    await bench.advance('46s')
    drill.equal('the watcher finds the payment', [bench.bot.facts, bench.deliveries()], [['payment.ok'], 1])

    cryptoPay.faults.add({ match: { operation: 'getInvoices', contains: 'invoice_ids' }, fault: { kind: 'status', status: 400 } })
    const boris = await bench.choose('crypto', 43)
    bench.payCrypto(boris)
    await bench.advance('6m')
    drill.equal('without the watcher the reconciler finds it', [bench.bot.facts, bench.deliveries(43)], [['payment.ok', 'payment.ok'], 1])
  },
}
