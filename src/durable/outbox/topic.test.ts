import { expect, it } from 'vitest'
import { realEnv } from '../../core/index.ts'
import { resolveTopic, settlementOf, type Decision } from './topic.ts'
import type { TopicOptions } from './types.ts'

const KEEP_MS = 3_600_000
const topicOf = (options: Omit<TopicOptions, 'send'> = {}): ReturnType<typeof resolveTopic> => resolveTopic('mail', { send: async () => undefined, backoff: '2s', backoffMax: '60s', attempts: 8, ...options }, realEnv())
const retry = (change: Partial<Extract<Decision, { kind: 'retry' }>> = {}): Decision => ({ kind: 'retry', reason: 'busy', ...change })

it.each<[what: string, decision: Decision, attempts: number, options: Omit<TopicOptions, 'send'>, settlement: Partial<ReturnType<typeof settlementOf>>]>([
  ['sent', { kind: 'sent' }, 3, {}, { state: 'sent', reason: null, attempts: 3, holdsLane: false, keepForMs: KEEP_MS }],
  ['too late', { kind: 'expired', reason: 'late' }, 0, { onDead: 'hold' }, { state: 'expired', reason: 'late', holdsLane: false }],
  ['dead', { kind: 'dead', reason: 'blocked' }, 1, {}, { state: 'dead', reason: 'blocked', holdsLane: false }],
  ['dead, and its lane held', { kind: 'dead', reason: 'blocked' }, 1, { onDead: 'hold' }, { state: 'dead', holdsLane: true }],
  ['unknown', { kind: 'unknown', reason: 'reset' }, 1, { onDead: 'hold' }, { state: 'unknown', reason: 'reset', holdsLane: true }],
  ['unknown, and repeatable', { kind: 'unknown', reason: 'reset' }, 1, { repeatable: true, onDead: 'hold' }, { state: 'queued', reason: 'reset', attempts: 1, retryInMs: 2_000, holdsLane: false }],
  ['unknown at its last attempt, and repeatable', { kind: 'unknown', reason: 'reset' }, 8, { repeatable: true, onDead: 'hold' }, { state: 'dead', holdsLane: true }],
  ['to be tried again', retry(), 1, {}, { state: 'queued', reason: 'busy', attempts: 1, retryInMs: 2_000 }],
  ['to be tried a third time', retry(), 3, {}, { state: 'queued', retryInMs: 8_000 }],
  ['to be tried again, at most after backoffMax', retry(), 7, {}, { state: 'queued', retryInMs: 60_000 }],
  ['asked to wait longer', retry({ afterMs: 90_000 }), 1, {}, { state: 'queued', retryInMs: 90_000 }],
  ['asked to wait less than we do', retry({ afterMs: 1 }), 2, {}, { state: 'queued', retryInMs: 4_000 }],
  ['asked to wait for days', retry({ afterMs: 9e9 }), 1, {}, { state: 'queued', retryInMs: 3_600_000 }],
  ['dead after its attempts', retry(), 8, { onDead: 'hold' }, { state: 'dead', reason: 'busy', attempts: 8, holdsLane: true }],
  ['paused, which is no attempt', retry({ pause: 'lane', afterMs: 500 }), 8, {}, { state: 'queued', attempts: 7, retryInMs: 500 }],
  ['paused without a time', retry({ pause: 'all' }), 2, {}, { state: 'queued', attempts: 1, retryInMs: 4_000 }],
  ['paused for days', retry({ pause: 'all', afterMs: 9e9 }), 1, {}, { state: 'queued', attempts: 0, retryInMs: 3_600_000 }],
])('what becomes of a message: %s', (_what, decision, attempts, options, settlement) => {
  expect(settlementOf(decision, attempts, topicOf(options), KEEP_MS)).toMatchObject(settlement)
})
