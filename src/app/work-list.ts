/**
 * What was last read from the store: stuck work, backlogs. The page shows it, however the store does.
 *
 * One read at a time and each look bounded, so that a store that hangs gathers no queue of reads behind it.
 */
import type { Env } from '../core/index.ts'
import { endsWithin } from './bounded.ts'

/** A page that needs longer shows the last list. */
const READ_MS = 1_000

export class WorkList<Item> {
  readonly #env: Env
  readonly #read: () => Promise<readonly Item[]>
  #reading: Promise<void> | undefined
  #last: readonly Item[] = []

  constructor(env: Env, read: () => Promise<readonly Item[]>) {
    this.#env = env
    this.#read = read
  }

  get last(): readonly Item[] {
    return this.#last
  }

  /** Never rejects; at most a second. */
  async refresh(): Promise<void> {
    this.#reading ??= this.#look().finally(() => { this.#reading = undefined })
    const { env, reading } = { env: this.#env, reading: this.#reading }
    await endsWithin(env, READ_MS, () => reading)
  }

  async #look(): Promise<void> {
    try {
      this.#last = await this.#read()
    } catch {
      // The store is away, which the page says; the last list stays.
    }
  }
}
