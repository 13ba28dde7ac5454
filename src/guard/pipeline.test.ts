import { describe, expect, expectTypeOf, it } from 'vitest'
import { EventBus, type HoldfastError, type HoldfastEvent, type Outcome } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { dependency, faults, staleCache, type Dependency, type DependencyOptions, type FaultRule, type GuardKit } from './index.ts'

const READ = { effect: 'read' } as const
const RESET = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

interface World { readonly env: SimulatedEnv; readonly kit: GuardKit; readonly seen: HoldfastEvent[] }

function world(): World {
  const env = simulatedEnv({ seed: 9 })
  const events = new EventBus(env)
  const seen: HoldfastEvent[] = []
  events.onAny(event => { seen.push(event) })
  return { env, kit: { env, events }, seen }
}
function panelOf({ kit }: World, options: Partial<DependencyOptions> = {}): Dependency {
  return dependency('panel', { tier: 'degradable', runbook: 'r', deadline: '10s', timeout: '3s', retry: false, ...options }, kit)
}
function outcome<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: HoldfastError }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error: error as HoldfastError }))
}
function fail(): never {
  throw RESET
}

describe('a call with a fallback', () => {
  it('gives its value while the dependency is in trouble, and the answer otherwise; the type says that it may be either', async () => {
    const w = world()
    const panel = panelOf(w)
    const answer = panel.call('list', { ...READ, fallback: { value: 'none' as const } }, async () => [1, 2])
    expectTypeOf(answer).toEqualTypeOf<Promise<number[] | 'none'>>()
    await expect(answer).resolves.toEqual([1, 2])
    await expect(panel.call('list', { ...READ, fallback: { value: 'none' } }, fail)).resolves.toBe('none')
    panel.force('open', { by: 'test', reason: 'test' })
    await expect(panel.call('list', { ...READ, fallback: { value: 'none' } }, fail)).resolves.toBe('none')
    expect(w.seen.filter(({ name }) => name === 'call.fell-back').map(({ data }) => (data as { reason: string }).reason)).toEqual(['failed', 'breaker-open'])
  })

  it('through try is a value too, and a refusal where nothing applies', async () => {
    const w = world()
    const panel = panelOf(w)
    panel.force('open', { by: 'test', reason: 'test' })
    const fell = panel.try('list', { ...READ, fallback: { run: () => 'none' } }, async () => 1)
    expectTypeOf(fell).toEqualTypeOf<Promise<Outcome<number | string>>>()
    await expect(fell).resolves.toEqual({ ok: true, value: 'none' })
    await expect(panel.try('list', { ...READ, fallback: { value: 1, when: () => false } }, async () => 1)).resolves.toMatchObject({ ok: false, reason: 'breaker-open' })
  })

  it('gives the last good answer of the same key, and no older one than allowed', async () => {
    const w = world()
    const panel = panelOf(w, { breaker: false })
    const cache = staleCache<string>()
    const of = (key: string): { readonly effect: 'read'; readonly fallback: { readonly stale: { readonly for: '5m'; readonly cache: typeof cache; readonly key: string } } } => ({ ...READ, fallback: { stale: { for: '5m', cache, key } } })
    await panel.call('get', of('alice'), async () => 'Alice')
    await expect(panel.call('get', of('alice'), fail)).resolves.toBe('Alice')
    await expect(panel.call('get', of('bob'), fail)).rejects.toMatchObject({ code: 'HF_CALL_FAILED' })
    await w.env.advance('6m')
    await expect(panel.call('get', of('alice'), fail)).rejects.toMatchObject({ code: 'HF_CALL_FAILED' })
  })

  it('is bounded by the fallback alone once the deadline has passed, and keeps the first failure when that hangs', async () => {
    const w = world()
    const result = outcome(panelOf(w, { deadline: '3s' }).call('list', { ...READ, fallback: { run: () => new Promise<never>(() => undefined), within: '500ms' } }, () => new Promise<never>(() => undefined)))
    await w.env.advance('3499ms')
    let settled = false
    void result.then(() => { settled = true })
    await w.env.settle()
    expect(settled).toBe(false)
    await w.env.advance('1ms')
    expect((await result).error?.code).toMatch(/HF_TIMEOUT|HF_DEADLINE/)
  })

  it('that cannot be meant is refused before anything is called', async () => {
    let calls = 0
    const forged = { ...READ, fallback: {} } as unknown as typeof READ
    await expect(panelOf(world()).call('list', forged, () => { calls += 1 })).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
    expect(calls).toBe(0)
  })
})

describe('a dependency with partitions', () => {
  it('leaves the failing one alone and none of its neighbours', async () => {
    const w = world()
    const panel = panelOf(w, { breaker: { failures: 2 }, partitions: {} })
    for (let count = 0; count < 2; count += 1) await outcome(panel.call('get', { ...READ, partition: 'eu' }, fail))
    const refused = await panel.try('get', { ...READ, partition: 'eu' }, async () => 1)
    expect(refused).toMatchObject({ ok: false, reason: 'breaker-open', retryAfterMs: 60_000 })
    expect(refused.ok ? '' : refused.message).toContain('eu')
    await expect(panel.call('get', { ...READ, partition: 'us' }, async () => 1)).resolves.toBe(1)
    expect([panel.allows('eu'), panel.allows('us'), panel.allows()]).toEqual([false, true, true])
    expect(panel.snapshot()).toMatchObject({ state: 'closed', partitions: { size: 2, notClosed: 1 } })
  })

  it('is held off as a whole by an operator', async () => {
    const w = world()
    const panel = panelOf(w, { partitions: {} })
    panel.force('open', { by: 'test', reason: 'test' })
    await expect(panel.try('get', { ...READ, partition: 'us' }, async () => 1)).resolves.toMatchObject({ ok: false, reason: 'breaker-open' })
  })

  it('gives a trial back that it waited with, when the breaker changed its mind meanwhile: the partition is not stuck', async () => {
    const w = world()
    const panel = panelOf(w, { breaker: { failures: 1, trialCalls: 1, closeAfter: 1, trialLease: '1h' }, partitions: { idleFor: '2h' }, concurrency: { limit: 1, queue: 5, margin: '0ms' } })
    await outcome(panel.call('get', { ...READ, partition: 'eu' }, fail))
    await w.env.advance('60s')
    const busy = panel.call('get', { ...READ, partition: 'us' }, () => w.env.sleep(2_000))
    const waiting = panel.try('get', { ...READ, partition: 'eu' }, async () => 1)
    await w.env.advance('1s')
    panel.force('open', { by: 'test', reason: 'test' })
    await w.env.advance('2s')
    await busy
    await expect(waiting).resolves.toMatchObject({ ok: false, reason: 'breaker-open' })
    panel.force('closed', { by: 'test', reason: 'test' })
    panel.release({ by: 'test', reason: 'test' })
    await expect(panel.call('get', { ...READ, partition: 'eu' }, async () => 1)).resolves.toBe(1)
  })

  it('has to be declared: a partition that nobody keeps is refused, and so are partitions of no breaker', async () => {
    const w = world()
    await expect(panelOf(w).call('get', { ...READ, partition: 'eu' }, async () => 1)).rejects.toThrow('declares no partitions')
    expect(() => panelOf(w, { breaker: false, partitions: {} })).toThrow('partitions: expected a breaker')
  })
})

describe('a dependency with a rate limit', () => {
  it('lets callers wait for their turn, refuses whom it would come too late, with the exact wait, and blames nobody', async () => {
    const w = world()
    const panel = panelOf(w, { rateLimit: { limit: 1, per: '1s', maxWait: '2s' } })
    const begun: number[] = []
    const calls = [0, 1, 2].map(() => panel.call('send', READ, () => { begun.push(w.env.monotonic()) }))
    const refused = await panel.try('send', READ, () => 1)
    expect(refused).toMatchObject({ ok: false, reason: 'rate-limited', retryAfterMs: 1_000 })
    await expect(panel.call('send', READ, () => 1)).rejects.toMatchObject({ code: 'HF_RATE_LIMITED', failure: 'dependency_error', context: { policy: 'rate-limit' } })
    // Who has less time left has to come later.
    await expect(panel.try('send', { ...READ, deadline: '1s' }, () => 1)).resolves.toMatchObject({ ok: false, retryAfterMs: 2_001 })
    await w.env.advance('2s')
    await Promise.all(calls)
    expect(begun).toEqual([0, 1_000, 2_000])
    expect(panel.snapshot()).toMatchObject({ failures: 0, queued: 0, inFlight: 0 })
  })

  it('gives a turn back that could not be used, because no slot was free', async () => {
    const w = world()
    const panel = panelOf(w, { rateLimit: { limit: 2, per: '10s', burst: 2, maxWait: '0ms' }, concurrency: { limit: 1, queue: 0 } })
    const first = panel.call('send', READ, () => w.env.sleep(1_000))
    await expect(panel.try('send', READ, () => 1)).resolves.toMatchObject({ ok: false, reason: 'overloaded' })
    await w.env.advance('1s')
    await first
    await expect(panel.call('send', READ, () => 1)).resolves.toBe(1)
    await expect(panel.try('send', READ, () => 1)).resolves.toMatchObject({ ok: false, reason: 'rate-limited' })
  })
})

describe('a dependency at its concurrency limit', () => {
  it('serves critical callers first, and sheds background ones for them', async () => {
    const w = world()
    const panel = panelOf(w, { concurrency: { limit: 1, queue: 2, margin: '0ms' } })
    const order: string[] = []
    const call = (name: string, priority: 'critical' | 'normal' | 'background'): Promise<{ readonly error?: HoldfastError }> => outcome(panel.call(name, { ...READ, priority }, async () => { order.push(name); await w.env.sleep(100) }))
    const all = [call('first', 'normal'), call('refresh', 'background'), call('list', 'normal'), call('pay', 'critical')]
    await w.env.advance('1s')
    const results = await Promise.all(all)
    expect(order).toEqual(['first', 'pay', 'list'])
    expect(results[1]?.error).toMatchObject({ code: 'HF_OVERLOADED', context: { dependency: 'panel', operation: 'refresh', policy: 'concurrency-limit' } })
  })
})

describe('a dependency with faults', () => {
  const withFaults = (w: World, rules: readonly FaultRule[], more: Partial<DependencyOptions> = {}): Dependency => panelOf(w, { faults: faults({ name: 'chaos', rules, production: false }, w.kit), ...more })

  it('fails, hangs and answers as told, inside all of its guards', async () => {
    const w = world()
    const panel = withFaults(w, [{ script: [{ error: 503 }, 'ok', { hang: true }, { outcome: 'forged' }] }], { retry: { attempts: 2 } })
    let calls = 0
    const run = async (): Promise<string> => { calls += 1; return 'real' }
    const repeated = panel.call('get', READ, run)
    await w.env.advance('1s')
    await expect(repeated).resolves.toBe('real')
    const hung = panel.call('get', READ, run)
    await w.env.advance('5s')
    await expect(hung).resolves.toBe('forged')
    expect(calls).toBe(1)
    expect(panel.snapshot().counters).toMatchObject({ retries: 2, timeouts: 1 })
  })

  it('repeats with the same key what happened although its answer was lost', async () => {
    const w = world()
    const panel = withFaults(w, [{ script: [{ error: () => RESET, after: true }] }], { retry: { attempts: 2 } })
    const keys: string[] = []
    const result = panel.call('add', { effect: 'idempotent' }, async ({ key }) => { keys.push(key) })
    await w.env.advance('1s')
    await result
    expect(keys).toHaveLength(2)
    expect(keys[1]).toBe(keys[0])
  })
})

describe('the retry budget', () => {
  it('is fed by calls that reached the dependency, not by those that were refused', async () => {
    const retriesAfter = async (before: (panel: Dependency) => Promise<void>): Promise<number> => {
      const w = world()
      const panel = panelOf(w, { retry: { attempts: 3, minWait: '1ms', maxWait: '1ms' }, breaker: false, retryBudget: { ratio: 0.2, perSecond: 0 } })
      await before(panel)
      const calls = Array.from({ length: 50 }, () => outcome(panel.call('get', READ, fail)))
      await w.env.advance('1s')
      await Promise.all(calls)
      return panel.snapshot().counters.retries
    }
    const refused = async (panel: Dependency): Promise<void> => {
      panel.force('open', { by: 'test', reason: 'test' })
      for (let count = 0; count < 1_000; count += 1) await panel.try('get', READ, () => 1)
      panel.force('closed', { by: 'test', reason: 'test' })
    }
    const answered = async (panel: Dependency): Promise<void> => {
      for (let count = 0; count < 1_000; count += 1) await panel.try('get', READ, () => 1)
    }
    expect(await retriesAfter(refused)).toBe(10)
    expect(await retriesAfter(answered), 'control').toBe(100)
  })
})

describe('a restart', () => {
  it('goes on where the breaker was, with the time that remains', async () => {
    const w = world()
    const before = panelOf(w, { breaker: { failures: 1 } })
    await outcome(before.call('get', READ, fail))
    await w.env.advance('20s')
    const record: unknown = JSON.parse(JSON.stringify(before.saveBreaker()))
    const after = panelOf(w, { breaker: { failures: 1 } })
    expect(after.restoreBreaker(record)).toEqual({ restored: true, state: 'open' })
    expect(after.snapshot()).toMatchObject({ state: 'open', retryAfterMs: 40_000 })
    expect(panelOf(w).restoreBreaker('nonsense')).toMatchObject({ restored: false })
  })
})

describe('every error', () => {
  it('names dependency, operation and policy', async () => {
    const w = world()
    const hang = (): Promise<never> => new Promise(() => undefined)
    const cases: readonly (readonly [Partial<DependencyOptions>, () => unknown, string, string])[] = [
      [{}, fail, 'HF_CALL_FAILED', 'call'],
      [{ retry: { attempts: 2 } }, fail, 'HF_CALL_FAILED', 'retry'],
      [{ timeout: '1s' }, hang, 'HF_TIMEOUT', 'timeout'],
      [{ deadline: '1s', timeout: '1s', retry: false, concurrency: { limit: 1, queue: 1 } }, hang, 'HF_TIMEOUT', 'timeout'],
    ]
    for (const [options, run, code, policy] of cases) {
      const result = outcome(panelOf(w, options).call('get', READ, run as () => Promise<unknown>))
      await w.env.advance('20s')
      expect((await result).error).toMatchObject({ code, context: { dependency: 'panel', operation: 'get', policy } })
    }
  })
})
