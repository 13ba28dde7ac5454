/** The journal in the memory dialect: the same operations over one table (a run with its steps); transactions are serial. */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import type { RunKey, RunRow, RunState, SagaPort, StepRow } from './port.ts'

interface Row {
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
  readonly fence: number
  readonly attempts: number
  readonly leaseUntil: number
  readonly wakeAt: number
  readonly startedAt: number
  readonly updatedAt: number
  readonly expiresAt: number | null
  readonly steps: readonly StepRow[]
}

function table(tx: MemoryTx): MemoryTable<Row> {
  return tx.table<Row>('holdfast.saga_run')
}

/** Names have no space, so the first one ends the saga's. */
function keyOf({ saga, id }: RunKey): string {
  return `${saga} ${id}`
}

function change(tx: MemoryTx, key: RunKey, when: (row: Row) => boolean, to: (row: Row) => Partial<Row>): Row | undefined {
  const row = table(tx).get(keyOf(key))
  if (row === undefined || !when(row)) return undefined
  const next = { ...row, updatedAt: tx.now(), ...to(row) }
  table(tx).set(keyOf(key), next)
  return next
}

function isOpen(row: Row): boolean {
  return row.state === 'running' || row.state === 'undoing'
}

function runOf(row: Row, now: number): RunRow & { readonly saga: string } {
  const { saga, id, version, state, direction, input, fingerprint, result, reason, fence, attempts } = row
  return {
    saga, id, version, state, direction, input, fingerprint, result, reason, fence, attempts,
    live: row.leaseUntil > now, waitMs: Math.max(0, Math.max(row.leaseUntil, row.wakeAt) - now), ageMs: now - row.startedAt, sinceMs: row.updatedAt,
  }
}

function rows(tx: MemoryTx): Row[] {
  return [...table(tx).entries()].map(([, row]) => row)
}

export const sagaMemory: SagaPort<MemoryTx> = {
  async begin(tx, { saga, id, version, input, fingerprint, owner, leaseMs }) {
    if (table(tx).get(keyOf({ saga, id })) !== undefined) return undefined
    const now = tx.now()
    table(tx).set(keyOf({ saga, id }), {
      saga, id, version, state: 'running', direction: 'forward', input, fingerprint, result: null, reason: null, owner, fence: 1, attempts: 0,
      leaseUntil: now + leaseMs, wakeAt: now, startedAt: now, updatedAt: now, expiresAt: null, steps: [],
    })
    return 1
  },
  async read(tx, key) {
    const row = table(tx).get(keyOf(key))
    return row === undefined ? undefined : runOf(row, tx.now())
  },
  async take(tx, key, version, owner, leaseMs) {
    return change(tx, key, row => row.version === version && isOpen(row) && ((row.leaseUntil <= tx.now() && row.wakeAt <= tx.now()) || row.owner === owner),
      row => ({ owner, fence: row.owner === owner ? row.fence : row.fence + 1, leaseUntil: tx.now() + leaseMs, updatedAt: row.updatedAt }))?.fence
  },
  async steps(tx, key) {
    return table(tx).get(keyOf(key))?.steps ?? []
  },
  async renew(tx, key, fence, leaseMs) {
    return change(tx, key, row => row.fence === fence && row.owner !== null && row.leaseUntil > tx.now(), row => ({ leaseUntil: tx.now() + leaseMs, updatedAt: row.updatedAt })) !== undefined
  },
  async journal(tx, key, fence, entries) {
    return change(tx, key, row => row.fence === fence && isOpen(row) && row.leaseUntil > tx.now(), row => {
      const bySeq = new Map(row.steps.map(step => [step.seq, step]))
      for (const entry of entries) bySeq.set(entry.seq, entry)
      return { steps: [...bySeq.values()].sort((a, b) => a.seq - b.seq), updatedAt: row.updatedAt }
    }) !== undefined
  },
  async turn(tx, key, fence, reason) {
    return change(tx, key, row => row.fence === fence && row.state === 'running' && row.leaseUntil > tx.now(), () => ({ state: 'undoing', direction: 'undo', reason, attempts: 0 })) !== undefined
  },
  async park(tx, key, fence, reason, wakeInMs, counts) {
    return change(tx, key, row => row.fence === fence && isOpen(row) && row.owner !== null, row => ({ owner: null, leaseUntil: 0, wakeAt: tx.now() + wakeInMs, attempts: row.attempts + (counts ? 1 : 0), reason })) !== undefined
  },
  async close(tx, key, fence, state, result, reason, keepForMs) {
    return change(tx, key, row => row.fence === fence && isOpen(row) && row.owner !== null,
      () => ({ state, result, reason, owner: null, leaseUntil: 0, expiresAt: state === 'needs-human' ? null : tx.now() + keepForMs })) !== undefined
  },
  async due(tx, saga, version, limit) {
    return rows(tx).filter(row => isOpen(row) && row.saga === saga && row.version === version && row.wakeAt <= tx.now() && row.leaseUntil <= tx.now())
      .sort((a, b) => a.wakeAt - b.wakeAt).slice(0, limit).map(row => row.id)
  },
  async stuck(tx, limit) {
    return rows(tx).filter(row => row.state === 'needs-human').sort((a, b) => a.updatedAt - b.updatedAt).slice(0, limit).map(row => runOf(row, tx.now()))
  },
  async retryByHand(tx, key, reason) {
    return change(tx, key, row => row.state === 'needs-human', row => ({ state: row.direction === 'undo' ? 'undoing' : 'running', attempts: 0, startedAt: tx.now(), wakeAt: tx.now(), reason })) !== undefined
  },
  async closeByHand(tx, key, state, reason, keepForMs) {
    return change(tx, key, row => row.state === 'needs-human', row => ({ state, reason, fence: row.fence + 1, expiresAt: tx.now() + keepForMs })) !== undefined
  },
  async resolveStep(tx, key, output, reason) {
    return change(tx, key, row => row.state === 'needs-human' && row.steps.some(step => step.state === 'intent'), row => ({
      reason,
      steps: row.steps.map(step => step.state === 'intent' ? { ...step, state: output === undefined ? 'clear' : 'done', output: output ?? null } : step),
    })) !== undefined
  },
  async prune(tx, limit) {
    const over = rows(tx).filter(row => row.expiresAt !== null && row.expiresAt < tx.now()).slice(0, limit)
    for (const row of over) table(tx).delete(keyOf(row))
    return over.length
  },
}
