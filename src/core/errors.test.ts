import { describe, expect, it } from 'vitest'
import { ERRORS } from './error-catalogue.ts'
import { HoldfastError, invariant, messageOf } from './errors.ts'

describe('errors', () => {
  it('carry what the catalogue says about their code, and keep the cause', () => {
    const cause = new Error('socket hang up')
    const error = new HoldfastError('HF_CALL_FAILED', { message: 'vpn-panel: add-user failed', cause, retryAfterMs: 500, context: { dependency: 'vpn-panel' } })
    expect(error).toMatchObject({ code: 'HF_CALL_FAILED', failure: 'dependency_error', retryable: true, retryAfterMs: 500, cause, docs: 'docs/errors.md#hf_call_failed' })
    expect(JSON.parse(JSON.stringify(error))).toEqual({ code: 'HF_CALL_FAILED', message: 'vpn-panel: add-user failed', operator: ERRORS.HF_CALL_FAILED.operator, retryable: true, retryAfterMs: 500 })
  })

  it('build no stack where a hot path asks for none, and leave the limit as it was', () => {
    const limit = Error.stackTraceLimit
    const error = new HoldfastError('HF_BREAKER_OPEN', { message: 'open', stackless: true })
    expect(error.stack?.split('\n')).toHaveLength(1)
    expect(Error.stackTraceLimit).toBe(limit)
  })

  it('tell an operator what to do, in a sentence, for every code', () => {
    for (const [code, entry] of Object.entries(ERRORS)) expect(entry.operator, code).toMatch(/^[A-Z].{20,}\.$/)
  })

  it('name the belief that was wrong', () => {
    expect(() => { invariant(false, 'a lease has an owner') }).toThrow(/a lease has an owner/)
  })

  it('cut an endless message', () => {
    expect(messageOf(new Error('x'.repeat(10_000)))).toHaveLength(500)
    expect(messageOf('plain')).toBe('plain')
  })
})
