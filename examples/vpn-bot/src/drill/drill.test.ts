import { realEnv } from 'holdfast/core'
import { describe, expect, it } from 'vitest'
import { carryOut, type Scenario, type ScenarioResult } from './kit.ts'
import { SCENARIOS } from './scenarios/index.ts'
import { type Control } from './without.ts'

const env = realEnv()
const run = (scenario: Scenario, without?: Control): Promise<ScenarioResult> => carryOut(scenario, { seed: 1, without }, () => env.monotonic())
const named = (name: string): Scenario => {
  const found = SCENARIOS.find(scenario => scenario.name === name)
  if (found === undefined) throw new RangeError(`no scenario is called ${name}`)
  return found
}

describe('every drill of the bot', () => {
  it.each(SCENARIOS.map(scenario => [scenario.name, scenario] as const))('%s', async (_, scenario) => {
    const { checks, invariants } = await run(scenario)
    expect(checks.filter(check => !check.ok)).toEqual([])
    expect(invariants).toEqual([])
    expect(checks.length).toBeGreaterThan(2)
  })
})

describe('with a protection taken away, a drill fails', () => {
  it.each<[Control, string, RegExp]>([
    ['once-keys', 'duplicate-updates', /on record and was never charged/],
    ['inbox', 'duplicate-updates', /one welcome/],
    ['adoption', 'panel-answer-lost', /paid and not fulfilled/],
    ['adoption', 'superseded-order-paid', /has a key on the panel/],
    ['panel-names', 'expiry-races-renewal', /keys on the panel/],
    ['charge-first', 'payments-off-after-charge', /was made and is not on record/],
  ])('without %s: %s', async (control, name, symptom) => {
    const { ok, checks, invariants } = await run(named(name), control)
    expect(ok).toBe(false)
    expect([...checks.filter(check => !check.ok).map(check => check.what), ...invariants].join('\n')).toMatch(symptom)
  })

  it('and a scenario that throws has failed', async () => {
    const { ok, checks } = await run({ name: 'x', about: 'x', run: () => Promise.reject(new Error('boom')) })
    expect(ok).toBe(false)
    expect(checks.at(-1)?.detail).toContain('boom')
  })
})
