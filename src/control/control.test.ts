import { beforeEach, describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, type Actor, type HoldfastEvent } from '../core/index.ts'
import type { Database, MemoryTx } from '../store/index.ts'
import { memory, memoryDisk } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/simulated-env.ts'
import { AUDIT_WAITING_MAX, auditLog, commands, degradation, ticketDesk, type Audit, type CommandBus, type StoreKit } from './index.ts'

const alice: Actor = { id: 'alice', via: 'cli', roles: ['operator'] }
let env: SimulatedEnv
let kit: StoreKit<MemoryTx>
let seen: HoldfastEvent[]
let audit: Audit<MemoryTx>
let away = false

beforeEach(async () => {
  env = simulatedEnv()
  seen = []
  away = false
  const events = new EventBus(env)
  events.onAny(event => { seen.push(event) })
  const database: Database<MemoryTx> = await memory(memoryDisk()).open({ env, events, service: 'test' })
  kit = {
    env, events, service: 'test', instance: 'i',
    database: () => {
      if (away) throw new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })
      return database
    },
  }
  audit = auditLog(kit)
})

describe('the command bus', () => {
  let bus: CommandBus
  let paused: string[]
  let pending: number
  beforeEach(() => {
    paused = []
    pending = 17
    bus = commands(kit, { audit, tickets: ticketDesk(kit, audit), kit })
    bus.declare('worker.pause', {
      summary: 'Pause a worker', risk: 'mild', roles: ['operator'],
      preview: target => `stops ${target}; ${String(pending)} items will wait`,
      execute: ({ target }) => { paused.push(target); return `${target} is paused` },
      verify: target => paused.includes(target),
      undo: target => ({ command: 'worker.resume', target, args: {} }),
    })
    bus.declare('items.discard', {
      summary: 'Discard all parked items', risk: 'severe',
      preview: target => `discards ${String(pending)} items of ${target}`,
      execute: ({ target }) => { paused.push(`discarded ${target}`); return `the parked items of ${target} are gone` },
    })
  })

  it('executes, verifies, says what is true now and how to take it back, and audits it', async () => {
    expect(await bus.preview('worker.pause', { target: 'activation', actor: alice })).toEqual({ command: 'worker.pause', target: 'activation', risk: 'mild', impact: 'stops activation; 17 items will wait' })
    expect(await bus.execute('worker.pause', { target: 'activation', actor: alice, reason: 'panel is down' })).toEqual({
      command: 'worker.pause', target: 'activation', message: 'activation is paused', verified: true, undo: { command: 'worker.resume', target: 'activation', args: {} },
    })
    expect(seen.map(event => [event.name, event.data])).toEqual([['command.done', { command: 'worker.pause', target: 'activation', actor: 'cli:alice', reason: 'panel is down' }]])
    expect(await audit.list()).toMatchObject([{ action: 'command.worker.pause', target: 'activation', reason: 'panel is down', outcome: 'done' }])
  })

  it('refuses without a reason, without the role and for an unknown name; each refusal is announced and audited', async () => {
    await expect(bus.execute('worker.pause', { target: 'a', actor: alice, reason: ' ' })).rejects.toMatchObject({ code: 'HF_REASON_REQUIRED' })
    await expect(bus.execute('worker.pause', { target: 'a', actor: { id: 'eve', via: 'cli' }, reason: 'x' })).rejects.toMatchObject({ code: 'HF_FORBIDDEN' })
    await expect(bus.execute('worker.pasue', { target: 'a', actor: alice, reason: 'x' })).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME' })
    expect(paused).toEqual([])
    expect(seen.map(event => event.name)).toEqual(['command.refused', 'command.refused', 'command.refused'])
    expect((await audit.list()).map(row => row.outcome)).toEqual(['refused', 'refused', 'refused'])
  })

  it('a severe command needs the ticket of its preview: once, for the same target, while its impact is the same', async () => {
    const request = { target: 'activation', actor: alice, reason: 'test data' }
    await expect(bus.execute('items.discard', request)).rejects.toMatchObject({ code: 'HF_TICKET_INVALID' })
    const ticket = async (): Promise<string> => (await bus.preview('items.discard', { target: 'activation', actor: alice })).ticket?.token ?? ''
    await expect(bus.execute('items.discard', { ...request, target: 'renewal', ticket: await ticket() })).rejects.toMatchObject({ context: { why: 'state-changed' } })
    const stale = await ticket()
    pending = 900
    await expect(bus.execute('items.discard', { ...request, ticket: stale })).rejects.toMatchObject({ context: { why: 'state-changed' } })
    expect(paused).toEqual([])
    const good = await ticket()
    await bus.execute('items.discard', { ...request, ticket: good })
    await expect(bus.execute('items.discard', { ...request, ticket: good })).rejects.toMatchObject({ context: { why: 'used' } })
    expect(paused).toEqual(['discarded activation'])
  })

  it('without a store a mild command works and a severe one is refused', async () => {
    const bare = commands(kit)
    bare.declare('a', { summary: 'A', risk: 'mild', execute: () => 'done' })
    bare.declare('b', { summary: 'B', risk: 'severe', execute: () => 'done' })
    expect(await bare.execute('a', { target: 't', actor: alice, reason: 'r' })).toMatchObject({ message: 'done' })
    await expect(bare.execute('b', { target: 't', actor: alice, reason: 'r', ticket: 'x' })).rejects.toMatchObject({ code: 'HF_TICKET_INVALID' })
  })

  it('works while the store is away, and its audit row is written afterwards, once', async () => {
    away = true
    await bus.execute('worker.pause', { target: 'a', actor: alice, reason: 'store is away' })
    expect([paused, audit.waiting]).toEqual([['a'], 1])
    away = false
    expect(await audit.flush()).toBe(true)
    expect((await audit.list()).map(row => row.reason)).toEqual(['store is away'])
  })
})

describe('the audit', () => {
  const entry = { actor: 'cli:alice', action: 'x', target: 't', reason: 'r', outcome: 'done' } as const

  it('rolls back with the change it tells of', async () => {
    await expect(kit.database().transaction('change', async tx => {
      await audit.append(tx, entry)
      throw new Error('no')
    })).rejects.toThrow('no')
    expect(await audit.list()).toEqual([])
  })

  it('is read in pages, newest first', async () => {
    for (let index = 0; index < 5; index++) await audit.record({ ...entry, reason: String(index) })
    const first = await audit.list({ limit: 2 })
    expect(first.map(row => row.reason)).toEqual(['4', '3'])
    expect((await audit.list({ limit: 2, before: first[1]?.id ?? 0 })).map(row => row.reason)).toEqual(['2', '1'])
    await expect(audit.list({ limit: 0 })).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
  })

  it('loses nothing that is recorded while a batch is being written', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, index) => audit.record({ ...entry, reason: String(index) })))
    expect((await audit.list()).map(row => row.reason).sort()).toEqual(Array.from({ length: 50 }, (_, index) => String(index)).sort())
  })

  it('keeps a bounded number of rows while the store is away, and counts what it dropped', async () => {
    away = true
    for (let index = 0; index < AUDIT_WAITING_MAX + 3; index++) await audit.record(entry)
    expect([audit.waiting, audit.dropped]).toEqual([AUDIT_WAITING_MAX, 3])
  })
})

describe('degradation', () => {
  it('is marked with a reason, keeps its beginning, and is announced when it ends', async () => {
    const marks = degradation(kit)
    marks.mark('balance', 'table user_balance is missing')
    marks.mark('balance', 'table user_balance is missing')
    const { since } = marks.of('balance') ?? { since: 0 }
    await env.advance('10s')
    marks.mark('balance', 'still missing')
    expect(marks.list()).toEqual([{ feature: 'balance', reason: 'still missing', since }])
    marks.clear('balance')
    marks.clear('balance')
    expect(marks.list()).toEqual([])
    expect(seen.map(event => [event.name, event.data])).toEqual([
      ['degradation.marked', { feature: 'balance', reason: 'table user_balance is missing' }],
      ['degradation.marked', { feature: 'balance', reason: 'still missing' }],
      ['degradation.cleared', { feature: 'balance', afterMs: 10_000 }],
    ])
  })
})
