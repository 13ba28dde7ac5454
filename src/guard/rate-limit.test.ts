import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastError } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { breaker } from './breaker/breaker.ts'
import { deadline } from './deadline.ts'
import { BARE_CALL } from './explain.ts'
import type { GuardKit } from './policy.ts'
import { rateLimit, RateGate, resolveRateLimit, type RateLimitOptions, type Turn } from './rate-limit.ts'

function world(): { env: SimulatedEnv; kit: GuardKit } {
  const env = simulatedEnv({ seed: 6 })
  return { env, kit: { env, events: new EventBus(env) } }
}
function outcome<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: HoldfastError }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error: error as HoldfastError }))
}
function gateOf(env: SimulatedEnv, options: RateLimitOptions): RateGate {
  return new RateGate(resolveRateLimit(options, 'rate limit test'), env)
}
const FOREVER = Number.POSITIVE_INFINITY

describe('while turns are free', () => {
  it('lets calls through at once, with no timer', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 30, per: '1s', burst: 30 }, kit)
    for (let call = 0; call < 30; call += 1) expect(await limit.run(() => call)).toBe(call)
    expect([env.monotonic(), env.pendingTimers, limit.waiting]).toEqual([0, 0, 0])
  })

  it('passes on what the work throws, unchanged', async () => {
    const { kit } = world()
    const error = new Error('as it was')
    await expect(rateLimit('telegram', { limit: 5, per: '1s' }, kit).run(() => { throw error })).rejects.toBe(error)
  })
})

describe('when no turn is free', () => {
  it('makes callers wait, first come first served and evenly spaced', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 10, per: '1s' }, kit)
    const began: [number, number][] = []
    const calls = Array.from({ length: 6 }, (_, call) => limit.run(() => { began.push([call, env.monotonic()]) }))
    expect(limit.waiting).toBe(5)
    await env.advance('1s')
    await Promise.all(calls)
    expect(began).toEqual([[0, 0], [1, 100], [2, 200], [3, 300], [4, 400], [5, 500]])
    expect(env.pendingTimers).toBe(0)
  })

  it('refuses at once what would wait longer than maxWait, with the exact wait, as no failure of the dependency', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 10, per: '1s', maxWait: '200ms' }, kit)
    const calls = Array.from({ length: 3 }, () => limit.run(() => 'sent'))
    const { error } = await outcome(limit.run(() => 'sent'))
    expect(error).toMatchObject({
      code: 'HF_RATE_LIMITED', failure: 'dependency_error', retryable: true, retryAfterMs: 100, context: { limit: 'telegram', policy: 'rate-limit' },
      message: 'telegram takes 10 calls in 1 s from us, and the next turn is too far off; try again in 100 ms',
    })
    await env.advance(99)
    expect((await outcome(limit.run(() => 'sent'))).error).toMatchObject({ retryAfterMs: 1 })
    await env.advance(1)
    const last = limit.run(() => 'sent')
    await env.advance('1s')
    expect(await Promise.all([...calls, last])).toEqual(['sent', 'sent', 'sent', 'sent'])
  })

  it('refuses at once what its deadline does not leave time for, and with none of that in the way lets it wait', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 1, per: '1s' }, kit)
    await limit.run(() => 1)
    const result = outcome(deadline('900ms', kit).run(scope => limit.within(scope, () => 2)))
    await env.settle()
    expect((await result).error).toMatchObject({ code: 'HF_RATE_LIMITED', retryAfterMs: 101 })
    const control = deadline('1001ms', kit).run(scope => limit.within(scope, () => env.monotonic()))
    await env.advance('1s')
    expect(await control).toBe(1_000)
  })

  it('frees the place of a caller that gives up, and those behind it move up', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 10, per: '1s' }, kit)
    await limit.run(() => 0)
    const gone = new AbortController()
    const began: number[] = []
    const lost = outcome(limit.run(() => began.push(-1), { signal: gone.signal }))
    const behind = limit.run(() => began.push(env.monotonic()))
    await env.advance(50)
    gone.abort()
    expect((await lost).error).toMatchObject({ code: 'HF_CANCELLED' })
    await env.advance(50)
    await behind
    expect(began).toEqual([100])
  })

  it('is as free as ever after all who waited have given up at once', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 10, per: '1s' }, kit)
    const stop = new AbortController()
    await limit.run(() => 0)
    const lost = Array.from({ length: 50 }, () => outcome(limit.run(() => 1, { signal: stop.signal })))
    stop.abort()
    expect((await Promise.all(lost)).every(one => one.error?.code === 'HF_CANCELLED')).toBe(true)
    expect([limit.waiting, env.pendingTimers]).toEqual([0, 0])
    await env.advance(100)
    expect(await limit.run(() => 2)).toBe(2)
    expect(env.monotonic()).toBe(100)
  })

  it('gives the turn of a caller that left in the moment of its turn to the next', async () => {
    const { env } = world()
    const gate = gateOf(env, { limit: 10, per: '1s' })
    expect(gate.tryTake(0)).toBe(true)
    const first = gate.join(FOREVER, 0)
    const second = gate.join(FOREVER, 0)
    await env.advance(100)
    expect([first?.ending, second?.ending]).toEqual(['granted', 'waiting'])
    gate.giveBack(env.monotonic())
    expect(second?.ending).toBe('granted')
  })

  it('does not run the work of a caller that left between its turn and its work', async () => {
    const { env, kit } = world()
    const gone = new AbortController()
    const leaving: SimulatedEnv = Object.assign(Object.create(env) as SimulatedEnv, {
      monotonic: () => env.monotonic(),
      timer: (ms: number, run: () => void) => env.timer(ms, () => {
        run()
        gone.abort()
      }),
    })
    const limit = rateLimit('telegram', { limit: 10, per: '1s' }, { ...kit, env: leaving })
    await limit.run(() => 0)
    let ran = 0
    const lost = outcome(limit.run(() => { ran += 1 }, { signal: gone.signal }))
    const behind = limit.run(() => env.monotonic())
    await env.advance(100)
    expect((await lost).error).toMatchObject({ code: 'HF_CANCELLED' })
    expect([await behind, ran]).toEqual([100, 0])
  })

  it('waits for nothing with a maxWait of zero', async () => {
    const { kit } = world()
    const limit = rateLimit('telegram', { limit: 1, per: '1s', maxWait: '0ms' }, kit)
    await limit.run(() => 1)
    expect((await outcome(limit.run(() => 2))).error).toMatchObject({ code: 'HF_RATE_LIMITED', retryAfterMs: 1_000 })
  })

  it('does not count its refusals against a breaker around it', async () => {
    const { kit } = world()
    const limit = rateLimit('telegram', { limit: 1, per: '1s', maxWait: '0ms' }, kit)
    const guard = breaker('telegram', { failures: 2 }, kit)
    await limit.run(() => 1)
    for (let call = 0; call < 5; call += 1) await outcome(guard.run(scope => limit.within(scope, () => 2)))
    expect(guard.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  })
})

describe('when the event loop was late', () => {
  it('spaces those who wait anew instead of letting them go together, and lets none begin after its deadline', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 10, per: '1s' }, kit)
    const began: number[] = []
    const work = (): void => { began.push(env.monotonic()) }
    const patient = Array.from({ length: 4 }, () => limit.run(work))
    const late = outcome(deadline('450ms', kit).run(scope => limit.within(scope, work)))
    await env.advance(50)
    env.pause()
    await env.advance(950)
    env.resume()
    await env.advance('2s')
    await Promise.all(patient)
    expect(began.map(Math.round)).toEqual([0, 1_000, 1_100, 1_200])
    expect((await late).error?.code).toBe('HF_DEADLINE')
  })
})

describe('when a timer has not come yet', () => {
  it('lets nobody overtake those who wait', async () => {
    const { env } = world()
    const gate = gateOf(env, { limit: 10, per: '1s' })
    expect([gate.tryTake(0), gate.tryTake(0)]).toEqual([true, false])
    const first = gate.join(FOREVER, 0)
    // The time of the next turn, seen by a newcomer before the timer of the one who waits fired.
    expect([gate.tryTake(100), first?.ending]).toEqual([false, 'waiting'])
    await env.advance(100)
    expect(first?.ending).toBe('granted')
  })

  it('ends the wait of a call whose deadline came meanwhile', async () => {
    const { env, kit } = world()
    const limit = rateLimit('telegram', { limit: 10, per: '1s' }, kit)
    await limit.run(() => 0)
    const patient = Array.from({ length: 3 }, () => limit.run(() => env.monotonic()))
    const late = outcome(limit.run(() => env.monotonic(), { deadline: '450ms' }))
    env.pause()
    await env.advance(1_000)
    env.resume()
    await env.advance(300)
    expect((await late).error).toMatchObject({ code: 'HF_DEADLINE', context: { limit: 'telegram', policy: 'rate-limit' } })
    expect(await Promise.all(patient)).toEqual([1_000, 1_100, 1_200])
  })
})

describe('its explanation', () => {
  it('adds the wait and the queue to the worst case', () => {
    const { kit } = world()
    const limit = rateLimit('telegram', { limit: 30, per: '1s', maxWait: '2s' }, kit)
    expect(limit.explain({ ...BARE_CALL, worstCaseMs: 1_000 })).toMatchObject({ worstCaseMs: 3_000, waiting: 61, attempts: 1, order: ['rate limit 30 in 1 s, burst 3, waits up to 2 s', 'call'] })
    expect(limit.explain(BARE_CALL).worstCaseMs).toBeUndefined()
  })
})

describe('the options', () => {
  it('have a burst of a tenth and a bounded wait by default', () => {
    expect(resolveRateLimit({ limit: 30, per: '1s' }, 'x')).toEqual({ limit: 30, perMs: 1_000, intervalMs: 1_000 / 30, burst: 3, maxWaitMs: 5_000 })
    expect(resolveRateLimit({ limit: 5, per: '1m' }, 'x').burst).toBe(1)
  })

  it('are refused where they cannot be meant', () => {
    const bad = [{ limit: 0 }, { limit: 2.5 }, { burst: 0 }, { burst: 31 }, { per: '0s' as const }, { limit: 1_000_000, maxWait: '1h' as const }]
    for (const wrong of bad) expect(() => resolveRateLimit({ limit: 30, per: '1s', ...wrong }, 'dependency telegram: rate'), JSON.stringify(wrong)).toThrow(/dependency telegram: rate: (limit|per|burst|maxWait): expected/)
  })
})

type Step =
  | { readonly kind: 'call'; readonly leftMs: number }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'leave'; readonly which: number }
  | { readonly kind: 'give-back' }

const rates = fc.record({ limit: fc.integer({ min: 1, max: 12 }), intervalMs: fc.integer({ min: 1, max: 40 }), burst: fc.integer({ min: 1, max: 12 }), maxWaitMs: fc.nat(200) })
const steps = fc.array(fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('call' as const), leftMs: fc.oneof(fc.constant(FOREVER), fc.integer({ min: 1, max: 80 })) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 120 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('leave' as const), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('give-back' as const) }) },
), { minLength: 1, maxLength: 80, size: 'max' })

/** The reference: a bucket that gains one unit a millisecond and pays `interval` units a call, and a list. */
class Model {
  readonly #interval: number
  readonly #size: number
  #units: number
  queue: number[] = []
  granted: number[] = []

  constructor(interval: number, burst: number) {
    this.#interval = interval
    this.#size = interval * burst
    this.#units = this.#size
  }

  call(id: number): void {
    this.queue.push(id)
    this.#serve()
  }

  tick(): void {
    this.#units = Math.min(this.#size, this.#units + 1)
    this.#serve()
  }

  giveBack(): void {
    this.#units = Math.min(this.#size, this.#units + this.#interval)
    this.#serve()
  }

  /** How long somebody who comes now would wait. */
  waitMs(): number {
    return Math.max(0, (this.queue.length + 1) * this.#interval - this.#units)
  }

  #serve(): void {
    while (this.queue.length > 0 && this.#units >= this.#interval) {
      this.#units -= this.#interval
      this.granted.push(this.queue.shift() ?? -1)
    }
  }
}

describe('any rate, under any calls, cancellations and waits', () => {
  it('admits exactly what a bucket with a queue would, in the same order and at the same time', async () => {
    const reached = { waited: 0, refused: 0, left: 0, gaveBack: 0 }
    await fc.assert(fc.asyncProperty(rates, steps, async ({ limit, intervalMs, burst: wanted, maxWaitMs }, script: Step[]) => {
      const env = simulatedEnv({ seed: 1 })
      const burst = Math.min(limit, wanted)
      const gate = gateOf(env, { limit, per: `${limit * intervalMs}ms`, burst, maxWait: `${maxWaitMs}ms` })
      const model = new Model(intervalMs, burst)
      const granted: number[] = []
      const turns: { readonly id: number; readonly turn: Turn }[] = []
      let calls = 0
      for (const step of script) {
        const now = env.monotonic()
        if (step.kind === 'call') {
          const id = calls++
          const expected = model.waitMs()
          if (gate.tryTake(now)) {
            expect(expected).toBe(0)
            granted.push(id)
            model.call(id)
            continue
          }
          expect(expected).toBeGreaterThan(0)
          const turn = gate.join(step.leftMs, now)
          if (expected <= maxWaitMs && expected < step.leftMs) {
            expect(turn).toBeDefined()
            if (turn === undefined) continue
            reached.waited += 1
            turns.push({ id, turn })
            model.call(id)
            void turn.promise.then(() => { if (turn.ending === 'granted') granted.push(id) })
          } else {
            reached.refused += 1
            expect(turn).toBeUndefined()
            // The least wait after which it would be let in: so a millisecond less is refused, and as long succeeds.
            const after = gate.retryAfterMs(step.leftMs, now)
            const fits = (waited: number): boolean => expected - waited <= maxWaitMs && (expected - waited < step.leftMs || expected <= waited)
            expect([fits(after), fits(after - 1)]).toEqual([true, false])
          }
        } else if (step.kind === 'wait') {
          for (let ms = 0; ms < step.ms; ms += 1) model.tick()
          await env.advance(step.ms)
        } else if (step.kind === 'leave') {
          const waiting = turns.filter(one => one.turn.ending === 'waiting')
          const leaves = waiting[step.which % Math.max(1, waiting.length)]
          if (leaves === undefined) continue
          reached.left += 1
          leaves.turn.aborted()
          model.queue = model.queue.filter(id => id !== leaves.id)
        } else if (granted.length > 0 && model.waitMs() > 0) {
          // Only a turn that was just taken is given back: the bucket is not full.
          reached.gaveBack += 1
          gate.giveBack(now)
          model.giveBack()
        }
        await env.settle()
        expect(granted).toEqual(model.granted)
        expect(gate.waiting).toBe(model.queue.length)
        expect(gate.waiting).toBeLessThanOrEqual(Math.floor(maxWaitMs / intervalMs) + 1)
      }
    }), { numRuns: 200, seed: 21 })
    for (const [what, times] of Object.entries(reached)) expect(times, what).toBeGreaterThan(100)
  })

  /** The most calls that began in any half-open window of `perMs`. */
  function most(began: readonly number[], perMs: number): number {
    return Math.max(0, ...began.map(from => began.filter(at => at >= from && at < from + perMs - 0.01).length))
  }

  const arrivals = fc.array(fc.record({ waitMs: fc.nat(400), calls: fc.integer({ min: 1, max: 25 }), stallMs: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.nat(900)) }), { minLength: 1, maxLength: 20, size: 'max' })

  async function beginnings(traffic: readonly { readonly waitMs: number; readonly calls: number; readonly stallMs: number }[], options: RateLimitOptions | undefined): Promise<number[]> {
    const { env, kit } = world()
    const limit = options === undefined ? undefined : rateLimit('telegram', options, kit)
    const began: number[] = []
    const work = (): void => { began.push(env.monotonic()) }
    for (const { waitMs, calls, stallMs } of traffic) {
      await env.advance(waitMs)
      for (let call = 0; call < calls; call += 1) void (limit === undefined ? Promise.resolve(work()) : outcome(limit.run(work)))
      await env.settle()
      if (stallMs > 0) {
        env.pause()
        await env.advance(stallMs)
        env.resume()
        await env.settle()
      }
    }
    await env.advance('30s')
    return began
  }

  it('begins in no window of `per` more than limit + burst - 1 calls, stalls of the event loop included', async () => {
    let queued = false
    await fc.assert(fc.asyncProperty(arrivals, fc.integer({ min: 1, max: 7 }), async (traffic, burst) => {
      const began = await beginnings(traffic, { limit: 7, per: '1s', burst })
      queued ||= began.length > 7 + burst
      expect(most(began, 1_000)).toBeLessThanOrEqual(7 + burst - 1)
    }), { numRuns: 150, seed: 5 })
    expect(queued).toBe(true)
  })

  it('(control) would be seen to exceed it without the limit', async () => {
    const result = await fc.check(fc.asyncProperty(arrivals, async traffic => { expect(most(await beginnings(traffic, undefined), 1_000)).toBeLessThanOrEqual(13) }), { numRuns: 50, seed: 5 })
    expect(result.failed).toBe(true)
  })

  it('gives who keeps asking the whole rate, although timers are late', async () => {
    const { env, kit } = world()
    const late: SimulatedEnv = Object.assign(Object.create(env) as SimulatedEnv, {
      timer: (ms: number, run: () => void) => env.timer(ms + 1.5, run), monotonic: () => env.monotonic(),
    })
    const rate = async (burst: number): Promise<number> => {
      const limit = rateLimit('telegram', { limit: 1_000, per: '1s', burst, maxWait: '1s' }, { ...kit, env: late })
      const until = env.monotonic() + 3_000
      let calls = 0
      const callers = Array.from({ length: 50 }, async () => {
        while (env.monotonic() < until) await limit.run(() => { calls += 1 })
      })
      await env.advance(4_000)
      await Promise.all(callers)
      return calls / 3
    }
    expect(await rate(100)).toBeGreaterThan(990)
    // The control, and why the default is no burst of 1.
    expect(await rate(1)).toBeLessThan(500)
  })
})
