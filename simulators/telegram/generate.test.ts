import { describe, expect, it } from 'vitest'
import { checkUpdate, fixtureUpdates, generateUpdates, kindOf } from './index.ts'
import { botApi } from './schema.ts'
import { kindsOfUpdates } from './generate.ts'

describe('generated updates', () => {
  it('are all valid by the schema', () => {
    const wrong = generateUpdates({ seed: 3, count: 600 }).flatMap(update => checkUpdate(update).map(problem => `${kindOf(update)}: ${problem}`))
    expect(wrong).toEqual([])
  })

  it('would be found out by the validator when one is broken', () => {
    const [update] = generateUpdates({ seed: 3, count: 1 })
    expect(checkUpdate({ ...update, message: { ...(update?.['message'] as object), date: 'yesterday' } })).toEqual(['Update.message.date: expected a whole number, got "yesterday"'])
    expect(checkUpdate({ ...update, message: { ...(update?.['message'] as object), shout: 1 } })).toEqual(['Update.message.shout: not a field of Message'])
    expect(checkUpdate({ update_id: 1, message: { message_id: 1, date: 1 } })).toEqual(['Update.message.chat: expected to be there (Message)'])
    expect(checkUpdate({ update_id: 1 })).toHaveLength(1)
  })

  it('hold every kind of update and every field of a message that the Bot API knows', () => {
    const updates = generateUpdates({ seed: 1, count: kindsOfUpdates() + 2 })
    const kinds = new Set(updates.map(kindOf))
    const fields = new Set(updates.flatMap(update => Object.keys((update['message'] as object | undefined) ?? {})))
    for (const name of botApi().types.get('Update')?.fields.keys() ?? []) if (name !== 'update_id') expect(kinds, name).toContain(name)
    for (const name of botApi().types.get('Message')?.fields.keys() ?? []) expect(fields, name).toContain(name)
  })

  it('are the same for the same seed and others for another', () => {
    const text = (seed: number): string => JSON.stringify(generateUpdates({ seed, count: 250 }))
    expect(text(5)).toBe(text(5))
    expect(text(5)).not.toBe(text(6))
  })

  it('are numbered one after the other, and an album shares its group', () => {
    const updates = generateUpdates({ seed: 1, count: 300, startId: 10 })
    expect(updates.map(update => update.update_id)).toEqual(updates.map((_, index) => index + 10))
    const groups = updates.map(update => (update['message'] as { media_group_id?: string } | undefined)?.media_group_id).filter(group => group !== undefined)
    expect(new Set(groups).size).toBeLessThan(groups.length)
  })

  it('take well under a second', () => {
    const start = performance.now()
    for (const update of generateUpdates({ seed: 1, count: 1_000 })) checkUpdate(update)
    expect(performance.now() - start).toBeLessThan(1_000)
  })
})

describe('recorded updates', () => {
  it('are all there, numbered, one kind each', () => {
    const fixtures = fixtureUpdates()
    expect(fixtures.map(fixture => fixture.name)).toContain('message_with_invoice.json')
    for (const { update } of fixtures) {
      expect(typeof update.update_id).toBe('number')
      expect(Object.keys(update)).toHaveLength(2)
    }
  })
})
