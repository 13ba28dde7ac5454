import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ALL, dialects, DIALECTS_TIMEOUT_MS, type Call, type Comparison } from '../../test/dialects.ts'
import type { MemoryTx, SqlTx } from '../store/index.ts'
import { inboxMemory } from './inbox/memory.ts'
import type { InboxPort } from './inbox/port.ts'
import { inboxSql } from './inbox/sql.ts'
import { leaseMemory } from './lease/memory.ts'
import type { LeasePort } from './lease/port.ts'
import { leaseSql } from './lease/sql.ts'
import { onceMemory } from './once/memory.ts'
import type { OncePort } from './once/port.ts'
import { onceSql } from './once/sql.ts'
import { outboxMemory } from './outbox/memory.ts'
import { ALL_LANES, type OutboxPort, type OutboxState } from './outbox/port.ts'
import { outboxSql } from './outbox/sql.ts'
import { retryStoreMemory } from './retry-store/memory.ts'
import type { RetryStorePort } from './retry-store/port.ts'
import { retryStoreSql } from './retry-store/sql.ts'
import { sagaMemory } from './saga/memory.ts'
import type { SagaPort, StepState } from './saga/port.ts'
import { sagaSql } from './saga/sql.ts'

const one = fc.constantFrom
const owner = one('a:1', 'b:1')
/** Fences begin at 1 and rise: the first are live most often. */
const fence = fc.oneof({ arbitrary: fc.constant(1), weight: 3 }, { arbitrary: fc.constant(2), weight: 2 }, fc.constant(3))
const reason = one('why', 'otherwise')

const once: Comparison<OncePort<MemoryTx>, OncePort<SqlTx>> = {
  memory: onceMemory, sql: onceSql,
  script: (ms, limit) => {
    const name = one('pay', 'pay', 'mail')
    const key = one('k', 'k 2')
    const text = one('"x"', '"y"')
    return {
      begin: { args: fc.tuple(fc.record({ name, key, fingerprint: text, keepForMs: ms })) },
      finish: { args: fc.tuple(name, key, text) },
      claim: { args: fc.tuple(fc.record({ name, key, fingerprint: text, input: text, owner, leaseMs: ms })), weight: 4 },
      read: { args: fc.tuple(name, key) },
      expire: { args: fc.tuple(name, key), weight: 2 },
      takeOver: { args: fc.tuple(name, key, fence, owner, ms), weight: 4 },
      renew: { args: fc.tuple(name, key, fence, ms), weight: 2 },
      complete: { args: fc.tuple(name, key, fence, text, ms) },
      release: { args: fc.tuple(name, key, fence, reason, ms), weight: 4 },
      markUnknown: { args: fc.tuple(name, key, fence, reason, ms), weight: 4 },
      stuck: { args: fc.tuple(name, fc.boolean(), limit), weight: 2 },
      unknown: { args: fc.tuple(limit), weight: 2 },
      settleByHand: { args: fc.tuple(name, key, one('released', 'discarded'), reason, ms), weight: 4 },
      prune: { args: fc.tuple(limit), weight: 4 },
    }
  },
  observe: limit => [['read', 'pay', 'k'], ['unknown', limit], ['stuck', 'pay', true, limit]],
}

const lease: Comparison<LeasePort<MemoryTx>, LeasePort<SqlTx>> = {
  memory: leaseMemory, sql: leaseSql,
  script: ms => {
    const name = one('leader', 'other')
    return {
      acquire: { args: fc.tuple(name, owner, ms), weight: 3 },
      renew: { args: fc.tuple(name, fence, ms), weight: 2 },
      release: { args: fc.tuple(name, fence) },
      guard: { args: fc.tuple(name, fence) },
      reap: { args: fc.tuple(ms, fc.constant(ALL)) },
    }
  },
  unordered: ['reap'],
  observe: () => [['guard', 'leader', 1], ['guard', 'leader', 2], ['guard', 'leader', 3], ['guard', 'other', 1]],
}

const claimed: readonly Call<InboxPort<MemoryTx>>[] = [['1', 'l'], ['2', 'l'], ['3', 'm']].map(([id, lane]) => ['claim', { source: 'chat', id, lane, priority: 100, payload: '1' }])

const inbox: Comparison<InboxPort<MemoryTx>, InboxPort<SqlTx>> = {
  memory: inboxMemory, sql: inboxSql,
  script: (ms, limit) => {
    const source = one('chat', 'chat', 'chat', 'shop')
    const id = one('1', '2', '3')
    return {
      claim: { args: fc.tuple(fc.record({ source, id, lane: one('l', 'm'), priority: one(100, 50), payload: one('1', '2') })), weight: 6 },
      next: { args: fc.tuple(source, owner, ms, limit), weight: 4 },
      parkExhausted: { args: fc.tuple(fc.option(source, { nil: undefined }), one(1, 2), fc.constant(ALL)), weight: 2 },
      renew: { args: fc.tuple(source, id, fence, ms), weight: 4 },
      done: { args: fc.tuple(source, id, fence, ms), weight: 3 },
      fail: { args: fc.tuple(source, id, fence, reason, fc.option(ms, { nil: undefined, freq: 2 })), weight: 6 },
      // Parked in one statement they have one time, and no order.
      parked: { args: fc.tuple(fc.constant(ALL)) },
      backlog: { args: fc.tuple(fc.constant(ALL)) },
      settleByHand: { args: fc.tuple(source, id, one('queued', 'discarded'), reason, ms), weight: 6 },
      prune: { args: fc.tuple(limit), weight: 3 },
    }
  },
  preludes: [
    [],
    [...claimed],
    [...claimed, ['next', 'chat', 'a:1', 20_000, ALL]],
    [...claimed, ['next', 'chat', 'a:1', 20_000, ALL], ['done', 'chat', '1', 1, 9_000], ['fail', 'chat', '3', 1, 'why', undefined], ['settleByHand', 'chat', '3', 'discarded', 'why', 5_000]],
  ],
  unordered: ['next', 'parkExhausted', 'parked'],
  observe: () => [['parked', ALL], ['backlog', ALL]],
}

const STATES: readonly OutboxState[] = ['queued', 'sent', 'dead', 'unknown', 'expired']
type OutboxCall = Call<OutboxPort<MemoryTx>>
const put = (lane: string, ...onceKeys: readonly string[]): readonly OutboxCall[] => onceKeys.map(onceKey => ['enqueue', { lane, topic: 'mail', onceKey, payload: '1', sendWithinMs: undefined }])
const sending = (lane: string, seq: number): readonly OutboxCall[] => [['takeLane', lane, 'a:1', 20_000], ['markSending', lane, seq, 1]]
const settled = (lane: string, state: OutboxState, holdsLane: boolean): OutboxCall => ['settle', lane, 1, 1, { state, reason: null, attempts: 1, retryInMs: 0, holdsLane, keepForMs: 5_000 }]

const outbox: Comparison<OutboxPort<MemoryTx>, OutboxPort<SqlTx>> = {
  memory: outboxMemory, sql: outboxSql,
  script: (ms, limit) => {
    const lane = one('l', 'm')
    const seq = one(1, 2)
    const onceKey = one('1', '2', '3', '4')
    return {
      enqueue: { args: fc.tuple(fc.record({ lane, topic: one('mail', 'push'), onceKey, payload: one('1', '2'), sendWithinMs: fc.option(ms, { nil: undefined }) })), weight: 5 },
      dueLanes: { args: fc.tuple(one(['mail'], ['mail', 'push']), limit), weight: 2 },
      takeLane: { args: fc.tuple(lane, owner, ms), weight: 3 },
      renewLane: { args: fc.tuple(lane, fence, ms) },
      releaseLane: { args: fc.tuple(lane, fence) },
      head: { args: fc.tuple(lane) },
      isPaused: { args: fc.tuple(lane) },
      markSending: { args: fc.tuple(lane, seq, fence), weight: 3 },
      settle: { args: fc.tuple(lane, seq, fence, fc.record({ state: one(...STATES), reason: fc.option(reason), attempts: one(0, 1, 2), retryInMs: ms, holdsLane: fc.boolean(), keepForMs: ms })), weight: 4 },
      pause: { args: fc.tuple(one('l', 'm', ALL_LANES), ms) },
      abandoned: { args: fc.tuple(fc.constant(ALL)) },
      stuck: { args: fc.tuple(limit) },
      backlog: { args: fc.tuple(fc.constant(ALL)) },
      settleByHand: { args: fc.tuple(onceKey, one('queued', 'discarded'), reason, ms), weight: 2 },
      prune: { args: fc.tuple(limit), weight: 4 },
    }
  },
  unordered: ['abandoned'],
  preludes: [
    [],
    [...put('l', '1', '2'), ...put('m', '3', '4')],
    [...put('l', '1', '2'), ...put('m', '3', '4'), ...sending('l', 1), ...sending('m', 1)],
    [...put('l', '1', '2'), ...put('m', '3', '4'), ...sending('m', 1), ...sending('l', 1), settled('l', 'dead', false), settled('m', 'unknown', true), ['markSending', 'l', 2, 1]],
    [...put('l', '1', '2'), ...put('m', '3', '4'), ...sending('m', 1), ...sending('l', 1), settled('l', 'sent', false), settled('m', 'dead', false), ['settleByHand', '3', 'discarded', 'why', 5_000]],
  ],
  observe: limit => [['head', 'l'], ['dueLanes', ['mail', 'push'], limit], ['stuck', limit], ['abandoned', ALL], ['backlog', ALL]],
}

const retryStore: Comparison<RetryStorePort<MemoryTx>, RetryStorePort<SqlTx>> = {
  memory: retryStoreMemory, sql: retryStoreSql,
  script: (ms, limit) => {
    const store = one('form', 'cart')
    const who = one('u', 'v')
    const slot = one('1', '2', '3')
    return {
      put: { args: fc.tuple(fc.record({ store, owner: who, slot, input: one('1', '2'), keepForMs: ms })), weight: 3 },
      trim: { args: fc.tuple(store, who, limit) },
      get: { args: fc.tuple(store, who, slot) },
      list: { args: fc.tuple(store, who, limit) },
      clear: { args: fc.tuple(store, who, fc.option(slot, { nil: undefined })) },
      prune: { args: fc.tuple(limit) },
    }
  },
  observe: limit => [['list', 'form', 'u', ALL], ['list', 'form', 'v', limit], ['get', 'form', 'u', '1']],
}

type SagaCall = Call<SagaPort<MemoryTx>>
const first = { saga: 'order', id: '1' } as const
const charge = { seq: 1, name: 'charge', state: 'intent', output: null, effect: 'once' } as const
const run = (saga: string, id: string): readonly SagaCall[] => [['begin', { saga, id, version: 1, input: '1', fingerprint: '', owner: 'a:1', leaseMs: 20_000 }]]
const journal = (...given: readonly unknown[]): SagaCall => ['journal', first, 1, ...given]
const track = (seq: number, kind: string, resource: string): SagaCall => ['track', first, 1, { seq, kind, resource, description: null }]
const asked = (id: string): SagaCall => ['ask', { saga: 'order', id }, 1, { step: 'charge', summary: 'why', forMs: 9_000, secondPerson: false }]
const needsHuman = (id: string): SagaCall => ['close', { saga: 'order', id }, 1, { state: 'needs-human', result: null, reason: 'why', keepForMs: 5_000, steps: [] }]

const saga: Comparison<SagaPort<MemoryTx>, SagaPort<SqlTx>> = {
  memory: sagaMemory, sql: sagaSql,
  script: (ms, limit) => {
    const key = fc.oneof({ arbitrary: fc.constant({ saga: 'order', id: '1' }), weight: 6 }, fc.constant({ saga: 'order', id: '2' }), fc.constant({ saga: 'other', id: '1' }))
    const output = one('"x"', '"y"')
    // A step keeps its name: another at the same place is refused before anything is written (replay.ts).
    const step = fc.record({ place: one({ seq: 1, name: 'charge' }, { seq: 2, name: 'mail' }, { seq: 3, name: 'ship' }), state: one<StepState[]>('intent', 'clear', 'done', 'undone', 'kept'), output: fc.option(output), effect: fc.option(one('once', 'idempotent')) }).map(({ place, ...row }) => ({ ...place, ...row }))
    const steps = fc.uniqueArray(step, { maxLength: 2, selector: ({ seq }) => seq })
    const begins = fc.oneof(fc.constant(undefined), fc.constant({ kind: 'step' } as const), fc.record({ kind: one('pivot', 'confirmed'), step: one('charge', 'mail') }))
    const versions = one([1], [1, 2])
    const kind = one('user', 'disk')
    return {
      begin: { args: fc.tuple(fc.tuple(key, fc.record({ version: one(1, 1, 2), input: output, fingerprint: output, owner, leaseMs: ms, deadlineMs: fc.option(ms, { nil: undefined, freq: 2 }) })).map(([of, run]) => ({ ...of, ...run }))), weight: 5 },
      read: { args: fc.tuple(key) },
      take: { args: fc.tuple(key, versions, owner, ms), weight: 6 },
      steps: { args: fc.tuple(key) },
      tracks: { args: fc.tuple(key) },
      renew: { args: fc.tuple(key, fence, ms), weight: 2 },
      journal: { args: fc.tuple(key, fence, steps, begins), weight: 8 },
      unpivot: { args: fc.tuple(key, fence, one('charge', 'mail')), weight: 2 },
      track: { args: fc.tuple(key, fence, fc.record({ seq: one(1, 2), kind, resource: one('r', 's'), description: fc.option(reason) })), weight: 4 },
      untrack: { args: fc.tuple(key, fence, kind, one('r', 's')), weight: 2 },
      turn: { args: fc.tuple(key, fence, reason), weight: 3 },
      park: { args: fc.tuple(key, fence, reason, ms, fc.boolean()), weight: 3 },
      ask: { args: fc.tuple(key, fence, fc.record({ step: one('charge', 'mail'), summary: reason, forMs: ms, secondPerson: fc.boolean() })), weight: 3 },
      close: { args: fc.tuple(key, fence, fc.record({ state: one('done', 'undone', 'needs-human', 'needs-human'), result: fc.option(output), reason, keepForMs: ms, steps })), weight: 4 },
      due: { args: fc.tuple(one('order', 'other'), versions, limit) },
      stuck: { args: fc.tuple(limit) },
      waiting: { args: fc.tuple(ms, limit) },
      retryByHand: { args: fc.tuple(key, reason), weight: 2 },
      closeByHand: { args: fc.tuple(key, one('done', 'undone'), fc.option(output, { nil: null }), reason, ms) },
      resolveStep: { args: fc.tuple(key, fc.option(output, { nil: undefined }), reason), weight: 6 },
      skip: { args: fc.tuple(key, output), weight: 6 },
      cancel: { args: fc.tuple(key, reason), weight: 2 },
      confirm: { args: fc.tuple(key, one(1, 2), one('c', 'd')), weight: 2 },
      note: { args: fc.tuple(key, fc.record({ what: one('asked', 'failed'), step: one('charge', 'mail'), detail: reason, by: one('c', 'd') })), weight: 2 },
      history: { args: fc.tuple(key) },
      prune: { args: fc.tuple(limit), weight: 4 },
    }
  },
  preludes: [
    [...run('order', '1'), journal([charge], { kind: 'step' })],
    [...run('order', '2'), ...run('order', '1'), asked('1'), ['park', first, 1, 'why', 9_000, false], asked('2'), ['park', { saga: 'order', id: '2' }, 1, 'why', 5_000, true]],
    [...run('order', '1'), journal([charge], { kind: 'pivot', step: 'charge' }), needsHuman('1'), ...run('order', '2'), needsHuman('2')],
    [...run('order', '1'), journal([{ ...charge, state: 'done', output: '"x"' }]), track(1, 'user', 'r'), track(1, 'disk', 'r'), track(1, 'user', 's'), ['turn', first, 1, 'why']],
    [...run('order', '1'), journal([{ ...charge, state: 'done', output: '"x"' }, { ...charge, seq: 2, name: 'mail', state: 'done' }]), track(2, 'user', 'r'), track(1, 'disk', 'r'), ['turn', first, 1, 'why'], needsHuman('1')],
  ],
  cases: [
    [...run('order', '1'), ['confirm', first, 0, 'c'], asked('1'), ['confirm', first, 2, 'c'], ['confirm', first, 1, 'c'], ['confirm', first, 1, 'd'], journal([{ ...charge, name: 'mail' }], { kind: 'confirmed', step: 'mail' }), journal([charge], { kind: 'confirmed', step: 'charge' })],
    [...run('order', '1'), asked('1'), ['cancel', first, 'why'], ['confirm', first, 1, 'c']],
    [...run('order', '1'), asked('1'), ['turn', first, 1, 'why'], ['confirm', first, 1, 'c'], ['turn', first, 1, 'otherwise'], needsHuman('1'), ['cancel', first, 'why']],
    [...run('order', '1'), journal([charge], { kind: 'pivot', step: 'charge' }), ['unpivot', first, 1, 'mail'], needsHuman('1'), ['resolveStep', first, undefined, 'why']],
    [...run('order', '1'), journal([charge], { kind: 'pivot', step: 'charge' }), needsHuman('1'), ['resolveStep', first, '"x"', 'why']],
    [...run('order', '1'), journal([{ ...charge, state: 'done' }], { kind: 'pivot', step: 'charge' }), journal([{ ...charge, seq: 2, name: 'mail' }]), needsHuman('1'), ['resolveStep', first, undefined, 'why'], ['skip', first, '"y"'], ['skip', first, '"z"']],
    [...run('order', '1'), journal([{ ...charge, state: 'done' }, { ...charge, seq: 2, name: 'mail' }]), track(1, 'disk', 's'), track(2, 'user', 'r'), track(2, 'disk', 'r'), ['turn', first, 1, 'why'], ['untrack', first, 1, 'disk', 's'], needsHuman('1'), ...[1, 2, 3, 4].map((): SagaCall => ['skip', first, 'null'])],
    [...run('order', '1'), ['note', first, { what: 'asked', step: 'charge', detail: 'why', by: 'c' }], ['note', first, { what: 'asked', step: 'mail', detail: 'why', by: 'c' }], ['note', first, { what: 'asked', step: 'mail', detail: 'why', by: 'd' }]],
    [...run('order', '1'), needsHuman('1'), ['closeByHand', first, 'done', '1', 'why', 0], ['read', first], ['prune', ALL]],
  ],
  observe: limit => [['read', first], ['steps', first], ['history', first], ['stuck', limit], ['waiting', 5_000, limit], ['due', 'order', [1], limit]],
}

describe.each([['at times that meet', true], ['at times that never meet', false]] as const)('memory and SQL answer alike, %s', { timeout: DIALECTS_TIMEOUT_MS }, (_when, aligned) => {
  const alike = dialects()
  it('the records of once', () => alike(once, aligned))
  it('the lease', () => alike(lease, aligned))
  it('the inbox', () => alike(inbox, aligned))
  it('the outbox', () => alike(outbox, aligned))
  it('the journal of sagas', () => alike(saga, aligned))
  it('the retry store', () => alike(retryStore, aligned))

  it('and a difference is seen (the control)', async () => {
    const lenient: OncePort<MemoryTx>['renew'] = async () => true
    await expect(alike({ ...once, memory: { ...onceMemory, renew: lenient } }, aligned, { endOnFailure: true })).rejects.toMatchObject({ cause: { message: expect.stringContaining('SQL answers otherwise than memory') as string } })
  })
})
