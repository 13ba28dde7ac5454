/**
 * The audit: every change by a person, and every refusal, with who, what, why, before and after.
 *
 * A change appends its row in its own transaction, so that neither exists without the other. What changes nothing in
 * the store (a refusal, a pause) is recorded in a transaction of its own; while the store is away such rows wait here
 * (at most 1000, then the oldest is dropped and counted) and are written with the next one.
 *
 * Not here: the hash chain over committed rows, and retention.
 */
import { currentContext, HoldfastError } from '../../core/index.ts'
import { bodyFor, type Database } from '../../store/index.ts'
import type { StoreKit } from '../kit.ts'
import { memoryAudit } from './memory.ts'
import type { AuditEntry, AuditPort, AuditRow, KeyedEntry } from './port.ts'
import { sqlAudit } from './sql.ts'

export type { AuditEntry, AuditRow } from './port.ts'

/** Rows that wait for the store. More would mean hours of operators' work against a dead store. */
export const AUDIT_WAITING_MAX = 1_000
const LIST_MAX = 500

export interface Audit<Tx> {
  /** Within the transaction that makes the change. */
  append(tx: Tx, entry: AuditEntry): Promise<void>
  /** In a transaction of its own; never throws. Answers whether it is written (or waits for the store). */
  record(entry: AuditEntry): Promise<boolean>
  /** Writes what waits; called by `record`, and by whoever notices that the store is back. */
  flush(): Promise<boolean>
  /** Newest first, 100 by default, 500 at most. `before` is the id of the last row that is known. */
  list(options?: { readonly limit?: number; readonly before?: number }): Promise<readonly AuditRow[]>
  readonly waiting: number
  readonly dropped: number
}

export function auditLog<Tx>(kit: StoreKit<Tx>): Audit<Tx> {
  return new AuditLog(kit)
}

class AuditLog<Tx> implements Audit<Tx> {
  readonly #kit: StoreKit<Tx>
  #waiting: KeyedEntry[] = []
  #flushing: Promise<boolean> | undefined
  #dropped = 0

  constructor(kit: StoreKit<Tx>) {
    this.#kit = kit
  }

  get waiting(): number {
    return this.#waiting.length
  }

  get dropped(): number {
    return this.#dropped
  }

  async append(tx: Tx, entry: AuditEntry): Promise<void> {
    await this.#body(this.#kit.database()).append(tx, this.#keyed(entry))
  }

  record(entry: AuditEntry): Promise<boolean> {
    this.#waiting.push(this.#keyed(entry))
    if (this.#waiting.length > AUDIT_WAITING_MAX) {
      this.#waiting.shift()
      this.#dropped += 1
    }
    return this.flush()
  }

  async flush(): Promise<boolean> {
    // One at a time: whoever comes during a flush takes the next round, which writes what came meanwhile.
    while (this.#flushing !== undefined) await this.#flushing
    if (this.#waiting.length === 0) return true
    this.#flushing = this.#write().finally(() => { this.#flushing = undefined })
    return this.#flushing
  }

  async #write(): Promise<boolean> {
    const batch = [...this.#waiting]
    try {
      const database = this.#kit.database()
      const body = this.#body(database)
      await database.transaction('audit.record', async tx => {
        for (const entry of batch) await body.append(tx, entry)
      })
      const written = new Set(batch)
      this.#waiting = this.#waiting.filter(entry => !written.has(entry))
      return true
    } catch {
      // The rows stay and are written with the next one; `waiting` shows how many. The work they tell of is done.
      return false
    }
  }

  async list(options: { readonly limit?: number; readonly before?: number } = {}): Promise<readonly AuditRow[]> {
    const limit = options.limit ?? 100
    if (!Number.isInteger(limit) || limit < 1 || limit > LIST_MAX) {
      throw new HoldfastError('HF_OPTION_INVALID', { message: `audit.list: expected a limit of 1 to ${String(LIST_MAX)}, got ${String(limit)}` })
    }
    const database = this.#kit.database()
    return database.transaction('audit.list', tx => this.#body(database).list(tx, { limit, before: options.before }))
  }

  #body(database: Pick<Database<Tx>, 'dialect'>): AuditPort<Tx> {
    return bodyFor<Tx, AuditPort<Tx>>(database, { sql: sqlAudit, memory: memoryAudit })
  }

  #keyed(entry: AuditEntry): KeyedEntry {
    const correlationId = entry.correlationId ?? currentContext().correlationId
    return { ...entry, key: this.#kit.env.uuid(), ...(correlationId === undefined ? {} : { correlationId }) }
  }
}
