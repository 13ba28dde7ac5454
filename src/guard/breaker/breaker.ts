/**
 * Circuit breaker: stops calling a dependency that is failing, so callers fail fast and it can recover.
 *
 * The rules are the pure machine in ./machine.ts, how it is asked ./circuit.ts; here are the events, the operator, the
 * restart and the policy that is used alone. Each transition announces `breaker.changed` once (`breaker.shadowed` in
 * shadow mode). Time is monotonic. A timer announces the end of the open time, so that health and workers learn of it
 * without a call; a late timer does no harm. A closed breaker has none.
 */
import { checkName, HoldfastError, humanDuration, type BreakerState, type Timer } from '../../core/index.ts'
import { judge } from '../classify.ts'
import { around, type Explanation } from '../explain.ts'
import { atLeast } from '../numbers.ts'
import { defaultKit, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from '../policy.ts'
import { Circuit, isForced, type CircuitChange } from './circuit.ts'
import { REFUSED } from './gate.ts'
import { force, nextChangeAt, openBreaker, release, retryAfterMs } from './machine.ts'
import type { BreakerMachine, BreakerRules } from './machine.ts'
import { fromRecord, readRecord, toRecord, type BreakerRecord } from './record.ts'
import { breakerWords, resolveBreaker, type BreakerOptions } from './rules.ts'

export { REFUSED, type Gate } from './gate.ts'
export type { BreakerRecord } from './record.ts'
export { BREAKER_DEFAULTS, BREAKER_PRESETS, RATE_DEFAULTS, resolveBreaker, type BreakerOptions, type RateOptions, type SlowCallRateOptions } from './rules.ts'

/** An operator's decision that overrules the breaker. */
export interface ForcedBreaker {
  readonly by: string
  readonly reason: string
  /** Wall clock, milliseconds; undefined holds until released. */
  readonly until: number | undefined
}

export interface BreakerSnapshot {
  /** In shadow mode `closed` unless forced. */
  readonly state: BreakerState
  /** When it began; wall clock, milliseconds. */
  readonly since: number
  /** Consecutive failures; of the moment it opened while it is open. */
  readonly failures: number
  readonly retryAfterMs: number | undefined
  readonly forced: ForcedBreaker | undefined
  /** The share of calls that pass while admission grows after closing; undefined when all do. */
  readonly ramp: number | undefined
  /** What the breaker would be doing; undefined without `shadow: true`. */
  readonly shadow: { readonly state: BreakerState; readonly since: number; readonly wouldHaveRefused: number } | undefined
}

export type RestoredBreaker = { readonly restored: true; readonly state: BreakerState } | { readonly restored: false; readonly reason: string }

export class Breaker extends Circuit implements Policy {
  readonly kind = 'breaker'
  readonly name: string
  readonly #transient: ((error: unknown) => boolean) | undefined
  #since: number
  #shadowSince: number
  #forced: ForcedBreaker | undefined
  #timer: Timer | undefined

  constructor(name: string, rules: BreakerRules, kit: GuardKit, transient?: (error: unknown) => boolean) {
    super(rules, kit)
    checkName('breaker', name)
    this.name = name
    this.#transient = transient
    this.#since = kit.env.now()
    this.#shadowSince = this.#since
  }

  get refusal(): string {
    return this.machine.phase === 'closed' ? rampMessage(this.name) : breakerOpenMessage(this.name, this.retryAfterMs)
  }

  /**
   * Overrules the breaker until released or until `forMs` have passed; in shadow mode too. After a forced opening it goes on
   * half-open, after a forced closing it starts counting afresh.
   * @throws HF_OPTION_INVALID, HF_REASON_REQUIRED
   */
  force(to: 'open' | 'closed', options: { readonly by: string; readonly reason: string; readonly forMs?: number | undefined }): void {
    if (options.reason.trim() === '') {
      throw new HoldfastError('HF_REASON_REQUIRED', { message: `breaker ${this.name}: say why it is forced ${to}`, context: { dependency: this.name, policy: 'breaker' } })
    }
    const forMs = options.forMs === undefined ? undefined : atLeast(options.forMs, 1, `breaker ${this.name}: forMs`)
    const now = this.kit.env.monotonic()
    const before = this.pass(now)
    this.#forced = { by: options.by, reason: options.reason, until: forMs === undefined ? undefined : this.kit.env.now() + forMs }
    this.become(force(before, to, forMs === undefined ? Number.POSITIVE_INFINITY : now + forMs), now, `forced ${to} by ${options.by}: ${options.reason}`)
  }

  /** Ends a forced state; false when there is none. */
  release(options: { readonly by: string; readonly reason: string }): boolean {
    const now = this.kit.env.monotonic()
    const before = this.pass(now)
    const after = release(before, this.rules)
    if (after === before) return false
    this.become(after, now, `released by ${options.by}: ${options.reason}`)
    return true
  }

  snapshot(): BreakerSnapshot {
    const now = this.kit.env.monotonic()
    const machine = this.pass(now)
    return {
      state: this.#seen(machine.phase),
      since: this.#since,
      failures: machine.phase === 'closed' || machine.phase === 'open' ? machine.failures : 0,
      retryAfterMs: this.#seen(machine.phase) === 'closed' ? undefined : retryAfterMs(machine, now),
      forced: this.#forced,
      ramp: this.rules.shadow ? undefined : this.rampShare(now),
      shadow: this.rules.shadow ? { state: machine.phase, since: this.#shadowSince, wouldHaveRefused: this.spared } : undefined,
    }
  }

  /** What to write down for a restart. */
  save(): BreakerRecord {
    const now = this.kit.env.monotonic()
    return toRecord(this.pass(now), this.#forced ?? null, now, this.kit.env.now())
  }

  /**
   * Goes on where a record left off, with the time that remains; announces it when that is not closed. For a breaker that
   * has not counted anything yet: what it knows itself is newer. A record that is no record is ignored, with the reason, so
   * that a damaged file keeps no service from starting.
   */
  restore(record: unknown): RestoredBreaker {
    const now = this.kit.env.monotonic()
    const machine = this.pass(now)
    if (machine.phase !== 'closed') return { restored: false, reason: `the breaker is ${machine.phase} already` }
    if (machine.failures > 0) return { restored: false, reason: 'the breaker has counted failures already' }
    const read = readRecord(record)
    if (typeof read === 'string') return { restored: false, reason: read }
    const wallNow = this.kit.env.now()
    const after = fromRecord(read, machine.serial, now, wallNow, this.rules)
    if (read.forced !== null && isForced(after)) {
      this.#forced = { ...read.forced, until: after.until === Number.POSITIVE_INFINITY ? undefined : wallNow + after.until - now }
    }
    const forced = this.#forced === undefined ? '' : `, forced by ${this.#forced.by}: ${this.#forced.reason}`
    this.become(after, now, `restored from the state of ${humanDuration(Math.max(0, wallNow - read.savedAt))} ago (${read.phase}${forced})`)
    return { restored: true, state: after.phase }
  }

  /** Opens it by a rule of the caller's own. Does nothing unless it is closed and the permit of this closed period. */
  trip(permit: number, reason: string, now: number): void {
    const machine = this.pass(now)
    if (machine.phase !== 'closed' || machine.permit !== permit) return
    this.become(openBreaker(machine.serial, machine.failures, now, this.rules), now, reason)
  }

  /**
   * The breaker alone, without the other policies.
   * @throws HF_BREAKER_OPEN with `retryAfterMs`; what `work` throws passes unchanged.
   */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.kit.env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T> {
    const { env } = this.kit
    const startedAt = env.monotonic()
    const permit = this.acquire(startedAt)
    if (permit === REFUSED) throw breakerOpenError(this.name, this.retryAfterMs, undefined, this.refusal)
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

  explain(inside: Explanation): Explanation {
    return around(inside, breakerWords(this.rules), {})
  }

  protected changed(change: CircuitChange): void {
    const { events, env } = this.kit
    const at = env.now()
    const [from, to] = [this.#seen(change.from), this.#seen(change.to)]
    const wait = change.retryAfterMs === undefined ? {} : { retryAfterMs: change.retryAfterMs }
    if (!change.to.startsWith('forced')) this.#forced = undefined
    this.#shadowSince = at
    if (from !== to || change.to.startsWith('forced')) {
      this.#since = at
      events.emit('breaker.changed', { dependency: this.name, from, to, reason: change.reason, ...(to === 'closed' ? {} : wait) })
    }
    if (this.rules.shadow && change.from !== change.to) {
      events.emit('breaker.shadowed', { dependency: this.name, from: change.from, to: change.to, reason: change.reason, wouldHaveRefused: this.spared, ...wait })
    }
  }

  protected moved(now: number): void {
    this.#arm(this.machine, now)
  }

  /** The state as others see it: a shadow of the breaker's own decisions is none. */
  #seen(state: BreakerState): BreakerState {
    return this.rules.shadow && !state.startsWith('forced') ? 'closed' : state
  }

  #arm(machine: BreakerMachine, now: number): void {
    this.#timer?.cancel()
    this.#timer = undefined
    const at = nextChangeAt(machine)
    if (at === Number.POSITIVE_INFINITY) return
    this.#timer = this.kit.env.timer(Math.max(1, Math.ceil(at - now)), () => {
      const firedAt = this.kit.env.monotonic()
      // setTimeout may fire up to a millisecond early: then nothing has changed yet, and the announcement must not be lost.
      if (this.pass(firedAt) === machine) this.#arm(machine, firedAt)
    })
  }
}

/** A refusal, so it carries no stack. */
export function breakerOpenError(name: string, waitMs: number | undefined, operation?: string, message: string = breakerOpenMessage(name, waitMs)): HoldfastError {
  return new HoldfastError('HF_BREAKER_OPEN', { message, retryAfterMs: waitMs, context: { dependency: name, operation, policy: 'breaker' }, stackless: true })
}

export function breakerOpenMessage(name: string, waitMs: number | undefined): string {
  return `${name} is left alone because its breaker is open${waitMs === undefined ? '' : `; it tries again in ${humanDuration(waitMs)}`}`
}

export function rampMessage(name: string): string {
  return `${name} has just come back and gets its calls step by step; this one was not among them`
}

/**
 * A breaker on its own: `await breaker('mailer', { failures: 3 }).run(() => send())`.
 * Emits `breaker.changed`; in shadow mode `breaker.shadowed`.
 * @throws HF_OPTION_INVALID
 */
export function breaker(name: string, options: BreakerOptions & { readonly transient?: (error: unknown) => boolean } = {}, kit: GuardKit = defaultKit()): Breaker {
  return new Breaker(name, resolveBreaker(options, `breaker ${name}`), kit, options.transient)
}
