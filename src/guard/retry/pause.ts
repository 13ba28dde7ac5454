/**
 * A wait that is never shorter than asked for, and over at once when its caller gives up.
 */
import type { AbortWatcher, Env } from '../../core/index.ts'

export class Pause implements AbortWatcher {
  #finish: (() => void) | undefined
  cancelled = false

  start(env: Env, ms: number): Promise<void> {
    const until = env.monotonic() + ms
    return new Promise(resolve => {
      const arm = (): void => {
        const left = until - env.monotonic()
        // setTimeout may fire up to a millisecond early; a server that said "in 2 s" is not asked after 1.999 s.
        if (left <= 0 || this.cancelled) {
          resolve()
          return
        }
        const timer = env.timer(Math.ceil(left), arm, { keepAlive: true })
        this.#finish = () => {
          timer.cancel()
          resolve()
        }
      }
      arm()
    })
  }

  aborted(): void {
    this.cancelled = true
    this.#finish?.()
  }
}
