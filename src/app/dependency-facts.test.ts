/**
 * What a dependency has learned, where operators look: status, metrics, and what a call costs at worst.
 */
import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import type { Dependency } from '../guard/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { createHoldfast, type DependencyStatus, type Holdfast } from './index.ts'

function service(): { env: SimulatedEnv; hold: Holdfast } {
  const env = simulatedEnv()
  return { env, hold: createHoldfast({ service: 'shop', env, environment: {}, log: 'silent' }) }
}

async function statusOf(env: SimulatedEnv, hold: Holdfast, name: string): Promise<DependencyStatus | undefined> {
  const status = hold.status()
  await env.settle()
  return (await status).dependencies.find(each => each.name === name)
}

async function fail(env: SimulatedEnv, dependency: Dependency, times: number, partition?: string): Promise<void> {
  for (let time = 0; time < times; time += 1) {
    const outcome = dependency.try('get', { effect: 'read', ...(partition === undefined ? {} : { partition }) }, () => { throw Object.assign(new Error('down'), { status: 503 }) })
    await env.advance('10s')
    await outcome
  }
}

const LABEL = { tier: 'degradable', runbook: 'down' } as const

/** One dependency for each thing that there is to see. */
async function eventful(): Promise<{ env: SimulatedEnv; hold: Holdfast }> {
  const { env, hold } = service()
  const slow = hold.dependency('slow', { ...LABEL, retry: false, hedge: { after: '100ms' }, concurrency: { adaptive: { initial: 7 } } })
  const late = slow.call('get', { effect: 'read' }, ({ signal }) => env.sleep(1_000, signal))
  await env.advance('2s')
  await late
  await fail(env, hold.dependency('frugal', { ...LABEL, breaker: false, retry: { attempts: 3 }, retryBudget: { ratio: 0, perSecond: 0.1 } }), 3)
  await fail(env, hold.dependency('watched', { ...LABEL, retry: false, breaker: { failures: 2, openFor: '10m', probeEvery: false, shadow: true } }), 3)
  const tenants = hold.dependency('tenants', { ...LABEL, retry: false, breaker: { failures: 1, openFor: '10m' }, partitions: {} })
  for (const tenant of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) await fail(env, tenants, tenant === 'g' ? 0 : 1, tenant)
  await tenants.call('get', { effect: 'read', partition: 'g' }, () => 1)
  const back = hold.dependency('back', { ...LABEL, retry: false, breaker: { failures: 1, openFor: '1s', closeAfter: 1, rampFor: '10m' } })
  await fail(env, back, 1)
  await back.call('get', { effect: 'read' }, () => 1)
  return { env, hold }
}

describe('the status of a dependency', () => {
  it('has the limit of now, and what was hedged, repeated, held back by the budget or timed out', async () => {
    const { env, hold } = await eventful()
    expect(await statusOf(env, hold, 'slow')).toMatchObject({ limit: 7, hedges: 1, retries: 0, calls: 1 })
    const frugal = await statusOf(env, hold, 'frugal')
    expect([frugal?.limit, (frugal?.retries ?? 0) + (frugal?.retriesSuppressed ?? 0) > 0, (frugal?.retriesSuppressed ?? 0) > 0]).toEqual([100, true, true])
    const hung = hold.dependency('hung', { ...LABEL, retry: false, timeout: '1s' })
    const outcome = hung.try('get', { effect: 'read' }, () => new Promise(() => undefined))
    await env.advance('2s')
    await outcome
    expect(await statusOf(env, hold, 'hung')).toMatchObject({ timeouts: 1, abandoned: 1, inFlight: 1 })
  })

  it('has what a breaker in shadow would have done, and is closed', async () => {
    const { env, hold } = await eventful()
    expect(await statusOf(env, hold, 'watched')).toMatchObject({ breaker: 'closed', shadow: { state: 'open', wouldHaveRefused: 1 } })
  })

  it('has how many partitions there are, how many are left alone, and five of those by name', async () => {
    const { env, hold } = await eventful()
    const tenants = await statusOf(env, hold, 'tenants')
    expect([tenants?.partitions?.size, tenants?.partitions?.notClosed, tenants?.partitions?.first.map(({ partition, state }) => `${partition} ${state}`)]).toEqual([7, 6, ['a open', 'b open', 'c open', 'd open', 'e open']])
    expect(tenants?.partitions?.first[0]?.retryAfterMs).toBeGreaterThan(0)
  })

  it('has the share of calls that pass after it came back', async () => {
    const { env, hold } = await eventful()
    const back = await statusOf(env, hold, 'back')
    expect([back?.breaker, back?.ramp]).toEqual(['closed', expect.closeTo(0.1, 1)])
  })

  it('says nothing of ramp, shadow and partitions where there is none, and is plain JSON', async () => {
    const { env, hold } = await eventful()
    const slow = await statusOf(env, hold, 'slow')
    for (const key of ['ramp', 'shadow', 'partitions']) expect(slow).not.toHaveProperty(key)
    for (const name of ['slow', 'watched', 'tenants', 'back']) {
      const status = await statusOf(env, hold, name)
      expect(JSON.parse(JSON.stringify(status))).toStrictEqual(status)
    }
  })
})

describe('the worst case of a dependency', () => {
  it('is there in words, and undefined for a name that is none', async () => {
    const { hold } = await eventful()
    const explanation = hold.explainDependency('frugal')
    expect([explanation?.attempts, explanation?.words.join(' ')]).toEqual([3, expect.stringContaining('A caller waits at most 30 s.')])
    expect(hold.explainDependency('nobody')).toBeUndefined()
  })
})

describe('metrics', () => {
  it('tell the same, with a label for each dependency and no other', async () => {
    const { hold } = await eventful()
    const text = hold.metrics()
    const has = (line: string): void => { expect(text.split('\n')).toContain(line) }
    has('holdfast_call_limit{dependency="slow"} 7')
    has('holdfast_call_hedges_total{dependency="slow"} 1')
    has('holdfast_calls_total{dependency="slow"} 1')
    has('holdfast_breaker_shadow_state{dependency="watched"} 2')
    has('holdfast_breaker_shadow_refusals_total{dependency="watched"} 1')
    has('holdfast_breaker_partitions{dependency="tenants"} 7')
    has('holdfast_breaker_partitions_not_closed{dependency="tenants"} 6')
    has('holdfast_breaker_partition_transitions_total{dependency="tenants",to="open"} 6')
    has('holdfast_breaker_ramp_ratio{dependency="slow"} 1')
    expect(text).toMatch(/holdfast_breaker_ramp_ratio\{dependency="back"\} 0\.1/)
    expect(text).toMatch(/holdfast_call_retries_suppressed_total\{dependency="frugal"\} [1-9]/)
    expect(text).not.toMatch(/partitions?="/)
    expect(text.match(/^holdfast_breaker_partitions\{/gm)).toHaveLength(1)
    const promtool = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
    // Checked by Prometheus' own tool where it is installed.
    if (promtool.error === undefined) expect(`${promtool.stdout}${promtool.stderr}`).toBe('')
  })

  it('look at each dependency once per scrape, and anew at the next', async () => {
    const { env, hold } = service()
    const panel = hold.dependency('panel', { ...LABEL, retry: false })
    const look = panel.snapshot.bind(panel)
    let looks = 0
    Object.assign(panel, { snapshot: () => { looks += 1; return look() } })
    expect(hold.metrics()).toContain('holdfast_calls_total{dependency="panel"} 0')
    expect(looks).toBe(1)
    await fail(env, panel, 1)
    expect(hold.metrics()).toContain('holdfast_calls_total{dependency="panel"} 1')
    expect(looks).toBe(2)
  })
})
