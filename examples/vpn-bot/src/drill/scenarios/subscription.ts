/**
 * Drills of a subscription's life: ends while it is renewed, revoked by an admin, and a stop in the middle of everything.
 */
import type { Bench, Scenario } from '../kit.ts'

/** Weeks without anything to do: the bot is stopped for them, as its polls would be millions, and is started in time. */
async function sleepUntil(bench: Bench, wallMs: number): Promise<void> {
  await bench.waitFor(bench.bot.app.stop('nothing happens for weeks'), '60s')
  await bench.advance(wallMs - bench.outside.env.now())
  await bench.start()
}

export const expiryRacesRenewal: Scenario = {
  name: 'expiry-races-renewal',
  about: 'the key is being removed while the customer renews, the panel removes late: one working key in the end',
  async run(drill) {
    const bench = await drill.open()
    const { panel } = bench.outside
    const anna = await bench.buyByCard()
    await bench.advance('5s')
    await sleepUntil(bench, ((await bench.subscription())?.expiresAt ?? 0) - 30_000)
    await bench.choose('card')
    panel.faults.add({ match: { operation: 'deleteUser', times: 1 }, fault: { kind: 'late', ms: 20_000, caller: 'hang' } })
    await bench.until(() => panel.ledger.count('deleteUser') > 0, '5m')
    drill.equal('the removal has begun', (await bench.subscription())?.status, 'expiring')
    drill.equal('the customer renews meanwhile', (await bench.pay(anna)).outcome, 'charged')
    await bench.advance('6m')
    const renewed = await bench.subscription()
    drill.equal('the subscription is active again, with a key of the next generation', [renewed?.status, renewed?.generation], ['active', 2])
    drill.equal('one key on the panel: the late removal hit the old one', bench.keys, [`sub_${renewed?.id ?? ''}_g2`])
    drill.expect('/key answers with it', (await bench.ask(anna, '/key'))?.text.includes(panel.keys()[0]?.links[0]?.split('&')[0] ?? '-') === true, anna.last?.text)

    // The other order: renewed just before the end, so that there is nothing to remove.
    await sleepUntil(bench, (renewed?.expiresAt ?? 0) - 90_000)
    await bench.choose('card')
    panel.faults.add({ match: { operation: ['updateUser', 'createUser'], times: 2 }, fault: { kind: 'hang' } })
    drill.equal('renewed a minute before the end', (await bench.pay(anna)).outcome, 'charged')
    await bench.advance('10m')
    const kept = await bench.subscription()
    drill.equal('the key stays the same one', [kept?.status, kept?.generation, bench.keys.length], ['active', 2, 1])
    drill.equal('with its new end on the panel', panel.keys()[0]?.expire, Math.ceil((kept?.expiresAt ?? 0) / 1_000))
  },
}

export const revoke: Scenario = {
  name: 'revoke',
  about: 'revoking: double tap, another admin\'s tap, an expired ticket, replay after a restart: done once, by who asked, in time',
  async run(drill) {
    const bench = await drill.open({ admins: [7, 8] })
    const { panel, telegram } = bench.outside
    const first = bench.outside.admin
    const second = telegram.user({ id: 8, firstName: 'Second admin', languageCode: 'en' })
    for (const admin of [first, second]) admin.command('/start')
    await bench.buyByCard(42)
    await bench.buyByCard(43)
    const tap = async (who: typeof first, message: number, data: string): Promise<string> => {
      const pressed = who.pressOn(message, data)
      await bench.advance('2s')
      return (await pressed.answered)?.text ?? ''
    }
    const ask = async (id: string): Promise<{ readonly message: number; readonly data: string }> => {
      const question = await bench.ask(first, '/revoke', id)
      return { message: question?.messageId ?? 0, data: question?.buttons.flat().find(button => button.data?.startsWith('hf+') === true)?.data ?? '' }
    }

    const ticket = await ask('42')
    drill.expect('asking alone does nothing', bench.keys.length === 2 && ticket.data !== '', ticket)
    drill.expect('another admin\'s tap is refused', /Only who asked/.test(await tap(second, ticket.message, ticket.data)))
    drill.expect('a customer\'s tap is refused', /admins|Only who asked/.test(await tap(bench.customer(43), ticket.message, ticket.data)))
    drill.equal('nothing was removed', bench.keys.length, 2)
    const taps = [first.pressOn(ticket.message, ticket.data), first.pressOn(ticket.message, ticket.data)]
    await bench.advance('5s')
    const answers = (await Promise.all(taps.map(pressed => pressed.answered))).map(answer => answer?.text ?? '')
    drill.equal('of a double tap one is refused', answers.filter(text => /confirmed already/.test(text)).length, 1)
    drill.equal('the key is removed once', [bench.keys.length, panel.state().deleted], [1, 1])
    drill.equal('the subscription is revoked', (await bench.subscription(42))?.status, 'revoked')
    drill.equal('the audit has it once', bench.rows('audit').filter(row => row['action'] === 'irreversible.revoke-access' && row['outcome'] === 'done').length, 1)
    drill.equal('and each refusal with its reason', bench.rows('audit').filter(row => row['outcome'] === 'refused').map(row => row['reason']), ['other-actor', 'used'])

    await bench.killAndRestart()
    drill.expect('replayed after a restart it is refused', /confirmed already|not known/.test(await tap(first, ticket.message, ticket.data)))

    const late = await ask('43')
    await bench.advance('121s')
    drill.expect('an expired ticket is refused', /expired/.test(await tap(first, late.message, late.data)))
    const lost = await ask('43')
    await bench.killAndRestart()
    await bench.advance('20s')
    drill.equal('customer 43 has the key all the while', bench.keys.length, 1)
    await tap(first, lost.message, lost.data)
    await bench.advance('10s')
    drill.equal('a ticket that was asked for before a restart is good within its time', [bench.keys.length, (await bench.subscription(43))?.status], [0, 'revoked'])
    drill.equal('each key was removed once', panel.state().deleted, 2)
    drill.expect('the customer reads that it has ended', /has ended/.test((await bench.ask(bench.customer(43), '/key'))?.text ?? ''), bench.customer(43).last?.text)
  },
}

export const stopUnderLoad: Scenario = {
  name: 'stop-under-load',
  about: 'a graceful stop in the middle of twelve purchases: nothing lost, the next start finishes',
  async run(drill) {
    const bench = await drill.open({ latencyMs: [20, 120] })
    const { panel, env } = bench.outside
    const ids = Array.from({ length: 12 }, (_, index) => 50 + index)
    for (const id of ids) await bench.choose('card', id)
    panel.faults.add({ match: { operation: 'createUser' }, fault: { kind: 'delay', ms: 1_500, jitterMs: 2_000 } })
    const payments = ids.map(id => bench.customer(id).pay())
    await bench.until(() => bench.outside.charges().length >= 6, '10s')
    const { app } = bench.bot
    const stoppedAt = env.monotonic()
    const stopping = app.stop('a drill')
    await bench.advance(1)
    const ready = await app.fetch(new Request('http://bot.test/readyz'), { remoteAddress: '127.0.0.1' })
    drill.equal('it is not ready while it drains', ready.status, 503)
    await bench.waitFor(stopping, '60s')
    const tookMs = env.monotonic() - stoppedAt
    drill.expect('it stops within 30 s', tookMs <= 30_000, tookMs)
    drill.equal('and says so', app.hold.phase, 'stopped')
    const timers = env.pendingTimers
    bench.bot.env.kill()
    env.unserve('http://bot.test')
    drill.expect('nothing of it is left running', timers < 60, timers)
    panel.faults.clear()
    await bench.advance('20s')
    await bench.start()
    await bench.advance('6m')
    const outcomes = await Promise.all(payments)
    const charged = outcomes.filter(payment => payment.outcome === 'charged').length
    drill.equal('every charge is booked', (await bench.snapshot()).payments.length, charged)
    drill.equal('every charged customer has a key', bench.keys.length, charged)
    drill.expect('at least the first six were charged', charged >= 6, outcomes.map(payment => payment.outcome))
    drill.expect('whoever was not charged was refused, or not answered in time', outcomes.every(payment => ['charged', 'refused', 'timeout'].includes(payment.outcome)), outcomes)
  },
}
