import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { HoldfastError } from '../../core/index.ts'
import { refuse } from '../failure.ts'
import { outbox } from './outbox.ts'
import type { Outbox, OutboxMessage, OutboxOptions, Send, SendResult, TopicOptions } from './types.ts'

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

  it('says what happened, with the lane, the key and the topic', async () => {
    const answers: (SendResult | undefined)[] = [{ kind: 'retry', reason: 'busy', afterMs: 5_000 }, { kind: 'retry', reason: 'flood', afterMs: 7_000, pause: 'lane' }, undefined, { kind: 'dead', reason: 'blocked' }]
    const out = make(async () => answers.shift())
    const about = { lane: 'chat:1', topic: 'notice' }
    await put(out, '1')
    await put(out, '2')
    await out.relay()
    await world.elapse(5_001)
    await out.relay()
    await world.elapse(7_001)
    expect(await out.relay()).toEqual({ sent: 1, failed: 0, parked: 1 })
    expect(world.names('outbox.failed').map(({ data }) => data)).toEqual([{ ...about, onceKey: '1', message: 'busy', retryInMs: 5_000 }, { ...about, onceKey: '1', message: 'flood', retryInMs: 7_000 }])
    expect(world.names('outbox.paused').map(({ data }) => data)).toEqual([{ lane: 'chat:1', forMs: 7_000 }])
    expect(world.names('outbox.sent').map(({ data }) => data)).toEqual([{ ...about, onceKey: '1' }])
    expect(world.names('outbox.parked').map(({ data }) => data)).toEqual([{ ...about, onceKey: '2', state: 'dead', message: 'blocked' }])
  })

  it('counts no attempt where nothing was tried: our own guard refused, or the other side asked for a pause', async () => {
    const errors: unknown[] = [new HoldfastError('HF_BREAKER_OPEN', { message: 'open', retryAfterMs: 3_000 }), Object.assign(new Error('slow down'), { status: 429 })]
    const attempts: number[] = []
    const out = make(async ({ attempt }) => { attempts.push(attempt); const error = errors.shift(); if (error !== undefined) throw error as Error }, { attempts: 1 })
    await put(out, '1')
    for (const waitMs of [3_001, 2_001]) {
      expect(await out.relay()).toEqual({ sent: 0, failed: 1, parked: 0 })
      await world.elapse(waitMs)
    }
    expect(await out.relay()).toEqual({ sent: 1, failed: 0, parked: 0 })
    expect(attempts).toEqual([1, 1, 1])
  })

  it('a sweep settles what dead senders left, and leaves to the relay what may be sent again', async () => {
    const dead = world.kit('dead')
    const doomed = outbox({}, dead)
    const hanging = { send: () => { left += 1; return new Promise<never>(() => undefined) } }
    let left = 0
    doomed.topic('once', { ...hanging, runbook: 'RUNBOOK#once' })
    doomed.topic('again', { ...hanging, repeatable: true })
    for (const topic of ['once', 'again']) await world.database.transaction('test.put', tx => doomed.enqueue(tx, { lane: topic, topic, onceKey: topic, payload: null }))
    void doomed.relay()
    for (let i = 0; i < 500 && left < 2; i++) await new Promise(resolve => { setTimeout(resolve, 1) })
    expect(await doomed.sweep(100)).toBe(0)
    dead.env.kill()
    await world.elapse(30_001)
    const sent: OutboxMessage[] = []
    const out = outbox({}, world.kit('b'))
    out.topic('once', { send: async message => { sent.push(message) }, runbook: 'RUNBOOK#once' })
    out.topic('again', { send: async message => { sent.push(message) }, repeatable: true })
    expect([await out.sweep(100), await out.sweep(100)]).toEqual([1, 0])
    expect(world.names('outbox.parked').map(({ data }) => data)).toEqual([{ lane: 'once', topic: 'once', onceKey: 'once', state: 'unknown', message: 'its sender died' }])
    expect(await out.relay()).toEqual({ sent: 1, failed: 0, parked: 0 })
    expect(keys(sent)).toEqual(['again'])
    expect([out.runbookOf('once'), out.runbookOf('again'), out.runbookOf('other')]).toEqual(['RUNBOOK#once', undefined, undefined])
  })

  it('leaves messages of a topic that this release does not know, and their lane, to one that does', async () => {
    const newer = outbox({}, world.kit('newer'))
    newer.topic('news', { send: async () => undefined })
    await world.database.transaction('test.put', tx => newer.enqueue(tx, { lane: 'chat:1', topic: 'news', onceKey: 'n', payload: null }))
    const out = make(async () => undefined)
    await put(out, '1')
    expect(await out.relay()).toEqual({ sent: 0, failed: 0, parked: 0 })
    expect(await outbox({}, world.kit('none')).relay()).toEqual({ sent: 0, failed: 0, parked: 0 })
    newer.topic('notice', { send: async () => undefined })
    expect(await newer.relay()).toEqual({ sent: 2, failed: 0, parked: 0 })
  })

  it('gives another lane its turn after twenty messages, when that one waits longer', async () => {
    const lanes: string[] = []
    const out = outbox<unknown>({ lanes: 1 }, world.kit())
    out.topic('notice', { send: async ({ lane }) => { lanes.push(lane) } })
    for (let i = 0; i < 20; i++) await put(out, `a${String(i)}`, 'a')
    await world.elapse(10)
    await put(out, 'b', 'b')
    await world.elapse(10)
    for (let i = 20; i < 25; i++) await put(out, `a${String(i)}`, 'a')
    expect((await out.relay()).sent).toBe(26)
    expect(lanes.indexOf('b')).toBe(20)
  })

  it('wakes its relay when somebody says so, and when a message is put back', async () => {
    const kit = world.kit()
    const out = outbox<unknown>({ poll: '60s', drainFor: '1ms' }, kit)
    const sent: string[] = []
    out.topic('notice', { send: async ({ onceKey }) => { sent.push(onceKey); if (sent.length === 2) throw refuse('no') } })
    const seen = async (count: number): Promise<void> => {
      for (let i = 0; i < 500 && sent.length < count; i++) await new Promise(resolve => { setTimeout(resolve, 1) })
      expect(sent.length).toBe(count)
      for (let i = 0; i < 500 && world.names('outbox.sent').length + world.names('outbox.parked').length < count; i++) await new Promise(resolve => { setTimeout(resolve, 1) })
    }
    await put(out, '1')
    out.start()
    await seen(1)
    await put(out, '2')
    out.wake()
    await seen(2)
    expect(await out.requeue('2', 'fixed')).toBe(true)
    await seen(3)
    expect(await out.requeue('2', 'again')).toBe(false)
    await out.stop()
    expect(world.env.pendingTimers).toBe(0)
  })

  it('refuses numbers out of range and the name of all lanes', async () => {
    const refused = expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error
    for (const lanes of [0, 1.5, 101]) expect(() => outbox({ lanes }, world.kit())).toThrow(refused)
    const wrong: OutboxOptions[] = [{ lease: '999ms' }, { keepFor: '59m' }]
    for (const options of wrong) expect(() => outbox(options, world.kit())).toThrow(refused)
    for (const lanes of [1, 100]) outbox({ lanes, lease: '1s', keepFor: '1h' }, world.kit())
    for (const attempts of [0, 1.5, 101]) expect(() => make(async () => undefined, { attempts })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID', context: { topic: 'notice' } }) as Error)
    expect(() => make(async () => undefined, { backoff: '5s', backoffMax: '4s' })).toThrow(refused)
    for (const attempts of [1, 100]) make(async () => undefined, { attempts, backoff: '5s', backoffMax: '5s' })
    await expect(put(make(async () => undefined), '1', '*')).rejects.toMatchObject({ code: 'HF_INPUT_INVALID', context: { topic: 'notice' } })
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
