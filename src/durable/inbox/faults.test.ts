/**
 * A message at work while the store fails around it: on the memory store, in simulated time.
 */
import { beforeEach, expect, it } from 'vitest'
import { away, faultyStore, type FaultyStore } from '../../../test/faulty-store.ts'
import type { MemoryTx } from '../../store/index.ts'
import { inbox, inboxPort, type InboxHandler, type Processor } from './inbox.ts'

let world: FaultyStore
beforeEach(async () => { world = await faultyStore() })

async function handling(handler: InboxHandler): Promise<Processor> {
  const box = inbox<MemoryTx>({ lease: '30s' }, world.kit)
  await world.env.advance(5_000)
  await box.claim({ source: 'chat', id: '1', lane: 'l', payload: null })
  const processor = box.process('chat', handler, { drainFor: '1ms', poll: '5s' })
  processor.start()
  await world.env.settle()
  return processor
}

async function stop(processor: Processor): Promise<void> {
  const stopped = processor.stop()
  await world.env.advance(200_000)
  await stopped
  expect(world.env.pendingTimers).toBe(0)
}

it('is told how long it took', async () => {
  const processor = await handling(async () => { await world.env.sleep(700) })
  await world.env.advance(1_000)
  expect(world.told('inbox.done')).toEqual([{ source: 'chat', id: '1', durationMs: 700 }])
  await stop(processor)
})

it('is kept by heartbeats for as long as its handler works', async () => {
  const processor = await handling(async () => { await world.env.sleep(100_000) })
  const other = inbox<MemoryTx>({ lease: '30s' }, { ...world.kit, instance: 'other' }).process('chat', async () => undefined, { drainFor: '1ms', poll: '5s' })
  other.start()
  await world.env.advance(101_000)
  expect([world.told('inbox.done'), world.told('lease.lost')]).toEqual([[{ source: 'chat', id: '1', durationMs: 100_000 }], []])
  const stopped = other.stop()
  await stop(processor)
  await stopped
})

it('says that it lost its lease, and tells nothing of a failure that is another\'s by then', async () => {
  const processor = await handling(async (_message, { attempt, signal }) => {
    if (attempt > 1) return
    await world.env.sleep(100_000, signal)
    throw new Error(`cut off: ${String(signal.aborted)}`)
  })
  world.before['inbox.renew'] = Array.from({ length: 100 }, away)
  await world.env.advance(60_000)
  expect([world.told('lease.lost'), world.told('inbox.failed'), world.begun('inbox.fail')]).toEqual([[{ lease: 'inbox:chat', fence: 1, reason: 'it ran out before the store confirmed it again' }], [], []])
  expect(world.told('inbox.done')).toHaveLength(1)
  await stop(processor)
})

it('that failed under a fence that is not the live one any more is not told as failed', async () => {
  const processor = await handling(async (_message, { attempt }) => {
    if (attempt > 1) return
    // An operator has settled it meanwhile.
    await world.kit.database().transaction('test.settle', async tx => { await inboxPort<MemoryTx>(world.kit.database()).done(tx, 'chat', '1', 1, 1_000) })
    throw new Error('too late')
  })
  await world.env.advance(1_000)
  expect([world.begun('inbox.fail').length, world.told('inbox.failed')]).toEqual([1, []])
  await stop(processor)
})

it('that failed is told as failed also where the store cannot be told, and comes again when its lease is over', async () => {
  world.before['inbox.fail'] = [away()]
  const error = new Error('cannot be read')
  const attempts: number[] = []
  const processor = await handling(async (_message, { attempt }) => { attempts.push(attempt); if (attempt === 1) throw error })
  await world.env.advance(1_000)
  expect(world.told('inbox.failed')).toEqual([{ source: 'chat', id: '1', attempt: 1, message: 'cannot be read', parked: false, error }])
  await world.env.advance(40_000)
  expect([attempts, world.told('inbox.done').length]).toEqual([[1, 2], 1])
  await stop(processor)
})

it('waits after its failures as its backoff says: twice as long each time', async () => {
  const begunAt: number[] = []
  const box = inbox<MemoryTx>({ attempts: 5, backoff: '10s', backoffMax: '35s' }, world.kit)
  await box.claim({ source: 'chat', id: '1', lane: 'l', payload: null })
  const processor = box.process('chat', async () => { begunAt.push(world.env.monotonic()); throw new Error('no') }, { poll: '1s' })
  processor.start()
  await world.env.advance(200_000)
  expect(begunAt.slice(1).map((at, i) => Math.floor((at - (begunAt[i] ?? 0)) / 1_000))).toEqual([10, 20, 35, 35])
  await stop(processor)
})

it('is parked oldest first, and only what a person ends is forgotten', async () => {
  const box = inbox<MemoryTx>({ attempts: 1, keepFor: '48h' }, world.kit)
  const port = inboxPort<MemoryTx>(world.kit.database())
  const look = <T>(work: (tx: MemoryTx) => Promise<T>): Promise<T> => world.kit.database().transaction('test.look', work)
  const processor = box.process('chat', async () => { throw new Error('no') }, { poll: '1s' })
  processor.start()
  for (const id of ['b', 'a', 'c']) {
    await box.claim({ source: 'chat', id, lane: id, payload: null })
    await world.env.advance(1_000)
  }
  expect([(await look(tx => port.parked(tx, 10))).map(({ id }) => id), (await look(tx => port.parked(tx, 1))).map(({ id }) => id)]).toEqual([['b', 'a', 'c'], ['b']])
  await stop(processor)
  expect(await box.discard('chat', 'b', 'spam')).toBe(true)
  expect(await look(tx => port.prune(tx, 10))).toBe(0)
  await world.env.advance('49h')
  expect(await look(tx => port.prune(tx, 10))).toBe(1)
  // What is put back comes behind what waits in its lane already.
  for (const id of ['d', 'e']) await box.claim({ source: 'chat', id, lane: 'a', payload: null })
  expect(await box.retry('chat', 'a', 'again')).toBe(true)
  const next = async (): Promise<string | undefined> => {
    const [row] = await look(tx => port.next(tx, 'chat', 'i', 10_000, 10))
    if (row !== undefined) await look(tx => port.done(tx, 'chat', row.id, row.fence, 1_000))
    return row?.id
  }
  expect([await next(), await next(), await next(), await next()]).toEqual(['d', 'e', 'a', undefined])
})
