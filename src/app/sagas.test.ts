/**
 * Runs of sagas in a whole service: tickets of the real desk, operators' commands with audit, the API and the command line, a restart.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { run } from '../cli/run.ts'
import { realEnv } from '../core/index.ts'
import type { Saga, SagaOutcome } from '../durable/index.ts'
import { combine } from '../http/index.ts'
import { serve, type Served } from '../http/node.ts'
import { operate, writeRuntimeFile } from '../operate/index.ts'
import type { MemoryTx } from '../store/index.ts'
import { memory, memoryDisk, type MemoryDisk } from '../store/memory/index.ts'
import { createHoldfast, type DurableHoldfast } from './index.ts'

const alice = { id: 'alice', via: 'cli' } as const
const bob = { id: 'bob', via: 'cli' } as const
const env = realEnv()

let disk: MemoryDisk
let hold: DurableHoldfast<MemoryTx>
let erase: Saga<{ readonly customer: string }, object>
let served: Served
let dir: string
let erased: string[]
let refuses: boolean

/** Locks a customer, waits for a confirmation, erases what he has. */
async function open(): Promise<void> {
  hold = createHoldfast({ service: 'shop', store: memory(disk), env, environment: {}, log: 'silent', secrets: ['hunter2-secret'] })
  erase = hold.saga('erase', {
    version: 1, input: z.object({ customer: z.string() }), backoff: '1s',
    run: async (step, { customer }) => {
      await step('lock', { effect: 'idempotent', run: async () => { if (refuses) throw Object.assign(new Error('reset by hunter2-secret'), { code: 'ECONNRESET' }) }, undo: async () => undefined })
      await step('erase', { effect: 'idempotent', irreversible: { summary: `Erase everything of ${customer}` }, run: async () => { erased.push(customer) } })
      return {}
    },
  })
  await hold.start()
  served = await serve(combine([operate(hold)]), { port: 0 })
  writeRuntimeFile(dir, { url: `${served.url}/console`, pid: process.pid })
}

beforeEach(async () => {
  disk = memoryDisk()
  erased = []
  refuses = false
  dir = mkdtempSync(join(tmpdir(), 'holdfast-sagas-'))
  await open()
})
async function close(): Promise<void> {
  await served.close()
  await hold.stop()
}
afterEach(async () => {
  await close()
  rmSync(dir, { recursive: true })
})

const start = (id: string): Promise<SagaOutcome<object>> => erase.start(id, { customer: `customer ${id}` })

async function holdfast(args: readonly string[], user = 'alice'): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const out: string[] = []
  const err: string[] = []
  const code = await run(args, {
    env, environment: { HOLDFAST_DATA: dir }, cwd: dir, user, terminal: false, columns: 200, signal: new AbortController().signal,
    out: text => { out.push(text) }, err: text => { err.push(text) },
  })
  return { code, out: out.join('\n'), err: err.join('\n') }
}

describe('a step that cannot be taken back', () => {
  it('waits in the work list, is asked for and confirmed on the command line, and leaves who and why', async () => {
    expect(await start('1')).toMatchObject({ outcome: 'running', reason: 'waits for confirmation: Erase everything of customer 1' })
    expect((await hold.status()).work).toMatchObject([{ kind: 'saga', name: 'erase', id: '1', state: 'waits for confirmation', actions: [] }])
    const asked = await holdfast(['saga', 'confirm', 'erase', '1'])
    expect(asked).toMatchObject({ code: 0 })
    expect(asked.out).toContain('Erase everything of customer 1.')
    const token = /--ticket (\S+)/.exec(asked.out)?.[1] ?? ''
    expect(erased).toEqual([])
    expect((await holdfast(['saga', 'confirm', 'erase', '1', '--ticket', token, '--reason', 'they asked'], 'bob')).code).not.toBe(0)
    expect(erased).toEqual([])
    expect(await holdfast(['saga', 'confirm', 'erase', '1', '--ticket', token, '--reason', 'they asked'])).toMatchObject({ code: 0, out: 'erase 1 is confirmed and done.' })
    expect((await holdfast(['saga', 'confirm', 'erase', '1', '--ticket', token, '--reason', 'again'])).err).toContain('used already')
    expect(erased).toEqual(['customer 1'])
    const audit = await hold.audit()
    expect(audit.find(row => row.action === 'command.saga.confirm' && row.outcome === 'done')).toMatchObject({ actor: 'cli:alice', target: '1', reason: 'they asked' })
    expect(JSON.stringify(audit)).not.toContain(token)
  })

  it('is confirmed over a restart with a ticket of before it, once', async () => {
    await start('1')
    const ticket = await hold.requestConfirmation('erase', '1', alice)
    await close()
    await open()
    expect(erased).toEqual([])
    await expect(erase.confirm(ticket?.token ?? '', bob)).rejects.toMatchObject({ code: 'HF_TICKET_INVALID', context: { why: 'other-actor' } })
    expect(await erase.confirm(ticket?.token ?? '', alice)).toMatchObject({ id: '1', outcome: 'done' })
    await expect(erase.confirm(ticket?.token ?? '', alice)).rejects.toMatchObject({ code: 'HF_TICKET_INVALID', context: { why: 'used' } })
    expect(erased).toEqual(['customer 1'])
  })

  it('is not reached by the command without a ticket, nor by retrying, skipping or settling it as work', async () => {
    await start('1')
    for (const command of ['saga.confirm', 'saga.retry', 'saga.skip']) await hold.command(command, { target: '1', args: { saga: 'erase' }, actor: alice, reason: 'go' }).catch(() => undefined)
    await hold.command('work.retry', { target: '1', args: { kind: 'saga', name: 'erase' }, actor: alice, reason: 'go' })
    expect(erased).toEqual([])
    expect((await hold.sagaHistory('erase', '1'))?.state).toBe('running')
  })
})

describe('cancelling', () => {
  it('says before what it would do, does it, and answers in words what it cannot', async () => {
    await start('1')
    expect((await holdfast(['saga', 'cancel', 'erase', '1', '--preview'])).out).toBe('erase 1 is running (waits for confirmation: Erase everything of customer 1), done: lock; what it has done is undone in reverse order, unless it is past its point of no return.')
    expect((await hold.sagaHistory('erase', '1'))?.state).toBe('running')
    expect((await holdfast(['saga', 'cancel', 'erase', '1', '--reason', 'wrong customer'])).out).toBe('erase 1 is undone: cancelled by cli:alice: wrong customer.')
    expect((await holdfast(['saga', 'cancel', 'erase', '1', '--reason', 'again'])).out).toBe('erase 1 was not cancelled: it is undone; nothing changed.')
    expect((await hold.audit()).filter(row => row.action === 'command.saga.cancel').map(row => row.outcome)).toEqual(['done', 'done'])
  })
})

describe('the history', () => {
  it('is told by saga show and by explain, redacted, also after a restart', async () => {
    refuses = true
    await start('1')
    await close()
    await open()
    const shown = await holdfast(['saga', 'show', 'erase', '1'])
    expect(shown.code).toBe(0)
    for (const words of ['erase 1', 'started', 'failed', 'lock', 'reset by ***']) expect(shown.out).toContain(words)
    expect(shown.out).not.toContain('hunter2-secret')
    expect((await holdfast(['explain', 'saga:erase:1'])).out).toContain('reset by ***')
    expect((await holdfast(['saga', 'show', 'erase', 'nobody'])).code).toBe(64)
    expect((await holdfast(['saga', 'show', 'nothing', '1'])).code).toBe(64)
  })

  it('names who let a stuck run go on and what was skipped', async () => {
    const stuck = hold.saga('stuck', { version: 1, input: z.object({}), run: async step => step('pay', { effect: 'once', verify: 'hold', run: async () => { throw Object.assign(new Error('cut'), { code: 'ECONNRESET' }) } }) })
    expect((await stuck.start('1', {})).outcome).toBe('needs-human')
    expect((await holdfast(['saga', 'retry', 'stuck', '1', '--reason', 'looked'])).out).toBe('stuck 1 goes on.')
    await stuck.start('1', {})
    expect((await holdfast(['saga', 'skip', 'stuck', '1', '--reason', 'paid in cash', '--value', '"cash"'])).out).toBe('stuck 1 goes on without pay.')
    expect(await stuck.start('1', {})).toEqual({ outcome: 'done', value: 'cash' })
    expect((await hold.sagaHistory('stuck', '1'))?.entries.filter(entry => entry.by === 'cli:alice').map(({ what, detail }) => [what, detail])).toEqual([['retried', 'looked'], ['skipped', 'paid in cash']])
    expect((await holdfast(['saga', 'skip', 'stuck', '1', '--reason', 'x', '--value', '{'])).code).toBe(64)
  })
})
