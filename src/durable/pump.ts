/**
 * Takes due items from a durable queue and works on a bounded number of them at a time.
 *
 * Promise: never more than `concurrency` at once; asks again at once when woken or when something was finished, else
 * every `pollMs`; a store that is away slows it down and never ends it; `stop()` takes nothing new, waits a bounded time
 * for what is in flight, and then aborts it.
 */
import type { Env } from '../core/index.ts'

export interface PumpOptions<Item> {
  readonly env: Env
  readonly concurrency: number
  readonly pollMs: number
  readonly drainMs: number
  /** At most `free` items, marked as taken in the store. */
  readonly take: (free: number) => Promise<readonly Item[]>
  /** Must not reject: the outcome of an item is recorded where it belongs. */
  readonly run: (item: Item, signal: AbortSignal) => Promise<void>
}

/** While the store is away: doubles from the poll interval up to this. */
const AWAY_WAIT_MAX_MS = 10_000

export class Pump<Item> {
  readonly #options: PumpOptions<Item>
  readonly #inFlight = new Set<Promise<void>>()
  #loop: Promise<void> | undefined
  #stopping = false
  #woken = false
  #sleeping: AbortController | undefined
  #abort = new AbortController()

  constructor(options: PumpOptions<Item>) {
    this.#options = options
  }

  get inFlight(): number {
    return this.#inFlight.size
  }

  get running(): boolean {
    return this.#loop !== undefined
  }

  /** Begins to take items. A second call does nothing. */
  start(): void {
    if (this.#loop !== undefined) return
    this.#stopping = false
    this.#abort = new AbortController()
    this.#loop = this.#run()
  }

  /** Something may be due now. */
  wake(): void {
    this.#woken = true
    this.#sleeping?.abort()
  }

  /** Resolves when nothing is taken any more and what was in flight is finished, or was aborted after the drain time. Answers how many were aborted. */
  async stop(): Promise<number> {
    this.#stopping = true
    this.wake()
    await this.#loop
    this.#loop = undefined
    const drained = new AbortController()
    await Promise.race([Promise.all(this.#inFlight), this.#options.env.sleep(this.#options.drainMs, drained.signal)])
    const left = this.#inFlight.size
    this.#abort.abort()
    drained.abort()
    return left
  }

  /** Takes and works until nothing is due, without the loop. Answers how many items were worked on. */
  async pass(itemsMax: number): Promise<number> {
    let worked = 0
    while (worked < itemsMax) {
      const items = await this.#options.take(Math.min(this.#options.concurrency, itemsMax - worked))
      if (items.length === 0) break
      worked += items.length
      await Promise.all(items.map(item => this.#options.run(item, this.#abort.signal)))
    }
    return worked
  }

  /** Runs until `stop()`: each turn takes what is due or sleeps. */
  async #run(): Promise<void> {
    const { env, concurrency, pollMs } = this.#options
    let awayMs = 0
    while (!this.#stopping) {
      this.#woken = false
      const free = concurrency - this.#inFlight.size
      try {
        const items = free > 0 ? await this.#options.take(free) : []
        awayMs = 0
        for (const item of items) this.#begin(item)
      } catch {
        // The store says itself that it is away (store.lost); here it only means to ask less often.
        awayMs = Math.min(AWAY_WAIT_MAX_MS, Math.max(pollMs, awayMs * 2))
      }
      if (awayMs > 0) this.#woken = false
      if (this.#woken || this.#stopping) continue
      this.#sleeping = new AbortController()
      await env.sleep(Math.max(pollMs, awayMs), this.#sleeping.signal)
      this.#sleeping = undefined
    }
  }

  #begin(item: Item): void {
    const work: Promise<void> = this.#options.run(item, this.#abort.signal).finally(() => {
      this.#inFlight.delete(work)
      // The next of its lane may be due now.
      this.wake()
    })
    this.#inFlight.add(work)
  }
}
