/**
 * The published figures: the page says what the figures say, and every anomaly that was found is there with its explanation.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { added, NOTHING, recoveryOf, type Reliability, type Section } from './figures.ts'
import { PLANS } from './plan.ts'
import { rendered } from './render.ts'

const DOCS = resolve(import.meta.dirname, '../../../docs')
const reliability = JSON.parse(readFileSync(join(DOCS, 'reliability.json'), 'utf8')) as Reliability
const sections = PLANS.flatMap(plan => {
  const section = reliability.sections[plan.name]
  return section === undefined ? [] : [[plan.name, section] as const]
})

describe('docs/reliability.md', () => {
  it('is what docs/reliability.json renders to', () => {
    expect(readFileSync(join(DOCS, 'reliability.md'), 'utf8')).toBe(rendered(reliability))
  })

  it('would not be, with another figure', () => {
    const [name, section] = sections[0] ?? []
    if (name === undefined || section === undefined) throw new Error('no section was published')
    const other: Section = { ...section, count: section.count + 1_000 }
    expect(rendered({ ...reliability, sections: { ...reliability.sections, [name]: other } })).not.toBe(rendered(reliability))
  })
})

it('every section of the long run is published at its full length', () => {
  const short = PLANS.filter(plan => (reliability.sections[plan.name]?.count ?? 0) < plan.count)
  expect(short.map(plan => plan.name)).toEqual([])
})

describe.each(sections)('the published run of %s', (name, section) => {
  it('broke no promise that nobody has explained', () => {
    expect(section.explained?.length ?? 0).toBe(section.anomalies)
  })

  it('found every protection missing that was taken away', () => {
    expect(Object.entries(section.control).filter(([, found]) => !/^found|^[1-9]\d* anomalies/.test(found))).toEqual([])
    // Simulated schedules have their controls in a section of their own, and those on PGlite in their test.
    if (name !== 'simulation' && name !== 'pglite') expect(Object.keys(section.control).length).toBeGreaterThan(0)
  })

  it('ran on a commit and not on something in between', () => {
    expect(section.commit).toMatch(/^[0-9a-f]{12}$/)
  })
})

describe('figures', () => {
  it('add up, part by part', () => {
    const part = { ...NOTHING, count: 2, faults: { die: 1 }, reached: { a: 1 }, sums: { x: 3 }, recoveriesMs: [5], control: { p: 'found' }, seconds: 1.5 }
    const sum = added([part, { ...part, faults: { die: 2, pause: 1 }, control: { q: 'not found' } }])
    expect(sum).toMatchObject({ count: 4, faults: { die: 3, pause: 1 }, reached: { a: 2 }, sums: { x: 6 }, recoveriesMs: [5, 5], control: { p: 'found', q: 'not found' }, seconds: 3 })
  })

  it('give the median and the longest of recoveries', () => {
    expect(recoveryOf([30, 10, 20])).toEqual({ n: 3, medianMs: 20, p99Ms: 30, maxMs: 30 })
    expect(recoveryOf([])).toBeUndefined()
  })
})
