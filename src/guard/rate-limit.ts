/**
 * Outbound rate limit: we call a dependency no oftener than it allows, and callers wait briefly for their turn.
 *
 * A token bucket as one number (GCRA). First come, first served: nobody overtakes who waits, and when one in the queue
 * leaves, those behind move up at once. In no window of `per` do more than `limit + burst - 1` calls begin, also after
 * the event loop was late. A turn that is further off than `maxWait` or the caller's deadline is refused at once, with
 * the exact wait. Allowing a call costs a comparison: no clock, no timer, nothing allocated.
 * Not here: limits on who calls us (`holdfast/limits`), rates shared by several instances.
 */
import { type AbortWatcher, checkName, type Duration, durationMs, type Env, HoldfastError, humanDuration, type Timer } from '../core/index.ts'
import { paced, type Explanation } from './explain.ts'
import { refused, wholeNumber } from './numbers.ts'
import { cancelledError, defaultKit, errorContext, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from './policy.ts'
import { TimerEntry, timerQueue, type TimerQueue } from './timer-queue.ts'

export interface RateLimitOptions {
  /** Calls within `per`, at least 1: what the dependency allows this instance. Several instances divide it between them. */
  readonly limit: number
  readonly per: Duration
  /**
   * Calls that may begin at once after a quiet time: 1 to `limit`. 1 spaces every two calls evenly, so that not even a window across two bursts
   * holds more than `limit`; more makes up for timers that are late. Default: a tenth of `limit`, at least 1.
   */
  readonly burst?: number
  /**
   * A turn that is further off is refused at once. Default `'5s'` (resilience4j's `timeoutDuration`): longer queues outlive most callers' patience
   * and hide that the rate is too low. `'0ms'` never waits. It bounds the queue: no more wait than have their turn by then.
   */
  readonly maxWait?: Duration
}

export const RATE_LIMIT_DEFAULTS: Readonly<{ readonly maxWait: Duration; readonly burstShare: number }> = Object.freeze({ maxWait: '5s', burstShare: 0.1 })

export interface RateLimitRules {
  readonly limit: number
  readonly perMs: number
  /** Milliseconds in which one call becomes free. */
  readonly intervalMs: number
  readonly burst: number
  readonly maxWaitMs: number
}

/** More callers than this cannot be meant to wait. */
const WAITING_MAX = 100_000
/** Sums of floating-point intervals may be off by this much; far below a millisecond. */
const TOLERANCE_MS = 1e-3

/** @throws HF_OPTION_INVALID */
export function resolveRateLimit(options: RateLimitOptions, where: string): RateLimitRules {
  const limit = wholeNumber(options.limit, 1, `${where}: limit`)
  const perMs = durationMs(options.per, `${where}: per`)
  const intervalMs = perMs / limit
  const burst = wholeNumber(options.burst ?? Math.max(1, Math.floor(limit * RATE_LIMIT_DEFAULTS.burstShare)), 1, `${where}: burst`, limit)
  const maxWait = options.maxWait ?? RATE_LIMIT_DEFAULTS.maxWait
  const maxWaitMs = durationMs(maxWait, `${where}: maxWait`, { min: 0 })
  if (maxWaitMs / intervalMs > WAITING_MAX) throw refused(`${where}: maxWait`, `a wait that at most ${String(WAITING_MAX)} callers share`, maxWait)
  return { limit, perMs, intervalMs, burst, maxWaitMs }
}

/** One caller's place in the queue. Wait for `promise`, then look at `ending`. */
export class Turn extends TimerEntry implements AbortWatcher {
  readonly #gate: RateGate
  readonly promise: Promise<void>
  #wake: () => void = () => undefined
  ending: 'waiting' | 'granted' | 'deadline' | 'cancelled' = 'waiting'

  constructor(gate: RateGate) {
    super()
    this.#gate = gate
    this.promise = new Promise(resolve => { this.#wake = resolve })
  }

  /** Called by the timer queue: the deadline came first, because the event loop was late. */
  expire(): void {
    this.end('deadline')
  }

  /** Called when the caller's signal aborts. */
  aborted(): void {
    this.end('cancelled')
  }

  end(ending: 'granted' | 'deadline' | 'cancelled'): void {
    if (this.ending !== 'waiting') return
    this.ending = ending
    this.#gate.leave(this)
    this.#wake()
  }
}

/** The bucket and the queue before it. All times are monotonic milliseconds and given by the caller. */
export class RateGate {
  readonly rules: RateLimitRules
  readonly #env: Env
  readonly #timers: TimerQueue
  readonly #queue = new Set<Turn>()
  /** What may be used ahead of the even pace. */
  readonly #aheadMs: number
  /** When the bucket is full again. */
  #fullAt = 0
  #bell: Timer | undefined

  constructor(rules: RateLimitRules, env: Env) {
    this.rules = rules
    this.#env = env
    this.#timers = timerQueue(env)
    this.#aheadMs = (rules.burst - 1) * rules.intervalMs
  }

  /** Callers that wait for their turn. */
  get waiting(): number {
    return this.#queue.size
  }

  /** Takes a turn if one is free and nobody waits for it. */
  tryTake(now: number): boolean {
    if (this.#queue.size > 0 || !this.#free(now)) return false
    this.#take(now)
    return true
  }

  /** A place in the queue; undefined when its turn would not come within `leftMs` and `maxWait`. Only after `tryTake` said no. */
  join(leftMs: number, now: number): Turn | undefined {
    const waitMs = this.#turnInMs(now)
    if (waitMs > this.rules.maxWaitMs + TOLERANCE_MS || waitMs + TOLERANCE_MS >= leftMs) return undefined
    const turn = new Turn(this)
    this.#queue.add(turn)
    if (leftMs !== Number.POSITIVE_INFINITY) this.#timers.add(turn, leftMs, now)
    if (this.#bell === undefined) this.#arm(now)
    return turn
  }

  /** The least whole number of milliseconds after which a caller with as much time left is admitted, if nobody comes before it. */
  retryAfterMs(leftMs: number, now: number): number {
    const waitMs = this.#turnInMs(now)
    const forPatience = Math.ceil(waitMs - this.rules.maxWaitMs - TOLERANCE_MS)
    const forDeadline = waitMs + TOLERANCE_MS >= leftMs ? Math.floor(waitMs - leftMs + TOLERANCE_MS) + 1 : 0
    return Math.max(0, forPatience, forDeadline)
  }

  /** Gives a turn back that was taken and not used: those who wait move up. */
  giveBack(now: number): void {
    this.#fullAt -= this.rules.intervalMs
    if (this.#queue.size > 0) this.#serve(now)
  }

  /** Called by a turn that ends. Those behind it need no new alarm: the next free turn comes when it would have come. */
  leave(turn: Turn): void {
    this.#queue.delete(turn)
    this.#timers.remove(turn)
    if (this.#queue.size === 0) this.#disarm()
  }

  #free(now: number): boolean {
    return this.#fullAt - now <= this.#aheadMs + TOLERANCE_MS
  }

  #take(now: number): void {
    this.#fullAt = Math.max(this.#fullAt, now) + this.rules.intervalMs
  }

  /** How long somebody who comes now would wait, behind those who wait already. */
  #turnInMs(now: number): number {
    return Math.max(0, this.#fullAt + this.#queue.size * this.rules.intervalMs - this.#aheadMs - now)
  }

  #serve(now: number): void {
    for (const first of this.#queue) {
      if (!this.#free(now)) break
      this.#take(now)
      first.end('granted')
    }
    this.#arm(now)
  }

  #arm(now: number): void {
    this.#disarm()
    if (this.#queue.size === 0) return
    // A caller that waits is work: it keeps the process alive. A timer that fires early is set again by #serve.
    this.#bell = this.#env.timer(Math.max(1, Math.ceil(this.#fullAt - this.#aheadMs - now)), () => { this.#serve(this.#env.monotonic()) }, { keepAlive: true })
  }

  #disarm(): void {
    this.#bell?.cancel()
    this.#bell = undefined
  }
}

export class RateLimit implements Policy {
  readonly kind = 'rate-limit'
  readonly name: string
  readonly rules: RateLimitRules
  readonly #env: Env
  readonly #gate: RateGate

  constructor(name: string, rules: RateLimitRules, env: Env) {
    checkName('rate limit', name)
    this.name = name
    this.rules = rules
    this.#env = env
    this.#gate = new RateGate(rules, env)
  }

  /** Callers that wait for their turn. */
  get waiting(): number {
    return this.#gate.waiting
  }

  /**
   * The limit alone; what `work` throws passes unchanged.
   * @throws HF_RATE_LIMITED with `retryAfterMs` (the turn is too far off), HF_DEADLINE, HF_CANCELLED (while waiting)
   */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.#env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    const gate = this.#gate
    if (scope.ended) throw cancelledError(scope, this.kind)
    const now = this.#env.monotonic()
    if (!gate.tryTake(now)) {
      const leftMs = scope.deadlineAt - now
      const turn = gate.join(leftMs, now)
      if (turn === undefined) throw rateLimitedError(this.name, this.rules, gate.retryAfterMs(leftMs, now), errorContext(scope, this.kind, { limit: this.name }))
      scope.watch(turn)
      await turn.promise
      scope.unwatch(turn)
      if (turn.ending === 'deadline') throw this.#tooLate(scope)
      if (turn.ending === 'cancelled') throw cancelledError(scope, this.kind)
      // The caller may have gone between the grant and now: its turn is somebody else's.
      if (scope.ended) {
        gate.giveBack(this.#env.monotonic())
        throw cancelledError(scope, this.kind)
      }
    }
    return work(scope)
  }

  explain(inside: Explanation): Explanation {
    return paced(inside, this.rules)
  }

  #tooLate(scope: Scope): HoldfastError {
    return new HoldfastError('HF_DEADLINE', { message: `${this.name}: the deadline passed before its turn came`, context: errorContext(scope, this.kind, { limit: this.name }), stackless: true })
  }
}

/** What the refusal says. */
export function rateLimitedMessage(name: string, rules: RateLimitRules, retryAfterMs: number): string {
  return `${name} takes ${String(rules.limit)} calls in ${humanDuration(rules.perMs)} from us, and the next turn is too far off; try again in ${humanDuration(retryAfterMs)}`
}

/** Nobody outside asked too much: we ourselves do, of a dependency. So it is no `user_error`, unlike a refusal of `holdfast/limits`. */
export function rateLimitedError(name: string, rules: RateLimitRules, retryAfterMs: number, context: Readonly<Record<string, string | number | undefined>>): HoldfastError {
  return new HoldfastError('HF_RATE_LIMITED', { message: rateLimitedMessage(name, rules, retryAfterMs), failure: 'dependency_error', retryAfterMs, context, stackless: true })
}

/**
 * An outbound rate limit on its own: `await rateLimit('telegram', { limit: 30, per: '1s' }).run(() => send(message))`.
 * Make it once and share it. A refusal counts neither as success nor as failure of the dependency.
 * @throws HF_OPTION_INVALID
 */
export function rateLimit(name: string, options: RateLimitOptions, kit: GuardKit = defaultKit()): RateLimit {
  return new RateLimit(name, resolveRateLimit(options, `rate limit ${name}`), kit.env)
}
