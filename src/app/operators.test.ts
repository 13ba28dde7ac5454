/**
 * What operators do and read: runbooks that exist, commands on what does not, stuck work of every kind, the audit.
 */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { memory } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import type { MemoryTx } from '../store/index.ts'
import { createHoldfast, type DurableHoldfast, type HoldfastOptions, type WorkItemStatus } from './index.ts'

const actor = { id: 'alice', via: 'cli' } as const
const RUNBOOK = { title: 'The panel is down', when: 'Its breaker is open', safeToRetry: true, steps: ['Look'] } as const

function service(options: Partial<HoldfastOptions> = {}): { env: SimulatedEnv; hold: DurableHoldfast<MemoryTx> } {
  const env = simulatedEnv()
  return { env, hold: createHoldfast({ service: 'shop', store: memory(), env, environment: {}, log: 'silent', ...options }) }
}

async function soon<T>(env: SimulatedEnv, work: Promise<T>): Promise<T> {
  let over = false
  work.then(() => { over = true }, () => { over = true })
  expect(await env.until(() => over, '120s')).toBe(true)
  return work
}

/** One definition of each kind; those whose name is in `wrong` name a runbook that does not exist. */
function define(hold: DurableHoldfast<MemoryTx>, wrong: readonly string[]): void {
  const runbook = (kind: string): string => (wrong.includes(kind) ? `${kind}-missing` : 'panel-down')
  hold.flags({ payments: { default: true, whenOff: 'paused', runbook: runbook('flag') } })
  hold.dependency('panel', { tier: 'degradable', runbook: runbook('dependency') })
  hold.worker('activation', { every: '1m', safeSleep: '1s', runbook: runbook('worker'), run: async () => undefined })
  hold.saga('provision', { version: 1, input: z.object({}), runbook: runbook('saga'), run: async () => ({}) })
  hold.once('settle', { input: z.object({ id: z.string() }), key: ({ id }) => id, runbook: runbook('once'), write: async () => ({}) })
  hold.irreversible('revoke', { input: z.object({}), summary: () => 'Revoke it', ticketFor: '2m', runbook: runbook('irreversible'), run: async () => ({}) })
  hold.outbox.topic('delivery', { runbook: runbook('topic'), send: async () => ({ kind: 'sent' }) })
}

const KINDS = ['flag', 'dependency', 'worker', 'saga', 'once', 'irreversible', 'topic']

describe('runbooks', () => {
  it('that are named and do not exist refuse the start, all at once, before anything is opened', async () => {
    let opened = false
    const env = simulatedEnv()
    const store = memory()
    const hold = createHoldfast({ service: 'shop', env, environment: {}, log: 'silent', runbooks: { 'panel-down': RUNBOOK }, store: { ...store, open: options => { opened = true; return store.open(options) } } })
    define(hold, KINDS)
    const error: unknown = await hold.start().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'HF_OPTION_INVALID' })
    for (const kind of KINDS) expect(String(error)).toContain(`"${kind}-missing"`)
    expect([opened, hold.phase, env.pendingTimers]).toEqual([false, 'stopped', 0])
  })

  it.each(KINDS)('are asked of a %s, each by itself', async kind => {
    const { hold } = service({ runbooks: { 'panel-down': RUNBOOK } })
    define(hold, [kind])
    await expect(hold.start()).rejects.toThrow(`"${kind}-missing"`)
  })

  it('that all exist let it start, and can be read; a later definition is held to them too', async () => {
    const { env, hold } = service({ runbooks: { 'panel-down': RUNBOOK } })
    define(hold, [])
    await soon(env, hold.start())
    expect([hold.runbook('panel-down'), hold.runbook('nope'), hold.runbook('toString'), hold.runbooks()]).toEqual([{ id: 'panel-down', ...RUNBOOK }, undefined, undefined, [{ id: 'panel-down', ...RUNBOOK }]])
    expect(() => hold.worker('late', { every: '1m', safeSleep: '1s', runbook: 'late-missing', run: async () => undefined })).toThrow('late-missing')
    expect((await soon(env, hold.status())).workers.map(({ name }) => name)).not.toContain('late')
    await soon(env, hold.stop())
  })

  it('that are not given are not asked for: names are labels then', async () => {
    const { env, hold } = service()
    define(hold, KINDS)
    await soon(env, hold.start())
    expect(hold.phase).toBe('ready')
    await soon(env, hold.stop())
  })
})

describe('commands on what does not exist', () => {
  it('are refused with the names there are, or say that nothing changed; each leaves an audit row', async () => {
    const { env, hold } = service()
    define(hold, [])
    await soon(env, hold.start())
    const ask = async (name: string, args: Readonly<Record<string, string | boolean>> = {}): Promise<string> =>
      soon(env, hold.command(name, { target: 'nobody', args, actor, reason: 'typo' })).then(({ message }) => message, (error: unknown) => (error as { code: string }).code)
    expect(await ask('flag.set', { on: false })).toBe('HF_UNKNOWN_NAME')
    expect(await ask('flag.clear')).toBe('HF_UNKNOWN_NAME')
    expect(await ask('breaker.force', { state: 'open' })).toBe('HF_UNKNOWN_NAME')
    expect(await ask('breaker.force', { state: 'ajar' })).toBe('HF_INPUT_INVALID')
    expect(await ask('breaker.release')).toBe('HF_UNKNOWN_NAME')
    expect(await ask('worker.pause')).toBe('HF_UNKNOWN_NAME')
    expect(await ask('worker.resume')).toBe('HF_UNKNOWN_NAME')
    expect(await ask('worker.run')).toBe('HF_UNKNOWN_NAME')
    expect(await ask('alert.ack')).toBe('there is no alert nobody; nothing changed')
    for (const [kind, name] of [['saga', 'provision'], ['once', 'settle'], ['outbox', 'delivery'], ['inbox', 'telegram'], ['worker-item', 'activation']] as const) {
      for (const action of ['retry', 'discard']) expect(await ask(`work.${action}`, { kind, name }), `${kind} ${action}`).toBe(`${kind} ${name} nobody does not wait for a person any more; nothing changed`)
    }
    for (const kind of ['saga', 'once', 'worker-item']) expect(await ask('work.retry', { kind, name: 'unheard-of' }), kind).toBe('HF_UNKNOWN_NAME')
    expect(await ask('work.retry', { kind: 'lease', name: 'x' })).toBe('HF_INPUT_INVALID')
    const rows = await soon(env, hold.audit({ limit: 500 }))
    expect(rows).toHaveLength(23)
    expect(new Set(rows.map(row => `${row.actor} ${row.target} ${row.reason}`))).toEqual(new Set(['cli:alice nobody typo']))
    await soon(env, hold.stop())
  })
})

/** A service in which one piece of work of each kind waits for a person. */
async function stuck(): Promise<{ env: SimulatedEnv; hold: DurableHoldfast<MemoryTx>; repair: () => void; happened: string[] }> {
  const { env, hold } = service({ runbooks: { 'panel-down': RUNBOOK } })
  const happened: string[] = []
  let broken = true
  const attempt = (what: string): void => {
    if (broken) throw new Error(`${what} is broken`)
    happened.push(what)
  }
  const refused = (what: string): void => {
    if (broken) throw Object.assign(new Error(`${what} says no`), { status: 400 })
    happened.push(what)
  }
  const provision = hold.saga('provision', { version: 1, input: z.object({}), attempts: 1, undoAttempts: 1, backoff: '1s', runbook: 'panel-down', run: async step => {
    await step('create', { effect: 'idempotent', run: async () => ({}), undo: async () => { attempt('saga') } })
    await step('record', { effect: 'idempotent', run: async () => { refused('step') } })
    return {}
  } })
  const pay = hold.once('pay', { input: z.object({ id: z.string() }), key: ({ id }) => id, onUnknown: 'hold', runbook: 'panel-down', call: async () => {
    attempt('once')
    return {}
  } })
  hold.outbox.topic('delivery', { runbook: 'panel-down', send: async () => {
    if (broken) return { kind: 'unknown', reason: 'the line went dead' }
    happened.push('outbox')
    return { kind: 'sent' }
  } })
  hold.inbox.process('telegram', async () => { attempt('inbox') })
  hold.worker('activation', { every: '5s', safeSleep: '1s', maxAttempts: 1, runbook: 'panel-down', run: ({ each }) => each(['sub-1'], key => key, async () => { attempt('worker-item') }) })
  await soon(env, hold.start())
  void provision.start('s1', {}).catch(() => undefined)
  void pay({ id: 'p1' }).catch(() => undefined)
  void hold.transaction('test', tx => hold.outbox.enqueue(tx, { lane: '7', topic: 'delivery', onceKey: 'd1', payload: {} })).then(() => { hold.outbox.wake() })
  void hold.inbox.claim({ source: 'telegram', id: 'm1', lane: '7', payload: {} })
  await env.advance('30m')
  return { env, hold, happened, repair: () => { broken = false } }
}

const ALL = ['inbox telegram m1', 'once pay p1', 'outbox delivery d1', 'saga provision s1', 'worker-item activation sub-1']
const named = (work: readonly WorkItemStatus[]): string[] => work.map(({ kind, name, id }) => `${kind} ${name} ${id}`).sort()

describe('stuck work', () => {
  it('of every kind is listed with its runbook, is tried again by command, and is gone when it succeeded', async () => {
    const { env, hold, repair, happened } = await stuck()
    const { work } = await soon(env, hold.status())
    expect(named(work)).toEqual(ALL)
    expect(work.filter(({ kind, runbook }) => kind !== 'inbox' && runbook !== 'panel-down')).toEqual([])
    repair()
    for (const { kind, name, id } of work) {
      const { message } = await soon(env, hold.command('work.retry', { target: id, args: { kind, name }, actor, reason: 'repaired' }))
      expect(message).toBe(`${kind} ${name} ${id} is tried again`)
    }
    await env.advance('3m')
    expect((await soon(env, hold.status())).work).toEqual([])
    for (const kind of ['inbox', 'outbox', 'worker-item']) expect(happened, kind).toContain(kind)
    await soon(env, hold.stop())
  })

  it('of every kind is given up by command, once, and is not tried again', async () => {
    const { env, hold, repair, happened } = await stuck()
    const { work } = await soon(env, hold.status())
    repair()
    for (const { kind, name, id } of work) {
      const ask = { target: id, args: { kind, name }, actor, reason: 'settled by hand' }
      expect((await soon(env, hold.command('work.discard', ask))).message).toBe(`${kind} ${name} ${id} is discarded`)
      // A worker's item stays known as discarded, so saying so twice is true twice.
      expect((await soon(env, hold.command('work.discard', ask))).message, kind).toContain(kind === 'worker-item' ? 'is discarded' : 'nothing changed')
    }
    await env.advance('10m')
    expect([(await soon(env, hold.status())).work, happened]).toEqual([[], []])
    const rows = await soon(env, hold.audit())
    expect(rows.filter(({ action, outcome }) => action === 'command.work.discard' && outcome === 'done')).toHaveLength(10)
    await soon(env, hold.stop())
  })
})

describe('the audit', () => {
  it('gives out no secret that somebody put into a reason', async () => {
    const { env, hold } = service({ secrets: ['canary-token-1'] })
    define(hold, [])
    await soon(env, hold.start())
    await soon(env, hold.command('flag.set', { target: 'payments', args: { on: false }, actor, reason: 'canary-token-1 leaked, see postgres://u:hunter22@db/x' }))
    expect((await soon(env, hold.audit()))[0]?.reason).toBe('*** leaked, see postgres://***@db/x')
    await soon(env, hold.stop())
  })

  it('refuses a limit that is none', async () => {
    const { env, hold } = service()
    await soon(env, hold.start())
    await expect(hold.audit({ limit: 0 })).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
    await soon(env, hold.stop())
  })
})
