/**
 * What operators are told of runs and may do with them, and the small port by which confirmations come in.
 *
 * Tickets are another room's; `app` fills the port. Everything here is names, times and reasons: inputs and results of
 * steps are never part of it.
 */
import type { Actor } from '../../core/index.ts'

/** What the one who asked is shown. */
export interface ConfirmationTicket {
  /** Shown once, to who asked. */
  readonly token: string
  /** What confirming it will do. */
  readonly summary: string
  readonly expiresAt: Date
}

export type TicketRefused = { readonly ok: false; readonly why: 'unknown' | 'expired' | 'used' | 'other-actor' | 'state-changed' | 'too-many-guesses'; readonly retryAfterMs?: number }

/** Single-use tickets, bound to an actor, an action and the state of what they are about. */
export interface TicketPort<Tx> {
  issue(request: {
    readonly action: string; readonly actor: Actor; readonly input: string; readonly summary: string; readonly state: string
    readonly secondPerson: boolean; readonly ttlMs: number; readonly reason: string
  }): Promise<ConfirmationTicket>
  /** Uses the ticket up within `tx`; `stateOf` answers the present state of what it is about. */
  redeem(tx: Tx, request: { readonly action: string; readonly actor: Actor; readonly token: string; readonly stateOf?: (ticket: { readonly input: string }) => Promise<string> }):
    Promise<{ readonly ok: true; readonly ticket: { readonly input: string; readonly summary: string } } | TicketRefused>
  /** Announces a refusal and throws it. */
  refuse(request: { readonly action: string; readonly actor: Actor }, refused: TicketRefused): never
}

/**
 * `undone`: it is. `undoing`: it is asked for and cannot be lost; whoever holds the run does it. `needs-human`: it was tried and cannot be finished.
 * `refused`: nothing was changed.
 */
export type CancelOutcome =
  | { readonly outcome: 'undone' | 'undoing' | 'needs-human'; readonly reason: string }
  | { readonly outcome: 'refused'; readonly why: 'past-pivot' | 'over' | 'not-found'; readonly reason: string }

export interface HistoryEntry {
  /** Wall clock of the database, milliseconds. */
  readonly at: number
  readonly what:
    | 'started' | 'resumed' | 'step' | 'undo' | 'failed' | 'undo-failed' | 'turned' | 'needs-human' | 'tracked' | 'cancelled'
    | 'asked' | 'confirmed' | 'retried' | 'resolved' | 'skipped' | 'marked' | 'finished'
  readonly step?: string
  /** In words: a reason, an error with its code, a resource. */
  readonly detail?: string
  /** An instance, or an actor such as `cli:alice`. */
  readonly by?: string
  /** From the intent to the end. */
  readonly durationMs?: number
  /** The same again and again is one entry. */
  readonly times?: number
}

export interface SagaHistory {
  readonly saga: string
  readonly id: string
  readonly version: number
  readonly state: 'running' | 'undoing' | 'done' | 'undone' | 'needs-human'
  readonly reason: string | undefined
  /** How often it changed hands. */
  readonly fence: number
  /** Oldest first. */
  readonly entries: readonly HistoryEntry[]
}

/** `diverges` says what differs; a run that is not over is compared as far as it got. */
export type ReplayReport = { readonly diverges: false; readonly steps: number } | { readonly diverges: true; readonly reason: string }
