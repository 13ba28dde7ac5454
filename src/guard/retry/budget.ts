/**
 * Retry budget: retries may add only a share to the load of a dependency, so that an outage is not fed by its callers.
 *
 * Over a sliding window of ten one-second slots, retries are allowed up to 20 % of the calls (Finagle's RetryBudget;
 * Linkerd and tower have the same share) plus a floor of one a second, so that a quiet service may still retry.
 * One budget per dependency, shared by all its operations and by retries and hedges. Constant memory, no timer.
 */
import { atLeast } from '../numbers.ts'

export interface RetryBudgetOptions {
  /** Retries per call, 0..1. Default 0.2. */
  readonly ratio?: number
  /** Retries a second that are always allowed, in each process. Default 1: enough for a quiet service, too little to feed an outage (Finagle's 10 let ten quiet processes send a hundred a second; docs/retry-storm.md). */
  readonly perSecond?: number
}

export const RETRY_BUDGET_DEFAULTS: Readonly<Required<RetryBudgetOptions>> = Object.freeze({ ratio: 0.2, perSecond: 1 })

const SLOTS = 10
const SLOT_MS = 1_000

export class RetryBudget {
  readonly ratio: number
  readonly perSecond: number
  readonly #calls = new Float64Array(SLOTS)
  readonly #retries = new Float64Array(SLOTS)
  #slot = 0

  /** @throws HF_OPTION_INVALID */
  constructor(options: RetryBudgetOptions, where: string) {
    const given = { ...RETRY_BUDGET_DEFAULTS, ...options }
    this.ratio = atLeast(given.ratio, 0, `${where}: ratio`)
    this.perSecond = atLeast(given.perSecond, 0, `${where}: perSecond`)
  }

  /** A call was made. `now` is monotonic. */
  deposit(now: number): void {
    this.#turn(now)
    const index = this.#slot % SLOTS
    this.#calls[index] = (this.#calls[index] ?? 0) + 1
  }

  /** Takes one retry out; false when there is none left. */
  withdraw(now: number): boolean {
    this.#turn(now)
    if (this.#left() < 1) return false
    const index = this.#slot % SLOTS
    this.#retries[index] = (this.#retries[index] ?? 0) + 1
    return true
  }

  /** Retries that would be allowed now. */
  left(now: number): number {
    this.#turn(now)
    return Math.max(0, Math.floor(this.#left()))
  }

  #left(): number {
    let calls = 0
    let retries = 0
    for (let index = 0; index < SLOTS; index += 1) {
      calls += this.#calls[index] ?? 0
      retries += this.#retries[index] ?? 0
    }
    return this.perSecond * SLOTS + calls * this.ratio - retries
  }

  #turn(now: number): void {
    const slot = Math.floor(now / SLOT_MS)
    if (slot === this.#slot) return
    for (let passed = Math.max(this.#slot + 1, slot - SLOTS + 1); passed <= slot; passed += 1) {
      this.#calls[passed % SLOTS] = 0
      this.#retries[passed % SLOTS] = 0
    }
    this.#slot = slot
  }
}

/**
 * A budget that several retry and hedge policies share.
 * @throws HF_OPTION_INVALID
 */
export function retryBudget(options: RetryBudgetOptions = {}): RetryBudget {
  return new RetryBudget(options, 'retry budget')
}
