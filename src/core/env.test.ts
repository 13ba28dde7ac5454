import { describe, expect, it } from 'vitest'
import { realEnv } from './env.ts'

describe('the real world', () => {
  it('wakes a sleep at once when its signal aborts, and leaves no listener on it', async () => {
    const env = realEnv()
    const controller = new AbortController()
    const begun = env.monotonic()
    const asleep = env.sleep(60_000, controller.signal)
    controller.abort()
    await asleep
    expect(env.monotonic() - begun).toBeLessThan(5_000)
  })

  it('does not fire a timer beyond 2^31 ms at once', async () => {
    const env = realEnv()
    let fired = false
    const timer = env.timer(2 ** 31 + 5, () => { fired = true })
    await env.sleep(20)
    timer.cancel()
    expect(fired).toBe(false)
  })

  it('fires a short one, and not one that was cancelled', async () => {
    const env = realEnv()
    let fired = 0
    env.timer(1, () => { fired += 1 })
    env.timer(1, () => { fired += 10 }).cancel()
    await env.sleep(30)
    expect(fired).toBe(1)
  })
})
