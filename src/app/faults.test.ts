/**
 * Faults on purpose in an app: a flag switches them at run time, production stays unharmed until somebody arms them, and
 * what is armed ends by itself, is seen by everybody and leaves an audit row.
 */
import { describe, expect, it } from 'vitest'
import type { FaultPlan } from '../guard/index.ts'
import { memory } from '../store/memory/index.ts'
import type { MemoryTx } from '../store/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { createHoldfast, type CommandResult, type DurableHoldfast } from './index.ts'

const actor = { id: 'alice', via: 'cli' } as const

interface Service {
  readonly env: SimulatedEnv
  readonly hold: DurableHoldfast<MemoryTx>
  readonly chaos: FaultPlan
  /** The value of a call, or the status it failed with. */
  readonly call: () => Promise<number>
  readonly ask: (name: string, target: string, args?: Readonly<Record<string, string | boolean>>) => Promise<CommandResult>
}

async function soon<T>(env: SimulatedEnv, work: Promise<T>): Promise<T> {
  let over = false
  work.then(() => { over = true }, () => { over = true })
  expect(await env.until(() => over, '120s')).toBe(true)
  return work
}

/** A panel that answers 200, and faults that answer 503 to everything while the flag `chaos` is on. */
async function service(nodeEnv: string, chaosFlag = false): Promise<Service> {
  const env = simulatedEnv()
  const hold = createHoldfast({ service: 'shop', store: memory(), env, environment: { NODE_ENV: nodeEnv }, log: 'silent' })
  const flags = hold.flags({ chaos: { default: chaosFlag, whenOff: 'No fault is injected' } })
  const chaos = hold.faults({ name: 'panel-chaos', rules: [{ rate: 1, fault: { error: 503 } }], when: () => flags.chaos.on })
  const panel = hold.dependency('panel', { tier: 'degradable', runbook: 'panel-down', retry: false, breaker: false, faults: chaos })
  await soon(env, hold.start())
  return {
    env, hold, chaos,
    call: () => soon(env, panel.call('get-user', { effect: 'read' }, () => 200).catch((error: unknown) => (error as { cause: { status: number } }).cause.status)),
    ask: (name, target, args = {}) => soon(env, hold.command(name, { target, args, actor, reason: 'drill' })),
  }
}

describe('outside production', () => {
  it('a flag switches faults on and off at run time', async () => {
    const { env, hold, call, ask } = await service('test')
    const seen = [await call()]
    await ask('flag.set', 'chaos', { on: true })
    seen.push(await call())
    await ask('flag.set', 'chaos', { on: false })
    seen.push(await call())
    expect(seen).toEqual([200, 503, 200])
    await soon(env, hold.stop())
  })

  it('the flag ends by itself, and the faults with it', async () => {
    const { env, hold, call, ask } = await service('test')
    await ask('flag.set', 'chaos', { on: true, for: '5m' })
    expect(await call()).toBe(503)
    await env.advance('5m')
    expect(await call()).toBe(200)
    await soon(env, hold.stop())
  })
})

describe('in production', () => {
  it('nothing is injected until it is armed, though the flag is on', async () => {
    const { env, hold, chaos, call, ask } = await service('production', true)
    expect([chaos.production, chaos.active, await call()]).toEqual([true, false, 200])
    expect((await ask('faults.arm', 'panel-chaos')).message).toBe('panel-chaos is armed for 10 min')
    expect(await call()).toBe(503)
    await soon(env, hold.stop())
  })

  it('control: the same flag with another NODE_ENV breaks calls at once', async () => {
    const { env, hold, call } = await service('staging', true)
    expect(await call()).toBe(503)
    await soon(env, hold.stop())
  })

  it('an armed plan ends after 10 minutes unless said, by a clock that nobody has to ask', async () => {
    const { env, hold, call, ask } = await service('production', true)
    await ask('faults.arm', 'panel-chaos')
    await env.advance('599s')
    expect(await call()).toBe(503)
    await env.advance('2s')
    expect(await call()).toBe(200)
    expect(hold.timeline().filter(({ name }) => name.startsWith('faults.')).map(({ text }) => text)).toEqual([
      'fault injection panel-chaos is on, by cli:alice: drill',
      'fault injection panel-chaos is off, by expiry: armed by cli:alice for a time that is over: drill',
    ])
    await soon(env, hold.stop())
  })

  it('armed with the flag off it says that it waits for the flag', async () => {
    const { env, hold, call, ask } = await service('production')
    expect((await ask('faults.arm', 'panel-chaos', { for: '1m' })).message).toBe('panel-chaos is armed for 1 min; its own switch is off, so nothing is injected until that is on')
    expect(await call()).toBe(200)
    await ask('flag.set', 'chaos', { on: true })
    expect(await call()).toBe(503)
    await soon(env, hold.stop())
  })

  it('disarming ends it at once; of what is off it says so', async () => {
    const { env, hold, call, ask } = await service('production', true)
    await ask('faults.arm', 'panel-chaos')
    expect([(await ask('faults.disarm', 'panel-chaos')).message, await call()]).toEqual(['panel-chaos injects nothing', 200])
    expect((await ask('faults.disarm', 'panel-chaos')).message).toBe('panel-chaos was off; nothing changed')
    await soon(env, hold.stop())
  })

  it('is not armed without a reason, for longer than an hour, without a unit, or by a name that is none', async () => {
    const { env, hold, chaos } = await service('production', true)
    const code = async (target: string, args: Readonly<Record<string, string>>, reason = 'drill'): Promise<string> =>
      soon(env, hold.command('faults.arm', { target, args, actor, reason })).then(() => 'armed', (error: unknown) => (error as { code: string }).code)
    expect(await code('panel-chaos', {}, ' ')).toBe('HF_REASON_REQUIRED')
    expect(await code('panel-chaos', { for: '61m' })).toBe('HF_OPTION_INVALID')
    expect(await code('panel-chaos', { for: '10' })).toBe('HF_OPTION_INVALID')
    expect(await code('panel-choas', {})).toBe('HF_UNKNOWN_NAME')
    expect(chaos.snapshot().state).toBe('off')
    expect(await code('panel-chaos', { for: '60m' })).toBe('armed')
    await soon(env, hold.stop())
  })

  it('what is armed is in the verdict, the status, the alerts and the audit, and leaves all but the audit when it ends', async () => {
    const { env, hold, call, ask } = await service('production', true)
    await ask('faults.arm', 'panel-chaos', { for: '1m' })
    await call()
    const armed = await soon(env, hold.status())
    expect(armed.verdict.sentence).toContain('panel-chaos breaks calls on purpose for 1 min more (cli:alice: drill).')
    expect(armed.faults).toEqual([{ name: 'panel-chaos', state: 'armed', active: true, production: true, injected: 1, armed: { by: 'cli:alice', reason: 'drill', until: armed.at + 60_000 } }])
    expect(armed.alerts).toMatchObject([{ key: 'faults-armed:panel-chaos', severity: 'warning' }])
    expect((await soon(env, hold.audit()))[0]).toMatchObject({ action: 'command.faults.arm', target: 'panel-chaos', actor: 'cli:alice', reason: 'drill', outcome: 'done' })
    await env.advance('61s')
    const after = await soon(env, hold.status())
    expect([after.verdict.sentence, after.alerts, after.faults[0]?.state]).toEqual(['All is well.', [], 'off'])
    await soon(env, hold.stop())
  })

  it('the end of the instance is the end of what is armed', async () => {
    const { env, hold, chaos, ask } = await service('production', true)
    await ask('faults.arm', 'panel-chaos')
    await soon(env, hold.stop())
    expect([chaos.active, env.pendingTimers]).toEqual([false, 0])
  })
})

describe('names', () => {
  it('are taken once', async () => {
    const { env, hold } = await service('test')
    expect(() => hold.faults({ name: 'panel-chaos', rules: [] })).toThrowError(expect.objectContaining({ code: 'HF_NAME_TAKEN' }) as Error)
    await soon(env, hold.stop())
  })
})
