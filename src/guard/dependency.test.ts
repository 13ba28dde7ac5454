import { describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, withContext, type HoldfastEvent } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { dependency, HttpStatusError, type Attempt, type Dependency, type DependencyOptions } from './index.ts'

const READ = { effect: 'read' } as const
const ONCE = { effect: 'once' } as const

interface Fixture {
  readonly env: SimulatedEnv
  readonly panel: Dependency<'panel'>
  readonly seen: HoldfastEvent[]
}

function aDependency(options: Partial<DependencyOptions> = {}, seed = 1): Fixture {
  const env = simulatedEnv({ seed })
  const events = new EventBus(env)
  const seen: HoldfastEvent[] = []
  events.onAny(event => { seen.push(event) })
  return { env, seen, panel: dependency('panel', { tier: 'degradable', runbook: 'panel-down', deadline: '10s', timeout: '3s', ...options }, { env, events }) }
}

function refusedConnection(): Error {
  return new TypeError('fetch failed', { cause: Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' }) })
}
function never<T>(): Promise<T> {
  return new Promise(() => undefined)
}
/** The outcome of a promise, so that it never counts as unhandled while time advances. */
function outcome<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: HoldfastError }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error: error as HoldfastError }))
}
function status(code: number, headers: Record<string, string> = {}): HttpStatusError {
  return new HttpStatusError({ status: code, headers: new Headers(headers) })
}

describe('a healthy dependency', () => {
  it('gives the value, whatever it is: promised, plain, undefined', async () => {
    const { panel, seen } = aDependency()
    await expect(panel.call('get', READ, async () => 42)).resolves.toBe(42)
    await expect(panel.call('get', READ, () => 'plain')).resolves.toBe('plain')
    await expect(panel.call('get', READ, () => undefined)).resolves.toBeUndefined()
    await expect(panel.try('get', READ, () => 7)).resolves.toEqual({ ok: true, value: 7 })
    expect(panel.snapshot()).toMatchObject({ state: 'closed', inFlight: 0, queued: 0, abandoned: 0, counters: { calls: 4, failures: 0 }, latency: { count: 4 } })
    expect(seen).toEqual([])
  })

  it('leaves no timer behind after a million milliseconds of calls', async () => {
    const { panel, env } = aDependency()
    for (let call = 0; call < 1_000; call += 1) await panel.call('get', READ, async () => call)
    await env.advance('1h')
    expect(env.pendingTimers).toBe(0)
  })
})

describe('a transient failure', () => {
  it('is repeated with growing, jittered waits, then handed out once, wrapped, with its cause', async () => {
    const { panel, env, seen } = aDependency({ retry: { attempts: 3, minWait: '100ms', maxWait: '1s' } })
    const starts: number[] = []
    const cause = refusedConnection()
    const result = outcome(panel.call('get-user', READ, () => { starts.push(env.monotonic()); throw cause }))
    await env.advance('5s')
    const { error } = await result
    expect(error).toMatchObject({ code: 'HF_CALL_FAILED', failure: 'dependency_error', retryable: true, cause, context: { dependency: 'panel', operation: 'get-user', attempts: 3 } })
    expect(error?.message).toBe('panel get-user failed after 3 attempts: fetch failed')
    const [first = 0, second = 0, third = 0] = starts
    expect(second - first).toBeGreaterThanOrEqual(100)
    expect(second - first).toBeLessThanOrEqual(201)
    expect(third - second).toBeGreaterThanOrEqual(100)
    expect(third - second).toBeLessThanOrEqual(401)
    const failed = seen.filter(event => event.name === 'call.failed').map(event => event.data as { attempt: number; retryInMs?: number })
    expect(failed.map(one => [one.attempt, one.retryInMs !== undefined])).toEqual([[1, true], [2, true], [3, false]])
    expect(panel.snapshot()).toMatchObject({ counters: { failures: 1, retries: 2 }, failures: 3, lastError: { message: 'fetch failed' } })
  })

  it('waits differently in different processes: jitter is on by default', async () => {
    const waits = await Promise.all([1, 2, 3, 4].map(async seed => {
      const { panel, env, seen } = aDependency({}, seed)
      const result = outcome(panel.call('get', READ, () => { throw refusedConnection() }))
      await env.advance('10s')
      await result
      return (seen[0]?.data as { retryInMs: number }).retryInMs
    }))
    expect(new Set(waits).size).toBe(4)
  })

  it('is answered by the second attempt with the same key', async () => {
    const { panel, env } = aDependency()
    const keys: string[] = []
    const call = panel.call('add', { effect: 'idempotent' }, ({ key, number }) => {
      keys.push(key)
      if (number === 1) throw status(503)
      return 'ok'
    })
    await env.advance('1s')
    await expect(call).resolves.toBe('ok')
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/)
    expect(keys[1]).toBe(keys[0])
    await panel.call('add', { effect: 'idempotent', key: 'order-7' }, ({ key }) => { expect(key).toBe('order-7') })
  })

  it('of a once call is never repeated', async () => {
    const { panel, env } = aDependency()
    let calls = 0
    const result = outcome(panel.call('charge', ONCE, () => { calls += 1; throw refusedConnection() }))
    await env.advance('10s')
    expect((await result).error).toMatchObject({ code: 'HF_CALL_FAILED', context: { attempts: 1 } })
    expect(calls).toBe(1)
  })

  it('of a once call that is to be repeated, or of one that declares no effect, is refused where no compiler did: nothing is called', async () => {
    const { panel } = aDependency()
    let calls = 0
    const forged = [{ effect: 'once', retry: { attempts: 5 } }, { effect: 'once', hedge: { after: '1s' } }, { effect: 'maybe' }, {}] as unknown as (typeof ONCE)[]
    const codes: unknown[] = []
    for (const options of forged) {
      codes.push((await outcome(panel.call('charge', options, () => { calls += 1 }))).error?.code)
      await expect(panel.try('charge', options, () => { calls += 1 })).rejects.toMatchObject({ failure: 'defect' })
    }
    expect(codes).toEqual(['HF_NOT_REPEATABLE', 'HF_NOT_REPEATABLE', 'HF_OPTION_INVALID', 'HF_OPTION_INVALID'])
    expect(calls).toBe(0)
  })

  it('is not repeated when the breaker opened on it: no attempt, no wait against an open circuit', async () => {
    const { panel, env } = aDependency({ breaker: { failures: 1 } })
    let calls = 0
    const result = await outcome(panel.call('get', READ, () => { calls += 1; throw refusedConnection() }))
    expect(result.error).toMatchObject({ code: 'HF_CALL_FAILED', context: { attempts: 1 } })
    await expect(panel.call('get', READ, () => { calls += 1 })).rejects.toMatchObject({ code: 'HF_BREAKER_OPEN', retryAfterMs: 60_000 })
    expect([calls, env.monotonic()]).toEqual([1, 0])
  })

  it('is repeated only as far as the budget of all calls reaches', async () => {
    const { panel, env } = aDependency({ breaker: false, retryBudget: { ratio: 0.2, perSecond: 0 }, retry: { attempts: 3 } })
    let attempts = 0
    const calls = Array.from({ length: 100 }, () => outcome(panel.call('get', READ, () => { attempts += 1; throw refusedConnection() })))
    await env.advance('9s')
    await Promise.all(calls)
    expect(attempts).toBe(120)
    expect(panel.snapshot().counters).toMatchObject({ retries: 20 })
    expect(panel.snapshot().counters.retriesSuppressed).toBeGreaterThanOrEqual(80)
  })

  it('control: with a budget that is no limit the same outage triples the load', async () => {
    const { panel, env } = aDependency({ breaker: false, retryBudget: { ratio: 10 }, retry: { attempts: 3 } })
    let attempts = 0
    const calls = Array.from({ length: 100 }, () => outcome(panel.call('get', READ, () => { attempts += 1; throw refusedConnection() })))
    await env.advance('9s')
    await Promise.all(calls)
    expect(attempts).toBe(300)
  })
})

describe('an answer that is not worth repeating', () => {
  it('passes as it is when it is coded: the status can be looked at', async () => {
    const { panel } = aDependency({ breaker: { failures: 1 } })
    const conflict = status(409)
    await expect(panel.call('add', READ, () => { throw conflict })).rejects.toBe(conflict)
    expect(conflict).toMatchObject({ code: 'HF_CALL_REJECTED', status: 409, retryable: false, failure: 'domain_error' })
    const coded = new HoldfastError('HF_KEY_REUSED', { message: 'x' })
    await expect(panel.call('add', READ, () => { throw coded })).rejects.toBe(coded)
    expect(panel.snapshot().state).toBe('closed')
  })

  it('is wrapped as HF_CALL_REJECTED otherwise, keeps its cause, and a bug is a defect that is neither repeated nor counted', async () => {
    const { panel } = aDependency({ breaker: { failures: 1 } })
    let calls = 0
    const bug = new TypeError('undefined is not a function')
    await expect(panel.call('get', READ, () => { calls += 1; throw bug })).rejects.toMatchObject({ code: 'HF_CALL_REJECTED', failure: 'defect', retryable: false, cause: bug })
    expect(calls).toBe(1)
    expect(panel.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  })

  it('is what the dependency says it is', async () => {
    const { panel, env } = aDependency({ transient: error => error instanceof RangeError })
    const call = panel.call('get', READ, ({ number }) => {
      if (number === 1) throw new RangeError('try again')
      return number
    })
    await env.advance('1s')
    await expect(call).resolves.toBe(2)
    await expect(panel.call('get', READ, () => { throw status(503) })).rejects.toMatchObject({ status: 503 })
  })

  it('of a guard inside is neither repeated nor counted by the one outside', async () => {
    const { panel: inner, env } = aDependency({ retry: { attempts: 2 } })
    const { panel: outer } = aDependency({ breaker: { failures: 1 } })
    let calls = 0
    const result = outcome(outer.call('all', READ, () => inner.call('one', READ, () => { calls += 1; throw status(503) })))
    await env.advance('5s')
    expect((await result).error).toMatchObject({ code: 'HF_CALL_FAILED', context: { operation: 'one', attempts: 2 } })
    expect(calls).toBe(2)
    expect(outer.snapshot().state).toBe('closed')
  })
})

describe('Retry-After', () => {
  it('is waited for to the millisecond, never less', async () => {
    const { panel, env } = aDependency({ retry: { attempts: 2 } })
    const starts: number[] = []
    const call = panel.call('get', READ, ({ number }) => {
      starts.push(env.monotonic())
      if (number === 1) throw status(429, { 'retry-after': '2' })
      return 'ok'
    })
    await env.advance('1999ms')
    expect(starts).toEqual([0])
    await env.advance('1ms')
    await expect(call).resolves.toBe('ok')
    expect(starts).toEqual([0, 2_000])
  })

  it('that does not fit the deadline fails at once, and says how long', async () => {
    const { panel, env } = aDependency()
    await expect(panel.call('get', READ, () => { throw status(429, { 'retry-after': '3600' }) })).rejects.toMatchObject({ code: 'HF_CALL_FAILED', retryAfterMs: 3_600_000, context: { attempts: 1 } })
    const soft = await panel.try('get', READ, () => { throw status(429, { 'retry-after': '3600' }) })
    expect(soft).toMatchObject({ ok: false, reason: 'failed', retryAfterMs: 3_600_000 })
    expect(env.monotonic()).toBe(0)
  })
})

describe('a dependency that hangs', () => {
  it('costs one attempt its timeout, aborts only its own signal, and is repeated', async () => {
    const { panel, env } = aDependency({ retry: { attempts: 2 } })
    const attempts: Attempt[] = []
    const signals: AbortSignal[] = []
    const neighbour = panel.call('other', READ, ({ signal }) => { signals.push(signal); return env.sleep(3_500).then(() => 'fine') })
    const call = panel.call('get', READ, attempt => {
      attempts.push(attempt)
      signals.push(attempt.signal)
      return attempt.number === 1 ? never<string>() : 'second'
    })
    void outcome(neighbour)
    await env.advance('2999ms')
    expect(signals[1]?.aborted).toBe(false)
    await env.advance('1ms')
    expect(signals[1]?.aborted).toBe(true)
    expect(signals[1]?.reason).toMatchObject({ code: 'HF_TIMEOUT' })
    await env.advance('1s')
    await expect(call).resolves.toBe('second')
    expect(signals[2]?.aborted).toBe(false)
  })

  it('shows an aborted signal to work that asks for it only after the timeout', async () => {
    const { panel, env } = aDependency({ retry: false })
    let late: Attempt | undefined
    const result = outcome(panel.call('get', READ, attempt => { late = attempt; return never() }))
    await env.advance('3s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT', failure: 'dependency_error', context: { dependency: 'panel', operation: 'get', attempts: 1 } })
    expect(late?.signal.aborted).toBe(true)
  })

  it('ends with the deadline, whatever it is doing, and begins nothing afterwards', async () => {
    const { panel, env } = aDependency({ retry: { attempts: 9, minWait: '1ms' }, deadline: '10s', breaker: false })
    let calls = 0
    let endedAt = 0
    const result = outcome(panel.call('get', READ, () => { calls += 1; return never() })).finally(() => { endedAt = env.monotonic() })
    await env.advance('1h')
    expect((await result).error).toMatchObject({ code: 'HF_DEADLINE', cause: { code: 'HF_TIMEOUT' } })
    expect(endedAt).toBe(10_000)
    expect(calls).toBe(4)
  })

  it('does not begin a wait that ends after the deadline: no zombie attempt', async () => {
    const { panel, env } = aDependency({ retry: { attempts: 2, minWait: '8s', maxWait: '8s' } })
    let calls = 0
    const result = outcome(panel.call('get', { ...READ, deadline: '5s' }, () => { calls += 1; throw refusedConnection() }))
    expect((await result).error).toMatchObject({ code: 'HF_CALL_FAILED', context: { attempts: 1 } })
    await env.advance('1h')
    expect(calls).toBe(1)
  })

  it('keeps its slot until the work is really over, and says that it was abandoned', async () => {
    const { panel, env, seen } = aDependency({ retry: false, concurrency: { limit: 1, queue: 0 }, breaker: false })
    let finish: () => void = () => undefined
    const hung = outcome(panel.call('slow', READ, () => new Promise<void>(resolve => { finish = resolve })))
    await env.advance('3s')
    expect((await hung).error).toMatchObject({ code: 'HF_TIMEOUT' })
    expect(panel.snapshot()).toMatchObject({ inFlight: 1, abandoned: 1 })
    await expect(panel.call('get', READ, () => 1)).rejects.toMatchObject({ code: 'HF_OVERLOADED' })
    expect(seen.filter(event => event.name === 'call.abandoned')).toEqual([])
    await env.advance('1s')
    expect(seen.filter(event => event.name === 'call.abandoned').map(event => event.data)).toEqual([{ dependency: 'panel', operation: 'slow', abandoned: 1 }])
    finish()
    await env.settle()
    expect(panel.snapshot()).toMatchObject({ inFlight: 0, abandoned: 0 })
    await expect(panel.call('get', READ, () => 1)).resolves.toBe(1)
  })

  it('says nothing of work that obeys its signal', async () => {
    const { panel, env, seen } = aDependency({ retry: false })
    const result = outcome(panel.call('slow', READ, ({ signal }) => env.sleep(60_000, signal)))
    await env.advance('10s')
    await result
    expect(seen.map(event => event.name)).toEqual(['call.failed'])
    expect(panel.snapshot()).toMatchObject({ inFlight: 0, abandoned: 0 })
  })

  it('swallows what the abandoned work throws later', async () => {
    const { panel, env } = aDependency({ retry: false })
    const result = outcome(panel.call('slow', READ, () => env.sleep(5_000).then(() => { throw new Error('late') })))
    await env.advance('10s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
  })
})

describe('a caller who gives up', () => {
  it('during the wait before a repetition is answered at once, and nothing is called again', async () => {
    const { panel, env } = aDependency({ retry: { attempts: 3, minWait: '400ms' } })
    const caller = new AbortController()
    let calls = 0
    const result = outcome(panel.call('get', { ...READ, signal: caller.signal }, () => { calls += 1; throw refusedConnection() }))
    await env.advance('50ms')
    caller.abort()
    expect((await result).error).toMatchObject({ code: 'HF_CANCELLED' })
    expect(env.monotonic()).toBe(50)
    await env.advance('1h')
    expect(calls).toBe(1)
    expect(env.pendingTimers).toBe(0)
  })

  it('during an attempt is answered at once, aborts its signal, and counts as neither', async () => {
    const { panel, env } = aDependency({ breaker: { failures: 1 } })
    for (let call = 0; call < 3; call += 1) {
      const caller = new AbortController()
      let signal: AbortSignal | undefined
      const result = outcome(panel.call('get', { ...READ, signal: caller.signal }, attempt => { signal = attempt.signal; return never() }))
      await env.advance('10ms')
      caller.abort()
      expect((await result).error).toMatchObject({ code: 'HF_CANCELLED' })
      expect(signal?.aborted).toBe(true)
    }
    expect(panel.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  })

  it('before the call is refused without calling', async () => {
    const { panel } = aDependency()
    let calls = 0
    const soft = await panel.try('get', { ...READ, signal: AbortSignal.abort() }, () => { calls += 1 })
    expect(soft).toMatchObject({ ok: false, reason: 'cancelled' })
    expect(calls).toBe(0)
  })

  it('shares one listener with the 200 other calls under the same signal, and leaves none behind', async () => {
    const { panel, env } = aDependency({ concurrency: { limit: 50, queue: 200 } })
    const caller = new AbortController()
    let added = 0
    let removed = 0
    const add = caller.signal.addEventListener.bind(caller.signal)
    const remove = caller.signal.removeEventListener.bind(caller.signal)
    caller.signal.addEventListener = (...args: Parameters<typeof add>) => { added += 1; add(...args) }
    caller.signal.removeEventListener = (...args: Parameters<typeof remove>) => { removed += 1; remove(...args) }
    const calls = Array.from({ length: 200 }, () => panel.call('get', { ...READ, signal: caller.signal }, () => env.sleep(100)))
    expect(added).toBe(1)
    await env.advance('1s')
    await Promise.all(calls)
    expect(removed).toBe(added)
  })
})

describe('the queue of the concurrency limit', () => {
  it('is bounded, first come first served, and refuses the rest at once', async () => {
    const { panel, env } = aDependency({ concurrency: { limit: 2, queue: 3 } })
    const order: number[] = []
    let atOnce = 0
    let most = 0
    const results = Array.from({ length: 8 }, (_, index) => outcome(panel.call('get', READ, async () => {
      order.push(index)
      atOnce += 1
      most = Math.max(most, atOnce)
      await env.sleep(100)
      atOnce -= 1
    })))
    expect(panel.snapshot()).toMatchObject({ inFlight: 2, queued: 3 })
    const refused = await Promise.all(results.slice(5))
    expect(refused.map(one => one.error?.code)).toEqual(['HF_OVERLOADED', 'HF_OVERLOADED', 'HF_OVERLOADED'])
    await env.advance('1s')
    expect(order).toEqual([0, 1, 2, 3, 4])
    expect(most).toBe(2)
    expect(panel.snapshot()).toMatchObject({ inFlight: 0, queued: 0 })
  })

  it('is left at once by an aborted caller, whose place is free for another', async () => {
    const { panel, env } = aDependency({ concurrency: { limit: 1, queue: 1 } })
    const first = panel.call('get', READ, () => env.sleep(1_000))
    const caller = new AbortController()
    let called = false
    const queued = outcome(panel.call('get', { ...READ, signal: caller.signal }, () => { called = true }))
    await env.advance('10ms')
    caller.abort()
    expect((await queued).error).toMatchObject({ code: 'HF_CANCELLED' })
    const third = panel.call('get', READ, () => 'third')
    expect(panel.snapshot().queued).toBe(1)
    await env.advance('1s')
    await first
    await expect(third).resolves.toBe('third')
    expect(called).toBe(false)
  })

  it('is left at the deadline, without the call and without blaming the dependency', async () => {
    const { panel, env } = aDependency({ concurrency: { limit: 1, queue: 5 }, timeout: '10s', breaker: { failures: 1 } })
    const first = outcome(panel.call('get', READ, () => env.sleep(9_000)))
    const second = outcome(panel.call('get', { ...READ, deadline: '2s' }, () => 'never'))
    await env.advance('2s')
    expect((await second).error).toMatchObject({ code: 'HF_DEADLINE' })
    await env.advance('10s')
    await first
    expect(panel.snapshot()).toMatchObject({ state: 'closed', queued: 0 })
  })

  it('asks the breaker again: who waited while it opened is refused, not sent into the outage', async () => {
    const { panel, env } = aDependency({ concurrency: { limit: 1, queue: 10 }, breaker: { failures: 1 }, retry: false })
    let calls = 0
    const work = async (): Promise<void> => {
      calls += 1
      await env.sleep(100)
      throw refusedConnection()
    }
    const results = Array.from({ length: 5 }, () => outcome(panel.call('get', READ, work)))
    await env.advance('5s')
    const codes = (await Promise.all(results)).map(one => one.error?.code)
    expect(calls).toBe(1)
    expect(codes).toEqual(['HF_CALL_FAILED', 'HF_BREAKER_OPEN', 'HF_BREAKER_OPEN', 'HF_BREAKER_OPEN', 'HF_BREAKER_OPEN'])
    expect(panel.snapshot()).toMatchObject({ inFlight: 0, queued: 0 })
  })
})

describe('an outage and its end', () => {
  it('closes after two successes and lets nobody stampede: of 100 callers half-open, three pass', async () => {
    const { panel, env, seen } = aDependency({ retry: false })
    let well = false
    let calls = 0
    const work = async (): Promise<string> => {
      calls += 1
      await env.sleep(10)
      if (!well) throw status(503)
      return 'ok'
    }
    for (let call = 0; call < 5; call += 1) {
      const result = outcome(panel.call('get', READ, work))
      await env.advance('10ms')
      await result
    }
    expect(panel.allows()).toBe(false)
    well = true
    await env.advance('60s')
    calls = 0
    const burst = Array.from({ length: 100 }, () => panel.try('get', READ, work))
    await env.advance('1s')
    const results = await Promise.all(burst)
    expect([calls, results.filter(one => one.ok).length]).toEqual([3, 3])
    expect(results.find(one => !one.ok)).toMatchObject({ reason: 'breaker-open' })
    expect(seen.filter(event => event.name === 'breaker.changed').map(event => (event.data as { to: string }).to)).toEqual(['open', 'half-open', 'closed'])
  })

  it('refuses through try without building an error', async () => {
    const { panel } = aDependency()
    panel.force('open', { by: 'cli:alice', reason: 'maintenance', forMs: 5_000 })
    const soft = await panel.try('get', READ, () => 1)
    expect(soft).toEqual({ ok: false, reason: 'breaker-open', message: 'panel is left alone because its breaker is open; it tries again in 5 s', retryAfterMs: 5_000 })
    expect(panel.snapshot()).toMatchObject({ state: 'forced-open', forced: { by: 'cli:alice', reason: 'maintenance' } })
    expect(panel.release({ by: 'cli:alice', reason: 'done' })).toBe(true)
    await expect(panel.call('get', READ, () => 1)).resolves.toBe(1)
  })

  it('never opens with breaker: false, but can still be forced', async () => {
    const { panel } = aDependency({ breaker: false, retry: false })
    for (let call = 0; call < 20; call += 1) await outcome(panel.call('get', READ, () => { throw status(503) }))
    expect(panel.snapshot()).toMatchObject({ state: 'closed', failures: 20 })
    panel.force('open', { by: 'a', reason: 'b' })
    expect(panel.allows()).toBe(false)
  })
})

describe('a call inside a transaction', () => {
  it('is refused before anything is called, by call and by try alike', async () => {
    const { panel } = aDependency()
    let calls = 0
    await withContext({ transaction: 'settle-payment' }, async () => {
      await expect(panel.call('get', READ, () => { calls += 1 })).rejects.toMatchObject({ code: 'HF_CALL_IN_TX', failure: 'defect' })
      await expect(panel.try('get', READ, () => { calls += 1 })).rejects.toMatchObject({ code: 'HF_CALL_IN_TX' })
    })
    expect(calls).toBe(0)
  })
})

describe('definition', () => {
  it('refuses what cannot be meant, naming the option', () => {
    const refusals: readonly (readonly [Partial<DependencyOptions>, string])[] = [
      [{ deadline: '-3s' }, 'dependency panel: deadline'],
      [{ deadline: '1s', timeout: '2s' }, 'dependency panel: timeout: expected at most the deadline of 1000 ms, got 2000 ms'],
      [{ retry: { attempts: 0 } }, 'retry: attempts: expected a whole number of 1 to 20, got 0'],
      [{ retry: { attempts: 2, minWait: '2s', maxWait: '1s' } }, 'maxWait'],
      [{ concurrency: 0 }, 'concurrency: expected a whole number of at least 1, got 0'],
      [{ retryBudget: { ratio: -1 } }, 'ratio'],
      [{ runbook: '' }, 'runbook'],
      [{ tier: 'vital' as 'info' }, 'tier: expected required, degradable, info, got vital'],
    ]
    for (const [options, message] of refusals) expect(() => aDependency(options), message).toThrow(message)
    expect(() => aDependency({ deadline: '2s', timeout: '2s' })).not.toThrow()
  })

  it('shares the deadline among the attempts where no timeout is given', async () => {
    const env = simulatedEnv()
    const events = new EventBus(env)
    const bare = dependency('bare', { tier: 'info', runbook: 'r', retry: false }, { env, events })
    const result = outcome(bare.call('get', READ, () => never()))
    await env.advance('29s')
    expect(bare.snapshot().counters.timeouts).toBe(0)
    await env.advance('1s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
    const shared = dependency('shared', { tier: 'info', runbook: 'r' }, { env, events })
    const repeated = outcome(shared.call('get', { effect: 'once' }, () => never()))
    await env.advance('10s')
    expect((await repeated).error).toMatchObject({ code: 'HF_TIMEOUT' })
  })
})
