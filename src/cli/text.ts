/**
 * Text for terminals: colours that can be switched off, tables that fit, and data that cannot command the terminal.
 */
import type { Io } from './io.ts'

export type Tone = 'good' | 'warn' | 'bad' | 'dim' | 'bold' | 'plain'

const CODES: Readonly<Record<Tone, string>> = { good: '32', warn: '33', bad: '31', dim: '2', bold: '1', plain: '' }

/** A cell with its tone. */
export interface Cell {
  readonly text: string
  readonly tone?: Tone
}

/**
 * Names, reasons and errors come from elsewhere: an escape sequence in one could rewrite the screen or the clipboard. Control
 * characters, and the marks that reorder text, are shown as a question mark.
 */
export function clean(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\p{Cc}\p{Cf}]/gu, '?')
}

/** NO_COLOR (no-color.org) and a pipe switch colours off. */
export function painter(io: Pick<Io, 'terminal' | 'environment'>): (text: string, tone: Tone) => string {
  const colours = io.terminal && (io.environment['NO_COLOR'] ?? '') === '' && io.environment['TERM'] !== 'dumb'
  return (text, tone) => (colours && CODES[tone] !== '' ? `\u001b[${CODES[tone]}m${text}\u001b[0m` : text)
}

/** Rows under a title; columns as wide as their widest cell, the last one cut to fit the terminal. */
export function table(io: Pick<Io, 'terminal' | 'environment' | 'columns'>, rows: readonly (readonly Cell[])[]): string {
  const paint = painter(io)
  const cleaned = rows.map(row => row.map(cell => ({ ...cell, text: clean(cell.text) })))
  const widths: number[] = []
  for (const row of cleaned) row.forEach((cell, index) => { widths[index] = Math.max(widths[index] ?? 0, cell.text.length) })
  return cleaned
    .map(row => {
      let line = ' '
      let used = 1
      row.forEach((cell, index) => {
        const last = index === row.length - 1
        const room = io.terminal ? Math.max(10, io.columns - used - 2) : Number.POSITIVE_INFINITY
        const text = last ? cut(cell.text, room) : cell.text.padEnd(widths[index] ?? 0)
        line += ` ${paint(text, cell.tone ?? 'plain')}${last ? '' : ' '}`
        used += text.length + 2
      })
      return line.trimEnd()
    })
    .join('\n')
}

function cut(text: string, room: number): string {
  return text.length > room ? `${text.slice(0, Math.max(1, room - 1))}…` : text
}

/** The nearest of `names` within two slips, for "did you mean". */
export function closest(given: string, names: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = 3
  for (const name of names) {
    const distance = slips(given.toLowerCase(), name.toLowerCase())
    if (distance < bestDistance) {
      best = name
      bestDistance = distance
    }
  }
  return best
}

/** Damerau-Levenshtein (adjacent swaps count once), on names of at most 80 characters. */
function slips(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, index) => index)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let cost = Math.min((rows[i - 1]?.[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (rows[i - 1]?.[j - 1] ?? 0) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) cost = Math.min(cost, (rows[i - 2]?.[j - 2] ?? 0) + 1)
      row.push(cost)
    }
    rows.push(row)
  }
  return rows[a.length]?.[b.length] ?? Number.POSITIVE_INFINITY
}
