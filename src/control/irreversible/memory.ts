/**
 * Tickets in the memory dialect, where transactions are serial.
 */
import type { MemoryTx } from '../../store/index.ts'
import type { NewTicket, TicketPort } from './port.ts'

interface Row extends Omit<NewTicket, 'ttlMs'> {
  readonly expiresAt: number
  readonly usedAt: number | null
}

interface Guess {
  readonly wrong: number
  readonly since: number
}

const TICKETS = 'ticket'
const GUESSES = 'ticket_guess'

export const memoryTickets: TicketPort<MemoryTx> = {
  issue: async (tx, { ttlMs, ...ticket }) => {
    const expiresAt = tx.now() + ttlMs
    tx.table<Row>(TICKETS).set(ticket.tokenHash, { ...ticket, expiresAt, usedAt: null })
    return { expiresAt }
  },

  use: async (tx, { tokenHash, action, actor, actorId }) => {
    const table = tx.table<Row>(TICKETS)
    const row = table.get(tokenHash)
    if (row?.action !== action) return { ok: false, why: 'unknown' }
    if (row.secondPerson ? row.actorId === actorId : row.actor !== actor) return { ok: false, why: 'other-actor' }
    if (row.usedAt !== null) return { ok: false, why: 'used' }
    if (row.expiresAt <= tx.now()) return { ok: false, why: 'expired' }
    table.set(tokenHash, { ...row, usedAt: tx.now() })
    return { ok: true, ticket: { input: row.input, summary: row.summary, state: row.state, requestedBy: row.actor } }
  },

  guesses: async (tx, actor, windowMs) => {
    const row = tx.table<Guess>(GUESSES).get(actor)
    const endsInMs = row === undefined ? 0 : row.since + windowMs - tx.now()
    return row === undefined || endsInMs <= 0 ? { wrong: 0, endsInMs: 0 } : { wrong: row.wrong, endsInMs }
  },

  addGuess: async (tx, actor, windowMs) => {
    const table = tx.table<Guess>(GUESSES)
    const row = table.get(actor)
    const fresh = row === undefined || row.since + windowMs <= tx.now()
    table.set(actor, fresh ? { wrong: 1, since: tx.now() } : { wrong: row.wrong + 1, since: row.since })
  },

  prune: async (tx, olderThanMs, limit) => {
    const before = tx.now() - olderThanMs
    const tickets = tx.table<Row>(TICKETS)
    const old = [...tickets.entries()].filter(([, row]) => row.expiresAt < before).slice(0, limit)
    for (const [key] of old) tickets.delete(key)
    const guesses = tx.table<Guess>(GUESSES)
    for (const [key, row] of [...guesses.entries()]) if (row.since < before) guesses.delete(key)
    return old.length
  },
}
