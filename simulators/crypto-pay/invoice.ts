/**
 * Invoices of Crypto Pay: what may be asked for, what one looks like, how a webhook about one is signed.
 */
import { createHash, createHmac } from 'node:crypto'

/** `{ok: false, error: {code, name}}` on its way to the caller. */
export class CryptoPayError extends Error {
  override readonly name: string = 'CryptoPayError'
  readonly code: number
  readonly error: string

  constructor(code: number, error: string) {
    super(error)
    this.code = code
    this.error = error
  }
}

export interface CryptoInvoice {
  readonly invoice_id: number
  readonly hash: string
  readonly currency_type: 'crypto' | 'fiat'
  readonly asset?: string
  readonly fiat?: string
  /** A decimal, as it was asked for. */
  readonly amount: string
  readonly accepted_assets?: readonly string[]
  readonly bot_invoice_url: string
  readonly mini_app_invoice_url: string
  readonly web_app_invoice_url: string
  readonly description?: string
  readonly payload?: string
  readonly status: 'active' | 'paid' | 'expired'
  readonly created_at: string
  readonly expiration_date?: string
  readonly allow_comments: boolean
  readonly allow_anonymous: boolean
  readonly paid_at?: string
  readonly paid_anonymously?: boolean
  readonly paid_asset?: string
  readonly paid_amount?: string
  readonly paid_usd_rate?: string
  readonly paid_fiat_rate?: string
  readonly fee_asset?: string
  readonly fee_amount?: string
}

export interface InvoiceRequest {
  readonly currencyType: 'crypto' | 'fiat'
  readonly asset: string | undefined
  readonly fiat: string | undefined
  readonly acceptedAssets: readonly string[] | undefined
  readonly amount: string
  readonly description: string | undefined
  readonly payload: string | undefined
  readonly expiresInS: number | undefined
}

export const ASSETS: readonly string[] = ['USDT', 'TON', 'BTC', 'ETH', 'LTC', 'BNB', 'TRX', 'USDC']
export const FIATS: readonly string[] = ['USD', 'EUR', 'RUB', 'BYN', 'UAH', 'GBP', 'CNY', 'KZT', 'UZS', 'GEL', 'TRY', 'AMD', 'THB', 'INR', 'BRL', 'IDR', 'AZN', 'AED', 'PLN', 'ILS']

/** US dollars for one unit. Round numbers: nobody should mistake them for the market. */
const USD: Readonly<Record<string, number>> = {
  USDT: 1, USDC: 1, TON: 5, BTC: 100_000, ETH: 4_000, LTC: 100, BNB: 800, TRX: 0.25,
  USD: 1, EUR: 1.1, GBP: 1.25, RUB: 0.01, BYN: 0.3, UAH: 0.025, CNY: 0.14, KZT: 0.002, UZS: 0.00008, GEL: 0.37, TRY: 0.03, AMD: 0.0026, THB: 0.03, INR: 0.012, BRL: 0.18, IDR: 0.00006,
  AZN: 0.59, AED: 0.27, PLN: 0.25, ILS: 0.27,
}

/** How much `target` one `source` is, as text. */
export function rate(source: string, target: string): string {
  return decimal((USD[source] ?? 1) / (USD[target] ?? 1))
}

export function decimal(value: number): string {
  return value.toFixed(8).replace(/\.?0+$/, '')
}

const PAYLOAD_MAX_BYTES = 4_096
const EXPIRES_MAX_S = 2_678_400
const DESCRIPTION_MAX = 1_024

/** @throws CryptoPayError */
export function checkInvoice(args: Readonly<Record<string, unknown>>): InvoiceRequest {
  const text = (name: string): string | undefined => {
    const value = args[name]
    return typeof value === 'string' && value !== '' ? value : typeof value === 'number' ? String(value) : undefined
  }
  const currencyType = text('currency_type') ?? 'crypto'
  const asset = text('asset')
  const fiat = text('fiat')
  const amount = text('amount')
  const description = text('description')
  const payload = text('payload')
  const expiresIn = text('expires_in')
  const accepted = text('accepted_assets')?.split(',').map(name => name.trim())
  if (currencyType !== 'crypto' && currencyType !== 'fiat') throw new CryptoPayError(400, 'CURRENCY_TYPE_INVALID')
  if (currencyType === 'crypto' && asset === undefined) throw new CryptoPayError(400, 'PARAM_ASSET_REQUIRED')
  if (currencyType === 'crypto' && !ASSETS.includes(asset ?? '')) throw new CryptoPayError(400, 'ASSET_INVALID')
  if (currencyType === 'fiat' && fiat === undefined) throw new CryptoPayError(400, 'PARAM_FIAT_REQUIRED')
  if (currencyType === 'fiat' && !FIATS.includes(fiat ?? '')) throw new CryptoPayError(400, 'FIAT_INVALID')
  if (accepted?.some(name => !ASSETS.includes(name)) === true) throw new CryptoPayError(400, 'ACCEPTED_ASSETS_INVALID')
  if (amount === undefined) throw new CryptoPayError(400, 'PARAM_AMOUNT_REQUIRED')
  if (!/^\d{1,12}(?:\.\d{1,18})?$/.test(amount) || Number(amount) <= 0) throw new CryptoPayError(400, 'AMOUNT_INVALID')
  if (description !== undefined && [...description].length > DESCRIPTION_MAX) throw new CryptoPayError(400, 'DESCRIPTION_TOO_LONG')
  if (payload !== undefined && Buffer.byteLength(payload) > PAYLOAD_MAX_BYTES) throw new CryptoPayError(400, 'PAYLOAD_TOO_LONG')
  const expiresInS = expiresIn === undefined ? undefined : Number(expiresIn)
  if (expiresInS !== undefined && (!Number.isInteger(expiresInS) || expiresInS < 1 || expiresInS > EXPIRES_MAX_S)) throw new CryptoPayError(400, 'EXPIRES_IN_INVALID')
  return { currencyType, asset: currencyType === 'crypto' ? asset : undefined, fiat: currencyType === 'fiat' ? fiat : undefined, acceptedAssets: currencyType === 'fiat' ? accepted ?? ASSETS : undefined, amount, description, payload, expiresInS }
}

/** The header `crypto-pay-api-signature`: hex HMAC-SHA256 of the raw body, under the SHA256 of the token. */
export function signatureOf(token: string, rawBody: string): string {
  return createHmac('sha256', createHash('sha256').update(token).digest()).update(rawBody).digest('hex')
}
