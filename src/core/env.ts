/**
 * The one door to everything that is not determined by the program itself: time, randomness, outside calls.
 *
 * All code in `src/` takes an `Env`; the linter forbids the globals everywhere but here. `realEnv()` is production,
 * `holdfast/testing` has the simulated one, in which a schedule of ten minutes runs in a millisecond and is replayed
 * by its seed.
 *
 * Durations are measured with `monotonic()`, records carry `now()`; what several instances share (leases, keys)
 * uses the database's clock and never this one.
 */
import { randomBytes, randomUUID } from 'node:crypto'
import { unwatchAbort, watchAbort } from './abort-watch.ts'

/** A timer that has not fired yet. Cancelling twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void
}

export interface Env {
  /** Wall clock, milliseconds since 1970. May jump. */
  now(): number
  /** Milliseconds that never jump and never go back. */
  monotonic(): number
  /**
   * Calls `run` once after `ms`. Keeps the process alive only with `keepAlive`.
   * Any length is allowed: beyond 2^31 ms (where `setTimeout` fires at once) it is chunked.
   */
  timer(ms: number, run: () => void, options?: { readonly keepAlive?: boolean }): Timer
  /** Resolves after `ms`; when `signal` aborts it resolves at once (the caller looks at the signal). Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** In [0, 1). Not for secrets. */
  random(): number
  /** Version 4. */
  uuid(): string
  /** For secrets: tokens and keys. */
  bytes(length: number): Uint8Array
  /** Every outside HTTP call. */
  readonly fetch: (input: string | URL | Request, init?: RequestInit) => Promise<Response>
}

/** `setTimeout` holds its delay in 31 bits. */
const TIMER_MAX_MS = 2_147_483_647

/** The real world. */
export function realEnv(): Env {
  const env: Env = {
    now: () => Date.now(),
    monotonic: () => performance.now(),
    timer: (ms, run, options) => {
      let handle: NodeJS.Timeout | undefined
      let due: NodeJS.Immediate | undefined
      const arm = (left: number): void => {
        const chunk = Math.min(left, TIMER_MAX_MS)
        handle = setTimeout(() => {
          // After a stalled event loop, timers come before what has arrived meanwhile. One turn of the loop lets an answer
          // that is here already be read, so that our own slowness is not taken for a timeout of somebody else.
          if (left > chunk) arm(left - chunk)
          else due = setImmediate(run)
        }, chunk)
        if (options?.keepAlive !== true) handle.unref()
      }
      arm(Math.max(0, ms))
      return {
        cancel: () => {
          clearTimeout(handle)
          clearImmediate(due)
        },
      }
    },
    sleep: (ms, signal) => sleepWith(env, ms, signal),
    random: () => Math.random(),
    uuid: () => randomUUID(),
    bytes: length => new Uint8Array(randomBytes(length)),
    fetch: (input, init) => fetch(input, init),
  }
  return env
}

/** `sleep` on top of `timer`, for every Env. A signal that many sleeps share has one listener, and none when they are over. */
export function sleepWith(env: Pick<Env, 'timer'>, ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve()
  return new Promise(resolve => {
    const finish = (): void => {
      timer.cancel()
      if (signal !== undefined) unwatchAbort(signal, watcher)
      resolve()
    }
    const watcher = { aborted: finish }
    // A sleep is the work of the loop that sleeps: it keeps the process alive until it is aborted.
    const timer = env.timer(ms, finish, { keepAlive: true })
    if (signal !== undefined) watchAbort(signal, watcher)
  })
}
