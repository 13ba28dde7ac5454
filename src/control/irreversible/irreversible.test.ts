import { beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { EventBus, type Actor, type HoldfastEvent } from '../../core/index.ts'
import type { MemoryTx } from '../../store/index.ts'
import { memory, memoryDisk, type MemoryDisk } from '../../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/simulated-env.ts'
import { auditLog } from '../audit/audit.ts'
import type { StoreKit } from '../kit.ts'
import { irreversible, type Irreversible, type IrreversibleOptions } from './irreversible.ts'

const alice: Actor = { id: '42', via: 'telegram', roles: ['admin'] }
const bob: Actor = { id: '7', via: 'telegram', roles: ['admin'] }
const input = z.object({ userId: z.string().min(1) })

let env: SimulatedEnv
let disk: MemoryDisk
let kit: StoreKit<MemoryTx>
let seen: HoldfastEvent[]

async function open(): Promise<StoreKit<MemoryTx>> {
  const events = new EventBus(env)
  events.onAny(event => { seen.push(event) })
  const database = await memory(disk).open({ env, events, service: 'test' })
  return { env, events, service: 'test', instance: 'i', database: () => database }
}

beforeEach(async () => {
  env = simulatedEnv()
  disk = memoryDisk()
  seen = []
  kit = await open()
})

type Revoke = IrreversibleOptions<{ userId: string }, { userId: string }, { revoked: string }, MemoryTx>

function revoke(change: Partial<Revoke> = {}, on: StoreKit<MemoryTx> = kit): Irreversible<{ userId: string }, { revoked: string }> {
  return irreversible('revoke-access', {
    input, summary: r => `Delete the key of ${r.userId}`, ticketFor: '2m',
    run: async (r, { tx }) => {
      tx.table<number>('revoked').set(env.uuid(), 1)
      return { revoked: r.userId }
    },
    ...change,
  }, on)
}

const runs = (): number => disk.rows('revoked').length
const why = (reason: string) => ({ code: 'HF_TICKET_INVALID', context: { why: reason } })

describe('a ticket', () => {
  it('names what will be done, fits into callback data, and is stored only as a hash', async () => {
    const ticket = await revoke().request({ userId: '9' }, alice)
    expect(ticket).toMatchObject({ summary: 'Delete the key of 9', expiresAt: new Date(env.now() + 120_000) })
    expect(Buffer.from(ticket.token, 'base64url')).toHaveLength(16)
    expect(Buffer.byteLength(`confirm:revoke-access:${ticket.token}`)).toBeLessThanOrEqual(64)
    expect(JSON.stringify([...disk.rows('ticket'), ...disk.rows('audit')])).not.toContain(ticket.token)
  })

  it('runs the action once, with the arguments it was requested for, and leaves an audit row', async () => {
    const action = revoke()
    const { token } = await action.request({ userId: '9' }, alice)
    expect(await action.confirm(token, alice)).toEqual({ revoked: '9' })
    await expect(action.confirm(token, alice)).rejects.toMatchObject(why('used'))
    expect(runs()).toBe(1)
    const [refused, done] = await auditLog(kit).list()
    expect(refused).toMatchObject({ action: 'ticket.confirm', outcome: 'refused', reason: 'used' })
    expect(done).toMatchObject({ actor: 'telegram:42', action: 'irreversible.revoke-access', target: 'Delete the key of 9', outcome: 'done', before: { input: { userId: '9' }, state: '' } })
    expect(seen.map(event => event.name)).toEqual(['ticket.requested', 'irreversible.done', 'ticket.refused'])
  })

  it('is used by exactly one of a hundred confirmations at once, on two instances', async () => {
    const actions = [revoke(), revoke({}, await open())]
    const { token } = await revoke().request({ userId: '9' }, alice)
    const results = await Promise.allSettled(Array.from({ length: 100 }, (_, index) => (actions[index % 2] ?? revoke()).confirm(token, alice)))
    expect(results.filter(result => result.status === 'fulfilled')).toHaveLength(1)
    expect(runs()).toBe(1)
  })

  it('is unknown for another action, to a restart it is not', async () => {
    const { token } = await revoke().request({ userId: '9' }, alice)
    const other = irreversible('delete-user', { input, summary: () => 'x', ticketFor: '2m', run: async () => ({ revoked: 'no' }) }, kit)
    await expect(other.confirm(token, alice)).rejects.toMatchObject(why('unknown'))
    expect(await revoke({}, await open()).confirm(token, alice)).toEqual({ revoked: '9' })
    await expect(revoke({}, await open()).confirm(token, alice)).rejects.toMatchObject(why('used'))
  })

  it('expires by the database\'s clock', async () => {
    const action = revoke()
    const { token } = await action.request({ userId: '9' }, alice)
    await env.advance('120s')
    await expect(action.confirm(token, alice)).rejects.toMatchObject(why('expired'))
    expect(runs()).toBe(0)
  })

  it('is void for another admin', async () => {
    const action = revoke()
    const { token } = await action.request({ userId: '9' }, alice)
    await expect(action.confirm(token, bob)).rejects.toMatchObject(why('other-actor'))
    expect(await action.confirm(token, alice)).toEqual({ revoked: '9' })
  })

  it('is void when what it is about has changed, also when it changes back', async () => {
    let version = 'v1'
    const action = revoke({ state: () => version })
    const { token } = await action.request({ userId: '9' }, alice)
    version = 'v2'
    await expect(action.confirm(token, alice)).rejects.toMatchObject(why('state-changed'))
    version = 'v1'
    await expect(action.confirm(token, alice)).rejects.toMatchObject(why('used'))
    expect(runs()).toBe(0)
  })

  it('can be confirmed again when the action failed, and nothing of the failure is kept', async () => {
    let broken = true
    const action = revoke({
      run: async (r, { tx }) => {
        tx.table<number>('revoked').set('x', 1)
        if (broken) throw new Error('constraint')
        return { revoked: r.userId }
      },
    })
    const { token } = await action.request({ userId: '9' }, alice)
    await expect(action.confirm(token, alice)).rejects.toThrow('constraint')
    expect(runs()).toBe(0)
    broken = false
    expect(await action.confirm(token, alice)).toEqual({ revoked: '9' })
  })
})

describe('guessing', () => {
  it('ends after five wrong tokens within ten minutes, for that actor alone', async () => {
    const action = revoke()
    const { token } = await action.request({ userId: '9' }, alice)
    const other = await action.request({ userId: '8' }, bob)
    for (let guess = 0; guess < 5; guess++) await expect(action.confirm(`wrong-${String(guess)}`, alice)).rejects.toMatchObject(why('unknown'))
    await expect(action.confirm(token, alice)).rejects.toMatchObject({ code: 'HF_RATE_LIMITED', retryAfterMs: 600_000 })
    expect(await action.confirm(other.token, bob)).toEqual({ revoked: '8' })
    await env.advance('10m')
    const again = await action.request({ userId: '9' }, alice)
    expect(await action.confirm(again.token, alice)).toEqual({ revoked: '9' })
  })

  it('a double tap is no guess', async () => {
    const action = revoke()
    const first = await action.request({ userId: '9' }, alice)
    await action.confirm(first.token, alice)
    for (let tap = 0; tap < 10; tap++) await expect(action.confirm(first.token, alice)).rejects.toMatchObject(why('used'))
    const second = await action.request({ userId: '8' }, alice)
    expect(await action.confirm(second.token, alice)).toEqual({ revoked: '8' })
  })
})

describe('two persons', () => {
  it('who asked cannot confirm, by whatever channel; another can, once', async () => {
    const action = revoke({ approvals: 2 })
    const { token } = await action.request({ userId: '9' }, alice)
    await expect(action.confirm(token, alice)).rejects.toMatchObject(why('other-actor'))
    await expect(action.confirm(token, { ...alice, via: 'console' })).rejects.toMatchObject(why('other-actor'))
    expect(await action.confirm(token, bob)).toEqual({ revoked: '9' })
    await expect(action.confirm(token, bob)).rejects.toMatchObject(why('used'))
  })
})

describe('refused before anything happens', () => {
  it('a bad input, a missing role, a bad definition', async () => {
    await expect(revoke().request({ userId: '' }, alice)).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    await expect(revoke({ roles: ['owner'] }).request({ userId: '9' }, alice)).rejects.toMatchObject({ code: 'HF_FORBIDDEN' })
    await expect(revoke({ roles: ['owner'] }).confirm('x', alice)).rejects.toMatchObject({ code: 'HF_FORBIDDEN' })
    for (const ticketFor of ['5s', '2h', '-3s'] as const) expect(() => revoke({ ticketFor })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })
})
