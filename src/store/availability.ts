/**
 * Is the store there? Announces the transitions only: `store.lost` once when it goes, `store.recovered` once when it answers again.
 *
 * Fed by every transaction and ping; it makes no calls of its own.
 */
import { HoldfastError, type Env, type EventBus } from '../core/index.ts'

export class Availability {
  readonly #env: Pick<Env, 'monotonic'>
  readonly #events: EventBus
  #lostAtMs: number | undefined

  constructor(env: Pick<Env, 'monotonic'>, events: EventBus) {
    this.#env = env
    this.#events = events
  }

  answered(): void {
    if (this.#lostAtMs === undefined) return
    const awayMs = this.#env.monotonic() - this.#lostAtMs
    this.#lostAtMs = undefined
    this.#events.emit('store.recovered', { awayMs })
  }

  /** Says what an error tells: the store is gone, the store answered (with a refusal), or nothing (the caller's own error). */
  noticed(error: unknown): void {
    // `local`: refused on this side (closed, or too many wait for a turn).
    if (!(error instanceof HoldfastError) || error.context['local'] === true) return
    if (error.code === 'HF_STORE_UNAVAILABLE' || error.code === 'HF_STORE_UNKNOWN_COMMIT') {
      if (this.#lostAtMs !== undefined) return
      this.#lostAtMs = this.#env.monotonic()
      this.#events.emit('store.lost', { message: error.message })
    } else if (error.code === 'HF_STORE_CONFLICT' || (error.code === 'HF_QUERY_FAILED' && error.context['sqlstate'] !== undefined)) {
      this.answered()
    }
  }
}
