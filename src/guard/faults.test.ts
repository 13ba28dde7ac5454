import fc from 'fast-check'
import { afterEach, describe, expect, expectTypeOf, it, vi } from 'vitest'
import { EventBus, type HoldfastEvents } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { faults, type Fault, type FaultOptions, type FaultPlan, type FaultRule } from './faults.ts'
import type { GuardKit } from './policy.ts'
import { timeout } from './timeout.ts'

interface World {
  readonly env: SimulatedEnv
  readonly kit: GuardKit
  readonly injected: HoldfastEvents['fault.injected'][]
  readonly switched: string[]
}
function world(seed = 2): World {
  const env = simulatedEnv({ seed })
  const events = new EventBus(env)
  const injected: World['injected'] = []
  const switched: string[] = []
  events.on('fault.injected', event => { injected.push(event.data) })
  events.on('faults.armed', event => { switched.push(`armed by ${event.data.by}: ${event.data.reason}`) })
  events.on('faults.disarmed', event => { switched.push(`disarmed by ${event.data.by}: ${event.data.reason}`) })
  return { env, kit: { env, events }, injected, switched }
}
function plan(kit: GuardKit, rules: readonly FaultRule[], more: Partial<FaultOptions> = {}): FaultPlan {
  return faults({ name: 'panel-shaky', rules, production: false, ...more }, kit)
}
function outcome<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: unknown }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error }))
}
const LOST = new Error('connection reset')
const always = (fault: Fault): readonly FaultRule[] => [{ rate: 1, fault }]

/** A function under faults, and how often it really ran. */
function target(faulty: FaultPlan, operation = 'get'): { readonly call: (options?: { readonly signal?: AbortSignal }) => Promise<string>; readonly ran: () => number } {
  let ran = 0
  return { call: faulty.wrapFunction(operation, (_options?: { readonly signal?: AbortSignal }) => { ran += 1; return 'real' }), ran: () => ran }
}

afterEach(() => { vi.unstubAllEnvs() })

describe('each kind of fault', () => {
  it('error: the call fails with an HTTP status or with what the function makes, and the work does not run', async () => {
    const { kit, injected } = world()
    const byStatus = target(plan(kit, always({ error: 503 })))
    expect((await outcome(byStatus.call())).error).toMatchObject({ name: 'HttpStatusError', status: 503, code: 'HF_CALL_FAILED', message: 'fault injection panel-shaky: answered with status 503' })
    const byFactory = target(plan(kit, always({ error: () => LOST })))
    expect((await outcome(byFactory.call())).error).toBe(LOST)
    expect([byStatus.ran(), byFactory.ran()]).toEqual([0, 0])
    expect(injected).toEqual([{ faults: 'panel-shaky', operation: 'get', kind: 'error' }, { faults: 'panel-shaky', operation: 'get', kind: 'error' }])
  })

  it('latency: the work runs, later', async () => {
    const { env, kit } = world()
    const { call, ran } = target(plan(kit, always({ latency: '2s' })))
    const result = call()
    await env.advance(1_999)
    expect(ran()).toBe(0)
    await env.advance(1)
    expect([await result, ran(), env.monotonic()]).toEqual(['real', 1, 2_000])
  })

  it('latency: ends with its attempt, and then the work does not run', async () => {
    const { env, kit } = world()
    const { call, ran } = target(plan(kit, always({ latency: '2s' })))
    const result = outcome(timeout('500ms', kit).run(({ signal }) => call({ signal })))
    await env.advance('10s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
    expect([ran(), env.pendingTimers]).toEqual([0, 0])
  })

  it('hang: only the end of the attempt ends it, and that does', async () => {
    const { env, kit } = world()
    const faulty = plan(kit, always({ hang: true }))
    const { call, ran } = target(faulty)
    let over = false
    const result = outcome(timeout('3s', kit).run(({ signal }) => call({ signal }).finally(() => { over = true })))
    await env.advance(2_999)
    expect(over).toBe(false)
    await env.advance(1)
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
    await env.settle()
    // The work is over, not abandoned: it would hold a slot of a concurrency limit else.
    expect([over, ran()]).toEqual([true, 0])
    // The control: without a signal nothing ends it.
    void call().finally(() => { over = false })
    await env.advance('1h')
    expect(over).toBe(true)
  })

  it('hang: is over at once where the attempt is', async () => {
    const { kit } = world()
    const reason = new Error('gone')
    const { call } = target(plan(kit, always({ hang: true })))
    expect(await outcome(call({ signal: AbortSignal.abort(reason) }))).toEqual({ error: reason })
  })

  it('outcome: the call answers something else, and the work does not run', async () => {
    const { kit } = world()
    const { call, ran } = target(plan(kit, always({ outcome: 'wrong' })))
    expect([await call(), ran()]).toEqual(['wrong', 0])
  })

  it('after: the work has run when its answer is lost, by an error or by silence', async () => {
    const { env, kit, injected } = world()
    const byError = target(plan(kit, always({ error: () => LOST, after: true })))
    expect((await outcome(byError.call())).error).toBe(LOST)
    const bySilence = target(plan(kit, always({ hang: true, after: true })))
    const result = outcome(timeout('1s', kit).run(({ signal }) => bySilence.call({ signal })))
    await env.advance('1s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
    expect([byError.ran(), bySilence.ran(), injected.map(one => one.kind)]).toEqual([1, 1, ['answer-lost', 'answer-lost']])
  })

  it('after: a failure of the work itself passes, and is no fault of ours', async () => {
    const { kit, injected } = world()
    const own = new Error('its own')
    const failing = plan(kit, always({ error: 503, after: true })).wrapFunction('get', () => { throw own })
    expect(await outcome(failing())).toEqual({ error: own })
    expect(injected).toEqual([])
  })

  it('makes a double where a lost answer is repeated without a key: what the kind is for', async () => {
    const { kit } = world()
    const charges: string[] = []
    const charge = plan(kit, [{ script: [{ error: 503, after: true }] }]).wrapFunction('charge', (key: string) => { charges.push(key) })
    await outcome(charge('k1'))
    await charge('k1')
    expect(charges).toEqual(['k1', 'k1'])
  })
})

describe('which attempt gets one', () => {
  it('a script is taken in order, once, and only by the attempts it is for', async () => {
    const { kit } = world()
    const faulty = plan(kit, [{ operation: 'add-user', script: ['ok', { outcome: 'a' }, { outcome: 'b' }] }])
    const add = target(faulty, 'add-user')
    const get = target(faulty, 'get-user')
    expect(await Promise.all([add.call(), get.call(), add.call(), get.call(), add.call(), add.call()])).toEqual(['real', 'real', 'a', 'real', 'b', 'real'])
    expect(faulty.snapshot().scripted).toBe(0)
  })

  it('the first rule that says something decides', async () => {
    const { kit } = world()
    const faulty = plan(kit, [{ operation: ['get', 'list'], script: [{ outcome: 'scripted' }, 'ok'] }, { operation: 'get', rate: 0, fault: { outcome: 'never' } }, { rate: 1, fault: { outcome: 'rest' } }])
    const { call } = target(faulty)
    expect([await call(), await call(), await call(), await target(faulty, 'other').call()]).toEqual(['scripted', 'real', 'rest', 'rest'])
  })

  it('a rule for the first attempt leaves the repetition alone', () => {
    const { kit } = world()
    const faulty = plan(kit, [{ attempt: 1, rate: 1, fault: { error: 503 } }])
    const work = (): number => 1
    expect(faulty.wrap('get', 1, work)).not.toBe(work)
    expect(faulty.wrap('get', 2, work)).toBe(work)
  })

  it('a rate hits about that share, and the same seed hits the same', async () => {
    const run = async (seed: number, rate: number): Promise<string> => {
      const { call } = target(plan(world(seed).kit, [{ rate, fault: { outcome: 'x' } }]))
      return (await Promise.all(Array.from({ length: 400 }, () => call()))).map(one => (one === 'x' ? 'x' : '.')).join('')
    }
    const hits = await run(5, 0.25)
    expect(hits.split('x').length - 1).toBeGreaterThan(70)
    expect(hits.split('x').length - 1).toBeLessThan(130)
    expect(await run(5, 0.25)).toBe(hits)
    expect(await run(6, 0.25)).not.toBe(hits)
    expect([await run(5, 0), await run(5, 1)]).toEqual(['.'.repeat(400), 'x'.repeat(400)])
  })
})

describe('outside production', () => {
  it('is on, until it is switched off or `when` says no', async () => {
    const { kit, switched } = world()
    let flag = true
    const faulty = plan(kit, always({ outcome: 'x' }), { when: () => flag })
    const { call } = target(faulty)
    expect([faulty.active, faulty.snapshot().state, await call()]).toEqual([true, 'on', 'x'])
    flag = false
    expect([faulty.active, await call()]).toEqual([false, 'real'])
    flag = true
    expect(faulty.disarm({ by: 'alice', reason: 'enough' })).toBe(true)
    expect([await call(), faulty.disarm({ by: 'alice', reason: 'again' })]).toEqual(['real', false])
    expect(switched).toEqual(['disarmed by alice: enough'])
  })

  it('does no harm when `when` throws or answers with something else, and says so', async () => {
    const { kit } = world()
    const faulty = plan(kit, always({ outcome: 'x' }), { when: () => { throw new Error('flag store away') } })
    expect([await target(faulty).call(), faulty.snapshot()]).toMatchObject(['real', { active: false, whenFailed: 'flag store away' }])
    expect(await target(plan(kit, always({ outcome: 'x' }), { when: (() => Promise.resolve(true)) as unknown as () => boolean })).call()).toBe('real')
  })

  it('is the default unless NODE_ENV says production, which is read when it is declared', () => {
    const { kit } = world()
    const declared = (): FaultPlan => faults({ name: 'f', rules: [] }, kit)
    vi.stubEnv('NODE_ENV', 'test')
    const before = declared()
    vi.stubEnv('NODE_ENV', 'production')
    expect([before.active, declared().active, declared().production, faults({ name: 'f', rules: [], production: false }, kit).active]).toEqual([true, false, true, true])
  })
})

describe('in production', () => {
  const shaky = (kit: GuardKit, more: Partial<FaultOptions> = {}): FaultPlan => plan(kit, always({ outcome: 'x' }), { production: true, ...more })
  const DRILL = { by: 'alice', reason: 'drill 12', for: '10m' } as const

  it('does nothing unless armed, ends by itself, and tells both', async () => {
    const { env, kit, switched } = world()
    const faulty = shaky(kit)
    const { call } = target(faulty)
    expect([faulty.active, faulty.snapshot().state, await call()]).toEqual([false, 'off', 'real'])
    faulty.arm(DRILL)
    expect([await call(), faulty.snapshot()]).toMatchObject(['x', { state: 'armed', active: true, armed: { by: 'alice', reason: 'drill 12', until: env.now() + 600_000 }, injected: { outcome: 1, error: 0 } }])
    await env.advance(599_999)
    expect(await call()).toBe('x')
    await env.advance(1)
    expect(switched).toEqual(['armed by alice: drill 12', 'disarmed by expiry: armed by alice for a time that is over: drill 12'])
    expect([await call(), faulty.snapshot(), env.pendingTimers]).toMatchObject(['real', { state: 'off', armed: undefined, injected: { outcome: 2 } }, 0])
  })

  it('needs `when` too', async () => {
    const { kit } = world()
    const faulty = shaky(kit, { when: () => false })
    faulty.arm(DRILL)
    expect([faulty.active, await target(faulty).call()]).toEqual([false, 'real'])
  })

  it('ends on time although the wall clock jumps and the timer is late', async () => {
    const { env, kit, switched } = world()
    const deaf: SimulatedEnv = Object.assign(Object.create(env) as SimulatedEnv, { timer: () => ({ cancel: () => undefined }), monotonic: () => env.monotonic(), now: () => env.now() })
    const faulty = shaky({ ...kit, env: deaf })
    faulty.arm(DRILL)
    env.jump(-86_400_000)
    await env.advance(599_999)
    expect(faulty.active).toBe(true)
    await env.advance(1)
    expect([faulty.active, switched.length]).toEqual([false, 2])
    faulty.arm(DRILL)
    env.jump(5 * 86_400_000)
    expect(faulty.active).toBe(true)
  })

  it('is not ended early by a timer that fires early', async () => {
    const { env, kit, switched } = world()
    const early: SimulatedEnv = Object.assign(Object.create(env) as SimulatedEnv, {
      timer: (ms: number, run: () => void) => env.timer(ms > 1 ? ms - 1 : ms, run), monotonic: () => env.monotonic(), now: () => env.now(),
    })
    const faulty = shaky({ ...kit, env: early })
    faulty.arm(DRILL)
    await env.advance(599_999)
    expect([faulty.active, switched.length]).toEqual([true, 1])
    await env.advance('2ms')
    expect([faulty.active, switched.length]).toEqual([false, 2])
  })

  it('may be armed again, for a new time and with its scripts from the beginning, and disarmed at once', async () => {
    const { env, kit, switched } = world()
    const faulty = plan(kit, [{ script: [{ outcome: 'x' }] }], { production: true })
    const { call } = target(faulty)
    faulty.arm(DRILL)
    expect([await call(), await call()]).toEqual(['x', 'real'])
    await env.advance('9m')
    faulty.arm({ ...DRILL, for: '1h' })
    await env.advance('59m')
    expect(await call()).toBe('x')
    expect(faulty.disarm({ by: 'bob', reason: 'customers notice' })).toBe(true)
    await env.advance('1d')
    expect([switched.at(-1), switched.length, env.pendingTimers]).toEqual(['disarmed by bob: customers notice', 3, 0])
  })

  it('is not armed without a name, a reason and an hour at most', () => {
    const { kit, switched } = world()
    const faulty = shaky(kit)
    expect(() => { faulty.arm({ ...DRILL, reason: ' ' }) }).toThrow(expect.objectContaining({ code: 'HF_REASON_REQUIRED' }) as Error)
    for (const wrong of [{ by: '' }, { for: '61m' as const }, { for: '0s' as const }, { for: 'ever' as '1h' }]) {
      expect(() => { faulty.arm({ ...DRILL, ...wrong }) }, JSON.stringify(wrong)).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    }
    expect([faulty.active, switched]).toEqual([false, []])
  })

  it('never gives a fault while it is not armed, whatever is done to it', async () => {
    const steps = fc.array(fc.oneof(
      fc.record({ kind: fc.constant('arm' as const), minutes: fc.integer({ min: 1, max: 90 }) }), fc.record({ kind: fc.constant('disarm' as const) }),
      fc.record({ kind: fc.constant('wait' as const), minutes: fc.integer({ min: 1, max: 45 }) }), fc.record({ kind: fc.constant('jump' as const), minutes: fc.integer({ min: -9_999, max: 9_999 }) }),
    ), { maxLength: 30, size: 'max' })
    const seen = { x: 0, real: 0 }
    await fc.assert(fc.asyncProperty(steps, async script => {
      const { env, kit } = world()
      const faulty = shaky(kit)
      const { call } = target(faulty)
      let armedUntil = -1
      for (const step of script) {
        if (step.kind === 'arm') {
          try {
            faulty.arm({ by: 'a', reason: 'r', for: `${step.minutes}m` })
            armedUntil = env.monotonic() + step.minutes * 60_000
          } catch { expect(step.minutes).toBeGreaterThan(60) }
        } else if (step.kind === 'disarm') {
          faulty.disarm({ by: 'a', reason: 'r' })
          armedUntil = -1
        } else if (step.kind === 'wait') await env.advance(step.minutes * 60_000)
        else env.jump(step.minutes * 60_000)
        const expected = env.monotonic() < armedUntil ? 'x' : 'real'
        seen[expected] += 1
        expect(await call()).toBe(expected)
      }
    }), { numRuns: 100, seed: 8 })
    expect(Math.min(seen.x, seen.real)).toBeGreaterThan(100)
  })
})

describe('a plan that is off', () => {
  it('hands back the work itself, so that it costs nothing', () => {
    const { kit } = world()
    const work = (): number => 1
    expect(plan(kit, always({ error: 503 }), { production: true }).wrap('get', 1, work)).toBe(work)
    expect(plan(kit, []).wrap('get', 1, work)).toBe(work)
  })
})

describe('the options', () => {
  it('are refused where they cannot be meant', () => {
    const { kit } = world()
    const wrong: readonly [readonly unknown[], string][] = [
      [[{ rate: 1.5, fault: { hang: true } }], 'rule 1: rate'], [[{ rate: -1, fault: { hang: true } }], 'rule 1: rate'],
      [[{ script: ['ok'] }, { script: ['ok', {}] }], 'rule 2: script 2: expected one of error, latency, hang and outcome, got none'],
      [always({ error: 200 }), 'fault: error: expected a whole number of 400 to 599, got 200'], [always({ latency: '-1s' }), 'latency'],
      [[{ attempt: 0, rate: 1, fault: { hang: true } }], 'attempt'], [[{ rate: 1, fault: { hang: true, error: 503 } }], 'got error and hang'],
    ]
    for (const [rules, message] of wrong) expect(() => plan(kit, rules as readonly FaultRule[])).toThrow(message)
    expect(() => faults({ name: 'no name', rules: [] })).toThrow('faults: expected a name')
  })

  it('and a function under faults keeps its types', () => {
    const { kit } = world()
    const wrapped = plan(kit, []).wrapFunction('add', (a: number, b: string) => `${String(a)}${b}`)
    expectTypeOf(wrapped).toEqualTypeOf<(a: number, b: string) => Promise<string>>()
    // @ts-expect-error no unit
    const unitless: Fault = { latency: 100 }
    // @ts-expect-error neither a rate nor a script
    const empty: FaultRule = { operation: 'get' }
    // @ts-expect-error armed for how long?
    const endless: Parameters<FaultPlan['arm']>[0] = { by: 'a', reason: 'r' }
    expect([unitless, empty, endless]).toHaveLength(3)
  })
})
