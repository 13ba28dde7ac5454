/**
 * The last statement of a transaction, sent in one turn with its COMMIT where the dialect can: one round trip less.
 *
 * What it promises: the same as a statement and a COMMIT after it. A statement that fails takes the whole transaction
 * back; a connection lost after it was sent leaves the outcome unknown. What `work` throws afterwards takes nothing back,
 * so it is for statements that write nothing where they refuse (a fence in the WHERE), and nothing may follow it.
 * Never given a transaction that others may go on with (one that a caller joins).
 */
import type { SqlTx } from './port.ts'

/** Under which a dialect offers it. No method of `SqlTx`, so that no user commits by mistake. */
export const LAST_QUERY: unique symbol = Symbol('last query')

export type OffersLast = SqlTx & { readonly [LAST_QUERY]: <Row>(sql: string, params?: readonly unknown[]) => Promise<readonly Row[]> }

/** The same transaction, whose next statement is its last. Parameters are texts, numbers and null: what can be sent must not fail before it is. */
export function last<Tx>(tx: Tx): Tx {
  if (!offersLast(tx)) return tx
  const sql: SqlTx = { query: tx[LAST_QUERY] }
  // An SqlTx for an SqlTx: `tx` is one, or it would not offer this.
  return sql as SqlTx & Tx
}

/** The same transaction without it, for whoever must have a say before the COMMIT. */
export function withoutLast<Tx>(tx: Tx): Tx {
  if (!offersLast(tx)) return tx
  const rest = { ...tx }
  Reflect.deleteProperty(rest, LAST_QUERY)
  return rest
}

function offersLast(tx: unknown): tx is OffersLast {
  return typeof tx === 'object' && tx !== null && LAST_QUERY in tx
}
