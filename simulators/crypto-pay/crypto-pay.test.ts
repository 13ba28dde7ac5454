import { createHash, createHmac } from 'node:crypto'
import { beforeEach, describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from 'holdfast/testing'
import { type CryptoInvoice, cryptoPaySimulator, type CryptoPaySimulator } from './index.ts'

interface Reply { ok: boolean; result?: unknown; error?: { code: number; name: string } }

let env: SimulatedEnv
let pay: CryptoPaySimulator
let hooks: { at: number; body: string; signature: string | null }[]
let status: number

beforeEach(() => {
  env = simulatedEnv({ seed: 1 })
  pay = cryptoPaySimulator({ env: env.process('outside'), seed: 1, webhookUrl: 'http://bot.test/crypto' })
  hooks = []
  status = 200
  env.serve('http://pay.test', pay.fetch)
  env.serve('http://bot.test', async request => {
    hooks.push({ at: env.monotonic(), body: await request.text(), signature: request.headers.get('crypto-pay-api-signature') })
    return new Response('', { status })
  })
})

async function api(method: string, args: unknown = {}, token = pay.token): Promise<Reply & { status: number }> {
  const response = await env.fetch(`http://pay.test/api/${method}`, { method: 'POST', headers: { 'crypto-pay-api-token': token, 'content-type': 'application/json' }, body: JSON.stringify(args) })
  return { status: response.status, ...((await response.json()) as Reply) }
}

async function create(args: Record<string, unknown> = {}): Promise<CryptoInvoice> {
  return (await api('createInvoice', { currency_type: 'fiat', fiat: 'RUB', amount: '199.00', payload: 'order-1', expires_in: 1_800, ...args })).result as CryptoInvoice
}

describe('the door', () => {
  it('answers in its own envelope', async () => {
    expect(await api('getMe', {}, 'wrong')).toEqual({ status: 401, ok: false, error: { code: 401, name: 'UNAUTHORIZED' } })
    expect(await api('getLost')).toMatchObject({ status: 405, ok: false, error: { name: 'METHOD_NOT_FOUND' } })
    expect(await api('getMe')).toMatchObject({ ok: true, result: { app_id: 10_001 } })
  })
})

describe('createInvoice', () => {
  it('answers an active invoice with its links, and makes another one when it is asked twice', async () => {
    const first = await create()
    const second = await create()
    expect(first).toMatchObject({ status: 'active', currency_type: 'fiat', fiat: 'RUB', amount: '199.00', payload: 'order-1', expiration_date: '2026-01-01T00:30:00.000Z' })
    expect(second.invoice_id).not.toBe(first.invoice_id)
    expect(pay.invoice(first.bot_invoice_url)?.invoice_id).toBe(first.invoice_id)
  })

  it('counts from where it is told, and goes on counting after a reset', async () => {
    const first = async (): Promise<number> => (await create()).invoice_id
    pay = cryptoPaySimulator({ env, firstInvoiceId: 5_000 })
    env.serve('http://pay.test', pay.fetch)
    expect(await first()).toBe(5_000)
    pay.reset()
    expect(await first()).toBe(5_001)
    expect(() => cryptoPaySimulator({ env, firstInvoiceId: 0 })).toThrow('firstInvoiceId')
  })

  it('exists even when the answer is lost', async () => {
    pay.faults.add({ match: { operation: 'createInvoice' }, fault: { kind: 'apply-then-drop' } })
    await expect(create()).rejects.toThrow('fetch failed')
    expect(pay.invoices()).toHaveLength(1)
  })

  it.each([
    [{ amount: '0' }, 'AMOUNT_INVALID'], [{ amount: '1,5' }, 'AMOUNT_INVALID'], [{ amount: undefined }, 'PARAM_AMOUNT_REQUIRED'], [{ fiat: 'XXX' }, 'FIAT_INVALID'],
    [{ currency_type: 'crypto' }, 'PARAM_ASSET_REQUIRED'], [{ currency_type: 'crypto', asset: 'DOGE' }, 'ASSET_INVALID'], [{ payload: 'x'.repeat(4_097) }, 'PAYLOAD_TOO_LONG'], [{ expires_in: 0 }, 'EXPIRES_IN_INVALID'],
  ])('refuses %j: %s', async (args, name) => {
    expect(await api('createInvoice', { currency_type: 'fiat', fiat: 'RUB', amount: '199', ...args })).toMatchObject({ status: 400, ok: false, error: { code: 400, name } })
  })
})

describe('paying', () => {
  it('tells the shop with a signature over the raw bytes, and with numbers that repeat', async () => {
    const invoices = [await create(), await create(), await create(), await create()]
    for (const invoice of invoices) pay.pay(invoice.bot_invoice_url)
    await env.advance('1s')
    for (const { body, signature } of hooks) expect(signature).toBe(createHmac('sha256', createHash('sha256').update(pay.token).digest()).update(body).digest('hex'))
    const parsed = hooks.map(hook => JSON.parse(hook.body) as { update_id: number; update_type: string; payload: CryptoInvoice })
    expect(parsed.map(({ update_type: type, payload }) => [type, payload.status, payload.invoice_id])).toEqual(invoices.map(invoice => ['invoice_paid', 'paid', invoice.invoice_id]))
    expect(new Set(parsed.map(hook => hook.update_id)).size).toBeLessThan(4)
    expect(() => pay.pay(invoices[0]?.invoice_id ?? 0)).toThrow('is paid already')
  })

  it('is told again until the shop says 2xx, a few times', async () => {
    status = 500
    pay.pay((await create()).invoice_id)
    await env.advance('1h')
    expect(hooks.map(hook => hook.at / 1_000)).toEqual([0, 1, 6, 31, 156])
    expect(pay.state().webhooks).toEqual({ sent: 5, accepted: 0, lost: 1 })
  })

  it('is told never, when webhooks are lost: only polling finds it', async () => {
    pay.webhook.never = true
    const invoice = await create()
    pay.pay(invoice.invoice_id)
    await env.advance('1h')
    expect(hooks).toHaveLength(0)
    expect((await api('getInvoices', { invoice_ids: String(invoice.invoice_id) })).result).toMatchObject({ items: [{ status: 'paid', paid_asset: 'USDT', paid_amount: '1.99' }] })
  })

  it('is refused after expiry, unless the customer raced it', async () => {
    const invoice = await create({ expires_in: 60 })
    await env.advance('61s')
    expect(pay.invoice(invoice.invoice_id)?.status).toBe('expired')
    expect(() => pay.pay(invoice.invoice_id)).toThrow('has expired')
    expect(pay.pay(invoice.invoice_id, { evenIfExpired: true }).status).toBe('paid')
    await env.settle()
    expect(hooks).toHaveLength(1)
  })

  it('can be told by hand: twice, forged, with other bytes', async () => {
    const invoice = await create()
    pay.pay(invoice.invoice_id)
    await env.settle()
    expect(await pay.sendWebhook(invoice.invoice_id, { updateId: 77 })).toBe(200)
    expect(await pay.sendWebhook(invoice.invoice_id, { signature: 'forged' })).toBe(200)
    expect(hooks.map(hook => (JSON.parse(hook.body) as { update_id: number }).update_id)[1]).toBe(77)
    expect(hooks[2]?.signature).toBe('forged')
  })

  it('hears of a shop that does not answer for 10 s, and tells it again', async () => {
    env.serve('http://bot.test', () => { hooks.push({ at: env.monotonic(), body: '', signature: null }); return new Promise(() => undefined) })
    pay.pay((await create()).invoice_id)
    await env.advance('12s')
    expect(hooks.map(hook => hook.at / 1_000)).toEqual([0, 11])
  })
})

describe('getInvoices', () => {
  it('pages, newest first, by status and by number', async () => {
    const made = [await create(), await create({ fiat: 'USD' }), await create({ expires_in: 10 })]
    pay.pay(made[0]?.invoice_id ?? 0)
    await env.advance('11s')
    const ids = async (args: unknown): Promise<number[]> => ((await api('getInvoices', args)).result as { items: CryptoInvoice[] }).items.map(invoice => invoice.invoice_id - (made[0]?.invoice_id ?? 0))
    expect(await ids({})).toEqual([2, 1, 0])
    expect(await ids({ offset: 1, count: 1 })).toEqual([1])
    expect(await ids({ status: 'paid' })).toEqual([0])
    expect(await ids({ status: 'expired' })).toEqual([2])
    expect(await ids({ fiat: 'USD' })).toEqual([1])
    expect(await ids({ invoice_ids: [made[2]?.invoice_id, made[0]?.invoice_id] })).toEqual([2, 0])
    expect(await api('getInvoices', { count: 1_001 })).toMatchObject({ error: { name: 'COUNT_INVALID' } })
  })
})

describe('deleteInvoice, transfer, getBalance, getExchangeRates', () => {
  it('deletes what is not paid', async () => {
    const [first, second] = [await create(), await create()]
    pay.pay(second.invoice_id)
    expect(await api('deleteInvoice', { invoice_id: first.invoice_id })).toMatchObject({ ok: true, result: true })
    expect(await api('deleteInvoice', { invoice_id: first.invoice_id })).toMatchObject({ error: { name: 'INVOICE_NOT_FOUND' } })
    expect(await api('deleteInvoice', { invoice_id: second.invoice_id })).toMatchObject({ error: { name: 'INVOICE_ALREADY_PAID' } })
  })

  it('transfers once for each spend_id, and no more than there is', async () => {
    pay.pay((await create({ currency_type: 'crypto', asset: 'USDT', amount: '10' })).invoice_id)
    const transfer = { user_id: 5, asset: 'USDT', amount: '4', spend_id: 'refund-1' }
    const first = await api('transfer', transfer)
    expect((await api('transfer', transfer)).result).toEqual(first.result)
    expect(pay.transfers()).toHaveLength(1)
    expect((await api('getBalance')).result).toContainEqual({ currency_code: 'USDT', available: '6', onhold: '0' })
    expect(await api('transfer', { ...transfer, amount: '7', spend_id: 'refund-2' })).toMatchObject({ error: { name: 'NOT_ENOUGH_COINS' } })
  })

  it('names rates', async () => {
    expect((await api('getExchangeRates')).result).toContainEqual({ is_valid: true, is_crypto: true, is_fiat: false, source: 'USDT', target: 'RUB', rate: '100' })
  })
})

describe('stop', () => {
  it('ends what was under way', async () => {
    status = 500
    pay.pay((await create()).invoice_id)
    await env.settle()
    pay.stop()
    await env.advance('1h')
    expect(hooks).toHaveLength(1)
  })
})
