/**
 * A statement with its parameters written into its text, so that it can travel with COMMIT in one message.
 *
 * For our own statements with plain parameters only (text, numbers, truth values, NULL): what users write goes through
 * real parameters. Correct whatever `standard_conforming_strings` says.
 */
import { HoldfastError } from '../../core/index.ts'
import type { PlainParam } from '../driver-tx.ts'

/** `$1` and so on become literals; `sql` itself must hold no `$1` within quotes. @throws HF_QUERY_FAILED for what cannot be a literal */
export function withLiterals(sql: string, params: readonly PlainParam[]): string {
  return sql.replace(/\$(\d+)/g, (_all, digits: string) => {
    const index = Number(digits) - 1
    if (index < 0 || index >= params.length) throw new HoldfastError('HF_QUERY_FAILED', { message: `the statement has a parameter $${digits}, and ${String(params.length)} were given` })
    return literal(params[index] ?? null)
  })
}

function literal(value: PlainParam): string {
  if (value === null) return 'NULL'
  if (typeof value === 'boolean') return value ? 'TRUE' : 'FALSE'
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new HoldfastError('HF_QUERY_FAILED', { message: `expected a finite number, got ${String(value)}` })
    // In brackets: a minus sign after a minus sign would begin a comment, and casts bind more strongly than signs.
    return `(${String(value)})`
  }
  if (value.includes('\0')) throw new HoldfastError('HF_QUERY_FAILED', { message: 'PostgreSQL\'s text cannot hold the character U+0000' })
  const quoted = value.replaceAll("'", "''")
  return quoted.includes('\\') ? `E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`
}
