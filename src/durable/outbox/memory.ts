/** The outbox in the memory dialect: the same operations over a few tables; transactions are serial, so nothing races. */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import { countByName } from '../count-by-name.ts'
import { ALL_LANES, type OutboxPort, type OutboxRow, type OutboxState } from './port.ts'

interface Message {
  readonly lane: string
  readonly seq: number
  readonly topic: string
  readonly onceKey: string
  readonly payload: string
  readonly state: OutboxState
  readonly attempts: number
  readonly fence: number
  readonly holdsLane: boolean
  readonly wakeAt: number
  readonly sendBefore: number | null
  readonly reason: string | null
  readonly createdAt: number
  readonly updatedAt: number
  readonly expiresAt: number | null
}

interface Sender {
  readonly owner: string | null
  readonly fence: number
  readonly leaseUntil: number
  readonly pausedUntil: number
}

/** By once-key. */
function messages(tx: MemoryTx): MemoryTable<Message> {
  return tx.table<Message>('holdfast.outbox_message')
}

function senders(tx: MemoryTx): MemoryTable<Sender> {
  return tx.table<Sender>('holdfast.outbox_sender')
}

function senderOf(tx: MemoryTx, lane: string): Sender {
  return senders(tx).get(lane) ?? { owner: null, fence: 0, leaseUntil: 0, pausedUntil: 0 }
}

function all(tx: MemoryTx): Message[] {
  return [...messages(tx).entries()].map(([, message]) => message)
}

/** Of every lane, in the order of lanes' first messages. */
function heads(tx: MemoryTx): Map<string, Message> {
  const found = new Map<string, Message>()
  for (const message of all(tx)) {
    if (message.state !== 'queued' && message.state !== 'sending' && !message.holdsLane) continue
    const first = found.get(message.lane)
    if (first === undefined || message.seq < first.seq) found.set(message.lane, message)
  }
  return found
}

function bySeq(tx: MemoryTx, lane: string, seq: number): Message | undefined {
  return all(tx).find(message => message.lane === lane && message.seq === seq)
}

function rowOf({ wakeAt, sendBefore, createdAt: _createdAt, updatedAt, expiresAt: _expiresAt, ...message }: Message, now: number): OutboxRow {
  return { ...message, due: wakeAt <= now, late: sendBefore !== null && sendBefore <= now, sinceMs: updatedAt }
}

function change(tx: MemoryTx, message: Message | undefined, to: Partial<Message>): boolean {
  if (message === undefined) return false
  messages(tx).set(message.onceKey, { ...message, updatedAt: tx.now(), ...to })
  return true
}

export const outboxMemory: OutboxPort<MemoryTx> = {
  async enqueue(tx, { lane, topic, onceKey, payload, sendWithinMs }) {
    if (messages(tx).get(onceKey) !== undefined) return false
    const now = tx.now()
    messages(tx).set(onceKey, {
      lane, seq: tx.sequence(`outbox ${lane}`), topic, onceKey, payload, state: 'queued', attempts: 0, fence: 0, holdsLane: false, wakeAt: now,
      sendBefore: sendWithinMs === undefined ? null : now + sendWithinMs, reason: null, createdAt: now, updatedAt: now, expiresAt: null,
    })
    return true
  },
  async dueLanes(tx, topics, limit) {
    const now = tx.now()
    if (senderOf(tx, ALL_LANES).pausedUntil > now) return []
    const due = [...heads(tx).values()].filter(message => {
      const sender = senderOf(tx, message.lane)
      return !message.holdsLane && message.wakeAt <= now && topics.includes(message.topic) && sender.leaseUntil <= now && sender.pausedUntil <= now
    })
    return due.sort((a, b) => a.wakeAt - b.wakeAt).slice(0, limit).map(message => message.lane)
  },
  async takeLane(tx, lane, owner, leaseMs) {
    const sender = senderOf(tx, lane)
    if (sender.leaseUntil > tx.now()) return undefined
    senders(tx).set(lane, { ...sender, owner, fence: sender.fence + 1, leaseUntil: tx.now() + leaseMs })
    return sender.fence + 1
  },
  async renewLane(tx, lane, fence, leaseMs) {
    const sender = senderOf(tx, lane)
    if (sender.fence !== fence || sender.leaseUntil <= tx.now()) return false
    senders(tx).set(lane, { ...sender, leaseUntil: tx.now() + leaseMs })
    return true
  },
  async releaseLane(tx, lane, fence) {
    const sender = senderOf(tx, lane)
    if (sender.fence !== fence) return false
    senders(tx).set(lane, { ...sender, owner: null, leaseUntil: 0 })
    return true
  },
  async head(tx, lane) {
    const message = heads(tx).get(lane)
    return message === undefined ? undefined : rowOf(message, tx.now())
  },
  async isPaused(tx, lane) {
    return [lane, ALL_LANES].some(one => senderOf(tx, one).pausedUntil > tx.now())
  },
  async markSending(tx, lane, seq, fence) {
    const message = bySeq(tx, lane, seq)
    if (message?.state !== 'queued' && message?.state !== 'sending') return false
    return change(tx, message, { state: 'sending', fence, attempts: message.attempts + 1 })
  },
  async settle(tx, lane, seq, fence, { state, reason, attempts, retryInMs, holdsLane, keepForMs }) {
    const message = bySeq(tx, lane, seq)
    if (message?.fence !== fence) return false
    if (!['sending', 'unknown', state].includes(message.state) && !(message.state === 'queued' && state === 'expired')) return false
    return change(tx, message, { state, reason, attempts, holdsLane, wakeAt: tx.now() + retryInMs, expiresAt: state === 'sent' || state === 'expired' ? tx.now() + keepForMs : null })
  },
  async pause(tx, lane, forMs) {
    const sender = senderOf(tx, lane)
    senders(tx).set(lane, { ...sender, pausedUntil: Math.max(sender.pausedUntil, tx.now() + forMs) })
  },
  async abandoned(tx, limit) {
    return all(tx).filter(message => message.state === 'sending' && (senders(tx).get(message.lane)?.leaseUntil ?? Infinity) <= tx.now()).slice(0, limit).map(message => rowOf(message, tx.now()))
  },
  async stuck(tx, limit) {
    return all(tx).filter(message => message.state === 'dead' || message.state === 'unknown').sort((a, b) => a.updatedAt - b.updatedAt).slice(0, limit).map(message => rowOf(message, tx.now()))
  },
  async backlog(tx, max) {
    return countByName(all(tx).filter(message => message.state === 'queued' || message.state === 'sending').slice(0, max).map(message => [message.topic, tx.now() - message.createdAt]))
  },
  async settleByHand(tx, onceKey, as, reason, keepForMs) {
    const message = messages(tx).get(onceKey)
    if (message?.state !== 'dead' && message?.state !== 'unknown') return false
    return change(tx, message, { state: as, reason, holdsLane: false, attempts: 0, sendBefore: null, wakeAt: tx.now(), expiresAt: as === 'discarded' ? tx.now() + keepForMs : null })
  },
  async prune(tx, limit) {
    const over = all(tx).filter(message => message.expiresAt !== null && message.expiresAt < tx.now()).sort((a, b) => (a.expiresAt ?? 0) - (b.expiresAt ?? 0)).slice(0, limit)
    for (const message of over) messages(tx).delete(message.onceKey)
    return over.length
  },
}
