import { spawn } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import { describe, expect, it } from 'vitest'
import { realEnv } from './env.ts'

describe('the real world', () => {
  it('puts one listener on a signal that many sleeps share, wakes all of them, and leaves none', async () => {
    const env = realEnv()
    const controller = new AbortController()
    const asleep = Array.from({ length: 50 }, () => env.sleep(60_000, controller.signal))
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(1)
    controller.abort()
    await Promise.all(asleep)
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  })

  it('wakes a sleep at once when its signal aborts', async () => {
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

  /** What is seen first when an answer arrives and a timer comes due while the event loop stands still. */
  async function afterStall(arm: (fire: () => void) => void): Promise<readonly string[]> {
    const sender = spawn(process.execPath, ['-e', "process.stdin.once('data', () => setTimeout(() => process.stdout.write('x'), 50)); process.stdout.write('ready')"], { stdio: ['pipe', 'pipe', 'inherit'] })
    await once(sender.stdout, 'data')
    const order: string[] = []
    const answered = once(sender.stdout, 'data').then(() => order.push('answer'))
    sender.stdin.write('go')
    const fired = new Promise<void>(resolve => { arm(() => { order.push('timeout'); resolve() }) })
    // From here the loop goes to its timers first and to what has arrived afterwards.
    await new Promise(resolve => { setImmediate(resolve) })
    const until = performance.now() + 1_500
    while (performance.now() < until) order.length = 0
    await Promise.all([answered, fired])
    sender.kill()
    return order
  }

  it('reads what has arrived before it fires what came due while the event loop stood still', async () => {
    expect(await afterStall(fire => { realEnv().timer(100, fire, { keepAlive: true }) })).toEqual(['answer', 'timeout'])
  })

  it('control: setTimeout itself fires first', async () => {
    expect(await afterStall(fire => { setTimeout(fire, 100) })).toEqual(['timeout', 'answer'])
  })
})
