/**
 * The public face of the outbox, and its defaults.
 */
import type { Duration, Json, Size } from '../../core/index.ts'
import type { CallContext } from '../call-context.ts'

export interface OutboxOptions {
  /** How long a lane stays taken when its sender died. `'1s'` to `'10m'`, default `'30s'`; extended by heartbeats. */
  readonly lease?: Duration
  /** How long the once-key of a message that was sent is remembered. Default `'7d'`, at least `'1h'`. Dead and unknown ones stay until a human settles them. */
  readonly keepFor?: Duration
  /** Longest payload, as JSON text in UTF-8. Default `'256kb'`: references to media, not media. */
  readonly payloadMax?: Size
  /** Lanes at work at a time in this process, 1 to 100. Default 8. */
  readonly lanes?: number
  /** How often is looked for due messages. Default `'500ms'`. */
  readonly poll?: Duration
  /** How long `stop()` waits for sends in flight. Default `'10s'`. */
  readonly drainFor?: Duration
}

export const OUTBOX_DEFAULTS: Required<OutboxOptions> = Object.freeze({ lease: '30s', keepFor: '7d', payloadMax: '256kb', lanes: 8, poll: '500ms', drainFor: '10s' })

export interface Envelope {
  /** Messages of one lane are sent one after another, in the order of their commits: `chat:42`. Not `*`. */
  readonly lane: string
  /** A declared topic. */
  readonly topic: string
  /** The same message is kept once, whoever enqueues it: `delivery:order-7`. Unique over all topics. */
  readonly onceKey: string
  readonly payload: Json
  /** Not sent any more when it is older than this. */
  readonly sendWithin?: Duration
}

export interface OutboxMessage {
  readonly lane: string
  readonly topic: string
  readonly onceKey: string
  readonly payload: Json
  /** From 1. */
  readonly attempt: number
}

/**
 * What a sender says. Nothing (undefined) is `sent`. An error that it throws is read by `failureVerdict`: refused is
 * `dead`, not applied is `retry` (status 429 pauses the lane), anything else is `unknown`.
 */
export type SendResult =
  | { readonly kind: 'sent' }
  /** Surely not sent. `pause`: nothing else of the lane, or of all lanes, is sent before `afterMs` either, and it doesn't count as an attempt. */
  | { readonly kind: 'retry'; readonly reason: string; readonly afterMs?: number; readonly pause?: 'lane' | 'all' }
  /** Will never be sent: the recipient blocked us. */
  | { readonly kind: 'dead'; readonly reason: string }
  /** Bytes left, and nobody knows what became of them. */
  | { readonly kind: 'unknown'; readonly reason: string }

export type Send = (message: OutboxMessage, context: CallContext) => Promise<SendResult | undefined | void>

export interface TopicOptions {
  readonly send: Send
  /** The other side recognises `key` and does nothing twice: what is unknown is sent again by itself. Default false: at most once after bytes left. */
  readonly repeatable?: boolean
  /** Sends until a message is dead, 1 to 100. Default 8: with the waits below about 4 minutes. */
  readonly attempts?: number
  /** Wait after a failed send, doubled each time up to `backoffMax`. Defaults `'2s'`, `'60s'`. The lane waits with it. */
  readonly backoff?: Duration
  readonly backoffMax?: Duration
  /** One send. Default `'15s'`. */
  readonly timeout?: Duration
  /** Does the lane go on after a message that is dead or unknown, or wait for a human? Default `'continue'`. */
  readonly onDead?: 'continue' | 'hold'
  readonly runbook?: string
}

export const TOPIC_DEFAULTS: Required<Omit<TopicOptions, 'send' | 'runbook'>> = Object.freeze({ repeatable: false, attempts: 8, backoff: '2s', backoffMax: '60s', timeout: '15s', onDead: 'continue' })

export interface RelayReport {
  readonly sent: number
  /** To be tried again. */
  readonly failed: number
  /** Dead, unknown or expired. */
  readonly parked: number
}

export interface Outbox<Tx> {
  readonly kind: 'outbox'
  /** Declares how messages of a topic are sent. @throws HF_NAME_TAKEN, HF_OPTION_INVALID */
  topic(name: string, options: TopicOptions): void
  /**
   * Keeps a message in the caller's transaction; it is sent after that commits. False when the once-key is known.
   * Make it the last write: the lane is locked until the transaction ends.
   * @throws HF_UNKNOWN_NAME, HF_INPUT_INVALID (a key, the lane, a payload that is too large), HF_RESULT_NOT_JSON
   */
  enqueue(tx: Tx, envelope: Envelope): Promise<boolean>
  /** Something was committed: look at once instead of at the next poll. */
  wake(): void
  /** Sends what is due and resolves when nothing is, at most 500 lanes' turns. For a worker; or use `start()`. */
  relay(): Promise<RelayReport>
  /** Sends all the time. */
  start(): void
  /** Takes nothing new and waits for sends in flight, bounded. Answers how many were left. */
  stop(): Promise<number>
  /** Calls `unknown` what a sender that died has left in flight, at most `limit` (or queues it, where the topic is repeatable). */
  sweep(limit: number): Promise<number>
  /** An operator's retry of what is dead or unknown: it may be received twice. False when it is neither. */
  requeue(onceKey: string, reason: string): Promise<boolean>
  /** An operator's end of it. False when it is neither dead nor unknown. */
  discard(onceKey: string, reason: string): Promise<boolean>
  runbookOf(topic: string): string | undefined
}
