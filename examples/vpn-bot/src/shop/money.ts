/**
 * Money without rounding: decimal texts and integers of the smallest unit, exact in both directions.
 */

/** Decimals of a currency's smallest unit. Roubles and other fiat have 2, Stars none; coins are counted to 8. */
function decimalsOf(currency: string): number {
  if (currency === 'XTR') return 0
  return /^(RUB|USD|EUR|UAH|KZT|GBP|TRY|BYN|UZS)$/.test(currency) ? 2 : 8
}

/**
 * `'199'`, `'199.0'` and `'199.00'` RUB are 19900. Undefined when the text is no amount, is finer than the smallest
 * unit, or is larger than integers are exact: an amount that cannot be compared exactly is not compared at all.
 */
export function minorOf(decimal: string, currency: string): number | undefined {
  const match = /^(\d{1,15})(?:\.(\d{1,18}))?$/.exec(decimal)
  if (match === null) return undefined
  const decimals = decimalsOf(currency)
  const fraction = (match[2] ?? '').replace(/0+$/, '')
  if (fraction.length > decimals) return undefined
  const minor = Number(`${match[1] ?? ''}${fraction.padEnd(decimals, '0')}`)
  return Number.isSafeInteger(minor) ? minor : undefined
}

/** 19900 RUB is `'199.00'`. */
export function decimalOf(minor: number, currency: string): string {
  const decimals = decimalsOf(currency)
  if (decimals === 0) return String(minor)
  const digits = String(minor).padStart(decimals + 1, '0')
  return `${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`
}
