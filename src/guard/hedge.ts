/**
 * Hedging: when an answer is late, the same call is made once more, and the first answer counts.
 *
 * It cuts the tail of a dependency that is usually fast. Only what is declared repeatable is hedged; the extra call comes
 * out of the retry budget, never waits for a slot, and carries the same idempotency key. Losers are told to stop through
 * their own signal, and count as neither success nor failure; what they answer later is swallowed.
 * Not here: repeating after a failure. That is the retry's, which may go around.
 */
import { durationMs, humanDuration, type Duration } from '../core/index.ts'
import { RunningAttempt } from './attempt.ts'
import { judge } from './classify.ts'
import { hedged, type Explanation } from './explain.ts'
import { Latency } from './latency.ts'
import { atLeast, refused, wholeNumber } from './numbers.ts'
import { cancelledError, defaultKit, InnerScope, ScopeHost, policyRun, type GuardKit, type Policy, type RepeatableRun, type Scope, type Work } from './policy.ts'
import { RetryBudget, type RetryBudgetOptions } from './retry/budget.ts'
import { undeclaredEffect } from './retry/retry.ts'
import { TimerEntry, timerQueue, type TimerQueue } from './timer-queue.ts'

/** When the answer counts as late: slower than this share of the recent ones. */
export interface HedgeQuantile {
  /** 0.5 to 0.999. `0.95` hedges about one call in twenty (gRPC and tower advise the 95th percentile). */
  readonly quantile: number
  /** Never sooner. Default `'10ms'`. */
  readonly min?: Duration
  /** Never later, and what holds until twenty answers are known. Default `'2s'` (Polly's fixed delay). */
  readonly max?: Duration
}

export interface HedgeOptions {
  readonly after: Duration | HedgeQuantile
  /** Extra calls for one call: 1 to 4. Default 1 (Polly). The second follows after as long again. */
  readonly extra?: number
}

export const HEDGE_DEFAULTS: Readonly<{ readonly extra: number; readonly min: Duration; readonly max: Duration }> = Object.freeze({ extra: 1, min: '10ms', max: '2s' })

export interface HedgeRules {
  readonly extra: number
  /** Undefined for a fixed delay, which is `maxMs`. */
  readonly quantile: number | undefined
  readonly minMs: number
  readonly maxMs: number
}

/** Answers after which a quantile is believed. */
const ANSWERS_NEEDED = 20

/** @throws HF_OPTION_INVALID */
export function resolveHedge(options: HedgeOptions, where: string): HedgeRules {
  const extra = wholeNumber(options.extra ?? HEDGE_DEFAULTS.extra, 1, `${where}: extra`, 4)
  const { after } = options
  if (typeof after !== 'object') {
    const ms = durationMs(after, `${where}: after`)
    return { extra, quantile: undefined, minMs: ms, maxMs: ms }
  }
  const quantile = atLeast(after.quantile, 0.5, `${where}: after.quantile`)
  if (quantile > 0.999) throw refused(`${where}: after.quantile`, 'at most 0.999', quantile)
  const minMs = durationMs(after.min ?? HEDGE_DEFAULTS.min, `${where}: after.min`)
  const maxMs = durationMs(after.max ?? HEDGE_DEFAULTS.max, `${where}: after.max`)
  if (maxMs < minMs) throw refused(`${where}: after.max`, `at least min (${humanDuration(minMs)})`, humanDuration(maxMs))
  return { extra, quantile, minMs, maxMs }
}

/** How long an answer is waited for before the next call is made. `latency` knows single attempts. */
export function hedgeDelayMs(rules: HedgeRules, latency: Latency): number {
  if (rules.quantile === undefined || latency.count < ANSWERS_NEEDED) return rules.maxMs
  return Math.min(rules.maxMs, Math.max(rules.minMs, latency.quantile(rules.quantile)))
}

/** An attempt that has been begun. `pending` is undefined when it is over already. */
export interface Contender<T> {
  readonly attempt: RunningAttempt<T>
  readonly pending: Promise<void> | undefined
  /** The breaker's, to settle with; 0 where there is no breaker. */
  readonly permit: number
  readonly startedAt: number
}

export interface RaceOptions<T> {
  readonly extra: number
  readonly delayMs: number
  readonly timers: TimerQueue
  readonly now: () => number
  /** Begins one more; undefined when it may not be begun now (no budget, no free slot, breaker open). */
  readonly begin: () => Contender<T> | undefined
  /** Whether what the attempt threw is an answer that stands, so that waiting for another is no use. */
  readonly stands: (error: unknown) => boolean
  /** A contender that was not the one ended: it lost, or failed while another ran on. */
  readonly beaten: (contender: Contender<T>) => void
}

/** Runs contenders against each other until one has the answer or none is left. */
export class Race<T> extends TimerEntry {
  readonly result: Promise<Contender<T>>
  readonly #options: RaceOptions<T>
  readonly #running = new Set<Contender<T>>()
  #begun = 0
  #winner: Contender<T> | undefined
  #resolve: (winner: Contender<T>) => void = () => undefined

  constructor(first: Contender<T>, options: RaceOptions<T>) {
    super()
    this.#options = options
    this.result = new Promise(resolve => { this.#resolve = resolve })
    options.timers.add(this, options.delayMs, options.now())
    this.#join(first)
  }

  /** The answer is late. */
  expire(): void {
    if (this.#winner !== undefined || this.#begun >= this.#options.extra) return
    this.#begun += 1
    // Armed first: work that blocks must not delay the next.
    if (this.#begun < this.#options.extra) this.#options.timers.add(this, this.#options.delayMs, this.#options.now())
    const next = this.#options.begin()
    if (next !== undefined) this.#join(next)
  }

  #join(contender: Contender<T>): void {
    this.#running.add(contender)
    if (contender.pending === undefined) this.#ended(contender)
    else void contender.pending.then(() => { this.#ended(contender) })
  }

  #ended(contender: Contender<T>): void {
    this.#running.delete(contender)
    if (this.#winner !== undefined) {
      this.#options.beaten(contender)
      return
    }
    const { ending, error } = contender.attempt
    const decides = ending === 'value' || ending === 'cancelled' || ending === 'deadline' || (ending === 'threw' && this.#options.stands(error))
    if (!decides && this.#running.size > 0) {
      this.#options.beaten(contender)
      return
    }
    this.#winner = contender
    this.#options.timers.remove(this)
    for (const other of this.#running) other.attempt.lose()
    this.#resolve(contender)
  }
}

export interface HedgePolicyOptions extends HedgeOptions {
  readonly transient?: (error: unknown) => boolean
  /** Numbers for a budget of its own, or one that is shared with a retry. */
  readonly budget?: RetryBudgetOptions | RetryBudget
}

export class Hedge implements Policy {
  readonly kind = 'hedge'
  readonly budget: RetryBudget
  readonly #rules: HedgeRules
  readonly #kit: GuardKit
  readonly #transient: ((error: unknown) => boolean) | undefined
  readonly #latency = new Latency()

  constructor(options: HedgePolicyOptions, kit: GuardKit) {
    this.#rules = resolveHedge(options, 'hedge')
    this.#kit = kit
    this.#transient = options.transient
    this.budget = options.budget instanceof RetryBudget ? options.budget : new RetryBudget(options.budget ?? {}, 'hedge: budget')
  }

  /**
   * The hedge alone. The first answer; when all fail, the failure of the last, unchanged.
   * @throws HF_CANCELLED, HF_NOT_REPEATABLE without `effect`
   */
  run<T>(work: Work<T>, options: RepeatableRun): Promise<T> {
    return policyRun(this, this.#kit.env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    if (scope.effect === undefined) throw undeclaredEffect(scope, 'hedge')
    if (scope.ended) throw cancelledError(scope, 'hedge')
    const { env } = this.#kit
    const timers = timerQueue(env)
    this.budget.deposit(env.monotonic())
    let number = scope.number - 1
    const begin = (): Contender<T> => {
      const startedAt = env.monotonic()
      number += 1
      const attempt = new RunningAttempt<T>(new ScopeHost(scope, env), number, 'deadline')
      const pending = attempt.start(() => work(new InnerScope(scope, { attempt, number: attempt.number })), Number.POSITIVE_INFINITY, startedAt)
      if (pending !== undefined) scope.watch(attempt)
      return { attempt, pending, permit: 0, startedAt }
    }
    let winner = begin()
    if (winner.pending !== undefined) {
      const race = new Race(winner, {
        extra: scope.effect === 'once' ? 0 : this.#rules.extra, delayMs: hedgeDelayMs(this.#rules, this.#latency), timers, now: () => env.monotonic(),
        begin: () => (this.budget.withdraw(env.monotonic()) ? begin() : undefined),
        stands: error => judge(error, this.#transient) !== 'transient',
        beaten: ({ attempt }) => { scope.unwatch(attempt) },
      })
      winner = await race.result
      scope.unwatch(winner.attempt)
    }
    const { attempt } = winner
    if (attempt.ending === 'value') {
      this.#latency.add(env.monotonic() - winner.startedAt)
      return attempt.value as T
    }
    if (attempt.ending === 'threw') throw attempt.error
    throw cancelledError(scope, 'hedge')
  }

  explain(inside: Explanation): Explanation {
    return hedged(inside, this.#rules.extra, hedgeWords(this.#rules), this.#rules.maxMs, this.budget)
  }
}

export function hedgeWords(rules: HedgeRules): string {
  if (rules.quantile === undefined) return humanDuration(rules.maxMs)
  return `the ${String(rules.quantile * 100)}th percentile (${humanDuration(rules.minMs)} to ${humanDuration(rules.maxMs)})`
}

/**
 * A hedge on its own, for reads of a dependency that is usually fast: `hedge({ after: { quantile: 0.95 } })`.
 * @throws HF_OPTION_INVALID
 */
export function hedge(options: HedgePolicyOptions, kit: GuardKit = defaultKit()): Hedge {
  return new Hedge(options, kit)
}
