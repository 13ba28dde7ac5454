/** The story of a run out of what is recorded of it: one list, oldest first, of names, times and reasons. */
import type { HistoryEntry, SagaHistory } from './operator-types.ts'
import type { HistoryRows, RunRow } from './port.ts'

const OVER: ReadonlySet<string> = new Set(['done', 'undone'])

export function historyOf(saga: string, run: RunRow, rows: HistoryRows): SagaHistory {
  const entries: HistoryEntry[] = [
    { at: rows.begunAtMs, what: 'started', detail: `version ${String(run.version)}`, ...(rows.begunBy === null ? {} : { by: rows.begunBy }) },
    ...rows.notes.map(({ what, step, detail, by, times, atMs }): HistoryEntry => ({ at: atMs, what, detail, by, ...(step === null ? {} : { step }), ...(times === 1 ? {} : { times }) })),
    ...rows.tracks.flatMap(track => {
      const step = `${track.kind} ${track.resource}`
      return [
        entry(track.atMs, 'tracked', step, track.description ?? undefined),
        ...(track.undoneAtMs === null ? [] : [entry(track.undoneAtMs, 'undo', step, undefined)]),
      ]
    }),
    ...rows.steps.flatMap(stepEntries),
  ]
  if (OVER.has(run.state)) entries.push({ at: run.sinceMs, what: 'finished', detail: `${run.state}${run.reason === null ? '' : `: ${run.reason}`}` })
  return { saga, id: run.id, version: run.version, state: run.state, reason: run.reason ?? undefined, fence: run.fence, entries: entries.sort((a, b) => a.at - b.at) }
}

function stepEntries({ name, state, begunAtMs, doneAtMs, undoneAtMs }: HistoryRows['steps'][number]): readonly HistoryEntry[] {
  if (doneAtMs === null) return begunAtMs === null ? [] : [entry(begunAtMs, 'step', name, state === 'clear' ? 'begun; surely did not happen' : 'begun; its outcome is not known yet')]
  const took = begunAtMs === null || begunAtMs === doneAtMs ? {} : { durationMs: Math.max(0, Math.round(doneAtMs - begunAtMs)) }
  const done = { ...entry(doneAtMs, 'step', name, 'done'), ...took }
  return undoneAtMs === null ? [done] : [done, entry(undoneAtMs, 'undo', name, state === 'kept' ? 'kept: it has no undo, or was skipped' : 'undone')]
}

function entry(at: number, what: HistoryEntry['what'], step: string, detail: string | undefined): HistoryEntry {
  return { at, what, step, ...(detail === undefined ? {} : { detail }) }
}
