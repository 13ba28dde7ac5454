/**
 * Outbox: messages that are kept with the business writes they tell about, and sent afterwards.
 *
 * Promise: a message is sent only when its transaction was committed; once per once-key; in order within its lane, with
 * one send in flight. Before bytes leave it is marked `sending`; where the sender dies after that, the message is
 * `unknown` and is never sent again by itself (at most once), unless its topic is repeatable.
 * Not here: how to send (the topic's `send`), which errors mean what beyond the defaults (../failure.ts).
 */
import { checkName, decodeJson, durationMs, HoldfastError, Registry, sizeBytes, withContext, type Json } from '../../core/index.ts'
import { bodyFor, last, rerunUnknownCommit } from '../../store/index.ts'
import { callContext } from '../call-context.ts'
import { encodeWithin } from '../encode-within.ts'
import { checkKey, sha256 } from '../fingerprint.ts'
import { KeepAlive } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import { Pump } from '../pump.ts'
import { outboxMemory } from './memory.ts'
import { ALL_LANES, type OutboxPort, type OutboxRow } from './port.ts'
import { outboxSql } from './sql.ts'
import { resolveTopic, settlementOf, type Decision, type Topic } from './topic.ts'
import { OUTBOX_DEFAULTS, type Envelope, type Outbox, type OutboxMessage, type OutboxOptions, type RelayReport, type TopicOptions } from './types.ts'

/** A lane gives its turn to others after so many messages. */
const MESSAGES_PER_TURN = 20
const TURNS_PER_RELAY = 500
/** The message is sent: its record is worth waiting for a store that is briefly away. */
const SETTLE_ATTEMPTS = 10
const SETTLE_PAUSE_MS = 500

/** What was decided about a message, to be told after the commit. */
type Settled = readonly [row: OutboxRow, decision: Decision]

interface Begun {
  /** `sending` now. */
  readonly row?: OutboxRow
  readonly lost: boolean
  readonly settled: readonly Settled[]
}

interface Turn {
  readonly lane: string
  readonly fence: number
  readonly askedAtMs: number
}

/** Declares the outbox. No I/O before it is used. @throws HF_OPTION_INVALID */
export function outbox<Tx>(options: OutboxOptions, kit: DurableKit<Tx>): Outbox<Tx> {
  const leaseMs = durationMs(options.lease ?? OUTBOX_DEFAULTS.lease, 'outbox: lease', { min: 1_000 })
  const keepForMs = durationMs(options.keepFor ?? OUTBOX_DEFAULTS.keepFor, 'outbox: keepFor', { min: 3_600_000 })
  const payloadBytesMax = sizeBytes(options.payloadMax ?? OUTBOX_DEFAULTS.payloadMax, 'outbox: payloadMax')
  const concurrency = options.lanes ?? OUTBOX_DEFAULTS.lanes
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > 100) throw new HoldfastError('HF_OPTION_INVALID', { message: `outbox: lanes: expected a whole number from 1 to 100, got ${String(concurrency)}` })
  const topics = new Registry<Topic>('outbox topic')
  let report = { sent: 0, failed: 0, parked: 0 }

  const pump = new Pump<Turn>({
    env: kit.env, concurrency,
    pollMs: durationMs(options.poll ?? OUTBOX_DEFAULTS.poll, 'outbox: poll'),
    drainMs: durationMs(options.drainFor ?? OUTBOX_DEFAULTS.drainFor, 'outbox: drainFor'),
    take,
    run: work,
  })

  async function enqueue(tx: Tx, envelope: Envelope): Promise<boolean> {
    const { name: topic } = topics.need(envelope.topic)
    const lane = checkKey('outbox: lane', envelope.lane)
    if (lane === ALL_LANES) throw new HoldfastError('HF_INPUT_INVALID', { message: 'outbox: no lane may be called *', context: { topic } })
    return port().enqueue(tx, {
      lane, topic, onceKey: checkKey('outbox: onceKey', envelope.onceKey), payload: encodeWithin(envelope.payload, `outbox ${topic}: payload`, payloadBytesMax),
      sendWithinMs: envelope.sendWithin === undefined ? undefined : durationMs(envelope.sendWithin, `outbox ${topic}: sendWithin`),
    })
  }

  async function take(free: number): Promise<readonly Turn[]> {
    const names = topics.names()
    if (names.length === 0) return []
    const askedAtMs = kit.env.monotonic()
    return kit.database().transaction('outbox.take', async tx => {
      const turns: Turn[] = []
      for (const lane of [...await port().dueLanes(tx, names, free)].sort()) {
        const fence = await port().takeLane(tx, lane, kit.instance, leaseMs)
        if (fence !== undefined) turns.push({ lane, fence, askedAtMs })
      }
      return turns
    })
  }

  /** One turn of a lane: message after message until nothing is due. Never rejects; what it leaves is found by the next holder. */
  async function work({ lane, fence, askedAtMs }: Turn, stopped: AbortSignal): Promise<void> {
    const keepAlive = new KeepAlive({
      env: kit.env, what: `outbox lane ${lane}`, ttlMs: leaseMs, askedAtMs,
      renew: signal => kit.database().transaction('outbox.renew', tx => port().renewLane(tx, lane, fence, leaseMs), { signal }),
      onLost: reason => { kit.events.emit('lease.lost', { lease: `outbox:${lane}`, fence, reason }) },
    })
    const signal = keepAlive.until(stopped)
    try {
      for (let sent = 0; sent < MESSAGES_PER_TURN && keepAlive.held && !stopped.aborted; sent++) {
        const begun = await rerunUnknownCommit(() => kit.database().transaction('outbox.sending', tx => begin(tx, lane, fence)))
        for (const [row, decision] of begun.settled) tell(row, decision)
        if (begun.lost) keepAlive.lose('another instance took over')
        // Stalled while it was marked: whoever holds the lane by now calls it unknown or sends it.
        if (begun.row === undefined || !keepAlive.held) break
        await sendOne(begun.row, fence, signal, keepAlive)
      }
      if (keepAlive.held) await kit.database().transaction('outbox.release', tx => port().releaseLane(last(tx), lane, fence))
    } catch {
      // The store is away and says so itself; the lane's lease ends, and the next holder goes on from what is recorded.
    } finally {
      keepAlive.stop()
    }
  }

  /** Marks the lane's head as being sent and answers it; on the way it settles what cannot be sent any more. */
  async function begin(tx: Tx, lane: string, fence: number): Promise<Begun> {
    const settled: Settled[] = []
    if (!await port().renewLane(tx, lane, fence, leaseMs)) return { lost: true, settled }
    if (await port().isPaused(tx, lane)) return { lost: false, settled }
    // Each round settles one message for good or ends.
    for (;;) {
      const row = await port().head(tx, lane)
      const topic = row === undefined ? undefined : topics.get(row.topic)
      if (row === undefined || row.holdsLane || topic === undefined) return { lost: false, settled }
      // Ours already: the answer of the commit that marked it was lost, and nothing was sent yet.
      if (row.state === 'sending' && row.fence === fence) return { row, lost: false, settled }
      const over = overFor(row, topic)
      if (over !== undefined) {
        await settle(tx, row, row.fence, over)
        settled.push([row, over])
        continue
      }
      if (!row.due) return { lost: false, settled }
      await port().markSending(tx, lane, row.seq, fence)
      return { row: { ...row, state: 'sending', fence, attempts: row.attempts + 1 }, lost: false, settled }
    }
  }

  async function sendOne(row: OutboxRow, fence: number, signal: AbortSignal, keepAlive: KeepAlive): Promise<void> {
    const topic = topics.need(row.topic)
    const message: OutboxMessage = { lane: row.lane, topic: row.topic, onceKey: row.onceKey, payload: decodeJson<Json>(row.payload), attempt: row.attempts }
    const decision = await withContext({ component: `outbox ${row.topic}`, correlationId: row.onceKey }, () => topic.decide(message, signal, sending => callContext(sha256(`outbox:${row.onceKey}`), sending, keepAlive)))
    for (let attempt = 1; ; attempt++) {
      try {
        await kit.database().transaction('outbox.settle', tx => settle(tx, row, fence, decision, last(tx)))
        tell(row, decision)
        return
      } catch (error) {
        if (attempt >= SETTLE_ATTEMPTS) throw error
        await kit.env.sleep(SETTLE_PAUSE_MS)
      }
    }
  }

  /** `ending`: what its last statement goes through. */
  async function settle(tx: Tx, row: OutboxRow, fence: number, decision: Decision, ending = tx): Promise<void> {
    const settlement = settlementOf(decision, row.attempts, topics.need(row.topic), keepForMs)
    const pause = pauseOf(row, decision)
    if (pause !== undefined) await port().pause(tx, pause, settlement.retryInMs)
    await port().settle(ending, row.lane, row.seq, fence, settlement)
  }

  /** After the commit. */
  function tell(row: OutboxRow, decision: Decision): void {
    const about = { lane: row.lane, onceKey: row.onceKey, topic: row.topic }
    const { state, retryInMs, reason } = settlementOf(decision, row.attempts, topics.need(row.topic), keepForMs)
    const message = reason ?? ''
    if (state === 'sent') {
      report = { ...report, sent: report.sent + 1 }
      kit.events.emit('outbox.sent', about)
    } else if (state === 'queued') {
      report = { ...report, failed: report.failed + 1 }
      kit.events.emit('outbox.failed', { ...about, message, retryInMs })
      const pause = pauseOf(row, decision)
      if (pause !== undefined) kit.events.emit('outbox.paused', { lane: pause, forMs: retryInMs })
    } else {
      report = { ...report, parked: report.parked + 1 }
      if (state === 'expired') kit.events.emit('outbox.failed', { ...about, message })
      else kit.events.emit('outbox.parked', { ...about, state: state === 'unknown' ? 'unknown' : 'dead', message })
    }
  }

  async function settleByHand(onceKey: string, as: 'queued' | 'discarded', reason: string): Promise<boolean> {
    const settled = await kit.database().transaction('outbox.settle-by-hand', tx => port().settleByHand(tx, onceKey, as, reason, keepForMs))
    if (settled) pump.wake()
    return settled
  }

  function port(): OutboxPort<Tx> {
    return outboxPort<Tx>(kit.database())
  }

  return {
    kind: 'outbox',
    topic(name: string, topicOptions: TopicOptions) {
      checkName('outbox topic', name)
      topics.add(name, resolveTopic(name, topicOptions, kit.env))
    },
    enqueue,
    wake: () => { pump.wake() },
    async relay(): Promise<RelayReport> {
      const before = report
      await pump.pass(TURNS_PER_RELAY)
      return { sent: report.sent - before.sent, failed: report.failed - before.failed, parked: report.parked - before.parked }
    },
    start: () => { pump.start() },
    stop: () => pump.stop(),
    async sweep(limit) {
      const left = await kit.database().transaction('outbox.sweep', async tx => {
        const rows = (await port().abandoned(tx, limit)).filter(row => topics.get(row.topic)?.repeatable === false)
        for (const row of rows) await settle(tx, row, row.fence, SENDER_DIED)
        return rows
      })
      for (const row of left) tell(row, SENDER_DIED)
      return left.length
    },
    requeue: (onceKey, reason) => settleByHand(onceKey, 'queued', reason),
    discard: (onceKey, reason) => settleByHand(onceKey, 'discarded', reason),
    runbookOf: name => topics.get(name)?.runbook,
  }
}

const SENDER_DIED: Decision = Object.freeze({ kind: 'unknown', reason: 'its sender died' })

/** Why a lane's head is not sent any more, when it is not. */
function overFor(row: OutboxRow, topic: Topic): Decision | undefined {
  if (row.state === 'sending' && !topic.repeatable) return SENDER_DIED
  return row.late ? { kind: 'expired', reason: 'it was not sent in time' } : undefined
}

/** The lane that a decision pauses. */
function pauseOf(row: OutboxRow, decision: Decision): string | undefined {
  if (decision.kind !== 'retry' || decision.pause === undefined) return undefined
  return decision.pause === 'all' ? ALL_LANES : row.lane
}

export function outboxPort<Tx>(database: { readonly dialect: 'sql' | 'memory' }): OutboxPort<Tx> {
  return bodyFor<Tx, OutboxPort<Tx>>(database, { sql: outboxSql, memory: outboxMemory })
}
