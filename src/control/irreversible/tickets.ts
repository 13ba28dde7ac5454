/**
 * Tickets: the server-enforced "are you sure" for what cannot be taken back.
 *
 * A token of 128 random bits in 22 characters (fits into Telegram's 64 bytes of callback data), stored only as its hash,
 * bound to actor, action, arguments and state, ended by the database's clock, used once whoever and however many try.
 * Five wrong guesses of an actor within ten minutes end the guessing.
 */
import { createHash } from 'node:crypto'
import { actorName, HoldfastError, type Actor } from '../../core/index.ts'
import { bodyFor } from '../../store/index.ts'
import type { Audit } from '../audit/audit.ts'
import type { StoreKit } from '../kit.ts'
import { memoryTickets } from './memory.ts'
import type { TicketPort, UsedTicket, WhyRefused } from './port.ts'
import { sqlTickets } from './sql.ts'

/** What the one who asked is shown. */
export interface Ticket {
  /** 22 characters of base64url. Shown once, to who asked. */
  readonly token: string
  /** What confirming it will do. */
  readonly summary: string
  readonly expiresAt: Date
}

export interface TicketRequest {
  readonly action: string
  readonly actor: Actor
  /** Canonical JSON of the arguments. */
  readonly input: string
  readonly summary: string
  readonly state: string
  readonly secondPerson: boolean
  readonly ttlMs: number
  readonly reason: string
}

export const TICKET_DEFAULTS: { readonly guessesMax: number; readonly guessWindowMs: number; readonly keepMs: number; readonly pruneAtOnce: number } = Object.freeze({
  guessesMax: 5,
  guessWindowMs: 600_000,
  /** How long an ended ticket can still be explained ("used", "expired") before it is unknown. */
  keepMs: 7 * 86_400_000,
  pruneAtOnce: 100,
})

export type Redeemed = { readonly ok: true; readonly ticket: UsedTicket } | { readonly ok: false; readonly why: WhyRefused | 'too-many-guesses'; readonly retryAfterMs?: number }

export interface TicketDesk<Tx> {
  issue(request: TicketRequest): Promise<Ticket>
  /**
   * Uses the ticket within `tx`. `stateOf` answers the present state of what the ticket is about; when it differs from
   * the ticket's, the ticket is spent and refused. A refusal's audit row is written in `tx`: commit it, then `refuse`.
   */
  redeem(tx: Tx, request: { readonly action: string; readonly actor: Actor; readonly token: string; readonly stateOf?: (ticket: UsedTicket) => Promise<string> }): Promise<Redeemed>
  /** Announces a refusal and throws it. @throws HF_TICKET_INVALID with `why` in its context, HF_RATE_LIMITED */
  refuse(request: { readonly action: string; readonly actor: Actor }, refused: Extract<Redeemed, { readonly ok: false }>): never
}

export function ticketDesk<Tx>(kit: StoreKit<Tx>, audit: Audit<Tx>): TicketDesk<Tx> {
  return new Desk(kit, audit)
}

const WORDS: Readonly<Record<WhyRefused, string>> = {
  unknown: 'there is no such ticket',
  expired: 'the ticket has expired',
  used: 'the ticket was used already',
  'other-actor': 'the ticket is somebody else\'s to confirm',
  'state-changed': 'what it is about has changed since the ticket was requested',
}

class Desk<Tx> implements TicketDesk<Tx> {
  readonly #kit: StoreKit<Tx>
  readonly #audit: Audit<Tx>

  constructor(kit: StoreKit<Tx>, audit: Audit<Tx>) {
    this.#kit = kit
    this.#audit = audit
  }

  async issue(request: TicketRequest): Promise<Ticket> {
    const { action, actor, input, summary, state, secondPerson, ttlMs, reason } = request
    const token = Buffer.from(this.#kit.env.bytes(16)).toString('base64url')
    const name = actorName(actor)
    const { expiresAt } = await this.#kit.database().transaction('irreversible.request', async tx => {
      const port = this.#port()
      const issued = await port.issue(tx, { tokenHash: hashOf(token), action, actor: name, actorId: actor.id, input, summary, state, secondPerson, ttlMs })
      await port.prune(tx, TICKET_DEFAULTS.keepMs, TICKET_DEFAULTS.pruneAtOnce)
      await this.#audit.append(tx, { actor: name, action: 'ticket.request', target: action, reason, outcome: 'done', after: { summary } })
      return issued
    })
    this.#kit.events.emit('ticket.requested', { action, summary, actor: name, expiresAt })
    return { token, summary, expiresAt: new Date(expiresAt) }
  }

  async redeem(tx: Tx, request: Parameters<TicketDesk<Tx>['redeem']>[1]): Promise<Redeemed> {
    const { action, actor, token, stateOf } = request
    const port = this.#port()
    const name = actorName(actor)
    const { wrong, endsInMs } = await port.guesses(tx, name, TICKET_DEFAULTS.guessWindowMs)
    if (wrong >= TICKET_DEFAULTS.guessesMax) return this.#refused(tx, action, name, { ok: false, why: 'too-many-guesses', retryAfterMs: endsInMs })
    const used = await port.use(tx, { tokenHash: hashOf(token), action, actor: name, actorId: actor.id })
    if (!used.ok) {
      // A double tap ("used") is no guess; a token that does not exist, or is somebody else's, is.
      if (used.why === 'unknown' || used.why === 'other-actor') await port.addGuess(tx, name, TICKET_DEFAULTS.guessWindowMs)
      return this.#refused(tx, action, name, used)
    }
    if (stateOf !== undefined && await stateOf(used.ticket) !== used.ticket.state) return this.#refused(tx, action, name, { ok: false, why: 'state-changed' })
    return used
  }

  refuse({ action, actor }: { readonly action: string; readonly actor: Actor }, refused: Extract<Redeemed, { readonly ok: false }>): never {
    const context = { action, actor: actorName(actor), why: refused.why }
    if (refused.why === 'too-many-guesses') {
      throw new HoldfastError('HF_RATE_LIMITED', { message: `${action}: too many wrong tickets; try again later`, retryAfterMs: refused.retryAfterMs, context })
    }
    this.#kit.events.emit('ticket.refused', { action, actor: context.actor, why: refused.why })
    throw new HoldfastError('HF_TICKET_INVALID', { message: `${action}: ${WORDS[refused.why]}; nothing was done`, context })
  }

  async #refused(tx: Tx, action: string, actor: string, refused: Extract<Redeemed, { readonly ok: false }>): Promise<Redeemed> {
    await this.#audit.append(tx, { actor, action: 'ticket.confirm', target: action, reason: refused.why, outcome: 'refused' })
    return refused
  }

  #port(): TicketPort<Tx> {
    return bodyFor<Tx, TicketPort<Tx>>(this.#kit.database(), { sql: sqlTickets, memory: memoryTickets })
  }
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}
