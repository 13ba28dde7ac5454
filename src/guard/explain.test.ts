import { describe, expect, it } from 'vitest'
import { EventBus } from '../core/index.ts'
import { simulatedEnv } from '../testing/index.ts'
import { breaker, compose, concurrencyLimit, deadline, dependency, retry, timeout, type DependencyOptions, type Explanation, type GuardKit } from './index.ts'

function kitOf(): GuardKit {
  const env = simulatedEnv()
  return { env, events: new EventBus(env) }
}
function explained(options: Partial<DependencyOptions>): Explanation {
  return dependency('panel', { tier: 'info', runbook: 'r', ...options }, kitOf()).explain()
}

describe('what a call costs at worst', () => {
  it('is told for the pipeline, as data and in words', () => {
    const explanation = explained({ deadline: '10s', timeout: '3s', retry: { attempts: 3 }, concurrency: 20, breaker: { failures: 5, openFor: '60s' } })
    expect(explanation).toMatchObject({ worstCaseMs: 10_000, attempts: 3, amplification: { factor: 1.2, plusPerSecond: 1 }, inFlight: 20, waiting: 20 })
    expect(explanation.order.map(layer => layer.split(' ')[0])).toEqual(['deadline', 'retry', 'breaker', 'concurrency', 'timeout', 'call'])
    expect(explanation.words.slice(1)).toEqual([
      'A caller waits at most 10 s.',
      'The work is begun up to 3 times for one call; at most 1.2 calls for one of ours in an outage that lasts, and 1 more a second.',
      'At most 20 pieces of work are held at once; up to 20 callers wait for their turn.',
      'Beware: when every attempt takes as long as it may, 2 of 3 attempts fit into the deadline of 10 s.',
    ])
  })

  it('counts hedges, and what the rate limit lets wait', () => {
    const explanation = explained({ deadline: '30s', timeout: '1s', retry: { attempts: 2 }, hedge: { after: '200ms' }, rateLimit: { limit: 10, per: '1s', maxWait: '2s' } })
    expect(explanation).toMatchObject({ attempts: 4, waiting: 121 })
    expect(explanation.order.map(layer => layer.split(' ')[0])).toEqual(['deadline', 'retry', 'hedge', 'breaker', 'rate', 'concurrency', 'timeout', 'call'])
  })

  it('is one call for one where nothing repeats', () => {
    const { attempts, amplification, words, warnings } = explained({ retry: false })
    expect([attempts, amplification, warnings]).toEqual([1, { factor: 1, plusPerSecond: 0 }, []])
    expect(words).toContain('The work is begun once for one call; never more than one call for one of ours.')
  })

  it('is the sum of its parts for a composition: without a deadline, queue, timeouts and waits add up', () => {
    const kit = kitOf()
    const explanation = compose([retry({ attempts: 3, minWait: '1s', backoff: 'constant', budget: { ratio: 5, perSecond: 0 } }, kit), breaker('panel', {}, kit), concurrencyLimit('panel', { limit: 2, queue: 4 }, kit), timeout('3s', kit)], kit).explain()
    // Two rounds of the queue and the call itself, three times, and two waits.
    expect(explanation.worstCaseMs).toBe(3 * (3_000 * 3) + 2_000)
    expect(explanation.amplification.factor).toBe(3)
    expect(explanation.warnings).toEqual(['a Retry-After may ask for any wait, and no deadline bounds it'])
    expect(compose([deadline('5s', kit), retry({ attempts: 2 }, kit)], kit).explain()).toMatchObject({ worstCaseMs: 5_000, warnings: [] })
  })

  it('says so where nothing bounds it', () => {
    const explanation = compose([retry({}, kitOf())]).explain()
    expect(explanation).toMatchObject({ worstCaseMs: undefined, inFlight: undefined })
    expect(explanation.words).toContain('A caller waits for ever when the work hangs: nothing bounds it.')
  })
})

describe('a deadline without room for the waits between attempts', () => {
  it('is refused at definition, naming both', () => {
    expect(() => explained({ deadline: '5s', retry: { attempts: 4, minWait: '2s' } })).toThrow('dependency panel: retry: expected waits between 4 attempts that the deadline of 5 s has room for, got at least 6 s')
    const kit = kitOf()
    expect(() => compose([deadline('5s', kit), retry({ attempts: 4, minWait: '2s' }, kit)], kit)).toThrow('at least 6 s')
  })
})
