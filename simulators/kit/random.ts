/**
 * Seeded randomness of the simulators.
 *
 * Each simulator has its own stream, so that one more fault in one of them does not change what another one draws:
 * the same seed gives the same run. Not for secrets: what looks like a token here is only unique.
 */
export interface SeededRandom {
  /** In [0, 1). */
  next(): number
  /** A whole number from `min` to `max`, both included. */
  int(min: number, max: number): number
  /** One of a list that is not empty. */
  pick<T>(items: readonly T[]): T
  /** Letters and digits. */
  text(length: number): string
  /** Lower-case hexadecimal digits. */
  hex(length: number): string
}

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'

/** Same seed, same stream (mulberry32). */
export function seededRandom(seed: number): SeededRandom {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const int = (min: number, max: number): number => min + Math.floor(next() * (max - min + 1))
  const chars = (alphabet: string, length: number): string => {
    let text = ''
    for (let index = 0; index < length; index += 1) text += alphabet.charAt(Math.floor(next() * alphabet.length))
    return text
  }
  return {
    next,
    int,
    pick: items => {
      if (items.length === 0) throw new RangeError('pick: the list is empty')
      // Within bounds by construction; the item itself may be undefined.
      return items[Math.floor(next() * items.length)] as (typeof items)[number]
    },
    text: length => chars(LETTERS, length),
    hex: length => chars('0123456789abcdef', length),
  }
}
