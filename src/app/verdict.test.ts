import { describe, expect, it } from 'vitest'
import { verdictOf, type VerdictFacts } from './verdict.ts'

const well: VerdictFacts = { phase: 'ready', state: 'healthy', since: 0, at: 90_000, components: [], dependencies: [], faults: [], flags: [], work: [] }

const panel = { name: 'vpn-panel', tier: 'degradable', breaker: 'open', since: 0, retryAfterMs: 40_000, limit: 20, inFlight: 0, queued: 0, abandoned: 0, calls: 9, failures: 5, refusals: 4, retries: 2, retriesSuppressed: 0, hedges: 0, timeouts: 0, runbook: 'vpn-panel-down' } as const

describe('the verdict', () => {
  it('is short when nothing is wrong', () => {
    expect(verdictOf(well).sentence).toBe('All is well.')
  })

  it('names the failing dependency, since when, and when it is tried again', () => {
    expect(verdictOf({ ...well, state: 'degraded', dependencies: [panel] }).sentence).toBe(
      'Degraded for 1 min 30 s. vpn-panel is failing (breaker open, next try in 40 s); what needs it waits and nothing is lost.',
    )
  })

  it('does not say the same dependency twice when its health component is degraded too', () => {
    const component = { tier: 'degradable', state: 'degraded', reason: 'breaker open', since: 0 } as const
    const components = [{ ...component, name: 'vpn-panel' }, { ...component, name: 'vpn-panel-ping' }]
    expect(verdictOf({ ...well, state: 'degraded', dependencies: [panel], components }).sentence.match(/vpn-panel/g)).toHaveLength(1)
  })

  it('says what a switch that is off means for customers, and who did it', () => {
    const flags = [{ name: 'payments', on: false, because: 'console:alice: card fraud', whenOff: 'Customers are told that payments are paused.', pinned: false }]
    expect(verdictOf({ ...well, flags }).sentence).toBe('Everything answers. payments is switched off (console:alice: card fraud): customers are told that payments are paused.')
  })

  it('says first that somebody breaks calls on purpose, and nothing of a plan that is not armed or does nothing', () => {
    const plan = { name: 'panel-chaos', state: 'armed', active: true, production: true, injected: 3, armed: { by: 'cli:alice', reason: 'drill', until: 150_000 } } as const
    expect(verdictOf({ ...well, faults: [plan] }).sentence).toBe('Everything answers. panel-chaos breaks calls on purpose for 1 min more (cli:alice: drill).')
    const { armed: _armed, ...on } = plan
    for (const quiet of [{ ...plan, active: false }, { ...on, state: 'on' as const }]) expect(verdictOf({ ...well, faults: [quiet] }).sentence).toBe('All is well.')
  })

  it('counts what needs a person', () => {
    const item = { kind: 'outbox', name: 'delivery', id: '1', state: 'unknown', since: 0, reason: 'timeout', actions: [] } as const
    expect(verdictOf({ ...well, work: [item, item] }).sentence).toContain('2 things need a person')
  })

  it('says that it drains', () => {
    expect(verdictOf({ ...well, phase: 'draining' }).sentence).toContain('Draining')
  })
})
