import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastError } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { breaker, compose, concurrencyLimit, deadline, retry, timeout, type GuardKit, type Policy } from './index.ts'

const TRANSIENT = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })

function world(): { env: SimulatedEnv; kit: GuardKit } {
  const env = simulatedEnv({ seed: 4 })
  return { env, kit: { env, events: new EventBus(env) } }
}
function outcome<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: HoldfastError }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error: error as HoldfastError }))
}
function never<T>(): Promise<T> {
  return new Promise(() => undefined)
}

describe('each policy alone', () => {
  const policies: Record<string, (kit: GuardKit) => Policy> = {
    deadline: kit => deadline('10s', kit),
    retry: kit => retry({ attempts: 2 }, kit),
    breaker: kit => breaker('panel', {}, kit),
    'concurrency limit': kit => concurrencyLimit('panel', 2, kit),
    timeout: kit => timeout('10s', kit),
  }
  it.each(Object.entries(policies))('%s gives values, undefined and errors of its work unchanged, and leaves no timer', async (_name, make) => {
    const { env, kit } = world()
    const policy = make(kit)
    const read = { effect: 'read' } as const
    await expect(policy.run(async () => 42, read)).resolves.toBe(42)
    await expect(policy.run(() => undefined, read)).resolves.toBeUndefined()
    const error = new Error('as it was')
    await expect(policy.run(() => { throw error }, read)).rejects.toBe(error)
    await expect(policy.run(() => Promise.reject(error), read)).rejects.toBe(error)
    await env.advance('1m')
    expect(env.pendingTimers).toBe(0)
  })

  it('timeout ends one attempt and aborts its signal; deadline does the same by its own name', async () => {
    const { env, kit } = world()
    for (const [policy, code] of [[timeout('2s', kit), 'HF_TIMEOUT'], [deadline('2s', kit), 'HF_DEADLINE']] as const) {
      let signal: AbortSignal | undefined
      const result = outcome(policy.run(scope => { signal = scope.signal; return never() }))
      await env.advance('1999ms')
      expect(signal?.aborted).toBe(false)
      await env.advance('1ms')
      expect((await result).error).toMatchObject({ code, message: 'no result within 2 s' })
      expect(signal?.aborted).toBe(true)
    }
  })

  it('retry wakes at once when its caller gives up, and calls no more', async () => {
    const { env, kit } = world()
    const caller = new AbortController()
    let calls = 0
    const result = outcome(retry({ attempts: 3, minWait: '400ms' }, kit).run(() => { calls += 1; throw TRANSIENT }, { effect: 'read', signal: caller.signal }))
    await env.advance('50ms')
    caller.abort()
    expect((await result).error).toMatchObject({ code: 'HF_CANCELLED' })
    await env.advance('1h')
    expect([calls, env.pendingTimers]).toEqual([1, 0])
  })

  it('a concurrency limit queues in order, and is left at once by who gives up', async () => {
    const { env, kit } = world()
    const limit = concurrencyLimit('panel', { limit: 1, queue: 2 }, kit)
    const caller = new AbortController()
    const order: string[] = []
    const first = limit.run(() => { order.push('first'); return env.sleep(100) })
    const second = outcome(limit.run(() => { order.push('second') }, { signal: caller.signal }))
    const third = limit.run(() => { order.push('third') })
    await expect(limit.run(() => 1)).rejects.toMatchObject({ code: 'HF_OVERLOADED' })
    caller.abort()
    expect((await second).error).toMatchObject({ code: 'HF_CANCELLED' })
    await env.advance('1s')
    await Promise.all([first, third])
    expect(order).toEqual(['first', 'third'])
    expect([limit.inFlight, limit.queued]).toEqual([0, 0])
  })
})

describe('composed', () => {
  it('a retry inside a deadline begins no wait that ends after it: no attempt after the caller has the answer', async () => {
    const { env, kit } = world()
    let calls = 0
    const composition = compose([deadline('5s', kit), retry({ attempts: 2, minWait: '3s' }, kit), timeout('3s', kit)], kit)
    const result = outcome(composition.run(() => { calls += 1; return never() }, { effect: 'read' }))
    await env.advance('5s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
    await env.advance('1h')
    expect([calls, env.pendingTimers]).toEqual([1, 0])
  })

  it('a deadline that strikes in the middle of an attempt aborts the innermost signal', async () => {
    const { env, kit } = world()
    let signal: AbortSignal | undefined
    const composition = compose([deadline('2s', kit), retry({ attempts: 2 }, kit), breaker('panel', {}, kit), concurrencyLimit('panel', 1, kit), timeout('2s', kit)], kit)
    const result = outcome(composition.run(scope => { signal = scope.signal; return never() }, { effect: 'read' }))
    await env.advance('2s')
    expect((await result).error?.code).toMatch(/HF_DEADLINE|HF_TIMEOUT/)
    expect(signal?.aborted).toBe(true)
  })

  it('a retry outside a breaker does not try against the open circuit', async () => {
    const { env, kit } = world()
    const guard = breaker('panel', { failures: 1 }, kit)
    let calls = 0
    const result = outcome(compose([retry({ attempts: 4 }, kit), guard], kit).run(() => { calls += 1; throw TRANSIENT }, { effect: 'read' }))
    await env.advance('1s')
    expect((await result).error).toMatchObject({ code: 'HF_BREAKER_OPEN' })
    expect(calls).toBe(1)
  })

  it('a breaker counts what a timeout inside it cut off', async () => {
    const { env, kit } = world()
    const guard = breaker('panel', { failures: 1 }, kit)
    const result = outcome(compose([guard, timeout('1s', kit)], kit).run(() => never()))
    await env.advance('1s')
    await result
    expect(guard.snapshot().state).toBe('open')
  })

  it('a limit outside a timeout keeps the slot until the work is really over', async () => {
    const { env, kit } = world()
    const limit = concurrencyLimit('panel', { limit: 1, queue: 0 }, kit)
    let finish: () => void = () => undefined
    const result = outcome(compose([limit, timeout('1s', kit)], kit).run(() => new Promise<void>(resolve => { finish = resolve })))
    await env.advance('1s')
    expect((await result).error).toMatchObject({ code: 'HF_TIMEOUT' })
    expect(limit.inFlight).toBe(1)
    finish()
    await env.settle()
    expect(limit.inFlight).toBe(0)
  })

  it('hands one key and the number of the attempt to the innermost work', async () => {
    const { env, kit } = world()
    const seen: (readonly [number, string])[] = []
    const result = compose([deadline('9s', kit), retry({ attempts: 2 }, kit), timeout('1s', kit)], kit).run(({ number, key }) => {
      seen.push([number, key])
      if (number === 1) throw TRANSIENT
    }, { key: 'order-7', effect: 'idempotent' })
    await env.advance('1s')
    await result
    expect(seen).toEqual([[1, 'order-7'], [2, 'order-7']])
  })

  it('is refused where it cannot work', () => {
    const { kit } = world()
    expect(() => compose([], kit)).toThrow('at least one policy')
    expect(() => compose([retry({}, kit), deadline('1s', kit)], kit)).toThrow('the deadline outermost')
    expect(() => compose([timeout('1s', kit), timeout('2s', kit)], kit)).toThrow('one timeout at most')
    expect(() => compose([deadline('1s', kit), timeout('2s', kit)], kit)).toThrow('at most the deadline')
  })
})
