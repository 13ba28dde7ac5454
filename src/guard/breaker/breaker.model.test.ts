import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EventBus, type BreakerState, type Env } from '../../core/index.ts'
import { Breaker, REFUSED, resolveBreaker, type BreakerOptions } from './breaker.ts'
import type { BreakerResult } from './machine.ts'

/**
 * The breaker against a model that is written from the documentation alone: lists of what happened, looked through from the
 * beginning at every question. It knows no permits, sums or slots to reuse; calls carry the period they belong to.
 */

/** A world whose time passes by hand, synchronously. Its wall clock may be moved; timers fire in order. */
class HandClock {
  time = 1_000
  skewMs = 0
  #timers: { at: number; run: () => void }[] = []
  readonly env: Env = {
    now: () => 1_700_000_000_000 + this.time + this.skewMs,
    monotonic: () => this.time,
    timer: (ms, run) => {
      const timer = { at: this.time + ms, run }
      this.#timers.push(timer)
      return { cancel: () => { this.#timers = this.#timers.filter(each => each !== timer) } }
    },
    sleep: () => Promise.resolve(), random: () => 0.5, uuid: () => 'id', bytes: length => new Uint8Array(length), fetch: () => Promise.reject(new Error('none')),
  }

  get armed(): number {
    return this.#timers.length
  }

  /** What was armed dies with the process. */
  kill(): void {
    this.#timers = []
  }

  /** `late` leaves the timers unfired: the process was busy. */
  advance(ms: number, late: boolean): void {
    const target = this.time + ms
    while (!late) {
      const next = this.#timers.filter(each => each.at <= target).sort((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#timers = this.#timers.filter(each => each !== next)
      this.time = next.at
      next.run()
    }
    this.time = target
  }
}

interface Numbers {
  readonly failures: number
  readonly failureRate?: { readonly ratio: number; readonly withinMs: number; readonly minimumCalls: number }
  readonly slowCallRate?: { readonly ratio: number; readonly withinMs: number; readonly minimumCalls: number; readonly slowerThanMs: number }
  readonly rampMs: number
  /** Undefined: no early trials. */
  readonly probeMs?: number
  readonly shadow: boolean
}
const OPEN_MS = 1_000
const LEASE_MS = 700
const CLOSE_AFTER = 2
const TRIALS = 2

interface ModelCall {
  period: number
  readonly kind: 'counted' | 'trial' | 'uncounted'
  readonly since: number
}

class Model {
  readonly numbers: Numbers
  state: BreakerState = 'closed'
  period = 0
  until = 0
  /** When the ramp began; undefined when there is none. */
  rampFrom: number | undefined
  readonly offered: number[] = []
  readonly admitted: number[] = []
  ended: { at: number; failed: boolean; slow: boolean }[] = []
  row = 0
  opened = 0
  successes = 0
  trials: ModelCall[] = []
  /** The early trial, and when the next is due. */
  probe: ModelCall | undefined
  probeAt = 0
  spared = 0

  constructor(numbers: Numbers) {
    this.numbers = numbers
  }

  /** What time does. */
  look(now: number): void {
    if (this.probe !== undefined && now - this.probe.since >= LEASE_MS) this.probe = undefined
    if (this.state === 'half-open' && this.trials.some(trial => now - trial.since >= LEASE_MS)) this.open(now, 0)
    else if ((this.state === 'open' || this.state === 'forced-open') && now >= this.until) {
      const { probe } = this
      this.enter('half-open')
      // An early trial that is on its way is a trial of the state that follows.
      if (probe !== undefined) {
        probe.period = this.period
        this.trials.push(probe)
      }
    }
    else if (this.state === 'forced-closed' && now >= this.until) this.enter('closed')
    if (this.rampFrom !== undefined && now >= this.rampFrom + this.numbers.rampMs) this.rampFrom = undefined
  }

  enter(state: BreakerState): void {
    this.state = state
    this.period += 1
    this.row = 0
    this.successes = 0
    this.trials = []
    this.probe = undefined
    this.ended = []
    this.rampFrom = undefined
  }

  open(now: number, failures: number): void {
    this.enter('open')
    this.until = now + OPEN_MS
    this.probeAt = now + (this.numbers.probeMs ?? Number.POSITIVE_INFINITY)
    this.opened = failures
  }

  /** Whether a call passes; undefined where the ramp may say either. */
  passes(now: number): boolean | undefined {
    if (this.state === 'half-open') return this.trials.length < TRIALS
    if (this.state === 'forced-open') return false
    if (this.state === 'open') return this.probe === undefined && now >= this.probeAt
    if (this.state !== 'closed' || this.rampFrom === undefined) return true
    // Ten a second always pass.
    return this.admitted.filter(at => at > now - 1_000).length < 10 ? true : undefined
  }

  end(call: ModelCall, result: BreakerResult, now: number, slow: boolean): void {
    if (call.period !== this.period || call.kind === 'uncounted') return
    if (call.kind === 'trial' && this.state === 'open') {
      // Its lease is over: whatever it says is not heard.
      if (this.probe !== call) return
      this.probe = undefined
      if (result === 'neither') this.probeAt = now
      else if (result === 'success' && !slow) {
        this.enter('half-open')
        this.successes = 1
      }
      return
    }
    this.trials = this.trials.filter(trial => trial !== call)
    if (result === 'neither') return
    if (call.kind === 'trial') {
      if (result === 'failure' || slow) this.open(now, 1)
      else if (++this.successes === CLOSE_AFTER) {
        this.enter('closed')
        if (this.numbers.rampMs > 0) this.rampFrom = now
        this.offered.length = 0
        this.admitted.length = 0
      }
      return
    }
    this.row = result === 'failure' ? this.row + 1 : 0
    this.ended.push({ at: now, failed: result === 'failure', slow })
    const { failureRate, slowCallRate } = this.numbers
    const over = (rule: Numbers['failureRate'], bad: 'failed' | 'slow'): boolean => {
      if (rule === undefined) return false
      const slot = rule.withinMs / 10
      const seen = this.ended.filter(each => Math.floor(each.at / slot) > Math.floor(now / slot) - 10)
      return seen.length >= rule.minimumCalls && seen.filter(each => each[bad]).length / seen.length >= rule.ratio
    }
    if (this.row >= this.numbers.failures || (result === 'failure' && over(failureRate, 'failed')) || (slow && over(slowCallRate, 'slow'))) this.open(now, this.row)
  }
}

interface Real {
  breaker: Breaker
  readonly clock: HandClock
  readonly remake: () => Breaker
  readonly calls: { permit: number; model: ModelCall }[]
  readonly heard: BreakerState[]
  readonly reached: Set<string>
}

function agree(model: Model, real: Real): void {
  model.look(real.clock.time)
  const snapshot = real.breaker.snapshot()
  const forced = model.state.startsWith('forced')
  const shadow = model.numbers.shadow
  expect(shadow ? snapshot.shadow?.state : snapshot.state).toBe(model.state)
  expect(snapshot.state).toBe(shadow && !forced ? 'closed' : model.state)
  expect(snapshot.failures).toBe(model.state === 'closed' ? model.row : model.state === 'open' ? model.opened : 0)
  if (!shadow || forced) {
    const waits = (model.state === 'open' || model.state === 'forced-open') && model.until !== Number.POSITIVE_INFINITY
    expect(snapshot.retryAfterMs).toBe(waits ? Math.ceil(model.until - real.clock.time) : undefined)
    expect(snapshot.ramp === undefined).toBe(model.rampFrom === undefined)
  }
  expect(snapshot.shadow?.wouldHaveRefused).toBe(shadow ? model.spared : undefined)
  expect(real.heard.at(-1) ?? 'closed').toBe(snapshot.state)
  if (model.state === 'closed' || (forced && model.until === Number.POSITIVE_INFINITY)) expect(real.clock.armed, 'timers of a closed breaker').toBe(0)
  for (const { permit, model: call } of real.calls) {
    const counts = call.kind === 'uncounted' ? model.state === 'forced-closed' : call.period === model.period && (model.state !== 'open' || model.probe === call)
    expect(real.breaker.holds(permit)).toBe(counts || (shadow && call.kind === 'uncounted'))
  }
  real.reached.add(model.state)
}

class Acquire implements fc.Command<Model, Real> {
  check = (): boolean => true
  run(model: Model, real: Real): void {
    const now = real.clock.time
    model.look(now)
    const may = model.passes(now)
    const looked = real.breaker.allows()
    const permit = real.breaker.acquire(now)
    const { shadow } = model.numbers
    const uncounted = permit === 0
    if (model.rampFrom !== undefined) {
      model.offered.push(now)
      if (permit !== REFUSED && !uncounted) model.admitted.push(now)
      // No more than ten at once, ten a second, and the share of those that came.
      const share = model.offered.reduce((sum, at) => sum + 0.1 + 0.9 * ((at - (model.rampFrom ?? 0)) / model.numbers.rampMs), 0)
      expect(model.admitted.length).toBeLessThanOrEqual(10 + Math.floor((now - model.rampFrom) / 100) + Math.floor(share + 1e-6))
      if (may === undefined) real.reached.add(permit === REFUSED || uncounted ? 'refused in the ramp' : 'let through in the ramp beyond ten a second')
    }
    const passed = permit !== REFUSED && !(shadow && uncounted && model.state !== 'forced-closed')
    expect(looked).toBe(permit !== REFUSED)
    if (may !== undefined) expect(passed).toBe(may)
    if (permit === REFUSED) {
      if (model.rampFrom !== undefined) {
        const wait = real.breaker.retryAfterMs
        expect(wait).toBeGreaterThanOrEqual(1)
        expect(wait).toBeLessThanOrEqual(100)
      }
      real.reached.add(`refused in ${model.state}`)
      return
    }
    if (!passed) {
      model.spared += 1
      real.reached.add('spared in shadow')
    }
    const kind = !passed || model.state === 'forced-closed' ? 'uncounted' : model.state === 'half-open' || model.state === 'open' ? 'trial' : 'counted'
    const call: ModelCall = { period: model.period, kind, since: now }
    if (kind === 'trial' && model.state === 'open') {
      model.probe = call
      model.probeAt = now + (model.numbers.probeMs ?? Number.POSITIVE_INFINITY)
      real.reached.add('early trial')
    } else if (kind === 'trial') model.trials.push(call)
    real.calls.push({ permit, model: call })
    agree(model, real)
  }
  toString = (): string => 'acquire'
}

/** Many at once, as after an outage. */
class Herd implements fc.Command<Model, Real> {
  check = (): boolean => true
  run(model: Model, real: Real): void {
    for (let call = 0; call < 15; call += 1) new Acquire().run(model, real)
  }
  toString = (): string => 'herd'
}

class Settle implements fc.Command<Model, Real> {
  readonly pick: number
  readonly result: BreakerResult
  readonly slow: boolean
  constructor(pick: number, result: BreakerResult, slow: boolean) {
    this.pick = pick
    this.result = result
    this.slow = slow
  }
  check = (): boolean => true
  run(model: Model, real: Real): void {
    const [taken] = real.calls.splice(this.pick % Math.max(1, real.calls.length), 1)
    if (taken === undefined) return
    model.look(real.clock.time)
    if (taken.model.period !== model.period) real.reached.add(`stale ${this.result}`)
    const before = model.state
    real.breaker.settle(taken.permit, this.result, real.clock.time, this.slow ? 50 : 1)
    model.end(taken.model, this.result, real.clock.time, this.slow && model.numbers.slowCallRate !== undefined)
    if (before === 'open' && model.state === 'half-open') real.reached.add('early trial succeeded')
    if (before === 'closed' && model.state === 'open') real.reached.add(model.opened >= model.numbers.failures ? 'opened by failures in a row' : this.result === 'failure' ? 'opened by the failure rate' : 'opened by slow calls')
    agree(model, real)
  }
  toString = (): string => `settle(${String(this.pick)}, ${this.result}${this.slow ? ', slow' : ''})`
}

/** It opens (unless only windows open it), waits, and its trials succeed: by chance that is rare. */
class Recover implements fc.Command<Model, Real> {
  check = (): boolean => true
  run(model: Model, real: Real): void {
    for (let call = 0; call < 3 && model.state === 'closed'; call += 1) {
      new Acquire().run(model, real)
      new Settle(real.calls.length - 1, 'failure', false).run(model, real)
    }
    if (model.state === 'open') new Wait(model.until - real.clock.time, false).run(model, real)
    for (let call = 0; call < CLOSE_AFTER && model.state === 'half-open' && model.trials.length < TRIALS; call += 1) {
      new Acquire().run(model, real)
      new Settle(real.calls.length - 1, 'success', false).run(model, real)
    }
  }
  toString = (): string => 'recover'
}

class Wait implements fc.Command<Model, Real> {
  readonly ms: number
  readonly late: boolean
  constructor(ms: number, late: boolean) {
    this.ms = ms
    this.late = late
  }
  check = (): boolean => true
  run(model: Model, real: Real): void {
    // With timers on time, what happens at a moment happens at that moment; a busy process learns of it at the end.
    if (this.late) model.look(real.clock.time)
    const target = real.clock.time + this.ms
    for (;;) {
      const leases = model.trials.map(trial => trial.since + LEASE_MS)
      const next = Math.min(...leases, model.state === 'closed' || model.state === 'half-open' ? Number.POSITIVE_INFINITY : model.until)
      if (this.late || next > target) break
      model.look(next)
    }
    real.clock.advance(this.ms, this.late)
    model.look(target)
    agree(model, real)
  }
  toString = (): string => `wait(${String(this.ms)}${this.late ? ', late' : ''})`
}

class Force implements fc.Command<Model, Real> {
  readonly to: 'open' | 'closed'
  readonly forMs: number | undefined
  constructor(to: 'open' | 'closed', forMs: number | undefined) {
    this.to = to
    this.forMs = forMs
  }
  check = (): boolean => true
  run(model: Model, real: Real): void {
    model.look(real.clock.time)
    real.breaker.force(this.to, { by: 'a', reason: 'b', forMs: this.forMs })
    model.enter(`forced-${this.to}`)
    model.until = this.forMs === undefined ? Number.POSITIVE_INFINITY : real.clock.time + this.forMs
    agree(model, real)
  }
  toString = (): string => `force(${this.to}, ${String(this.forMs)})`
}

class Release implements fc.Command<Model, Real> {
  check = (): boolean => true
  run(model: Model, real: Real): void {
    model.look(real.clock.time)
    expect(real.breaker.release({ by: 'a', reason: 'b' })).toBe(model.state.startsWith('forced'))
    if (model.state === 'forced-open') model.enter('half-open')
    if (model.state === 'forced-closed') model.enter('closed')
    agree(model, real)
  }
  toString = (): string => 'release'
}

class Restart implements fc.Command<Model, Real> {
  readonly jumpMs: number
  constructor(jumpMs: number) {
    this.jumpMs = jumpMs
  }
  check = (): boolean => true
  run(model: Model, real: Real): void {
    model.look(real.clock.time)
    const now = real.clock.time
    const record: unknown = JSON.parse(JSON.stringify(real.breaker.save()))
    real.clock.skewMs += this.jumpMs
    real.clock.kill()
    real.calls.length = 0
    real.heard.length = 0
    real.breaker = real.remake()
    expect(real.breaker.restore(record).restored).toBe(true)
    const passed = Math.max(0, this.jumpMs)
    const { row, until, rampFrom, opened, state } = model
    if (state === 'closed') {
      model.enter('closed')
      model.row = row
      if (rampFrom !== undefined && rampFrom + model.numbers.rampMs - passed > now) {
        model.rampFrom = rampFrom - passed
        model.offered.length = 0
        model.admitted.length = 0
      }
    } else if (state === 'half-open') model.enter('half-open')
    else if (until - passed > now) {
      model.enter(state)
      model.until = until - passed
      model.probeAt = now + (model.numbers.probeMs ?? Number.POSITIVE_INFINITY)
      model.opened = opened
    } else model.enter(state === 'forced-closed' ? 'closed' : 'half-open')
    model.spared = 0
    real.reached.add(`restarted in ${state}`)
    agree(model, real)
  }
  toString = (): string => `restart(${String(this.jumpMs)})`
}

const result: fc.Arbitrary<BreakerResult> = fc.constantFrom('success', 'success', 'failure', 'failure', 'failure', 'neither')
const commands = fc.commands([
  fc.constant(new Acquire()), fc.constant(new Acquire()), fc.constant(new Acquire()), fc.constant(new Herd()),
  fc.tuple(fc.nat(20), result, fc.boolean()).map(([pick, how, slow]) => new Settle(pick, how, slow)),
  fc.tuple(fc.nat(2), fc.constantFrom<BreakerResult>('success', 'failure'), fc.boolean()).map(([pick, how, slow]) => new Settle(pick, how, slow)),
  fc.tuple(fc.constantFrom(1, 5, 20, 50, 99, 100, 300, 699, 700, 999, 1_000, 1_001), fc.boolean()).map(([ms, late]) => new Wait(ms, late)),
  fc.tuple(fc.constantFrom('open' as const, 'closed' as const), fc.constantFrom(1, 300, undefined)).map(([to, forMs]) => new Force(to, forMs)),
  fc.constant(new Release()), fc.constant(new Recover()),
  fc.constantFrom(0, -3_600_000, 400, 3_600_000).map(jumpMs => new Restart(jumpMs)),
], { maxCommands: 80 })

const rules: fc.Arbitrary<Numbers> = fc.record({
  failures: fc.constantFrom(1, 3, Number.POSITIVE_INFINITY),
  failureRate: fc.constantFrom({ ratio: 0.5, withinMs: 200, minimumCalls: 4 }, { ratio: 0.1, withinMs: 50, minimumCalls: 2 }),
  slowCallRate: fc.constantFrom({ ratio: 0.5, withinMs: 300, minimumCalls: 3, slowerThanMs: 50 }),
  rampMs: fc.constantFrom(0, 400),
  probeMs: fc.constantFrom(50, 300),
  shadow: fc.constantFrom(false, false, true),
}, { requiredKeys: ['failures', 'rampMs', 'shadow'] })

function optionsOf(numbers: Numbers): BreakerOptions {
  const rate = (rule: NonNullable<Numbers['failureRate']>): NonNullable<BreakerOptions['failureRate']> => ({ ratio: rule.ratio, within: `${rule.withinMs}ms`, minimumCalls: rule.minimumCalls })
  return {
    failures: numbers.failures === Number.POSITIVE_INFINITY ? false : numbers.failures,
    ...(numbers.failureRate === undefined ? {} : { failureRate: rate(numbers.failureRate) }),
    ...(numbers.slowCallRate === undefined ? {} : { slowCallRate: { ...rate(numbers.slowCallRate), slowerThan: `${numbers.slowCallRate.slowerThanMs}ms` } }),
    openFor: `${OPEN_MS}ms`, trialLease: `${LEASE_MS}ms`, closeAfter: CLOSE_AFTER, trialCalls: TRIALS, rampFor: `${numbers.rampMs}ms`, probeEvery: numbers.probeMs === undefined ? false : `${numbers.probeMs}ms`, shadow: numbers.shadow,
  }
}

function holdsFor(numRuns: number, seed: number, Made: typeof Breaker = Breaker): Set<string> {
  const reached = new Set<string>()
  fc.assert(fc.property(rules, commands, (numbers, steps) => {
    if (numbers.failures === Number.POSITIVE_INFINITY && numbers.failureRate === undefined && numbers.slowCallRate === undefined) return
    fc.modelRun(() => {
      const clock = new HandClock()
      const heard: BreakerState[] = []
      const remake = (): Breaker => {
        const events = new EventBus(clock.env)
        events.on('breaker.changed', ({ data }) => { heard.push(data.to) })
        return new Made('panel', resolveBreaker(optionsOf(numbers), 'test'), { env: clock.env, events })
      }
      return { model: new Model(numbers), real: { breaker: remake(), clock, remake, calls: [], heard, reached } }
    }, steps)
  }), { numRuns, seed })
  return reached
}

describe('the breaker, beside a model of its documentation', () => {
  it('agrees with it about every rule, ramp, force, shadow and restart, whatever the order', () => {
    const reached = holdsFor(2_500, 12)
    for (const state of [
      'closed', 'open', 'half-open', 'forced-open', 'forced-closed', 'refused in open', 'refused in half-open', 'refused in forced-open', 'spared in shadow', 'stale success', 'stale failure', 'stale neither', 'refused in the ramp', 'let through in the ramp beyond ten a second',
      'opened by failures in a row', 'opened by the failure rate', 'opened by slow calls', 'restarted in closed', 'restarted in open', 'restarted in half-open', 'restarted in forced-open', 'restarted in forced-closed',
    ]) expect(reached, state).toContain(state)
  }, 60_000)

  it('control: a breaker whose permits are no fence is told from it', () => {
    class Unfenced extends Breaker {
      override settle(permit: number, result: BreakerResult, now: number, durationMs: number): void {
        const { machine } = this
        const current = machine.phase === 'closed' ? machine.permit : machine.phase === 'half-open' ? (machine.trials[0]?.permit ?? permit) : permit
        super.settle(current, result, now, durationMs)
      }
    }
    expect(() => holdsFor(1_500, 11, Unfenced)).toThrow(/Property failed/)
  }, 60_000)

  it('control: a breaker that takes no notice of how long calls took is told from it', () => {
    class Timeless extends Breaker {
      override settle(permit: number, result: BreakerResult, now: number): void {
        super.settle(permit, result, now, 0)
      }
    }
    expect(() => holdsFor(2_500, 12, Timeless)).toThrow(/Property failed/)
  }, 60_000)

  it('control: a breaker that lets everybody in as soon as it is closed is told from it', () => {
    class Rampless extends Breaker {
      override acquire(now: number): number {
        const permit = super.acquire(now)
        return permit === REFUSED && this.machine.phase === 'closed' ? this.machine.permit : permit
      }
    }
    expect(() => holdsFor(1_500, 11, Rampless)).toThrow(/Property failed/)
  }, 60_000)
})
