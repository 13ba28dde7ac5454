import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import type { DurableKit } from '../kit.ts'
import { currentContext, HoldfastError } from '../../core/index.ts'
import { inbox, inboxPort, type Inbox, type InboxHandler, type InboxOptions, type Processor } from './inbox.ts'

describe.each(testStores)('inbox on $name', store => {
  let world: TestWorld
  let processors: Processor[]
  beforeEach(async () => { world = await store.open(); processors = [] })
  afterEach(async () => {
    for (const processor of processors) await processor.stop()
    await world.close()
  })
  const begin = (box: Inbox<unknown>, handler: InboxHandler, concurrency = 16): Processor => {
    const processor = box.process('telegram', handler, { concurrency, drainFor: '1ms' })
    processors.push(processor)
    processor.start()
    return processor
  }
  const claim = (box: Inbox<unknown>, id: string, lane = 'user:1', priority = 100): Promise<'new' | 'duplicate'> => box.claim({ source: 'telegram', id, lane, payload: { id }, priority })
  /** Polls of the processors come due, and the real store answers. */
  const until = async (done: () => boolean): Promise<void> => {
    for (let i = 0; i < 300 && !done(); i++) {
      await world.env.advance(100)
      await new Promise(resolve => { setImmediate(resolve) })
      if (store.concurrent) await world.database.ping()
    }
    expect(done()).toBe(true)
  }

  it('keeps a message once, for 50 deliveries at once on two instances', async () => {
    const a = inbox({}, world.kit('a'))
    const b = inbox({}, world.kit('b'))
    const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => claim(i % 2 === 0 ? a : b, '7')))
    expect(answers.filter(answer => answer === 'new')).toHaveLength(1)
  })

  it('handles a lane in order and one at a time, other lanes beside it', async () => {
    const seen: string[] = []
    let atOnce = 0
    const lanes = new Set<string>()
    const handler = (kit: DurableKit<unknown>): InboxHandler => async ({ id, lane }) => {
      expect(lanes.has(lane)).toBe(false)
      lanes.add(lane)
      atOnce = Math.max(atOnce, lanes.size)
      await kit.env.sleep(50)
      lanes.delete(lane)
      seen.push(`${lane}/${id}`)
    }
    const kits = [world.kit('a'), world.kit('b')]
    const boxes = kits.map(kit => inbox({}, kit))
    const box = boxes[0]
    if (box === undefined) throw new Error('no box')
    for (let i = 0; i < 8; i++) for (const lane of ['x', 'y']) await claim(box, `${lane}${String(i)}`, lane)
    boxes.forEach((one, i) => begin(one, handler(kits[i] ?? world.kit())))
    await until(() => seen.length === 16)
    expect(seen.filter(name => name.startsWith('x/'))).toEqual(Array.from({ length: 8 }, (_, i) => `x/x${String(i)}`))
    expect(atOnce).toBe(2)
  })

  it('lets what is urgent go first', async () => {
    const seen: string[] = []
    const box = inbox({}, world.kit())
    await claim(box, 'bulk', 'a', 1000)
    await claim(box, 'ordinary', 'b')
    await claim(box, 'pre-checkout', 'c', 0)
    begin(box, async ({ id }) => { seen.push(id) }, 1)
    await until(() => seen.length === 3)
    expect(seen).toEqual(['pre-checkout', 'ordinary', 'bulk'])
  })

  it('is woken by a claim of its own process, without waiting for the poll', async () => {
    const box = inbox({}, world.kit())
    let handled = false
    begin(box, async () => { handled = true })
    await world.env.advance(10)
    await claim(box, '1')
    for (let i = 0; i < 200 && !handled; i++) await new Promise(resolve => { setTimeout(resolve, 1) })
    expect(handled).toBe(true)
  })

  it('tries again with growing waits, then parks, and the lane goes on', async () => {
    const box = inbox({ attempts: 3 }, world.kit())
    const seen: string[] = []
    await claim(box, 'poison')
    await claim(box, 'next')
    begin(box, async ({ id }, { attempt }) => {
      seen.push(`${id}#${String(attempt)}`)
      if (id === 'poison') throw new Error('cannot be read')
    })
    await until(() => seen.length === 1)
    await until(() => world.names('inbox.failed').length === 1)
    await world.elapse(1_000)
    await until(() => world.names('inbox.failed').length === 2)
    await world.elapse(2_000)
    await until(() => seen.includes('next#1'))
    expect(seen).toEqual(['poison#1', 'poison#2', 'poison#3', 'next#1'])
    expect(world.names('inbox.failed').at(-1)?.data).toMatchObject({ id: 'poison', attempt: 3, parked: true })
    expect(await box.retry('telegram', 'poison', 'fixed')).toBe(true)
    await until(() => seen.at(-1) === 'poison#1')
  })

  it('is taken over when its holder dies, and parked when it kills every holder', async () => {
    for (let i = 1; i <= 2; i++) {
      const kit = world.kit(`victim${String(i)}`)
      const box = inbox({ attempts: 2 }, kit)
      if (i === 1) await claim(box, 'killer')
      let begun = false
      box.process('telegram', () => { begun = true; return new Promise(() => undefined) }).start()
      await until(() => begun)
      kit.env.kill()
      await world.elapse(30_001)
    }
    const box = inbox({ attempts: 2 }, world.kit('b'))
    let handled = 0
    begin(box, async () => { handled += 1 })
    await until(() => world.names('inbox.failed').length === 1)
    expect(world.names('inbox.failed')[0]?.data).toMatchObject({ id: 'killer', attempt: 2, parked: true })
    expect(handled).toBe(0)
  })

  it('refuses the late word of a holder that was overtaken', async () => {
    const stalled = world.kit('slow')
    const slow = inbox({}, stalled)
    await claim(slow, '1')
    let finish: () => void = () => undefined
    begin(slow, () => new Promise<void>(resolve => { finish = resolve }))
    await until(() => processors[0]?.inFlight === 1)
    // Stopped as by SIGSTOP: without that its heartbeat may be faster than the other instance.
    stalled.env.pause()
    await world.elapse(30_001)
    const other = inbox({}, world.kit('b'))
    begin(other, async () => { throw new Error('still wrong') })
    await until(() => world.names('inbox.failed').length === 1)
    stalled.env.resume()
    finish()
    await world.env.advance(10)
    expect(world.names('inbox.done')).toEqual([])
  })

  it('recognises duplicates of what is done for as long as is declared, and of what is not done for ever', async () => {
    const box = inbox({ keepFor: '48h' }, world.kit())
    const prune = (): Promise<number> => world.database.transaction('test.prune', tx => inboxPort<unknown>(world.database).prune(tx, 100))
    await claim(box, 'done')
    begin(box, async () => undefined)
    await until(() => world.names('inbox.done').length === 1)
    for (const processor of processors) await processor.stop()
    await claim(box, 'open')
    await world.elapse(47 * 3_600_000)
    expect([await prune(), await claim(box, 'done'), await claim(box, 'open')]).toEqual([0, 'duplicate', 'duplicate'])
    await world.elapse(2 * 3_600_000)
    expect([await prune(), await claim(box, 'open'), await claim(box, 'done')]).toEqual([1, 'duplicate', 'new'])
    expect(() => inbox({ keepFor: '47h' }, world.kit())).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })

  it('says what happened: received, done after so long, and nothing of a claim that its own transaction may still take back', async () => {
    const kit = world.kit()
    const box = inbox({}, kit)
    const contexts: unknown[] = []
    await claim(box, '1')
    await world.database.transaction('test.claim', tx => box.claim({ source: 'telegram', id: '2', lane: 'other', payload: null }, { tx }))
    expect(world.names('inbox.received').map(({ data }) => data)).toEqual([{ source: 'telegram', id: '1', lane: 'user:1' }])
    expect(await claim(box, '1')).toBe('duplicate')
    expect(world.names('inbox.duplicate').map(({ data }) => data)).toEqual([{ source: 'telegram', id: '1' }])
    begin(box, async () => { contexts.push(currentContext()); await kit.env.sleep(700) })
    await until(() => world.names('inbox.done').length === 2)
    // Polls go on while a real server commits, so there it may be a step more; faults.test.ts holds it to the millisecond.
    const [done] = world.facts.flatMap(fact => fact.name === 'inbox.done' && fact.data.id === '1' ? [fact.data] : [])
    expect(done).toEqual({ source: 'telegram', id: '1', durationMs: expect.any(Number) as number })
    expect(done?.durationMs).toBeGreaterThanOrEqual(700)
    if (!store.concurrent) expect(done?.durationMs).toBe(700)
    expect(contexts).toContainEqual(expect.objectContaining({ component: 'inbox telegram', correlationId: 'telegram:1' }))
  })

  it('waits after the first failure as long as the backoff says, twice as long after the second, and never beyond its maximum', async () => {
    const kit = world.kit()
    const fail = inbox({ attempts: 9, backoff: '10s', backoffMax: '35s' }, kit)
    await claim(fail, '1')
    let attempts = 0
    begin(fail, async () => { attempts += 1; throw new Error('no') })
    for (const [index, waitMs] of [10_000, 20_000, 35_000, 35_000].entries()) {
      await until(() => world.names('inbox.failed').length === index + 1)
      await world.elapse(waitMs - 1_500)
      await world.env.advance(1_000)
      expect(attempts).toBe(index + 1)
      await world.elapse(3_000)
    }
    await until(() => attempts === 5)
  })

  it('is told of a retry by hand at once, and ends by hand', async () => {
    const kit = world.kit()
    const box = inbox({ attempts: 1 }, kit)
    let handled = 0
    await claim(box, '1')
    begin(box, async () => { handled += 1; if (handled === 1) throw new Error('no') })
    await until(() => world.names('inbox.failed').length === 1)
    expect(await box.discard('telegram', 'another', 'typed wrong')).toBe(false)
    expect(await box.retry('telegram', '1', 'fixed')).toBe(true)
    expect(await box.retry('telegram', '1', 'twice')).toBe(false)
    // No poll comes due.
    for (let i = 0; i < 200 && handled < 2; i++) await new Promise(resolve => { setTimeout(resolve, 1) })
    expect(handled).toBe(2)
  })

  it('refuses a second handler of a source, and numbers out of range', () => {
    const box = inbox({}, world.kit())
    box.process('telegram', async () => undefined)
    expect(() => box.process('telegram', async () => undefined)).toThrow(expect.objectContaining({ code: 'HF_NAME_TAKEN', context: { source: 'telegram' } }) as Error)
    const refused = (option: string): Error => expect.objectContaining({ code: 'HF_OPTION_INVALID', context: { option } }) as Error
    for (const attempts of [0, 1.5, 101, Number.NaN]) expect(() => inbox({ attempts }, world.kit())).toThrow(refused('inbox: attempts'))
    for (const concurrency of [0, 2.5, 1_001]) expect(() => box.process('other', async () => undefined, { concurrency })).toThrow(refused('inbox other: concurrency'))
    const wrong: InboxOptions[] = [{ lease: '999ms' }, { backoff: '5s', backoffMax: '4s' }]
    for (const options of wrong) expect(() => inbox(options, world.kit())).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
    inbox({ attempts: 1, lease: '1s', backoff: '5s', backoffMax: '5s' }, world.kit())
    inbox({ attempts: 100 }, world.kit()).process('most', async () => undefined, { concurrency: 1_000 })
  })

  it('is acknowledged only when it is kept: a claim that the store refuses is no claim', async () => {
    const kit = world.kit()
    const refusing = { ...kit, database: () => ({ ...world.database, dialect: world.database.dialect, transaction: () => Promise.reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })) }) } as unknown as DurableKit<unknown>
    await expect(claim(inbox({}, refusing), '1')).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    expect(await claim(inbox({}, kit), '1')).toBe('new')
  })

  it('stops when nothing is left in flight', async () => {
    const kit = world.kit()
    const box = inbox({}, kit)
    const processor = box.process('telegram', () => kit.env.sleep(500))
    processor.start()
    await claim(box, '1')
    await until(() => processor.inFlight === 1)
    let left: number | undefined
    void processor.stop().then(count => { left = count })
    await until(() => left !== undefined)
    expect(left).toBe(0)
    expect(world.names('inbox.done')).toHaveLength(1)
    expect(world.env.pendingTimers).toBe(0)
  })
})
