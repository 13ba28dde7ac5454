import { describe, expect, it } from 'vitest'
import type { Duration } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { resolveConcurrency, type ConcurrencyOptions } from './limit.ts'
import { Slots, Waiter, type Priority } from './slots.ts'

function slotsOf(options: number | ConcurrencyOptions): { readonly slots: Slots; readonly env: SimulatedEnv; readonly join: (priority?: Priority, leftMs?: number) => Waiter } {
  const env = simulatedEnv()
  const slots = new Slots(resolveConcurrency(options, 'test'), env)
  return {
    slots, env,
    join: (priority, leftMs = 1_000) => {
      expect(slots.tryTake(priority)).toBe(false)
      const waiter = slots.join(leftMs, env.monotonic(), priority)
      if (typeof waiter === 'string') throw new Error(`refused: ${waiter}`)
      return waiter
    },
  }
}

function take(slots: Slots, times: number, priority?: Priority): void {
  for (let taken = 0; taken < times; taken += 1) expect(slots.tryTake(priority)).toBe(true)
}

describe('while there are slots', () => {
  it('as many are taken as the limit says, and one that is given back can be taken again', () => {
    const { slots } = slotsOf(2)
    take(slots, 2)
    expect(slots.tryTake()).toBe(false)
    slots.give()
    expect(slots.tryTake()).toBe(true)
    expect([slots.inFlight, slots.limit]).toEqual([2, 2])
  })

  it('background work begins while less than its share of them is taken, so that a reserve stays for the others', () => {
    const { slots } = slotsOf({ limit: 10 })
    take(slots, 8, 'background')
    expect(slots.tryTake('background')).toBe(false)
    take(slots, 2, 'critical')
  })

  it('control: with a share of 1 it takes them all', () => {
    const { slots } = slotsOf({ limit: 10, backgroundShare: 1 })
    take(slots, 10, 'background')
    expect(slots.tryTake('critical')).toBe(false)
  })

  it('background work gets one slot at least, or it would never run', () => {
    const { slots } = slotsOf({ limit: 1, backgroundShare: 0 })
    take(slots, 1, 'background')
  })
})

describe('in the queue', () => {
  it('whoever is more important is served first, and within one priority whoever came first', () => {
    const { slots, join } = slotsOf({ limit: 1, queue: 10 })
    take(slots, 1)
    const served: string[] = []
    const names = [['background', 'b1'], ['normal', 'n1'], ['critical', 'c1'], ['normal', 'n2'], ['critical', 'c2'], ['background', 'b2']] as const
    const waiters = names.map(([priority, name]) => [name, join(priority)] as const)
    for (let turn = 0; turn < 6; turn += 1) {
      slots.give()
      for (const [name, waiter] of waiters) if (waiter.ending === 'granted' && !served.includes(name)) served.push(name)
    }
    expect(served).toEqual(['c1', 'c2', 'n1', 'n2', 'b1', 'b2'])
  })

  it('a newcomer takes the place of the youngest of the least important when it is full', () => {
    const { slots, join } = slotsOf({ limit: 1, queue: 3 })
    take(slots, 1)
    const [old, normal, young] = [join('background'), join('normal'), join('background')]
    const newcomer = join('normal')
    expect([old.ending, normal.ending, young.ending, newcomer.ending]).toEqual(['waiting', 'waiting', 'overloaded', 'waiting'])
    expect(slots.queued).toBe(3)
    join('critical')
    expect(old.ending).toBe('overloaded')
    join('critical')
    expect(newcomer.ending).toBe('overloaded')
  })

  it('nobody is displaced for an equal', () => {
    const { slots, env, join } = slotsOf({ limit: 1, queue: 1 })
    take(slots, 1, 'critical')
    const first = join('critical')
    for (const priority of ['critical', 'normal', 'background'] as const) expect(slots.join(1_000, env.monotonic(), priority)).toBe('overloaded')
    expect(first.ending).toBe('waiting')
  })

  it('background work waits for as long as others keep four fifths of the slots busy, and leaves at its deadline', async () => {
    const { slots, env, join } = slotsOf({ limit: 5, queue: 10 })
    take(slots, 5)
    const background = join('background', 1_000)
    for (let turn = 0; turn < 9; turn += 1) {
      const normal = join()
      slots.give()
      expect(normal.ending).toBe('granted')
      await env.advance(100)
    }
    expect(background.ending).toBe('waiting')
    await env.advance(200)
    expect(background.ending).toBe('deadline')
  })

  it('it is served when the others leave its share free', () => {
    const { slots, join } = slotsOf({ limit: 5, queue: 10 })
    take(slots, 5)
    const background = join('background')
    slots.give()
    expect(background.ending).toBe('waiting')
    slots.give()
    expect([background.ending, slots.inFlight]).toEqual(['granted', 4])
  })

  it('who gives up leaves at once, and the place is free', () => {
    const { slots, join } = slotsOf({ limit: 1, queue: 1 })
    take(slots, 1)
    const waiter = join()
    waiter.aborted()
    expect([waiter.ending, slots.queued]).toEqual(['cancelled', 0])
    join()
  })
})

describe('what is left of a deadline', () => {
  /** One slot, in which work has been seen to take 100 ms. */
  function busy(options: { readonly queue?: number; readonly margin?: Duration } = {}): ReturnType<typeof slotsOf> {
    const made = slotsOf({ limit: 1, queue: 10, ...options })
    take(made.slots, 1)
    made.slots.observe(100, 'success', 0)
    return made
  }

  it('must be as much as the work typically takes: else the place is left, that long before the deadline', async () => {
    const { env, join } = busy()
    const waiter = join('normal', 150)
    await env.advance(49)
    expect(waiter.ending).toBe('waiting')
    await env.advance(1)
    expect(waiter.ending).toBe('deadline')
  })

  it('control: without a margin one waits until nothing is left', async () => {
    const { env, join } = busy({ margin: '0ms' })
    const waiter = join('normal', 150)
    await env.advance(149)
    expect(waiter.ending).toBe('waiting')
    await env.advance(1)
    expect(waiter.ending).toBe('deadline')
  })

  it('must be as much as the margin that was given', async () => {
    const { env, join } = busy({ margin: '30ms' })
    const waiter = join('normal', 150)
    await env.advance(119)
    expect(waiter.ending).toBe('waiting')
    await env.advance(1)
    expect(waiter.ending).toBe('deadline')
  })

  it('must cover those ahead, or one is not let in to wait for nothing', () => {
    const { slots, env, join } = busy()
    join('normal', 5_000)
    join('normal', 5_000)
    expect(slots.join(299, env.monotonic())).toBe('deadline')
    expect(slots.join(300, env.monotonic())).toBeInstanceOf(Waiter)
    // Nobody is ahead of the critical.
    expect(slots.join(150, env.monotonic(), 'critical')).toBeInstanceOf(Waiter)
  })

  it('who has too little displaces nobody', () => {
    const { slots, env, join } = busy({ queue: 1 })
    const background = join('background')
    expect(slots.join(50, env.monotonic(), 'critical')).toBe('deadline')
    expect(background.ending).toBe('waiting')
  })

  it('is looked at again when the turn comes, because the work may have become longer', async () => {
    const { slots, env, join } = busy()
    const hopeless = join('normal', 300)
    const patient = join('normal', 5_000)
    await env.advance(100)
    for (let call = 0; call < 20; call += 1) slots.observe(1_000, 'success', env.monotonic())
    slots.give()
    expect([hopeless.ending, patient.ending]).toEqual(['deadline', 'granted'])
  })

  it('lasts longer when the work has become shorter', async () => {
    const { slots, env, join } = busy()
    const waiter = join('normal', 150)
    for (let call = 0; call < 100; call += 1) slots.observe(10, 'success', env.monotonic())
    await env.advance(135)
    expect(waiter.ending).toBe('waiting')
    await env.advance(10)
    expect(waiter.ending).toBe('deadline')
    expect(env.pendingTimers).toBe(0)
  })

  it('a cancelled or refused piece of work says nothing about how long work takes', () => {
    const { slots } = busy()
    slots.observe(9_000, 'neither', 0)
    expect(slots.typicalMs).toBe(100)
  })
})

describe('when an adaptive limit moves', () => {
  const adaptive = { adaptive: { initial: 10, min: 2 }, queue: 20 }

  it('shrunk below what is in flight, nothing begins until that has fallen', async () => {
    const { slots, env, join } = slotsOf(adaptive)
    take(slots, 10)
    for (let window = 0; window < 10; window += 1) {
      for (let call = 0; call < 10; call += 1) slots.observe(50, 'failure', env.monotonic())
      await env.advance('1s')
    }
    slots.observe(50, 'failure', env.monotonic())
    expect(slots.limit).toBe(3)
    const waiter = join()
    while (slots.inFlight > 3) {
      expect(waiter.ending).toBe('waiting')
      slots.give()
    }
    slots.give()
    expect([waiter.ending, slots.inFlight]).toEqual(['granted', 3])
  })

  it('grown, those who wait begin at once, and background keeps to its share of the new limit', async () => {
    const { slots, env, join } = slotsOf(adaptive)
    take(slots, 10)
    const waiters = [join('normal', 10_000), join('normal', 10_000), join('normal', 10_000)]
    const background = join('background', 10_000)
    for (let call = 0; call < 10; call += 1) slots.observe(50, 'success', env.monotonic())
    await env.advance('1s')
    slots.observe(50, 'success', env.monotonic())
    expect(slots.limit).toBe(13)
    expect(waiters.map(one => one.ending)).toEqual(['granted', 'granted', 'granted'])
    expect([background.ending, slots.inFlight]).toEqual(['waiting', 13])
    for (let given = 0; given < 4; given += 1) slots.give()
    expect([background.ending, slots.inFlight]).toEqual(['granted', 10])
  })

  it('a limit of 1 grows, whether results come before or after their slot is given back', async () => {
    for (const late of [false, true]) {
      const { slots, env } = slotsOf({ adaptive: { initial: 1 } })
      for (let call = 0; call < 30; call += 1) {
        take(slots, 1)
        await env.advance(50)
        if (late) slots.give()
        slots.observe(50, 'success', env.monotonic())
        if (!late) slots.give()
      }
      expect(slots.limit).toBeGreaterThan(1)
    }
  })
})
