import { expect, it } from 'vitest'
import { mixtures, search } from './search.ts'

const FIRST = 1001
const COUNT = 1_000

// Two files of a thousand, for two workers; `npm run schedules -- vpn-bot --count 10000` runs ten thousand.
it(`every promise holds in ${String(COUNT)} seeded mixtures of deaths, zombies, lost answers and misbehaving partners, from ${String(FIRST)}, and everything that matters is reached`, async () => {
  const found = await search(mixtures(FIRST, COUNT))
  expect(found.failures).toEqual([])
  expect(found.schedules).toBe(COUNT)
  expect(found.missed).toEqual([])
}, 600_000)
