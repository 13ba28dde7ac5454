/**
 * Every mechanism is needed and its absence is found: with it the scenario holds, without it a violation comes.
 */
import { describe, expect, it } from 'vitest'
import { KNOCK_OUTS, withMechanism, withoutMechanism } from './knock-outs.ts'

Error.stackTraceLimit = 0

describe('knock-outs', () => {
  it.each(KNOCK_OUTS)('$name', async knockOut => {
    expect((await withMechanism(knockOut)).violation).toBeUndefined()
    const { violation, schedules } = await withoutMechanism(knockOut)
    expect(violation?.violations.join('; ') ?? `not missed in ${String(schedules)} schedules`).toMatch(knockOut.finds)
    // Small enough to read: what does not matter was dropped.
    expect(violation?.schedule.faults.length).toBeLessThanOrEqual(3)
  })
})
