/** The journal in the memory dialect: the same operations over one table (a run with its steps); transactions are serial. What is beside the hot path is in ./memory-records.ts. */
import type { MemoryTx } from '../../store/index.ts'
import { sagaRecordsMemory } from './memory-records.ts'
import { change, isLive, isOpen, keyOf, runs, type MemoryRun, type MemoryStep } from './memory-table.ts'
import type { Begins, RunRow, SagaPort, StepRow } from './port.ts'

function mayBegin(tx: MemoryTx, row: MemoryRun, begins: Begins | undefined): boolean {
  if (begins === undefined) return true
  const confirmed = begins.kind !== 'confirmed' || (row.askStep === begins.step && row.confirmedBy !== null)
  return confirmed && row.cancelled === null && (row.deadlineAt === null || row.deadlineAt > tx.now())
}

function runOf(row: MemoryRun, now: number): RunRow & { readonly saga: string } {
  const { saga, id, version, state, direction, input, fingerprint, result, reason, fence, attempts, cancelled, pivot, crashes, askStep, askSummary, askRound, askTwo, confirmedBy } = row
  return {
    saga, id, version, state, direction, input, fingerprint, result, reason, fence, attempts, cancelled, pivot, crashes, askStep, askSummary, askRound, askTwo, confirmedBy,
    live: row.leaseUntil > now, waitMs: Math.max(0, Math.max(row.leaseUntil, row.wakeAt) - now), ageMs: now - row.startedAt, sinceMs: row.updatedAt,
    deadlineInMs: row.deadlineAt === null ? null : row.deadlineAt - now, askInMs: row.askUntil === null ? null : row.askUntil - now,
  }
}

function rows(tx: MemoryTx): MemoryRun[] {
  return [...runs(tx).entries()].map(([, row]) => row)
}

/** How far it got: a holder that dies where the one before it died is counted. */
function reached({ state, steps }: MemoryRun): string {
  const count = (...states: readonly string[]): string => String(steps.filter(step => states.includes(step.state)).length)
  return `${state} ${count('done')} ${count('undone', 'kept')}`
}

function written(row: MemoryRun, fence: number, entries: readonly StepRow[], now: number): readonly MemoryStep[] {
  const bySeq = new Map(row.steps.map(step => [step.seq, step]))
  for (const entry of entries) {
    const before = bySeq.get(entry.seq)
    bySeq.set(entry.seq, {
      ...entry, effect: entry.effect ?? before?.effect ?? null, fence, begunAt: before?.begunAt ?? now,
      doneAt: entry.state === 'done' ? now : before?.doneAt ?? null, undoneAt: entry.state === 'undone' || entry.state === 'kept' ? now : null,
    })
  }
  return [...bySeq.values()].sort((a, b) => a.seq - b.seq)
}

export const sagaMemory: SagaPort<MemoryTx> = {
  ...sagaRecordsMemory,
  async begin(tx, { saga, id, version, input, fingerprint, owner, leaseMs, deadlineMs }) {
    if (runs(tx).get(keyOf({ saga, id })) !== undefined) return undefined
    const now = tx.now()
    runs(tx).set(keyOf({ saga, id }), {
      saga, id, version, state: 'running', direction: 'forward', input, fingerprint, result: null, reason: null, owner, begunBy: owner.split(':')[0] ?? '', fence: 1, attempts: 0,
      leaseUntil: now + leaseMs, wakeAt: now, createdAt: now, startedAt: now, updatedAt: now, expiresAt: null, deadlineAt: deadlineMs === undefined ? null : now + deadlineMs,
      cancelled: null, pivot: null, crashes: 0, crashMark: null, crashFence: null, askStep: null, askSummary: null, askRound: 0, askUntil: null, askTwo: false, confirmedBy: null,
      steps: [], tracks: [], notes: [],
    })
    return sagaMemory.read(tx, { saga, id })
  },
  async read(tx, key) {
    const row = runs(tx).get(keyOf(key))
    return row === undefined ? undefined : runOf(row, tx.now())
  },
  async take(tx, key, versions, owner, leaseMs) {
    const before = runs(tx).get(keyOf(key))
    const died = before !== undefined && before.owner !== null && before.owner !== owner
    const taken = change(tx, key, row => versions.includes(row.version) && isOpen(row) && ((row.leaseUntil <= tx.now() && row.wakeAt <= tx.now()) || row.owner === owner), row => ({
      owner, fence: row.owner === owner ? row.fence : row.fence + 1, leaseUntil: tx.now() + leaseMs, updatedAt: row.updatedAt,
      ...(died ? { crashes: row.crashMark === reached(row) ? row.crashes + 1 : 1, crashMark: reached(row), crashFence: row.fence + 1 } : {}),
    }))
    return taken === undefined ? undefined : { fence: taken.fence, tookOver: taken.crashFence === taken.fence }
  },
  async steps(tx, key) {
    return (runs(tx).get(keyOf(key))?.steps ?? []).map(({ seq, name, state, output, effect }) => ({ seq, name, state, output, effect: effect ?? null }))
  },
  async renew(tx, key, fence, leaseMs) {
    const renewed = change(tx, key, row => row.fence === fence && row.owner !== null && row.leaseUntil > tx.now(), row => ({ leaseUntil: tx.now() + leaseMs, updatedAt: row.updatedAt }))
    return renewed === undefined ? undefined : { cancelled: renewed.cancelled }
  },
  async journal(tx, key, fence, entries, begins) {
    return change(tx, key, row => isLive(tx, row, fence) && mayBegin(tx, row, begins), row => ({
      steps: written(row, fence, entries, tx.now()), updatedAt: row.updatedAt, ...(begins === undefined || begins.kind === 'step' ? {} : { pivot: row.pivot ?? begins.step }),
    })) !== undefined
  },
  async unpivot(tx, key, fence, step) {
    change(tx, key, row => isLive(tx, row, fence) && row.pivot === step, row => ({ pivot: null, updatedAt: row.updatedAt }))
  },
  async turn(tx, key, fence, reason) {
    return change(tx, key, row => row.fence === fence && row.state === 'running' && row.pivot === null && row.leaseUntil > tx.now(), () => ({ state: 'undoing', direction: 'undo', reason, attempts: 0 })) !== undefined
  },
  async park(tx, key, fence, reason, wakeInMs, counts) {
    return change(tx, key, row => row.fence === fence && isOpen(row) && row.owner !== null, row => ({ owner: null, leaseUntil: 0, wakeAt: tx.now() + wakeInMs, attempts: row.attempts + (counts ? 1 : 0), reason })) !== undefined
  },
  async ask(tx, key, fence, { step, summary, forMs, secondPerson }) {
    return change(tx, key, row => isLive(tx, row, fence), row => ({ askStep: step, askSummary: summary, askRound: row.askRound + 1, askUntil: tx.now() + forMs, askTwo: secondPerson, confirmedBy: null, updatedAt: row.updatedAt })) !== undefined
  },
  async close(tx, key, fence, { state, result, reason, keepForMs, steps }) {
    return change(tx, key, row => row.fence === fence && isOpen(row) && row.owner !== null && (state !== 'done' || row.cancelled === null) && (steps.length === 0 || isLive(tx, row, fence)), row => ({
      state, result, reason, owner: null, leaseUntil: 0, expiresAt: state === 'needs-human' ? null : tx.now() + keepForMs, steps: written(row, fence, steps, tx.now()),
    })) !== undefined
  },
  async due(tx, saga, versions, limit) {
    return rows(tx).filter(row => isOpen(row) && row.saga === saga && versions.includes(row.version) && row.wakeAt <= tx.now() && row.leaseUntil <= tx.now())
      .sort((a, b) => a.wakeAt - b.wakeAt).slice(0, limit).map(row => row.id)
  },
  async stuck(tx, limit) {
    return rows(tx).filter(row => row.state === 'needs-human').sort((a, b) => a.updatedAt - b.updatedAt).slice(0, limit).map(row => runOf(row, tx.now()))
  },
  async waiting(tx, overdueMs, limit) {
    const now = tx.now()
    const asked = rows(tx).filter(row => row.state === 'running' && row.askStep !== null && row.confirmedBy === null && (row.askUntil ?? 0) > now && row.leaseUntil <= now && row.cancelled === null)
    const overdue = rows(tx).filter(row => isOpen(row) && Math.max(row.wakeAt, row.leaseUntil) < now - overdueMs)
    return [...asked.sort((a, b) => a.updatedAt - b.updatedAt).slice(0, limit), ...overdue.sort((a, b) => a.wakeAt - b.wakeAt).slice(0, limit)].map(row => runOf(row, now))
  },
  async prune(tx, limit) {
    const over = rows(tx).filter(row => row.expiresAt !== null && row.expiresAt < tx.now()).sort((a, b) => (a.expiresAt ?? 0) - (b.expiresAt ?? 0)).slice(0, limit)
    for (const row of over) runs(tx).delete(keyOf(row))
    return over.length
  },
}
