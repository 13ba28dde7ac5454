import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastError } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { breaker, compose, concurrencyLimit, deadline, fallback, hedge, rateLimit, retry, timeout, type Explanation, type GuardKit, type Policy, type Scope } from './index.ts'

type Kind = Policy['kind']
const KINDS = ['fallback', 'deadline', 'retry', 'hedge', 'breaker', 'rate-limit', 'concurrency-limit', 'timeout'] as const satisfies readonly Kind[]
/** The reference for which orders are refused: each kind, and what may not stand outside it. Written down apart from the code. */
const NOT_INSIDE: Readonly<Record<Kind, readonly Kind[]>> = {
  fallback: ['deadline', 'retry', 'hedge', 'breaker', 'rate-limit', 'concurrency-limit', 'timeout'],
  deadline: ['retry', 'hedge', 'breaker', 'rate-limit', 'concurrency-limit', 'timeout'],
  retry: ['hedge', 'breaker', 'rate-limit', 'concurrency-limit', 'timeout'],
  hedge: ['breaker', 'rate-limit', 'concurrency-limit'],
  breaker: ['timeout'],
  'rate-limit': [],
  'concurrency-limit': [],
  timeout: [],
}
const TRANSIENT = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

interface World { readonly env: SimulatedEnv; readonly kit: GuardKit; readonly limit: ReturnType<typeof concurrencyLimit>; readonly guard: ReturnType<typeof breaker>; readonly make: (kind: Kind) => Policy<unknown> }

function world(): World {
  const env = simulatedEnv({ seed: 8 })
  const kit = { env, events: new EventBus(env) }
  const limit = concurrencyLimit('panel', { limit: 1, queue: 1 }, kit)
  const guard = breaker('panel', { failures: 3 }, kit)
  const make = (kind: Kind): Policy<unknown> => {
    switch (kind) {
      case 'fallback':
        return fallback('panel', { value: 'instead' }, kit)
      case 'deadline':
        return deadline('10s', kit)
      case 'retry':
        return retry({ attempts: 2, minWait: '1s', backoff: 'constant' }, kit)
      case 'hedge':
        return hedge({ after: '500ms' }, kit)
      case 'breaker':
        return guard
      case 'rate-limit':
        return rateLimit('panel', { limit: 1, per: '1s', burst: 1 }, kit)
      case 'concurrency-limit':
        return limit
      case 'timeout':
        return timeout('3s', kit)
    }
  }
  return { env, kit, limit, guard, make }
}
function settled<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: HoldfastError }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error: error as HoldfastError }))
}
function never<T>(): Promise<T> {
  return new Promise(() => undefined)
}
/** The first reason why an order is refused, by the reference. */
function refusedBy(order: readonly Kind[]): boolean {
  return order.some((kind, index) => order.slice(0, index).some(outer => outer === kind || NOT_INSIDE[kind].includes(outer)))
}

const pairs = KINDS.flatMap(outer => KINDS.map(inner => [outer, inner] as const))
const working = pairs.filter(pair => !refusedBy(pair))

describe('the composition matrix', () => {
  it('is complete: each pair of policies is either refused with what was meant, or works', () => {
    for (const order of pairs) {
      const { kit, make } = world()
      const attempt = (): unknown => compose(order.map(make), kit)
      if (refusedBy(order)) expect(attempt, order.join(' > ')).toThrow(/^compose: expected .{20,}/)
      else expect(attempt, order.join(' > ')).not.toThrow()
    }
    expect([pairs.length, working.length]).toEqual([64, 34])
  })

  describe.each(working)('%s > %s', (outer, inner) => {
    const composed = (w: World): { run<T>(work: (scope: Scope) => T | Promise<T>, options: { readonly effect: 'read'; readonly signal?: AbortSignal }): Promise<T> } => compose([w.make(outer), w.make(inner)], w.kit)
    const READ = { effect: 'read' } as const
    const nothingLeft = async (w: World): Promise<void> => {
      await w.env.advance('1h')
      expect([w.env.pendingTimers, w.limit.inFlight, w.limit.queued]).toEqual([0, 0, 0])
      expect(w.guard.snapshot()).toMatchObject({ state: 'closed' })
    }

    it('gives answers as they are, the absent one too', async () => {
      const w = world()
      const first = composed(w).run(async () => 42, READ)
      await expect(first).resolves.toBe(42)
      await w.env.advance('1s')
      await expect(composed(w).run(() => undefined, READ)).resolves.toBeUndefined()
      await nothingLeft(w)
    })

    it('hands out a failure as it is, or what stands in for it', async () => {
      const w = world()
      const result = settled(composed(w).run((): number => { throw TRANSIENT }, READ))
      await w.env.advance('2s')
      expect(await result).toEqual(outer === 'fallback' ? { value: 'instead' } : { error: TRANSIENT })
      await nothingLeft(w)
    })

    it('ends at once when its caller gives up in the middle of the work, blames nobody, and begins nothing more', async () => {
      const w = world()
      const caller = new AbortController()
      const signals: AbortSignal[] = []
      const result = settled(composed(w).run(({ signal }) => { signals.push(signal); return w.env.sleep(60_000, signal).then(() => { throw TRANSIENT }) }, { ...READ, signal: caller.signal }))
      await w.env.advance('100ms')
      caller.abort()
      expect((await result).error).toMatchObject({ code: 'HF_CANCELLED' })
      await w.env.settle()
      const begun = signals.length
      expect(signals.every(signal => signal.aborted)).toBe(true)
      expect(w.guard.snapshot().failures).toBe(0)
      await nothingLeft(w)
      expect(signals).toHaveLength(begun)
    })

    it('ends at once for its caller although the work ignores its signal; the work keeps its slot until it is over', async () => {
      const w = world()
      const caller = new AbortController()
      let finish: () => void = () => undefined
      const result = settled(composed(w).run(() => new Promise<void>(resolve => { finish = resolve }), { ...READ, signal: caller.signal }))
      await w.env.advance('100ms')
      caller.abort()
      expect((await result).error).toMatchObject({ code: 'HF_CANCELLED' })
      expect(w.limit.inFlight).toBe(outer === 'concurrency-limit' || inner === 'concurrency-limit' ? 1 : 0)
      finish()
      await nothingLeft(w)
    })

    it('ends at once when its caller gives up while it waits: for a turn, for a slot, or between attempts', async () => {
      const w = world()
      const composition = composed(w)
      const caller = new AbortController()
      let calls = 0
      // The first takes the only slot and the only turn, where there are any.
      const first = settled(composition.run(() => w.env.sleep(200), READ))
      const second = settled(composition.run(() => { calls += 1; throw TRANSIENT }, { ...READ, signal: caller.signal }))
      await w.env.advance('100ms')
      caller.abort()
      const { value, error } = await second
      // What does not wait has its answer by now.
      if (error !== TRANSIENT && value !== 'instead') expect(error).toMatchObject({ code: 'HF_CANCELLED' })
      const made = calls
      await nothingLeft(w)
      await first
      expect(calls).toBe(made)
    })

    it('never takes longer than it says, nor begins more often', async () => {
      const w = world()
      const composition = compose([w.make(outer), w.make(inner)], w.kit)
      const { worstCaseMs, attempts } = composition.explain()
      let calls = 0
      let over = worstCaseMs === undefined
      void settled(composition.run(() => { calls += 1; return never() }, READ)).then(() => { over = true })
      await w.env.advance(worstCaseMs ?? '1h')
      expect(over).toBe(true)
      expect(calls).toBeLessThanOrEqual(attempts)
    })
  })
})

/** Moves policies outwards until the reference refuses nothing. */
function untilItWorks(order: readonly Kind[]): readonly Kind[] {
  const kinds = [...order]
  for (let index = 1; index < kinds.length; index += 1) {
    const kind = kinds[index] as Kind
    const bad = kinds.findIndex((outer, at) => at < index && NOT_INSIDE[kind].includes(outer))
    if (bad === -1) continue
    kinds.splice(index, 1)
    kinds.splice(bad, 0, kind)
    index = 0
  }
  return kinds
}

describe('any composition', () => {
  interface Plan { readonly kinds: readonly Kind[]; readonly works: readonly ('value' | 'fails' | 'slow' | 'hangs' | 'obeys')[]; readonly abortAt: number | undefined; readonly seed: number }
  const plan: fc.Arbitrary<Plan> = fc.record({
    // Mostly orders that work, which are rare among all.
    kinds: fc.oneof({ weight: 1, arbitrary: fc.shuffledSubarray([...KINDS], { minLength: 1 }) }, { weight: 9, arbitrary: fc.shuffledSubarray([...KINDS], { minLength: 1 }).map(untilItWorks) }),
    works: fc.array(fc.constantFrom('value', 'fails', 'slow', 'hangs', 'obeys'), { minLength: 1, maxLength: 8 }),
    abortAt: fc.option(fc.integer({ min: 0, max: 12_000 }), { nil: undefined }),
    seed: fc.integer({ min: 1, max: 1_000 }),
  })

  /** What happened to several runs at once, against what the explanation promises. */
  async function live({ kinds, works, abortAt }: Plan): Promise<void> {
    const w = world()
    const policies = kinds.map(w.make)
    if (refusedBy(kinds)) {
      expect(() => compose(policies, w.kit)).toThrow('compose: ')
      return
    }
    const composition = compose(policies, w.kit)
    const explanation: Explanation = composition.explain()
    const caller = new AbortController()
    const release: (() => void)[] = []
    let inFlight = 0
    let tooMany = 0
    const runs = works.map(kind => {
      const run = { kind, begun: 0, endedAt: undefined as number | undefined, value: undefined as unknown, error: undefined as unknown, atOnce: 0 }
      const result = composition.run<unknown>(async ({ signal }) => {
        run.begun += 1
        inFlight += 1
        // Counted at the work itself: what runs on after a timeout is there too.
        if (kinds.includes('concurrency-limit') && inFlight > 1) tooMany += 1
        try {
          if (kind === 'value') return 'real'
          if (kind === 'fails') throw TRANSIENT
          if (kind === 'slow') await w.env.sleep(800)
          else if (kind === 'obeys') await w.env.sleep(3_600_000, signal)
          else await new Promise<void>(resolve => { release.push(resolve) })
          return 'real'
        } finally {
          inFlight -= 1
        }
      }, { effect: 'read', signal: caller.signal })
      void settled(result).then(({ value, error }) => { Object.assign(run, { value, error, endedAt: w.env.monotonic() }) })
      return run
    })
    if (abortAt !== undefined) {
      await w.env.advance(abortAt)
      caller.abort()
      await w.env.settle()
      // Whoever has not ended by now has been cancelled: nobody waits on.
      for (const run of runs) expect(run.endedAt, run.kind).toBeLessThanOrEqual(abortAt)
    } else if (explanation.worstCaseMs !== undefined && (kinds.includes('deadline') || !kinds.includes('concurrency-limit') || !works.includes('hangs'))) {
      // (Work that ignores its signal keeps its slot for ever: then only a deadline ends who waits for it.)
      await w.env.advance(explanation.worstCaseMs)
      for (const run of runs) expect(run.endedAt, `${run.kind} within ${String(explanation.worstCaseMs)} ms`).toBeDefined()
    } else await w.env.advance('1m')
    const begun = runs.map(run => run.begun)
    expect(tooMany, 'more at work than the limit allows').toBe(0)
    for (const run of runs) {
      expect(run.begun).toBeLessThanOrEqual(explanation.attempts)
      if (run.endedAt !== undefined && run.error === undefined) expect(run.value).toBe(run.value === 'instead' && kinds.includes('fallback') ? 'instead' : 'real')
      if (run.value === 'real') expect(run.begun).toBeGreaterThan(0)
    }
    caller.abort()
    for (const one of release) one()
    await w.env.advance('2h')
    expect([w.env.pendingTimers, w.limit.inFlight, w.limit.queued]).toEqual([0, 0, 0])
    // After everybody gave up nothing is begun any more.
    expect(runs.map(run => run.begun)).toEqual(begun)
  }

  it('keeps what its explanation promises: time, attempts, and nothing left', async () => {
    await fc.assert(fc.asyncProperty(plan, live), { numRuns: 1_500, seed: 20_261 })
  }, 120_000)
})
