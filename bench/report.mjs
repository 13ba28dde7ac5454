/**
 * Figures as text: lines of JSON, a table for a person, tables for documentation, and the verdict on the budgets.
 *
 * A row is { bench, case, subject, value, unit } and, where it was measured just now, { best, p99 } beside.
 */

/** What a subject is called by: `cockatiel` of `cockatiel@4.0.0`, `dbos-sdk` of `@dbos-inc/dbos-sdk@5.3.0`. */
export const keyOf = subject => /^(?:@[^/]+\/)?([^@ ]+)/.exec(subject)?.[1] ?? subject
const find = (rows, [name, key, unit]) => rows.find(row => row.case === name && keyOf(row.subject) === key && row.unit === unit)

export function jsonLines(rows) {
  return rows.map(({ bench, case: name, subject, value, unit }) => `${JSON.stringify({ bench, case: name, subject, value, unit })}\n`).join('')
}

/** The lines that `jsonLines` wrote; others (npm's own) are passed over. */
export function readJsonLines(text) {
  return text.split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line))
}

/** @param {readonly object[]} rows @param {(caseName: string) => string | undefined} noteOf */
export function table(rows, noteOf) {
  const out = []
  for (const name of namesOf(rows)) {
    for (const unit of unitsOf(rows, name)) {
      const here = rows.filter(row => row.case === name && row.unit === unit)
      const bare = find(here, [name, 'bare', unit])?.value
      const holdfast = find(here, [name, 'holdfast', unit])?.value
      const detailed = here.some(row => row.best !== undefined)
      out.push('', `${name} (${unit})`)
      const lines = [['', 'median', ...(detailed ? ['best', 'p99'] : []), 'x bare', 'x holdfast']]
      for (const { subject, value, best, p99 } of here) {
        lines.push([`  ${subject}`, number(value), ...(detailed ? [number(best), number(p99)] : []), ratio(value, bare), ratio(value, holdfast)])
      }
      out.push(...aligned(lines))
    }
    const note = noteOf(name)
    if (note !== undefined) out.push(`  ${note}`)
  }
  return `${out.join('\n').trim()}\n`
}

/** One table per unit: cases down, subjects across; in brackets how many times Holdfast's figure. */
export function markdown(rows, noteOf) {
  const out = []
  for (const unit of new Set(rows.map(row => row.unit))) {
    const here = rows.filter(row => row.unit === unit)
    const keys = [...new Set(here.map(row => keyOf(row.subject)))]
    // The longest name tells most: that of the cases for which a peer needs a second package.
    const heads = keys.map(key => here.map(row => row.subject).filter(subject => keyOf(subject) === key).toSorted((a, b) => b.length - a.length)[0])
    out.push(`| ${unit} | ${heads.join(' | ')} |`, `|---|${keys.map(() => '--:|').join('')}`)
    for (const name of namesOf(here)) {
      const holdfast = find(here, [name, 'holdfast', unit])?.value
      const cells = keys.map(key => {
        const row = find(here, [name, key, unit])
        if (row === undefined) return '–'
        return key === 'holdfast' || holdfast === undefined ? number(row.value) : `${number(row.value)} (${ratio(row.value, holdfast)})`
      })
      out.push(`| ${name} | ${cells.join(' | ')} |`)
    }
    out.push('')
  }
  for (const name of namesOf(rows)) {
    const note = noteOf(name)
    if (note !== undefined) out.push(`- *${name}*: ${note}`)
  }
  return `${out.join('\n').trim()}\n`
}

/**
 * Each budget against the rows. `measured` is undefined where a figure is missing, which is no pass.
 * @returns {{ text: string, measured: number | undefined, ok: boolean, line: string }[]}
 */
export function judged(budgets, rows) {
  return budgets.map(({ text, of, per, minus, atMost, atLeast }) => {
    const figures = [of, per, minus].filter(one => one !== undefined).map(one => find(rows, one)?.value)
    if (figures.includes(undefined)) return { text, measured: undefined, ok: false, line: `  --    ${text}: not measured` }
    const [value, other] = figures
    const measured = per !== undefined ? value / other : minus !== undefined ? value - other : value
    const ok = atMost !== undefined ? measured <= atMost : measured >= atLeast
    const shown = per !== undefined ? `${measured.toFixed(2)}x` : `${number(measured)} ${of[2]}`
    return { text, measured, ok, line: `  ${ok ? 'pass' : 'MISS'}  ${text}: ${shown}` }
  })
}

function namesOf(rows) {
  return [...new Set(rows.map(row => row.case))]
}

function unitsOf(rows, name) {
  return [...new Set(rows.filter(row => row.case === name).map(row => row.unit))]
}

function number(value) {
  if (value === undefined) return ''
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

function ratio(value, base) {
  if (base === undefined || base <= 0) return ''
  const times = value / base
  return `${times >= 100 ? times.toFixed(0) : times >= 10 ? times.toFixed(1) : times.toFixed(2)}x`
}

/** The first column to the left, figures to the right. */
function aligned(lines) {
  const widths = lines[0].map((_cell, column) => Math.max(...lines.map(line => line[column].length)))
  return lines.map(line => line.map((cell, column) => (column === 0 ? cell.padEnd(Math.max(44, widths[0])) : cell.padStart(Math.max(12, widths[column])))).join('').trimEnd())
}
