/**
 * Results as the client `pg` gives them, made from what the server sent: rows read by the user's own type parsers.
 */
import type { RawResult } from '../driver-tx.ts'

/** The parsers of `pg` (`pg.types`), or others of that shape. */
export interface TypeParsers {
  getTypeParser(oid: number, format?: 'text'): (text: string) => unknown
}

export type ValueRow = Record<string, unknown>

export function rowsOf(result: RawResult, types: TypeParsers): ValueRow[] {
  const { fields } = result
  return valuesOf(result, types).map(values => {
    const row: ValueRow = {}
    fields.forEach(({ name }, index) => { row[name] = values[index] })
    return row
  })
}

/** Each row as a list, in the order of the columns. */
export function valuesOf({ fields, rows }: RawResult, types: TypeParsers): unknown[][] {
  const parsers = fields.map(field => types.getTypeParser(field.type, 'text'))
  return rows.map(row => row.map((value, index) => (value === null ? null : parsers[index]?.(value))))
}
