import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Duration, durationMs, humanDuration, sizeBytes } from './duration.ts'

describe('durations', () => {
  it('read every unit', () => {
    expect(['250ms', '3s', '5m', '2h', '7d', '1.5s'].map(value => durationMs(value as Duration, 'x'))).toEqual([250, 3_000, 300_000, 7_200_000, 604_800_000, 1_500])
  })

  it.each(['-3s', 'NaNs', 'Infinitym', '0s', '3sec', '3', '', ' 3s', '1e3s', '99999d'])('refuse %j with what was expected and got', value => {
    expect(() => durationMs(value as Duration, 'dependency vpn-panel: timeout')).toThrow(/dependency vpn-panel: timeout: expected a duration .* got/)
  })

  it('allow zero only where it was asked for', () => {
    expect(durationMs('0s', 'x', { min: 0 })).toBe(0)
  })

  it('are finite and positive for every number that is accepted', () => {
    fc.assert(fc.property(fc.double({ noNaN: true }), fc.constantFrom('ms', 's', 'm', 'h', 'd'), (count, unit) => {
      let ms = 1
      try {
        ms = durationMs(`${String(count)}${unit}` as Duration, 'x')
      } catch {
        return
      }
      expect(ms).toBeGreaterThanOrEqual(1)
      expect(Number.isFinite(ms)).toBe(true)
    }))
  })

  it('compile only with a unit', () => {
    // @ts-expect-error a bare number has no unit
    expect(() => durationMs(3_000, 'x')).toThrow()
    // @ts-expect-error a misspelt unit
    expect(() => durationMs('3sec', 'x')).toThrow()
  })

  it('are said in two units at most', () => {
    expect([250, 90_000, 540_000, 3_600_000 * 25 + 61_000].map(humanDuration)).toEqual(['250 ms', '1 min 30 s', '9 min', '1 d 1 h'])
  })
})

describe('sizes', () => {
  it('read powers of 1024 and refuse the rest', () => {
    expect(sizeBytes('10mb', 'x')).toBe(10_485_760)
    expect(() => sizeBytes('-1kb', 'body limit')).toThrow(/body limit: expected a size/)
  })
})
