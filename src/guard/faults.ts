/**
 * Fault injection: errors, latency, hangs, wrong and lost answers on purpose, for users' tests and for drills.
 *
 * Outside production it acts while `when()` is true. In production it does nothing at all unless somebody armed it, with a
 * reason and an expiry of an hour at most; an arming ends by itself on the monotonic clock and survives no restart.
 * Whatever is wrong with it (a `when` that throws, say), calls go through unharmed. Each fault is announced and counted.
 * Not here: faults of the network below HTTP, crash points (`holdfast/testing`).
 */
import { checkName, durationMs, HoldfastError, messageOf, type Duration, type Env, type Timer } from '../core/index.ts'
import type { Attempt } from './attempt.ts'
import { HttpStatusError } from './http-status-error.ts'
import { atLeast, refused, wholeNumber } from './numbers.ts'
import { defaultKit, type GuardKit } from './policy.ts'

/** The call fails: with what the function makes, or with an HTTP status (400 to 599) as `HttpStatusError`. */
export interface ErrorFault {
  readonly error: number | (() => Error)
  /** The work runs first, and its good answer is lost: it happened, and the caller thinks that it did not. This is where doubles live. A failure of the work itself passes. */
  readonly after?: boolean
}
/** The call takes longer: so much is added before the work runs. Ends early when the attempt does, and the work does not run then. */
export interface LatencyFault {
  readonly latency: Duration
}
/** No answer ever comes: only the attempt's timeout, deadline or cancellation ends it. */
export interface HangFault {
  readonly hang: true
  /** The work runs first, then its good answer never arrives. */
  readonly after?: boolean
}
/** The call answers this, and the work is not run. */
export interface OutcomeFault {
  readonly outcome: unknown
}
export type Fault = ErrorFault | LatencyFault | HangFault | OutcomeFault
/** `answer-lost` is an error or a hang after the work. */
export type FaultKind = 'error' | 'latency' | 'hang' | 'outcome' | 'answer-lost'

interface RuleBase {
  /** Only for these operations. Default: all. */
  readonly operation?: string | readonly string[]
  /** Only for this attempt of a call, 1 for the first. Default: all. */
  readonly attempt?: number
}
/** A share of the attempts, chosen by the Env's random (seeded in simulations). */
export interface RateRule extends RuleBase {
  /** 0 (never) to 1 (always). */
  readonly rate: number
  readonly fault: Fault
}
/** One entry for each attempt it matches, in order; `'ok'` leaves that attempt alone. Used up, it does nothing more until it is armed again. */
export interface ScriptRule extends RuleBase {
  readonly script: readonly ('ok' | Fault)[]
}
/** The first rule that says something about an attempt decides. */
export type FaultRule = RateRule | ScriptRule

export interface FaultOptions {
  readonly name: string
  readonly rules: readonly FaultRule[]
  /** A switch of your own, such as a flag: asked for each attempt while faults are on or armed. One that throws counts as false. Default: always true. */
  readonly when?: () => boolean
  /** Whether this is production, where only an arming switches faults on. Default: `NODE_ENV` is `production`, read once here. */
  readonly production?: boolean
}

/** An hour: what is forgotten armed ends within a shift. */
export const FAULT_DEFAULTS: Readonly<{ readonly armedForMax: Duration }> = Object.freeze({ armedForMax: '1h' })

export interface Arming {
  readonly by: string
  readonly reason: string
  /** How long, `'1h'` at most. */
  readonly for: Duration
}

export interface FaultsSnapshot {
  readonly name: string
  /** `on`: outside production by default; `armed`: until `armed.until`; `off`: until armed. */
  readonly state: 'on' | 'armed' | 'off'
  /** Whether an attempt may get a fault now: on or armed, and `when()` is true. */
  readonly active: boolean
  readonly production: boolean
  /** `until` is wall clock, milliseconds. */
  readonly armed: { readonly by: string; readonly reason: string; readonly until: number } | undefined
  /** Faults injected since the process began. */
  readonly injected: Readonly<Record<FaultKind, number>>
  /** Entries of scripts that are left. */
  readonly scripted: number
  /** What `when()` last threw. */
  readonly whenFailed: string | undefined
}

interface Rule {
  readonly operations: ReadonlySet<string> | undefined
  readonly attempt: number | undefined
  readonly rate: number
  readonly fault: Fault | undefined
  readonly script: readonly ('ok' | Fault)[]
  used: number
}

type Work<T> = (attempt: Attempt) => T | Promise<T>
interface ArmedState { readonly by: string; readonly reason: string; readonly until: number; readonly endsAt: number }

/** Faults for the attempts of a dependency, or for any function. Made by `faults()`. */
export class FaultPlan {
  readonly name: string
  readonly production: boolean
  readonly #kit: GuardKit
  readonly #rules: readonly Rule[]
  readonly #when: (() => boolean) | undefined
  readonly #injected: Record<FaultKind, number> = { error: 0, latency: 0, hang: 0, outcome: 0, 'answer-lost': 0 }
  #state: 'on' | 'armed' | 'off'
  #armed: ArmedState | undefined
  #expiry: Timer | undefined
  #whenFailed: string | undefined

  constructor(options: FaultOptions, kit: GuardKit) {
    checkName('faults', options.name)
    this.name = options.name
    this.production = options.production ?? process.env['NODE_ENV'] === 'production'
    this.#kit = kit
    this.#rules = options.rules.map((rule, index) => resolveRule(rule, `faults ${options.name}: rule ${String(index + 1)}`))
    this.#when = options.when
    this.#state = this.production ? 'off' : 'on'
  }

  /** Whether an attempt may get a fault now. Costs a comparison while it is off; never throws. */
  get active(): boolean {
    if (this.#state === 'off' || (this.#armed !== undefined && this.#isOver(this.#armed))) return false
    if (this.#when === undefined) return true
    try {
      // A function that no compiler checked may answer with a promise, which is no yes.
      return this.#when() === true
    } catch (error) {
      this.#whenFailed = messageOf(error)
      return false
    }
  }

  /** The work of one attempt with the fault that is due, or the work itself. Takes one entry of a script that matches. */
  wrap<T>(operation: string, attemptNumber: number, work: Work<T>): Work<T> {
    if (!this.active) return work
    const fault = this.#due(operation, attemptNumber)
    return fault === undefined ? work : attempt => this.#inject(fault, operation, attempt, work)
  }

  /** Any function with faults, each call as a first attempt. Its `signal` is looked for in its arguments (itself or as `{ signal }`); without one a hang never ends. */
  wrapFunction<Args extends readonly unknown[], T>(operation: string, run: (...args: Args) => T | Promise<T>): (...args: Args) => Promise<T> {
    return async (...args) => {
      const work = this.wrap(operation, 1, () => run(...args))
      return work({ number: 1, key: '', leftMs: Number.POSITIVE_INFINITY, get signal() { return signalIn(args) } })
    }
  }

  /**
   * Switches faults on for a while, with every script from its beginning; again while armed sets a new end. Emits `faults.armed`, and `faults.disarmed` at the end.
   * @throws HF_REASON_REQUIRED, HF_OPTION_INVALID (nobody is named, no duration, longer than `'1h'`)
   */
  arm(options: Arming): void {
    const where = `faults ${this.name}`
    if (options.by.trim() === '') throw refused(`${where}: by`, 'who arms them', JSON.stringify(options.by))
    if (options.reason.trim() === '') throw new HoldfastError('HF_REASON_REQUIRED', { message: `${where}: say why they are armed`, context: { faults: this.name } })
    const ms = durationMs(options.for, `${where}: for`)
    if (ms > durationMs(FAULT_DEFAULTS.armedForMax, where)) throw refused(`${where}: for`, `at most ${FAULT_DEFAULTS.armedForMax}`, options.for)
    const { env, events } = this.#kit
    const until = env.now() + ms
    this.#armed = { by: options.by, reason: options.reason, until, endsAt: env.monotonic() + ms }
    this.#state = 'armed'
    for (const rule of this.#rules) rule.used = 0
    this.#announceEnd(env, this.#armed)
    events.emit('faults.armed', { faults: this.name, by: options.by, reason: options.reason, until })
  }

  /** Switches faults off until they are armed again, also outside production; false when they are off. Nothing stands in its way. Emits `faults.disarmed`. */
  disarm(options: { readonly by: string; readonly reason: string }): boolean {
    if (this.#state === 'off' || (this.#armed !== undefined && this.#isOver(this.#armed))) return false
    this.#off(options.by, options.reason)
    return true
  }

  snapshot(): FaultsSnapshot {
    const active = this.active
    const armed = this.#armed
    return {
      name: this.name, state: this.#state, active, production: this.production,
      armed: armed === undefined ? undefined : { by: armed.by, reason: armed.reason, until: armed.until },
      injected: { ...this.#injected }, scripted: this.#rules.reduce((left, rule) => left + rule.script.length - rule.used, 0), whenFailed: this.#whenFailed,
    }
  }

  #due(operation: string, attemptNumber: number): Fault | undefined {
    for (const rule of this.#rules) {
      if (rule.operations?.has(operation) === false || (rule.attempt !== undefined && rule.attempt !== attemptNumber)) continue
      const scripted = rule.script[rule.used]
      if (scripted !== undefined) {
        rule.used += 1
        return scripted === 'ok' ? undefined : scripted
      }
      if (rule.fault !== undefined && this.#kit.env.random() < rule.rate) return rule.fault
    }
    return undefined
  }

  async #inject<T>(fault: Fault, operation: string, attempt: Attempt, work: Work<T>): Promise<T> {
    if ('outcome' in fault) {
      this.#tell('outcome', operation)
      return fault.outcome as T
    }
    if ('latency' in fault) {
      this.#tell('latency', operation)
      await this.#kit.env.sleep(durationMs(fault.latency, `faults ${this.name}: latency`), attempt.signal)
      attempt.signal.throwIfAborted()
      return work(attempt)
    }
    // What the work answers is lost; its own failure passes.
    if (fault.after === true) await work(attempt)
    this.#tell(fault.after === true ? 'answer-lost' : 'hang' in fault ? 'hang' : 'error', operation)
    if ('hang' in fault) return untilAborted(attempt.signal)
    if (typeof fault.error === 'function') throw fault.error()
    throw new HttpStatusError({ status: fault.error, headers: NO_HEADERS }, { what: `fault injection ${this.name}` })
  }

  #tell(kind: FaultKind, operation: string): void {
    this.#injected[kind] += 1
    this.#kit.events.emit('fault.injected', { faults: this.name, operation, kind })
  }

  /** Every look asks the clock, so a late timer arms nothing for longer. */
  #isOver(armed: ArmedState): boolean {
    if (this.#kit.env.monotonic() < armed.endsAt) return false
    this.#off('expiry', `armed by ${armed.by} for a time that is over: ${armed.reason}`)
    return true
  }

  #off(by: string, reason: string): void {
    this.#expiry?.cancel()
    this.#expiry = undefined
    this.#state = 'off'
    this.#armed = undefined
    this.#kit.events.emit('faults.disarmed', { faults: this.name, by, reason })
  }

  #announceEnd(env: Env, armed: ArmedState): void {
    this.#expiry?.cancel()
    this.#expiry = env.timer(Math.max(1, Math.ceil(armed.endsAt - env.monotonic())), () => {
      // setTimeout may fire up to a millisecond early: then it is not over yet.
      if (!this.#isOver(armed)) this.#announceEnd(env, armed)
    })
  }
}

const NO_HEADERS = { get: () => null }

/** Rejects with the reason when the signal aborts. */
async function untilAborted(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => { resolve() }, { once: true }) })
  throw signal.reason as Error
}

function signalIn(args: readonly unknown[]): AbortSignal {
  for (const arg of args) {
    const found: unknown = typeof arg === 'object' && arg !== null && 'signal' in arg ? arg.signal : arg
    if (found instanceof AbortSignal) return found
  }
  return new AbortController().signal
}

function resolveRule(rule: FaultRule, where: string): Rule {
  const { operation, attempt } = rule
  const base = {
    operations: operation === undefined ? undefined : new Set(typeof operation === 'string' ? [operation] : operation),
    attempt: attempt === undefined ? undefined : wholeNumber(attempt, 1, `${where}: attempt`), used: 0,
  }
  if ('script' in rule) {
    rule.script.forEach((fault, index) => { if (fault !== 'ok') checkFault(fault, `${where}: script ${String(index + 1)}`) })
    return { ...base, rate: 0, fault: undefined, script: [...rule.script] }
  }
  if (atLeast(rule.rate, 0, `${where}: rate`) > 1) throw refused(`${where}: rate`, 'a number of 0 to 1', rule.rate)
  checkFault(rule.fault, `${where}: fault`)
  return { ...base, rate: rule.rate, fault: rule.fault, script: [] }
}

function checkFault(fault: Fault, where: string): void {
  const kinds = ['error', 'latency', 'hang', 'outcome'].filter(kind => kind in fault)
  if (kinds.length !== 1) throw refused(where, 'one of error, latency, hang and outcome', kinds.length === 0 ? 'none' : kinds.join(' and '))
  if ('latency' in fault) durationMs(fault.latency, `${where}: latency`)
  if ('error' in fault && typeof fault.error !== 'function') wholeNumber(fault.error, 400, `${where}: error`, 599)
}

/**
 * Declares faults: give it to a dependency as `faults`, or put it around a function with `wrapFunction`.
 * Emits `faults.armed`, `faults.disarmed`, `fault.injected`.
 * @throws HF_OPTION_INVALID
 * @example
 * const shaky = faults({ name: 'panel-shaky', rules: [
 *   { operation: 'add-user', script: ['ok', { error: 503 }, { hang: true }, { error: 503, after: true }] },
 *   { rate: 0.05, fault: { latency: '2s' } },
 * ] })
 * const getUser = shaky.wrapFunction('get-user', api.getUser)
 */
export function faults(options: FaultOptions, kit: GuardKit = defaultKit()): FaultPlan {
  return new FaultPlan(options, kit)
}
