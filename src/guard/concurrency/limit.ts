/**
 * Concurrency limit: at most so many pieces of work at a dependency at once, and a short, bounded queue before it.
 *
 * A slot is held until the work is really over: what runs on after its timeout still counts, because the dependency
 * still has it. Waiting ends at once when the caller gives up or the deadline passes, and frees the place in the queue.
 * First come, first served.
 * Not here: adaptive limits, priorities.
 */
import { checkName, HoldfastError, type Env } from '../../core/index.ts'
import { unwatchAbort, watchAbort, type AbortWatcher } from '../abort-watch.ts'
import { wholeNumber } from '../numbers.ts'
import { defaultKit, innerScope, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from '../policy.ts'
import { TimerEntry, timerQueue, type TimerQueue } from '../timer-queue.ts'

export interface ConcurrencyOptions {
  /** Pieces of work at once. Default 100. */
  readonly limit: number
  /** Callers that may wait. Default: as many as `limit`. */
  readonly queue?: number
}

export const CONCURRENCY_DEFAULTS: Readonly<ConcurrencyOptions> = Object.freeze({ limit: 100 })

export interface ConcurrencyRules {
  readonly limit: number
  readonly queue: number
}

/** @throws HF_OPTION_INVALID */
export function resolveConcurrency(options: number | ConcurrencyOptions | undefined, where: string): ConcurrencyRules {
  const given = typeof options === 'number' ? { limit: options } : (options ?? CONCURRENCY_DEFAULTS)
  const limit = wholeNumber(given.limit, 1, where)
  return { limit, queue: wholeNumber(given.queue ?? limit, 0, `${where}: queue`) }
}

/** One caller in the queue. */
export class Waiter extends TimerEntry implements AbortWatcher {
  readonly #slots: Slots
  readonly promise: Promise<void>
  #wake: () => void = () => undefined
  ending: 'waiting' | 'granted' | 'deadline' | 'cancelled' = 'waiting'

  constructor(slots: Slots) {
    super()
    this.#slots = slots
    this.promise = new Promise(resolve => { this.#wake = resolve })
  }

  expire(): void {
    this.end('deadline')
  }

  aborted(): void {
    this.end('cancelled')
  }

  end(ending: 'granted' | 'deadline' | 'cancelled'): void {
    if (this.ending !== 'waiting') return
    this.ending = ending
    this.#slots.leave(this)
    this.#wake()
  }
}

/** The counter and the queue. */
export class Slots {
  readonly rules: ConcurrencyRules
  readonly #timers: TimerQueue
  readonly #waiting = new Set<Waiter>()
  #inFlight = 0

  constructor(rules: ConcurrencyRules, env: Env) {
    this.rules = rules
    this.#timers = timerQueue(env)
  }

  get inFlight(): number {
    return this.#inFlight
  }

  get queued(): number {
    return this.#waiting.size
  }

  tryTake(): boolean {
    if (this.#inFlight >= this.rules.limit) return false
    this.#inFlight += 1
    return true
  }

  /** A place in the queue, for at most `ms`; undefined when it is full. Who is granted has the slot. */
  join(ms: number, now: number): Waiter | undefined {
    if (this.#waiting.size >= this.rules.queue) return undefined
    const waiter = new Waiter(this)
    this.#waiting.add(waiter)
    if (ms !== Number.POSITIVE_INFINITY) this.#timers.add(waiter, Math.max(0, ms), now)
    return waiter
  }

  leave(waiter: Waiter): void {
    this.#waiting.delete(waiter)
    this.#timers.remove(waiter)
  }

  /** Gives a slot back: it goes to the first in the queue, without being free in between. */
  give(): void {
    for (const first of this.#waiting) {
      first.end('granted')
      return
    }
    this.#inFlight -= 1
  }
}

export class ConcurrencyLimit implements Policy {
  readonly kind = 'concurrency-limit'
  readonly name: string
  readonly #env: Env
  readonly #slots: Slots

  constructor(name: string, rules: ConcurrencyRules, env: Env) {
    checkName('concurrency limit', name)
    this.name = name
    this.#env = env
    this.#slots = new Slots(rules, env)
  }

  get inFlight(): number {
    return this.#slots.inFlight
  }

  get queued(): number {
    return this.#slots.queued
  }

  /** @throws HF_OVERLOADED (the queue is full), HF_DEADLINE, HF_CANCELLED (while waiting) */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.#env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    const slots = this.#slots
    if (scope.signal.aborted) throw this.#refusal('cancelled')
    if (!slots.tryTake()) {
      const now = this.#env.monotonic()
      const waiter = slots.join(scope.deadlineAt - now, now)
      if (waiter === undefined) throw this.#refusal('overloaded')
      watchAbort(scope.signal, waiter)
      await waiter.promise
      unwatchAbort(scope.signal, waiter)
      if (waiter.ending !== 'granted') throw this.#refusal(waiter.ending === 'cancelled' ? 'cancelled' : 'deadline')
    }
    let runningOn: Promise<void> | undefined
    const runsOn = (over: Promise<void>): void => {
      runningOn = over
      scope.runsOn?.(over)
    }
    try {
      return await work(innerScope(scope, { runsOn }))
    } finally {
      if (runningOn === undefined) slots.give()
      else void (runningOn).then(() => { slots.give() })
    }
  }

  #refusal(reason: 'overloaded' | 'deadline' | 'cancelled'): HoldfastError {
    const code = reason === 'overloaded' ? 'HF_OVERLOADED' : reason === 'deadline' ? 'HF_DEADLINE' : 'HF_CANCELLED'
    return new HoldfastError(code, { message: `${this.name}: ${reasonText(reason, this.#slots)}`, context: { limit: this.name }, stackless: true })
  }
}

export function reasonText(reason: 'overloaded' | 'deadline' | 'cancelled', slots: Slots): string {
  if (reason === 'cancelled') return 'the caller gave up'
  if (reason === 'deadline') return 'the deadline passed before the call could begin'
  return `${String(slots.inFlight)} calls are in flight and ${String(slots.queued)} wait, which is as many as it takes`
}

/**
 * A concurrency limit on its own.
 * @throws HF_OPTION_INVALID
 */
export function concurrencyLimit(name: string, options: number | ConcurrencyOptions, kit: GuardKit = defaultKit()): ConcurrencyLimit {
  return new ConcurrencyLimit(name, resolveConcurrency(options, `concurrency limit ${name}`), kit.env)
}
