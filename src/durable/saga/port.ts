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
  /** Why and by whom, when it is to be undone. */
  readonly cancelled: string | null
  /** Left of its deadline, perhaps below zero. */
  readonly deadlineInMs: number | null
  /** The step that is the point of no return, once it may have happened. */
  readonly pivot: string | null
  /** Holders in a row that died without getting further. */
  readonly crashes: number
  /** The confirmation that was asked for last. */
  readonly askStep: string | null
  readonly askSummary: string | null
  readonly askRound: number
  readonly askInMs: number | null
  readonly askTwo: boolean
  readonly confirmedBy: string | null
}

export interface StepRow {
  readonly seq: number
  readonly name: string
  readonly state: StepState
  readonly output: string | null
  /** What kind of step it was declared to be; null on rows of an older release. */
  readonly effect?: string | null
}

export interface TrackRow {
  readonly seq: number
  readonly kind: string
  readonly resource: string
  readonly description: string | null
  readonly state: 'made' | 'undone' | 'kept'
}

export interface RunKey {
  readonly saga: string
  readonly id: string
}

/**
 * What a journal write begins. Nothing: it records what happened, and is always right under the live fence. A `step`: refused when the run
 * is cancelled or out of time. A `pivot` also marks the point of no return; a `confirmed` one only when its confirmation was given.
 */
export type Begins = { readonly kind: 'step' } | { readonly kind: 'pivot' | 'confirmed'; readonly step: string }

export interface Note {
  readonly what: 'resumed' | 'failed' | 'undo-failed' | 'turned' | 'needs-human' | 'cancelled' | 'asked' | 'confirmed' | 'retried' | 'resolved' | 'skipped' | 'marked'
  readonly step?: string
  readonly detail: string
  readonly by: string
}

export interface HistoryRows {
  readonly begunAtMs: number
  readonly begunBy: string | null
  readonly steps: readonly { readonly name: string; readonly state: StepState; readonly fence: number | null; readonly begunAtMs: number | null; readonly doneAtMs: number | null; readonly undoneAtMs: number | null }[]
  readonly tracks: readonly (TrackRow & { readonly atMs: number; readonly undoneAtMs: number | null })[]
  readonly notes: readonly { readonly what: Note['what']; readonly step: string | null; readonly detail: string; readonly by: string; readonly times: number; readonly atMs: number }[]
}

export interface Closed {
  readonly state: 'done' | 'undone' | 'needs-human'
  readonly result: string | null
  readonly reason: string
  readonly keepForMs: number
  /** Where there are any, the lease must be live; what is recorded already may be closed late. */
  readonly steps: readonly StepRow[]
}

export interface SagaPort<Tx> {
  /** The run when the id is new. One statement. */
  begin(tx: Tx, run: RunKey & { readonly version: number; readonly input: string; readonly fingerprint: string; readonly owner: string; readonly leaseMs: number; readonly deadlineMs?: number | undefined }): Promise<RunRow | undefined>
  read(tx: Tx, key: RunKey): Promise<RunRow | undefined>
  /** A new fence when nobody holds it and it is due, or the same when this owner holds it already. `tookOver`: its last holder died. */
  take(tx: Tx, key: RunKey, versions: readonly number[], owner: string, leaseMs: number): Promise<{ readonly fence: number; readonly tookOver: boolean } | undefined>
  steps(tx: Tx, key: RunKey): Promise<readonly StepRow[]>
  /** In the order in which they were made. */
  tracks(tx: Tx, key: RunKey): Promise<readonly TrackRow[]>
  /** Undefined when it is not held any more. */
  renew(tx: Tx, key: RunKey, fence: number, leaseMs: number): Promise<{ readonly cancelled: string | null } | undefined>
  /** Writes steps of a run that is `running` or `undoing` under this fence. One statement, which writes nothing where it answers false. */
  journal(tx: Tx, key: RunKey, fence: number, steps: readonly StepRow[], begins?: Begins): Promise<boolean>
  /** The point of no return was this step, and it surely did not happen. */
  unpivot(tx: Tx, key: RunKey, fence: number, step: string): Promise<void>
  track(tx: Tx, key: RunKey, fence: number, track: Omit<TrackRow, 'state'>): Promise<boolean>
  untrack(tx: Tx, key: RunKey, fence: number, kind: string, resource: string): Promise<boolean>
  /** From `running` to `undoing`; refused behind the point of no return. */
  turn(tx: Tx, key: RunKey, fence: number, reason: string): Promise<boolean>
  /** Gives the run back until it is due again; `counts` says whether it was a failed try. */
  park(tx: Tx, key: RunKey, fence: number, reason: string, wakeInMs: number, counts: boolean): Promise<boolean>
  /** Asks for a confirmation; goes with a park in the same transaction. */
  ask(tx: Tx, key: RunKey, fence: number, ask: { readonly step: string; readonly summary: string; readonly forMs: number; readonly secondPerson: boolean }): Promise<boolean>
  /** To a state of rest, with what is not recorded yet of its steps. To `done` only when it is not cancelled. One statement, which writes nothing where it answers false. */
  close(tx: Tx, key: RunKey, fence: number, closed: Closed): Promise<boolean>
  /** Ids that are due and that no live lease holds, of these versions. */
  due(tx: Tx, saga: string, versions: readonly number[], limit: number): Promise<readonly string[]>
  /** What needs a human, oldest first. */
  stuck(tx: Tx, limit: number): Promise<readonly (RunRow & { readonly saga: string })[]>
  /** What waits for a confirmation, and what has been due for longer than `overdueMs` without anybody taking it. */
  waiting(tx: Tx, overdueMs: number, limit: number): Promise<readonly (RunRow & { readonly saga: string })[]>
  retryByHand(tx: Tx, key: RunKey, reason: string): Promise<boolean>
  closeByHand(tx: Tx, key: RunKey, state: 'done' | 'undone', result: string | null, reason: string, keepForMs: number): Promise<boolean>
  /** Of a run that needs a human: its `intent` step happened with that output, or (undefined) did not. */
  resolveStep(tx: Tx, key: RunKey, output: string | undefined, reason: string): Promise<boolean>
  /** Of a run that needs a human: the step it stands at counts as done, or what is undone next as kept. Answers its name. */
  skip(tx: Tx, key: RunKey, output: string): Promise<string | undefined>
  /** Before the point of no return. False: it is over, being undone, behind that point, or does not exist. */
  cancel(tx: Tx, key: RunKey, reason: string): Promise<boolean>
  confirm(tx: Tx, key: RunKey, round: number, by: string): Promise<boolean>
  /** The same note as the last one counts that up; beyond NOTES_MAX the last one is counted up whatever it says. */
  note(tx: Tx, key: RunKey, note: Note): Promise<void>
  history(tx: Tx, key: RunKey): Promise<HistoryRows | undefined>
  prune(tx: Tx, limit: number): Promise<number>
}

/** Notes kept of one run: one that waits for days must not grow for days. */
export const NOTES_MAX = 300
