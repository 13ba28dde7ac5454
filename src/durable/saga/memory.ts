/** Journals in the memory dialect: the same operations over two tables; transactions are serial, so nothing races. */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import type { Direction, SagaPort, SagaRun, SagaState, SagaStep } from './port.ts'

interface Row {
  readonly name: string
  readonly id: string
  readonly version: number
  readonly state: SagaState
  readonly direction: Direction
  readonly fingerprint: string
  readonly input: string
  readonly result: string | null
  readonly reason: string
  readonly owner: string | null
  readonly fence: number
  /** End of the lease, or (without an owner) when it is due. */
  readonly until: number
  readonly updatedAt: number
  readonly expiresAt: number | null
}

function runs(tx: MemoryTx): MemoryTable<Row> {
  return tx.table<Row>('holdfast.saga_run')
}

/** All steps of a run in one row: they are always read together. */
function journals(tx: MemoryTx): MemoryTable<readonly SagaStep[]> {
  return tx.table<readonly SagaStep[]>('holdfast.saga_step')
}

function keyOf(name: string, id: string): string {
  return `${name} ${id}`
}

function change(tx: MemoryTx, name: string, id: string, when: (row: Row) => boolean, to: Partial<Row>): Row | undefined {
  const row = runs(tx).get(keyOf(name, id))
  if (row === undefined || !when(row)) return undefined
  const next = { ...row, ...to }
  runs(tx).set(keyOf(name, id), next)
  return next
}

function runOf(row: Row, now: number): SagaRun {
  const { name, id, version, state, direction, fingerprint, input, result, reason, fence } = row
  return { name, id, version, state, direction, fingerprint, input, result, reason, fence, live: row.owner !== null && row.until > now, dueInMs: Math.max(0, row.until - now), sinceMs: row.updatedAt }
}

/** Its lease is over, or it waits no longer. */
function isDue(row: Row, version: number, now: number): boolean {
  return row.state === 'active' && row.version === version && row.until <= now
}

export const sagaMemory: SagaPort<MemoryTx> = {
  async begin(tx, { name, id, version, fingerprint, input, owner, leaseMs }) {
    const known = runs(tx).get(keyOf(name, id))
    if (known !== undefined) return known.owner === owner && known.state === 'active' ? known.fence : undefined
    runs(tx).set(keyOf(name, id), { name, id, version, state: 'active', direction: 'forward', fingerprint, input, result: null, reason: '', owner, fence: 1, until: tx.now() + leaseMs, updatedAt: tx.now(), expiresAt: null })
    return 1
  },
  async read(tx, name, id) {
    const row = runs(tx).get(keyOf(name, id))
    return row === undefined ? undefined : runOf(row, tx.now())
  },
  async takeOver(tx, name, id, version, owner, leaseMs) {
    const row = runs(tx).get(keyOf(name, id))
    if (row === undefined || !isDue(row, version, tx.now())) return undefined
    return change(tx, name, id, () => true, { owner, fence: row.fence + 1, until: tx.now() + leaseMs })?.fence
  },
  async hold(tx, name, id, fence, leaseMs) {
    return change(tx, name, id, row => row.state === 'active' && row.fence === fence && row.owner !== null && row.until > tx.now(), { until: tx.now() + leaseMs }) !== undefined
  },
  async steps(tx, name, id) {
    return journals(tx).get(keyOf(name, id)) ?? []
  },
  async putStep(tx, name, id, step) {
    const others = (journals(tx).get(keyOf(name, id)) ?? []).filter(each => each.seq !== step.seq)
    journals(tx).set(keyOf(name, id), [...others, step].sort((a, b) => a.seq - b.seq))
  },
  async turn(tx, name, id, direction, reason) {
    change(tx, name, id, () => true, { direction, reason, updatedAt: tx.now() })
  },
  async wait(tx, name, id, reason, retryInMs) {
    change(tx, name, id, () => true, { owner: null, reason, until: tx.now() + retryInMs })
  },
  async end(tx, name, id, state, reason, result, keepForMs) {
    change(tx, name, id, () => true, { state, reason, result, owner: null, until: tx.now(), updatedAt: tx.now(), expiresAt: state === 'needs-human' ? null : tx.now() + keepForMs })
  },
  async due(tx, name, version, limit) {
    const now = tx.now()
    return [...runs(tx).entries()].map(([, row]) => row).filter(row => row.name === name && isDue(row, version, now)).sort((a, b) => a.until - b.until).slice(0, limit).map(row => row.id)
  },
  async needHuman(tx, limit) {
    return [...runs(tx).entries()].map(([, row]) => row).filter(row => row.state === 'needs-human').sort((a, b) => a.updatedAt - b.updatedAt).slice(0, limit).map(row => runOf(row, tx.now()))
  },
  async settleByHand(tx, name, id, as, reason, keepForMs) {
    const row = runs(tx).get(keyOf(name, id))
    if (row?.state !== 'needs-human') return false
    change(tx, name, id, () => true, { state: as, reason, fence: row.fence + 1, until: tx.now(), updatedAt: tx.now(), expiresAt: as === 'active' ? null : tx.now() + keepForMs })
    journals(tx).set(keyOf(name, id), (journals(tx).get(keyOf(name, id)) ?? []).map(step => ({ ...step, attempts: 0 })))
    return true
  },
  async prune(tx, limit) {
    const over = [...runs(tx).entries()].filter(([, row]) => row.expiresAt !== null && row.expiresAt < tx.now()).slice(0, limit)
    for (const [key] of over) {
      runs(tx).delete(key)
      journals(tx).delete(key)
    }
    return over.length
  },
}
