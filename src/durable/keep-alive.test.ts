import { getEventListeners } from 'node:events'
import { describe, expect, it } from 'vitest'
import { simulatedEnv } from '../testing/index.ts'
import { KeepAlive } from './keep-alive.ts'

function keepAlive(env = simulatedEnv()): KeepAlive {
  return new KeepAlive({ env, what: 'lease x', ttlMs: 10_000, askedAtMs: env.monotonic(), renew: () => Promise.resolve(false) })
}

describe('the signal of work under a lease', () => {
  it('aborts with what the caller gives up with', () => {
    const outer = new AbortController()
    const signal = keepAlive().until(outer.signal)
    outer.abort('enough')
    expect(signal.reason).toBe('enough')
  })

  it('aborts when the lease is lost', async () => {
    const env = simulatedEnv()
    const signal = keepAlive(env).until(new AbortController().signal)
    await env.advance('10s')
    expect(signal.reason).toMatchObject({ code: 'HF_LEASE_LOST' })
  })

  it('is aborted from the beginning where either is', async () => {
    const env = simulatedEnv()
    const lost = keepAlive(env)
    await env.advance('10s')
    expect(lost.until(new AbortController().signal).reason).toMatchObject({ code: 'HF_LEASE_LOST' })
    expect(keepAlive().until(AbortSignal.abort('late')).reason).toBe('late')
  })

  it('adds one listener to a signal that many works share, so that Node warns of no leak', () => {
    const outer = new AbortController()
    const leases = Array.from({ length: 20 }, () => keepAlive())
    const signals = leases.map(lease => lease.until(outer.signal))
    expect(getEventListeners(outer.signal, 'abort')).toHaveLength(1)
    outer.abort()
    expect(signals.every(signal => signal.aborted)).toBe(true)
    for (const lease of leases) lease.stop()
  })

  it('leaves nothing on a long-lived signal, whoever goes on listening to it', () => {
    const outer = new AbortController()
    for (let i = 0; i < 100; i++) {
      const lease = keepAlive()
      lease.until(outer.signal).addEventListener('abort', () => undefined)
      // Control: it is there while the lease is kept.
      expect(getEventListeners(outer.signal, 'abort')).toHaveLength(1)
      lease.stop()
    }
    expect(getEventListeners(outer.signal, 'abort')).toHaveLength(0)
  })
})

describe('heartbeats', () => {
  /** Ten seconds from the beginning; each answer of the store is taken from `answers`, and the last again and again. */
  function beating(answers: readonly (boolean | 'away')[]) {
    const env = simulatedEnv()
    const beganAtMs = env.monotonic()
    const asked: number[] = []
    const lost: string[] = []
    const lease = new KeepAlive({
      env, what: 'lease x', ttlMs: 10_000, askedAtMs: beganAtMs, onLost: reason => { lost.push(reason) },
      renew: async () => {
        const answer = answers[Math.min(asked.length, answers.length - 1)]
        asked.push(Math.round(env.monotonic() - beganAtMs))
        if (answer === 'away') throw new Error('the store is away')
        return answer === true
      },
    })
    return { env, lease, asked, lost }
  }

  it('come three times in a lease, and each confirmed one prolongs it', async () => {
    const { env, lease, asked, lost } = beating([true])
    await env.advance('30s')
    expect(asked.slice(0, 3)).toEqual([3_333, 6_667, 10_000])
    expect([lease.held, lost]).toEqual([true, []])
    lease.stop()
    const before = asked.length
    await env.advance('30s')
    expect([asked.length, lease.held, lease.signal.aborted, env.pendingTimers]).toEqual([before, false, false, 0])
  })

  it('are repeated sooner while the store does not answer, and it is given up at nine tenths', async () => {
    const { env, lease, asked, lost } = beating(['away'])
    await env.advance('8900ms')
    expect([asked.slice(0, 3), lease.held]).toEqual([[3_333, 4_167, 5_000], true])
    await env.advance('100ms')
    expect([lease.held, lost]).toEqual([false, ['it ran out before the store confirmed it again']])
    const before = asked.length
    await env.advance('30s')
    expect([asked.length, env.pendingTimers]).toEqual([before, 0])
  })

  it('that the store answers again keep it', async () => {
    const { env, lease, asked, lost } = beating(['away', 'away', true])
    await env.advance('20s')
    expect([asked.slice(2, 4), lease.held, lost]).toEqual([[5_000, 8_333], true, []])
    lease.stop()
  })

  it('that are refused end it at once, with the reason, once', async () => {
    const { env, lease, asked, lost } = beating([true, false])
    await env.advance('6700ms')
    expect([lease.held, lost, asked.length]).toEqual([false, ['another instance took over'], 2])
    expect(lease.signal.reason).toMatchObject({ code: 'HF_LEASE_LOST', message: 'lease x was lost: another instance took over', context: { lease: 'lease x' } })
    lease.lose('again')
    await env.advance('30s')
    expect([lost.length, env.pendingTimers]).toEqual([1, 0])
  })

  it('that come after the end are a loss and ask nobody: the process stood still', async () => {
    const { env, lease, asked, lost } = beating([true])
    env.pause()
    await env.advance('9s')
    env.resume()
    await env.settle()
    expect([asked, lease.held, lost.length]).toEqual([[], false, 1])
  })

  it.each([['confirmed', () => Promise.resolve(true)], ['refused', () => Promise.resolve(false)], ['not answered', () => Promise.reject(new Error('away'))]] as const)('on their way when it is given back and then %s change nothing more', async (_how, answer) => {
    const env = simulatedEnv()
    const lost: string[] = []
    const lease = new KeepAlive({ env, what: 'lease x', ttlMs: 10_000, askedAtMs: env.monotonic(), onLost: reason => { lost.push(reason) }, renew: async () => { await env.sleep(1_000); return answer() } })
    await env.advance('4s')
    lease.stop()
    await env.advance('500ms')
    expect([lease.signal.aborted, lost, env.pendingTimers]).toEqual([false, [], 0])
  })

  it('are told to stop with it', async () => {
    const env = simulatedEnv()
    let told: AbortSignal | undefined
    const lease = new KeepAlive({ env, what: 'lease x', ttlMs: 10_000, askedAtMs: env.monotonic(), renew: signal => { told = signal; return new Promise<boolean>(() => undefined) } })
    await env.advance('4s')
    expect(told?.aborted).toBe(false)
    lease.stop()
    expect(told?.aborted).toBe(true)
  })
})

describe('the end of a lease on the wall clock', () => {
  it('is a tenth before the store lets another in, and moves with a heartbeat', async () => {
    const env = simulatedEnv()
    const begunMs = env.now()
    const lease = new KeepAlive({ env, what: 'lease x', ttlMs: 10_000, askedAtMs: env.monotonic(), renew: () => Promise.resolve(true) })
    expect(lease.endsAtMs - begunMs).toBe(9_000)
    await env.advance('5s')
    expect(lease.endsAtMs - begunMs).toBeCloseTo(10_000 / 3 + 9_000)
    lease.stop()
    // Given back: nothing more may be done under it.
    expect(lease.endsAtMs).toBe(env.now())
  })

  it('does not move while the process stands still: what is sent afterwards bears a time that is over', async () => {
    const env = simulatedEnv()
    const begunMs = env.now()
    const lease = keepAlive(env)
    env.pause()
    await env.advance('30s')
    expect([env.now() - begunMs >= 30_000, lease.endsAtMs - begunMs]).toEqual([true, 9_000])
    env.resume()
    lease.stop()
  })
})
