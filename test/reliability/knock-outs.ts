/**
 * Knock-outs: every mechanism, switched off in turn, must be missed by the schedules that pass with it.
 *
 * Where another layer would hide its absence (a provider that honours keys hides a missing fence), that layer is taken
 * away in both columns: the scenario holds with the mechanism and must fail without it.
 */
import { KeepAlive } from '../../src/durable/keep-alive.ts'
import { inboxMemory } from '../../src/durable/inbox/memory.ts'
import { leaseMemory } from '../../src/durable/lease/memory.ts'
import { onceMemory } from '../../src/durable/once/memory.ts'
import { outboxMemory } from '../../src/durable/outbox/memory.ts'
import { sagaMemory } from '../../src/durable/saga/memory.ts'
import type { StepRow } from '../../src/durable/saga/port.ts'
import type { MemoryTx } from '../../src/store/index.ts'
import { explore, type Exploration } from '../../src/testing/index.ts'
import { memoryItems } from '../../src/worker/items/memory.ts'
import { leaseFlow } from './flows/lease.ts'
import { inboxFlow, outboxFlow } from './flows/messages.ts'
import { onceLocal, onceOutside } from './flows/once.ts'
import { recoveryFlow } from './flows/recovery.ts'
import { sagaFlow } from './flows/saga.ts'
import { cancelFlow, confirmFlow, hangingFlow, trackFlow } from './flows/saga-depth.ts'
import { workerFlow } from './flows/worker.ts'
import { memoryTier, play, type Scenario } from './play.ts'

export interface KnockOut {
  readonly name: string
  /** Holds with the mechanism. */
  readonly scenario: Scenario
  /** What is different without it, where it lives in how a feature is used. */
  readonly without?: Partial<Scenario>
  /** Takes it out of the feature; answers how to put it back. */
  readonly patch?: () => () => void
  /** What the violation says. */
  readonly finds: RegExp
  /** Schedules for the column in which it holds. Default 120. */
  readonly held?: number
}

const KEYLESS = { refuses: [], failsAfterEffect: [], honoursKeys: false }
const GOOD_DAY = { refuses: [], failsAfterEffect: [] }

/** The same object with one function replaced, until it is put back. */
function replaced<T extends object, K extends keyof T>(object: T, name: K, make: (original: T[K]) => T[K]): () => () => void {
  return () => {
    const original = object[name]
    object[name] = make(original)
    return () => { object[name] = original }
  }
}

function both(...patches: readonly (() => () => void)[]): () => () => void {
  return () => {
    const restore = patches.map(patch => patch())
    return () => { for (const undo of restore) undo() }
  }
}

type Fields = Readonly<Record<string, unknown>>

/** Writes fields of a row, whatever its fence says. */
function force(tx: MemoryTx, table: string, key: string, change: (row: Fields) => Fields): boolean {
  const rows = tx.table<Fields>(table)
  const row = rows.get(key)
  if (row === undefined) return false
  rows.set(key, { ...row, ...change(row) })
  return true
}

const sagaRow = (tx: MemoryTx, { saga, id }: { readonly saga: string; readonly id: string }, change: (row: Fields) => Fields): boolean => force(tx, 'holdfast.saga_run', `${saga} ${id}`, change)

export const KNOCK_OUTS: readonly KnockOut[] = [
  { name: 'once: provider keys', scenario: { flow: onceOutside('retry') }, without: { without: ['provider keys'] }, finds: /pay: [2-9] effects/ },
  { name: 'once: record and effect in one transaction', scenario: { flow: onceLocal }, without: { without: ['one transaction'] }, finds: /settled: [02-9] rows/ },
  {
    name: 'once: fence of the completion', scenario: { flow: onceOutside('retry'), outside: GOOD_DAY }, finds: /paid: [2-9] rows/,
    patch: replaced(onceMemory, 'complete', () => async (tx, name, key, _fence, result) => force(tx, 'holdfast.once_record', `${name} ${key}`, () => ({ state: 'done', result }))),
  },
  {
    name: 'once: lease of the claim', scenario: { flow: onceOutside('verify'), outside: KEYLESS, kinds: ['conflict'] }, finds: /pay: [2-9] effects/,
    patch: replaced(onceMemory, 'expire', () => async (tx, name, key) => {
      const row = tx.table<Fields>('holdfast.once_record').get(`${name} ${key}`)
      return row?.['state'] === 'started' && force(tx, 'holdfast.once_record', `${name} ${key}`, () => ({ state: 'unknown', leaseUntil: 0 }))
    }),
  },
  {
    name: 'once: expiry of the lease', scenario: { flow: onceOutside('retry'), outside: GOOD_DAY, kinds: ['die'] }, finds: /never over/,
    patch: both(replaced(onceMemory, 'expire', () => async () => false), replaced(onceMemory, 'stuck', () => async () => [])),
  },
  { name: 'once: verify before retry', scenario: { flow: onceOutside('verify'), outside: KEYLESS, kinds: ['die'] }, without: { without: ['verify'] }, finds: /pay: [2-9] effects/ },
  {
    name: 'once: what is unknown is kept', scenario: { flow: recoveryFlow, outside: { honoursKeys: false }, kinds: ['conflict'] }, finds: /charge: \d+ effects/, held: 8,
    patch: replaced(onceMemory, 'prune', () => async tx => {
      const records = tx.table<Fields>('holdfast.once_record')
      const unknown = [...records.entries()].filter(([, row]) => row['state'] === 'unknown')
      for (const [key] of unknown) records.delete(key)
      return unknown.length
    }),
  },
  {
    name: 'time is the database\'s', scenario: { flow: onceOutside('verify'), outside: KEYLESS, kinds: ['conflict'], jumpShare: 1 }, without: { databaseClock: false }, finds: /pay: [2-9] effects|never over/,
  },
  { name: 'saga: provider keys', scenario: { flow: sagaFlow({ last: 'idempotent', ends: 'done' }), kinds: ['die', 'error', 'lose-answer'] }, without: { without: ['provider keys'] }, finds: /[2-9] effects, wanted 1/ },
  {
    name: 'saga: fence of the journal', scenario: { flow: sagaFlow({ last: 'idempotent', ends: 'done' }), outside: GOOD_DAY }, finds: /record: [2-9] rows|before record was recorded/,
    patch: replaced(sagaMemory, 'journal', () => async (tx, key, _fence, entries) => sagaRow(tx, key, row => {
      const bySeq = new Map((row['steps'] as readonly StepRow[]).map(step => [step.seq, step]))
      for (const entry of entries) bySeq.set(entry.seq, entry)
      return { steps: [...bySeq.values()].sort((a, b) => a.seq - b.seq) }
    })),
  },
  {
    name: 'saga: intent before its effect', scenario: { flow: sagaFlow({ last: 'verify', ends: 'done' }), outside: KEYLESS, kinds: ['die'], points: /call activate/ }, finds: /activate: [2-9] effects/,
    patch: replaced(sagaMemory, 'journal', journal => (tx, key, fence, entries) => journal(tx, key, fence, entries.filter(entry => entry.state !== 'intent'))),
  },
  {
    name: 'saga: lease of the run', scenario: { flow: sagaFlow({ last: 'verify', ends: 'done' }), outside: KEYLESS, kinds: ['conflict'] }, finds: /[2-9] effects, wanted 1/,
    patch: replaced(sagaMemory, 'take', take => (tx, key, version, owner, leaseMs) => {
      sagaRow(tx, key, () => ({ leaseUntil: 0, wakeAt: 0 }))
      return take(tx, key, version, owner, leaseMs)
    }),
  },
  { name: 'saga: undo is recorded after it', scenario: { flow: sagaFlow({ last: 'idempotent', ends: 'undone' }) }, without: { without: ['undo before its record'] }, finds: /an undo is recorded that did not happen|release: 0 effects/ },
  {
    name: 'saga: what a person skips is told from what is undone', scenario: { flow: sagaFlow({ last: 'idempotent', ends: 'skipped' }), outside: GOOD_DAY }, finds: /recorded/, held: 40,
    patch: replaced(sagaMemory, 'skip', skip => async (tx, key, output) => {
      const skipped = await skip(tx, key, output)
      sagaRow(tx, key, row => ({ steps: (row['steps'] as readonly StepRow[]).map(step => step.state === 'kept' ? { ...step, state: 'undone' } : step) }))
      return skipped
    }),
  },
  { name: 'saga: what a step makes is tracked', scenario: { flow: trackFlow, outside: GOOD_DAY }, without: { without: ['track'] }, finds: /drop a: 0 effects/ },
  { name: 'saga: nothing irreversible without a confirmation', scenario: { flow: confirmFlow, outside: GOOD_DAY }, without: { without: ['confirmation'] }, finds: /nobody confirmed it/ },
  { name: 'saga: a cancellation is recorded', scenario: { flow: cancelFlow, outside: GOOD_DAY }, without: { without: ['cancellation'] }, finds: /it was to be undone, and is done/ },
  {
    name: 'saga: what is cancelled begins nothing', scenario: { flow: cancelFlow, outside: GOOD_DAY }, finds: /pivot: 1 effects|it was to be undone, and is done|never over/,
    patch: both(
      replaced(sagaMemory, 'journal', journal => async (tx, key, fence, entries, begins) => {
        let cancelled: unknown = null
        sagaRow(tx, key, row => { cancelled = row['cancelled']; return { cancelled: null } })
        const live = await journal(tx, key, fence, entries, begins)
        sagaRow(tx, key, () => ({ cancelled }))
        return live
      }),
      replaced(sagaMemory, 'close', close => async (tx, key, ...rest) => { sagaRow(tx, key, () => ({ cancelled: null })); return close(tx, key, ...rest) }),
    ),
  },
  { name: 'saga: timeout of a step', scenario: { flow: hangingFlow, outside: GOOD_DAY, kinds: ['error'] }, without: { without: ['timeout'] }, finds: /never over/, held: 20 },
  { name: 'sweep', scenario: { flow: sagaFlow({ last: 'idempotent', ends: 'undone', patient: true }) }, without: { without: ['sweep'] }, finds: /never over/ },
  {
    name: 'stop by the monotonic clock', scenario: { flow: sagaFlow({ last: 'verify', ends: 'done' }), outside: KEYLESS, kinds: ['pause'], points: /after saga\.(intent|start)/ }, finds: /[2-9] effects, wanted 1/,
    patch: () => {
      const original = Object.getOwnPropertyDescriptor(KeepAlive.prototype, 'held')
      Object.defineProperty(KeepAlive.prototype, 'held', { configurable: true, get: () => true })
      return () => { if (original !== undefined) Object.defineProperty(KeepAlive.prototype, 'held', original) }
    },
  },
  { name: 'lease: guard of its writes', scenario: { flow: leaseFlow }, without: { without: ['guard'] }, finds: /fences went back/ },
  {
    name: 'lease: fences rise for ever', scenario: { flow: leaseFlow }, finds: /granted twice|fences went back/,
    patch: replaced(leaseMemory, 'release', () => async (tx, name) => tx.table('holdfast.lease').delete(name)),
  },
  {
    name: 'lease: expiry', scenario: { flow: leaseFlow, kinds: ['die'] }, finds: /never over/,
    patch: replaced(leaseMemory, 'acquire', acquire => async (tx, name, owner, ttlMs) => typeof tx.table<Fields>('holdfast.lease').get(name)?.['owner'] === 'string' ? undefined : acquire(tx, name, owner, ttlMs)),
  },
  { name: 'outbox: once-keys', scenario: { flow: outboxFlow({ repeatable: true }) }, without: { without: ['once-key'] }, finds: /enqueued twice/ },
  { name: 'outbox: at most once', scenario: { flow: outboxFlow({ repeatable: false }), outside: KEYLESS, kinds: ['die'], points: /call send/ }, without: { flow: outboxFlow({ repeatable: true }) }, finds: /[2-9] effects, wanted 1/ },
  {
    name: 'outbox: order of a lane', scenario: { flow: outboxFlow({ repeatable: true }) }, finds: /order of the lane|never over/,
    patch: replaced(outboxMemory, 'enqueue', enqueue => async (tx, message) => {
      const isNew = await enqueue(tx, message)
      if (isNew) force(tx, 'holdfast.outbox_message', message.onceKey, row => ({ seq: -Number(row['seq']) }))
      return isNew
    }),
  },
  {
    name: 'outbox: one sender per lane', scenario: { flow: outboxFlow({ repeatable: true }), outside: KEYLESS, kinds: ['conflict'] }, finds: /[2-9] effects, wanted 1/,
    patch: both(
      replaced(outboxMemory, 'takeLane', takeLane => async (tx, lane, owner, leaseMs) => {
        const fence = await takeLane(tx, lane, owner, leaseMs)
        force(tx, 'holdfast.outbox_sender', lane, () => ({ leaseUntil: 0 }))
        return fence
      }),
      replaced(outboxMemory, 'renewLane', () => async () => true),
    ),
  },
  { name: 'inbox: ids', scenario: { flow: inboxFlow({ bare: true }), points: /inbox\.claim/, kinds: ['die', 'error', 'lose-answer', 'unknown-commit'] }, without: { without: ['inbox id'] }, finds: /[2-9] rows, wanted 1/ },
  {
    name: 'inbox: lanes', scenario: { flow: inboxFlow(), kinds: ['die', 'error'] }, finds: /order of the lane/, held: 60,
    patch: replaced(inboxMemory, 'claim', claim => (tx, row) => claim(tx, { ...row, lane: `${row.lane} ${row.id}` })),
  },
  {
    name: 'inbox: bounded attempts', scenario: { flow: inboxFlow() }, finds: /never over/, held: 20,
    patch: replaced(inboxMemory, 'fail', fail => (tx, source, id, fence, reason, retryInMs) => fail(tx, source, id, fence, reason, retryInMs ?? 1_000)),
  },
  {
    name: 'worker: bounded attempts', scenario: { flow: workerFlow }, finds: /never over/, held: 20,
    patch: replaced(memoryItems, 'fail', fail => (tx, worker, item, policy) => fail(tx, worker, item, { ...policy, maxAttempts: 1_000_000 })),
  },
  { name: 'worker: one leader', scenario: { flow: workerFlow, outside: { honoursKeys: false }, kinds: ['conflict'] }, without: { without: ['leadership'] }, finds: /[2-9] effects, wanted 1/, held: 30 },
]

/** More would be a mechanism that nothing needs. */
const SCHEDULES_MAX = 6_000

/** The column in which the mechanism is there. */
export function withMechanism({ scenario, held = 120 }: KnockOut, seed = 1): Promise<Exploration> {
  return exploreScenario(scenario, held, seed)
}

/** The control column: without it. */
export async function withoutMechanism({ scenario, without = {}, patch }: KnockOut, seed = 1): Promise<Exploration> {
  const restore = patch?.()
  try {
    return await exploreScenario({ ...scenario, ...without }, SCHEDULES_MAX, seed)
  } finally {
    restore?.()
  }
}

function exploreScenario(scenario: Scenario, count: number, seed: number): Promise<Exploration> {
  return explore({
    count, seed, clocks: ['p1', 'p2'], points: scenario.points, jumpShare: scenario.jumpShare, singlesMax: Math.min(400, Math.ceil(count / 2)),
    ...(scenario.kinds === undefined ? {} : { kinds: scenario.kinds }),
    run: (schedule, options) => play(memoryTier, scenario, schedule, options),
  })
}
