import { describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { eventLoopLag } from './event-loop-lag.ts'
import { resolveConcurrency } from './limit.ts'
import { Slots } from './slots.ts'

/** Forty callers at a dependency that answers in 20 ms, from a process whose loop stalls for 160 of every 200 ms after 10 s. */
async function underStalls(eventLoop: 'discount' | 'shrink', sampled: 'same process' | 'another process'): Promise<{ readonly before: number; readonly after: number }> {
  const env = simulatedEnv()
  const slots = new Slots(resolveConcurrency({ adaptive: { eventLoop, max: 30 } }, 'test'), sampled === 'same process' ? env : env.process())
  let stopped = false
  const caller = async (): Promise<void> => {
    while (!stopped) {
      if (slots.tryTake()) {
        const startedAt = env.monotonic()
        await env.sleep(20)
        slots.observe(env.monotonic() - startedAt, 'success', env.monotonic())
        slots.give()
      } else await env.sleep(5)
    }
  }
  const callers = Array.from({ length: 40 }, caller)
  await env.advance('10s')
  const before = slots.limit
  for (let stall = 0; stall < 80; stall += 1) {
    await stallFor(env, 160)
    await env.advance(40)
  }
  const after = slots.limit
  stopped = true
  await env.advance('1s')
  await Promise.all(callers)
  expect(env.pendingTimers).toBe(0)
  return { before, after }
}

async function stallFor(env: SimulatedEnv, ms: number): Promise<void> {
  env.pause()
  await env.advance(ms)
  env.resume()
  await env.settle()
}

describe('while the event loop of this process stalls', () => {
  it('the times that are measured are not blamed on the dependency', async () => {
    const { before, after } = await underStalls('discount', 'same process')
    expect(after).toBeGreaterThanOrEqual(before)
  })

  it('control: where the stalls are not seen, the limit shrinks for nothing', async () => {
    const { before, after } = await underStalls('discount', 'another process')
    expect(after).toBeLessThan(before * 0.8)
  })

  it('a limit that protects this process shrinks', async () => {
    const { before, after } = await underStalls('shrink', 'same process')
    expect(after).toBeLessThan(before / 2)
  })
})

describe('the sampler', () => {
  it('is one for all limits of an Env, runs while work is in flight, and leaves no timer behind', async () => {
    const env = simulatedEnv()
    const all = [1, 2, 3].map(() => new Slots(resolveConcurrency({ adaptive: {} }, 'test'), env))
    expect(env.pendingTimers).toBe(0)
    for (const slots of all) expect(slots.tryTake()).toBe(true)
    expect(env.pendingTimers).toBe(1)
    await env.advance('10s')
    expect(env.pendingTimers).toBe(1)
    for (const slots of all) slots.give()
    await env.advance(50)
    expect(env.pendingTimers).toBe(0)
  })

  it('leaves no timer behind after ten thousand pieces of work either', async () => {
    const env = simulatedEnv()
    const slots = new Slots(resolveConcurrency({ adaptive: {} }, 'test'), env)
    for (let call = 0; call < 10_000; call += 1) {
      slots.tryTake()
      slots.observe(0, 'success', env.monotonic())
      slots.give()
      if (call % 100 === 0) await env.advance(7)
    }
    expect(env.pendingTimers).toBeLessThanOrEqual(1)
    await env.advance(50)
    expect(env.pendingTimers).toBe(0)
  })

  it('is not started by a fixed limit', () => {
    const env = simulatedEnv()
    const slots = new Slots(resolveConcurrency(2, 'test'), env)
    slots.tryTake()
    expect(env.pendingTimers).toBe(0)
  })

  it('knows of a stall before its late timer has told, and forgets what was before a call began', async () => {
    const env = simulatedEnv()
    const lag = eventLoopLag(env)
    expect(eventLoopLag(env)).toBe(lag)
    lag.begin()
    await env.advance(20)
    env.pause()
    await env.advance(81)
    expect(lag.stalledSince(0, env.monotonic())).toBe(true)
    env.resume()
    expect(lag.stalledSince(20, env.monotonic())).toBe(true)
    await env.advance(1)
    expect(lag.stalledSince(env.monotonic(), env.monotonic())).toBe(false)
    lag.end()
    await env.advance(50)
    expect(env.pendingTimers).toBe(0)
  })
})
