/**
 * The one table of the journal in the memory dialect: a run with its steps, what they made, and what is told of it.
 *
 * Rows are replaced, never changed, so that a transaction that fails leaves nothing behind.
 */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import type { HistoryRows, RunKey, RunState, StepRow, TrackRow } from './port.ts'

export interface MemoryStep extends StepRow {
  readonly fence: number
  readonly begunAt: number
  readonly doneAt: number | null
  readonly undoneAt: number | null
}

export interface MemoryTrack extends TrackRow {
  readonly at: number
  readonly undoneAt: number | null
}

export interface MemoryRun {
  readonly saga: string
  readonly id: string
  readonly version: number
  readonly state: RunState
  readonly direction: 'forward' | 'undo'
  readonly input: string
  readonly fingerprint: string
  readonly result: string | null
  readonly reason: string | null
  readonly owner: string | null
  readonly begunBy: string
  readonly fence: number
  readonly attempts: number
  readonly leaseUntil: number
  readonly wakeAt: number
  readonly createdAt: number
  readonly startedAt: number
  readonly updatedAt: number
  readonly expiresAt: number | null
  readonly deadlineAt: number | null
  readonly cancelled: string | null
  readonly pivot: string | null
  readonly crashes: number
  readonly crashMark: string | null
  /** Of the take-over from a holder that died: taken again by who got no answer, it is still that. */
  readonly crashFence: number | null
  readonly askStep: string | null
  readonly askSummary: string | null
  readonly askRound: number
  readonly askUntil: number | null
  readonly askTwo: boolean
  readonly confirmedBy: string | null
  readonly steps: readonly MemoryStep[]
  readonly tracks: readonly MemoryTrack[]
  readonly notes: HistoryRows['notes']
}

export function runs(tx: MemoryTx): MemoryTable<MemoryRun> {
  return tx.table<MemoryRun>('holdfast.saga_run')
}

/** Names have no space, so the first one ends the saga's. */
export function keyOf({ saga, id }: RunKey): string {
  return `${saga} ${id}`
}

export function change(tx: MemoryTx, key: RunKey, when: (row: MemoryRun) => boolean, to: (row: MemoryRun) => Partial<MemoryRun>): MemoryRun | undefined {
  const row = runs(tx).get(keyOf(key))
  if (row === undefined || !when(row)) return undefined
  const next = { ...row, updatedAt: tx.now(), ...to(row) }
  runs(tx).set(keyOf(key), next)
  return next
}

export function isOpen(row: MemoryRun): boolean {
  return row.state === 'running' || row.state === 'undoing'
}

/** Held under this fence now. */
export function isLive(tx: MemoryTx, row: MemoryRun, fence: number): boolean {
  return row.fence === fence && isOpen(row) && row.leaseUntil > tx.now()
}
