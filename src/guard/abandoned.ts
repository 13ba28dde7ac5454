/**
 * Work that runs on although nobody waits for it any more: counted, and announced once when it doesn't come back soon.
 */
import type { Env } from '../core/index.ts'
import type { RunningAttempt } from './attempt.ts'
import { TimerEntry, timerQueue, type TimerQueue } from './timer-queue.ts'

/** Work that has not come back this long after it was told to stop is announced. */
const ANNOUNCED_AFTER_MS = 1_000

export class AbandonedWork {
  readonly #attempts = new Map<RunningAttempt<unknown>, Announcement>()
  readonly #env: Env
  readonly #timers: TimerQueue
  readonly #announce: (operation: string, abandoned: number) => void
  readonly #ended: () => void

  /** `ended` is told of each piece of work that is really over, in time or late. */
  constructor(env: Env, announce: (operation: string, abandoned: number) => void, ended: () => void) {
    this.#env = env
    this.#timers = timerQueue(env)
    this.#announce = announce
    this.#ended = ended
  }

  get size(): number {
    return this.#attempts.size
  }

  left(attempt: RunningAttempt<unknown>): void {
    const announcement = new Announcement(() => { this.#announce(attempt.operation, this.#attempts.size) })
    this.#timers.add(announcement, ANNOUNCED_AFTER_MS, this.#env.monotonic())
    this.#attempts.set(attempt, announcement)
  }

  over(attempt: RunningAttempt<unknown>): void {
    if (this.#attempts.size > 0) {
      const announcement = this.#attempts.get(attempt)
      if (announcement !== undefined) {
        this.#timers.remove(announcement)
        this.#attempts.delete(attempt)
      }
    }
    this.#ended()
  }
}

class Announcement extends TimerEntry {
  readonly #announce: () => void

  constructor(announce: () => void) {
    super()
    this.#announce = announce
  }

  expire(): void {
    this.#announce()
  }
}
