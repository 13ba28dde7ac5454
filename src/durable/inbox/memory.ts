/** The inbox in the memory dialect: the same operations over one table; transactions are serial, so nothing races. */
import type { MemoryTable, MemoryTx } from '../../store/index.ts'
import { countByName } from '../count-by-name.ts'
import type { InboxPort, ParkedRow } from './port.ts'

interface Row {
  readonly seq: number
  readonly source: string
  readonly id: string
  readonly lane: string
  readonly priority: number
  readonly payload: string
  readonly state: 'queued' | 'working' | 'done' | 'parked' | 'discarded'
  readonly attempts: number
  readonly fence: number
  readonly owner: string | null
  readonly wakeAt: number
  readonly leaseUntil: number
  readonly reason: string | null
  readonly receivedAt: number
  readonly expiresAt: number | null
}

function table(tx: MemoryTx): MemoryTable<Row> {
  return tx.table<Row>('holdfast.inbox_row')
}

/** Names of sources have no space, so the first one ends it. */
function key(source: string, id: string): string {
  return `${source} ${id}`
}

function change(tx: MemoryTx, source: string, id: string, when: (row: Row) => boolean, to: Partial<Row>): boolean {
  const row = table(tx).get(key(source, id))
  if (row === undefined || !when(row)) return false
  table(tx).set(key(source, id), { ...row, ...to })
  return true
}

function rows(tx: MemoryTx): Row[] {
  return [...table(tx).entries()].map(([, row]) => row)
}

function parkedOf({ source, id, attempts, reason, wakeAt }: Row): ParkedRow {
  return { source, id, attempts, reason, sinceMs: wakeAt }
}

function isDue(row: Row, now: number): boolean {
  return row.state === 'queued' ? row.wakeAt <= now : row.leaseUntil <= now
}

export const inboxMemory: InboxPort<MemoryTx> = {
  async claim(tx, { source, id, lane, priority, payload }) {
    if (table(tx).get(key(source, id)) !== undefined) return false
    const now = tx.now()
    table(tx).set(key(source, id), { seq: tx.sequence('inbox'), source, id, lane, priority, payload, state: 'queued', attempts: 0, fence: 0, owner: null, wakeAt: now, leaseUntil: 0, reason: null, receivedAt: now, expiresAt: null })
    return true
  },
  async next(tx, source, owner, leaseMs, limit) {
    const heads = new Map<string, Row>()
    for (const row of rows(tx)) {
      if (row.source !== source || (row.state !== 'queued' && row.state !== 'working')) continue
      const head = heads.get(row.lane)
      if (head === undefined || (head.state === 'queued' && (row.state === 'working' || row.seq < head.seq))) heads.set(row.lane, row)
    }
    const due = [...heads.values()].filter(row => isDue(row, tx.now())).sort((a, b) => a.priority - b.priority || a.seq - b.seq).slice(0, limit)
    return due.map(row => {
      const taken: Row = { ...row, state: 'working', owner, fence: row.fence + 1, attempts: row.attempts + 1, leaseUntil: tx.now() + leaseMs }
      table(tx).set(key(row.source, row.id), taken)
      const { id, lane, priority, payload, attempts, fence, receivedAt } = taken
      return { source, id, lane, priority, payload, attempt: attempts, fence, receivedAtMs: receivedAt }
    })
  },
  async parkExhausted(tx, source, attemptsMax, limit) {
    const exhausted = rows(tx).filter(row => row.state === 'working' && row.leaseUntil <= tx.now() && row.attempts >= attemptsMax && (source === undefined || row.source === source)).slice(0, limit)
    return exhausted.map(row => {
      const now: Row = { ...row, state: 'parked', owner: null, reason: `${row.reason === null ? '' : `${row.reason}; `}its holder died`, wakeAt: tx.now() }
      table(tx).set(key(row.source, row.id), now)
      return parkedOf(now)
    })
  },
  async renew(tx, source, id, fence, leaseMs) {
    return change(tx, source, id, row => row.fence === fence && row.state === 'working' && row.leaseUntil > tx.now(), { leaseUntil: tx.now() + leaseMs })
  },
  async done(tx, source, id, fence, keepForMs) {
    return change(tx, source, id, row => row.fence === fence && (row.state === 'working' || row.state === 'done'), { state: 'done', owner: null, reason: null, expiresAt: tx.now() + keepForMs })
  },
  async fail(tx, source, id, fence, reason, retryInMs) {
    return change(tx, source, id, row => row.fence === fence && row.state === 'working', { state: retryInMs === undefined ? 'parked' : 'queued', owner: null, reason, wakeAt: tx.now() + (retryInMs ?? 0) })
  },
  async parked(tx, limit) {
    return rows(tx).filter(row => row.state === 'parked').sort((a, b) => a.wakeAt - b.wakeAt).slice(0, limit).map(parkedOf)
  },
  async backlog(tx, max) {
    return countByName(rows(tx).filter(row => row.state === 'queued' || row.state === 'working').slice(0, max).map(row => [row.source, tx.now() - row.receivedAt]))
  },
  async settleByHand(tx, source, id, as, reason, keepForMs) {
    return change(tx, source, id, row => row.state === 'parked', { state: as, reason, attempts: 0, wakeAt: tx.now(), seq: tx.sequence('inbox'), expiresAt: as === 'discarded' ? tx.now() + keepForMs : null })
  },
  async prune(tx, limit) {
    const over = rows(tx).filter(row => row.expiresAt !== null && row.expiresAt < tx.now()).sort((a, b) => (a.expiresAt ?? 0) - (b.expiresAt ?? 0)).slice(0, limit)
    for (const row of over) table(tx).delete(key(row.source, row.id))
    return over.length
  },
}
