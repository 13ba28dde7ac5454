import { describe, expect, it, vi } from 'vitest'
import type { Control } from '../drill/without.ts'
import { type Plan, planOf, quiet } from './plan.ts'
import { runSchedule } from './run.ts'
import { mixtures, search, shrink, singleKills } from './search.ts'

// Minutes of a machine that is busy with other tests, too.
vi.setConfig({ testTimeout: 300_000 })

describe('a purchase', () => {
  it.each(['card', 'crypto'] as const)('by %s without any trouble comes to rest within seconds, by fewer operations than troubles are drawn for', async purchase => {
    const { broken, operations, tookMs } = await runSchedule(quiet(purchase))
    expect(broken).toEqual([])
    expect(operations).toBeGreaterThan(30)
    expect(operations).toBeLessThan(70)
    expect(tookMs).toBeLessThan(10_000)
  })

  it.each(['card', 'crypto'] as const)('by %s survives the death of its process before and after each of its operations', async purchase => {
    const plans = await singleKills(purchase)
    const found = await search(plans)
    expect(found.failures).toEqual([])
    expect(found.schedules).toBe(plans.length)
    for (const state of ['killed between the charge and its record', 'killed between the record and the key', 'killed between the key and its record', 'killed while a message was being sent']) {
      expect(found.reached.get(state), state).toBeGreaterThan(0)
    }
  })
})

describe('a schedule', () => {
  it('is replayed by its number: the same operations in the same order, the same end', async () => {
    for (const seed of [3, 17, 24, 101, 204]) {
      const [first, second] = [await runSchedule(planOf(seed)), await runSchedule(planOf(seed))]
      expect(second).toEqual(first)
    }
    expect((await runSchedule(planOf(3))).hash).not.toBe((await runSchedule(planOf(4))).hash)
  })

  it('is data: written as JSON and read again it is the same one', () => {
    for (let seed = 1; seed <= 200; seed++) expect(JSON.parse(JSON.stringify(planOf(seed)))).toEqual(planOf(seed))
  })
})

describe('with a protection taken away, the same schedules find harm', () => {
  const all = async function (): Promise<readonly Plan[]> {
    return [...await singleKills('card'), ...await singleKills('crypto'), ...mixtures(1, 1_000)]
  }
  it.each<[Control, RegExp]>([
    ['once-keys', /never charged|payments on record/],
    ['fences', /thanked 2 times|delivered 2 times/],
    ['panel-names', /2 keys/],
  ])('without %s', async (control, symptom) => {
    // Harm, and not merely a bot that never works: without troubles it does.
    for (const purchase of ['card', 'crypto'] as const) expect((await runSchedule(quiet(purchase), { without: control })).broken).toEqual([])
    const found = await search(await all(), { without: control })
    expect(found.failures[0]?.broken.join('\n')).toMatch(symptom)
    expect(found.schedules).toBeLessThan(1_000)
  })

  it('and a failure is made small: troubles that have nothing to do with it are left out', async () => {
    const [kill] = (await search(await singleKills('card'), { without: 'panel-names' })).failures
    const cause = kill?.plan.troubles ?? []
    const noisy: Plan = {
      ...quiet('card'), ...kill?.plan, troubles: [
        { kind: 'partner', partner: 'cryptoPay', rule: { match: { operation: 'transfer' }, fault: { kind: 'malformed' } } },
        ...cause,
        { kind: 'partner', partner: 'telegram', rule: { match: { operation: 'sendPhoto' }, fault: { kind: 'delay', ms: 50 } } },
      ],
    }
    expect((await runSchedule(noisy, { without: 'panel-names' })).broken).not.toEqual([])
    expect((await shrink(noisy, { without: 'panel-names' })).troubles).toEqual(cause)
  })
})
