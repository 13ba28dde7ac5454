/**
 * Numbers of options: refused at definition when they are not what they must be, saying what was expected and got.
 */
import { HoldfastError } from '../core/index.ts'

/** @throws HF_OPTION_INVALID */
export function wholeNumber(value: number, min: number, where: string, max: number = Number.MAX_SAFE_INTEGER): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value
  throw refused(where, `a whole number of ${max === Number.MAX_SAFE_INTEGER ? `at least ${String(min)}` : `${String(min)} to ${String(max)}`}`, value)
}

/** @throws HF_OPTION_INVALID */
export function atLeast(value: number, min: number, where: string): number {
  if (Number.isFinite(value) && value >= min) return value
  throw refused(where, `a number of at least ${String(min)}`, value)
}

export function refused(where: string, expected: string, got: unknown): HoldfastError {
  return new HoldfastError('HF_OPTION_INVALID', { message: `${where}: expected ${expected}, got ${String(got)}`, context: { option: where } })
}
