/**
 * Calls that ended within the last while, and how many of them badly: ten slots and two sums, whatever the traffic.
 *
 * A call costs one comparison and two additions; a slot that is over is subtracted from the sums once. The slot that runs
 * counts as a whole, so what is seen is nine to ten tenths of the window and never a call that is older than it.
 * Ten slots as in Hystrix and opossum. Only calls that have ended are counted: a hundred that hang are no denominator.
 */
import type { RateRule } from './machine.ts'

const SLOTS = 10

export class CallWindow {
  readonly #slotMs: number
  /** For each slot how many ended, then for each how many badly. */
  readonly #slots = new Int32Array(2 * SLOTS)
  #head = 0
  #headEndsAt = 0
  #completed = 0
  #bad = 0

  constructor(withinMs: number) {
    this.#slotMs = withinMs / SLOTS
  }

  /** Calls that ended, as of the last `add` or `roll`. */
  get completed(): number {
    return this.#completed
  }

  get bad(): number {
    return this.#bad
  }

  add(now: number, bad: boolean): void {
    this.roll(now)
    const slot = this.#head % SLOTS
    this.#slots[slot] = (this.#slots[slot] ?? 0) + 1
    this.#completed += 1
    if (!bad) return
    this.#slots[SLOTS + slot] = (this.#slots[SLOTS + slot] ?? 0) + 1
    this.#bad += 1
  }

  /** Forgets what is too old at `now`. */
  roll(now: number): void {
    if (now < this.#headEndsAt) return
    const tick = Math.max(this.#head, Math.floor(now / this.#slotMs))
    if (tick - this.#head >= SLOTS) this.clear()
    else {
      for (let over = this.#head + 1; over <= tick; over += 1) {
        const slot = over % SLOTS
        this.#completed -= this.#slots[slot] ?? 0
        this.#bad -= this.#slots[SLOTS + slot] ?? 0
        this.#slots[slot] = 0
        this.#slots[SLOTS + slot] = 0
      }
    }
    this.#head = tick
    this.#headEndsAt = (tick + 1) * this.#slotMs
  }

  clear(): void {
    this.#slots.fill(0)
    this.#completed = 0
    this.#bad = 0
  }

  /** A quotient, not a product: 3 of 30 is exactly 0.1. */
  breaks(rule: RateRule): boolean {
    return this.#completed >= rule.minimumCalls && this.#bad / this.#completed >= rule.ratio
  }
}
