/**
 * What a store must offer for tickets: issue one, use one up, and count wrong guesses. Each operation is atomic in the
 * transaction it is given; time is the database's.
 */

export interface NewTicket {
  /** SHA-256 of the token, hex. The token itself is never stored. */
  readonly tokenHash: string
  readonly action: string
  /** `telegram:42` */
  readonly actor: string
  /** `42`: who it is, whatever the channel. */
  readonly actorId: string
  /** Canonical JSON. */
  readonly input: string
  readonly summary: string
  /** What the thing looked like when the ticket was asked for; `''` where nobody asked. */
  readonly state: string
  /** To be confirmed by somebody else than who asked. */
  readonly secondPerson: boolean
  readonly ttlMs: number
}

export interface UsedTicket {
  readonly input: string
  readonly summary: string
  readonly state: string
  readonly requestedBy: string
}

export type WhyRefused = 'unknown' | 'expired' | 'used' | 'other-actor' | 'state-changed'

export interface Redeemer {
  readonly tokenHash: string
  readonly action: string
  readonly actor: string
  readonly actorId: string
}

export interface TicketPort<Tx> {
  issue(tx: Tx, ticket: NewTicket): Promise<{ readonly expiresAt: number }>
  /** Marks the ticket as used: of any number of callers at once exactly one gets it, for good once that transaction commits. */
  use(tx: Tx, redeemer: Redeemer): Promise<{ readonly ok: true; readonly ticket: UsedTicket } | { readonly ok: false; readonly why: WhyRefused }>
  /** Of this actor within the window. */
  guesses(tx: Tx, actor: string, windowMs: number): Promise<{ readonly wrong: number; readonly endsInMs: number }>
  addGuess(tx: Tx, actor: string, windowMs: number): Promise<void>
  /** Deletes at most `limit` tickets and counters that ended longer ago than `olderThanMs`. */
  prune(tx: Tx, olderThanMs: number, limit: number): Promise<number>
}
