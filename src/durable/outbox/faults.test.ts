/**
 * A lane's turn while the store fails around it, and while others take over or pause: on the memory store, in simulated time.
 */
import { beforeEach, expect, it } from 'vitest'
import { away, faultyStore, noAnswer, type FaultyStore } from '../../../test/faulty-store.ts'
import { currentContext, HoldfastError } from '../../core/index.ts'
import type { MemoryTx } from '../../store/index.ts'
import { outbox, outboxPort } from './outbox.ts'
import { ALL_LANES, type OutboxPort, type OutboxRow } from './port.ts'
import type { Outbox, RelayReport, Send, TopicOptions } from './types.ts'

let world: FaultyStore
/** What was sent, in order. */
let sent: string[]
beforeEach(async () => { world = await faultyStore(); sent = [] })

/** With one message per key in its queue, in the lane `l`. */
async function queued(send: Send, options: Omit<TopicOptions, 'send'> = {}, onceKeys: readonly string[] = ['1']): Promise<Outbox<MemoryTx>> {
  const out = outbox<MemoryTx>({ lease: '30s' }, world.kit)
  out.topic('notice', { ...options, send: async (message, context) => { sent.push(`${message.onceKey}#${String(message.attempt)}`); return send(message, context) } })
  for (const onceKey of onceKeys) await port((each, tx) => each.enqueue(tx, { lane: 'l', topic: 'notice', onceKey, payload: 'null', sendWithinMs: undefined }))
  return out
}
const port = <T>(work: (port: OutboxPort<MemoryTx>, tx: MemoryTx) => Promise<T>): Promise<T> => world.kit.database().transaction('test.port', tx => work(outboxPort<MemoryTx>(world.kit.database()), tx))
const head = (): Promise<OutboxRow | undefined> => port((each, tx) => each.head(tx, 'l'))
async function relayed(out: Outbox<MemoryTx>, ms = 60_000): Promise<RelayReport> {
  const relaying = out.relay()
  await world.env.advance(ms)
  return relaying
}

it('sends in the name of its message', async () => {
  const contexts: unknown[] = []
  await relayed(await queued(async () => { contexts.push(currentContext()) }))
  expect(contexts).toMatchObject([{ component: 'outbox notice', correlationId: '1' }])
})

it('sends once where the answer of what marked a message was lost', async () => {
  world.after['outbox.sending'] = [noAnswer()]
  expect(await relayed(await queued(async () => undefined))).toEqual({ sent: 1, failed: 0, parked: 0 })
  expect([sent, world.told('lease.lost')]).toEqual([['1#1'], []])
})

it('records what was sent again and again while the store is away, every half second', async () => {
  const out = await queued(async () => undefined)
  world.before['outbox.settle'] = [away(), away(), away()]
  expect(await relayed(out)).toEqual({ sent: 1, failed: 0, parked: 0 })
  expect([sent, world.begun('outbox.settle'), await head()]).toEqual([['1#1'], [0, 500, 1_000, 1_500], undefined])
})

it('says nothing of what it could not record in ten times, and gives its lane up; the next holder calls it unknown', async () => {
  const out = await queued(async () => undefined)
  world.before['outbox.settle'] = Array.from({ length: 10 }, away)
  expect(await relayed(out)).toEqual({ sent: 0, failed: 0, parked: 0 })
  expect([world.begun('outbox.settle').length, (await head())?.state]).toEqual([10, 'sending'])
  expect(await relayed(out)).toEqual({ sent: 0, failed: 0, parked: 1 })
  expect([sent, world.told('outbox.parked')]).toMatchObject([['1#1'], [{ onceKey: '1', state: 'unknown' }]])
})

it('ends its turn, and says that it lost the lane, once another instance has it', async () => {
  const out = await queued(async () => {
    await port(async (each, tx) => { await each.releaseLane(tx, 'l', 1); await each.takeLane(tx, 'l', 'other', 60_000) })
  }, {}, ['1', '2'])
  await relayed(out, 1_000)
  expect([sent, world.told('lease.lost')]).toEqual([['1#1'], [{ lease: 'outbox:l', fence: 1, reason: 'another instance took over' }]])
  expect(await head()).toMatchObject({ onceKey: '2', state: 'queued' })
})

it('says that it lost the lane when the store has not renewed it in time', async () => {
  const out = await queued(async (_message, { signal }) => { await world.env.sleep(100_000, signal) }, { timeout: '2m' })
  world.before['outbox.renew'] = Array.from({ length: 100 }, away)
  await relayed(out)
  expect(world.told('lease.lost')).toEqual([{ lease: 'outbox:l', fence: 1, reason: 'it ran out before the store confirmed it again' }])
})

it('ends its turn without a word when all lanes are paused in between, and goes on after that', async () => {
  const out = await queued(async ({ onceKey }) => { if (onceKey === '1') await port((each, tx) => each.pause(tx, ALL_LANES, 10_000)) }, {}, ['1', '2'])
  expect(await relayed(out, 1_000)).toEqual({ sent: 1, failed: 0, parked: 0 })
  await world.env.advance(10_000)
  expect([await relayed(out), world.told('lease.lost')]).toEqual([{ sent: 1, failed: 0, parked: 0 }, []])
  expect(sent).toEqual(['1#1', '2#1'])
})

it('counts an answer of the other side that bars us for now as an attempt, and pauses nothing', async () => {
  const barred = new HoldfastError('HF_CALL_FAILED', { message: 'who are you?', cause: { status: 401 } })
  const out = await queued(async () => { throw barred })
  expect(await relayed(out, 1_000)).toEqual({ sent: 0, failed: 1, parked: 0 })
  expect([(await head())?.attempts, world.told('outbox.paused')]).toEqual([1, []])
})
