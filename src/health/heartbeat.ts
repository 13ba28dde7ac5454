/**
 * Liveness: does the event loop turn? It asks nobody outside, so a dependency can never get the process killed.
 */
import { type Env, type Timer } from '../core/index.ts'

/** What the process says of itself. */
export interface Liveness {
  /** False only when the loop stood still for longer than `STALLED_AFTER_MS`. */
  readonly alive: boolean
  /** How late the last beat was: the event loop's lag. */
  readonly lagMs: number
  readonly uptimeMs: number
}

const BEAT_MS = 1_000
/** A loop that stands still for half a minute serves nobody; shorter pauses (garbage collection, a heavy query) pass. */
export const STALLED_AFTER_MS = 30_000

export class Heartbeat {
  readonly #env: Env
  readonly #startedAt: number
  #timer: Timer | undefined
  #expectedAt: number | undefined
  #lagMs = 0

  constructor(env: Env) {
    this.#env = env
    this.#startedAt = env.monotonic()
  }

  start(): void {
    this.stop()
    this.#beat()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#expectedAt = undefined
  }

  look(): Liveness {
    const now = this.#env.monotonic()
    const overdueMs = this.#expectedAt === undefined ? 0 : Math.max(0, now - this.#expectedAt)
    return { alive: overdueMs < STALLED_AFTER_MS, lagMs: Math.max(this.#lagMs, overdueMs), uptimeMs: now - this.#startedAt }
  }

  #beat(): void {
    this.#expectedAt = this.#env.monotonic() + BEAT_MS
    this.#timer = this.#env.timer(BEAT_MS, () => {
      this.#lagMs = Math.max(0, this.#env.monotonic() - (this.#expectedAt ?? 0))
      this.#beat()
    })
  }
}
