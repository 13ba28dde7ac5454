import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { createHoldfast } from '../app/index.ts'
import { isHoldfastError } from '../core/index.ts'
import { crashTest, type CrashTestOptions } from './crash-test.ts'
import { parseSchedule } from './schedule.ts'

class Shop {
  readonly charges = new Set<string>()
  shipped = 0
  done = false
}

/** `keyed` false: a bank that forgets keys, and a program that does not look before it asks again. */
function shop(keyed: boolean): CrashTestOptions<Shop> {
  let forgotten = 0
  return {
    outside: () => new Shop(),
    run: async (process, outside) => {
      const { store, env } = process
      const hold = createHoldfast({ service: 'shop', store, env, log: 'silent' })
      const order = hold.saga('order', { version: 1, input: z.object({ id: z.string() }), run: async step => {
        await step('charge', { effect: 'idempotent', run: async ({ key }) => { await process.call('charge', () => { outside.charges.add(keyed ? key : String(forgotten++)) }) } })
        await step('ship', { write: async ({ tx }) => { tx.table('shipped').set(String(tx.sequence('shipped')), { id: 'o1' }) } })
      } })
      await hold.start()
      while (!outside.done) {
        outside.done = (await order.start('o1', { id: 'o1' })).outcome === 'done'
        await env.sleep(5_000)
      }
    },
    over: ({ done }) => done,
    check: ({ charges }, disk) => [...(charges.size === 1 ? [] : [`charged ${String(charges.size)} times`]), ...(disk.rows('shipped').length === 1 ? [] : [`shipped ${String(disk.rows('shipped').length)} times`])],
    schedules: 150,
  }
}

describe('a crash test over an app', () => {
  it('passes every crash point of a saga that holds', async () => {
    const { schedules, points } = await crashTest(shop(true))
    expect(schedules).toBe(150)
    expect(points).toEqual(expect.arrayContaining(['before saga.start', 'after saga.intent', 'before call charge', 'after call charge', 'commit saga.write', 'after saga.finish']))
  })

  it('fails where a bank forgets keys, with the smallest schedule, which fails again', async () => {
    const failure = await crashTest(shop(false)).catch((error: unknown) => error)
    if (!isHoldfastError(failure)) throw new Error('it passed')
    expect(failure.code).toBe('HF_CRASH_TEST_FAILED')
    expect(failure.message).toMatch(/charged [2-9] times\n {2}p1 .* call charge/)
    const replay = parseSchedule(String(failure.context['schedule']))
    expect(replay.faults).toHaveLength(1)
    await expect(crashTest({ ...shop(false), replay })).rejects.toMatchObject({ code: 'HF_CRASH_TEST_FAILED' })
    expect(await crashTest({ ...shop(true), replay })).toMatchObject({ schedules: 1 })
  })

  it('fails where it never comes to an end', async () => {
    await expect(crashTest({ outside: () => ({}), run: () => undefined, over: () => false, check: () => [], withinMs: 60_000 })).rejects.toThrow('not over within 60 s of virtual time')
  })

  it('boots again what throws', async () => {
    let boots = 0
    await crashTest({ outside: () => ({}), run: () => { boots += 1; if (boots % 3 !== 0) throw new Error('not yet') }, over: () => boots % 3 === 0 && boots > 0, check: () => [], schedules: 1 })
    expect(boots).toBe(3)
  })
})
