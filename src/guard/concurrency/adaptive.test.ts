import { describe, expect, it } from 'vitest'
import { seededRandom } from '../../testing/simulated-env.ts'
import { ADAPTIVE_DEFAULTS, Gradient, resolveAdaptive, type AdaptiveRules } from './adaptive.ts'

/** What a simulated client asks before each call and tells after it. */
interface Limiter {
  readonly limit: number
  observe(durationMs: number, result: 'success' | 'failure', inFlight: number, now: number): unknown
}

interface World {
  readonly seconds: number
  /** Calls that callers want to make, per second. */
  readonly rps: (second: number) => number
  /** What the server works on at once; the rest waits in its own queue, first come first served. */
  readonly capacity: (second: number) => number
  /** Mean time of one piece of work there, milliseconds. */
  readonly serviceMs: (second: number) => number
  readonly timeoutMs?: number
  readonly seed?: number
  readonly limiters: readonly Limiter[]
}

interface Second {
  readonly limit: number
  readonly done: number
}

/** An open-loop client (or several) before one server, in virtual time. Calls beyond the limit are refused. */
function simulate(world: World): Second[] {
  const random = seededRandom(world.seed ?? 1)
  const timeoutMs = world.timeoutMs ?? Number.POSITIVE_INFINITY
  const events: { at: number; run: () => void }[] = []
  const at = (time: number, run: () => void): void => {
    let index = events.length
    events.push({ at: time, run })
    while (index > 0) {
      const parent = (index - 1) >> 1
      const above = events[parent]
      const own = events[index]
      if (above === undefined || own === undefined || above.at <= own.at) break
      events[parent] = own
      events[index] = above
      index = parent
    }
  }
  const next = (): { at: number; run: () => void } | undefined => {
    const top = events[0]
    const last = events.pop()
    if (top === undefined || last === undefined || events.length === 0) return top
    events[0] = last
    for (let index = 0; ;) {
      const left = 2 * index + 1
      const right = events[left + 1]
      const a = events[left]
      if (a === undefined) break
      const child = right !== undefined && right.at < a.at ? left + 1 : left
      const below = events[child]
      const own = events[index]
      if (below === undefined || own === undefined || own.at <= below.at) break
      events[child] = own
      events[index] = below
      index = child
    }
    return top
  }

  let now = 0
  let working = 0
  const queue: (() => void)[] = []
  let head = 0
  const inFlight = world.limiters.map(() => 0)
  const seconds: Second[] = []
  let done = 0
  const second = (): number => Math.floor(now / 1_000)
  const serve = (): void => {
    while (working < world.capacity(second()) && head < queue.length) {
      const work = queue[head]
      head += 1
      working += 1
      work?.()
    }
  }
  const call = (limiter: Limiter, client: number): void => {
    if ((inFlight[client] ?? 0) >= limiter.limit) return
    inFlight[client] = (inFlight[client] ?? 0) + 1
    const startedAt = now
    let over = false
    if (timeoutMs !== Number.POSITIVE_INFINITY) {
      at(now + timeoutMs, () => {
        if (over) return
        over = true
        limiter.observe(timeoutMs, 'failure', inFlight[client] ?? 0, now)
      })
    }
    queue.push(() => {
      at(now + world.serviceMs(second()) * (0.5 + random()), () => {
        working -= 1
        if (!over) {
          over = true
          done += 1
          limiter.observe(now - startedAt, 'success', inFlight[client] ?? 0, now)
        }
        // Work that was timed out is in flight until here.
        inFlight[client] = (inFlight[client] ?? 0) - 1
        serve()
      })
    })
    serve()
  }
  const arrive = (): void => {
    const rps = world.rps(second())
    if (rps > 0) {
      const client = Math.floor(random() * world.limiters.length)
      const limiter = world.limiters[client]
      if (limiter !== undefined) call(limiter, client)
    }
    at(now + (rps > 0 ? -Math.log(1 - random()) * 1_000 / rps : 100), arrive)
  }
  at(0, arrive)
  for (;;) {
    const event = next()
    if (event === undefined || event.at >= world.seconds * 1_000) break
    while (seconds.length < Math.floor(event.at / 1_000)) {
      seconds.push({ limit: world.limiters[0]?.limit ?? 0, done })
      done = 0
    }
    now = event.at
    event.run()
  }
  return seconds
}

/** Netflix's Gradient2 with its own defaults and window, as the control: it has none of the corrections. */
class Gradient2 implements Limiter {
  readonly #max: number
  #estimate = 20
  #longMs = 0
  #windows = 0
  #startedAt = 0
  #sumMs = 0
  #count = 0
  #peak = 0
  constructor(max = 200) {
    this.#max = max
  }

  get limit(): number {
    return Math.floor(this.#estimate)
  }

  observe(durationMs: number, _result: 'success' | 'failure', inFlight: number, now: number): void {
    this.#sumMs += durationMs
    this.#count += 1
    this.#peak = Math.max(this.#peak, inFlight)
    if (now - this.#startedAt < 1_000) return
    if (this.#count >= 10) this.#update(this.#sumMs / this.#count, this.#peak)
    this.#startedAt = now
    this.#sumMs = 0
    this.#count = 0
    this.#peak = 0
  }

  #update(shortMs: number, peak: number): void {
    this.#windows += 1
    this.#longMs = this.#windows <= 10 ? this.#longMs + (shortMs - this.#longMs) / this.#windows : this.#longMs + (shortMs - this.#longMs) * 2 / 601
    if (this.#longMs / shortMs > 2) this.#longMs *= 0.9
    if (peak < this.#estimate / 2) return
    const gradient = Math.max(0.5, Math.min(1, 1.5 * this.#longMs / shortMs))
    this.#estimate = Math.max(20, Math.min(this.#max, this.#estimate * 0.8 + (this.#estimate * gradient + 4) * 0.2))
  }
}

interface Sum {
  readonly min: number
  readonly max: number
  readonly mean: number
  /** Calls that succeeded, per second. */
  readonly goodput: number
}

function between(seconds: readonly Second[], from: number, to: number): Sum {
  const slice = seconds.slice(from, to)
  const all = slice.map(one => one.limit)
  return {
    min: Math.min(...all), max: Math.max(...all), mean: all.reduce((sum, one) => sum + one, 0) / all.length,
    goodput: slice.reduce((sum, one) => sum + one.done, 0) / slice.length,
  }
}

function gradient(rules: Partial<AdaptiveRules> = {}): Gradient {
  return new Gradient({ ...ADAPTIVE_DEFAULTS, ...rules })
}

const WITHOUT_PROBES = { probeEveryMs: Number.POSITIVE_INFINITY }

describe('under a load of 1.3 times the capacity C', () => {
  const world = (capacity: number, limiter: Limiter): World => ({
    seconds: 300, rps: () => capacity * 20 * 1.3, capacity: () => capacity, serviceMs: () => 50, limiters: [limiter],
  })

  it.each([2, 5, 20, 100])('settles between C and 2C + 4 for C = %i, and leaves at most 7 in 100 of it unused', capacity => {
    const { mean, max, goodput } = between(simulate(world(capacity, gradient())), 200, 300)
    expect(mean).toBeGreaterThanOrEqual(capacity)
    expect(mean).toBeLessThanOrEqual(2 * capacity + 4)
    expect(max).toBeLessThanOrEqual(2 * capacity + 8)
    expect(goodput / (capacity * 20)).toBeGreaterThan(0.93)
  })

  it('control: without probes, what was learnt in the crowd of the first second is believed for ever', () => {
    expect(between(simulate(world(2, gradient(WITHOUT_PROBES))), 200, 300).mean).toBeGreaterThan(12)
  })
})

describe('when the capacity halves', () => {
  const world = (limiter: Limiter): World => ({
    seconds: 200, rps: () => 520, capacity: second => second < 100 ? 20 : 10, serviceMs: () => 50, limiters: [limiter],
  })

  it('is down within 15 s, and the rest of the capacity is used', () => {
    const seconds = simulate(world(gradient()))
    expect(between(seconds, 80, 100).mean).toBeGreaterThan(30)
    expect(between(seconds, 115, 200).max).toBeLessThanOrEqual(24)
    expect(between(seconds, 115, 200).goodput / 200).toBeGreaterThan(0.95)
  })

  it('control: a gradient that never falls below 1 shrinks nothing', () => {
    expect(between(simulate(world(gradient({ gradientMin: 1 }))), 115, 200).mean).toBeGreaterThan(100)
  })
})

describe('when the dependency itself becomes three times slower', () => {
  const world = (seed: number, limiter: Limiter): World => ({
    seconds: 200, seed, rps: () => 520, capacity: () => 20, serviceMs: second => second < 100 ? 50 : 150, limiters: [limiter],
  })

  it.each([1, 2, 3])('learns by a probe that it is no queue, and uses the capacity that is left (seed %i)', seed => {
    expect(between(simulate(world(seed, gradient())), 145, 200).goodput / 133).toBeGreaterThan(0.95)
  })

  it('control: without probes most of it stays unused', () => {
    expect(between(simulate(world(1, gradient(WITHOUT_PROBES))), 145, 200).goodput / 133).toBeLessThan(0.5)
  })
})

describe('an hour of modest overload (concurrency-limits #134)', () => {
  const world = (limiter: Limiter): World => ({ seconds: 3_600, rps: () => 110, capacity: () => 5, serviceMs: () => 50, limiters: [limiter] })

  it('does not grow without end', () => {
    const seconds = simulate(world(gradient({ max: 1_000 })))
    expect(between(seconds, 200, 3_600).max).toBeLessThanOrEqual(32)
    expect(between(seconds, 200, 3_600).goodput / 100).toBeGreaterThan(0.93)
  })

  it('control: Gradient2 takes the queue that it makes for the normal case', () => {
    expect(between(simulate(world(new Gradient2(1_000))), 3_500, 3_600).min).toBe(1_000)
  })
})

describe('four instances before one overloaded dependency', () => {
  const total = (clocksApartMs: number): number => {
    const instances = Array.from({ length: 4 }, () => gradient({ initial: 5, max: 1_000 }))
    simulate({
      seconds: 1_200, rps: () => 260, capacity: () => 10, serviceMs: () => 50,
      limiters: instances.map((one, index): Limiter => ({
        get limit() { return one.limit },
        observe: (durationMs, result, inFlight, now) => one.observe(durationMs, result, inFlight, now + index * clocksApartMs),
      })),
    })
    return instances.reduce((sum, one) => sum + one.limit, 0)
  }

  it('probe together, and so see the queue that they make in common', () => {
    expect(total(0)).toBeLessThan(100)
  })

  it('control: with clocks that disagree each sees a dependency that is slow anyway, and they grow without end', () => {
    expect(total(7_000)).toBeGreaterThan(500)
  })
})

describe('timeouts that all take the same time (concurrency-limits #137)', () => {
  const world = (limiter: Limiter): World => ({
    seconds: 600, rps: () => 100, capacity: () => 100_000, serviceMs: () => 6_000, timeoutMs: 3_000, limiters: [limiter],
  })

  it('shrink it to the minimum, although their duration is stable', () => {
    const seconds = simulate(world(gradient({ min: 2 })))
    expect(between(seconds, 0, 600).max).toBeLessThanOrEqual(30)
    expect(between(seconds, 500, 600).max).toBe(2)
  })

  it('control: taken for measured times they let it grow to the maximum', () => {
    const inner = gradient()
    const believing: Limiter = { get limit() { return inner.limit }, observe: (durationMs, _result, inFlight, now) => inner.observe(durationMs, 'success', inFlight, now) }
    expect(between(simulate(world(believing)), 500, 600).max).toBe(200)
  })

  it('a tenth of failures moves nothing by itself', () => {
    const limiter = gradient()
    for (let call = 0; call < 10_000; call += 1) limiter.observe(50, call % 10 === 0 ? 'failure' : 'success', 15, call)
    expect(limiter.limit).toBeGreaterThan(20)
  })
})

describe('after an outage of 30 s', () => {
  it('has shrunk, and gives 95 % of the goodput back within 10 s', () => {
    const seconds = simulate({
      seconds: 200, rps: () => 520, capacity: second => second >= 100 && second < 130 ? 1 : 20, serviceMs: () => 50, timeoutMs: 500, limiters: [gradient()],
    })
    expect(between(seconds, 125, 130).max).toBeLessThan(10)
    expect(between(seconds, 140, 200).goodput / 400).toBeGreaterThan(0.95)
  })
})

describe('with little traffic (concurrency-limits #125)', () => {
  const world = (limiter: Limiter): World => ({
    seconds: 1_800, rps: () => 0.1, capacity: () => 100, serviceMs: second => second < 600 ? 50 : 5_000, limiters: [limiter],
  })

  it('does not move, and believes no baseline', () => {
    const limiter = gradient()
    const { min, max } = between(simulate(world(limiter)), 0, 1_800)
    expect([min, max]).toEqual([20, 20])
    expect(limiter.baselineMs).toBeUndefined()
  })

  it('control: when thin windows count it moves', () => {
    const { min, max } = between(simulate(world(gradient({ samplesMin: 1, pressedShare: 0 }))), 0, 1_800)
    expect(max - min).toBeGreaterThan(10)
  })

  it('a limit of 1 grows although one call at a time makes few results, because the limit is why', () => {
    const limiter = gradient({ initial: 1 })
    simulate({ seconds: 300, rps: () => 10, capacity: () => 100, serviceMs: () => 5_000, limiters: [limiter] })
    expect(limiter.limit).toBeGreaterThan(5)
  })
})

describe('while much less is in flight than allowed', () => {
  const world = (limiter: Limiter): World => ({ seconds: 600, rps: () => 40, capacity: () => 1_000, serviceMs: () => 50, limiters: [limiter] })

  it('grows no further than its bursts reach', () => {
    expect(between(simulate(world(gradient())), 0, 600).max).toBeLessThanOrEqual(30)
  })

  it('control: when use does not matter it grows to the maximum', () => {
    expect(between(simulate(world(gradient({ pressedShare: 0, usedFactor: 1_000 }))), 500, 600).max).toBe(200)
  })

  it('falls back from the height of a busy hour to five times what is used', () => {
    const seconds = simulate({ seconds: 300, rps: second => second < 60 ? 4_000 : 100, capacity: () => 1_000, serviceMs: () => 50, limiters: [gradient()] })
    expect(between(seconds, 50, 60).max).toBeGreaterThan(180)
    expect(between(seconds, 150, 300).max).toBeLessThan(100)
  })
})

describe('its options', () => {
  it.each([
    [{ min: 0 }, 'x: min: expected a whole number of at least 1, got 0'],
    [{ min: 5, max: 4 }, 'x: max: expected a whole number of at least 5, got 4'],
    [{ min: 5, max: 10, initial: 11 }, 'x: initial: expected a whole number of 5 to 10, got 11'],
    [{ tolerance: 0.9 }, 'x: tolerance: expected a number of at least 1, got 0.9'],
    [{ eventLoop: 'ignore' as 'shrink' }, 'x: eventLoop: expected discount or shrink, got ignore'],
  ])('%j is refused', (options, message) => {
    expect(() => resolveAdaptive(options, 'x')).toThrow(message)
  })

  it('a minimum or maximum alone moves the others', () => {
    expect(resolveAdaptive({ min: 300 }, 'x')).toMatchObject({ min: 300, max: 300, initial: 300 })
    expect(resolveAdaptive({ max: 8 }, 'x')).toMatchObject({ min: 1, max: 8, initial: 8 })
  })
})
