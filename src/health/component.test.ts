import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Tier } from '../core/index.ts'
import { afterResult, unknownHealth, type CheckResult } from './component.ts'

const GOOD: CheckResult = { kind: 'good' }
const POOR: CheckResult = { kind: 'poor', reason: 'slow' }
const FAILED: CheckResult = { kind: 'failed', reason: 'refused' }

function states(tier: Tier, ...results: readonly CheckResult[]): readonly string[] {
  let health = unknownHealth(tier)
  return [health.state, ...results.map(result => {
    health = afterResult(health, tier, result)
    return health.state
  })]
}

describe('a required component', () => {
  it('is not taken for granted before its first result, which decides at once', () => {
    expect(states('required', GOOD)).toEqual(['unavailable', 'healthy'])
    expect(states('required', FAILED)).toEqual(['unavailable', 'degraded'])
  })

  it('stays healthy over one failure, is unavailable after two in a row, and back after one success', () => {
    expect(states('required', GOOD, FAILED, GOOD, FAILED, FAILED, FAILED, GOOD)).toEqual(
      ['unavailable', 'healthy', 'healthy', 'healthy', 'healthy', 'unavailable', 'unavailable', 'healthy'])
  })

  it('is degraded, not unavailable, when it only answers slowly', () => {
    expect(states('required', GOOD, POOR, POOR, POOR)).toEqual(['unavailable', 'healthy', 'healthy', 'degraded', 'degraded'])
    expect(states('required', GOOD, FAILED, POOR, FAILED)).toEqual(['unavailable', 'healthy', 'healthy', 'degraded', 'degraded'])
  })

  it('does not get better by failing a check when it is known to be away', () => {
    const away = { state: 'unavailable', reason: 'said so', known: true, bad: 0, failed: 0 } as const
    expect(afterResult(away, 'required', FAILED).state).toBe('unavailable')
    expect(afterResult(away, 'required', POOR).state).toBe('degraded')
  })
})

describe('any component', () => {
  it('never leaves healthy on a single bad result, never becomes unavailable unless required, and says why', () => {
    fc.assert(fc.property(fc.constantFrom<Tier>('required', 'degradable', 'info'), fc.array(fc.constantFrom(GOOD, POOR, FAILED), { minLength: 1 }), (tier, results) => {
      let health = unknownHealth(tier)
      let badRow = 0
      for (const result of results) {
        const before = health
        health = afterResult(health, tier, result)
        badRow = result.kind === 'good' ? 0 : badRow + 1
        if (before.known && before.state === 'healthy' && badRow < 2) expect(health.state).toBe('healthy')
        if (badRow === 0) expect(health.state).toBe('healthy')
        if (badRow >= 2) expect(health.state).not.toBe('healthy')
        if (tier !== 'required') expect(health.state).not.toBe('unavailable')
        if (health.state !== 'healthy') expect(health.reason).not.toBe('ok')
      }
    }), { seed: 5, numRuns: 1_000 })
  })
})
