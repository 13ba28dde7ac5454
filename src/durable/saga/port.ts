/**
 * Atomic operations on the journal of a run, per dialect.
 *
 * A run is `active` (forward or undoing, under a lease or waiting for its next try), or over. Every change names the fence of
 * its holder and first takes hold of the run (`hold`), in the same transaction: an earlier holder's writes are refused.
 */
export type SagaState = 'active' | 'done' | 'undone' | 'needs-human' | 'discarded'
export type Direction = 'forward' | 'undo'

export interface SagaRun {
  readonly name: string
  readonly id: string
  readonly version: number
  readonly state: SagaState
  readonly direction: Direction
  readonly fingerprint: string
  /** JSON text, as it was given. */
  readonly input: string
  readonly result: string | null
  readonly reason: string
  readonly fence: number
  /** Held by a live holder. */
  readonly live: boolean
  /** Not before that long, when nobody holds it. */
  readonly dueInMs: number
  /** Wall clock of the database: since it is in this state. */
  readonly sinceMs: number
}

/**
 * `intent`: about to run, or running, or its holder died. `ambiguous`: an attempt may have happened. `waiting`: surely not
 * happened yet. `failed`: surely not happened and never will. `undone`: it happened and was taken back.
 */
export type StepState = 'intent' | 'ambiguous' | 'waiting' | 'done' | 'failed' | 'undone'

export interface SagaStep {
  readonly seq: number
  readonly step: string
  readonly kind: 'local' | 'outside'
  readonly state: StepState
  readonly result: string | null
  readonly attempts: number
  readonly message: string
}

export interface SagaBegin {
  readonly name: string
  readonly id: string
  readonly version: number
  readonly fingerprint: string
  readonly input: string
  readonly owner: string
  readonly leaseMs: number
}

export interface SagaPort<Tx> {
  /** The fence when the run is new or is already this owner's; else undefined. */
  begin(tx: Tx, begin: SagaBegin): Promise<number | undefined>
  read(tx: Tx, name: string, id: string): Promise<SagaRun | undefined>
  /** A new holder for an active run of this version that is due and that nobody holds. */
  takeOver(tx: Tx, name: string, id: string, version: number, owner: string, leaseMs: number): Promise<number | undefined>
  /** Extends the lease and locks the run until the transaction ends; false when it is another's by now. */
  hold(tx: Tx, name: string, id: string, fence: number, leaseMs: number): Promise<boolean>
  steps(tx: Tx, name: string, id: string): Promise<readonly SagaStep[]>
  /** Writes one line of the journal; the caller holds the run. */
  putStep(tx: Tx, name: string, id: string, step: SagaStep): Promise<void>
  /** The run goes on in this direction; the caller holds it. */
  turn(tx: Tx, name: string, id: string, direction: Direction, reason: string): Promise<void>
  /** Given back until it is due; the caller holds it. */
  wait(tx: Tx, name: string, id: string, reason: string, retryInMs: number): Promise<void>
  /** Over; the caller holds it. */
  end(tx: Tx, name: string, id: string, state: Exclude<SagaState, 'active'>, reason: string, result: string | null, keepForMs: number): Promise<void>
  /** Ids of active runs of this version that are due and that nobody holds, oldest first. */
  due(tx: Tx, name: string, version: number, limit: number): Promise<readonly string[]>
  /** Runs that need a person, oldest first. */
  needHuman(tx: Tx, limit: number): Promise<readonly SagaRun[]>
  /** A person's word on a run that needs one: active again with fresh attempts, or discarded. */
  settleByHand(tx: Tx, name: string, id: string, as: 'active' | 'discarded', reason: string, keepForMs: number): Promise<boolean>
  /** Deletes runs that are over and older than they are kept. What needs a person is never deleted. */
  prune(tx: Tx, limit: number): Promise<number>
}
