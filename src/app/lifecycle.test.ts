/**
 * Start and stop at their worst: what hangs, fails half-way, or comes at the wrong moment.
 */
import { spawnSync } from 'node:child_process'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { memory, memoryDisk, type MemoryDisk } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import type { Database, MemoryTx, Store } from '../store/index.ts'
import { createHoldfast, type DurableHoldfast, type HoldfastOptions, type Status } from './index.ts'

const NEVER: Promise<never> = new Promise(() => undefined)
const actor = { id: 'alice', via: 'cli' } as const

interface Faulty {
  readonly store: Store<MemoryTx>
  /** While set: transactions whose name it matches never answer. */
  hangs: RegExp | undefined
  /** While set: they fail. */
  fails: RegExp | undefined
  hangsOnOpen: boolean
  hangsOnClose: boolean
  readonly begun: string[]
  closed: number
}

/** A store that can be made to hang or fail, by the name of the transaction. */
function faultyStore(disk: MemoryDisk = memoryDisk()): Faulty {
  const inner = memory(disk)
  let letOpen: () => void = () => undefined
  const faulty: Faulty = {
    hangs: undefined, fails: undefined, hangsOnClose: false, begun: [], closed: 0,
    get hangsOnOpen() { return false },
    set hangsOnOpen(hangs: boolean) {
      if (hangs) gate = new Promise(resolve => { letOpen = resolve })
      else letOpen()
    },
    store: {
      ...inner,
      open: async options => {
        await gate
        const database = await inner.open(options)
        return new Proxy(database, { get: (target, key) => intercept(target, key) })
      },
    },
  }
  let gate: Promise<void> = Promise.resolve()
  const intercept = (target: Database<MemoryTx>, key: string | symbol): unknown => {
    if (key === 'transaction') {
      return (name: string, ...rest: unknown[]): Promise<unknown> => {
        faulty.begun.push(name)
        if (faulty.hangs?.test(name) === true) return NEVER
        if (faulty.fails?.test(name) === true) return Promise.reject(new Error(`${name} failed`))
        return (target.transaction as (...args: unknown[]) => Promise<unknown>)(name, ...rest)
      }
    }
    if (key === 'close') {
      return async (): Promise<void> => {
        faulty.closed += 1
        if (faulty.hangsOnClose) await NEVER
        await target.close()
      }
    }
    const value: unknown = Reflect.get(target, key, target)
    return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value
  }
  return faulty
}

function service(options: Partial<HoldfastOptions> & { readonly disk?: MemoryDisk } = {}): { env: SimulatedEnv; faulty: Faulty; hold: DurableHoldfast<MemoryTx> } {
  const { disk, ...rest } = options
  const env = simulatedEnv()
  const faulty = faultyStore(disk)
  return { env, faulty, hold: createHoldfast({ service: 'shop', store: faulty.store, env, environment: {}, log: 'silent', drainFor: '10s', ...rest }) }
}

async function soon<T>(env: SimulatedEnv, work: Promise<T>, within: '2s' | '60s' = '60s'): Promise<T> {
  let over = false
  work.then(() => { over = true }, () => { over = true })
  expect(await env.until(() => over, within)).toBe(true)
  return work
}

/** What app.stopped said. */
function leftOf(hold: { readonly events: DurableHoldfast<MemoryTx>['events'] }): { left: number | undefined; afterMs: number | undefined } {
  const told: { left: number | undefined; afterMs: number | undefined } = { left: undefined, afterMs: undefined }
  hold.events.on('app.stopped', ({ data }) => {
    told.left = data.left
    told.afterMs = data.durationMs
  })
  return told
}

describe('status', () => {
  it('answers within a second while the store hangs, shows the last list, and gathers no reads behind it', async () => {
    const { env, faulty, hold } = service()
    hold.worker('job', { every: '10s', safeSleep: '1s', maxAttempts: 1, run: ({ each }) => each(['a'], key => key, async () => { throw new Error('no') }) })
    await soon(env, hold.start())
    await env.advance('1s')
    expect((await soon(env, hold.status())).work).toMatchObject([{ kind: 'worker-item', id: 'a' }])
    faulty.hangs = /./
    faulty.begun.length = 0
    const began = env.now()
    const answers: Status[] = []
    for (let index = 0; index < 3; index += 1) answers.push(await soon(env, hold.status(), '2s'))
    expect(answers.map(({ work }) => work.length)).toEqual([1, 1, 1])
    expect(env.now() - began).toBeLessThanOrEqual(3_100)
    expect(faulty.begun.filter(name => name === 'recovery.list')).toHaveLength(1)
    await soon(env, hold.stop())
  })
})

describe('stop', () => {
  it('is bounded by drainFor when a handler and a worker hang, says how many are left, and leaves no timer', async () => {
    const { env, hold } = service()
    const told = leftOf(hold)
    hold.worker('stubborn', { every: '10s', safeSleep: '1s', run: () => NEVER })
    hold.inbox.process('telegram', () => NEVER)
    await soon(env, hold.start())
    await hold.inbox.claim({ source: 'telegram', id: '1', lane: '7', payload: {} })
    await env.advance('2s')
    await soon(env, hold.stop())
    expect([hold.phase, told.left]).toEqual(['stopped', 2])
    expect(told.afterMs).toBeLessThanOrEqual(10_100)
    // What keeps the hung handler's lease gives up when it could not be renewed for as long as it lasts.
    await env.advance('30s')
    expect(env.pendingTimers).toBe(0)
  })

  it('says that nothing is left when everything ended in time', async () => {
    const { env, hold } = service()
    const told = leftOf(hold)
    hold.worker('slow', { every: '10s', safeSleep: '1s', run: () => env.sleep(3_000) })
    await soon(env, hold.start())
    await env.advance('1s')
    await soon(env, hold.stop())
    expect(told.left).toBe(0)
  })

  it('ends when the store hangs and cannot even be closed', async () => {
    const { env, faulty, hold } = service()
    const told = leftOf(hold)
    hold.worker('leader-only', { every: '10s', safeSleep: '1s', needs: ['leader'], run: async () => undefined })
    await soon(env, hold.start())
    await env.advance('1s')
    faulty.hangs = /./
    faulty.hangsOnClose = true
    await env.advance('20s')
    await soon(env, hold.stop())
    expect(hold.phase).toBe('stopped')
    expect(told.left).toBeGreaterThan(0)
    await env.advance('10s')
    expect(env.pendingTimers).toBe(0)
  })

  it('is one stop however often it is asked for, and ends before a start that comes after it', async () => {
    const { env, faulty, hold } = service()
    await soon(env, hold.start())
    const [first, second] = [hold.stop(), hold.stop()]
    expect(first).toBe(second)
    await soon(env, first)
    expect(faulty.closed).toBe(1)
    const never = service()
    await soon(never.env, never.hold.stop())
    await expect(never.hold.start()).rejects.toMatchObject({ code: 'HF_STOPPING' })
    expect([never.hold.phase, never.env.pendingTimers]).toEqual(['stopped', 0])
  })

  it('lets a real process end by itself, though a worker and a handler never do', () => {
    const program = `
      import { createHoldfast } from 'holdfast'
      import { memory } from 'holdfast/memory'
      const hold = createHoldfast({ service: 'shop', store: memory(), log: 'silent', drainFor: '1s' })
      hold.worker('stubborn', { every: '10s', safeSleep: '1s', run: () => new Promise(() => undefined) })
      hold.inbox.process('telegram', () => new Promise(() => undefined), { drainFor: '1s' })
      hold.events.on('app.stopped', ({ data }) => { console.log('left ' + data.left) })
      await hold.start()
      await hold.inbox.claim({ source: 'telegram', id: '1', lane: '7', payload: {} })
      await new Promise(resolve => { setTimeout(resolve, 300) })
      await hold.stop()
    `
    const ran = spawnSync(process.execPath, ['--conditions=holdfast-source', '--import', 'tsx', '--input-type=module', '--eval', program], { encoding: 'utf8', timeout: 25_000 })
    expect([ran.status, ran.signal, ran.stdout.trim()], ran.stderr).toEqual([0, null, 'left 2'])
  })
})

describe('stop during start', () => {
  it('ends the start, which closes what it has opened', async () => {
    const { env, faulty, hold } = service()
    faulty.hangs = /saga|inbox|outbox|lease|once/
    hold.saga('provision', { version: 1, input: z.object({}), run: async () => ({}) })
    const starting = hold.start()
    starting.catch(() => undefined)
    await env.advance('1s')
    expect(hold.phase).toBe('starting')
    await soon(env, hold.stop())
    await expect(soon(env, starting)).rejects.toMatchObject({ code: 'HF_STOPPING' })
    expect([hold.phase, faulty.closed >= 1, env.pendingTimers]).toEqual(['stopped', true, 0])
  })

  it('does not wait for ever for a store that never opens, and closes it should it open later', async () => {
    const { env, faulty, hold } = service()
    faulty.hangsOnOpen = true
    const starting = hold.start()
    starting.catch(() => undefined)
    await env.advance('1s')
    await soon(env, hold.stop())
    expect([hold.phase, faulty.closed]).toEqual(['stopped', 0])
    faulty.hangsOnOpen = false
    await expect(soon(env, starting)).rejects.toMatchObject({ code: 'HF_STOPPING' })
    expect([hold.phase, faulty.closed, env.pendingTimers]).toEqual(['stopped', 1, 0])
  })
})

describe('a start that fails half-way', () => {
  it('closes the store, stops what it has begun, and lets the next service have the disk', async () => {
    const disk = memoryDisk()
    const { env, faulty, hold } = service({ disk })
    Object.assign(hold.health, { start: () => Promise.reject(new Error('health is broken')) })
    await expect(soon(env, hold.start())).rejects.toThrow('health is broken')
    expect([hold.phase, faulty.closed, env.pendingTimers]).toEqual(['stopped', 1, 0])
    await soon(env, hold.stop())
    expect(faulty.closed).toBe(1)
    const next = service({ disk })
    await soon(next.env, next.hold.start())
    expect(next.hold.phase).toBe('ready')
    await soon(next.env, next.hold.stop())
  })
})

describe('recovery at the start', () => {
  it('that fails for one feature keeps nothing from starting, and is said by the worker', async () => {
    const { env, faulty, hold } = service()
    faulty.fails = /^outbox\.sweep$/
    const sweeps: string[] = []
    hold.events.on('worker.iteration', ({ data }) => { if (data.worker === 'recovery') sweeps.push(`${data.outcome} ${data.reason ?? ''}`) })
    await soon(env, hold.start())
    expect(hold.phase).toBe('ready')
    await env.advance('1s')
    expect(sweeps[0]).toContain('failed recovery could not look at everything: outbox: outbox.sweep failed')
    expect(faulty.begun).toContain('once.prune')
    faulty.fails = undefined
    await env.advance('60s')
    expect(sweeps.at(-1)).toBe('ok ')
    await soon(env, hold.stop())
  })

  it('that meets a run which hangs is waited for ten seconds, then goes on beside the service', async () => {
    const disk = memoryDisk()
    const world = simulatedEnv()
    const make = (env: SimulatedEnv): { hold: DurableHoldfast<MemoryTx>; start: () => Promise<unknown> } => {
      const hold = createHoldfast({ service: 'shop', store: memory(disk), env, environment: {}, log: 'silent' })
      const provision = hold.saga('provision', { version: 1, input: z.object({}), run: async step => {
        await step('create', { effect: 'idempotent', run: () => env.sleep(300_000) })
        return {}
      } })
      return { hold, start: () => provision.start('1', {}) }
    }
    const victim = world.process()
    const first = make(victim)
    await soon(world, first.hold.start())
    void first.start()
    await world.advance('1s')
    victim.kill()
    await world.advance('60s')
    const { hold } = make(world.process())
    const began = world.now()
    await soon(world, hold.start())
    expect(world.now() - began).toBeLessThan(11_000)
    expect(hold.phase).toBe('ready')
    await world.advance('6m')
    expect(hold.timeline().some(entry => entry.name === 'saga.finished' && entry.text.includes('done'))).toBe(true)
    await soon(world, hold.stop())
  })
})

describe('definitions after the start', () => {
  it('work like those before: worker, saga, once, dependency, switch, handler', async () => {
    const { env, hold } = service()
    await soon(env, hold.start())
    const ran: string[] = []
    hold.worker('late', { every: '10s', safeSleep: '1s', run: async () => { ran.push('worker') } })
    const provision = hold.saga('provision', { version: 1, input: z.object({}), run: async () => ({ made: true }) })
    const settle = hold.once('settle', { input: z.object({ id: z.string() }), key: ({ id }) => id, write: async () => ({ ok: true }) })
    hold.dependency('panel', { tier: 'degradable', runbook: 'panel-down' })
    const flags = hold.flags({ payments: { default: true, whenOff: 'paused' } })
    hold.inbox.process('telegram', async ({ id }) => { ran.push(`message ${id}`) })
    await hold.inbox.claim({ source: 'telegram', id: '1', lane: '7', payload: {} })
    await env.advance('2s')
    expect((await soon(env, provision.start('1', {}))).outcome).toBe('done')
    expect((await soon(env, settle({ id: 'a' }))).outcome).toBe('done')
    await soon(env, hold.command('flag.set', { target: 'payments', args: { on: false }, actor, reason: 'x' }))
    const status = await soon(env, hold.status())
    expect([flags.payments.on, ran.sort(), status.dependencies.map(({ name }) => name)]).toEqual([false, ['message 1', 'worker'], ['panel']])
    await soon(env, hold.stop())
    expect(env.pendingTimers).toBe(0)
  })

  it('of a worker that come after the stop never run', async () => {
    const { env, hold } = service()
    await soon(env, hold.start())
    await soon(env, hold.stop())
    let ran = 0
    hold.worker('too-late', { every: '10s', safeSleep: '1s', run: async () => { ran += 1 } })
    await env.advance('30s')
    expect([ran, env.pendingTimers]).toEqual([0, 0])
  })
})

describe('alert sinks', () => {
  it('that throw, reject or hang harm neither the service nor each other, nor its stop', async () => {
    const told: string[] = []
    const sinks = [() => { throw new Error('at once') }, async () => { throw new Error('later') }, () => NEVER, async ({ summary }: { readonly summary: string }) => { told.push(summary) }]
    const { env, hold } = service({ alertSinks: sinks })
    await soon(env, hold.start())
    hold.fact('odd', { severity: 'attention', message: 'one' })
    hold.fact('even', { severity: 'attention', message: 'two' })
    await env.advance('1s')
    expect(told).toEqual(['one', 'two'])
    await soon(env, hold.stop())
    await env.advance('30s')
    expect(env.pendingTimers).toBe(0)
  })
})
