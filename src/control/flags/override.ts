/**
 * Operators' overrides: what one is, and the port through which instances share them.
 *
 * A cleared override stays as a row without a value, so that other instances can say who cleared it and why. The
 * version rises with every change; expiry is the database's, handed out as the time that remains.
 */
import type { AuditEntry } from '../audit/port.ts'

/** An override as the store holds it. */
export interface StoredOverride {
  readonly flag: string
  /** `null`: cleared. */
  readonly on: boolean | null
  /** `cli:alice` */
  readonly actor: string
  readonly reason: string
  readonly version: number
  /** The database's clock, milliseconds. */
  readonly changedAt: number
  /** Until it ends by itself; zero or less where it has ended. */
  readonly remainingMs: number | undefined
}

export interface OverrideChange {
  readonly flag: string
  readonly on: boolean | null
  readonly actor: string
  readonly reason: string
  readonly forMs: number | undefined
}

/** Where overrides are shared. `storedOverrides(kit)` is the one over the store. */
export interface OverridePort {
  /** All of them, cleared ones too. */
  read(signal: AbortSignal): Promise<readonly StoredOverride[]>
  /** Atomic with its audit row. */
  write(change: OverrideChange): Promise<StoredOverride>
}

/** The same within a transaction, once per dialect. */
export interface OverrideTable<Tx> {
  list(tx: Tx): Promise<readonly StoredOverride[]>
  /** Answers the row before (for the audit) and after. */
  put(tx: Tx, change: OverrideChange): Promise<{ readonly before: boolean | null; readonly after: StoredOverride }>
}

export function auditOf(change: OverrideChange, before: boolean | null): AuditEntry {
  return {
    actor: change.actor, action: change.on === null ? 'flag.clear' : 'flag.set', target: change.flag, reason: change.reason, outcome: 'done',
    before: { override: before },
    after: { override: change.on, ...(change.forMs === undefined ? {} : { forMs: change.forMs }) },
  }
}
