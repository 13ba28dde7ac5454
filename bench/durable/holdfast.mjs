/**
 * Holdfast, as its guides use it: `createHoldfast` with a store, started, its log silent (the lines would be what is measured).
 */
import { z } from 'zod'
import { freshDatabase, freshDirectory } from './database.mjs'
import { BUSINESS_TABLE, COMMITS, CONNECTIONS, INSERT_BUSINESS, order, steps, WORKERS } from './work.mjs'

// The tests of the bench measure the sources, so that they need no build; figures are always those of the build.
const fromSource = process.env.HOLDFAST_BENCH_SOURCE === '1'
const load = entry => import(fromSource ? `../../src/${entry}.ts` : `../../dist/${entry}.js`)
const { createHoldfast } = await load('index')

const Order = z.object({ id: z.string(), amount: z.number() })
const keyOf = ({ id }) => id

async function service(declare) {
  const { url, drop } = await freshDatabase()
  const { postgres } = await load('store/postgres/index')
  const hold = createHoldfast({ service: 'bench', log: 'silent', store: postgres(url, { connections: CONNECTIONS }) })
  const declared = declare(hold)
  await hold.start()
  await hold.transaction('bench.table', tx => tx.query(BUSINESS_TABLE))
  return { hold, declared, close: () => hold.stop().then(drop) }
}

const declarePay = hold => hold.once('pay', {
  input: Order, key: keyOf,
  write: async ({ id, amount }, { tx }) => {
    await tx.query(INSERT_BUSINESS, [id, amount])
    return id
  },
})

async function once() {
  const { declared: pay, close } = await service(declarePay)
  return { call: n => pay(order(n)), close }
}

async function replay() {
  const { declared: pay, close } = await service(declarePay)
  for (let n = 0; n < 100; n += 1) await pay(order(n))
  return { call: n => pay(order(n % 100)), close }
}

async function saga() {
  const { declared: provision, close } = await service(hold => hold.saga('provision', {
    version: 1, input: Order,
    run: async step => {
      const a = await step('a', { effect: 'idempotent', run: () => steps[0]() })
      const b = await step('b', { effect: 'idempotent', run: () => steps[1](a) })
      return step('c', { effect: 'idempotent', run: () => steps[2](b) })
    },
  }))
  return { call: async n => (await provision.start(order(n).id, order(n))).value, close }
}

/** Resolves when `count` calls of `done` were made. */
function counted(count) {
  let made = 0
  let finish
  const all = new Promise(resolve => { finish = resolve })
  return { all, done: async () => { if (++made === count) finish(made) } }
}

async function inbox(count) {
  const { all, done } = counted(count)
  const { hold, declared: processor, close } = await service(app => {
    const made = app.inbox.process('chat', done, { concurrency: WORKERS })
    return made
  })
  await processor.stop()
  for (let n = 0; n < count; n += WORKERS) {
    await Promise.all(Array.from({ length: Math.min(WORKERS, count - n) }, (_, k) => hold.inbox.claim({ source: 'chat', id: String(n + k), lane: String(n + k), payload: order(n + k) })))
  }
  return { drain: () => { processor.start(); return all }, close }
}

/** The app's own store without the app: what of it costs is asked of the embedded store alone. */
async function embeddedStore(path) {
  const [{ embedded }, { EventBus, realEnv }] = await Promise.all([load('store/embedded/index'), load('core/index')])
  const env = realEnv()
  return embedded(path, { singleInstance: true }).open({ env, events: new EventBus(env), service: 'bench' })
}

async function timeToOpen(again) {
  const { path, remove } = freshDirectory()
  if (again) await embeddedStore(path).then(database => database.close())
  const begun = performance.now()
  const database = await embeddedStore(path)
  await database.ping()
  const figure = performance.now() - begun
  return { figure, close: () => database.close().then(remove) }
}

const commit = (database, n) => database.transaction('bench.commit', tx => tx.query(`${INSERT_BUSINESS} RETURNING 1`, [order(n).id, order(n).amount]))

async function withTable() {
  const { path, remove } = freshDirectory()
  const database = await embeddedStore(path)
  await database.transaction('bench.table', tx => tx.query(BUSINESS_TABLE))
  return { database, close: () => database.close().then(remove) }
}

async function commits() {
  const { database, close } = await withTable()
  return { call: async n => (await commit(database, n)).length, close }
}

async function memory(commitsBefore) {
  const { database, close } = await withTable()
  for (let n = 0; n < commitsBefore; n += 1) await commit(database, n)
  globalThis.gc()
  return { figure: process.memoryUsage().rss / 1024 / 1024, close }
}

export default {
  'once': once,
  'once, replay': replay,
  'saga, 3 steps': saga,
  'queue': inbox,
  'embedded, first open': () => timeToOpen(false),
  'embedded, open again': () => timeToOpen(true),
  'embedded, commits': commits,
  'embedded, memory when open': () => memory(0),
  'embedded, memory after commits': () => memory(COMMITS),
}
