import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastError } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { dependency, HttpStatusError, type Attempt, type CallOptions, type Dependency, type DependencyOptions, type DependencySnapshot } from './index.ts'

/*
 * Twenty situations in which call-protection libraries were seen to go wrong, each through the whole pipeline. The rooms'
 * own tests look at each of them more closely.
 */
const READ = { effect: 'read' } as const
const RESET = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

interface World {
  readonly env: SimulatedEnv
  readonly panel: Dependency
  /** One call and what became of it. */
  readonly call: (run: (attempt: Attempt) => unknown, options?: Partial<CallOptions>) => Promise<{ readonly value?: unknown; readonly error?: HoldfastError }>
  readonly state: () => DependencySnapshot['state']
}

function world(options: Partial<DependencyOptions> = {}): World {
  const env = simulatedEnv({ seed: 20 })
  const panel = dependency('panel', { tier: 'degradable', runbook: 'r', deadline: '30s', timeout: '10s', retry: false, ...options }, { env, events: new EventBus(env) })
  return {
    env, panel, state: () => panel.snapshot().state,
    call: (run, more) => panel.call('get', { ...READ, ...more }, run).then(value => ({ value }), (error: unknown) => ({ error: error as HoldfastError })),
  }
}
function fail(): never {
  throw RESET
}
function hang(): Promise<never> {
  return new Promise(() => undefined)
}
async function failing(w: World, times: number): Promise<void> {
  for (let count = 0; count < times; count += 1) await w.call(fail)
}

describe('call protection, where others were seen to go wrong', () => {
  it('1. an abort during the backoff is answered at once, and nothing is called again', async () => {
    const w = world({ retry: { attempts: 3, minWait: '400ms' } })
    const caller = new AbortController()
    let calls = 0
    let endedAt: number | undefined
    void w.call(() => { calls += 1; return fail() }, { signal: caller.signal }).then(({ error }) => { endedAt = w.env.monotonic(); expect(error).toMatchObject({ code: 'HF_CANCELLED' }) })
    await w.env.advance('50ms')
    caller.abort()
    await w.env.advance('1m')
    expect([endedAt, calls]).toEqual([50, 1])
  })

  it('2. a deadline that passes during the backoff leaves no zombie attempt', async () => {
    const w = world({ deadline: '2s', timeout: '1s', retry: { attempts: 2, minWait: '1500ms', maxWait: '1500ms' } })
    let calls = 0
    const result = w.call(() => { calls += 1; return hang() })
    await w.env.advance('2s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
    await w.env.advance('1h')
    expect(calls).toBe(1)
  })

  it('3. a retry burns no attempts and no waits against an open circuit', async () => {
    const w = world({ breaker: { failures: 2 }, retry: { attempts: 4 } })
    let calls = 0
    const first = w.call(() => { calls += 1; return fail() })
    await w.env.advance('1m')
    await first
    expect(calls).toBe(2)
    w.panel.force('open', { by: 'test', reason: 'test' })
    await expect(w.panel.try('get', READ, () => { calls += 1 })).resolves.toMatchObject({ ok: false, reason: 'breaker-open' })
    expect(calls).toBe(2)
  })

  it('4. of a hundred callers in half-open few get through and nobody is parked; after closing admission ramps up', async () => {
    const w = world({ breaker: { failures: 1, trialCalls: 3, rampFor: '10s' } })
    await failing(w, 1)
    await w.env.advance('60s')
    let calls = 0
    const storm = Array.from({ length: 100 }, () => w.panel.try('get', READ, () => { calls += 1; return w.env.sleep(100) }))
    await w.env.settle()
    expect(calls).toBe(3)
    await w.env.advance('100ms')
    expect((await Promise.all(storm)).filter(({ ok }) => ok)).toHaveLength(3)
    expect(w.state()).toBe('closed')
    const second = await Promise.all(Array.from({ length: 500 }, () => w.panel.try('get', READ, () => 1)))
    const admitted = second.filter(({ ok }) => ok).length
    expect(admitted).toBeGreaterThan(0)
    expect(admitted).toBeLessThan(250)
    await w.env.advance('10s')
    expect((await Promise.all(Array.from({ length: 90 }, () => w.panel.try('get', READ, () => 1)))).every(({ ok }) => ok)).toBe(true)
  })

  it('5. a hung trial call does not keep the breaker half-open for ever, and its caller settles', async () => {
    const w = world({ breaker: { failures: 1, trialCalls: 1, trialLease: '5s' } })
    await failing(w, 1)
    await w.env.advance('60s')
    const trial = w.call(hang)
    await w.env.advance('5s')
    expect(w.state()).toBe('open')
    await w.env.advance('5s')
    expect((await trial).error).toMatchObject({ code: 'HF_TIMEOUT' })
    await w.env.advance('60s')
    expect(w.panel.allows()).toBe(true)
  })

  it('6. results of calls from before the breaker opened neither close it nor open it again', async () => {
    const w = world({ breaker: { failures: 1, closeAfter: 1 } })
    const release: (() => void)[] = []
    const late = [w.call(() => new Promise<void>(resolve => { release.push(resolve) }), { deadline: '30s' }), w.call(() => new Promise<void>((_, reject) => { release.push(() => { reject(RESET) }) }))]
    await failing(w, 1)
    release[0]?.()
    await late[0]
    expect(w.state()).toBe('open')
    w.panel.force('closed', { by: 'test', reason: 'test' })
    w.panel.release({ by: 'test', reason: 'test' })
    release[1]?.()
    await late[1]
    expect(w.panel.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  })

  it('7. callers who give up count as neither success nor failure', async () => {
    const w = world({ breaker: { failures: 3 } })
    for (let count = 0; count < 5; count += 1) {
      const caller = new AbortController()
      const result = w.call(hang, { signal: caller.signal })
      caller.abort()
      await result
    }
    expect(w.panel.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  })

  it('8. a wall clock that is put back an hour does not keep the breaker open longer', async () => {
    const w = world({ breaker: { failures: 1 } })
    await failing(w, 1)
    w.env.jump(-3_600_000)
    await w.env.advance('60s')
    expect(w.state()).toBe('half-open')
  })

  it('9. an abort in the queue is answered at once and frees the place for another', async () => {
    const w = world({ concurrency: { limit: 1, queue: 1 } })
    const first = w.call(() => w.env.sleep(1_000))
    const caller = new AbortController()
    const queued = w.call(() => 'second', { signal: caller.signal })
    await expect(w.call(() => 'no place')).resolves.toMatchObject({ error: { code: 'HF_OVERLOADED' } })
    caller.abort()
    expect((await queued).error).toMatchObject({ code: 'HF_CANCELLED' })
    const third = w.call(() => 'third')
    await w.env.advance('1s')
    expect([(await first).value, (await third).value]).toEqual([undefined, 'third'])
  })

  it('10. two hundred calls under one signal share one listener, and leave none', async () => {
    const w = world({ concurrency: 200 })
    const { signal } = new AbortController()
    const calls = Array.from({ length: 200 }, () => w.call(() => w.env.sleep(100), { signal }))
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    await w.env.advance('100ms')
    await Promise.all(calls)
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  })

  it('11. a listener that throws fails no call', async () => {
    const env = simulatedEnv()
    const events = new EventBus(env)
    events.onAny(() => { throw new Error('listener') })
    const panel = dependency('panel', { tier: 'info', runbook: 'r', breaker: { failures: 1 }, retry: { attempts: 2 } }, { env, events })
    let calls = 0
    const result = panel.call('get', READ, () => { calls += 1; if (calls === 1) throw RESET; return 'answer' }).catch((error: unknown) => error)
    await env.advance('2m')
    // The breaker opened at the first failure, with a throwing listener looking on: the failure is the call's own.
    await expect(result).resolves.toMatchObject({ code: 'HF_CALL_FAILED', cause: RESET })
    await expect(panel.call('get', READ, () => 'answer')).resolves.toBe('answer')
  })

  it('12. an answer that stands (404) in half-open gives the trial back: it neither closes nor opens', async () => {
    const w = world({ breaker: { failures: 1, trialCalls: 1 } })
    await failing(w, 1)
    await w.env.advance('60s')
    for (let count = 0; count < 3; count += 1) {
      const { error } = await w.call(() => { throw new HttpStatusError({ status: 404, headers: new Headers() }) })
      expect(error).toMatchObject({ status: 404 })
      expect(w.state()).toBe('half-open')
    }
  })

  it('13. a call that times out aborts its own signal and nobody else\'s, and the next gets a fresh one', async () => {
    const w = world({ timeout: '1s' })
    const signals: AbortSignal[] = []
    const keep = ({ signal }: Attempt): Promise<void> => { signals.push(signal); return w.env.sleep(signals.length === 1 ? 5_000 : 900) }
    const first = w.call(keep)
    await w.env.advance('200ms')
    const second = w.call(keep)
    await w.env.advance('1s')
    await Promise.all([first, second])
    await w.call(({ signal }) => { signals.push(signal) })
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false, false])
  })

  it('14. work that runs on after its timeout still counts against the limit, and is shown as abandoned', async () => {
    const w = world({ timeout: '1s', breaker: false, concurrency: { limit: 1, queue: 0 } })
    let atWork = 0
    let most = 0
    for (let count = 0; count < 10; count += 1) {
      const result = w.call(async () => { atWork += 1; most = Math.max(most, atWork); await w.env.sleep(20_000); atWork -= 1 })
      await w.env.advance('1s')
      await result
    }
    expect(most).toBe(1)
    expect(w.panel.snapshot()).toMatchObject({ inFlight: 1, abandoned: 1 })
  })

  it('15. calls that hang do not water down the failure rate of those that end, and count as slow when they end', async () => {
    const w = world({ timeout: '30s', concurrency: 500, breaker: { failures: false, failureRate: { ratio: 0.5, minimumCalls: 20 }, slowCallRate: { slowerThan: '5s', ratio: 0.9, minimumCalls: 50, within: '1m' } } })
    const hung = Array.from({ length: 100 }, () => w.call(hang))
    await failing(w, 19)
    expect(w.state()).toBe('closed')
    await failing(w, 1)
    expect(w.state()).toBe('open')
    const slow = world({ timeout: '6s', concurrency: 500, breaker: { failures: false, slowCallRate: { slowerThan: '5s', ratio: 0.5, minimumCalls: 50 } } })
    const stuck = Array.from({ length: 50 }, () => slow.call(hang))
    await slow.env.advance('6s')
    await Promise.all(stuck)
    expect(slow.state()).toBe('open')
    await w.env.advance('30s')
    await Promise.all(hung)
  })

  it('16. with the defaults one failure opens nothing, and a rate needs a volume', async () => {
    const w = world()
    await failing(w, 4)
    expect(w.state()).toBe('closed')
    const rated = world({ breaker: { failures: false, failureRate: {} } })
    await failing(rated, 19)
    expect(rated.state()).toBe('closed')
  })

  it('17. a breaker that is restored stays open for the time that remained', async () => {
    const before = world({ breaker: { failures: 1 } })
    await failing(before, 1)
    await before.env.advance('45s')
    const after = world({ breaker: { failures: 1 } })
    after.env.jump(45_000)
    after.panel.restoreBreaker(JSON.parse(JSON.stringify(before.panel.saveBreaker())))
    await after.env.advance('14s')
    expect(after.state()).toBe('open')
    await after.env.advance('1s')
    expect(after.state()).toBe('half-open')
  })

  it('18. work that answers undefined, or no promise at all, is fine', async () => {
    const w = world()
    expect(await w.call(() => undefined)).toEqual({ value: undefined })
    expect(await w.call(() => 7)).toEqual({ value: 7 })
  })

  it('19. waits are jittered without being asked', async () => {
    const waits = new Set<number>()
    const w = world({ breaker: false, retry: { attempts: 2, minWait: '100ms' } })
    for (let count = 0; count < 10; count += 1) {
      const begun: number[] = []
      const result = w.call(() => { begun.push(w.env.monotonic()); return fail() })
      await w.env.advance('1s')
      await result
      waits.add((begun[1] ?? 0) - (begun[0] ?? 0))
    }
    expect(waits.size).toBeGreaterThan(5)
  })

  it('20. a bug in the program is neither repeated nor held against the dependency', async () => {
    const w = world({ retry: { attempts: 3 }, breaker: { failures: 1 } })
    let calls = 0
    const { error } = await w.call(() => { calls += 1; return (undefined as unknown as { readonly name: string }).name })
    expect(error).toMatchObject({ code: 'HF_CALL_REJECTED', failure: 'defect' })
    expect([calls, w.state()]).toEqual([1, 'closed'])
  })
})
