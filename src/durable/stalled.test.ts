import { describe, expect, it } from 'vitest'
import { EventBus, type Schema } from '../core/index.ts'
import { withHooks, type MemoryTx } from '../store/index.ts'
import { memory } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { inbox } from './inbox/inbox.ts'
import type { DurableKit } from './kit.ts'
import { once } from './once/once.ts'
import { refuse } from './failure.ts'
import { outbox } from './outbox/outbox.ts'
import { saga } from './saga/saga.ts'

/**
 * A process that is stopped for longer than its lease while the store's answer is on its way: the answer is read when it goes
 * on, and grants what is long somebody else's. Nothing may leave the process then.
 */
const text: Schema<string, string> = { '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as string }) } }

interface Stalling {
  readonly env: SimulatedEnv
  readonly kit: DurableKit<MemoryTx>
  /** The next answer to a transaction of this name arrives so much later. */
  readonly stall: (transaction: string, ms: number) => void
}

async function world(): Promise<Stalling> {
  const env = simulatedEnv()
  const events = new EventBus(env)
  let stalled: { readonly transaction: string; readonly ms: number } | undefined
  const store = withHooks(memory(), {
    after: async name => {
      if (stalled?.transaction !== name) return
      const { ms } = stalled
      stalled = undefined
      await stopped(env, ms)
    },
  })
  const database = await store.open({ env, events, service: 'test' })
  return { env, kit: { env, events, service: 'test', instance: 'i', database: () => database }, stall: (transaction, ms) => { stalled = { transaction, ms } } }
}

describe.each([['longer than the lease', 31_000, false], ['shorter than the lease (control)', 20_000, true]] as const)('an answer that was %s on its way', (_how, ms, acts) => {
  it('once: no call is made on its word', async () => {
    const { env, kit, stall } = await world()
    const calls: string[] = []
    const pay = once('pay', { input: text, key: id => id, onUnknown: 'hold', lease: '30s', call: async id => { calls.push(id); return id } }, kit)
    stall('once.claim', ms)
    const answered = pay('a')
    await env.advance('40s')
    expect([(await answered).outcome, calls]).toEqual(acts ? ['done', ['a']] : ['in-progress', []])
  })

  it('once: nor after a look that took so long', async () => {
    const { env, kit } = await world()
    const calls: string[] = []
    const pay = once('pay', {
      input: text, key: id => id, lease: '30s',
      call: async (id: string) => { calls.push(id); if (calls.length === 1) throw new Error('socket hang up'); return id },
      // The process stands still: no heartbeat gets through meanwhile.
      onUnknown: { verify: async () => { await stopped(env, ms); return { happened: false as const } } },
    }, kit)
    expect((await pay('a')).outcome).toBe('unknown')
    const answered = pay('a')
    await env.advance('40s')
    expect([(await answered).outcome, calls.length]).toEqual(acts ? ['done', 2] : ['in-progress', 1])
  })

  it('outbox: nothing is sent on its word', async () => {
    const { env, kit, stall } = await world()
    const sent: string[] = []
    const out = outbox<MemoryTx>({ lease: '30s' }, kit)
    out.topic('mail', { send: async ({ onceKey }) => { sent.push(onceKey) } })
    await kit.database().transaction('enqueue', tx => out.enqueue(tx, { lane: 'l', topic: 'mail', onceKey: 'a', payload: null }))
    stall('outbox.sending', ms)
    const relayed = out.relay()
    await env.advance('40s')
    await relayed
    expect(sent).toEqual(acts ? ['a'] : [])
  })

  it('inbox: no handler begins on its word', async () => {
    const { env, kit, stall } = await world()
    const handled: number[] = []
    const incoming = inbox<MemoryTx>({ lease: '30s' }, kit)
    await incoming.claim({ source: 'chat', id: 'a', lane: 'l', payload: null })
    stall('inbox.next', ms)
    const processor = incoming.process('chat', async (_message, { attempt }) => { handled.push(attempt) }, { poll: '60s' })
    processor.start()
    await env.advance('120s')
    // The first attempt came to nothing; it is taken again.
    expect(handled).toEqual(acts ? [1] : [2])
    await Promise.all([processor.stop(), env.advance('1s')])
  })
})

describe('a call that leaves the process after it stood still', () => {
  /** What each kind of call is told about its time, read when the process has stood still in the call, just before its request. */
  it.each([['stood still for longer than the lease', 40_000, true], ['did not (control)', 0, false]] as const)('bears a time that is over, where it %s', async (_how, ms, over) => {
    const { env, kit } = await world()
    const late: Record<string, boolean> = {}
    const ask = async (kind: string, context: { readonly untilMs: number }): Promise<void> => {
      if (ms > 0) await stopped(env, ms)
      late[kind] = context.untilMs < env.now()
    }
    const lost = (): never => { throw new Error('socket hang up') }
    const pay = once('pay', { input: text, key: id => id, lease: '30s', call: async (id: string, context) => { await ask('once', context); return id }, onUnknown: { verify: async (_, context) => { await ask('verify of once', context); return { happened: false as const } } } }, kit)
    const unsure = once('unsure', { input: text, key: id => id, lease: '30s', call: (): Promise<string> => lost(), onUnknown: { verify: async (_, context) => { await ask('verify of once', context); return { happened: true as const, value: 'x' } } } }, kit)
    const provision = saga('provision', { version: 1, input: text, lease: '30s', run: step => step('make', { effect: 'idempotent', run: async context => { await ask('step', context); return 'made' } }) }, kit)
    const refused = { effect: 'idempotent', run: async () => { throw refuse('no') } } as const
    const undone = saga('undone', { version: 1, input: text, lease: '30s', run: async step => {
      await step('make', { effect: 'idempotent', run: async () => 1, undo: async (_, context) => ask('undo', context) })
      return step('refused', refused)
    } }, kit)
    const dropped = saga('dropped', { version: 1, input: text, lease: '30s', undo: { key: async (_id, context) => ask('undo of a resource', context) }, run: async step => {
      await step('make', { effect: 'idempotent', run: async ({ track }) => track('key', 'k') })
      return step('refused', refused)
    } }, kit)
    const out = outbox<MemoryTx>({ lease: '30s' }, kit)
    out.topic('mail', { timeout: '5m', send: async (_, context) => ask('send', context) })
    await kit.database().transaction('enqueue', tx => out.enqueue(tx, { lane: 'l', topic: 'mail', onceKey: 'a', payload: null }))
    for (const begun of [pay('a'), unsure('b').then(() => unsure('b')), provision.start('c', 'c'), undone.start('d', 'd'), dropped.start('e', 'e'), out.relay()]) {
      begun.catch(() => undefined)
      await env.advance('2m')
    }
    const kinds = ['once', 'verify of once', 'step', 'undo', 'undo of a resource', 'send']
    expect(late).toEqual(Object.fromEntries(kinds.map(kind => [kind, over])))
  })
})

/** SIGSTOP: time passes and no timer of this process fires. */
async function stopped(env: SimulatedEnv, ms: number): Promise<void> {
  env.pause()
  const waited = new Promise<void>(resolve => { env.process('outside').timer(ms, () => { env.resume(); resolve() }) })
  await waited
}
