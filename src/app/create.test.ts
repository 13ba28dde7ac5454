import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { memory, memoryDisk } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import type { MemoryTx } from '../store/index.ts'
import { createHoldfast, type DurableHoldfast } from './index.ts'

const actor = { id: 'alice', via: 'cli' } as const

function service(env: SimulatedEnv = simulatedEnv()): { env: SimulatedEnv; hold: DurableHoldfast<MemoryTx> } {
  return { env, hold: createHoldfast({ service: 'shop', store: memory(memoryDisk()), env, environment: {}, log: 'silent' }) }
}

async function started(env: SimulatedEnv, hold: { start(): Promise<void> }): Promise<void> {
  let ready = false
  void hold.start().then(() => { ready = true })
  expect(await env.until(() => ready, '10s')).toBe(true)
}

async function stopped(env: SimulatedEnv, hold: { stop(): Promise<void> }): Promise<void> {
  let over = false
  void hold.stop().then(() => { over = true })
  expect(await env.until(() => over, '60s')).toBe(true)
}

describe('a service without a store', () => {
  it('has switches from the environment, dependencies, limits, health and workers', async () => {
    const env = simulatedEnv()
    const hold = createHoldfast({ service: 'bare', env, environment: { FEATURE_PAYMENTS_ENABLED: 'false' }, log: 'silent' })
    const flags = hold.flags({ payments: { default: true, whenOff: 'Customers are told to come back' } })
    let ran = 0
    hold.worker('tick', { every: '10s', safeSleep: '1s', run: async () => { ran += 1 } })
    await started(env, hold)
    await env.advance('25s')
    expect([flags.payments.on, ran >= 2, hold.phase]).toEqual([false, true, 'ready'])
    const status = await hold.status()
    expect(status.store).toMatchObject({ name: 'none', state: 'not-configured' })
    expect(status.verdict.sentence).toContain('payments is switched off (pinned by FEATURE_PAYMENTS_ENABLED')
    await stopped(env, hold)
    expect(env.pendingTimers).toBe(0)
  })
})

describe('a service with a store', () => {
  it('starts, works and stops, and leaves no timer behind', async () => {
    const { env, hold } = service()
    const settle = hold.once('settle', { input: z.object({ id: z.string() }), key: ({ id }) => id, write: async ({ id }, { tx }) => { tx.table('paid').set(id, { id }); return { id } } })
    await started(env, hold)
    const outcomes = Promise.all([settle({ id: 'a' }), settle({ id: 'a' })])
    await env.settle()
    expect((await outcomes).map(each => each.outcome).sort()).toEqual(['done', 'replayed'])
    expect(hold.health.state).toBe('healthy')
    await stopped(env, hold)
    expect(hold.phase).toBe('stopped')
    expect(env.pendingTimers).toBe(0)
  })

  it('refuses to be used before it is started, and to be started twice', async () => {
    const { env, hold } = service()
    await expect(hold.transaction('x', async () => 1)).rejects.toMatchObject({ code: 'HF_NOT_STARTED' })
    await started(env, hold)
    await expect(hold.start()).rejects.toMatchObject({ code: 'HF_ALREADY_STARTED' })
    await stopped(env, hold)
  })

  it('says to whoever comes after its end that it is stopping: no defect, and worth trying again', async () => {
    const { env, hold } = service()
    await started(env, hold)
    await stopped(env, hold)
    await expect(hold.transaction('late', async () => 1)).rejects.toMatchObject({ code: 'HF_STOPPING', failure: 'infra_error', retryable: true })
  })

  it('leaves nothing behind when the start fails', async () => {
    const env = simulatedEnv()
    const broken = { ...memory(), open: async () => { throw new Error('disk is gone') } }
    const hold = createHoldfast({ service: 'shop', store: broken, env, environment: {}, log: 'silent' })
    await expect(hold.start()).rejects.toThrow('disk is gone')
    expect([hold.phase, env.pendingTimers]).toEqual(['stopped', 0])
  })

  it('flips a switch by command on every instance within a second, with reason and expiry, and takes it back', async () => {
    const env = simulatedEnv()
    const disk = memoryDisk()
    const make = (own: SimulatedEnv): DurableHoldfast<MemoryTx> => createHoldfast({ service: 'shop', store: memory(disk), env: own, environment: {}, log: 'silent' })
    const [a, b] = [make(env.process()), make(env.process())]
    const [flagsA, flagsB] = [a, b].map(each => each.flags({ payments: { default: true, whenOff: 'paused' } }))
    await started(env, a)
    await started(env, b)
    const done = a.command('flag.set', { target: 'payments', args: { on: false, for: '30m' }, actor, reason: 'fraud' })
    await env.advance('1s')
    expect((await done).message).toBe('payments was switched off for 30 min')
    expect([flagsA?.payments.on, flagsB?.payments.on]).toEqual([false, false])
    await env.advance('31m')
    expect([flagsA?.payments.on, flagsB?.payments.on]).toEqual([true, true])
    await stopped(env, a)
    await stopped(env, b)
  })

  it('refuses a command without a reason, and one that nobody knows, with the names there are', async () => {
    const { env, hold } = service()
    hold.flags({ payments: { default: true, whenOff: 'paused' } })
    await started(env, hold)
    const refused = Promise.allSettled([
      hold.command('flag.set', { target: 'payments', args: { on: false }, actor, reason: ' ' }),
      hold.command('flag.set', { target: 'paymnts', args: { on: false }, actor, reason: 'x' }),
      hold.command('flag.drop', { target: 'payments', actor, reason: 'x' }),
      hold.command('flag.set', { target: 'payments', args: { on: 'no' }, actor, reason: 'x' }),
    ])
    await env.advance('1s')
    expect((await refused).map(each => (each.status === 'rejected' ? (each.reason as { code: string }).code : 'done'))).toEqual(['HF_REASON_REQUIRED', 'HF_UNKNOWN_NAME', 'HF_UNKNOWN_NAME', 'HF_INPUT_INVALID'])
    await stopped(env, hold)
  })

  it('shows an open breaker in health, verdict, alerts, timeline and metrics, and takes all of it back', async () => {
    const { env, hold } = service()
    const panel = hold.dependency('vpn-panel', { tier: 'degradable', runbook: 'vpn-panel-down', retry: false, breaker: { failures: 2, openFor: '10s', closeAfter: 1 } })
    await started(env, hold)
    const call = async (fail: boolean): Promise<void> => {
      const outcome = panel.try('list', { effect: 'read' }, () => { if (fail) throw Object.assign(new Error('down'), { status: 503 }); return 1 })
      await env.settle()
      await outcome
    }
    await call(true)
    await call(true)
    const broken = hold.status()
    await env.settle()
    const status = await broken
    expect(status.verdict).toMatchObject({ state: 'degraded' })
    expect(status.verdict.sentence).toContain('vpn-panel is failing (breaker open, next try in')
    expect(status.alerts).toMatchObject([{ alert: 'breaker-open', runbook: 'vpn-panel-down' }])
    expect(hold.metrics()).toContain('holdfast_breaker_state{dependency="vpn-panel"} 2')
    expect(hold.timeline().some(entry => entry.text.includes('breaker closed -> open'))).toBe(true)
    await env.advance('11s')
    await call(false)
    const well = hold.status()
    await env.settle()
    expect((await well).verdict.sentence).toBe('All is well.')
    expect((await well).alerts).toEqual([])
    await stopped(env, hold)
  })

  it('takes up after a crash what another process began, and lists what needs a person', async () => {
    const world = simulatedEnv()
    const disk = memoryDisk()
    let calls = 0
    const make = (own: SimulatedEnv): { hold: DurableHoldfast<MemoryTx>; start: (id: string) => Promise<unknown> } => {
      const hold = createHoldfast({ service: 'shop', store: memory(disk), env: own, environment: {}, log: 'silent' })
      const provision = hold.saga('provision', { version: 1, input: z.object({ id: z.string() }), run: async step => {
        await step('create', { effect: 'idempotent', run: async () => { calls += 1; await own.sleep(5_000) } })
        return { made: true }
      } })
      return { hold, start: id => provision.start(id, { id }) }
    }
    const victim = world.process()
    const first = make(victim)
    await started(world, first.hold)
    void first.start('1')
    await world.advance('1s')
    victim.kill()
    const second = make(world.process())
    await started(world, second.hold)
    await world.advance('60s')
    expect(calls).toBe(2)
    expect(second.hold.timeline().some(entry => entry.name === 'saga.finished' && entry.text.includes('done'))).toBe(true)
    await stopped(world, second.hold)
  })
})
