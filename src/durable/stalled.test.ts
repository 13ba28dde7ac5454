import { describe, expect, it } from 'vitest'
import { EventBus, type Schema } from '../core/index.ts'
import { withHooks, type MemoryTx } from '../store/index.ts'
import { memory } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { inbox } from './inbox/inbox.ts'
import type { DurableKit } from './kit.ts'
import { once } from './once/once.ts'
import { outbox } from './outbox/outbox.ts'

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

/** SIGSTOP: time passes and no timer of this process fires. */
async function stopped(env: SimulatedEnv, ms: number): Promise<void> {
  env.pause()
  const waited = new Promise<void>(resolve => { env.process('outside').timer(ms, () => { env.resume(); resolve() }) })
  await waited
}
