/**
 * The first rung of the ladder meets the second: a dependency that `holdfast/guard` made alone becomes visible in an app.
 */
import { describe, expect, it } from 'vitest'
import { EventBus, withContext } from '../core/index.ts'
import { dependency, type Dependency } from '../guard/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { createHoldfast, type Holdfast } from './index.ts'

const actor = { id: 'alice', via: 'cli' } as const
const OPTIONS = { tier: 'degradable', runbook: 'panel-down', retry: false, breaker: { failures: 2, openFor: '60s', closeAfter: 1 } } as const

/** Both on one bus, as those are that are made without a kit; it is not the app's. */
function world(): { env: SimulatedEnv; hold: Holdfast; panel: Dependency; stranger: Dependency } {
  const env = simulatedEnv()
  const kit = { env, events: new EventBus(env) }
  const hold = createHoldfast({ service: 'shop', env, environment: {}, log: 'silent' })
  return { env, hold, panel: dependency('panel', OPTIONS, kit), stranger: dependency('stranger', OPTIONS, kit) }
}

async function soon<T>(env: SimulatedEnv, work: Promise<T>): Promise<T> {
  let over = false
  work.then(() => { over = true }, () => { over = true })
  expect(await env.until(() => over, '60s')).toBe(true)
  return work
}

async function fail(env: SimulatedEnv, target: Dependency, times = 1): Promise<void> {
  for (let time = 0; time < times; time += 1) await soon(env, target.try('get', { effect: 'read' }, () => { throw Object.assign(new Error('down'), { status: 503 }) }))
}

describe('an attached dependency', () => {
  it('is in the status, and its breaker in health, verdict, alerts, timeline and metrics; all of it is taken back', async () => {
    const { env, hold, panel } = world()
    expect(hold.attach(panel)).toBe(panel)
    await soon(env, hold.start())
    await fail(env, panel, 2)
    const down = await soon(env, hold.status())
    expect(down.dependencies).toMatchObject([{ name: 'panel', breaker: 'open', failures: 2, runbook: 'panel-down' }])
    expect([down.verdict.state, hold.health.component('panel')?.state]).toEqual(['degraded', 'degraded'])
    expect(down.alerts).toMatchObject([{ alert: 'breaker-open', runbook: 'panel-down' }])
    expect(hold.metrics()).toContain('holdfast_call_failures_total{dependency="panel",operation="get",failure="dependency_error"} 2')
    expect(hold.metrics()).toContain('holdfast_breaker_state{dependency="panel"} 2')
    await env.advance('61s')
    await soon(env, panel.call('get', { effect: 'read' }, () => 1))
    expect((await soon(env, hold.status())).verdict.sentence).toBe('All is well.')
    await soon(env, hold.stop())
  })

  it('control: without attach nobody hears of it', async () => {
    const { env, hold, panel } = world()
    await soon(env, hold.start())
    await fail(env, panel, 2)
    expect([(await soon(env, hold.status())).verdict.sentence, hold.timeline().filter(({ name }) => name !== 'app.starting' && name !== 'app.started')]).toEqual(['All is well.', []])
    await soon(env, hold.stop())
  })

  it('is held off and released by command, and explained', async () => {
    const { env, hold, panel } = world()
    hold.attach(panel)
    await soon(env, hold.start())
    await soon(env, hold.command('breaker.force', { target: 'panel', args: { state: 'open' }, actor, reason: 'they migrate' }))
    expect(panel.snapshot().forced?.reason).toBe('they migrate')
    await soon(env, hold.command('breaker.release', { target: 'panel', actor, reason: 'done' }))
    expect(panel.snapshot().forced).toBeUndefined()
    expect(hold.explainDependency('panel')).toEqual(panel.explain())
    await soon(env, hold.stop())
  })

  it('that is left alone already is known as that at once', async () => {
    const { env, hold, panel } = world()
    await fail(env, panel, 2)
    hold.attach(panel)
    expect(hold.health.component('panel')?.state).toBe('degraded')
    expect(hold.timeline().at(-1)?.text).toContain('breaker closed -> open: it was so when it was attached')
    expect((await soon(env, hold.status())).alerts).toMatchObject([{ alert: 'breaker-open' }])
  })

  it('brings nothing of its neighbours on the same bus', async () => {
    const { env, hold, panel, stranger } = world()
    hold.attach(panel)
    await soon(env, hold.start())
    await fail(env, stranger, 2)
    expect(hold.timeline().filter(({ text }) => text.includes('stranger'))).toEqual([])
    await soon(env, hold.stop())
  })

  it('keeps the correlation id of the work it was called for', async () => {
    const { env, hold, panel } = world()
    hold.attach(panel)
    await withContext({ correlationId: 'buy-1' }, () => fail(env, panel))
    expect(hold.explain('buy-1').map(({ name }) => name)).toEqual(['call.failed'])
  })

  it('has a name that is taken once, whoever made it', () => {
    const { hold, panel } = world()
    hold.attach(panel)
    const taken = expect.objectContaining({ code: 'HF_NAME_TAKEN' }) as Error
    expect(() => hold.attach(panel)).toThrowError(taken)
    expect(() => hold.dependency('panel', OPTIONS)).toThrowError(taken)
    hold.dependency('mailer', OPTIONS)
    expect(() => hold.attach(dependency('mailer', OPTIONS))).toThrowError(taken)
  })

  it('is heard once when it was made with the bus of the app', async () => {
    const { env, hold } = world()
    const own = dependency('own', OPTIONS, { env, events: hold.events })
    hold.attach(own)
    await fail(env, own)
    expect(hold.metrics()).toContain('holdfast_call_failures_total{dependency="own",operation="get",failure="dependency_error"} 1')
  })

  it('is not heard any more when the app has stopped, and works on', async () => {
    const { env, hold, panel } = world()
    hold.attach(panel)
    await soon(env, hold.start())
    await soon(env, hold.stop())
    let told = 0
    hold.events.onAny(() => { told += 1 })
    await fail(env, panel)
    expect([told, panel.snapshot().counters.failures]).toEqual([0, 1])
  })

  it('with a runbook that does not exist refuses the start', async () => {
    const env = simulatedEnv()
    const hold = createHoldfast({ service: 'shop', env, environment: {}, log: 'silent', runbooks: {} })
    hold.attach(dependency('panel', OPTIONS))
    await expect(hold.start()).rejects.toThrow('dependency panel names "panel-down"')
  })
})
