/**
 * The machine where it meets time and traffic: windows, ramp and shadow around the pure states, and nothing that is heard
 * outside. A breaker (./breaker.ts) and each partition of one (./partitions.ts) is a circuit.
 *
 * An allowed call in the usual state costs one comparison, its success another; neither allocates or reads a clock.
 * No timers here: every question lets the time that it is given act first.
 */
import { humanDuration, messageOf, type BreakerState } from '../../core/index.ts'
import type { GuardKit } from '../policy.ts'
import { CallWindow } from './call-window.ts'
import { REFUSED, type Gate } from './gate.ts'
import { admits, advance, closedBreaker, holds, retryAfterMs, settle, takeTrial, UNCOUNTED } from './machine.ts'
import type { BreakerMachine, BreakerResult, BreakerRules, RateRule } from './machine.ts'
import { Ramp } from './ramp.ts'

/** A change of phase, told after it has happened. */
export interface CircuitChange {
  readonly from: BreakerState
  readonly to: BreakerState
  readonly reason: string
  readonly retryAfterMs: number | undefined
}

/** No permit is this: nothing passes or ends without a question. */
const ASK = -2

export abstract class Circuit implements Gate {
  protected readonly kit: GuardKit
  protected readonly rules: BreakerRules
  readonly #failures: CallWindow | undefined
  readonly #slowCalls: CallWindow | undefined
  #machine: BreakerMachine
  #ramp: Ramp | undefined
  /** The permit of calls that pass without a question. */
  #passing: number
  /** The permit whose success, unless it is slow, changes nothing and is counted at most. */
  #quiet: number
  readonly #slowFromMs: number
  readonly #counts: boolean
  #spared = 0

  constructor(rules: BreakerRules, kit: GuardKit) {
    this.rules = rules
    this.kit = kit
    this.#failures = rules.failureRate === undefined ? undefined : new CallWindow(rules.failureRate.withinMs)
    this.#slowCalls = rules.slowCallRate === undefined ? undefined : new CallWindow(rules.slowCallRate.withinMs)
    this.#slowFromMs = rules.slowCallRate?.slowerThanMs ?? Number.POSITIVE_INFINITY
    this.#counts = rules.failureRate !== undefined || rules.slowCallRate !== undefined
    const machine = closedBreaker()
    this.#machine = machine
    this.#passing = machine.permit
    this.#quiet = machine.permit
  }

  acquire(now: number): number {
    const permit = this.#passing
    return permit === ASK ? this.#ask(now) : permit
  }

  settle(permit: number, result: BreakerResult, now: number, durationMs: number, error?: unknown): void {
    if (permit !== this.#quiet || result !== 'success' || durationMs >= this.#slowFromMs) this.#weigh(permit, result, now, durationMs, error)
    else if (this.#counts) {
      this.#failures?.add(now, false)
      this.#slowCalls?.add(now, false)
    }
  }

  holds(permit: number): boolean {
    return holds(this.#machine, permit) || (this.rules.shadow && permit === UNCOUNTED)
  }

  allows(): boolean {
    if (this.#passing !== ASK) return true
    const now = this.kit.env.monotonic()
    const machine = this.pass(now)
    if (this.rules.shadow && machine.phase !== 'forced-open') return true
    return admits(machine, now, this.rules) && (this.#ramp?.admits(now) ?? true)
  }

  get retryAfterMs(): number | undefined {
    const now = this.kit.env.monotonic()
    const machine = this.#machine
    if (this.rules.shadow && machine.phase !== 'forced-open') return undefined
    return this.#ramp === undefined ? retryAfterMs(machine, now) : this.#ramp.retryAfterMs(now)
  }

  abstract readonly refusal: string

  /** Calls that shadow mode let through and the breaker would have refused. */
  protected get spared(): number {
    return this.#spared
  }

  protected get machine(): BreakerMachine {
    return this.#machine
  }

  /** The share of calls that the ramp lets through; undefined when there is none. */
  protected rampShare(now: number): number | undefined {
    this.#endRamp(now)
    return this.#ramp?.share(now)
  }

  /** Lets time act, and answers with the state that is true now. */
  protected pass(now: number): BreakerMachine {
    const before = this.#machine
    const after = advance(before, now, this.rules)
    if (after === before) return before
    this.become(after, now, before.phase === 'half-open' ? `a trial call was not back within ${humanDuration(this.rules.trialLeaseMs)}`
      : before.phase === 'open' ? `open for ${humanDuration(this.rules.openForMs)}; trying again` : 'the forced state expired')
    return this.#machine
  }

  /** The state is set before anybody hears of it, so a listener may look at or call the breaker. */
  protected become(after: BreakerMachine, now: number, reason: string): void {
    const before = this.#machine
    this.#set(after, now)
    if (before.phase === after.phase && !isForced(after)) return
    this.changed({ from: before.phase, to: after.phase, reason, retryAfterMs: retryAfterMs(after, now) })
  }

  /** The phase changed, or an operator forced it again. */
  protected abstract changed(change: CircuitChange): void

  /** The machine changed, in its phase or within it. */
  protected abstract moved(now: number): void

  #set(machine: BreakerMachine, now: number): void {
    const before = this.#machine
    this.#machine = machine
    if (machine.phase !== 'closed') this.#ramp = undefined
    else if (before.phase !== 'closed' || before.permit !== machine.permit) {
      // What was counted before it opened says nothing about the dependency that came back.
      this.#failures?.clear()
      this.#slowCalls?.clear()
      this.#ramp = machine.rampUntil > now ? new Ramp(machine.rampUntil, this.rules.rampForMs) : undefined
    }
    this.#passing = machine.phase === 'closed' && this.#ramp === undefined ? machine.permit : ASK
    this.#quiet = machine.phase === 'closed' && machine.failures === 0 ? machine.permit : ASK
    this.moved(now)
  }

  #ask(now: number): number {
    const machine = this.pass(now)
    this.#endRamp(now)
    let permit = REFUSED
    if (machine.phase === 'forced-closed') permit = UNCOUNTED
    else if (machine.phase === 'closed') permit = (this.#ramp?.take(now) ?? true) ? machine.permit : REFUSED
    else if (admits(machine, now, this.rules)) {
      const taken = takeTrial(machine, now, this.rules)
      this.#set(taken, now)
      permit = taken.serial
    }
    if (permit !== REFUSED || !this.rules.shadow || machine.phase === 'forced-open') return permit
    // The call that would not have been made must not count either, or the report would describe another breaker.
    this.#spared += 1
    return UNCOUNTED
  }

  /** A result that may change something. No closure here: it would cost each call that is counted an allocation. */
  #weigh(permit: number, result: BreakerResult, now: number, durationMs: number, error: unknown): void {
    // A result that comes after the trial's lease ended must find the breaker open, whether or not a timer was on time.
    const before = this.pass(now)
    if (!holds(before, permit)) return
    const slow = durationMs >= this.#slowFromMs
    // A trial that is slow has not shown that the dependency is well.
    const verdict = before.phase !== 'closed' && slow && result === 'success' ? 'failure' : result
    const tripped = before.phase === 'closed' && result !== 'neither' ? this.#count(result === 'failure', slow, now) : undefined
    const after = settle(before, permit, verdict, now, this.rules, tripped !== undefined)
    if (after !== before) this.become(after, now, after.phase === before.phase ? '' : this.#why(before, after, result, tripped, durationMs, error))
  }

  #why(before: BreakerMachine, after: BreakerMachine, result: BreakerResult, tripped: string | undefined, durationMs: number, error: unknown): string {
    if (after.phase === 'closed') return `${String(this.rules.closeAfter)} trial call${this.rules.closeAfter === 1 ? '' : 's'} succeeded`
    if (before.phase === 'open') return 'a call that was let through early succeeded'
    const last = error === undefined ? '' : `: ${messageOf(error)}`
    if (before.phase === 'half-open') return result === 'failure' ? `a trial call failed${last}` : `a trial call took ${humanDuration(durationMs)}`
    const inRow = after.phase === 'open' && after.failures >= this.rules.failures
    if (!inRow && tripped !== undefined) return last === '' ? tripped : `${tripped}, the last${last}`
    return `${String(this.rules.failures)} consecutive failures, the last${last}`
  }

  #endRamp(now: number): void {
    const machine = this.#machine
    if (this.#ramp === undefined || machine.phase !== 'closed' || now < machine.rampUntil) return
    this.#ramp = undefined
    this.#passing = machine.permit
  }

  /** Counts a call of the closed state; in words, which window it took over its limit. A call that went well opens nothing. */
  #count(failed: boolean, slow: boolean, now: number): string | undefined {
    const { failureRate, slowCallRate } = this.rules
    this.#failures?.add(now, failed)
    this.#slowCalls?.add(now, slow)
    if (failed && failureRate !== undefined && this.#failures?.breaks(failureRate) === true) return inWords(this.#failures, failureRate, 'failed')
    if (slow && slowCallRate !== undefined && this.#slowCalls?.breaks(slowCallRate) === true) {
      return inWords(this.#slowCalls, slowCallRate, `took ${humanDuration(slowCallRate.slowerThanMs)} or longer`)
    }
    return undefined
  }
}

/** `12 of 20 calls within 10 s failed (60 %, limit 50 %)` */
function inWords(window: CallWindow, rule: RateRule, did: string): string {
  return shareInWords(window.bad, window.completed, 'calls', did, rule.withinMs, rule.ratio)
}

export function shareInWords(bad: number, all: number, what: string, did: string, withinMs: number, ratio: number): string {
  return `${String(bad)} of ${String(all)} ${what} within ${humanDuration(withinMs)} ${did} (${percent(bad / all)}, limit ${percent(ratio)})`
}

function percent(ratio: number): string {
  return `${String(Math.round(ratio * 100))} %`
}

export function isForced(machine: BreakerMachine): machine is Extract<BreakerMachine, { phase: 'forced-open' | 'forced-closed' }> {
  return machine.phase === 'forced-open' || machine.phase === 'forced-closed'
}
