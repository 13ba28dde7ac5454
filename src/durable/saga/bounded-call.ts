/**
 * Outside calls of a run, each with a signal of its own and an end.
 *
 * The signal aborts at the timeout, when the run is to stop, and when the run was lost. After a timeout or a stop the call is waited for a little
 * longer, because what it says then is worth more than a guess; whoever does not answer even then is left behind.
 */
import { HoldfastError, type Env } from '../../core/index.ts'
import type { KeepAlive } from '../keep-alive.ts'

/** A call that honours its signal says within this how it ended. */
const GRACE_MS = 5_000

export class BoundedCalls {
  readonly #env: Env
  readonly #keepAlive: KeepAlive
  #abort: ((error: HoldfastError) => void) | undefined

  constructor(env: Env, keepAlive: KeepAlive) {
    this.#env = env
    this.#keepAlive = keepAlive
  }

  /** Aborts the call that is at work, if one is. */
  abort(error: HoldfastError): void {
    this.#abort?.(error)
  }

  /** @throws what `work` throws, or what it was aborted with when it does not answer */
  async run<T>(what: string, timeoutMs: number, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController()
    const { signal: lost } = this.#keepAlive
    const onLost = (): void => { controller.abort(lost.reason) }
    if (lost.aborted) onLost()
    else lost.addEventListener('abort', onLost, { once: true })
    let leave: (error: HoldfastError) => void = () => undefined
    const left = new Promise<never>((_, reject) => { leave = reject })
    let grace: ReturnType<Env['timer']> | undefined
    const abort = (error: HoldfastError): void => {
      if (grace !== undefined) return
      grace = this.#env.timer(GRACE_MS, () => { leave(error) })
      controller.abort(error)
    }
    this.#abort = abort
    const timer = this.#env.timer(timeoutMs, () => { abort(new HoldfastError('HF_TIMEOUT', { message: `${what} took longer than ${String(timeoutMs)} ms` })) })
    try {
      return await Promise.race([work(controller.signal), left])
    } finally {
      this.#abort = undefined
      timer.cancel()
      grace?.cancel()
      lost.removeEventListener('abort', onLost)
    }
  }
}
