/**
 * Inbox: what came in from outside is kept before it is acknowledged, and then worked on once, in order, until it is done.
 *
 * Promise: a message that was claimed is handled at least once and is `done` exactly once; those of one lane in the order
 * of their arrival and never two at a time, in all instances together; one that fails `attempts` times is parked for a human and
 * its lane goes on. A handler may run twice (its process died): what must not happen twice goes through `once`.
 */
import { checkName, decodeJson, durationMs, HoldfastError, messageOf, sizeBytes, withContext, type Duration, type Json, type Size } from '../../core/index.ts'
import { bodyFor, last, rerunUnknownCommit } from '../../store/index.ts'
import { retryAfterOf, sqlState } from '../failure.ts'
import { encodeWithin } from '../encode-within.ts'
import { checkKey } from '../fingerprint.ts'
import { KeepAlive } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import { Pump } from '../pump.ts'
import { inboxMemory } from './memory.ts'
import type { InboxPort, InboxRow, ParkedRow } from './port.ts'
import { inboxSql } from './sql.ts'

export interface InboxOptions {
  /** Attempts until a message is parked, 1 to 100. Default 5. */
  readonly attempts?: number
  /** Wait after a failed attempt, doubled each time up to `backoffMax`. Defaults `'1s'`, `'60s'`. The lane waits with it. */
  readonly backoff?: Duration
  readonly backoffMax?: Duration
  /** How long a message whose holder died stays taken. `'1s'` to `'10m'`, default `'30s'`; extended by heartbeats. */
  readonly lease?: Duration
  /** How long duplicates of what is done are recognised. At least `'48h'` (Telegram redelivers for 24 h), which is the default. */
  readonly keepFor?: Duration
  /** Longest payload, as JSON text in UTF-8. Default `'1mb'`: a webhook's body and no upload. */
  readonly payloadMax?: Size
}

export const INBOX_DEFAULTS: Required<InboxOptions> = Object.freeze({ attempts: 5, backoff: '1s', backoffMax: '60s', lease: '30s', keepFor: '48h', payloadMax: '1mb' })

export interface InboxMessage {
  /** Where it came from: `telegram`, `crypto-pay`. Handlers are by source. */
  readonly source: string
  /** The sender's id of the message, unique within the source: an update id. */
  readonly id: string
  /** Messages of one lane are handled one after another: `user:42`. */
  readonly lane: string
  readonly payload: Json
  /** Lower goes first among lanes: 0 pre-checkout, 100 (default) ordinary, 1000 bulk. */
  readonly priority?: number
}

export interface InboxContext {
  /** Aborts when the message was lost to another instance, or the drain time is over. */
  readonly signal: AbortSignal
  /** From 1. */
  readonly attempt: number
  /** Wall clock of the database when it was claimed. */
  readonly receivedAtMs: number
}

export type InboxHandler = (message: Required<InboxMessage>, context: InboxContext) => Promise<unknown>

export interface ProcessOptions {
  /** Messages at work at a time in this process, 1 to 1000. Default 16. */
  readonly concurrency?: number
  /** How often is looked for what other instances claimed or left. Default `'1s'`; a claim of this process wakes it at once. */
  readonly poll?: Duration
  /** How long `stop()` waits for what is in flight. Default `'10s'`. */
  readonly drainFor?: Duration
}

export const PROCESS_DEFAULTS: Required<ProcessOptions> = Object.freeze({ concurrency: 16, poll: '1s', drainFor: '10s' })

export interface Processor {
  readonly source: string
  readonly inFlight: number
  start(): void
  /** Takes nothing new and waits for what is in flight, bounded. Answers how many were left to another instance. */
  stop(): Promise<number>
}

export interface Inbox<Tx> {
  readonly kind: 'inbox'
  /**
   * Keeps the message; acknowledge it to the sender only after this resolved. With `tx` it is kept when that transaction commits.
   * Emits inbox.received, inbox.duplicate.
   * @throws HF_INPUT_INVALID (a key, a payload that is too large), HF_RESULT_NOT_JSON, HF_NOT_STARTED, HF_STORE_UNAVAILABLE (answer 503 and let the sender send again)
   */
  claim(message: InboxMessage, options?: { readonly tx?: Tx }): Promise<'new' | 'duplicate'>
  /**
   * Handles the messages of a source. One processor per source and process.
   * Emits inbox.done, inbox.failed (with `parked` when it was the last attempt), lease.lost.
   * @throws HF_NAME_TAKEN, HF_OPTION_INVALID
   */
  process(source: string, handler: InboxHandler, options?: ProcessOptions): Processor
  /** Parks what died on its last attempt, at most `limit`. */
  sweep(limit: number): Promise<number>
  /** An operator's retry: to the end of its lane, with fresh attempts. False when it was not parked. */
  retry(source: string, id: string, reason: string): Promise<boolean>
  /** An operator's end of it. False when it was not parked. */
  discard(source: string, id: string, reason: string): Promise<boolean>
}

interface Taken {
  readonly row: InboxRow
  /** Monotonic, before the lease was asked for. */
  readonly askedAtMs: number
}

const PRIORITY_DEFAULT = 100
const KEEP_MIN_MS = 48 * 3_600_000
const ATTEMPTS_MAX = 100
const CONCURRENCY_MAX = 1_000

/** Declares the inbox. No I/O before it is used. @throws HF_OPTION_INVALID */
export function inbox<Tx>(options: InboxOptions, kit: DurableKit<Tx>): Inbox<Tx> {
  const attemptsMax = whole('inbox: attempts', options.attempts ?? INBOX_DEFAULTS.attempts, ATTEMPTS_MAX)
  const backoffMs = durationMs(options.backoff ?? INBOX_DEFAULTS.backoff, 'inbox: backoff')
  const backoffMaxMs = durationMs(options.backoffMax ?? INBOX_DEFAULTS.backoffMax, 'inbox: backoffMax', { min: backoffMs })
  const leaseMs = durationMs(options.lease ?? INBOX_DEFAULTS.lease, 'inbox: lease', { min: 1_000 })
  const keepForMs = durationMs(options.keepFor ?? INBOX_DEFAULTS.keepFor, 'inbox: keepFor', { min: KEEP_MIN_MS })
  const payloadBytesMax = sizeBytes(options.payloadMax ?? INBOX_DEFAULTS.payloadMax, 'inbox: payloadMax')
  const pumps = new Map<string, Pump<Taken>>()

  async function claim(message: InboxMessage, { tx }: { readonly tx?: Tx } = {}): Promise<'new' | 'duplicate'> {
    const { source, id } = message
    checkName('inbox source', source)
    const row = {
      source, id: checkKey('inbox: id', id), lane: checkKey('inbox: lane', message.lane),
      priority: message.priority ?? PRIORITY_DEFAULT, payload: encodeWithin(message.payload, `inbox ${source}: payload`, payloadBytesMax),
    }
    const isNew = tx === undefined
      ? await rerunUnknownCommit(() => kit.database().transaction('inbox.claim', inner => port().claim(last(inner), row), { lone: true }))
      : await port().claim(tx, row)
    if (!isNew) {
      kit.events.emit('inbox.duplicate', { source, id })
      return 'duplicate'
    }
    if (tx === undefined) {
      kit.events.emit('inbox.received', { source, id, lane: row.lane })
      pumps.get(source)?.wake()
    }
    return 'new'
  }

  function process(source: string, handler: InboxHandler, given: ProcessOptions = {}): Processor {
    checkName('inbox source', source)
    if (pumps.has(source)) throw new HoldfastError('HF_NAME_TAKEN', { message: `inbox source ${source} has a handler already`, context: { source } })
    const pump = new Pump<Taken>({
      env: kit.env,
      concurrency: whole(`inbox ${source}: concurrency`, given.concurrency ?? PROCESS_DEFAULTS.concurrency, CONCURRENCY_MAX),
      pollMs: durationMs(given.poll ?? PROCESS_DEFAULTS.poll, `inbox ${source}: poll`),
      drainMs: durationMs(given.drainFor ?? PROCESS_DEFAULTS.drainFor, `inbox ${source}: drainFor`),
      take: free => take(source, free),
      run: (taken, signal) => handle(taken, handler, signal),
    })
    pumps.set(source, pump)
    return { source, get inFlight() { return pump.inFlight }, start: () => { pump.start() }, stop: () => pump.stop() }
  }

  async function take(source: string, free: number): Promise<readonly Taken[]> {
    const askedAtMs = kit.env.monotonic()
    try {
      const taken = await kit.database().transaction('inbox.next', async tx => {
        const parked = await port().parkExhausted(tx, source, attemptsMax, free)
        return { parked, rows: await port().next(last(tx), source, kit.instance, leaseMs, free) }
      })
      tellParked(taken.parked)
      return taken.rows.map(row => ({ row, askedAtMs }))
    } catch (error) {
      // Another instance took a row of the same lane at the same moment; there is nothing wrong.
      if (sqlState(error) === '23505') return []
      throw error
    }
  }

  async function handle({ row, askedAtMs }: Taken, handler: InboxHandler, stopped: AbortSignal): Promise<void> {
    const { source, id, lane, priority, fence, attempt, receivedAtMs } = row
    const beganAtMs = kit.env.monotonic()
    const keepAlive = new KeepAlive({
      env: kit.env, what: `inbox ${source} ${id}`, ttlMs: leaseMs, askedAtMs,
      renew: signal => kit.database().transaction('inbox.renew', tx => port().renew(tx, source, id, fence, leaseMs), { signal }),
      onLost: reason => { kit.events.emit('lease.lost', { lease: `inbox:${source}`, fence, reason }) },
    })
    const message = { source, id, lane, priority, payload: decodeJson<Json>(row.payload) }
    const context = { signal: keepAlive.until(stopped), attempt, receivedAtMs }
    try {
      // Stalled while it was taken: another has it, or will.
      if (!keepAlive.held) return
      await withContext({ component: `inbox ${source}`, correlationId: `${source}:${id}` }, () => handler(message, context))
      if (await kit.database().transaction('inbox.done', tx => port().done(last(tx), source, id, fence, keepForMs), { lone: true })) {
        kit.events.emit('inbox.done', { source, id, durationMs: kit.env.monotonic() - beganAtMs })
      }
    } catch (error) {
      // Lost: whoever has it now records what becomes of it.
      if (!keepAlive.signal.aborted) await failed(row, error)
    } finally {
      keepAlive.stop()
    }
  }

  async function failed({ source, id, fence, attempt }: InboxRow, error: unknown): Promise<void> {
    const parked = attempt >= attemptsMax
    const retryInMs = parked ? undefined : Math.min(backoffMaxMs, Math.max(retryAfterOf(error) ?? 0, backoffMs * 2 ** (attempt - 1)))
    try {
      const recorded = await kit.database().transaction('inbox.fail', tx => port().fail(last(tx), source, id, fence, messageOf(error), retryInMs))
      if (recorded) kit.events.emit('inbox.failed', { source, id, attempt, message: messageOf(error), parked, error })
    } catch {
      // The store is away (it says so itself): the lease ends, and the message is taken again.
      kit.events.emit('inbox.failed', { source, id, attempt, message: messageOf(error), parked: false, error })
    }
  }

  function tellParked(parked: readonly ParkedRow[]): void {
    for (const { source, id, attempts, reason } of parked) kit.events.emit('inbox.failed', { source, id, attempt: attempts, message: reason ?? 'its holder died', parked: true })
  }

  async function settleByHand(source: string, id: string, as: 'queued' | 'discarded', reason: string): Promise<boolean> {
    const settled = await kit.database().transaction('inbox.settle', tx => port().settleByHand(tx, source, id, as, reason, keepForMs))
    if (settled && as === 'queued') pumps.get(source)?.wake()
    return settled
  }

  function port(): InboxPort<Tx> {
    return inboxPort<Tx>(kit.database())
  }

  return {
    kind: 'inbox',
    claim,
    process,
    async sweep(limit) {
      const parked = await kit.database().transaction('inbox.park', tx => port().parkExhausted(tx, undefined, attemptsMax, limit))
      tellParked(parked)
      return parked.length
    },
    retry: (source, id, reason) => settleByHand(source, id, 'queued', reason),
    discard: (source, id, reason) => settleByHand(source, id, 'discarded', reason),
  }
}

export function inboxPort<Tx>(database: { readonly dialect: 'sql' | 'memory' }): InboxPort<Tx> {
  return bodyFor<Tx, InboxPort<Tx>>(database, { sql: inboxSql, memory: inboxMemory })
}

/** @throws HF_OPTION_INVALID */
function whole(where: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new HoldfastError('HF_OPTION_INVALID', { message: `${where}: expected a whole number from 1 to ${String(max)}, got ${String(value)}`, context: { option: where } })
}
