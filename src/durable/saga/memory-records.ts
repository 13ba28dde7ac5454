/** The journal in the memory dialect, beside the hot path: what a step made, what operators do, and what is told of a run. */
import type { MemoryTx } from '../../store/index.ts'
import { change, isLive, keyOf, runs, type MemoryRun } from './memory-table.ts'
import { NOTES_MAX, type SagaPort } from './port.ts'

type Records = 'tracks' | 'track' | 'untrack' | 'retryByHand' | 'closeByHand' | 'resolveStep' | 'skip' | 'cancel' | 'confirm' | 'note' | 'history'

export const sagaRecordsMemory: Pick<SagaPort<MemoryTx>, Records> = {
  async tracks(tx, key) {
    return (runs(tx).get(keyOf(key))?.tracks ?? []).map(({ seq, kind, resource, description, state }) => ({ seq, kind, resource, description, state }))
  },
  async track(tx, key, fence, track) {
    return change(tx, key, row => row.state === 'running' && isLive(tx, row, fence), row => ({
      updatedAt: row.updatedAt,
      ...(row.tracks.some(made => made.kind === track.kind && made.resource === track.resource) ? {} : { tracks: [...row.tracks, { ...track, state: 'made', at: tx.now(), undoneAt: null }] }),
    })) !== undefined
  },
  async untrack(tx, key, fence, kind, resource) {
    return change(tx, key, row => row.state === 'undoing' && isLive(tx, row, fence), row => ({
      updatedAt: row.updatedAt,
      tracks: row.tracks.map(made => made.kind === kind && made.resource === resource ? { ...made, state: 'undone', undoneAt: tx.now() } : made),
    })) !== undefined
  },
  async retryByHand(tx, key, reason) {
    return change(tx, key, row => row.state === 'needs-human', row => ({
      state: row.direction === 'undo' ? 'undoing' : 'running', attempts: 0, crashes: 0, crashMark: null, deadlineAt: null, startedAt: tx.now(), wakeAt: tx.now(), reason,
    })) !== undefined
  },
  async closeByHand(tx, key, state, result, reason, keepForMs) {
    return change(tx, key, row => row.state === 'needs-human', row => ({ state, result, reason, fence: row.fence + 1, expiresAt: tx.now() + keepForMs })) !== undefined
  },
  async resolveStep(tx, key, output, reason) {
    return change(tx, key, row => row.state === 'needs-human' && row.steps.some(step => step.state === 'intent'), row => ({
      reason,
      pivot: output === undefined && row.steps.some(step => step.state === 'intent' && step.name === row.pivot) ? null : row.pivot,
      steps: row.steps.map(step => step.state === 'intent' ? { ...step, state: output === undefined ? 'clear' : 'done', output: output ?? null, doneAt: output === undefined ? null : tx.now() } : step),
    })) !== undefined
  },
  async skip(tx, key, output) {
    const row = runs(tx).get(keyOf(key))
    if (row?.state !== 'needs-human') return undefined
    if (row.direction === 'undo') return skipUndo(tx, row)
    const step = row.steps.find(each => each.state === 'intent' || each.state === 'clear')
    if (step === undefined) return undefined
    change(tx, key, () => true, () => ({ updatedAt: row.updatedAt, steps: row.steps.map(each => each === step ? { ...each, state: 'done', output, doneAt: tx.now() } : each) }))
    return step.name
  },
  async cancel(tx, key, reason) {
    return change(tx, key, row => (row.state === 'running' || row.state === 'needs-human') && row.direction === 'forward' && row.pivot === null, row => ({
      cancelled: row.cancelled ?? reason, wakeAt: tx.now(), state: 'running', crashes: 0, crashMark: null, ...(row.state === 'needs-human' ? { attempts: 0, startedAt: tx.now() } : {}),
    })) !== undefined
  },
  async confirm(tx, key, round, by) {
    return change(tx, key, row => row.state === 'running' && row.askRound === round && row.askStep !== null && row.confirmedBy === null && (row.askUntil ?? 0) > tx.now() && row.cancelled === null,
      () => ({ confirmedBy: by, wakeAt: tx.now() })) !== undefined
  },
  async note(tx, key, { what, step = null, detail, by }) {
    change(tx, key, () => true, row => {
      const last = row.notes.at(-1)
      const again = last !== undefined && (row.notes.length >= NOTES_MAX || (last.what === what && last.step === step && last.detail === detail))
      return { updatedAt: row.updatedAt, notes: again ? [...row.notes.slice(0, -1), { ...last, times: last.times + 1, by }] : [...row.notes, { what, step, detail, by, times: 1, atMs: tx.now() }] }
    })
  },
  async history(tx, key) {
    const row = runs(tx).get(keyOf(key))
    if (row === undefined) return undefined
    return {
      begunAtMs: row.createdAt, begunBy: row.begunBy, notes: row.notes,
      steps: row.steps.map(({ name, state, fence, begunAt, doneAt, undoneAt }) => ({ name, state, fence, begunAtMs: begunAt, doneAtMs: doneAt, undoneAtMs: undoneAt })),
      tracks: row.tracks.map(({ at, undoneAt, ...track }) => ({ ...track, atMs: at, undoneAtMs: undoneAt })),
    }
  },
}

/** What comes next on the way back: a step's own undo before what it made, both last first. */
function skipUndo(tx: MemoryTx, row: MemoryRun): string | undefined {
  const step = row.steps.filter(each => each.state === 'done').at(-1)
  const track = row.tracks.filter(each => each.state === 'made').sort((a, b) => a.seq - b.seq).at(-1)
  if (step !== undefined && step.seq >= (track?.seq ?? 0)) {
    change(tx, row, () => true, () => ({ updatedAt: row.updatedAt, steps: row.steps.map(each => each === step ? { ...each, state: 'kept' } : each) }))
    return step.name
  }
  if (track === undefined) return undefined
  change(tx, row, () => true, () => ({ updatedAt: row.updatedAt, tracks: row.tracks.map(each => each === track ? { ...each, state: 'kept' } : each) }))
  return `${track.kind} ${track.resource}`
}
