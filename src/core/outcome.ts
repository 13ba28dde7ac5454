/**
 * Refusals as values. Where the caller must decide what to do about a "no", it gets one of these and no exception.
 */

/** Why something was not done. */
export type RefusalReason =
  | 'switched-off'
  | 'unavailable'
  | 'breaker-open'
  | 'rate-limited'
  | 'overloaded'
  | 'deadline'
  | 'cancelled'
  | 'failed'
  | 'not-configured'

/** A "no": why, in words, and when it is worth trying again. */
export interface Refusal {
  readonly ok: false
  readonly reason: RefusalReason
  readonly message: string
  readonly retryAfterMs?: number
  /** What was thrown, when something was. */
  readonly error?: unknown
}

export type Outcome<T> = { readonly ok: true; readonly value: T } | Refusal

/** Who does something, and through what. */
export interface Actor {
  readonly id: string
  readonly via: 'console' | 'cli' | 'telegram' | 'code'
  readonly roles?: readonly string[]
}

/** `cli:alice`: how an actor is written in audit rows, logs and the console. */
export function actorName(actor: Actor): string {
  return `${actor.via}:${actor.id}`
}

/** May an outside call be repeated? `read` changes nothing, `idempotent` is safe under the same key, `once` is never repeated by us. */
export type Effect = 'read' | 'idempotent' | 'once'
