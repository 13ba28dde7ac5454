import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalJson, checkInput, decodeJson, encodeJson, type Schema } from './json.ts'

describe('what is journalled', () => {
  it.each([['a Date', new Date(0)], ['a Map', new Map()], ['a function', () => 1], ['NaN', Number.NaN], ['a bigint', 1n], ['a deep Date', { a: [{ b: new Date(0) }] }]])('is refused when it is %s', (_what, value) => {
    expect(() => encodeJson(value, 'saga provision: step add-user')).toThrow(/saga provision: step add-user: .* does not survive a restart/)
  })

  it('is refused when it is a cycle', () => {
    const loop: Record<string, unknown> = {}
    loop['self'] = loop
    expect(() => encodeJson(loop, 'x')).toThrow(/nested deeper/)
  })

  it('comes back as it was', () => {
    fc.assert(fc.property(fc.jsonValue({ maxDepth: 5 }), value => {
      expect(decodeJson(encodeJson(value, 'x'))).toEqual(JSON.parse(JSON.stringify(value)))
    }))
  })

  it('is null when a step returns nothing', () => {
    expect(encodeJson(undefined, 'x')).toBe('null')
  })
})

describe('canonical text', () => {
  it('does not depend on the order of keys, and leaves undefined out', () => {
    expect(canonicalJson({ b: 1, a: { d: [1, { y: 1, x: 2 }], c: null }, u: undefined })).toBe(canonicalJson({ a: { c: null, d: [1, { x: 2, y: 1 }] }, b: 1 }))
  })
})

describe('input', () => {
  const schema: Schema<{ id: string }> = {
    '~standard': { version: 1, vendor: 'test', validate: value => (typeof (value as { id?: unknown }).id === 'string' ? { value: value as { id: string } } : { issues: [{ message: 'expected a string', path: ['id'] }] }) },
  }

  it('is decoded by its schema, or refused with every issue and its path', async () => {
    await expect(checkInput(schema, { id: 'a' }, 'once refund')).resolves.toEqual({ id: 'a' })
    await expect(checkInput(schema, { id: 1 }, 'once refund')).rejects.toMatchObject({ code: 'HF_INPUT_INVALID', message: 'once refund: id: expected a string' })
  })
})
