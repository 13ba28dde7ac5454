/**
 * The storm as a picture: a row for each column, a small chart for each load, goodput over time.
 *
 * Plain SVG without script. Blue, orange and grey can be told apart by everybody (Okabe and Ito), and nothing is said by colour alone: each
 * chart says in words when it was back. The picture follows the reader's light or dark theme.
 */
import type { Figures } from './figures.ts'
import { backText, staysDown } from './report.ts'
import type { Series } from './run.ts'
import { capacityOf, secondsOf, type Scenario } from './scenario.ts'

const WIDTH = 1_000
const LEFT = 226
const TOP = 92
const ROW = 72
const CHART = { width: 240, height: 44, gap: 14 } as const

const STYLE = `
  .page { fill: #fcfcfb } text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 17px; font-weight: 600 } .soft { fill: #57606a; font-size: 11px }
  .frame { fill: #f1f2f4 } .out { fill: #d5d8dc } .offered { fill: none; stroke: #8a929b; stroke-dasharray: 3 2 } .good { fill: #0072b2; fill-opacity: .28; stroke: #0072b2; stroke-width: 1.4 }
  .bad { fill: #c04a00; font-weight: 600; font-size: 11px } .back { fill: #0072b2; font-weight: 600; font-size: 11px }
  @media (prefers-color-scheme: dark) {
    .page { fill: #16191d } text { fill: #e6e9ec } .soft { fill: #a3abb4 } .frame { fill: #21262c } .out { fill: #363d45 } .offered { stroke: #9aa3ad }
    .good { fill: #56b4e9; stroke: #56b4e9 } .bad { fill: #f0a35e } .back { fill: #7cc4ee }
  }`

export function chart(scenario: Scenario, runs: readonly Series[], figures: readonly Figures[]): string {
  const columns = [...new Set(runs.map(run => run.column))]
  const loads = [...new Set(runs.map(run => run.load))]
  const height = TOP + columns.length * ROW + 40
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${String(WIDTH)} ${String(height)}" width="${String(WIDTH)}" height="${String(height)}" role="img" aria-labelledby="storm-title storm-desc">`,
    `<title id="storm-title">Goodput through a retry storm</title>`,
    `<desc id="storm-desc">${escaped(describe(scenario, figures))}</desc>`,
    `<style>${STYLE}\n</style>`,
    `<rect class="page" width="${String(WIDTH)}" height="${String(height)}" rx="8"/>`,
    `<text class="title" x="20" y="32">Goodput through a retry storm</text>`,
    `<text class="soft" x="20" y="52">${escaped(`Calls a second that end well (area) of those that are offered (dashed), over ${String(secondsOf(scenario))} s. Shaded: the server is out (${scenario.outage}). Attempts: in the minute from there.`)}</text>`,
    ...loads.map((load, at) => `<text x="${String(leftOf(at))}" y="${String(TOP - 12)}">${String(load)} % of capacity offered</text>`),
  ]
  for (const [row, column] of columns.entries()) {
    const y = TOP + row * ROW
    parts.push(`<text x="20" y="${String(y + 20)}"${column.role === 'defaults' ? ' font-weight="600"' : ''}>${escaped(column.title)}</text>`, `<text class="soft" x="20" y="${String(y + 36)}">${escaped(column.about)}</text>`)
    for (const [at, load] of loads.entries()) {
      const run = runs.find(one => one.column === column && one.load === load)
      const figure = figures.find(one => one.column === column && one.load === load)
      if (run !== undefined && figure !== undefined) parts.push(panel(scenario, run, figure, leftOf(at), y))
    }
  }
  parts.push(`<text class="soft" x="${String(LEFT)}" y="${String(height - 16)}">${escaped(`0 s to ${String(secondsOf(scenario))} s from left to right; the full height is the capacity of ${String(capacityOf(scenario))} a second. Seed ${String(scenario.seed)}.`)}</text>`, '</svg>')
  return `${parts.join('\n')}\n`
}

function leftOf(at: number): number {
  return LEFT + at * (CHART.width + CHART.gap)
}

function panel(scenario: Scenario, run: Series, figures: Figures, x: number, y: number): string {
  const seconds = secondsOf(scenario)
  const xOf = (second: number): string => (x + (second / seconds) * CHART.width).toFixed(1)
  // Ordinary chance lifts a second above the capacity now and then; it is cut there.
  const yOf = (calls: number): string => (y + CHART.height * (1 - Math.min(1, calls / capacityOf(scenario)))).toFixed(1)
  const smooth = run.ok.map((_, second) => mean(run.ok.slice(Math.max(0, second - 1), second + 2)))
  const line = smooth.map((calls, second) => `L${xOf(second + 0.5)} ${yOf(calls)}`).join('')
  const offered = yOf(capacityOf(scenario) * run.load / 100)
  const from = scenario.beforeSeconds
  const back = figures.backAfterSeconds
  const words = wordsOf(scenario, figures)
  return [
    `<rect class="frame" x="${String(x)}" y="${String(y)}" width="${String(CHART.width)}" height="${String(CHART.height)}"/>`,
    `<rect class="out" x="${xOf(from)}" y="${String(y)}" width="${((scenario.outageSeconds / seconds) * CHART.width).toFixed(1)}" height="${String(CHART.height)}"/>`,
    `<path class="offered" d="M${String(x)} ${offered}H${String(x + CHART.width)}"/>`,
    `<path class="good" d="M${xOf(0)} ${yOf(0)}${line}L${xOf(seconds)} ${yOf(0)}Z"/>`,
    `<text class="${back === undefined ? 'bad' : 'back'}" x="${String(x)}" y="${String(y + CHART.height + 14)}">${words}</text>`,
    `<text class="soft" x="${String(x + CHART.width)}" y="${String(y + CHART.height + 14)}" text-anchor="end">${figures.amplification.storm.toFixed(2)} attempts a call</text>`,
  ].join('\n')
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / Math.max(1, values.length)
}

function describe(scenario: Scenario, figures: readonly Figures[]): string {
  return figures.map(figure => `${figure.column.title} at ${String(figure.load)} %: ${wordsOf(scenario, figure)}`).join('. ')
}

function wordsOf(scenario: Scenario, figures: Figures): string {
  if (figures.backAfterSeconds !== undefined) return `back after ${backText(scenario, figures.backAfterSeconds)}`
  return staysDown(figures) ? 'stays down' : `not back in ${String(scenario.afterSeconds)} s`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
