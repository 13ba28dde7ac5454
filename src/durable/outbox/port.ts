/**
 * Atomic operations of the outbox, per dialect.
 *
 * Messages of a lane have rising numbers in the order of their commits. States: `queued`, `sending` (bytes may have left),
 * `sent`, `dead`, `unknown` (its sender died or cannot say), `expired` (too late), `discarded`. The head of a lane is its
 * first message that is queued, sending, or holds the lane. Whoever holds the lane (lease and fence) is the only one to send from it.
 */
export type OutboxState = 'queued' | 'sending' | 'sent' | 'dead' | 'unknown' | 'expired' | 'discarded'

export interface NewMessage {
  readonly lane: string
  readonly topic: string
  readonly onceKey: string
  /** JSON text. */
  readonly payload: string
  readonly sendWithinMs: number | undefined
}

export interface OutboxRow {
  readonly lane: string
  readonly seq: number
  readonly topic: string
  readonly onceKey: string
  readonly payload: string
  readonly state: OutboxState
  /** Sends that were begun, this one included once it is `sending`. */
  readonly attempts: number
  /** Of the sender that began the last send. */
  readonly fence: number
  readonly holdsLane: boolean
  readonly due: boolean
  /** Its `sendBefore` has passed. */
  readonly late: boolean
  readonly reason: string | null
  readonly sinceMs: number
}

/** What becomes of a message. */
export interface Settlement {
  readonly state: OutboxState
  readonly reason: string | null
  /** Attempts that count. */
  readonly attempts: number
  readonly retryInMs: number
  readonly holdsLane: boolean
  readonly keepForMs: number
}

export interface OutboxPort<Tx> {
  /** False when the once-key is known. Locks the lane until the transaction ends: make it the last write. */
  enqueue(tx: Tx, message: NewMessage): Promise<boolean>
  /** Lanes whose head is due, of a known topic, not paused, and that nobody holds. The head that waits longest first. */
  dueLanes(tx: Tx, topics: readonly string[], limit: number): Promise<readonly string[]>
  /** The fence, or undefined when another holds the lane. */
  takeLane(tx: Tx, lane: string, owner: string, leaseMs: number): Promise<number | undefined>
  /** Extends the lane's lease and keeps others out until the transaction ends; false when it was lost. */
  renewLane(tx: Tx, lane: string, fence: number, leaseMs: number): Promise<boolean>
  releaseLane(tx: Tx, lane: string, fence: number): Promise<boolean>
  head(tx: Tx, lane: string): Promise<OutboxRow | undefined>
  isPaused(tx: Tx, lane: string): Promise<boolean>
  /** From here on bytes may leave. */
  markSending(tx: Tx, lane: string, seq: number, fence: number): Promise<boolean>
  /** By the sender that began it (its fence is on the message), also when another has called it unknown meanwhile. */
  settle(tx: Tx, lane: string, seq: number, fence: number, settlement: Settlement): Promise<boolean>
  /** Nothing is sent from the lane (`*`: from any) for so long. */
  pause(tx: Tx, lane: string, forMs: number): Promise<void>
  /** `sending` in lanes that no live lease holds: their senders died. */
  abandoned(tx: Tx, limit: number): Promise<readonly OutboxRow[]>
  /** `dead` and `unknown`, oldest first. */
  stuck(tx: Tx, limit: number): Promise<readonly OutboxRow[]>
  /** What is not done, by topic, of at most `max` rows. */
  backlog(tx: Tx, max: number): Promise<readonly { readonly name: string; readonly waiting: number; readonly oldestMs: number }[]>
  /** `dead` or `unknown` becomes `queued` at its place in the lane, or `discarded`. */
  settleByHand(tx: Tx, onceKey: string, as: 'queued' | 'discarded', reason: string, keepForMs: number): Promise<boolean>
  prune(tx: Tx, limit: number): Promise<number>
}

export const ALL_LANES = '*' as const
