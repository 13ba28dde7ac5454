/**
 * What a SQL dialect's own transaction can do beyond `SqlTx`: for our rooms and for adapters of other clients, not for users.
 *
 * `beforeCommit` saves a round trip where nobody has to look at a statement's result: it travels in one message with
 * COMMIT, and where it fails the server does not come as far as the COMMIT. `raw` gives values as the server sent them,
 * so that a client of the user's choosing can read them with its own parsers.
 */
import type { SqlTx } from './port.ts'

/** What can be written into a statement's text without a doubt about its type. */
export type PlainParam = string | number | boolean | null

/** One statement's answer, values in PostgreSQL's text format. */
export interface RawResult {
  /** `SELECT`, `UPDATE`; empty where the dialect does not say. */
  readonly command: string
  /** Rows read or changed, where the command counts them. */
  readonly count: number | null
  readonly fields: readonly { readonly name: string; readonly type: number }[]
  readonly rows: readonly (readonly (string | null)[])[]
}

export interface DriverTx extends SqlTx {
  /** Runs after every statement of the transaction, right before its commit. Its failure is the transaction's, and nothing is committed. */
  beforeCommit?(sql: string, params: readonly PlainParam[]): void
  /** Of several statements in one text (without parameters) one result each. Errors are those of `query`. */
  raw(sql: string, params?: readonly unknown[]): Promise<readonly RawResult[]>
}

/**
 * The last statement of a transaction that is ours from begin to commit, and whose result nobody looks at: sent together with COMMIT
 * where the dialect can. Whoever runs more statements afterwards must use `query`: those would run before this one.
 */
export async function writeLast(tx: SqlTx, sql: string, params: readonly PlainParam[]): Promise<void> {
  const { beforeCommit } = tx as Partial<DriverTx>
  if (beforeCommit === undefined) await tx.query(sql, params)
  else beforeCommit(sql, params)
}
