import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastEvents } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { breaker as makeBreaker, BREAKER_PRESETS, HttpStatusError, type Breaker, type BreakerOptions } from '../index.ts'

const TRANSIENT: Error & { code: string } = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })

interface BreakerFixture {
  readonly env: SimulatedEnv
  readonly events: EventBus
  readonly breaker: Breaker
  readonly changes: HoldfastEvents['breaker.changed'][]
}

function aBreaker(options: BreakerOptions = {}): BreakerFixture {
  const env = simulatedEnv({ seed: 1 })
  const events = new EventBus(env)
  const changes: HoldfastEvents['breaker.changed'][] = []
  events.on('breaker.changed', event => { changes.push(event.data) })
  return { env, events, changes, breaker: makeBreaker('panel', options, { env, events }) }
}

/** A breaker that has just opened. */
async function anOpenBreaker(options: BreakerOptions = {}): Promise<BreakerFixture> {
  const fixture = aBreaker({ failures: 1, ...options })
  await fails(fixture.breaker, 1)
  expect(fixture.breaker.snapshot().state).toBe('open')
  return fixture
}

/** A breaker whose open time is over. */
async function aHalfOpenBreaker(options: BreakerOptions = {}): Promise<BreakerFixture> {
  const fixture = await anOpenBreaker(options)
  await fixture.env.advance(options.openFor ?? '60s')
  expect(fixture.breaker.snapshot().state).toBe('half-open')
  return fixture
}

function failWith(error: Error): () => Promise<never> {
  return () => Promise.reject(error)
}

async function fails(breaker: Breaker, times: number): Promise<void> {
  for (let call = 0; call < times; call += 1) await expect(breaker.run(failWith(TRANSIENT))).rejects.toBe(TRANSIENT)
}

async function succeeds(breaker: Breaker): Promise<void> {
  await expect(breaker.run(() => 'ok')).resolves.toBe('ok')
}

async function refusedBy(breaker: Breaker): Promise<void> {
  await expect(breaker.run(() => 'never')).rejects.toMatchObject({ code: 'HF_BREAKER_OPEN' })
}

/** Work that ends when the test says so. */
function hanging<T>(): { readonly work: () => Promise<T>; readonly resolve: (value: T) => void; readonly reject: (error: Error) => void } {
  let resolve: (value: T) => void = () => undefined
  let reject: (error: Error) => void = () => undefined
  const promise = new Promise<T>((yes, no) => { resolve = yes; reject = no })
  return { work: () => promise, resolve: value => { resolve(value) }, reject: error => { reject(error) } }
}

describe('a closed breaker', () => {
  it('opens after five consecutive transient failures by default, not after four', async () => {
    const { breaker, changes } = aBreaker()
    await fails(breaker, 4)
    expect(breaker.snapshot()).toMatchObject({ state: 'closed', failures: 4 })
    await fails(breaker, 1)
    expect(breaker.snapshot()).toMatchObject({ state: 'open', failures: 5, retryAfterMs: 60_000 })
    expect(changes).toEqual([{ dependency: 'panel', from: 'closed', to: 'open', reason: `5 consecutive failures, the last: ${TRANSIENT.message}`, retryAfterMs: 60_000 }])
  })

  it('forgets failures at the first success', async () => {
    const { breaker } = aBreaker()
    await fails(breaker, 4)
    await succeeds(breaker)
    await fails(breaker, 4)
    expect(breaker.snapshot().state).toBe('closed')
  })

  it('counts neither a programming error nor an answer that stands', async () => {
    const { breaker } = aBreaker({ failures: 1 })
    await expect(breaker.run(failWith(new TypeError('x is not a function')))).rejects.toThrow('x is not a function')
    await expect(breaker.run(failWith(new HttpStatusError({ status: 404, headers: new Headers() })))).rejects.toThrow('404')
    expect(breaker.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
    await fails(breaker, 1)
    expect(breaker.snapshot().state).toBe('open')
  })

  it('counts a caller who gives up as neither, three times over', async () => {
    const { breaker } = aBreaker({ failures: 1 })
    for (let call = 0; call < 3; call += 1) {
      const caller = new AbortController()
      const run = breaker.run(({ signal }) => new Promise((_resolve, reject) => { signal.addEventListener('abort', () => { reject(TRANSIENT) }) }), { signal: caller.signal })
      caller.abort()
      await expect(run).rejects.toMatchObject({ code: 'HF_CANCELLED' })
    }
    expect(breaker.snapshot().state).toBe('closed')
  })

  it('lets a listener throw without failing the call', async () => {
    const { breaker, events } = aBreaker({ failures: 1 })
    events.on('breaker.changed', () => { throw new Error('listener') })
    await expect(breaker.run(failWith(TRANSIENT))).rejects.toBe(TRANSIENT)
    await refusedBy(breaker)
  })

  it('has no timer: a thousand that idle, or that were used, cost no CPU', async () => {
    const env = simulatedEnv()
    const events = new EventBus(env)
    const idle = Array.from({ length: 1_000 }, (_, number) => makeBreaker(`panel-${String(number)}`, { failureRate: {}, slowCallRate: { slowerThan: '2s' } }, { env, events }))
    for (const each of idle) await each.run(() => 'ok')
    await fails(idle[0] as Breaker, 4)
    expect(env.pendingTimers).toBe(0)
  })

  it('has the presets of the original services', () => {
    expect(BREAKER_PRESETS).toEqual({ db: { failures: 5, openFor: '30s' }, algorithm: { failures: 3, openFor: '60s' }, notification: { failures: 10, openFor: '120s' } })
  })

  it('refuses options that cannot be meant', () => {
    expect(() => aBreaker({ failures: 0 })).toThrow('failures: expected a whole number of at least 1, got 0')
    expect(() => aBreaker({ openFor: '-3s' })).toThrow('openFor')
    expect(() => aBreaker({ trialCalls: 1.5 })).toThrow('trialCalls')
  })
})

describe('an open breaker, by default', () => {
  it('lets one call in five seconds through to see; its failure changes nothing and is not announced', async () => {
    const { breaker, env, changes } = await anOpenBreaker()
    await env.advance('4999ms')
    await refusedBy(breaker)
    await env.advance(1)
    expect(breaker.allows()).toBe(true)
    const trial = hanging<string>()
    const early = breaker.run(trial.work)
    await refusedBy(breaker)
    trial.reject(TRANSIENT)
    await expect(early).rejects.toBe(TRANSIENT)
    await refusedBy(breaker)
    expect(changes).toHaveLength(1)
    expect(breaker.snapshot()).toMatchObject({ state: 'open', retryAfterMs: 55_000 })
  })

  it('is half-open as soon as such a call succeeds, and closed after the second', async () => {
    const { breaker, env, changes } = await anOpenBreaker()
    await env.advance('5s')
    await breaker.run(() => 1)
    expect(breaker.snapshot().state).toBe('half-open')
    await breaker.run(() => 1)
    expect(breaker.snapshot().state).toBe('closed')
    expect(changes.map(({ to, reason }) => [to, reason]).slice(1)).toEqual([['half-open', 'a call that was let through early succeeded'], ['closed', '2 trial calls succeeded']])
  })

  it('of a hundred callers at the moment the early trial is due one gets through', async () => {
    const { breaker, env } = await anOpenBreaker()
    await env.advance('5s')
    let calls = 0
    const herd = await Promise.allSettled(Array.from({ length: 100 }, () => breaker.run(() => { calls += 1; throw TRANSIENT })))
    expect([calls, herd.length]).toEqual([1, 100])
  })
})

describe('an open breaker without early trials', () => {
  it('refuses without calling, and says when it tries again', async () => {
    const { breaker, env } = await anOpenBreaker({ probeEvery: false })
    let called = 0
    await env.advance('20s')
    await expect(breaker.run(() => { called += 1 })).rejects.toMatchObject({ code: 'HF_BREAKER_OPEN', retryable: true, retryAfterMs: 40_000, context: { dependency: 'panel', policy: 'breaker' } })
    expect(called).toBe(0)
    expect(breaker.allows()).toBe(false)
  })

  it('is half-open exactly when retryAfterMs has passed, not a millisecond before', async () => {
    const { breaker, env } = await anOpenBreaker({ probeEvery: false })
    await env.advance((breaker.retryAfterMs ?? 0) - 1)
    expect(breaker.allows()).toBe(false)
    await env.advance(1)
    expect(breaker.allows()).toBe(true)
  })

  it('announces half-open when the time comes, although nobody calls', async () => {
    const { env, changes } = await anOpenBreaker({ probeEvery: false })
    await env.advance('60s')
    expect(changes.map(change => change.to)).toEqual(['open', 'half-open'])
    expect(changes[1]?.reason).toBe('open for 1 min; trying again')
    expect(env.pendingTimers).toBe(0)
  })

  it('announces half-open although its timer fired a millisecond early', async () => {
    const env = simulatedEnv()
    const early = Object.assign(Object.create(env) as SimulatedEnv, {
      timer: (ms: number, run: () => void) => env.timer(ms > 1 ? ms - 1 : ms, run), monotonic: () => env.monotonic(), now: () => env.now(),
    })
    const events = new EventBus(env)
    const states: string[] = []
    events.on('breaker.changed', event => { states.push(event.data.to) })
    const panel = makeBreaker('panel', { failures: 1 }, { env: early, events })
    await fails(panel, 1)
    await env.advance('61s')
    expect(states).toEqual(['open', 'half-open'])
  })

  it('is not held open by a wall clock that goes back an hour', async () => {
    const { breaker, env } = await anOpenBreaker({ probeEvery: false })
    env.jump(-3_600_000)
    await env.advance('60s')
    expect(breaker.allows()).toBe(true)
  })

  it('is not changed by results of calls that began before it opened', async () => {
    const { env, breaker, changes } = aBreaker({ failures: 1, probeEvery: false })
    const early = hanging<string>()
    const late = hanging<string>()
    const first = breaker.run(early.work)
    const second = breaker.run(late.work)
    await fails(breaker, 1)
    early.resolve('ok')
    late.reject(TRANSIENT)
    await first
    await expect(second).rejects.toBe(TRANSIENT)
    expect(breaker.snapshot()).toMatchObject({ state: 'open', retryAfterMs: 60_000 })
    await env.advance('59s')
    await refusedBy(breaker)
    expect(changes).toHaveLength(1)
  })
})

describe('a half-open breaker', () => {
  it('lets exactly trialCalls of a hundred callers through while none is decided, and refuses the others at once', async () => {
    const { breaker } = await aHalfOpenBreaker()
    const trial = hanging<string>()
    const calls = Array.from({ length: 100 }, () => breaker.run(trial.work))
    const refused = await Promise.all(calls.slice(3).map(call => call.then(() => 'ok', (error: unknown) => (error as { code: string }).code)))
    expect(refused).toEqual(Array.from({ length: 97 }, () => 'HF_BREAKER_OPEN'))
    expect(breaker.allows()).toBe(false)
    trial.resolve('ok')
    await expect(Promise.all(calls.slice(0, 3))).resolves.toEqual(['ok', 'ok', 'ok'])
    expect(breaker.snapshot().state).toBe('closed')
  })

  it('closes after two successes and not after one', async () => {
    const { breaker, changes } = await aHalfOpenBreaker()
    await succeeds(breaker)
    expect(breaker.snapshot().state).toBe('half-open')
    await succeeds(breaker)
    expect(breaker.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
    expect(changes.at(-1)?.reason).toBe('2 trial calls succeeded')
  })

  it('opens again for the whole time at the first failure', async () => {
    const { breaker, env } = await aHalfOpenBreaker()
    await env.advance('5s')
    await succeeds(breaker)
    await fails(breaker, 1)
    expect(breaker.snapshot()).toMatchObject({ state: 'open', retryAfterMs: 60_000 })
    await refusedBy(breaker)
  })

  it('opens again when a trial call hangs longer than its lease, and takes no notice of it afterwards', async () => {
    const { breaker, env, changes } = await aHalfOpenBreaker({ trialLease: '10s' })
    const hung = hanging<string>()
    const call = breaker.run(hung.work)
    await env.advance('9999ms')
    expect(breaker.snapshot().state).toBe('half-open')
    await env.advance('1ms')
    expect(breaker.snapshot().state).toBe('open')
    expect(changes.at(-1)?.reason).toBe('a trial call was not back within 10 s')
    await env.advance('60s')
    hung.resolve('late')
    await expect(call).resolves.toBe('late')
    expect(breaker.snapshot().state).toBe('half-open')
    await succeeds(breaker)
    expect(breaker.snapshot().state).toBe('half-open')
  })

  it('gives a trial back that ended as neither, without closing or opening', async () => {
    const { breaker } = await aHalfOpenBreaker({ trialCalls: 1 })
    for (let call = 0; call < 5; call += 1) await expect(breaker.run(failWith(new RangeError('bug')))).rejects.toThrow('bug')
    expect(breaker.snapshot().state).toBe('half-open')
    expect(breaker.allows()).toBe(true)
  })

  it('takes no trial by being looked at', async () => {
    const { breaker } = await aHalfOpenBreaker({ trialCalls: 1 })
    for (let look = 0; look < 10; look += 1) expect(breaker.allows()).toBe(true)
    await succeeds(breaker)
  })

  it('is not reopened by a failure from before it opened, nor closed by a success', async () => {
    const { breaker, env } = aBreaker({ failures: 1, closeAfter: 1 })
    const failure = hanging<string>()
    const success = hanging<string>()
    const first = breaker.run(failure.work)
    const second = breaker.run(success.work)
    await fails(breaker, 1)
    await env.advance('60s')
    failure.reject(TRANSIENT)
    success.resolve('ok')
    await expect(first).rejects.toBe(TRANSIENT)
    await second
    expect(breaker.snapshot().state).toBe('half-open')
    expect(TRANSIENT.code).toBe('ECONNREFUSED')
  })

  it('does not count, once closed again, what failed before', async () => {
    const { breaker, env } = aBreaker({ failures: 1, closeAfter: 1 })
    const stale = hanging<string>()
    const first = breaker.run(stale.work)
    await fails(breaker, 1)
    await env.advance('60s')
    await succeeds(breaker)
    expect(breaker.snapshot().state).toBe('closed')
    stale.reject(TRANSIENT)
    await expect(first).rejects.toBe(TRANSIENT)
    expect(breaker.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  })
})

describe('a breaker forced open', () => {
  it('refuses although the dependency is well, names who and why, and is half-open when its time is over', async () => {
    const { breaker, env, changes } = aBreaker()
    const at = env.now()
    breaker.force('open', { by: 'cli:alice', reason: 'migration', forMs: 5_000 })
    await refusedBy(breaker)
    expect(breaker.snapshot()).toMatchObject({ state: 'forced-open', retryAfterMs: 5_000, forced: { by: 'cli:alice', reason: 'migration', until: at + 5_000 } })
    await env.advance('5s')
    expect(breaker.snapshot()).toMatchObject({ state: 'half-open', forced: undefined })
    expect(changes.map(change => [change.to, change.reason])).toEqual([['forced-open', 'forced open by cli:alice: migration'], ['half-open', 'the forced state expired']])
  })

  it('stays so without an expiry until it is released', async () => {
    const { breaker, env } = aBreaker()
    breaker.force('open', { by: 'a', reason: 'b' })
    await env.advance('30d')
    expect(breaker.allows()).toBe(false)
    expect(breaker.release({ by: 'a', reason: 'done' })).toBe(true)
    expect(breaker.release({ by: 'a', reason: 'done' })).toBe(false)
    expect(breaker.snapshot().state).toBe('half-open')
  })
})

describe('a breaker forced closed', () => {
  it('lets everything through, counts nothing, and starts afresh', async () => {
    const { breaker, env } = await anOpenBreaker()
    breaker.force('closed', { by: 'a', reason: 'the check is wrong', forMs: 1_000 })
    await fails(breaker, 10)
    expect(breaker.snapshot().state).toBe('forced-closed')
    await env.advance('1s')
    expect(breaker.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
    await fails(breaker, 1)
    expect(breaker.snapshot().state).toBe('open')
  })

  it('is not counted afterwards by what began under force', async () => {
    const { breaker, env } = aBreaker({ failures: 1 })
    breaker.force('closed', { by: 'a', reason: 'b', forMs: 1_000 })
    const slow = hanging<string>()
    const call = breaker.run(slow.work)
    await env.advance('2s')
    slow.reject(new Error('late'))
    await expect(call).rejects.toThrow('late')
    expect(breaker.snapshot().state).toBe('closed')
  })
})

describe('forcing', () => {
  it('needs a reason, and a length of time that is one', () => {
    const { breaker } = aBreaker()
    expect(() => { breaker.force('open', { by: 'a', reason: ' ' }) }).toThrow(expect.objectContaining({ code: 'HF_REASON_REQUIRED' }))
    expect(() => { breaker.force('open', { by: 'a', reason: 'b', forMs: Number.NaN }) }).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }))
    expect(breaker.snapshot().state).toBe('closed')
  })

  it('voids trial calls that are in flight', async () => {
    const { breaker } = await aHalfOpenBreaker({ closeAfter: 1 })
    const trial = hanging<string>()
    const call = breaker.run(trial.work)
    breaker.force('open', { by: 'a', reason: 'b' })
    trial.resolve('ok')
    await call
    expect(breaker.snapshot().state).toBe('forced-open')
    breaker.release({ by: 'a', reason: 'c' })
    await succeeds(breaker)
    expect(breaker.snapshot().state).toBe('closed')
  })
})
