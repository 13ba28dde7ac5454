/**
 * Concurrency limit: at most so many pieces of work at a dependency (or in a server) at once, and a short, bounded queue.
 *
 * Work that runs on after its timeout still counts, because the dependency still has it. The queue, its priorities and
 * its deadlines: ./slots.ts.
 */
import { checkName, durationMs, HoldfastError, type Duration, type Env } from '../../core/index.ts'
import { unwatchAbort, watchAbort } from '../abort-watch.ts'
import { refused, wholeNumber } from '../numbers.ts'
import { defaultKit, innerScope, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from '../policy.ts'
import { Slots, type ConcurrencyRules } from './slots.ts'

export { Slots, Waiter, type ConcurrencyRules, type Priority } from './slots.ts'

export interface ConcurrencyOptions {
  /** Pieces of work at once. Default 100. */
  readonly limit: number
  /** Callers that may wait. Default: as many as `limit`. */
  readonly queue?: number
  /** What must be left of a caller's deadline when its work begins, else it is refused. Default: what the work has typically taken of late. `'0ms'`: anything. */
  readonly margin?: Duration
  /** Background work begins while less than this share of the slots is taken (one slot at least); the rest is kept for the others. 0..1. Default 0.8. */
  readonly backgroundShare?: number
}

export const CONCURRENCY_DEFAULTS: Readonly<{ readonly limit: number; readonly backgroundShare: number }> = Object.freeze({ limit: 100, backgroundShare: 0.8 })

/** @throws HF_OPTION_INVALID */
export function resolveConcurrency(options: number | ConcurrencyOptions | undefined, where: string): ConcurrencyRules {
  const given: ConcurrencyOptions = typeof options === 'number' ? { limit: options } : (options ?? { limit: CONCURRENCY_DEFAULTS.limit })
  const limit = wholeNumber(given.limit, 1, where)
  const backgroundShare = given.backgroundShare ?? CONCURRENCY_DEFAULTS.backgroundShare
  if (!(backgroundShare >= 0 && backgroundShare <= 1)) throw refused(`${where}: backgroundShare`, 'a number of 0 to 1', backgroundShare)
  return {
    limit, backgroundShare, queue: wholeNumber(given.queue ?? limit, 0, `${where}: queue`),
    marginMs: given.margin === undefined ? undefined : durationMs(given.margin, `${where}: margin`, { min: 0 }),
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
      if (typeof waiter === 'string') throw this.#refusal(waiter)
      watchAbort(scope.signal, waiter)
      await waiter.promise
      unwatchAbort(scope.signal, waiter)
      if (waiter.ending !== 'granted') throw this.#refusal(waiter.ending === 'waiting' ? 'deadline' : waiter.ending)
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
    return new HoldfastError(code, { message: `${this.name}: ${reasonText(reason, this.#slots)}`, context: { limit: this.name, policy: this.kind }, stackless: true })
  }
}

export function reasonText(reason: 'overloaded' | 'deadline' | 'cancelled', slots: Slots): string {
  if (reason === 'cancelled') return 'the caller gave up'
  if (reason === 'deadline') return 'too little was left of the deadline for the call to begin'
  return `${String(slots.inFlight)} calls are in flight and ${String(slots.queued)} wait, which is as many as it takes`
}

/**
 * A concurrency limit on its own.
 * @throws HF_OPTION_INVALID
 */
export function concurrencyLimit(name: string, options: number | ConcurrencyOptions, kit: GuardKit = defaultKit()): ConcurrencyLimit {
  return new ConcurrencyLimit(name, resolveConcurrency(options, `concurrency limit ${name}`), kit.env)
}
