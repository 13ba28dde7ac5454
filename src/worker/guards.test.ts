import { describe, expect, it } from 'vitest'
import type { SystemState } from '../core/index.ts'
import { Guards } from './guards.ts'
import type { HeldLeadership, Need, WorkerDeps } from './options.ts'

const patient = new AbortController().signal
const guards = (needs: readonly Need[], deps: WorkerDeps = {}): Guards => new Guards('mailer', { needs }, deps)
const dependency = (name: string, allows: boolean): Need => ({ kind: 'dependency', name, allows: () => allows })
const flag = (name: string, ok: boolean): Need => ({ kind: 'flag', name, check: (where: string) => ok ? { ok: true } : { ok: false, message: `${where}: ${name} is off` } }) as unknown as Need

describe('what a worker needs', () => {
  it('is looked at again when just that has changed', () => {
    const both = guards([dependency('panel', true), flag('sales', true)])
    expect([both.concerns('dependency', 'panel'), both.concerns('flag', 'sales'), both.concerns('dependency', 'sales'), both.concerns('flag', 'panel'), both.concerns('flag', 'other')]).toEqual([true, true, false, false, false])
    expect(guards(['healthy', 'leader']).concerns('flag', 'healthy')).toBe(false)
    expect([guards(['healthy']).needsSystem, guards(['not-unavailable']).needsSystem, guards(['leader', dependency('panel', true)]).needsSystem]).toEqual([true, true, false])
  })

  it('is asked in the order in which it is declared, and the first no is the reason', async () => {
    expect(await guards([dependency('panel', true), flag('sales', true)]).refusal(patient)).toBeUndefined()
    expect(await guards([dependency('panel', false), flag('sales', false)]).refusal(patient)).toBe('dependency panel takes no calls now')
    expect(await guards([flag('sales', false), dependency('panel', false)]).refusal(patient)).toBe('worker mailer: sales is off')
  })

  it.each<[Need, SystemState | undefined, string | undefined]>([
    ['healthy', 'healthy', undefined], ['healthy', 'degraded', 'the system is degraded'], ['healthy', 'unavailable', 'the system is unavailable'], ['healthy', undefined, undefined],
    ['not-unavailable', 'healthy', undefined], ['not-unavailable', 'degraded', undefined], ['not-unavailable', 'unavailable', 'the system is unavailable'],
  ])('%s while the system is %s: %s', async (need, state, refusal) => {
    expect(await guards([need], state === undefined ? {} : { systemState: () => state }).refusal(patient)).toBe(refusal)
  })
})

describe('leadership', () => {
  function office(answers: (HeldLeadership | undefined | Error)[]) {
    const asked: (AbortSignal | undefined)[] = []
    let released = 0
    const held = { held: true, signal: patient, release: async () => { released += 1 } }
    const lease = { acquire: async (options?: { readonly signal?: AbortSignal }) => {
      asked.push(options?.signal)
      const answer = answers.shift()
      if (answer instanceof Error) throw answer
      return answer
    } }
    return { asked, held, deps: { lease }, released: () => released }
  }

  it('is asked for last, once, with the patience of who asks, and kept', async () => {
    const desk = office([])
    const closed = guards(['leader', dependency('panel', false)], desk.deps)
    expect([await closed.refusal(patient), desk.asked, closed.leader]).toEqual(['dependency panel takes no calls now', [], false])
    const other = office([])
    const leading = guards(['leader'], { lease: { acquire: async options => { await other.deps.lease.acquire(options); return other.held } } })
    expect([leading.leader, leading.leadership]).toEqual([false, undefined])
    expect([await leading.refusal(patient), await leading.refusal(patient), other.asked, leading.leader, leading.leadership]).toEqual([undefined, undefined, [patient], true, other.held])
    expect(guards([dependency('panel', true)]).leader).toBeUndefined()
    await leading.release()
    await leading.release()
    expect([other.released(), leading.leader]).toEqual([1, false])
  })

  it('that is another\'s, or lost, or cannot be found out, is a reason', async () => {
    const held = { held: true, signal: patient, release: async () => { throw new Error('was lost, so nothing is released') } }
    const desk = office([undefined, held, new Error('the store is away')])
    const waiting = guards(['leader'], desk.deps)
    expect(await waiting.refusal(patient)).toBe('another instance leads')
    expect(await waiting.refusal(patient)).toBeUndefined()
    held.held = false
    expect([waiting.leader, await waiting.refusal(patient)]).toEqual([false, 'who leads cannot be found out: the store is away'])
    await waiting.release()
    expect(await guards(['leader']).refusal(patient)).toBe('another instance leads')
  })
})
