/**
 * Keeps a lease that somebody was granted, and knows without asking when it is over.
 *
 * Promise: `signal` aborts before another can take over, by this process's monotonic clock, also when the store hangs or
 * the event loop was stalled: a heartbeat that comes later than the end of the lease is a loss and never a renewal.
 * Not here: fences. They refuse in SQL what a holder writes that did not notice its own end.
 */
import { HoldfastError, unwatchAbort, watchAbort, type Env, type Timer } from '../core/index.ts'

export interface KeepAliveOptions {
  readonly env: Env
  /** For the error, as `lease worker:activation`. */
  readonly what: string
  readonly ttlMs: number
  /** Monotonic time before the lease was asked for: the database's expiry cannot be earlier than this plus ttl. */
  readonly askedAtMs: number
  /** Extends the lease in the store; false when it is somebody else's by now. */
  readonly renew: (signal: AbortSignal) => Promise<boolean>
  readonly onLost?: (reason: string) => void
}

/** Part of the lease that the holder gives up, so that it has stopped before the database's clock lets another in. */
const MARGIN_RATIO = 0.1
/** Two heartbeats may be missed. */
const HEARTBEATS_PER_TTL = 3
/** After a heartbeat that the store did not answer. */
const RETRIES_PER_TTL = 12

const GIVEN_BACK = 'the lease was given back'

export class KeepAlive {
  readonly #options: KeepAliveOptions
  readonly #lost = new AbortController()
  readonly #stopped = new AbortController()
  #untilMs: number
  #watch: Timer | undefined
  #next: Timer | undefined
  readonly #letGo: (() => void)[] = []

  constructor(options: KeepAliveOptions) {
    this.#options = options
    this.#untilMs = this.#end(options.askedAtMs)
    this.#arm()
    this.#schedule(options.ttlMs / HEARTBEATS_PER_TTL)
  }

  /** Aborts when the lease is lost; its reason is HF_LEASE_LOST. Not when it is stopped. */
  get signal(): AbortSignal {
    return this.#lost.signal
  }

  get held(): boolean {
    if (this.#stopped.signal.aborted || this.#lost.signal.aborted) return false
    return this.#options.env.monotonic() < this.#untilMs
  }

  /** The wall clock at its end, if it is not renewed. Later than the true end never: a process that is frozen in here reads an earlier one. */
  get endsAtMs(): number {
    const { env } = this.#options
    const nowMs = env.now()
    const leftMs = this.#untilMs - env.monotonic()
    return nowMs + (this.held ? leftMs : Math.min(0, leftMs))
  }

  /**
   * For work under the lease: aborts when it is lost or `outer` aborts, until `stop()`.
   * Not AbortSignal.any: on Node 20 a signal of it that somebody still listens to is kept for ever, one for each message.
   */
  until(outer: AbortSignal): AbortSignal {
    const work = new AbortController()
    const lost = this.#lost.signal
    lost.addEventListener('abort', () => { work.abort(lost.reason) }, { once: true })
    if (lost.aborted) work.abort(lost.reason)
    else if (outer.aborted) work.abort(outer.reason)
    else {
      // Shared by all who watch it: hundreds of works under one shutdown signal are one listener.
      const watcher = { aborted: (): void => { work.abort(outer.reason) } }
      watchAbort(outer, watcher)
      this.#letGo.push(() => { unwatchAbort(outer, watcher) })
    }
    return work.signal
  }

  /** No more heartbeats. Twice does nothing. */
  stop(): void {
    this.#watch?.cancel()
    this.#next?.cancel()
    // A reason of ours: without one each abort makes an exception with its stack.
    this.#stopped.abort(GIVEN_BACK)
    for (const letGo of this.#letGo.splice(0)) letGo()
  }

  /** Told from outside: the store refused a write of this fence. */
  lose(reason: string): void {
    if (this.#stopped.signal.aborted) return
    this.stop()
    this.#lost.abort(leaseLost(this.#options.what, reason))
    this.#options.onLost?.(reason)
  }

  #end(askedAtMs: number): number {
    return askedAtMs + this.#options.ttlMs * (1 - MARGIN_RATIO)
  }

  #arm(): void {
    this.#watch?.cancel()
    this.#watch = this.#options.env.timer(this.#untilMs - this.#options.env.monotonic(), () => { this.lose('it ran out before the store confirmed it again') })
  }

  #schedule(ms: number): void {
    this.#next = this.#options.env.timer(ms, () => { void this.#beat() })
  }

  async #beat(): Promise<void> {
    const askedAtMs = this.#options.env.monotonic()
    if (askedAtMs >= this.#untilMs) {
      this.lose('the process was stalled for longer than the lease')
      return
    }
    let renewed: boolean
    try {
      renewed = await this.#options.renew(this.#stopped.signal)
    } catch {
      // The store did not answer: the lease goes on until its end, which `#watch` keeps, and is asked for again until then.
      if (!this.#stopped.signal.aborted) this.#schedule(this.#options.ttlMs / RETRIES_PER_TTL)
      return
    }
    if (this.#stopped.signal.aborted) return
    if (!renewed) {
      this.lose('another instance took over')
      return
    }
    this.#untilMs = this.#end(askedAtMs)
    this.#arm()
    this.#schedule(this.#options.ttlMs / HEARTBEATS_PER_TTL)
  }
}

export function leaseLost(what: string, reason: string): HoldfastError {
  return new HoldfastError('HF_LEASE_LOST', { message: `${what} was lost: ${reason}`, context: { lease: what } })
}
