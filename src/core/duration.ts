/**
 * Lengths of time and sizes as people write them: `'250ms'`, `'3s'`, `'10mb'`.
 *
 * A bare number is refused by the type system; what types cannot catch (`'-3s'`, `'NaNs'`) is refused when the
 * definition is made. Inside the library everything is a number whose name ends in its unit (`openForMs`).
 */
import { HoldfastError } from './errors.ts'

/** A length of time with its unit: `'250ms'`, `'3s'`, `'5m'`, `'2h'`, `'7d'`. */
export type Duration = `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`
/** A number of bytes with its unit: `'512b'`, `'64kb'`, `'10mb'` (powers of 1024). */
export type Size = `${number}${'b' | 'kb' | 'mb' | 'gb'}`

const MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const BYTES: Readonly<Record<string, number>> = { b: 1, kb: 1_024, mb: 1_048_576, gb: 1_073_741_824 }
/** Longer than this is a mistake in the unit, not an intention: ten years. */
const DURATION_MAX_MS = 10 * 365 * 86_400_000

/**
 * Milliseconds of a duration. `where` names the option in the error, as `dependency vpn-panel: timeout`.
 * @throws HF_OPTION_INVALID when it is not a finite, positive number with a known unit (zero is allowed with `min: 0`).
 */
export function durationMs(value: Duration, where: string, options: { readonly min?: number } = {}): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(value)
  const ms = match ? Number(match[1]) * (MS[match[2] ?? ''] ?? Number.NaN) : Number.NaN
  const min = options.min ?? 1
  if (!Number.isFinite(ms) || ms < min || ms > DURATION_MAX_MS) {
    throw new HoldfastError('HF_OPTION_INVALID', {
      message: `${where}: expected a duration of at least ${String(min)} ms such as '250ms', '3s' or '5m', got ${JSON.stringify(value)}`,
      context: { option: where },
    })
  }
  return ms
}

/**
 * Bytes of a size.
 * @throws HF_OPTION_INVALID when it is not a positive number with a known unit.
 */
export function sizeBytes(value: Size, where: string): number {
  const match = /^(\d+(?:\.\d+)?)(b|kb|mb|gb)$/.exec(value)
  const bytes = match ? Math.floor(Number(match[1]) * (BYTES[match[2] ?? ''] ?? Number.NaN)) : Number.NaN
  if (!Number.isFinite(bytes) || bytes < 1) {
    throw new HoldfastError('HF_OPTION_INVALID', {
      message: `${where}: expected a size such as '64kb' or '10mb', got ${JSON.stringify(value)}`,
      context: { option: where },
    })
  }
  return bytes
}

/** A duration for people: `1 min 30 s`, `250 ms`, `9 min`. Two units at most, rounded down. */
export function humanDuration(ms: number): string {
  if (ms < 1_000) return `${String(Math.max(0, Math.round(ms)))} ms`
  const units: readonly (readonly [string, number])[] = [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000], ['s', 1_000]]
  const parts: string[] = []
  let rest = ms
  for (const [unit, size] of units) {
    const count = Math.floor(rest / size)
    if (count > 0 && parts.length < 2) parts.push(`${String(count)} ${unit}`)
    rest -= count * size
  }
  return parts.join(' ')
}
