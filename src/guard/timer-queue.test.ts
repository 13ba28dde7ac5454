import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { TimerEntry, timerQueue, TimerQueue } from './timer-queue.ts'

class Probe extends TimerEntry {
  readonly #env: SimulatedEnv
  firedAt: number | undefined

  constructor(env: SimulatedEnv) {
    super()
    this.#env = env
  }

  expire(): void {
    this.firedAt = this.#env.monotonic()
  }
}

describe('the shared timer', () => {
  it('fires every entry exactly when it is due, whatever is added and removed in whatever order', async () => {
    const steps = fc.array(fc.record({ ms: fc.constantFrom(1, 5, 10, 10.5, 37, 100, 1_000), wait: fc.nat(20), remove: fc.option(fc.nat(50)) }), { minLength: 1, maxLength: 60 })
    await fc.assert(fc.asyncProperty(steps, async script => {
      const env = simulatedEnv()
      const queue = new TimerQueue(env)
      const probes: { probe: Probe; dueAt: number; removedAt: number | undefined }[] = []
      for (const step of script) {
        const probe = new Probe(env)
        queue.add(probe, step.ms, env.monotonic())
        probes.push({ probe, dueAt: env.monotonic() + step.ms, removedAt: undefined })
        const victim = step.remove === null ? undefined : probes[step.remove]
        if (victim !== undefined && victim.probe.firedAt === undefined && victim.removedAt === undefined) {
          queue.remove(victim.probe)
          victim.removedAt = env.monotonic()
        }
        await env.advance(step.wait)
      }
      await env.advance('2s')
      for (const { probe, dueAt, removedAt } of probes) expect(probe.firedAt).toBe(removedAt === undefined ? dueAt : undefined)
      expect(env.pendingTimers).toBe(0)
    }), { numRuns: 100, seed: 9 })
  })

  it('is one timer of the Env for a thousand entries', () => {
    const env = simulatedEnv()
    const queue = timerQueue(env)
    expect(timerQueue(env)).toBe(queue)
    for (let index = 0; index < 1_000; index += 1) queue.add(new Probe(env), 1_000 - index % 7, 0)
    expect(env.pendingTimers).toBe(1)
  })

  it('lets an entry that expires add another, which fires too', async () => {
    const env = simulatedEnv()
    const queue = new TimerQueue(env)
    const second = new Probe(env)
    class Chain extends TimerEntry {
      expire(): void { queue.add(second, 5, env.monotonic()) }
    }
    queue.add(new Chain(), 10, 0)
    await env.advance('1s')
    expect(second.firedAt).toBe(15)
  })
})
