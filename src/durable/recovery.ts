/**
 * Recovery: takes up what a crash left, on every instance, all the time; and lists what waits for a person.
 *
 * Promise: nothing that isn't finished goes unheld for longer than the interval of the sweep. Every part is bounded and behind
 * its own boundary: one feature that cannot be swept does not keep the others.
 */
import { messageOf, HoldfastError, type Json } from '../core/index.ts'
import type { Database } from '../store/index.ts'
import type { DurableKit } from './kit.ts'
import { inboxPort, type Inbox } from './inbox/inbox.ts'
import { leasePort } from './lease/lease.ts'
import { oncePort } from './once/outcome.ts'
import type { Once } from './once/types.ts'
import { outboxPort } from './outbox/outbox.ts'
import type { Outbox } from './outbox/types.ts'
import { retryStorePort } from './retry-store/retry-store.ts'
import type { RunRow } from './saga/port.ts'
import { sagaPort } from './saga/saga.ts'
import type { Saga } from './saga/types.ts'

/** Something that was begun and needs a person. */
export interface WorkItem {
  readonly kind: 'saga' | 'outbox' | 'inbox' | 'once'
  /** Of the saga, topic, source or once. */
  readonly name: string
  readonly id: string
  readonly state: string
  /** Wall clock of the database. */
  readonly sinceMs: number
  readonly reason: string
  readonly runbook?: string
  readonly actions: readonly ('retry' | 'discard')[]
}

export interface RecoverySources<Tx> {
  readonly onces: () => readonly Once<unknown, Json | void, Tx>[]
  readonly sagas: () => readonly Saga<unknown, Json | void>[]
  readonly inbox: Inbox<Tx>
  readonly outbox: Outbox<Tx>
}

export interface Recovery {
  /**
   * One pass: takes up what is due, and waits for it `waitMs` (2 s) at most; it goes on afterwards. Emits sweep.done.
   * @throws when a part failed, after all had their turn
   */
  sweep(waitMs?: number): Promise<void>
  /** Oldest first within each kind. */
  workItems(limit: number): Promise<readonly WorkItem[]>
}

export const RECOVERY_DEFAULTS: { readonly runsMax: number; readonly keysMax: number; readonly rowsMax: number; readonly leaseOlderThanMs: number; readonly sweepWaitMs: number; readonly unclaimedAfterMs: number } = Object.freeze({
  /** Runs and messages taken up per feature and pass. */
  runsMax: 50,
  keysMax: 100,
  /** Rows deleted per table and pass: small transactions, and a backlog is gone after some passes. */
  rowsMax: 500,
  /** The originals' ten minutes for locks of dead holders. */
  leaseOlderThanMs: 600_000,
  /** What was taken up and takes longer goes on by itself: the next sweep must come, for what was left by then. */
  sweepWaitMs: 2_000,
  /** A run that is due and that nobody takes is found by some sweep within seconds, unless no instance knows its version. */
  unclaimedAfterMs: 600_000,
})

/** Tables that forget, each in its own small transaction, so that one which can't does not keep the others. */
const PRUNED: readonly (readonly [what: string, prune: <Tx>(database: Database<Tx>, tx: Tx, limit: number) => Promise<number>])[] = [
  ['once', (database, tx, limit) => oncePort(database).prune(tx, limit)],
  ['saga', (database, tx, limit) => sagaPort(database).prune(tx, limit)],
  ['inbox', (database, tx, limit) => inboxPort(database).prune(tx, limit)],
  ['outbox', (database, tx, limit) => outboxPort(database).prune(tx, limit)],
  ['retry-store', (database, tx, limit) => retryStorePort(database).prune(tx, limit)],
]

export function recovery<Tx>(sources: RecoverySources<Tx>, kit: DurableKit<Tx>): Recovery {
  const { runsMax, keysMax, rowsMax, leaseOlderThanMs, sweepWaitMs, unclaimedAfterMs } = RECOVERY_DEFAULTS

  async function sweep(waitMs: number = sweepWaitMs): Promise<void> {
    const begunAtMs = kit.env.monotonic()
    const failures: string[] = []
    const count = async (what: string, work: () => Promise<number>): Promise<number> => {
      try {
        return await work()
      } catch (error) {
        failures.push(`${what}: ${messageOf(error)}`)
        return 0
      }
    }
    const sum = (counts: readonly number[]): number => counts.reduce((total, each) => total + each, 0)
    // One for each: more than ten listeners on one signal are taken for a leak.
    const waits: AbortController[] = []
    const enough = (): AbortSignal => {
      const wait = new AbortController()
      waits.push(wait)
      return wait.signal
    }
    const timer = kit.env.timer(waitMs, () => { for (const wait of waits) wait.abort() }, { keepAlive: true })
    try {
      // Beside each other: an outside call that takes long in one of them keeps none of the others from being taken up.
      const [sagas, settled, inbox, outbox] = await Promise.all([
        Promise.all(sources.sagas().map(each => count(`saga ${each.name}`, () => each.sweep(runsMax, enough())))),
        Promise.all(sources.onces().map(each => count(`once ${each.name}`, () => each.sweep(keysMax, enough())))),
        count('inbox', () => sources.inbox.sweep(runsMax)),
        count('outbox', () => sources.outbox.sweep(runsMax)),
      ])
      const leases = await count('leases', () => kit.database().transaction('lease.reap', async tx => (await leasePort<Tx>(kit.database()).reap(tx, leaseOlderThanMs, rowsMax)).length))
      let pruned = 0
      for (const [what, prune] of PRUNED) pruned += await count(`old ${what}`, () => kit.database().transaction(`${what}.prune`, tx => prune<Tx>(kit.database(), tx, rowsMax)))
      kit.events.emit('sweep.done', { sagas: sum(sagas), inbox, outbox, leases, keys: pruned + sum(settled), durationMs: kit.env.monotonic() - begunAtMs })
    } finally {
      timer.cancel()
    }
    if (failures.length > 0) throw new HoldfastError('HF_STORE_UNAVAILABLE', { message: `recovery could not look at everything: ${failures.join('; ')}` })
  }

  async function workItems(limit: number): Promise<readonly WorkItem[]> {
    const database = kit.database()
    const rows = await database.transaction('recovery.list', async tx => ({
      sagas: await sagaPort<Tx>(database).stuck(tx, limit),
      waiting: await sagaPort<Tx>(database).waiting(tx, unclaimedAfterMs, limit),
      onces: await oncePort<Tx>(database).unknown(tx, limit),
      messages: await outboxPort<Tx>(database).stuck(tx, limit),
      parked: await inboxPort<Tx>(database).parked(tx, limit),
    }))
    const runbookOfSaga = new Map(sources.sagas().map(each => [each.name, each.runbook]))
    const runbookOfOnce = new Map(sources.onces().map(each => [each.name, each.runbook]))
    return [
      ...rows.sagas.map(row => item('saga', row.saga, row.id, row.state, row.sinceMs, row.reason, runbookOfSaga.get(row.saga))),
      ...rows.waiting.map(row => waitingItem(row, sources.sagas().find(each => each.name === row.saga))),
      ...rows.onces.map(row => item('once', row.name, row.key, row.state, row.sinceMs, row.reason, runbookOfOnce.get(row.name))),
      ...rows.messages.map(row => item('outbox', row.topic, row.onceKey, row.state, row.sinceMs, row.reason, sources.outbox.runbookOf(row.topic))),
      ...rows.parked.map(row => item('inbox', row.source, row.id, 'parked', row.sinceMs, row.reason, undefined)),
    ].slice(0, limit)
  }

  return { sweep, workItems }
}

function item(kind: WorkItem['kind'], name: string, id: string, state: string, sinceMs: number, reason: string | null, runbook: string | undefined): WorkItem {
  return { kind, name, id, state, sinceMs, reason: reason ?? 'its holder died', actions: ['retry', 'discard'], ...(runbook === undefined ? {} : { runbook }) }
}

/** Neither is tried again by hand: the one is confirmed or cancelled by its saga's own commands, the other needs an instance that knows it. */
function waitingItem(row: RunRow & { readonly saga: string }, saga: Saga<unknown, Json | void> | undefined): WorkItem {
  const asks = row.confirmedBy === null && row.askInMs !== null && row.askInMs > 0
  const known = saga === undefined ? 'this instance has no such saga' : `this instance knows ${saga.versions.join(', ')}`
  const reason = asks ? row.askSummary : `no instance has taken it up since it was due; it is of version ${String(row.version)}, ${known}`
  return { ...item('saga', row.saga, row.id, asks ? 'waits for confirmation' : 'unclaimed', row.sinceMs, reason, saga?.runbook), actions: [] }
}
