import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastError } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { compose } from '../compose.ts'
import type { GuardKit } from '../policy.ts'
import { timeout } from '../timeout.ts'
import { concurrencyLimit, resolveConcurrency, Slots, type ConcurrencyOptions } from './limit.ts'

function world(): { readonly env: SimulatedEnv; readonly kit: GuardKit } {
  const env = simulatedEnv()
  return { env, kit: { env, events: new EventBus(env) } }
}

/** Work that takes so long, whatever its signal says, and the most of it that was really running at once. */
function heavyWork(env: SimulatedEnv, ms: number): { readonly run: () => Promise<void>; readonly most: () => number } {
  let running = 0
  let most = 0
  return {
    run: async () => {
      running += 1
      most = Math.max(most, running)
      await env.sleep(ms)
      running -= 1
    },
    most: () => most,
  }
}

const code = (error: unknown): string => (error as HoldfastError).code

describe('under contention', () => {
  it('never lets more run at once than its limit, serves everybody in the queue, and refuses the rest at once', async () => {
    const { env, kit } = world()
    const limit = concurrencyLimit('api', { limit: 3, queue: 5 }, kit)
    const work = heavyWork(env, 100)
    const results = Array.from({ length: 12 }, () => limit.run(work.run).then(() => 'done', code))
    await env.settle()
    expect([limit.inFlight, limit.queued]).toEqual([3, 5])
    await env.advance('1s')
    const answers = await Promise.all(results)
    expect(answers.filter(one => one === 'done')).toHaveLength(8)
    expect(answers.filter(one => one === 'HF_OVERLOADED')).toHaveLength(4)
    expect(work.most()).toBe(3)
    expect([limit.inFlight, limit.queued, env.pendingTimers]).toEqual([0, 0, 0])
  })

  it('its errors name limit, operation and policy', async () => {
    const { env, kit } = world()
    const limit = concurrencyLimit('api', { limit: 1, queue: 0 }, kit)
    const first = limit.run(() => env.sleep(10))
    await expect(limit.run(() => 1, { operation: 'list' })).rejects.toMatchObject({
      code: 'HF_OVERLOADED', context: { limit: 'api', operation: 'list', policy: 'concurrency-limit' }, message: 'api: 1 calls are in flight and 0 wait, which is as many as it takes',
    })
    await env.advance(10)
    await first
  })
})

describe('who waits and gives up', () => {
  it('is answered at once, and its place is free at once', async () => {
    const { env, kit } = world()
    const limit = concurrencyLimit('api', { limit: 1, queue: 1 }, kit)
    const caller = new AbortController()
    const first = limit.run(() => env.sleep(1_000))
    const waiting = limit.run(() => 'late', { signal: caller.signal }).catch(code)
    await env.settle()
    await expect(limit.run(() => 1)).rejects.toMatchObject({ code: 'HF_OVERLOADED' })
    const at = env.monotonic()
    caller.abort()
    expect(await waiting).toBe('HF_CANCELLED')
    const next = limit.run(() => 'served')
    expect([env.monotonic(), limit.queued]).toEqual([at, 1])
    await env.advance('1s')
    expect(await next).toBe('served')
    await first
  })
})

describe('work that runs on after its timeout', () => {
  it('is still counted: ten calls of which each times out never make two at once', async () => {
    const { env, kit } = world()
    const limit = concurrencyLimit('api', { limit: 1, queue: 10 }, kit)
    const guarded = compose([limit, timeout('50ms', kit)], kit)
    const work = heavyWork(env, 400)
    const results = Array.from({ length: 10 }, () => guarded.run(work.run).catch(code))
    await env.advance('60s')
    expect(await Promise.all(results)).toEqual(Array.from({ length: 10 }, () => 'HF_TIMEOUT'))
    expect(work.most()).toBe(1)
    expect(limit.inFlight).toBe(0)
  })

  it('control: with the slot given back at the timeout, eight run at once under a limit of one', async () => {
    const { env } = world()
    const slots = new Slots(resolveConcurrency(1, 'test'), env)
    const work = heavyWork(env, 400)
    for (let call = 0; call < 10; call += 1) {
      expect(slots.tryTake()).toBe(true)
      void work.run()
      await env.advance(50)
      slots.give()
    }
    expect(work.most()).toBe(8)
  })
})

describe('as the bound of a server', () => {
  it('refuses work at once that could not be begun in time, and begins none that nobody can still use', async () => {
    const { env, kit } = world()
    const api = concurrencyLimit('api', { limit: 2, queue: 100 }, kit)
    const begun: number[] = []
    const handle = async (): Promise<void> => {
      begun.push(env.monotonic())
      await env.sleep(100)
    }
    await Promise.all([api.run(handle), env.advance(100)])
    const answers = Array.from({ length: 30 }, () => api.run(handle, { deadline: '520ms' }).then(() => 'done', code))
    await env.settle()
    // Two at once, 100 ms each, 520 ms left: eight fit behind the two that run.
    expect(api.queued).toBeLessThanOrEqual(9)
    await env.advance('2s')
    const all = await Promise.all(answers)
    expect(all.filter(one => one === 'done')).toHaveLength(10)
    expect(all.filter(one => one === 'HF_DEADLINE')).toHaveLength(20)
    expect(begun.every(at => at <= 100 + 520 - 100)).toBe(true)
  })

  it('control: without margin and history it works for callers that are gone', async () => {
    const { env } = world()
    const slots = new Slots(resolveConcurrency({ limit: 2, queue: 100, margin: '0ms' }, 'test'), env)
    expect([slots.tryTake(), slots.tryTake()]).toEqual([true, true])
    const waiters = Array.from({ length: 28 }, () => slots.join(500, env.monotonic()))
    expect(waiters.filter(one => typeof one === 'string')).toEqual([])
    await env.advance(499)
    slots.give()
    // One millisecond is left for work that takes a hundred.
    expect(waiters.filter(one => typeof one !== 'string' && one.ending === 'granted')).toHaveLength(1)
  })

  it('serves the critical first and sheds the background first', async () => {
    const { env, kit } = world()
    const api = concurrencyLimit('api', { limit: 1, queue: 2 }, kit)
    const served: string[] = []
    const request = (name: string, priority: 'critical' | 'normal' | 'background'): Promise<string> =>
      api.run(async () => {
        served.push(name)
        await env.sleep(10)
        return 'done'
      }, { priority }).catch(code)
    const all = [request('first', 'normal'), request('cache', 'background'), request('page', 'normal'), request('payment', 'critical')]
    await env.advance('1s')
    expect(await Promise.all(all)).toEqual(['done', 'HF_OVERLOADED', 'done', 'done'])
    expect(served).toEqual(['first', 'payment', 'page'])
  })

  it('work whose deadline has passed is not begun', async () => {
    const { env, kit } = world()
    const api = concurrencyLimit('api', { limit: 1 }, kit)
    const held = api.run(() => env.sleep(100))
    let begun = false
    const late = api.run(() => { begun = true }, { deadline: '50ms' }).catch(code)
    await env.advance('1s')
    await held
    expect([await late, begun]).toEqual(['HF_DEADLINE', false])
  })
})

describe('an adaptive limit', () => {
  it('shrinks when the work fails or comes too late, and not when it is refused or cancelled', async () => {
    for (const [outcome, shrinks] of [['ECONNREFUSED', true], ['late', true], ['TypeError', false], ['cancelled', false]] as const) {
      const { env, kit } = world()
      const api = concurrencyLimit('api', { adaptive: {} }, kit)
      for (let call = 0; call < 200; call += 1) {
        const caller = new AbortController()
        const running = api.run(async () => {
          await env.sleep(50)
          if (outcome === 'ECONNREFUSED') throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
          if (outcome === 'TypeError') throw new TypeError('a bug')
        }, { signal: caller.signal, ...(outcome === 'late' ? { deadline: '20ms' as const } : {}) }).catch(code)
        if (outcome === 'cancelled') caller.abort()
        await env.advance(50)
        await running
      }
      expect(api.limit < 20).toBe(shrinks)
    }
  })
})

describe('its options', () => {
  it.each([
    [{ limit: 0 }, 'x: expected a whole number of at least 1, got 0'],
    [{ limit: 1, queue: -1 }, 'x: queue: expected a whole number of at least 0, got -1'],
    [{ limit: 1, backgroundShare: 1.1 }, 'x: backgroundShare: expected a number of 0 to 1, got 1.1'],
    [{ limit: 1, margin: '-1s' }, 'x: margin: expected a duration'],
    [{ limit: 1, adaptive: {} } as unknown as ConcurrencyOptions, 'x: expected either limit or adaptive, got both'],
    [{} as unknown as ConcurrencyOptions, 'x: expected a whole number of at least 1, got NaN'],
  ])('%j is refused', (options, message) => {
    expect(() => resolveConcurrency(options as ConcurrencyOptions, 'x')).toThrow(message)
  })

  it('the queue is as long as the limit unless it is given', () => {
    expect(resolveConcurrency(7, 'x')).toMatchObject({ limit: 7, queue: 7, marginMs: undefined, backgroundShare: 0.8, adaptive: undefined })
    expect(resolveConcurrency(undefined, 'x')).toMatchObject({ limit: 100, queue: 100 })
    expect(resolveConcurrency({ adaptive: {} }, 'x')).toMatchObject({ limit: 20, queue: 20, adaptive: { min: 1, max: 200, initial: 20 } })
  })

  it('explain() says them in words', () => {
    const { kit } = world()
    expect(compose([concurrencyLimit('api', { adaptive: { min: 2, max: 50 }, queue: 9 }, kit), timeout('1s', kit)], kit).explain().order[0]).toBe('concurrency limit 2 to 50 (adaptive), queue 9')
  })
})
