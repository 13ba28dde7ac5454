/**
 * One attempt of guarded work: its number, key and lazily made signal, and how it ended.
 *
 * It ends at its time limit or when its caller gives up, whatever the work does; work that runs on is told through
 * `signal` (made only when somebody reads it, and never shared with another attempt) and reported to the owner when it
 * comes back at last, so that its slot is not given away before. Nothing here rejects: late results are swallowed.
 */
import { type AbortWatcher, HoldfastError } from '../core/index.ts'
import { TimerEntry, type TimerQueue } from './timer-queue.ts'

/** What guarded work is given. */
export interface Attempt {
  /** This attempt's own: aborts at its timeout, at the call's deadline, and when the caller gives up. */
  readonly signal: AbortSignal
  /** 1 for the first. */
  readonly number: number
  /** The same over all attempts of one call: send it as the idempotency key. */
  readonly key: string
  /** Milliseconds until nobody waits for this attempt any more: tell the other side, so that it drops what comes too late. `Infinity` without a limit. */
  readonly leftMs: number
}

/** `lost`: another attempt of a hedged call was faster. */
export type Ending = 'running' | 'value' | 'threw' | 'timeout' | 'deadline' | 'cancelled' | 'lost'

/** On whose behalf an attempt runs. */
export interface AttemptHost {
  readonly timers: TimerQueue
  /** For what is said about it. */
  readonly operation: string
  /** The idempotency key, made when it is first read. */
  readonly key: string
  /** It ended without its work: the caller goes on, the work may run on. */
  left(attempt: RunningAttempt<unknown>): void
  /** Its work is over, in time or late. */
  over(attempt: RunningAttempt<unknown>): void
}

/** Who goes on when an attempt has ended. */
export interface AttemptListener {
  ended(attempt: RunningAttempt<unknown>): void
}

export class RunningAttempt<T> extends TimerEntry implements Attempt, AbortWatcher {
  readonly number: number
  readonly #host: AttemptHost
  readonly #limit: 'timeout' | 'deadline'
  /** Who is told when it is left alone; made when somebody wants to know. */
  #told: { controller: AbortController | undefined; readonly watchers: Set<AbortWatcher> } | undefined
  #listener: AttemptListener | undefined
  ending: Ending = 'running'
  #result: unknown = undefined

  constructor(host: AttemptHost, number: number, limit: 'timeout' | 'deadline') {
    super()
    this.#host = host
    this.number = number
    this.#limit = limit
  }

  get key(): string {
    return this.#host.key
  }

  get operation(): string {
    return this.#host.operation
  }

  get signal(): AbortSignal {
    const told = this.#listeners()
    if (told.controller === undefined) {
      told.controller = new AbortController()
      if (this.leftAlone) told.controller.abort(this.#reason())
    }
    return told.controller.signal
  }

  /** What the work answered. */
  get value(): T | undefined {
    return this.ending === 'value' ? this.#result as T : undefined
  }

  /** What the work threw. */
  get error(): unknown {
    return this.ending === 'threw' ? this.#result : undefined
  }

  get leftMs(): number {
    return Math.max(0, this.dueAt - this.#host.timers.env.monotonic())
  }

  /** Whether it ended without its work, which may run on. */
  get leftAlone(): boolean {
    return this.ending === 'timeout' || this.ending === 'deadline' || this.ending === 'cancelled' || this.ending === 'lost'
  }

  /** `watcher` is told when the attempt is left alone, without making a signal; at once when it was. */
  watch(watcher: AbortWatcher): void {
    if (this.leftAlone) {
      watcher.aborted()
      return
    }
    this.#listeners().watchers.add(watcher)
  }

  unwatch(watcher: AbortWatcher): void {
    this.#told?.watchers.delete(watcher)
  }

  /** Runs the work for at most `ms`. When it is over at once, `ending` says so afterwards. */
  begin(work: (attempt: Attempt) => T | Promise<T>, ms: number, now: number): void {
    this.dueAt = now + ms
    let result: T | Promise<T>
    try {
      result = work(this)
    } catch (error) {
      this.#end('threw', error)
      this.#host.over(this)
      return
    }
    if (!isThenable(result)) {
      this.#end('value', result)
      this.#host.over(this)
      return
    }
    this.#host.timers.add(this, ms, now)
    // A foreign thenable may call back twice, throw, or never yield; Promise.resolve gives it a promise's manners.
    const promise = result instanceof Promise ? result : Promise.resolve(result)
    promise.then(
      value => { this.#came('value', value) },
      (error: unknown) => { this.#came('threw', error) },
    )
  }

  /** Tells `listener` when it has ended. For an attempt that has not, and once. */
  listen(listener: AttemptListener): void {
    this.#listener = listener
  }

  /** The same as a promise; undefined when it is over already. */
  whenEnded(): Promise<void> | undefined {
    if (this.ending !== 'running') return undefined
    return new Promise(resolve => { this.listen({ ended: () => { resolve() } }) })
  }

  /** `begin` and `whenEnded`. */
  start(work: (attempt: Attempt) => T | Promise<T>, ms: number, now: number): Promise<void> | undefined {
    this.begin(work, ms, now)
    return this.whenEnded()
  }

  /** Called by the timer queue. */
  expire(): void {
    this.#leave(this.#limit)
  }

  /** Called when the caller's signal aborts. */
  aborted(): void {
    this.#leave('cancelled')
  }

  /** Called when another attempt of the same call has the answer. */
  lose(): void {
    this.#leave('lost')
  }

  #came(ending: 'value' | 'threw', result: unknown): void {
    if (this.ending === 'running') {
      this.#end(ending, result)
      this.#listener?.ended(this)
    }
    this.#host.over(this)
  }

  #leave(ending: 'timeout' | 'deadline' | 'cancelled' | 'lost'): void {
    if (this.ending !== 'running') return
    this.#end(ending, undefined)
    this.#listener?.ended(this)
    this.#host.left(this)
    if (this.#told === undefined) return
    this.#told.controller?.abort(this.#reason())
    for (const watcher of [...this.#told.watchers]) watcher.aborted()
  }

  #listeners(): { controller: AbortController | undefined; readonly watchers: Set<AbortWatcher> } {
    this.#told ??= { controller: undefined, watchers: new Set() }
    return this.#told
  }

  #end(ending: Ending, result: unknown): void {
    this.ending = ending
    this.#result = result
    this.#host.timers.remove(this)
  }

  #reason(): HoldfastError {
    const code = this.ending === 'timeout' ? 'HF_TIMEOUT' : this.ending === 'deadline' ? 'HF_DEADLINE' : 'HF_CANCELLED'
    return new HoldfastError(code, { message: `the guarded call stopped waiting for this work (${this.ending})`, stackless: true })
  }
}

function isThenable<T>(value: T | Promise<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
