import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { postgresStore, realServer, testStores, type TestWorld } from '../../../test/durable-stores.ts'
import type { SqlTx } from '../../store/index.ts'
import { lease, leasePort } from './lease.ts'
import { leaseSql } from './sql.ts'

describe.each(testStores)('lease on $name', store => {
  let world: TestWorld
  let names = 0
  let name: string
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  beforeEach(() => { name = `lease-${String(++names)}` })

  describe('free', () => {
    it('is granted with a first fence', async () => {
      const held = await lease(name, {}, world.kit()).acquire()
      expect(held?.fence).toBe(1)
      await held?.release()
    })

    it('is granted to one of many who ask at once', async () => {
      const all = await Promise.all(Array.from({ length: 6 }, (_, i) => lease(name, {}, world.kit(`i${String(i)}`)).acquire()))
      expect(all.filter(held => held !== undefined)).toHaveLength(1)
    })
  })

  describe('held', () => {
    it('is refused to others until it is released, and then has a higher fence', async () => {
      const first = await lease(name, {}, world.kit('a')).acquire()
      expect(await lease(name, {}, world.kit('b')).acquire()).toBeUndefined()
      await first?.release()
      const second = await lease(name, {}, world.kit('b')).acquire()
      expect(second?.fence).toBe(2)
    })

    it('lets the holder commit guarded writes', async () => {
      const held = await lease(name, {}, world.kit()).acquire()
      await held?.transaction('test.guarded', tx => world.write(tx, name))
      expect(await world.written()).toContain(name)
    })
  })

  describe('expired', () => {
    it('is taken over with a higher fence, and said to be', async () => {
      await lease(name, {}, world.kit('dead')).acquire()
      await world.elapse(15_001)
      const next = await lease(name, {}, world.kit('next')).acquire()
      expect(next?.fence).toBe(2)
      expect(world.names('lease.acquired').at(-1)?.data).toEqual({ lease: name, fence: 2, takenOver: true })
    })

    it('refuses every write of the old fence, although the old holder believes to hold it', async () => {
      const zombie = await lease(name, {}, world.kit('zombie')).acquire()
      await world.elapse(15_001)
      const next = await lease(name, {}, world.kit('next')).acquire()
      expect(zombie?.held).toBe(true)
      await expect(zombie?.transaction('test.zombie', tx => world.write(tx, `zombie ${name}`))).rejects.toMatchObject({ code: 'HF_LEASE_LOST' })
      expect(zombie?.held).toBe(false)
      expect(zombie?.signal.aborted).toBe(true)
      expect(await world.written()).not.toContain(`zombie ${name}`)
      await next?.transaction('test.next', tx => world.write(tx, `next ${name}`))
      expect(await world.written()).toContain(`next ${name}`)
    })

    it('cannot be released by who held it before', async () => {
      const zombie = await lease(name, {}, world.kit('zombie')).acquire()
      await world.elapse(15_001)
      const next = await lease(name, {}, world.kit('next')).acquire()
      await zombie?.release()
      await next?.transaction('test.next', async () => undefined)
      expect(next?.held).toBe(true)
    })

    it('control: without the guard the zombie does write', async () => {
      const zombie = await lease(name, {}, world.kit('zombie')).acquire()
      await world.elapse(15_001)
      await lease(name, {}, world.kit('next')).acquire()
      expect(zombie).toBeDefined()
      await world.database.transaction('test.unguarded', tx => world.write(tx, `unguarded ${name}`))
      expect(await world.written()).toContain(`unguarded ${name}`)
    })
  })
})

describe.each(testStores)('the record of a lease on $name', store => {
  let world: TestWorld
  beforeAll(async () => { world = await store.open() })
  afterAll(() => world.close())
  const TTL_MS = 10_000
  const port = (): ReturnType<typeof leasePort<unknown>> => leasePort<unknown>(world.database)
  const inTx = <T>(work: (tx: unknown) => Promise<T>): Promise<T> => world.database.transaction('test.lease', work)
  const acquire = (name: string, owner = 'a'): ReturnType<ReturnType<typeof port>['acquire']> => inTx(tx => port().acquire(tx, name, owner, TTL_MS))
  const renew = (name: string, fence: number): Promise<boolean> => inTx(tx => port().renew(tx, name, fence, TTL_MS))
  const guard = (name: string, fence: number): Promise<boolean> => inTx(tx => port().guard(tx, name, fence))
  const release = (name: string, fence: number): Promise<unknown> => inTx(tx => port().release(tx, name, fence))

  it('is prolonged for its fence alone, and never after its end', async () => {
    expect(await renew('nobody', 1)).toBe(false)
    await acquire('prolonged')
    expect([await renew('prolonged', 2), await renew('prolonged', 1)]).toEqual([false, true])
    await world.elapse(9_000)
    expect(await renew('prolonged', 1)).toBe(true)
    await world.elapse(9_000)
    expect(await guard('prolonged', 1)).toBe(true)
    await world.elapse(1_001)
    // Nobody has taken it over, and yet it is over.
    expect([await guard('prolonged', 1), await renew('prolonged', 1)]).toEqual([false, false])
  })

  it('lets nobody write who gave it back, and is given back once', async () => {
    expect([await guard('nobody', 1), await release('nobody', 1)]).toEqual([false, false])
    await acquire('returned')
    expect([await release('returned', 2), await guard('returned', 1), await release('returned', 1)]).toEqual([false, true, true])
    expect([await guard('returned', 1), await renew('returned', 1), await release('returned', 1)]).toEqual([false, false, false])
  })

  it('is a first grant, a take-over, or neither where it was given back', async () => {
    expect(await acquire('granted')).toEqual({ fence: 1, takenOver: false })
    expect(await acquire('granted', 'b')).toBeUndefined()
    await release('granted', 1)
    expect(await acquire('granted', 'b')).toEqual({ fence: 2, takenOver: false })
    await world.elapse(TTL_MS)
    expect(await acquire('granted', 'a')).toEqual({ fence: 3, takenOver: true })
  })

  it('of a dead holder is found by who asks for those long over, at most so many, each once', async () => {
    const reap = (olderThanMs: number, limit: number): Promise<readonly string[]> => inTx(tx => port().reap(tx, olderThanMs, limit))
    for (const name of ['dead-1', 'dead-2', 'dead-3', 'living', 'tidy']) await acquire(name)
    await release('tidy', 1)
    await world.elapse(30_000)
    await acquire('living')
    await reap(0, 100)
    for (const name of ['dead-1', 'dead-2', 'dead-3', 'tidy']) await acquire(name)
    const last = await acquire('tidy')
    await release('tidy', last?.fence ?? 2)
    await world.elapse(15_000)
    const first = await reap(4_000, 2)
    const second = await reap(4_000, 2)
    expect([first.length, [...first, ...second].filter(name => name.startsWith('dead')).toSorted(), await reap(4_000, 2)]).toEqual([2, ['dead-1', 'dead-2', 'dead-3'], []])
    expect(await acquire('dead-1')).toMatchObject({ takenOver: false })
    expect(await reap(TTL_MS, 100)).toEqual([])
    await world.elapse(TTL_MS + 1_000)
    expect([await reap(5_000, 100), (await reap(500, 100)).includes('dead-1')]).toEqual([[], true])
  })
})

describe('the ttl of a lease', () => {
  it.each([['999ms', 'ttl'], ['11m', 'at most 10m, got 11m']])('%s is refused in words', async (ttl, words) => {
    const world = await testStores[0]?.open()
    if (world === undefined) throw new Error('there is no store')
    expect(() => lease('x', { ttl: ttl as '11m' }, world.kit())).toThrow(words)
    for (const right of ['1s', '10m'] as const) expect(lease('x', { ttl: right }, world.kit()).name).toBe('x')
    await world.close()
  })
})

describe('a holder', () => {
  let world: TestWorld
  beforeEach(async () => { world = await testStores[0]?.open() ?? world })
  afterEach(() => world.close())

  it('keeps it by heartbeats as long as it lives', async () => {
    const kit = world.kit('a')
    const held = await lease('worker:x', {}, kit).acquire()
    for (let i = 0; i < 24; i++) {
      await world.elapse(5_000)
      await world.env.advance('5s')
    }
    expect(held?.held).toBe(true)
    expect(await lease('worker:x', {}, world.kit('b')).acquire()).toBeUndefined()
    await held?.release()
    expect(world.env.pendingTimers).toBe(0)
  })

  it('whose lease ends in the middle of a transaction commits nothing of it', async () => {
    const kit = world.kit('a')
    const held = await lease('worker:x', {}, kit).acquire()
    const late = held?.transaction('test.late', async tx => {
      await world.write(tx, 'late')
      // Its heartbeats wait for the transaction, which a serial store gives to nobody else meanwhile.
      await world.env.advance('14s')
    })
    await expect(late).rejects.toMatchObject({ code: 'HF_CANCELLED' })
    expect(await world.written()).not.toContain('late')
    expect(world.names('lease.lost').map(({ data }) => data)).toEqual([{ lease: 'worker:x', fence: 1, reason: 'it ran out before the store confirmed it again' }])
  })

  it('who gives up asking for it is told so, and has nothing', async () => {
    await expect(lease('worker:x', {}, world.kit('a')).acquire({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'HF_CANCELLED' })
    expect((await lease('worker:x', {}, world.kit('b')).acquire())?.fence).toBe(1)
  })

  it('that was killed loses it after its ttl', async () => {
    const kit = world.kit('a')
    await lease('worker:x', {}, kit).acquire()
    kit.env.kill()
    await world.elapse(15_000)
    await world.env.advance('15s')
    expect((await lease('worker:x', {}, world.kit('b')).acquire())?.fence).toBe(2)
  })

  it('stops itself before another can have it when the store hangs', async () => {
    const kit = world.kit('a')
    const held = await lease('worker:x', {}, { ...kit, database: () => ({ ...world.database, dialect: 'memory', transaction: <T>(name: string, work: (tx: unknown) => Promise<T>) => name === 'lease.renew' ? new Promise<T>(() => undefined) : world.database.transaction(name, work) }) }).acquire()
    await world.env.advance('13400ms')
    expect(held?.signal.aborted).toBe(false)
    await world.env.advance('200ms')
    expect(held?.signal.aborted).toBe(true)
    expect(held?.signal.reason).toMatchObject({ code: 'HF_LEASE_LOST' })
  })

  it('does not renew after its event loop was stalled beyond the lease', async () => {
    const kit = world.kit('a')
    const held = await lease('worker:x', {}, kit).acquire()
    kit.env.pause()
    await world.env.advance('20s')
    kit.env.resume()
    await world.env.settle()
    expect(held?.held).toBe(false)
    expect(world.names('lease.lost')).toHaveLength(1)
  })
})

describe.skipIf(!realServer)('on a real server', () => {
  let world: TestWorld
  beforeAll(async () => { world = await postgresStore.open() })
  afterAll(() => world.close())

  it('a heartbeat passes an open guarded transaction, a take-over waits for it', async () => {
    const held = await lease('busy', {}, world.kit('a')).acquire()
    const order: string[] = []
    let entered = (): void => undefined
    const inside = new Promise<void>(resolve => { entered = resolve })
    let goOn = (): void => undefined
    const gate = new Promise<void>(resolve => { goOn = resolve })
    const guarded = held?.transaction('test.long', async () => {
      entered()
      await gate
      order.push('commit')
    })
    await inside
    expect(await world.database.transaction('test.renew', tx => leaseSql.renew(tx as SqlTx, 'busy', held?.fence ?? 0, 15_000))).toBe(true)
    order.push('heartbeat')
    const takeOver = world.database.transaction('test.take-over', tx => (tx as SqlTx).query(`UPDATE holdfast.lease SET fence = fence + 1 WHERE name = 'busy'`)).then(() => { order.push('take-over') })
    const waiting = (): Promise<readonly unknown[]> => world.database.transaction('test.waiting', tx => (tx as SqlTx).query(`SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`))
    for (let found: readonly unknown[] = []; found.length === 0;) found = await waiting()
    goOn()
    await Promise.all([guarded, takeOver])
    expect(order).toEqual(['heartbeat', 'commit', 'take-over'])
  })

  it('control: a guard that locked FOR SHARE would hold the holder\'s own heartbeat up', async () => {
    const held = await lease('shared', {}, world.kit('a')).acquire()
    const order: string[] = []
    let entered = (): void => undefined
    const inside = new Promise<void>(resolve => { entered = resolve })
    const guarded = world.database.transaction('test.long', async tx => {
      await (tx as SqlTx).query(`SELECT 1 FROM holdfast.lease WHERE name = 'shared' FOR SHARE`)
      entered()
      await (tx as SqlTx).query('SELECT pg_sleep(0.4)')
      order.push('commit')
    })
    await inside
    const beat = world.database.transaction('test.renew', tx => leaseSql.renew(tx as SqlTx, 'shared', held?.fence ?? 0, 15_000)).then(() => { order.push('heartbeat') })
    await Promise.all([guarded, beat])
    expect(order).toEqual(['commit', 'heartbeat'])
    await held?.release()
  })
})
