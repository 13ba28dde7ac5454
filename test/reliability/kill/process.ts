/**
 * The process that is killed: runs one flow after another on a real store and kills itself with SIGKILL where it was told.
 *
 * Crash points are those of the simulation: before each named transaction, before its commit, after it, and on either side
 * of each outside call. The outside world is the parent's and survives.
 */
import { EventBus, HoldfastError, realEnv, type Json } from '../../../src/core/index.ts'
import { withHooks, type Database, type SqlTx, type Store } from '../../../src/store/index.ts'
import { embedded } from '../../../src/store/embedded/index.ts'
import { postgres } from '../../../src/store/postgres/index.ts'
import { OutsideError } from '../../../src/testing/index.ts'
import type { FlowProcess } from '../flow.ts'
import { FLOWS } from '../flows/index.ts'
import { numbered, type FromProcess, type Iteration, type StoreAddress, type ToProcess } from './protocol.ts'
import { timedStore, writeRow } from './timed-store.ts'
import { VirtualEnv } from './virtual-env.ts'

/** As in the simulation: heartbeats of a lease of ten seconds fall into some. */
const LATENCY_MS = [200, 4_500] as const
const AMID_MS = 2

const env = new VirtualEnv(0)
const calls = new Map<number, (answer: Json | OutsideError) => void>()
let lastCall = 0
let instance = ''
let database: Database<SqlTx> | undefined
/** Without crash points, for what the parent reads. */
let bare: Database<SqlTx> | undefined
let current: { readonly iteration: Iteration; readonly over: AbortController } | undefined
let points = 0
const counts = new Map<string, number>()
let passed: string[] = []
let underWay = 0

function tell(message: FromProcess): void {
  process.send?.(message)
}

/** A crash point. Does not come back where the process was to die exactly here. */
function point(what: string): void {
  const number = points++
  const name = numbered(what, counts)
  passed.push(name)
  const kill = current?.over.signal.aborted === true ? undefined : current?.iteration.kill
  if (kill === undefined || (kill.at !== number && kill.at !== name)) return
  tell({ type: 'dying', passed })
  // Carried out before the call returns: nothing of this process runs afterwards.
  if (kill.how === 'at') process.kill(process.pid, 'SIGKILL')
  else setTimeout(() => { process.kill(process.pid, 'SIGKILL') }, realEnv().random() * AMID_MS)
}

/** Time stands still meanwhile. */
async function during<T>(work: Promise<T>): Promise<T> {
  underWay += 1
  try {
    return await work
  } finally {
    underWay -= 1
    settle()
  }
}

/** Says that nothing is under way, once whatever has just ended has led to what it leads to. */
function settle(): void {
  if (underWay > 0) return
  setImmediate(() => {
    if (underWay > 0 || said) return
    said = true
    tell({ type: 'idle', nextAtMs: env.nextAtMs, passed })
    passed = []
  })
}
/** That it is idle; the parent speaks next. */
let said = true

async function open(address: StoreAddress): Promise<void> {
  const real = realEnv()
  // Slow machines and busy ones are not what is tried here.
  const store: Store = address.kind === 'postgres' ? postgres(address.url, { connections: 3 }) : embedded(address.dir, { singleInstance: true, transactionTimeout: '30s', acquireTimeout: '30s' })
  bare = await timedStore(store, () => env.now()).open({ env: real, events: new EventBus(real), service: 'test' })
  const opened = bare
  const hook = (when: string) => (transaction: string) => { point(`${when} ${transaction}`) }
  const hooked = await withHooks({ ...store, open: async () => opened }, { before: hook('before'), beforeCommit: hook('commit'), after: hook('after') }).open({ env: real, events: new EventBus(real), service: 'test' })
  database = { ...hooked, transaction: (transaction, work, options) => during(hooked.transaction(transaction, work, options)) }
  tell({ type: 'open' })
}

async function call(what: string, request: Json): Promise<Json> {
  point(`before call ${what}`)
  const [min, max] = LATENCY_MS
  await env.sleep(min + env.random() * (max - min))
  const number = ++lastCall
  const answer = await during(new Promise<Json | OutsideError>(resolve => {
    calls.set(number, resolve)
    tell({ type: 'call', call: number, name: what, request })
  }))
  point(`after call ${what}`)
  if (answer instanceof OutsideError) throw answer
  return answer
}

async function begin(iteration: Iteration): Promise<void> {
  const flow = FLOWS.find(each => each.name === iteration.flow)
  if (flow === undefined || database === undefined) throw new HoldfastError('HF_INVARIANT', { message: `the flow ${iteration.flow} cannot begin` })
  const opened = database
  const over = new AbortController()
  current = { iteration, over }
  passed = []
  const events = new EventBus(env)
  const own: FlowProcess<SqlTx> = {
    env, id: iteration.id, signal: over.signal, call,
    kit: { env, events, service: 'test', instance, database: () => opened },
    write: (tx, text) => writeRow(tx, iteration.id, text),
    tell: fact => { tell({ type: 'told', fact }) },
    reach: state => { tell({ type: 'reached', state }) },
    without: mechanism => iteration.without.includes(mechanism),
  }
  events.onAny(fact => { tell({ type: 'reached', state: fact.name }) })
  env.advance(iteration.nowMs)
  await flow.main(own)
}

async function answer(message: ToProcess): Promise<void> {
  switch (message.type) {
    case 'open':
      instance = message.name
      env.advance(message.nowMs)
      return open(message.store)
    case 'begin':
      said = false
      points = 0
      counts.clear()
      return begin(message.iteration).finally(() => { settle() })
    case 'advance':
      said = false
      env.advance(message.nowMs)
      settle()
      return
    case 'end':
      said = false
      current?.over.abort()
      settle()
      return
    case 'answer':
      calls.get(message.call)?.(message.value)
      calls.delete(message.call)
      return
    case 'refused':
      calls.get(message.call)?.(new OutsideError(message.status, message.message))
      calls.delete(message.call)
      return
    case 'read':
      tell({ type: 'rows', rows: await bare?.transaction('rig.read', tx => tx.query(message.sql, message.params)) ?? [] })
  }
}

// An error here is the rig's own: the process ends and the parent tells what it said.
process.on('message', (message: ToProcess) => {
  void answer(message).catch((error: unknown) => { setImmediate(() => { throw error }) })
})
process.once('disconnect', () => { process.exit(1) })
