import { describe, expect, it } from 'vitest'
import { FLOWS } from './flows/index.ts'
import { memoryTier, play } from './play.ts'

describe('flows', () => {
  it.each(FLOWS)('$name: without faults everything is over and holds', async flow => {
    const played = await play(memoryTier, { flow }, { seed: 1, faults: [] })
    expect(played.violations).toEqual([])
  })
})
