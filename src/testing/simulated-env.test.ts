import { describe, expect, it } from 'vitest'
import { simulatedEnv } from './simulated-env.ts'

describe('time', () => {
  it('fires timers in order and only as far as time has passed', async () => {
    const env = simulatedEnv()
    const fired: string[] = []
    env.timer(2_000, () => fired.push('b'))
    env.timer(1_000, () => fired.push('a'))
    env.timer(3_000, () => fired.push('c'))
    await env.advance('2s')
    expect(fired).toEqual(['a', 'b'])
    expect(env.monotonic()).toBe(2_000)
  })

  it('lets a loop of sleeps run through', async () => {
    const env = simulatedEnv()
    let rounds = 0
    void (async () => { for (;;) { await env.sleep(1_000); rounds += 1 } })()
    await env.advance('10s')
    expect(rounds).toBe(10)
  })

  it('moves the wall clock without moving monotonic time', async () => {
    const env = simulatedEnv()
    const at = env.now()
    env.jump(-3_600_000)
    await env.advance('1s')
    expect(env.now()).toBe(at - 3_600_000 + 1_000)
    expect(env.monotonic()).toBe(1_000)
  })

  it('orders equal times by the seed, the same way every time', async () => {
    const orderOf = async (seed: number): Promise<string> => {
      const env = simulatedEnv({ seed })
      let order = ''
      for (const name of 'abcdefgh') env.timer(10, () => { order += name })
      await env.advance(10)
      return order
    }
    expect(await orderOf(7)).toBe(await orderOf(7))
    expect(await orderOf(7)).not.toBe(await orderOf(8))
  })

  it('wakes a sleep at once when its signal aborts, and leaves no timer', async () => {
    const env = simulatedEnv()
    const controller = new AbortController()
    let awake = false
    void env.sleep(60_000, controller.signal).then(() => { awake = true })
    controller.abort()
    await env.settle()
    expect(awake).toBe(true)
    expect(env.pendingTimers).toBe(0)
  })
})

describe('network', () => {
  it('routes by origin and refuses what nobody serves', async () => {
    const env = simulatedEnv({ latencyMs: [5, 20] })
    env.serve('http://panel.test', async request => new Response(new URL(request.url).pathname))
    let answer = ''
    let refused = ''
    void env.fetch('http://panel.test/x').then(async response => { answer = await response.text() })
    void env.fetch('http://other.test/').catch((error: unknown) => { refused = String((error as Error).message) })
    await env.advance('1s')
    expect([answer, refused]).toEqual(['/x', 'fetch failed'])
  })

  it('rejects at once when the signal aborts', async () => {
    const env = simulatedEnv()
    env.serve('http://panel.test', () => new Promise(() => undefined))
    const controller = new AbortController()
    let name = ''
    void env.fetch('http://panel.test/', { signal: controller.signal }).catch((error: unknown) => { name = (error as Error).name })
    await env.settle()
    controller.abort()
    await env.settle()
    expect(name).toBe('AbortError')
  })
})

describe('processes', () => {
  it('never settles anything of a killed process, while its request is still applied', async () => {
    const world = simulatedEnv({ latencyMs: [10, 10] })
    const victim = world.process()
    let applied = 0
    let settled = 0
    world.serve('http://panel.test', async () => { applied += 1; return new Response('ok') })
    void victim.fetch('http://panel.test/').finally(() => { settled += 1 })
    void victim.sleep(1_000).then(() => { settled += 1 })
    await world.settle()
    victim.kill()
    await world.advance('5s')
    expect([applied, settled]).toEqual([1, 0])
  })

  it('holds what comes due while a process is paused, and runs it on resume', async () => {
    const world = simulatedEnv()
    const frozen = world.process()
    let at = -1
    void frozen.sleep(1_000).then(() => { at = world.monotonic() })
    frozen.pause()
    await world.advance('30s')
    expect(at).toBe(-1)
    frozen.resume()
    await world.settle()
    expect(at).toBe(30_000)
  })
})
