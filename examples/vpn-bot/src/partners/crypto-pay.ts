/**
 * Crypto Pay (API 1.5): invoices in roubles, looking them up, and the signed webhook.
 *
 * `createInvoice` has no idempotency key, so it is made at most once by itself; our order's id travels in the payload,
 * and any paid invoice of an order counts. Amounts are decimal texts and are compared exactly.
 */
import { type Env, HoldfastError } from 'holdfast/core'
import { type Dependency, HttpStatusError } from 'holdfast/guard'
import { z } from 'zod'
import { decimalOf, minorOf } from '../shop/money.ts'
import type { Payment } from '../shop/types.ts'
import { requestJson } from './http-json.ts'

/** What of an invoice we look at. Other fields come and go with versions. */
export const Invoice = z.object({
  invoice_id: z.number().int(),
  status: z.string(),
  currency_type: z.string().default('crypto'),
  fiat: z.string().optional(),
  asset: z.string().optional(),
  amount: z.string(),
  payload: z.string().default(''),
  bot_invoice_url: z.string().optional(),
  pay_url: z.string().optional(),
})
export type Invoice = z.infer<typeof Invoice>

/** Made once: zod compiles a schema when it is first used. */
const Items = z.object({ items: z.array(Invoice) })
const Me = z.object({ app_id: z.number() })

/** What the webhook brings. `update_id` is documented as not unique: the invoice's id is the key. */
export const InvoicePaid = z.object({ update_type: z.literal('invoice_paid'), payload: Invoice })

export interface CryptoPay {
  createInvoice(wanted: { readonly amountMinor: number; readonly currency: string; readonly payload: string; readonly description: string; readonly expiresInS: number }, signal?: AbortSignal): Promise<{ readonly id: string; readonly url: string }>
  /** Those of the ids that exist; at most 1,000. */
  invoices(ids: readonly string[]): Promise<readonly Invoice[]>
  /** The newest paid invoices, newest first. */
  paidInvoices(page: { readonly offset: number; readonly count: number }): Promise<readonly Invoice[]>
  ping(signal?: AbortSignal): Promise<void>
}

export const CRYPTO_PAY_URL = 'https://pay.crypt.bot'

export interface CryptoPayOptions {
  readonly dependency: Dependency
  readonly env: Env
  readonly token: string
  /** Default `https://pay.crypt.bot`. */
  readonly url?: string
}

export function cryptoPay({ dependency, env, token, url = CRYPTO_PAY_URL }: CryptoPayOptions): CryptoPay {
  const headers = { 'crypto-pay-api-token': token }
  const call = async <T>(effect: 'read' | 'once', method: string, args: Readonly<Record<string, unknown>>, shape: z.ZodType<T>, signal?: AbortSignal): Promise<T> => {
    const what = `crypto-pay ${method}`
    const work = async (attempt: Parameters<typeof requestJson>[1]): Promise<T> => {
      const { status, body } = await requestJson(env, attempt, { url: `${url}/api/${method}`, method: 'POST', headers, body: args, what })
      const answer = z.object({ ok: z.boolean(), result: z.unknown(), error: z.object({ code: z.number(), name: z.string() }).optional() }).safeParse(body)
      if (!answer.success) throw new HttpStatusError({ status: status < 400 ? 502 : status, headers: new Headers() }, { what: `${what}: an answer of another shape` })
      if (!answer.data.ok) throw new HoldfastError('HF_CALL_REJECTED', { message: `${what}: ${String(answer.data.error?.code ?? status)} ${answer.data.error?.name ?? ''}` })
      return shape.parse(answer.data.result)
    }
    const passed = signal === undefined ? {} : { signal }
    return effect === 'once' ? dependency.call(method, { effect, ...passed }, work) : dependency.call(method, { effect, ...passed }, work)
  }

  return {
    async createInvoice(wanted, signal) {
      const invoice = await call('once', 'createInvoice', {
        currency_type: 'fiat', fiat: wanted.currency, amount: decimalOf(wanted.amountMinor, wanted.currency), payload: wanted.payload, description: wanted.description, expires_in: wanted.expiresInS,
      }, Invoice, signal)
      const link = invoice.bot_invoice_url ?? invoice.pay_url
      if (link === undefined) throw new HoldfastError('HF_CALL_REJECTED', { message: `crypto-pay createInvoice: invoice ${String(invoice.invoice_id)} has no link` })
      return { id: String(invoice.invoice_id), url: link }
    },
    invoices: async ids => (ids.length === 0 ? [] : (await call('read', 'getInvoices', { invoice_ids: ids.join(','), count: ids.length }, Items)).items),
    paidInvoices: async page => (await call('read', 'getInvoices', { status: 'paid', ...page }, Items)).items,
    async ping(signal) {
      await call('read', 'getMe', {}, Me, signal)
    },
  }
}

/** The charge that a paid invoice stands for: the same whoever tells us. Undefined while it is not paid. */
export function chargeOf(invoice: Invoice): Payment | undefined {
  if (invoice.status !== 'paid') return undefined
  const currency = (invoice.currency_type === 'fiat' ? invoice.fiat : invoice.asset) ?? 'unknown'
  return {
    provider: 'crypto', chargeId: String(invoice.invoice_id), payload: invoice.payload,
    // An amount that cannot be read exactly matches nothing, and is on the books as nothing, for a person to look at.
    amountMinor: minorOf(invoice.amount, currency) ?? 0, currency, payerId: null, renewal: false,
  }
}
