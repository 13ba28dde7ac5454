import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import { refuse } from '../failure.ts'
import { outbox } from './outbox.ts'
import type { Outbox, OutboxMessage, Send, SendResult, TopicOptions } from './types.ts'

describe.each(testStores)('outbox on $name', store => {
  let world: TestWorld
  beforeEach(async () => { world = await store.open() })
  afterEach(() => world.close())

  const make = (send: Send, options: Omit<TopicOptions, 'send'> = {}, instance = 'a'): Outbox<unknown> => {
    const out = outbox({}, world.kit(instance))
    out.topic('notice', { send, ...options })
    return out
  }
  const put = (out: Outbox<unknown>, onceKey: string, lane = 'chat:1'): Promise<boolean> =>
    world.database.transaction('test.put', tx => out.enqueue(tx, { lane, topic: 'notice', onceKey, payload: { text: onceKey } }))
  const keys = (messages: readonly OutboxMessage[]): string[] => messages.map(message => message.onceKey)

  it('sends what was committed, in order, once', async () => {
    const sent: OutboxMessage[] = []
    const out = make(async message => { sent.push(message) })
    for (const key of ['1', '2', '3']) expect(await put(out, key)).toBe(true)
    expect(await put(out, '2')).toBe(false)
    expect(await out.relay()).toEqual({ sent: 3, failed: 0, parked: 0 })
    expect(await out.relay()).toEqual({ sent: 0, failed: 0, parked: 0 })
    expect(keys(sent)).toEqual(['1', '2', '3'])
    expect(sent[0]).toEqual({ lane: 'chat:1', topic: 'notice', onceKey: '1', payload: { text: '1' }, attempt: 1 })
  })

  it('never sends what was rolled back', async () => {
    const out = make(async () => { throw new Error('must not be called') })
    await expect(world.database.transaction('test.put', async tx => {
      await out.enqueue(tx, { lane: 'l', topic: 'notice', onceKey: 'x', payload: null })
      throw new Error('rolled back')
    })).rejects.toThrow('rolled back')
    expect((await out.relay()).sent).toBe(0)
    expect(await put(out, 'x')).toBe(true)
  })

  it('is sent once by two instances that relay at the same time', async () => {
    const sent: OutboxMessage[] = []
    const both = ['a', 'b'].map(name => make(async message => { sent.push(message) }, {}, name))
    for (let i = 0; i < 20; i++) await put(both[0] ?? make(async () => undefined), String(i), `chat:${String(i % 4)}`)
    await Promise.all(both.map(out => out.relay()))
    await Promise.all(both.map(out => out.relay()))
    expect(sent).toHaveLength(20)
    expect(new Set(keys(sent)).size).toBe(20)
    expect(keys(sent.filter(message => message.lane === 'chat:1'))).toEqual(['1', '5', '9', '13', '17'])
  })

  it('refuses an undeclared topic', async () => {
    const out = make(async () => undefined)
    await expect(world.database.transaction('test.put', tx => out.enqueue(tx, { lane: 'l', topic: 'typo', onceKey: 'k', payload: null }))).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME' })
  })

  describe('a send that surely failed', () => {
    it('is tried again after a wait, and the lane waits with it', async () => {
      const answers: (SendResult | undefined)[] = [{ kind: 'retry', reason: 'busy' }]
      const sent: OutboxMessage[] = []
      const out = make(async message => { sent.push(message); return answers.shift() })
      await put(out, '1')
      await put(out, '2')
      expect(await out.relay()).toEqual({ sent: 0, failed: 1, parked: 0 })
      expect((await out.relay()).sent).toBe(0)
      await world.elapse(2_001)
      expect((await out.relay()).sent).toBe(2)
      expect(sent.map(({ onceKey, attempt }) => `${onceKey}#${String(attempt)}`)).toEqual(['1#1', '1#2', '2#1'])
    })

    it('is dead after its attempts, is shown, and the lane goes on', async () => {
      const out = make(async message => { if (message.onceKey === '1') throw Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }); return undefined }, { attempts: 2 })
      await put(out, '1')
      await put(out, '2')
      await out.relay()
      await world.elapse(2_001)
      expect(await out.relay()).toEqual({ sent: 1, failed: 0, parked: 1 })
      expect(world.names('outbox.parked')[0]?.data).toMatchObject({ onceKey: '1', state: 'dead' })
    })

    it('holds its lane for a human where that is declared', async () => {
      let blocked = true
      const out = make(async () => { if (blocked) throw refuse('the customer blocked the bot') }, { onDead: 'hold' })
      await put(out, '1')
      await put(out, '2')
      expect(await out.relay()).toEqual({ sent: 0, failed: 0, parked: 1 })
      expect((await out.relay()).sent).toBe(0)
      blocked = false
      expect(await out.requeue('1', 'unblocked')).toBe(true)
      expect((await out.relay()).sent).toBe(2)
    })

    it('pauses the lane, or all lanes, for as long as the other side asked', async () => {
      const limited = new HoldfastError('HF_RATE_LIMITED', { message: 'too many requests', retryAfterMs: 40_000 })
      const plan: (Error | SendResult | undefined)[] = [limited, undefined, { kind: 'retry', reason: 'flood', afterMs: 60_000, pause: 'all' }]
      const out = make(async () => { const next = plan.shift(); if (next instanceof Error) throw next; return next })
      await put(out, 'a', 'lane-a')
      await out.relay()
      await put(out, 'b', 'lane-b')
      expect((await out.relay()).sent).toBe(1)
      await put(out, 'c', 'lane-c')
      await out.relay()
      await world.elapse(41_000)
      expect((await out.relay()).sent).toBe(0)
      await world.elapse(20_000)
      expect((await out.relay()).sent).toBe(2)
    })
  })

  describe('a send of unknown outcome', () => {
    it('is never sent again by itself', async () => {
      let sends = 0
      const out = make(async () => { sends += 1; throw Object.assign(new Error('reset'), { code: 'ECONNRESET' }) })
      await put(out, '1')
      expect(await out.relay()).toEqual({ sent: 0, failed: 0, parked: 1 })
      await world.elapse(30 * 86_400_000)
      await out.relay()
      await out.sweep(100)
      expect(sends).toBe(1)
      expect(await out.discard('1', 'seen by the customer')).toBe(true)
    })

    it('is sent again with the same key where the topic is repeatable', async () => {
      const seen: string[] = []
      const out = make(async (_, { key }) => { seen.push(key); if (seen.length === 1) throw Object.assign(new Error('reset'), { code: 'ECONNRESET' }) }, { repeatable: true })
      await put(out, '1')
      await out.relay()
      await world.elapse(2_001)
      expect((await out.relay()).sent).toBe(1)
      expect(seen).toHaveLength(2)
      expect(new Set(seen).size).toBe(1)
    })

    it('is what a sender that dies with a message in flight leaves', async () => {
      const dead = world.kit('dead')
      const doomed = outbox({}, dead)
      let left = false
      doomed.topic('notice', { send: () => { left = true; return new Promise(() => undefined) } })
      await put(doomed, '1')
      await put(doomed, '2')
      void doomed.relay()
      for (let i = 0; i < 500 && !left; i++) await new Promise(resolve => { setTimeout(resolve, 1) })
      dead.env.kill()
      const sent: OutboxMessage[] = []
      const out = make(async message => { sent.push(message) }, {}, 'b')
      expect((await out.relay()).sent).toBe(0)
      await world.elapse(30_001)
      expect(await out.relay()).toEqual({ sent: 1, failed: 0, parked: 1 })
      expect(keys(sent)).toEqual(['2'])
      expect(world.names('outbox.parked')[0]?.data).toMatchObject({ onceKey: '1', state: 'unknown', message: 'its sender died' })
    })
  })

  it('does not send what is too old', async () => {
    const out = make(async () => { throw new Error('must not be called') })
    await world.database.transaction('test.put', tx => out.enqueue(tx, { lane: 'l', topic: 'notice', onceKey: '1', payload: null, sendWithin: '10s' }))
    await world.elapse(10_001)
    expect(await out.relay()).toEqual({ sent: 0, failed: 0, parked: 1 })
    expect(world.names('outbox.parked')).toEqual([])
  })

  it('leaves a sender that ignores its timeout behind, as unknown', async () => {
    const kit = world.kit('a')
    const out = outbox({}, kit)
    let begun = false
    out.topic('notice', { send: () => { begun = true; return new Promise(() => undefined) } })
    await put(out, '1')
    const relay = out.relay()
    for (let i = 0; i < 500 && !begun; i++) await new Promise(resolve => { setTimeout(resolve, 1) })
    await world.env.advance('15s')
    expect(await relay).toEqual({ sent: 0, failed: 0, parked: 1 })
    expect(world.env.pendingTimers).toBe(0)
  })
})
