import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { EventBus, realEnv } from '../core/index.ts'
import { simulatedEnv } from '../testing/index.ts'
import { breaker, compose, concurrencyLimit, deadline, dependency, hedge, rateLimit, retry, timeout, type Attempt } from './index.ts'

const READ = { effect: 'read' } as const
const RESET = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })

/** Rejections that nobody handled while `work` ran. */
async function unhandledDuring(work: () => Promise<void>): Promise<readonly unknown[]> {
  const unhandled: unknown[] = []
  const note = (reason: unknown): void => { unhandled.push(reason) }
  process.on('unhandledRejection', note)
  try {
    await work()
    // Node tells of a rejection after the microtasks of its turn.
    await new Promise(resolve => { setImmediate(resolve) })
    await new Promise(resolve => { setImmediate(resolve) })
  } finally {
    process.off('unhandledRejection', note)
  }
  return unhandled
}

describe('after a million calls', () => {
  it('no listener, timer, slot or rejection is left: answers, failures, hangs, hedges and callers that gave up', async () => {
    const env = simulatedEnv({ seed: 1 })
    const shutdown = new AbortController()
    const panel = dependency('panel', {
      tier: 'info', runbook: 'r', deadline: '10s', timeout: '1s', breaker: false, hedge: { after: '200ms' }, retry: { attempts: 2 }, concurrency: { limit: 5_000, queue: 5_000 },
    }, { env, events: new EventBus(env) })
    const works: readonly ((attempt: Attempt) => unknown)[] = [
      () => 1,
      () => Promise.resolve(1),
      () => { throw RESET },
      () => Promise.reject(RESET),
      ({ signal }) => env.sleep(5_000, signal).then(() => { throw RESET }),
      () => env.sleep(300),
    ]
    let listeners = 0
    const unhandled = await unhandledDuring(async () => {
      for (let batch = 0; batch < 1_000; batch += 1) {
        // The costly kinds are a twentieth: each of their calls is several attempts and timers.
        const costly = batch % 20 === 0
        const caller = batch % 40 === 0 ? new AbortController() : shutdown
        const calls: Promise<unknown>[] = []
        for (let index = 0; index < 1_000; index += 1) {
          const work = works[costly ? index % works.length : index % 2] as () => unknown
          calls.push(panel.try('get', { ...READ, signal: caller.signal }, work))
        }
        listeners = Math.max(listeners, getEventListeners(shutdown.signal, 'abort').length)
        if (caller !== shutdown) {
          await env.advance('100ms')
          caller.abort()
        }
        if (costly) await env.advance('12s')
        await Promise.all(calls)
      }
      await env.advance('1m')
    })
    expect(panel.snapshot()).toMatchObject({ counters: { calls: 1_000_000 }, inFlight: 0, queued: 0, abandoned: 0 })
    expect(panel.snapshot().counters.hedges).toBeGreaterThan(1_000)
    expect(panel.snapshot().counters.retries).toBeGreaterThan(1_000)
    expect(listeners).toBe(1)
    expect(getEventListeners(shutdown.signal, 'abort')).toHaveLength(0)
    expect(env.pendingTimers).toBe(0)
    expect(unhandled).toEqual([])
  }, 120_000)

  it('control: the check sees a listener, a timer and a rejection that are left', async () => {
    const env = simulatedEnv()
    const { signal } = new AbortController()
    const unhandled = await unhandledDuring(async () => {
      signal.addEventListener('abort', () => undefined)
      env.timer(1_000, () => undefined)
      void Promise.reject(RESET)
    })
    expect([getEventListeners(signal, 'abort').length, env.pendingTimers, unhandled]).toEqual([1, 1, [RESET]])
  })
})

describe('policies composed by hand', () => {
  it('leave no listener, timer or rejection behind either, after forty thousand runs', async () => {
    const env = simulatedEnv({ seed: 2 })
    const kit = { env, events: new EventBus(env) }
    const shutdown = new AbortController()
    const composition = compose([
      deadline('5s', kit), retry({ attempts: 2, name: 'composed' }, kit), hedge({ after: '100ms' }, kit), breaker('panel', { failures: 1_000_000 }, kit),
      rateLimit('panel', { limit: 1_000_000, per: '1s', burst: 1_000_000, maxWait: '0ms' }, kit), concurrencyLimit('panel', { limit: 2_000, queue: 100 }, kit), timeout('1s', kit),
    ], kit)
    const unhandled = await unhandledDuring(async () => {
      for (let batch = 0; batch < 40; batch += 1) {
        const runs: Promise<unknown>[] = []
        for (let index = 0; index < 1_000; index += 1) {
          const slow = index % 100 === 0
          runs.push(composition.run(({ signal }) => (slow ? env.sleep(batch % 2 === 0 ? 10_000 : 300, signal) : Promise.resolve()), { ...READ, signal: shutdown.signal }).catch(() => undefined))
        }
        expect(getEventListeners(shutdown.signal, 'abort').length).toBeLessThanOrEqual(1)
        await env.advance('6s')
        await Promise.all(runs)
      }
    })
    await env.advance('1m')
    expect(getEventListeners(shutdown.signal, 'abort')).toHaveLength(0)
    expect(env.pendingTimers).toBe(0)
    expect(unhandled).toEqual([])
  }, 60_000)
})

describe('on the real clock', () => {
  it('nothing keeps the process alive once the calls are over', async () => {
    const env = realEnv()
    const panel = dependency('panel', { tier: 'info', runbook: 'r', deadline: '30s' }, { env, events: new EventBus(env) })
    const before = process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length
    for (let count = 0; count < 20_000; count += 1) await panel.call('get', READ, async () => count)
    // Unreferenced timers are not counted: they keep nothing alive.
    expect(process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length).toBeLessThanOrEqual(before)
  })
})
