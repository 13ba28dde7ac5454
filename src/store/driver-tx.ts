/**
 * What a SQL dialect's own transaction can do beyond `SqlTx`: for our rooms and for adapters of other clients, not for users.
 *
 * `raw` gives values as the server sent them, so that a client of the user's choosing can read them with its own parsers.
 * Not here: the last statement, which travels with COMMIT (./last.ts).
 */
import type { SqlTx } from './port.ts'

/** One statement's answer: rows as `query` gives them. */
export interface Answer<Row> {
  /** `SELECT`, `UPDATE`; empty where the dialect does not say. */
  readonly command: string
  /** Rows read or changed, where the command counts them. */
  readonly count: number | null
  readonly rows: readonly Row[]
}

/** The same with values in PostgreSQL's text format. */
export interface RawResult extends Answer<readonly (string | null)[]> {
  readonly fields: readonly { readonly name: string; readonly type: number }[]
}

export interface DriverTx extends SqlTx {
  /** Of several statements in one text the last. Errors are those of `query`. */
  answer<Row>(sql: string, params?: readonly unknown[]): Promise<Answer<Row>>
  /** Of several statements in one text (without parameters) one result each. Errors are those of `query`. */
  raw(sql: string, params?: readonly unknown[]): Promise<readonly RawResult[]>
}
