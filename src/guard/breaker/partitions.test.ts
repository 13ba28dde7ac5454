import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { EventBus, type HoldfastEvents } from '../../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/index.ts'
import { REFUSED, type Gate } from './gate.ts'
import { PartitionVotes, type Voter } from './partition-votes.ts'
import { breakerPartitions, type BreakerPartitions, type BreakerPartitionsOptions } from './partitions.ts'

interface Fixture {
  readonly env: SimulatedEnv
  readonly panel: BreakerPartitions
  readonly changes: (HoldfastEvents['breaker.partition.changed'] | (HoldfastEvents['breaker.changed'] & { readonly partition?: undefined }))[]
}

function partitions(options: BreakerPartitionsOptions = {}): Fixture {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const changes: Fixture['changes'] = []
  events.on('breaker.changed', ({ data }) => { changes.push(data) })
  events.on('breaker.partition.changed', ({ data }) => { changes.push(data) })
  return { env, changes, panel: breakerPartitions('panel', options, { env, events }) }
}

/** One call; whether it was made. */
function call({ env, panel }: Fixture, partition: string, result: 'success' | 'failure' | 'neither'): boolean {
  const gate = panel.of(partition)
  const permit = gate.acquire(env.monotonic())
  if (permit === REFUSED) return false
  gate.settle(permit, result, env.monotonic(), 1)
  return true
}

function fails(fixture: Fixture, partition: string, times: number): void {
  for (let number = 0; number < times; number += 1) call(fixture, partition, 'failure')
}

function opened(fixture: Fixture, partition: string): void {
  fails(fixture, partition, 5)
  expect(fixture.panel.of(partition).allows(), partition).toBe(false)
}

describe('a partition', () => {
  it('that fails is left alone, and its neighbours are not', () => {
    const fixture = partitions()
    for (const tenant of ['a', 'b', 'c', 'd', 'e', 'f']) call(fixture, tenant, 'success')
    opened(fixture, 'a')
    expect(call(fixture, 'a', 'success')).toBe(false)
    expect(call(fixture, 'b', 'success')).toBe(true)
    expect(fixture.panel.of('a').retryAfterMs).toBe(60_000)
    expect(fixture.panel.of('a').refusal).toBe('panel (a) is left alone because its breaker is open; it tries again in 1 min')
    expect(fixture.changes).toEqual([{ dependency: 'panel', partition: 'a', from: 'closed', to: 'open', reason: '5 consecutive failures, the last', retryAfterMs: 60_000 }])
    expect(fixture.panel.snapshot()).toMatchObject({ size: 6, notClosed: 1, partitions: [{ partition: 'a', state: 'open', failures: 5, retryAfterMs: 60_000 }], parent: { state: 'closed' } })
  })

  it('tries again by trials when its time is over, and closes', async () => {
    const fixture = partitions()
    opened(fixture, 'a')
    expect(fixture.env.pendingTimers).toBe(0)
    await fixture.env.advance('60s')
    const gate = fixture.panel.of('a')
    const trials = [1, 2, 3].map(() => gate.acquire(fixture.env.monotonic()))
    expect(trials).not.toContain(REFUSED)
    expect(gate.acquire(fixture.env.monotonic())).toBe(REFUSED)
    for (const permit of trials.slice(0, 2)) gate.settle(permit, 'success', fixture.env.monotonic(), 1)
    expect(fixture.panel.snapshot()).toMatchObject({ notClosed: 0, partitions: [] })
    expect(fixture.changes.map(({ to }) => to)).toEqual(['open', 'half-open', 'closed'])
  })

  it('gives its trial back when the breaker above refuses', async () => {
    const fixture = partitions({ each: { trialCalls: 1 } })
    opened(fixture, 'a')
    fixture.panel.parent?.force('open', { by: 'a', reason: 'b' })
    await fixture.env.advance('60s')
    expect(call(fixture, 'a', 'success')).toBe(false)
    fixture.panel.parent?.release({ by: 'a', reason: 'b' })
    expect(call(fixture, 'a', 'success')).toBe(true)
  })

  it('gets its trial back from a call whose permit above is void, once that is settled', async () => {
    const fixture = partitions({ each: { trialCalls: 1 } })
    opened(fixture, 'a')
    await fixture.env.advance('60s')
    const gate = fixture.panel.of('a')
    const permit = gate.acquire(fixture.env.monotonic())
    fixture.panel.parent?.force('open', { by: 'a', reason: 'b', forMs: 1_000 })
    expect(gate.holds(permit)).toBe(false)
    await fixture.env.advance('1s')
    expect(gate.allows(), 'control: unsettled it keeps the place').toBe(false)
    gate.settle(permit, 'neither', fixture.env.monotonic(), 0)
    expect(gate.allows()).toBe(true)
  })

  it('is not changed by results from before it opened', async () => {
    const fixture = partitions()
    const gate = fixture.panel.of('a')
    const stale = gate.acquire(fixture.env.monotonic())
    opened(fixture, 'a')
    expect(gate.holds(stale)).toBe(false)
    await fixture.env.advance('60s')
    gate.acquire(fixture.env.monotonic())
    gate.settle(stale, 'failure', fixture.env.monotonic(), 1)
    expect(fixture.panel.snapshot().partitions[0]?.state).toBe('half-open')
  })

  it('in shadow mode refuses nothing and says what it would have done', () => {
    const fixture = partitions({ each: { shadow: true } })
    const heard: HoldfastEvents['breaker.shadowed'][] = []
    fixture.panel.kit.events.on('breaker.shadowed', ({ data }) => { heard.push(data) })
    fails(fixture, 'a', 9)
    expect(call(fixture, 'a', 'success')).toBe(true)
    expect(heard).toMatchObject([{ dependency: 'panel', partition: 'a', from: 'closed', to: 'open' }])
    expect(fixture.changes).toEqual([])
  })
})

describe('the breaker above the partitions', () => {
  it('opens for all when half of the partitions that are active fail', () => {
    const fixture = partitions()
    const tenants = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']
    for (const tenant of tenants) call(fixture, tenant, 'success')
    for (const tenant of tenants.slice(0, 4)) fails(fixture, tenant, 1)
    expect(fixture.panel.parent?.snapshot().state).toBe('closed')
    fails(fixture, 'e', 1)
    expect(fixture.changes).toEqual([{
      dependency: 'panel', from: 'closed', to: 'open', reason: '5 of 10 partitions within 10 s failed (50 %, limit 50 %)', retryAfterMs: 60_000,
    }])
    expect(call(fixture, 'j', 'success')).toBe(false)
    expect(call(fixture, 'never seen', 'success')).toBe(false)
    expect(fixture.panel.of('j').refusal).toBe('panel is left alone because its breaker is open; it tries again in 1 min')
  })

  it('is not opened by one partition, however busy it is', async () => {
    const fixture = partitions({ each: { failures: 1_000 } })
    for (const tenant of ['b', 'c', 'd', 'e']) call(fixture, tenant, 'success')
    for (let second = 0; second < 9; second += 1) {
      fails(fixture, 'a', 100)
      await fixture.env.advance('1s')
    }
    expect(fixture.panel.parent?.snapshot().state).toBe('closed')
  })

  it('control: a rate over all calls would be opened by it', () => {
    const fixture = partitions({ each: { failures: 1_000 }, parent: { failureRate: {} } })
    for (const tenant of ['b', 'c', 'd', 'e']) call(fixture, tenant, 'success')
    fails(fixture, 'a', 100)
    expect(fixture.panel.parent?.snapshot().state).toBe('open')
  })

  it('takes a partition by its latest result, within the window', async () => {
    const fixture = partitions()
    for (const tenant of ['a', 'b', 'c']) fails(fixture, tenant, 1)
    await fixture.env.advance('10s')
    for (const tenant of ['d', 'e', 'f', 'g']) call(fixture, tenant, 'success')
    fails(fixture, 'd', 1)
    fails(fixture, 'e', 1)
    call(fixture, 'd', 'success')
    expect(fixture.panel.parent?.snapshot().state).toBe('closed')
    fails(fixture, 'f', 1)
    call(fixture, 'h', 'success')
    expect(fixture.panel.parent?.snapshot().state).toBe('closed')
    fails(fixture, 'h', 1)
    expect(fixture.changes.at(-1)).toMatchObject({ to: 'open', reason: '3 of 5 partitions within 10 s failed (60 %, limit 50 %)' })
  })

  it('closes by trials of whichever partition comes, and starts its count afresh', async () => {
    const fixture = partitions()
    for (const tenant of ['a', 'b', 'c', 'd', 'e']) fails(fixture, tenant, 1)
    expect(fixture.panel.parent?.snapshot().state).toBe('open')
    await fixture.env.advance('60s')
    expect(call(fixture, 'x', 'success')).toBe(true)
    expect(call(fixture, 'a', 'success')).toBe(true)
    expect(fixture.panel.parent?.snapshot()).toMatchObject({ state: 'closed' })
    fails(fixture, 'b', 1)
    expect(fixture.panel.parent?.snapshot().state).toBe('closed')
  })

  it('may be left out', () => {
    const fixture = partitions({ parent: false })
    for (const tenant of ['a', 'b', 'c', 'd', 'e', 'f']) opened(fixture, tenant)
    expect(call(fixture, 'g', 'success')).toBe(true)
    expect(fixture.panel.snapshot().parent).toBeUndefined()
  })
})

describe('the number of partitions', () => {
  it('never exceeds max: the closed one that was used least recently makes room, an open one never', () => {
    const fixture = partitions({ max: 3, parent: false })
    opened(fixture, 'open')
    for (const tenant of ['a', 'b']) fails(fixture, tenant, 4)
    call(fixture, 'a', 'neither')
    call(fixture, 'new', 'success')
    expect(fixture.panel.size).toBe(3)
    expect(fixture.panel.of('open').allows()).toBe(false)
    fails(fixture, 'a', 1)
    expect(fixture.panel.of('a').allows(), 'a was kept, and this was its fifth failure').toBe(false)
    fails(fixture, 'b', 1)
    expect(fixture.panel.of('b').allows(), 'b was forgotten').toBe(true)
  })

  it('while all are open: further partitions share one breaker, and get one of their own when there is room', async () => {
    const fixture = partitions({ max: 2, parent: false })
    opened(fixture, 'a')
    opened(fixture, 'b')
    fails(fixture, 'c', 5)
    expect(call(fixture, 'd', 'success'), 'd shares with c').toBe(false)
    expect(fixture.panel.size).toBe(2)
    expect(fixture.panel.snapshot().overflow).toMatchObject({ partition: '*', state: 'open' })
    await fixture.env.advance('60s')
    call(fixture, 'a', 'success')
    call(fixture, 'a', 'success')
    expect(call(fixture, 'd', 'success')).toBe(true)
    expect(fixture.panel.size).toBe(2)
    expect(fixture.panel.of('b').allows()).toBe(true)
  })

  it('shrinks by what was not used for idleFor, which begins anew', async () => {
    const fixture = partitions({ parent: false, idleFor: '5m' })
    opened(fixture, 'gone')
    fails(fixture, 'almost', 4)
    for (let number = 0; number < 20; number += 1) call(fixture, `tenant-${String(number)}`, 'success')
    await fixture.env.advance('4m')
    call(fixture, 'busy', 'success')
    await fixture.env.advance('2m')
    const kept = fixture.panel.of('almost')
    expect(kept.acquire(fixture.env.monotonic())).not.toBe(REFUSED)
    fails(fixture, 'almost', 1)
    expect(fixture.panel.of('almost').allows(), 'its four failures were too old').toBe(true)
    expect(fixture.panel.snapshot()).toMatchObject({ size: 2, notClosed: 0 })
    expect(call(fixture, 'gone', 'success')).toBe(true)
  })

  it('refuses names that cannot be meant, and settings by which one partition would open the breaker of all', () => {
    const { panel } = partitions()
    expect(() => panel.of('')).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }))
    expect(() => panel.of('x'.repeat(257))).toThrow('1 to 256 characters')
    expect(() => partitions({ parent: { partitionRate: { minimumPartitions: 2 } } })).toThrow('more than 2 for the ratio 0.5')
    expect(() => partitions({ idleFor: '10s' })).toThrow('an open partition would be forgotten')
    expect(() => partitions({ max: 0 })).toThrow('max')
    expect(() => partitions({ parent: { partitionRate: false } })).toThrow('a rule that opens it')
  })

  it('costs nothing while they are idle: no timer, less than a kilobyte each', () => {
    const fixture = partitions({ max: 20_000 })
    setFlagsFromString('--expose-gc')
    const gc = runInNewContext('gc') as () => void
    gc()
    const before = process.memoryUsage().heapUsed
    const gates: Gate[] = []
    for (let number = 0; number < 20_000; number += 1) gates.push(fixture.panel.of(`tenant-${String(number)}`))
    gc()
    const bytesEach = (process.memoryUsage().heapUsed - before) / gates.length
    expect(fixture.env.pendingTimers).toBe(0)
    expect(bytesEach).toBeGreaterThan(100)
    expect(bytesEach).toBeLessThan(1_000)
  })
})

describe('partitions, beside a model', () => {
  it('never exceed max, never forget an open one for another, and count votes as a list of latest results does', () => {
    const step = fc.record({ tenant: fc.nat(9), result: fc.constantFrom<'success' | 'failure' | 'neither'>('success', 'failure', 'failure', 'neither'), waitMs: fc.constantFrom(0, 0, 0, 500, 5_000, 61_000) })
    fc.assert(fc.property(fc.array(step, { maxLength: 150 }), fc.constantFrom(2, 4, 10), (steps, max) => {
      const env = simulatedEnv()
      let time = 0
      const handEnv = Object.assign(Object.create(env) as SimulatedEnv, { monotonic: () => time, now: () => time, timer: () => ({ cancel: () => undefined }) })
      const panel = breakerPartitions('panel', { max, each: { failures: 2, probeEvery: false }, parent: false }, { env: handEnv, events: new EventBus(env) })
      const openUntil = new Map<string, number>()
      panel.kit.events.on('breaker.partition.changed', ({ data }) => {
        if (data.partition === '*') return
        if (data.to === 'open') openUntil.set(data.partition, time + 60_000)
        else openUntil.delete(data.partition)
      })
      for (const { tenant, result, waitMs } of steps) {
        time += waitMs
        const gate = panel.of(String(tenant))
        const permit = gate.acquire(time)
        const until = openUntil.get(String(tenant))
        if (until !== undefined && time < until) expect(permit).toBe(REFUSED)
        if (permit !== REFUSED) gate.settle(permit, result, time, 1)
        expect(panel.size).toBeLessThanOrEqual(max)
        expect(panel.snapshot().notClosed).toBe(panel.snapshot().partitions.length)
      }
    }), { numRuns: 300, seed: 3 })
  })

  it('votes: one per partition and by its latest result, exact at every moment', () => {
    const step = fc.record({ voter: fc.nat(5), failing: fc.boolean(), waitMs: fc.constantFrom(0, 1, 9, 10, 40, 99, 100, 250), newEra: fc.constantFrom(false, false, false, false, true) })
    fc.assert(fc.property(fc.array(step, { maxLength: 80 }), steps => {
      const votes = new PartitionVotes(100)
      const voters: Voter[] = Array.from({ length: 6 }, () => ({ votedUnder: 0, votedAt: 0, votedFailing: false }))
      let latest = new Map<number, { at: number; failing: boolean }>()
      let now = 0
      let era = 1
      for (const { voter, failing, waitMs, newEra } of steps) {
        now += waitMs
        if (newEra) {
          era += 1
          latest = new Map()
        }
        votes.cast(voters[voter] as Voter, era, failing, now)
        latest.set(voter, { at: now, failing })
        const seen = [...latest.values()].filter(vote => Math.floor(vote.at / 10) > Math.floor(now / 10) - 10)
        expect([votes.voters, votes.failing]).toEqual([seen.length, seen.filter(vote => vote.failing).length])
      }
    }), { numRuns: 1_000, seed: 5 })
  })
})
