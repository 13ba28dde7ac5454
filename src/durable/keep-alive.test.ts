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
