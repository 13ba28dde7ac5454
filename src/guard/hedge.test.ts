import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastError, type HoldfastEvents } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { dependency, hedge, type Attempt, type Dependency, type DependencyOptions, type GuardKit } from './index.ts'

const READ = { effect: 'read' } as const
const TRANSIENT = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })

interface World { readonly env: SimulatedEnv; readonly kit: GuardKit; readonly hedged: HoldfastEvents['call.hedged'][] }

function world(): World {
  const env = simulatedEnv({ seed: 3 })
  const events = new EventBus(env)
  const hedged: HoldfastEvents['call.hedged'][] = []
  events.on('call.hedged', ({ data }) => { hedged.push(data) })
  return { env, kit: { env, events }, hedged }
}
function panelOf({ kit }: World, options: Partial<DependencyOptions> = {}): Dependency {
  return dependency('panel', { tier: 'degradable', runbook: 'r', deadline: '10s', timeout: '3s', retry: false, hedge: { after: '200ms' }, ...options }, kit)
}
function outcome<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: HoldfastError }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error: error as HoldfastError }))
}
/** Work whose n-th attempt takes its own time, ends as told, and obeys its signal. */
function attempts(env: SimulatedEnv, plans: readonly { readonly ms: number; readonly fails?: unknown }[]): { readonly run: (attempt: Attempt) => Promise<string>; readonly seen: { readonly at: number; readonly key: string; readonly signal: AbortSignal }[] } {
  const seen: { at: number; key: string; signal: AbortSignal }[] = []
  return {
    seen,
    run: async attempt => {
      const index = seen.length
      seen.push({ at: env.monotonic(), key: attempt.key, signal: attempt.signal })
      const plan = plans[index] ?? { ms: 0 }
      await env.sleep(plan.ms, attempt.signal)
      if (attempt.signal.aborted) throw attempt.signal.reason as Error
      if (plan.fails !== undefined) throw plan.fails as Error
      return `answer ${String(index + 1)}`
    },
  }
}

describe('a hedged call', () => {
  it('that is answered in time is made once', async () => {
    const w = world()
    const work = attempts(w.env, [{ ms: 199 }])
    const result = panelOf(w).call('get', READ, work.run)
    await w.env.advance('1s')
    await expect(result).resolves.toBe('answer 1')
    expect(work.seen).toHaveLength(1)
    expect(w.hedged).toEqual([])
    expect(w.env.pendingTimers).toBe(0)
  })

  it('that is late is made once more with the same key; the first answer counts, and only the loser is told to stop', async () => {
    const w = world()
    const work = attempts(w.env, [{ ms: 2_000 }, { ms: 50 }])
    const panel = panelOf(w)
    const result = panel.call('get', READ, work.run)
    await w.env.advance('250ms')
    await expect(result).resolves.toBe('answer 2')
    expect(work.seen.map(({ at, signal }) => [at, signal.aborted])).toEqual([[0, true], [200, false]])
    expect(work.seen[1]?.key).toBe(work.seen[0]?.key)
    expect(w.hedged).toEqual([{ dependency: 'panel', operation: 'get', afterMs: 200 }])
    await w.env.advance('10s')
    expect(panel.snapshot()).toMatchObject({ state: 'closed', failures: 0, inFlight: 0, abandoned: 0, counters: { calls: 1, hedges: 1, failures: 0 } })
    expect(w.env.pendingTimers).toBe(0)
  })

  it('keeps the answer of the first when that comes first', async () => {
    const w = world()
    const work = attempts(w.env, [{ ms: 300 }, { ms: 5_000 }])
    const result = panelOf(w).call('get', READ, work.run)
    await w.env.advance('1s')
    await expect(result).resolves.toBe('answer 1')
    expect(work.seen.map(({ signal }) => signal.aborted)).toEqual([false, true])
  })

  it('is saved by the hedge when the first fails, and fails only when all have; each failure counts', async () => {
    const w = world()
    const saved = attempts(w.env, [{ ms: 250, fails: TRANSIENT }, { ms: 200 }])
    const panel = panelOf(w)
    const first = panel.call('get', READ, saved.run)
    await w.env.advance('1s')
    await expect(first).resolves.toBe('answer 2')
    const lost = attempts(w.env, [{ ms: 250, fails: TRANSIENT }, { ms: 200, fails: TRANSIENT }])
    const second = outcome(panel.call('get', READ, lost.run))
    await w.env.advance('1s')
    expect((await second).error).toMatchObject({ code: 'HF_CALL_FAILED' })
    expect(panel.snapshot()).toMatchObject({ failures: 2, counters: { failures: 1 } })
  })

  it('ends with the first answer that stands: a "no" is not asked for again', async () => {
    const w = world()
    const refused = Object.assign(new Error('no such user'), { status: 404 })
    const work = attempts(w.env, [{ ms: 250, fails: refused }, { ms: 2_000 }])
    const result = outcome(panelOf(w).call('get', READ, work.run))
    await w.env.advance('250ms')
    expect((await result).error).toMatchObject({ code: 'HF_CALL_REJECTED', cause: refused })
  })

  it('ends at once when its caller gives up, with all its attempts, and swallows what they throw later', async () => {
    const w = world()
    const caller = new AbortController()
    const work = attempts(w.env, [{ ms: 2_000 }, { ms: 2_000 }])
    const panel = panelOf(w)
    const result = outcome(panel.call('get', { ...READ, signal: caller.signal }, work.run))
    await w.env.advance('300ms')
    caller.abort()
    expect((await result).error).toMatchObject({ code: 'HF_CANCELLED' })
    await w.env.advance('10s')
    expect(work.seen.map(({ signal }) => signal.aborted)).toEqual([true, true])
    expect(panel.snapshot()).toMatchObject({ failures: 0, inFlight: 0, abandoned: 0 })
    expect(w.env.pendingTimers).toBe(0)
  })

  it('is made up to `extra` times more, each as late as the one before', async () => {
    const w = world()
    const work = attempts(w.env, [{ ms: 2_000 }, { ms: 2_000 }, { ms: 2_000 }, { ms: 2_000 }])
    const result = panelOf(w, { hedge: { after: '200ms', extra: 2 } }).call('get', READ, work.run)
    await w.env.advance('3s')
    await expect(result).resolves.toBe('answer 1')
    expect(work.seen.map(({ at }) => at)).toEqual([0, 200, 400])
  })

  it('is repeated by the retry around it when all of its attempts failed', async () => {
    const w = world()
    const work = attempts(w.env, [{ ms: 300, fails: TRANSIENT }, { ms: 300, fails: TRANSIENT }, { ms: 10 }])
    const panel = panelOf(w, { retry: { attempts: 2, minWait: '100ms' } })
    const result = panel.call('get', READ, work.run)
    await w.env.advance('2s')
    await expect(result).resolves.toBe('answer 3')
    expect(panel.snapshot().counters).toMatchObject({ hedges: 1, retries: 1 })
  })
})

describe('what is late', () => {
  it('is learned from the answers: the quantile, between min and max', async () => {
    const w = world()
    const panel = panelOf(w, { hedge: { after: { quantile: 0.95, min: '10ms', max: '2s' } } })
    const call = async (ms: number): Promise<number> => {
      const work = attempts(w.env, [{ ms }, { ms: 1 }])
      const begun = w.env.monotonic()
      const result = panel.call('get', READ, work.run)
      await w.env.until(() => work.seen.length === 2, ms)
      const after = (work.seen[1]?.at ?? Number.NaN) - begun
      await w.env.advance(ms)
      await result
      return after
    }
    expect(await call(1_900)).toBeNaN()
    for (let count = 0; count < 60; count += 1) await call(count % 10 === 9 ? 60 : 40)
    expect(await call(1_900)).toBe(60)
  })
})

describe('what is not hedged', () => {
  it('is a once call, whatever the dependency says', async () => {
    const w = world()
    const work = attempts(w.env, [{ ms: 2_000 }])
    const result = panelOf(w).call('charge', { effect: 'once' }, work.run)
    await w.env.advance('3s')
    await result
    expect(work.seen).toHaveLength(1)
  })

  it.each([
    ['without budget', { retryBudget: { ratio: 0, perSecond: 0 } }, 1],
    ['without a free slot', { concurrency: { limit: 1, queue: 5 } }, 1],
    ['without a free turn', { rateLimit: { limit: 1, per: '10s' } }, 1],
    ['control: with all three', {}, 2],
  ] as const)('is a call %s: the first goes on alone', async (_case, options, made) => {
    const w = world()
    const work = attempts(w.env, [{ ms: 1_000 }, { ms: 1_000 }])
    const panel = panelOf(w, options)
    const result = panel.call('get', READ, work.run)
    await w.env.advance('2s')
    await expect(result).resolves.toBe('answer 1')
    expect(work.seen).toHaveLength(made)
    expect(panel.snapshot()).toMatchObject({ inFlight: 0, queued: 0 })
  })

  it('is a call whose breaker opened meanwhile', async () => {
    const w = world()
    const work = attempts(w.env, [{ ms: 1_000 }])
    const panel = panelOf(w)
    const result = panel.call('get', READ, work.run)
    await w.env.advance('100ms')
    panel.force('open', { reason: 'test', by: 'test' })
    await w.env.advance('2s')
    await expect(result).resolves.toBe('answer 1')
    expect(work.seen).toHaveLength(1)
  })
})

describe('the hedge alone', () => {
  it('gives the first answer, or the failure of the last, unchanged', async () => {
    const w = world()
    const policy = hedge({ after: '200ms' }, w.kit)
    const work = attempts(w.env, [{ ms: 2_000 }, { ms: 50 }])
    const result = policy.run(work.run, READ)
    await w.env.advance('300ms')
    await expect(result).resolves.toBe('answer 2')
    const failing = attempts(w.env, [{ ms: 400, fails: new Error('first') }, { ms: 300, fails: TRANSIENT }])
    const failed = outcome(policy.run(failing.run, READ))
    await w.env.advance('400ms')
    expect((await failed).error).toMatchObject({ message: 'first' })
    await w.env.advance('10s')
    expect(w.env.pendingTimers).toBe(0)
  })

  it('refuses a run that does not say whether it may be repeated, and makes a once run once', async () => {
    const w = world()
    const policy = hedge({ after: '200ms' }, w.kit)
    await expect(policy.run(() => 1, {} as typeof READ)).rejects.toMatchObject({ code: 'HF_NOT_REPEATABLE' })
    const work = attempts(w.env, [{ ms: 2_000 }])
    const result = policy.run(work.run, { effect: 'once' } as unknown as typeof READ)
    await w.env.advance('3s')
    await result
    expect(work.seen).toHaveLength(1)
  })

  it('refuses options that cannot be meant', () => {
    const { kit } = world()
    expect(() => hedge({ after: { quantile: 1.2 } }, kit)).toThrow('at most 0.999')
    expect(() => hedge({ after: { quantile: 0.2 } }, kit)).toThrow('at least 0.5')
    expect(() => hedge({ after: { quantile: 0.9, min: '3s', max: '1s' } }, kit)).toThrow('at least min (3 s)')
    expect(() => hedge({ after: '1s', extra: 9 }, kit)).toThrow('1 to 4')
  })
})
