/**
 * Atomic operations on the journal of a run, per dialect.
 *
 * Run: `running` and `undoing` are at work or due; `done`, `undone`, `needs-human` are at rest. Step: `intent` (may have
 * happened), `clear` (surely has not), `done`, `undone`, `kept` (over without an undo). Every write names the fence of its
 * holder; one that is not the live fence writes nothing and answers false.
 */
export type RunState = 'running' | 'undoing' | 'done' | 'undone' | 'needs-human'
export type StepState = 'intent' | 'clear' | 'done' | 'undone' | 'kept'

export interface RunRow {
  readonly id: string
  readonly version: number
  readonly state: RunState
  /** Where it goes on when a human says so. */
  readonly direction: 'forward' | 'undo'
  readonly input: string
  readonly fingerprint: string
  readonly result: string | null
  readonly reason: string | null
  readonly fence: number
  /** Failed tries in this direction. */
  readonly attempts: number
  /** Left of the lease, or until it is due; 0 when it may be taken. */
  readonly waitMs: number
  readonly live: boolean
  /** Since it was begun, or a human let it go on. */
  readonly ageMs: number
  readonly sinceMs: number
}

export interface StepRow {
  readonly seq: number
  readonly name: string
  readonly state: StepState
  readonly output: string | null
}

export interface RunKey {
  readonly saga: string
  readonly id: string
}

export interface SagaPort<Tx> {
  /** The fence when the id is new. */
  begin(tx: Tx, run: RunKey & { readonly version: number; readonly input: string; readonly fingerprint: string; readonly owner: string; readonly leaseMs: number }): Promise<number | undefined>
  read(tx: Tx, key: RunKey): Promise<RunRow | undefined>
  /** A new fence when nobody holds it and it is due, or the same when this owner holds it already. */
  take(tx: Tx, key: RunKey, version: number, owner: string, leaseMs: number): Promise<number | undefined>
  steps(tx: Tx, key: RunKey): Promise<readonly StepRow[]>
  renew(tx: Tx, key: RunKey, fence: number, leaseMs: number): Promise<boolean>
  /** Writes steps of a run that is `running` or `undoing` under this fence. */
  journal(tx: Tx, key: RunKey, fence: number, steps: readonly StepRow[]): Promise<boolean>
  /** From `running` to `undoing`. */
  turn(tx: Tx, key: RunKey, fence: number, reason: string): Promise<boolean>
  /** Gives the run back until it is due again; `counts` says whether it was a failed try. */
  park(tx: Tx, key: RunKey, fence: number, reason: string, wakeInMs: number, counts: boolean): Promise<boolean>
  /** To a state of rest. */
  close(tx: Tx, key: RunKey, fence: number, state: 'done' | 'undone' | 'needs-human', result: string | null, reason: string, keepForMs: number): Promise<boolean>
  /** Ids that are due and that no live lease holds, of this version. */
  due(tx: Tx, saga: string, version: number, limit: number): Promise<readonly string[]>
  /** What needs a human, oldest first. */
  stuck(tx: Tx, limit: number): Promise<readonly (RunRow & { readonly saga: string })[]>
  retryByHand(tx: Tx, key: RunKey, reason: string): Promise<boolean>
  closeByHand(tx: Tx, key: RunKey, state: 'done' | 'undone', reason: string, keepForMs: number): Promise<boolean>
  /** Of a run that needs a human: its `intent` step happened with that output, or (undefined) did not. */
  resolveStep(tx: Tx, key: RunKey, output: string | undefined, reason: string): Promise<boolean>
  prune(tx: Tx, limit: number): Promise<number>
}
