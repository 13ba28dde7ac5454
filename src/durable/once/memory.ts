/** Records of keys in the memory dialect: the same operations over one table; transactions are serial, so nothing races. */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import { SETTLE_ATTEMPTS_MAX, type OncePort, type OnceRecord, type OnceState } from './port.ts'

interface Row {
  readonly name: string
  readonly key: string
  readonly state: OnceState
  readonly fingerprint: string
  readonly input: string
  readonly result: string | null
  readonly owner: string | null
  readonly fence: number
  /** Null: not leased and never due. */
  readonly leaseUntil: number | null
  readonly attempts: number
  readonly reason: string | null
  readonly updatedAt: number
  readonly expiresAt: number | null
}

function table(tx: MemoryTx): MemoryTable<Row> {
  return tx.table<Row>('holdfast.once_record')
}

/** Names have no space, so the first one ends the name. */
function id(name: string, key: string): string {
  return `${name} ${key}`
}

function recordOf(row: Row, now: number): OnceRecord & { readonly name: string } {
  const leaseUntil = row.leaseUntil ?? 0
  const { name, key, state, fingerprint, input, result, owner, fence, attempts, reason } = row
  return { name, key, state, fingerprint, input, result, owner, fence, attempts, reason, live: state === 'started' && leaseUntil > now, leaseLeftMs: Math.max(0, leaseUntil - now), sinceMs: row.updatedAt }
}

/** Changes the row when `when` holds. */
function change(tx: MemoryTx, name: string, key: string, when: (row: Row) => boolean, to: (row: Row) => Partial<Row>): Row | undefined {
  const row = table(tx).get(id(name, key))
  if (row === undefined || !when(row)) return undefined
  const next = { ...row, updatedAt: tx.now(), ...to(row) }
  table(tx).set(id(name, key), next)
  return next
}

export const onceMemory: OncePort<MemoryTx> = {
  async begin(tx, { name, key, fingerprint, keepForMs }) {
    const row = table(tx).get(id(name, key))
    if (row !== undefined && row.state !== 'released') return false
    table(tx).set(id(name, key), fresh(tx, { name, key, fingerprint, input: '', owner: null, fence: (row?.fence ?? 0) + 1, leaseUntil: null, attempts: 0 }))
    change(tx, name, key, () => true, () => ({ state: 'done', expiresAt: tx.now() + keepForMs }))
    return true
  },
  async finish(tx, name, key, result) {
    change(tx, name, key, () => true, () => ({ result }))
  },
  async claim(tx, { name, key, fingerprint, input, owner, leaseMs }) {
    const row = table(tx).get(id(name, key))
    const mine = row?.state === 'started' && row.owner === owner
    if (row !== undefined && row.state !== 'released' && !mine) return undefined
    const fence = mine ? row.fence : (row?.fence ?? 0) + 1
    table(tx).set(id(name, key), fresh(tx, { name, key, fingerprint, input, owner, fence, leaseUntil: tx.now() + leaseMs, attempts: mine ? row.attempts : 1 }))
    return fence
  },
  async read(tx, name, key) {
    const row = table(tx).get(id(name, key))
    return row === undefined ? undefined : recordOf(row, tx.now())
  },
  async expire(tx, name, key) {
    return change(tx, name, key, row => row.state === 'started' && (row.leaseUntil ?? 0) <= tx.now(), () => ({ state: 'unknown', owner: null, reason: 'its holder died', leaseUntil: tx.now() })) !== undefined
  },
  async takeOver(tx, name, key, fence, owner, leaseMs) {
    return change(tx, name, key, row => row.fence === fence && row.state === 'unknown', row => ({ state: 'started', owner, fence: row.fence + 1, attempts: row.attempts + 1, leaseUntil: tx.now() + leaseMs }))?.fence
  },
  async renew(tx, name, key, fence, leaseMs) {
    return change(tx, name, key, row => row.fence === fence && row.state === 'started' && (row.leaseUntil ?? 0) > tx.now(), row => ({ leaseUntil: tx.now() + leaseMs, updatedAt: row.updatedAt })) !== undefined
  },
  async complete(tx, name, key, fence, result, keepForMs) {
    return change(tx, name, key, row => row.fence === fence && (row.state === 'started' || row.state === 'unknown'),
      () => ({ state: 'done', result, owner: null, reason: null, leaseUntil: null, expiresAt: tx.now() + keepForMs })) !== undefined
  },
  async release(tx, name, key, fence, reason, keepForMs) {
    return change(tx, name, key, row => row.fence === fence && row.state === 'started', () => ({ state: 'released', owner: null, reason, leaseUntil: null, expiresAt: tx.now() + keepForMs })) !== undefined
  },
  async markUnknown(tx, name, key, fence, reason, retryInMs) {
    return change(tx, name, key, row => row.fence === fence && (row.state === 'started' || row.state === 'unknown'), () => ({ state: 'unknown', owner: null, reason, leaseUntil: tx.now() + retryInMs })) !== undefined
  },
  async stuck(tx, name, unknownToo, limit) {
    return open(tx).filter(row => row.name === name && (row.state === 'started' || (unknownToo && row.attempts < SETTLE_ATTEMPTS_MAX)) && (row.leaseUntil ?? Infinity) <= tx.now()).slice(0, limit).map(row => row.key)
  },
  async unknown(tx, limit) {
    return open(tx).filter(row => row.state === 'unknown').slice(0, limit).map(row => recordOf(row, tx.now()))
  },
  async settleByHand(tx, name, key, as, reason, keepForMs) {
    return change(tx, name, key, row => row.state === 'unknown', row => ({ state: as, reason, fence: row.fence + 1, leaseUntil: null, expiresAt: tx.now() + keepForMs })) !== undefined
  },
  async prune(tx, limit) {
    const over = [...table(tx).entries()].filter(([, row]) => row.state !== 'started' && row.state !== 'unknown' && (row.expiresAt ?? Infinity) < tx.now()).sort(([, a], [, b]) => (a.expiresAt ?? 0) - (b.expiresAt ?? 0)).slice(0, limit)
    for (const [key] of over) table(tx).delete(key)
    return over.length
  },
}

function fresh(tx: MemoryTx, row: Pick<Row, 'name' | 'key' | 'fingerprint' | 'input' | 'owner' | 'fence' | 'leaseUntil' | 'attempts'>): Row {
  return { ...row, state: 'started', result: null, reason: null, updatedAt: tx.now(), expiresAt: null }
}

function open(tx: MemoryTx): Row[] {
  return [...table(tx).entries()].map(([, row]) => row).filter(row => row.state === 'started' || row.state === 'unknown').sort((a, b) => (a.leaseUntil ?? 0) - (b.leaseUntil ?? 0))
}
