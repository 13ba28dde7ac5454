/**
 * What an audit row is, and the two operations that a store must offer for it. There is no third: rows are never
 * changed and never removed by us.
 */
import type { Json } from '../../core/index.ts'

/** Who did what to which thing, why, and what it was before and after. Names and ids; never payloads or secrets. */
export interface AuditEntry {
  /** `cli:alice`, as `actorName` writes it. */
  readonly actor: string
  /** `flag.set`, `irreversible.revoke-access`, `command.worker.pause`. */
  readonly action: string
  readonly target: string
  readonly reason: string
  readonly outcome: 'done' | 'refused' | 'failed'
  readonly before?: Json
  readonly after?: Json
  /** Default: that of the work in which it is written. */
  readonly correlationId?: string
}

/** A row as it is read back. */
export interface AuditRow extends AuditEntry {
  /** Rises; where a reader goes on (`list({ before })`). */
  readonly id: number
  /** The database's clock, milliseconds. */
  readonly at: number
}

/** `key` makes writing the same row again harmless, so that a row whose commit is unknown may be written once more. */
export type KeyedEntry = AuditEntry & { readonly key: string }

export interface AuditPort<Tx> {
  append(tx: Tx, entry: KeyedEntry): Promise<void>
  /** Newest first. */
  list(tx: Tx, options: { readonly limit: number; readonly before: number | undefined }): Promise<readonly AuditRow[]>
}
