/**
 * Something that is looked at again and again, one look at a time, without keeping the process alive.
 *
 * `look` says itself what a failure means; one that throws is looked at again like any other.
 */
import type { Env, Timer } from '../core/index.ts'

export interface Poll {
  /** Resolves when the look in progress has ended. No look begins after this call. */
  stop(): Promise<void>
}

export function poll(env: Pick<Env, 'timer'>, everyMs: number, look: () => Promise<void>): Poll {
  let stopped = false
  let current: Promise<void> = Promise.resolve()
  const arm = (): Timer => env.timer(everyMs, () => {
    current = look().catch(() => undefined).then(() => { if (!stopped) timer = arm() })
  })
  let timer = arm()
  return {
    stop: () => {
      stopped = true
      timer.cancel()
      return current
    },
  }
}
