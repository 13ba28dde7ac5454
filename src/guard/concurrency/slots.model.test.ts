import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { ADAPTIVE_DEFAULTS } from './adaptive.ts'
import { Slots, type ConcurrencyRules, type Priority, type Waiter } from './slots.ts'

const ORDER: readonly Priority[] = ['critical', 'normal', 'background']

interface Waiting {
  readonly number: number
  readonly rank: number
  readonly deadlineAt: number
  leavesAt: number
  ending: Waiter['ending']
}

/** What the slots are to do, said with plain lists and loops. */
class Reference {
  readonly rules: ConcurrencyRules
  limit: number
  now = 0
  told = 0
  inFlight = 0
  typicalMs = 0
  observed = false
  all: Waiting[] = []

  constructor(rules: ConcurrencyRules) {
    this.rules = rules
    this.limit = rules.limit
  }

  get waiting(): Waiting[] {
    return this.all.filter(one => one.ending === 'waiting')
  }

  get marginMs(): number {
    return this.rules.marginMs ?? this.typicalMs
  }

  most(rank: number): number {
    return rank === 2 ? Math.max(1, Math.floor(this.limit * this.rules.backgroundShare)) : this.limit
  }

  arrive(rank: number, leftMs: number): Waiting | 'taken' | 'overloaded' | 'deadline' {
    if (this.inFlight < this.most(rank)) {
      this.inFlight += 1
      return 'taken'
    }
    this.told = this.now
    const full = this.waiting.length >= this.rules.queue
    const youngestOfLowest = this.waiting.filter(one => one.rank > rank).sort((a, b) => b.rank - a.rank || b.number - a.number)[0]
    if (full && youngestOfLowest === undefined) return 'overloaded'
    const ahead = this.waiting.filter(one => one.rank <= rank).length + Math.max(0, this.inFlight - this.limit)
    const waitMs = leftMs - this.marginMs
    if (waitMs <= 0 || waitMs < ahead * this.typicalMs / this.limit) return 'deadline'
    if (full && youngestOfLowest !== undefined) youngestOfLowest.ending = 'overloaded'
    const one: Waiting = { number: this.all.length, rank, deadlineAt: this.now + leftMs, leavesAt: this.now + waitMs, ending: 'waiting' }
    this.all.push(one)
    return one
  }

  give(): void {
    this.inFlight -= 1
    this.serve()
  }

  serve(): void {
    for (;;) {
      const next = this.waiting.filter(one => this.inFlight < this.most(one.rank)).sort((a, b) => a.rank - b.rank || a.number - b.number)[0]
      if (next === undefined) return
      if (next.deadlineAt - this.told < this.marginMs) next.ending = 'deadline'
      else {
        next.ending = 'granted'
        this.inFlight += 1
      }
    }
  }

  /** The limit is an input here: what finds it has tests of its own. */
  observe(durationMs: number, result: 'success' | 'failure' | 'neither', limit: number): void {
    this.told = this.now
    if (result !== 'neither') {
      this.typicalMs = this.observed ? this.typicalMs + 0.1 * (durationMs - this.typicalMs) : durationMs
      this.observed = true
    }
    this.limit = limit
    this.serve()
  }

  advance(ms: number): void {
    this.now += ms
    for (const one of this.waiting) {
      while (one.ending === 'waiting' && one.leavesAt <= this.now) {
        const wonMs = one.deadlineAt - this.marginMs - one.leavesAt
        if (wonMs > 1) one.leavesAt += wonMs
        else one.ending = 'deadline'
      }
    }
  }
}

class Real {
  readonly env: SimulatedEnv = simulatedEnv()
  readonly slots: Slots
  readonly waiters: Waiter[] = []
  woken = 0

  constructor(make: (rules: ConcurrencyRules, env: SimulatedEnv) => Slots, rules: ConcurrencyRules) {
    this.slots = make(rules, this.env)
  }

  arrive(priority: Priority, leftMs: number): Waiter | 'taken' | 'overloaded' | 'deadline' {
    if (this.slots.tryTake(priority)) return 'taken'
    const waiter = this.slots.join(leftMs, this.env.monotonic(), priority)
    if (typeof waiter === 'string') return waiter
    this.waiters.push(waiter)
    void waiter.promise.then(() => { this.woken += 1 })
    return waiter
  }
}

type Step = fc.AsyncCommand<Reference, Real>

/** After each step both say the same about everybody, and nobody was forgotten or let in beyond the limit. */
function agree(model: Reference, real: Real): void {
  expect(real.waiters.map(one => one.ending)).toEqual(model.all.map(one => one.ending))
  expect([real.slots.inFlight, real.slots.queued, real.slots.limit]).toEqual([model.inFlight, model.waiting.length, model.limit])
  expect(real.slots.queued).toBeLessThanOrEqual(model.rules.queue)
}

class Arrive implements Step {
  readonly rank: number
  readonly leftMs: number
  constructor(rank: number, leftMs: number) { this.rank = rank; this.leftMs = leftMs }
  check(): boolean { return true }
  async run(model: Reference, real: Real): Promise<void> {
    const expected = model.arrive(this.rank, this.leftMs)
    const before = real.slots.inFlight
    const got = real.arrive(ORDER[this.rank] ?? 'normal', this.leftMs)
    expect(typeof got === 'string' ? got : 'waits').toBe(typeof expected === 'string' ? expected : 'waits')
    if (real.slots.inFlight > before) expect(real.slots.inFlight).toBeLessThanOrEqual(real.slots.limit)
    agree(model, real)
    await Promise.resolve()
  }
  toString(): string { return `arrive(${ORDER[this.rank] ?? ''}, ${String(this.leftMs)} ms)` }
}

class Give implements Step {
  check(model: Readonly<Reference>): boolean { return model.inFlight > 0 }
  async run(model: Reference, real: Real): Promise<void> {
    model.give()
    real.slots.give()
    agree(model, real)
    await Promise.resolve()
  }
  toString(): string { return 'give' }
}

class Observe implements Step {
  readonly ms: number
  readonly result: 'success' | 'failure' | 'neither'
  constructor(ms: number, result: 'success' | 'failure' | 'neither') { this.ms = ms; this.result = result }
  check(model: Readonly<Reference>): boolean { return model.inFlight > 0 }
  async run(model: Reference, real: Real): Promise<void> {
    real.slots.observe(this.ms, this.result, real.env.monotonic())
    model.observe(this.ms, this.result, real.slots.limit)
    agree(model, real)
    await Promise.resolve()
  }
  toString(): string { return `observe(${String(this.ms)} ms, ${this.result})` }
}

class Abort implements Step {
  readonly index: number
  constructor(index: number) { this.index = index }
  check(model: Readonly<Reference>): boolean { return model.all.length > 0 }
  async run(model: Reference, real: Real): Promise<void> {
    const index = this.index % model.all.length
    const one = model.all[index]
    if (one?.ending === 'waiting') one.ending = 'cancelled'
    real.waiters[index]?.aborted()
    agree(model, real)
    await Promise.resolve()
  }
  toString(): string { return `abort(${String(this.index)})` }
}

class Advance implements Step {
  readonly ms: number
  constructor(ms: number) { this.ms = ms }
  check(): boolean { return true }
  async run(model: Reference, real: Real): Promise<void> {
    model.advance(this.ms)
    await real.env.advance(this.ms)
    agree(model, real)
  }
  toString(): string { return `advance(${String(this.ms)} ms)` }
}

const steps = fc.commands([
  fc.tuple(fc.nat(2), fc.constantFrom(5, 20, 50, 200, Number.POSITIVE_INFINITY)).map(([rank, leftMs]) => new Arrive(rank, leftMs)),
  fc.tuple(fc.nat(2), fc.constantFrom(50, 200)).map(([rank, leftMs]) => new Arrive(rank, leftMs)),
  fc.constant(new Give()),
  fc.tuple(fc.constantFrom(1, 8, 30), fc.constantFrom('success' as const, 'failure' as const, 'neither' as const)).map(([ms, result]) => new Observe(ms, result)),
  fc.nat(20).map(index => new Abort(index)),
  fc.integer({ min: 1, max: 40 }).map(ms => new Advance(ms)),
], { maxCommands: 60, size: 'max' })

/** One result moves it, so that it shrinks and grows within a few steps. */
const NERVOUS = { ...ADAPTIVE_DEFAULTS, initial: 3, max: 6, samplesMin: 1, windowMinMs: 1, backoff: 0.5, probeEveryMs: 50, probeSoonMs: 20 }

const someRules = fc.record({
  limit: fc.constantFrom(1, 2, 3, 5), queue: fc.constantFrom(0, 1, 3, 6), marginMs: fc.constantFrom(undefined, 0, 10), backgroundShare: fc.constantFrom(0, 0.5, 0.8, 1), adapts: fc.boolean(),
}).map(({ limit, queue, marginMs, backgroundShare, adapts }): ConcurrencyRules => ({
  limit: adapts ? NERVOUS.initial : limit, queue, marginMs, backgroundShare, adaptive: adapts ? NERVOUS : undefined,
}))

function property(make: (rules: ConcurrencyRules, env: SimulatedEnv) => Slots): fc.IAsyncProperty<[ConcurrencyRules, Iterable<Step>]> {
  return fc.asyncProperty(someRules, steps, async (rules, script) => {
    const model = new Reference(rules)
    const real = new Real(make, rules)
    await fc.asyncModelRun(() => ({ model, real }), script)
    // All work ends: no slot was lost, nobody who could be served still waits, everybody was told exactly once.
    while (model.inFlight > 0) {
      model.give()
      real.slots.give()
    }
    agree(model, real)
    expect(real.slots.queued).toBe(0)
    await real.env.advance('1s')
    expect(real.woken).toBe(real.waiters.length)
    expect(real.env.pendingTimers).toBe(0)
  })
}

const RUNS = { numRuns: 500, seed: 3 }

describe('whatever arrives, ends, gives up and expires in whatever order', () => {
  it('the slots do what a plain reference model does', async () => {
    await fc.assert(property((rules, env) => new Slots(rules, env)), RUNS)
  })

  it('control: a slot that is given back twice is found', async () => {
    class Doubled extends Slots {
      override give(): void {
        if (this.inFlight > 1) super.give()
        super.give()
      }
    }
    expect((await fc.check(property((rules, env) => new Doubled(rules, env)), RUNS)).failed).toBe(true)
  })

  it('control: a priority that is not looked at is found', async () => {
    class Equal extends Slots {
      override join(leftMs: number, now: number): Waiter | 'overloaded' | 'deadline' {
        return super.join(leftMs, now, 'normal')
      }
    }
    expect((await fc.check(property((rules, env) => new Equal(rules, env)), RUNS)).failed).toBe(true)
  })

  it('control: a place that is kept until its turn is found', async () => {
    class Deaf extends Slots {
      override leave(waiter: Waiter): void {
        if (waiter.ending !== 'cancelled') super.leave(waiter)
      }
    }
    expect((await fc.check(property((rules, env) => new Deaf(rules, env)), RUNS)).failed).toBe(true)
  })
})
