/**
 * Tickets in PostgreSQL's dialect.
 */
import type { SqlTx } from '../../store/index.ts'
import type { TicketPort, WhyRefused } from './port.ts'

interface Used {
  readonly input: string
  readonly summary: string
  readonly state: string
  readonly actor: string
}

export const sqlTickets: TicketPort<SqlTx> = {
  issue: async (tx, ticket) => {
    const [row] = await tx.query<{ readonly expires_at: Date }>(
      `INSERT INTO holdfast.ticket (token_hash, action, actor, actor_id, input, summary, state, second_person, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + $9::float8 * interval '1 millisecond') RETURNING expires_at`,
      [ticket.tokenHash, ticket.action, ticket.actor, ticket.actorId, ticket.input, ticket.summary, ticket.state, ticket.secondPerson, ticket.ttlMs],
    )
    if (row === undefined) throw new Error('INSERT ... RETURNING answered no row')
    return { expiresAt: row.expires_at.getTime() }
  },

  /** By primary key. The second of two waits for the first's row lock and then finds used_at set; if the first rolls back, it gets the ticket. */
  use: async (tx, { tokenHash, action, actor, actorId }) => {
    const [used] = await tx.query<Used>(
      `UPDATE holdfast.ticket SET used_at = clock_timestamp(), used_by = $3
       WHERE token_hash = $1 AND action = $2 AND used_at IS NULL AND expires_at > clock_timestamp()
         AND CASE WHEN second_person THEN actor_id <> $4 ELSE actor = $3 END
       RETURNING input, summary, state, actor`,
      [tokenHash, action, actor, actorId],
    )
    if (used !== undefined) return { ok: true, ticket: { input: used.input, summary: used.summary, state: used.state, requestedBy: used.actor } }
    const [row] = await tx.query<{ readonly why: WhyRefused }>(
      `SELECT CASE WHEN CASE WHEN second_person THEN actor_id = $4 ELSE actor <> $3 END THEN 'other-actor'
                   WHEN used_at IS NOT NULL THEN 'used' ELSE 'expired' END AS why
       FROM holdfast.ticket WHERE token_hash = $1 AND action = $2`,
      [tokenHash, action, actor, actorId],
    )
    return { ok: false, why: row?.why ?? 'unknown' }
  },

  guesses: async (tx, actor, windowMs) => {
    const [row] = await tx.query<{ readonly wrong: number; readonly ends_in_ms: string }>(
      `SELECT wrong, (extract(epoch FROM since - clock_timestamp()) * 1000 + $2::float8)::bigint AS ends_in_ms FROM holdfast.ticket_guess WHERE actor = $1`,
      [actor, windowMs],
    )
    const endsInMs = Number(row?.ends_in_ms ?? 0)
    return row === undefined || endsInMs <= 0 ? { wrong: 0, endsInMs: 0 } : { wrong: row.wrong, endsInMs }
  },

  /** Guesses of one actor queue on its row, so that none is lost. */
  addGuess: async (tx, actor, windowMs) => {
    await tx.query(
      `INSERT INTO holdfast.ticket_guess AS g (actor, wrong) VALUES ($1, 1)
       ON CONFLICT (actor) DO UPDATE SET
         wrong = CASE WHEN g.since + $2::float8 * interval '1 millisecond' > clock_timestamp() THEN g.wrong + 1 ELSE 1 END,
         since = CASE WHEN g.since + $2::float8 * interval '1 millisecond' > clock_timestamp() THEN g.since ELSE clock_timestamp() END`,
      [actor, windowMs],
    )
  },

  /** By ticket_expires_at, which only a time that is asked once is looked up in; skips what another instance prunes at the same time. */
  prune: async (tx, olderThanMs, limit) => {
    const rows = await tx.query(
      `DELETE FROM holdfast.ticket WHERE ctid = ANY (ARRAY (
         SELECT ctid FROM holdfast.ticket WHERE expires_at < (SELECT clock_timestamp()) - $1::float8 * interval '1 millisecond'
         ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1`,
      [olderThanMs, limit],
    )
    await tx.query(`DELETE FROM holdfast.ticket_guess WHERE since < (SELECT clock_timestamp()) - $1::float8 * interval '1 millisecond'`, [olderThanMs])
    return rows.length
  },
}
