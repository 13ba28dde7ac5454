import { beforeEach, describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { Pump, type PumpOptions } from './pump.ts'

describe('a pump', () => {
  let env: SimulatedEnv
  /** What is due, and what was asked for: how many at what time. */
  let due: string[]
  let asked: [atMs: number, free: number][]
  let ended: string[]
  let away: boolean
  beforeEach(() => { env = simulatedEnv(); due = []; asked = []; ended = []; away = false })

  const make = (change: Partial<PumpOptions<string>> = {}): Pump<string> => new Pump<string>({
    env, concurrency: 2, pollMs: 1_000, drainMs: 5_000,
    take: async free => {
      asked.push([env.monotonic(), free])
      if (away) throw new Error('the store is away')
      return due.splice(0, free)
    },
    run: async (item, signal) => {
      await env.sleep(100, signal)
      ended.push(signal.aborted ? `${item} cut` : item)
    },
    ...change,
  })
  const times = (): readonly number[] => asked.map(([atMs]) => atMs)

  it('asks every pollMs while nothing is due, once however often it is started', async () => {
    const pump = make()
    expect(pump.running).toBe(false)
    pump.start()
    pump.start()
    await env.advance(2_500)
    expect([pump.running, times()]).toEqual([true, [0, 1_000, 2_000]])
    const stopped = pump.stop()
    await env.settle()
    expect([await stopped, pump.running, env.pendingTimers]).toEqual([0, false, 0])
  })

  it('works on so many at a time, and asks for more as soon as one has ended', async () => {
    due = ['a', 'b', 'c']
    const pump = make()
    pump.start()
    await env.advance(50)
    expect([pump.inFlight, asked]).toEqual([2, [[0, 2]]])
    await env.advance(100)
    expect([ended.toSorted(), pump.inFlight, times().slice(0, 2)]).toEqual([['a', 'b'], 1, [0, 100]])
    await env.advance(100)
    expect([ended.at(-1), pump.inFlight]).toEqual(['c', 0])
    const stopped = pump.stop()
    await env.settle()
    await stopped
  })

  it('is not asked for anything while all hands are full, woken or not', async () => {
    due = ['a', 'b', 'c']
    const pump = make({ run: async (_item, signal) => { await env.sleep(3_000, signal) } })
    pump.start()
    await env.advance(500)
    pump.wake()
    await env.advance(2_000)
    expect([pump.inFlight, asked]).toEqual([2, [[0, 2]]])
    await env.advance(600)
    expect(asked[1]?.[0]).toBe(3_000)
    const stopped = pump.stop()
    await env.advance(10_000)
    await stopped
  })

  it('asks at once when it is woken, also while it is asking', async () => {
    let answer: () => void = () => undefined
    const pump = make({ take: free => new Promise(resolve => { asked.push([env.monotonic(), free]); answer = () => { resolve([]) } }) })
    pump.start()
    await env.advance(10)
    pump.wake()
    answer()
    await env.settle()
    expect(asked.length).toBe(2)
    answer()
    await env.advance(300)
    pump.wake()
    await env.settle()
    expect(times()).toEqual([0, 10, 310])
    const stopped = pump.stop()
    answer()
    await env.settle()
    await stopped
  })

  it('asks an absent store ever less often, whoever wakes it, and at its pace again afterwards', async () => {
    away = true
    const pump = make({ pollMs: 3_000 })
    pump.start()
    await env.advance(20_000)
    expect(times()).toEqual([0, 3_000, 9_000, 19_000])
    await env.advance(10_000)
    expect(times().at(-1)).toBe(29_000)
    away = false
    await env.advance(10_000)
    const back = times().at(-1)
    await env.advance(3_000)
    expect(times().at(-1)).toBe((back ?? 0) + 3_000)
    const stopped = pump.stop()
    await env.settle()
    await stopped
  })

  it('does not spin on an absent store while work ends beside it', async () => {
    due = ['500', '600']
    const pump = make({
      take: async free => {
        asked.push([env.monotonic(), free])
        if (asked.length === 1) return due.splice(0, free)
        await env.sleep(200)
        throw new Error('away')
      },
      run: async ms => { await env.sleep(Number(ms)) },
    })
    pump.start()
    // The second one ends in the middle of a question that fails: that is no reason to ask again at once.
    await env.advance(1_600)
    expect(times()).toEqual([0, 500])
    await env.advance(200)
    expect(times()).toEqual([0, 500, 1_700])
    const stopped = pump.stop()
    await env.advance(5_000)
    await stopped
  })

  it('takes nothing new once it stops, and waits for what is in flight and no longer', async () => {
    due = ['a', 'b', 'c']
    const pump = make()
    pump.start()
    await env.advance(50)
    let left: number | undefined
    void pump.stop().then(count => { left = count })
    await env.advance(40)
    expect(left).toBeUndefined()
    await env.advance(20)
    expect([left, ended.toSorted(), asked.length, due, env.pendingTimers]).toEqual([0, ['a', 'b'], 1, ['c'], 0])
  })

  it('cuts off what is in flight when draining took too long, and says how many', async () => {
    due = ['a', 'b']
    const pump = make({ run: async (item, signal) => { await env.sleep(60_000, signal); ended.push(signal.aborted ? `${item} cut` : item) } })
    pump.start()
    await env.advance(50)
    let left: number | undefined
    void pump.stop().then(count => { left = count })
    await env.advance(4_900)
    expect(left).toBeUndefined()
    await env.advance(200)
    expect([left, ended.toSorted()]).toEqual([2, ['a cut', 'b cut']])
  })

  it('starts again after a stop, and what it takes then is not cut off', async () => {
    const pump = make()
    expect(await pump.stop()).toBe(0)
    pump.start()
    await env.advance(10)
    const stopped = pump.stop()
    await env.settle()
    await stopped
    due = ['a']
    pump.start()
    await env.advance(150)
    expect(ended).toEqual(['a'])
    const again = pump.stop()
    await env.settle()
    expect(await again).toBe(0)
  })

  it('passes over what is due without the loop: at most so many items, so many at a time', async () => {
    due = ['a', 'b', 'c', 'd', 'e']
    const pump = make()
    const passed = pump.pass(3)
    await env.advance(1_000)
    expect([await passed, asked.map(([, free]) => free), ended.toSorted(), due]).toEqual([3, [2, 1], ['a', 'b', 'c'], ['d', 'e']])
    const rest = pump.pass(10)
    await env.advance(1_000)
    expect([await rest, asked.slice(2).map(([, free]) => free)]).toEqual([2, [2, 2]])
  })
})
