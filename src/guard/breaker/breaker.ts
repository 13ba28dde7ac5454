/**
 * Circuit breaker: stops calling a dependency that is failing, so callers fail fast and it can recover.
 *
 * The rules are the pure machine in ./machine.ts; here it meets the clock, the events and the operator. Each
 * transition announces `breaker.changed` once. Time is monotonic. A timer announces the end of the open time, so that
 * health and workers learn of it without a call; a late timer does no harm, every call looks at the time itself.
 * Not here: ratio and slow-call windows, breakers per key, ramp-up after closing.
 */
import {
  checkName, durationMs, HoldfastError, humanDuration, messageOf,
  type BreakerState, type Duration, type Timer,
} from '../../core/index.ts'
import { admits, advance, closedBreaker, force, holds, nextChangeAt, release, retryAfterMs, settle, takeTrial, UNCOUNTED } from './machine.ts'
import type { BreakerMachine, BreakerResult, BreakerRules } from './machine.ts'
import { judge } from '../classify.ts'
import { atLeast, wholeNumber } from '../numbers.ts'
import { defaultKit, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from '../policy.ts'

export interface BreakerOptions {
  /** Consecutive transient failures that open it. Default 5. */
  readonly failures?: number
  /** How long it stays open before it tries again. Default `'60s'`. */
  readonly openFor?: Duration
  /** Successful trial calls that close it. Default 2. */
  readonly closeAfter?: number
  /** Trial calls in flight at once while half-open; others are refused. Default 3. */
  readonly trialCalls?: number
  /** A trial call that takes longer is taken for hung, and the breaker opens again. Default: as long as `openFor`. */
  readonly trialLease?: Duration
}

/** Defaults of the original services (MISSION G1). */
export const BREAKER_DEFAULTS: Readonly<Required<Omit<BreakerOptions, 'trialLease'>>> = Object.freeze({
  failures: 5, openFor: '60s', closeAfter: 2, trialCalls: 3,
})
/** For a database, an algorithm of our own, and notifications, which may wait longest (MISSION G1). */
export const BREAKER_PRESETS: Readonly<Record<'db' | 'algorithm' | 'notification', BreakerOptions>> = Object.freeze({
  db: Object.freeze({ failures: 5, openFor: '30s' } as const),
  algorithm: Object.freeze({ failures: 3, openFor: '60s' } as const),
  notification: Object.freeze({ failures: 10, openFor: '120s' } as const),
})

/** @throws HF_OPTION_INVALID. `false` never opens by itself, and can still be forced by an operator. */
export function resolveBreaker(options: BreakerOptions | false, where: string): BreakerRules {
  const given = { ...BREAKER_DEFAULTS, ...(options === false ? {} : options) }
  const openForMs = durationMs(given.openFor, `${where}: openFor`)
  return {
    failures: options === false ? Number.POSITIVE_INFINITY : wholeNumber(given.failures, 1, `${where}: failures`),
    openForMs,
    closeAfter: wholeNumber(given.closeAfter, 1, `${where}: closeAfter`),
    trialCalls: wholeNumber(given.trialCalls, 1, `${where}: trialCalls`),
    trialLeaseMs: given.trialLease === undefined ? openForMs : durationMs(given.trialLease, `${where}: trialLease`),
  }
}

/** An operator's decision that overrules the breaker. */
export interface ForcedBreaker {
  readonly by: string
  readonly reason: string
  /** Wall clock, milliseconds; undefined holds until released. */
  readonly until: number | undefined
}

export interface BreakerSnapshot {
  readonly state: BreakerState
  /** Wall clock, milliseconds. */
  readonly since: number
  /** Consecutive failures; of the moment it opened while it is open. */
  readonly failures: number
  readonly retryAfterMs: number | undefined
  readonly forced: ForcedBreaker | undefined
}

/** What `acquire` answers when the call must not be made. */
export const REFUSED = -1

export class Breaker implements Policy {
  readonly kind = 'breaker'
  readonly name: string
  readonly #rules: BreakerRules
  readonly #kit: GuardKit
  readonly #transient: ((error: unknown) => boolean) | undefined
  #machine: BreakerMachine = closedBreaker()
  #since: number
  #forced: ForcedBreaker | undefined
  #timer: Timer | undefined

  constructor(name: string, rules: BreakerRules, kit: GuardKit, transient?: (error: unknown) => boolean) {
    checkName('breaker', name)
    this.name = name
    this.#rules = rules
    this.#kit = kit
    this.#transient = transient
    this.#since = kit.env.now()
  }

  /** Permission for one call: a permit to settle with, or REFUSED. Takes a trial while half-open. `now` is monotonic. */
  acquire(now: number): number {
    if (this.#machine.phase === 'closed') return this.#machine.permit
    const machine = this.#pass(now)
    if (!admits(machine, this.#rules)) return REFUSED
    if (machine.phase === 'closed') return machine.permit
    if (machine.phase === 'forced-closed') return UNCOUNTED
    const taken = takeTrial(machine, now, this.#rules)
    this.#machine = taken
    this.#arm(now)
    return taken.serial
  }

  /** How the call ended, and how long it took. A permit of an earlier state changes nothing. */
  settle(permit: number, result: BreakerResult, now: number, _durationMs: number, error?: unknown): void {
    // A result that comes after the trial's lease ended must find the breaker open, whether or not the timer was on time.
    const before = this.#machine.phase === 'closed' ? this.#machine : this.#pass(now)
    const after = settle(before, permit, result, now, this.#rules)
    if (after === before) return
    this.#become(after, now, () => {
      if (after.phase === 'closed') return `${String(this.#rules.closeAfter)} trial call${this.#rules.closeAfter === 1 ? '' : 's'} succeeded`
      const last = error === undefined ? '' : `: ${messageOf(error)}`
      return before.phase === 'half-open' ? `a trial call failed${last}` : `${String(this.#rules.failures)} consecutive failures, the last${last}`
    })
  }

  /** Whether a permit still counts: false after any transition, so a call that waited in a queue asks again. */
  holds(permit: number): boolean {
    return holds(this.#machine, permit)
  }

  /** Whether a call would be let through now. Only looks, never takes a trial. */
  allows(): boolean {
    if (this.#machine.phase === 'closed') return true
    return admits(this.#pass(this.#kit.env.monotonic()), this.#rules)
  }

  get retryAfterMs(): number | undefined {
    return retryAfterMs(this.#machine, this.#kit.env.monotonic())
  }

  /**
   * Overrules the breaker until released or until `forMs` have passed. After a forced opening it goes on half-open, after
   * a forced closing it starts counting afresh.
   * @throws HF_OPTION_INVALID, HF_REASON_REQUIRED
   */
  force(to: 'open' | 'closed', options: { readonly by: string; readonly reason: string; readonly forMs?: number | undefined }): void {
    if (options.reason.trim() === '') {
      throw new HoldfastError('HF_REASON_REQUIRED', { message: `breaker ${this.name}: say why it is forced ${to}`, context: { dependency: this.name } })
    }
    const forMs = options.forMs === undefined ? undefined : atLeast(options.forMs, 1, `breaker ${this.name}: forMs`)
    const now = this.#kit.env.monotonic()
    const before = this.#pass(now)
    this.#forced = { by: options.by, reason: options.reason, until: forMs === undefined ? undefined : this.#kit.env.now() + forMs }
    this.#become(force(before, to, forMs === undefined ? Number.POSITIVE_INFINITY : now + forMs), now, () => `forced ${to} by ${options.by}: ${options.reason}`)
  }

  /** Ends a forced state; false when there is none. */
  release(options: { readonly by: string; readonly reason: string }): boolean {
    const now = this.#kit.env.monotonic()
    const before = this.#pass(now)
    const after = release(before, this.#rules)
    if (after === before) return false
    this.#become(after, now, () => `released by ${options.by}: ${options.reason}`)
    return true
  }

  snapshot(): BreakerSnapshot {
    const now = this.#kit.env.monotonic()
    const machine = this.#pass(now)
    return {
      state: machine.phase,
      since: this.#since,
      failures: machine.phase === 'closed' || machine.phase === 'open' ? machine.failures : 0,
      retryAfterMs: retryAfterMs(machine, now),
      forced: this.#forced,
    }
  }

  /**
   * The breaker alone, without the other policies.
   * @throws HF_BREAKER_OPEN with `retryAfterMs`; what `work` throws passes unchanged.
   */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.#kit.env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    const { env } = this.#kit
    const startedAt = env.monotonic()
    const permit = this.acquire(startedAt)
    if (permit === REFUSED) throw breakerOpenError(this.name, this.retryAfterMs)
    try {
      const value = await work(scope)
      const now = env.monotonic()
      this.settle(permit, 'success', now, now - startedAt)
      return value
    } catch (error) {
      const now = env.monotonic()
      this.settle(permit, !scope.cancelled && judge(error, this.#transient) === 'transient' ? 'failure' : 'neither', now, now - startedAt, error)
      throw error
    }
  }

  /** Lets time act, and answers with the state that is true now. */
  #pass(now: number): BreakerMachine {
    const before = this.#machine
    const after = advance(before, now, this.#rules)
    if (after === before) return before
    this.#become(after, now, () => {
      if (before.phase === 'half-open') return `a trial call was not back within ${humanDuration(this.#rules.trialLeaseMs)}`
      return before.phase === 'open' ? `open for ${humanDuration(this.#rules.openForMs)}; trying again` : 'the forced state expired'
    })
    return this.#machine
  }

  /** The state is set before anybody hears of it, so a listener may look at or call the breaker. */
  #become(after: BreakerMachine, now: number, reason: () => string): void {
    const before = this.#machine
    this.#machine = after
    this.#arm(now)
    if (before.phase === after.phase && !after.phase.startsWith('forced')) return
    this.#since = this.#kit.env.now()
    if (!after.phase.startsWith('forced')) this.#forced = undefined
    const wait = retryAfterMs(after, now)
    this.#kit.events.emit('breaker.changed', {
      dependency: this.name, from: before.phase, to: after.phase, reason: reason(), ...(wait === undefined ? {} : { retryAfterMs: wait }),
    })
  }

  #arm(now: number): void {
    this.#timer?.cancel()
    this.#timer = undefined
    const at = nextChangeAt(this.#machine)
    if (at === Number.POSITIVE_INFINITY) return
    this.#timer = this.#kit.env.timer(Math.max(1, Math.ceil(at - now)), () => {
      const before = this.#machine
      const firedAt = this.#kit.env.monotonic()
      // setTimeout may fire up to a millisecond early: then nothing has changed yet, and the announcement must not be lost.
      if (this.#pass(firedAt) === before) this.#arm(firedAt)
    })
  }
}

/** A refusal, so it carries no stack. */
export function breakerOpenError(name: string, waitMs: number | undefined, operation?: string): HoldfastError {
  return new HoldfastError('HF_BREAKER_OPEN', { message: breakerOpenMessage(name, waitMs), retryAfterMs: waitMs, context: { dependency: name, operation }, stackless: true })
}

export function breakerOpenMessage(name: string, waitMs: number | undefined): string {
  return `${name} is left alone because its breaker is open${waitMs === undefined ? '' : `; it tries again in ${humanDuration(waitMs)}`}`
}

/**
 * A breaker on its own: `await breaker('mailer', { failures: 3 }).run(() => send())`.
 * Emits `breaker.changed`.
 * @throws HF_OPTION_INVALID
 */
export function breaker(name: string, options: BreakerOptions & { readonly transient?: (error: unknown) => boolean } = {}, kit: GuardKit = defaultKit()): Breaker {
  return new Breaker(name, resolveBreaker(options, `breaker ${name}`), kit, options.transient)
}
