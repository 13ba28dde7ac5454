/**
 * One instance of the service under test, a process of its own: takes orders in, charges, reserves, books, confirms, sends.
 *
 * What it was told it writes down at once, so that it is known when the process is killed in the next moment. With the
 * guards off (the control) it does the same under keys that nobody recognises, and writes under leases without asking.
 */
import { openSync, writeSync } from 'node:fs'
import { createHoldfast, HoldfastError, isHoldfastError, type Database, type Json, type OnceOutcome, type Schema, type SqlTx, type Store } from '../../src/index.ts'
import { postgres } from '../../src/store/postgres/index.ts'
import { holdLeases } from './holder.ts'
import { sharedMs, type Effect, type FromInstance, type InstanceSettings, type Order, type ToInstance } from './protocol.ts'

const settings = JSON.parse(process.argv[2] ?? '{}') as InstanceSettings
const { leaseMs } = settings
const guarded = settings.guards === 'on'
const leaseFor = `${leaseMs}ms` as const
/** What arrives later than this is refused by the outside world. */
const CALL_WITHIN_MS = leaseMs * 0.4
const AGAIN_MS = 100

const file = openSync(settings.historyFile, 'a')
const record = (line: object): void => { writeSync(file, `${JSON.stringify(line)}\n`) }
const tell = (message: FromInstance): void => { process.send?.(message) }
const sleep = (ms: number): Promise<void> => new Promise(resolve => { setTimeout(resolve, ms) })

let opened: Database<SqlTx> | undefined
const base = postgres(settings.databaseUrl, { connections: 10, connectTimeout: '1s', acquireTimeout: '3s', transactionTimeout: '2s', lockTimeout: '1s', idleInTransactionTimeout: `${leaseMs * 0.4}ms` })
const store: Store = { ...base, open: async options => (opened = await base.open(options)) }
const hold = createHoldfast({ service: 'shop', store, log: 'silent', leaseFor, environment: {} })

hold.events.on('lease.lost', ({ data }) => { record({ fact: 'lease.lost', lease: data.lease }) })
hold.events.on('once.unknown', ({ data }) => { record({ fact: 'once.unknown', key: data.key }) })

const order: Schema<Order, Order> = { '~standard': { version: 1, vendor: 'rig', validate: value => ({ value: value as Order }) } }
/** With the guards off no attempt recognises another. */
const keyOf = (id: string): string => (guarded ? id : `${id}:${String(sharedMs())}`)

hold.migrations([{
  id: 1, name: 'what is booked',
  sql: 'CREATE TABLE booked (n bigserial PRIMARY KEY, kind text NOT NULL, id text NOT NULL, lane text NOT NULL, position integer NOT NULL); CREATE TABLE written (n bigserial PRIMARY KEY, lease text NOT NULL, fence bigint NOT NULL); CREATE TABLE beat (at timestamptz NOT NULL DEFAULT clock_timestamp(), instance text NOT NULL)',
}])

const book = (tx: SqlTx, kind: string, { id, lane, position }: Order): Promise<unknown> =>
  tx.query('INSERT INTO booked (kind, id, lane, position) VALUES ($1, $2, $3, $4)', [kind, id, lane, position])

/** What a process sends that was frozen until another had its lease is late: the end of the lease does not move with the clock it reads then. */
async function ask(kind: Effect['kind'], { id, lane, position, refused }: Order, key: string, { signal, untilMs }: { readonly signal: AbortSignal; readonly untilMs: number }): Promise<string> {
  const effect: Effect = { kind, id, key, lane, position, refused, deadlineMs: Math.min(untilMs, Date.now() + CALL_WITHIN_MS) }
  const response = await fetch(`${settings.outsideUrl}/do`, { method: 'POST', body: JSON.stringify(effect), signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_WITHIN_MS)]) })
  if (!response.ok) throw Object.assign(new Error(`${kind}: ${String(response.status)}`), { status: response.status })
  return ((await response.json()) as { readonly receipt: string }).receipt
}

async function find(kind: Effect['kind'], key: string): Promise<{ readonly happened: true; readonly value: string } | { readonly happened: false }> {
  const response = await fetch(`${settings.outsideUrl}/find`, { method: 'POST', body: JSON.stringify({ kind, key }), signal: AbortSignal.timeout(CALL_WITHIN_MS) })
  const { receipt } = (await response.json()) as { readonly receipt: string | null }
  return receipt === null ? { happened: false } : { happened: true, value: receipt }
}

const note = hold.once('note', { input: order, key: ({ id }) => keyOf(id), write: async (given, { tx }) => { await book(tx, 'note', given); return given.position } })
const charge = hold.once('charge', {
  input: order, key: ({ id }) => keyOf(id), lease: leaseFor,
  call: (given, context) => ask('charge', given, context.key, context),
  onUnknown: { verify: (_given, { key }) => find('charge', key) },
})
const fulfil = hold.saga('fulfil', {
  version: 1, input: order, backoff: '100ms', backoffMax: '1s', attempts: 1_000, crashes: 1_000,
  run: async (step, given) => {
    await step('reserve', {
      effect: 'once', verify: ({ key }) => find('reserve', key),
      run: context => ask('reserve', given, context.key, context),
      undo: (_receipt, context) => ask('release', given, context.key, context),
    })
    await step('book', { write: ({ tx }) => book(tx, 'book', given).then(() => null), undo: (_nothing, { tx }) => book(tx, 'unbook', given) })
    return step('confirm', { effect: 'idempotent', run: context => ask('confirm', given, context.key, context) })
  },
})
for (const topic of ['mail', 'push'] as const) {
  hold.outbox.topic(topic, {
    repeatable: topic === 'push', attempts: 100, backoff: '100ms', backoffMax: '1s', timeout: '1s',
    send: async ({ payload }, context) => { await ask(topic, payload as unknown as Order, guarded ? context.key : keyOf(context.key), context) },
  })
}

/** As a caller does who was told to ask again. */
async function insist<T>(signal: AbortSignal, attempt: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    if (signal.aborted) throw new HoldfastError('HF_LEASE_LOST', { message: 'the order was lost to another instance' })
    try {
      const answer = await attempt()
      if (answer !== undefined) return answer
    } catch (error) {
      const again = isHoldfastError(error) ? error.retryable || error.code === 'HF_QUERY_FAILED' : true
      if (!again) throw error
    }
    await sleep(AGAIN_MS)
  }
}

const settled = <R extends Json>(answer: OnceOutcome<R>): R | undefined => (answer.outcome === 'done' || answer.outcome === 'replayed' ? answer.value : undefined)

hold.inbox.process('orders', async ({ id: received, payload }, { signal }) => {
  const given = payload as unknown as Order
  record({ confirmed: 'note', id: given.id, value: await insist(signal, async () => settled(await note(given))) })
  record({ confirmed: 'charge', id: given.id, value: await insist(signal, async () => settled(await charge(given))) })
  const run = keyOf(guarded ? given.id : received)
  const outcome = await insist(signal, async () => {
    const answer = await fulfil.start(run, given)
    return answer.outcome === 'done' || answer.outcome === 'undone' ? answer.outcome : undefined
  })
  record({ confirmed: 'fulfil', id: given.id, value: outcome })
  await insist(signal, () => hold.transaction('order.send', async tx => {
    await hold.outbox.enqueue(tx, { lane: given.lane, topic: given.topic, onceKey: keyOf(given.id), payload: { ...given } })
    return true
  }))
  hold.outbox.wake()
  record({ confirmed: 'enqueue', id: given.id, value: given.topic })
}, { concurrency: settings.concurrency, poll: '200ms' })

hold.worker('beat', { every: '200ms', safeSleep: '200ms', deadline: '3s', needs: ['leader'], run: () => hold.transaction('beat', tx => tx.query('INSERT INTO beat (instance) VALUES ($1)', [hold.instance])) })

process.on('message', (message: ToInstance) => {
  const { order: given, delivery } = message
  // With the guards off each delivery is an order of its own.
  hold.inbox.claim({ source: 'orders', id: guarded ? given.id : `${given.id}#${String(delivery)}`, lane: given.lane, payload: { ...given } })
    // Not kept, or not known to be: the sender sends it again.
    .then(() => { tell({ type: 'acknowledged', id: given.id }) }, () => undefined)
})
// The run has gone: nobody is left to work for.
process.once('disconnect', () => { process.exit(1) })

await hold.start()
tell({ type: 'ready', instance: hold.instance })
const database = (): Database<SqlTx> => {
  if (opened === undefined) throw new HoldfastError('HF_NOT_STARTED', { message: 'the store is not open' })
  return opened
}
holdLeases({ env: hold.env, events: hold.events, service: 'shop', instance: hold.instance, database }, settings, record)
