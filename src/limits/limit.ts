/**
 * Rate limit: a token bucket per key, with costs, a burst and refunds; a soft "no" with the exact wait.
 *
 * In memory and synchronous inside: nothing is awaited between looking and taking, so two callers never share a token.
 * With a shared port (several instances) the shared buckets decide; when they are slow or away, `onStoreError` says what
 * happens, and the caller never waits longer than 25 ms.
 * Not here: several limits at once, abuse flags, blocks.
 */
import { checkName, durationMs, HoldfastError, humanDuration, type Duration, type Kit, type Refusal } from '../core/index.ts'
import { Buckets } from './buckets.ts'
import { fullAfter, remaining, waitMs, type Rate } from './rate.ts'

export interface LimitOptions {
  /** Tokens that come back within `per`. At least 1. */
  readonly limit: number
  readonly per: Duration
  /** Tokens of a full bucket: what may be taken at once. Default: `limit`. */
  readonly burst?: number
  /** Keys that have a bucket of their own; more share (and are over-counted, never under-counted). Default 100,000. */
  readonly keysMax?: number
  /**
   * Only with a shared port: when it fails or takes longer than 25 ms, decide from this instance's own buckets (`local`),
   * let through (`allow`), or refuse for a second (`refuse`). Default `local`.
   */
  readonly onStoreError?: 'local' | 'allow' | 'refuse'
}

export const LIMIT_DEFAULTS: Readonly<{ readonly keysMax: number; readonly onStoreError: 'local' | 'allow' | 'refuse'; readonly sharedWithinMs: number; readonly refusedForMs: number }> =
  Object.freeze({ keysMax: 100_000, onStoreError: 'local', sharedWithinMs: 25, refusedForMs: 1_000 })

export type LimitRefusal = Refusal & { readonly retryAfterMs: number }
export type LimitDecision = { readonly ok: true; readonly remaining: number } | LimitRefusal

/** Buckets that several instances share. Atomic per call. */
export interface SharedBuckets {
  take(limit: string, key: string, cost: number, rate: Rate): Promise<{ readonly ok: true; readonly remaining: number } | { readonly ok: false; readonly retryAfterMs: number }>
}

export type LimitKit = Pick<Kit, 'env' | 'events'> & { readonly shared?: SharedBuckets }

export interface LimitSnapshot {
  readonly name: string
  readonly limit: number
  readonly perMs: number
  readonly burst: number
  /** Keys that have a bucket of their own now. */
  readonly keys: number
  /** Used-up buckets that had to give up their place; keys that share with them are over-counted for a while. */
  readonly merged: number
  readonly allowed: number
  readonly refused: number
  /** Decisions made by `onStoreError`. */
  readonly sharedFailures: number
  readonly lastRefusal: { readonly key: string; readonly at: number; readonly retryAfterMs: number } | undefined
}

export interface Limit {
  readonly kind: 'limit'
  readonly name: string
  /**
   * Takes `cost` tokens (default 1) of this key, or none. Emits `limit.refused`.
   * @throws HF_OPTION_INVALID when `cost` is negative, no number, or more than `burst` (which no wait could grant)
   */
  take(key: string, cost?: number): Promise<LimitDecision>
  /** The same from this instance's buckets, without awaiting. */
  takeSync(key: string, cost?: number): LimitDecision
  /** What `takeSync` would answer. Takes nothing, announces nothing. */
  peek(key: string, cost?: number): LimitDecision
  /** Gives tokens back, to this instance's bucket: work that was charged and not done. Never more than a full bucket. */
  refund(key: string, cost?: number): void
  snapshot(): LimitSnapshot
}

interface LimitRules extends Rate {
  readonly limit: number
  readonly perMs: number
  readonly keysMax: number
  readonly onStoreError: 'local' | 'allow' | 'refuse'
}

/** @throws HF_OPTION_INVALID */
function resolveLimit(name: string, options: LimitOptions): LimitRules {
  checkName('limit', name)
  const perMs = durationMs(options.per, `limit ${name}: per`)
  const limit = positive(options.limit, `limit ${name}: limit`)
  const burst = positive(options.burst ?? limit, `limit ${name}: burst`)
  const keysMax = positive(options.keysMax ?? LIMIT_DEFAULTS.keysMax, `limit ${name}: keysMax`)
  const onStoreError = options.onStoreError ?? LIMIT_DEFAULTS.onStoreError
  if (!['local', 'allow', 'refuse'].includes(onStoreError)) throw invalid(`limit ${name}: onStoreError`, 'local, allow or refuse', onStoreError)
  return { limit, perMs, burst, keysMax, onStoreError, intervalMs: perMs / limit }
}

class MemoryLimit implements Limit {
  readonly kind = 'limit'
  readonly name: string
  readonly #rules: LimitRules
  readonly #kit: LimitKit
  readonly #buckets: Buckets
  #allowed = 0
  #refused = 0
  #sharedFailures = 0
  #lastRefusal: LimitSnapshot['lastRefusal']

  constructor(name: string, options: LimitOptions, kit: LimitKit) {
    this.#rules = resolveLimit(name, options)
    this.name = name
    this.#kit = kit
    this.#buckets = new Buckets(this.#rules.keysMax, Math.floor(kit.env.random() * 2 ** 32))
  }

  async take(key: string, cost = 1): Promise<LimitDecision> {
    const { shared } = this.#kit
    if (shared === undefined) return this.takeSync(key, cost)
    this.#checkCost(cost)
    const answer = await this.#askShared(shared, key, cost)
    if (answer !== undefined) return answer.ok ? this.#allow(answer.remaining) : this.#refuse(key, answer.retryAfterMs)
    this.#sharedFailures += 1
    if (this.#rules.onStoreError === 'allow') return this.#allow(0)
    return this.#rules.onStoreError === 'refuse' ? this.#refuse(key, LIMIT_DEFAULTS.refusedForMs) : this.takeSync(key, cost)
  }

  takeSync(key: string, cost = 1): LimitDecision {
    this.#checkCost(cost)
    const now = this.#kit.env.monotonic()
    const fullAt = fullAfter(this.#buckets.get(key), cost, now, this.#rules)
    const wait = waitMs(fullAt, now, this.#rules)
    if (wait > 0) return this.#refuse(key, wait)
    if (cost > 0) this.#buckets.set(key, fullAt, now)
    return this.#allow(remaining(fullAt, now, this.#rules))
  }

  peek(key: string, cost = 1): LimitDecision {
    this.#checkCost(cost)
    const now = this.#kit.env.monotonic()
    const fullAt = fullAfter(this.#buckets.get(key), cost, now, this.#rules)
    const wait = waitMs(fullAt, now, this.#rules)
    return wait > 0 ? this.#refusal(wait) : { ok: true, remaining: remaining(fullAt, now, this.#rules) }
  }

  refund(key: string, cost = 1): void {
    this.#checkCost(cost)
    const now = this.#kit.env.monotonic()
    const fullAt = this.#buckets.get(key)
    // A time that is past is a full bucket, so more than was taken cannot be given back.
    if (fullAt > now) this.#buckets.set(key, fullAt - cost * this.#rules.intervalMs, now)
  }

  snapshot(): LimitSnapshot {
    const { limit, perMs, burst } = this.#rules
    return {
      name: this.name, limit, perMs, burst, keys: this.#buckets.size, merged: this.#buckets.merged,
      allowed: this.#allowed, refused: this.#refused, sharedFailures: this.#sharedFailures, lastRefusal: this.#lastRefusal,
    }
  }

  /** Undefined when there was no answer in time. A late or failed answer is swallowed: the decision has been made. */
  #askShared(shared: SharedBuckets, key: string, cost: number): Promise<Awaited<ReturnType<SharedBuckets['take']>> | undefined> {
    return new Promise(resolve => {
      const timer = this.#kit.env.timer(LIMIT_DEFAULTS.sharedWithinMs, () => { resolve(undefined) })
      const done = (answer: Awaited<ReturnType<SharedBuckets['take']>> | undefined): void => {
        timer.cancel()
        resolve(answer)
      }
      Promise.resolve().then(() => shared.take(this.name, key, cost, this.#rules)).then(done, () => { done(undefined) })
    })
  }

  #allow(left: number): LimitDecision {
    this.#allowed += 1
    return { ok: true, remaining: left }
  }

  #refuse(key: string, retryAfterMs: number): LimitRefusal {
    this.#refused += 1
    this.#lastRefusal = { key, at: this.#kit.env.now(), retryAfterMs }
    this.#kit.events.emit('limit.refused', { limit: this.name, key, retryAfterMs })
    return this.#refusal(retryAfterMs)
  }

  #refusal(retryAfterMs: number): LimitRefusal {
    const { limit, perMs } = this.#rules
    return { ok: false, reason: 'rate-limited', message: `${this.name} allows ${String(limit)} in ${humanDuration(perMs)}; try again in ${humanDuration(retryAfterMs)}`, retryAfterMs }
  }

  #checkCost(cost: number): void {
    if (!(cost >= 0) || cost > this.#rules.burst) throw invalid(`limit ${this.name}: cost`, `a number of 0 to ${String(this.#rules.burst)} (the burst)`, cost)
  }
}

function positive(value: number, where: string): number {
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw invalid(where, 'a whole number of at least 1', value)
}

function invalid(where: string, expected: string, got: unknown): HoldfastError {
  return new HoldfastError('HF_OPTION_INVALID', { message: `${where}: expected ${expected}, got ${String(got)}`, context: { option: where } })
}

/**
 * Declares a rate limit.
 * @throws HF_OPTION_INVALID
 * @example
 * const paymentInit = limit('payment_init', { limit: 5, per: '60s' }, kit)
 * const decision = await paymentInit.take(userId)
 * if (!decision.ok) return reply(`Please wait ${Math.ceil(decision.retryAfterMs / 1000)} s`)
 */
export function limit(name: string, options: LimitOptions, kit: LimitKit): Limit {
  return new MemoryLimit(name, options, kit)
}
