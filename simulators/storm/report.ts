/**
 * Figures and seconds as CSV, as JSON lines, and as a table for people; and the verdict on them.
 */
import type { Figures } from './figures.ts'
import type { Series } from './run.ts'
import { secondsOf, type Scenario } from './scenario.ts'

export const SUMMARY_HEADER = 'load_percent,column,goodput_before,goodput_during,goodput_first_10s,goodput_end,amplification_before,amplification_storm,amplification_end,amplification_peak,back_after_s,queue_max'
export const SECONDS_HEADER = 'load_percent,column,second,offered,ok,failed,arrivals,queued'

/** One row for each load and column. `back_after_s` is empty where it never was. */
export function summaryCsv(figures: readonly Figures[]): string {
  return rows(SUMMARY_HEADER, figures.map(({ load, column, goodput, amplification, backAfterSeconds, queueMax }) => [
    load, column.id, ...[goodput.before, goodput.during, goodput.firstTenSeconds, goodput.end, amplification.before, amplification.storm, amplification.end, amplification.peak].map(value => value.toFixed(3)),
    backAfterSeconds ?? '', queueMax,
  ]))
}

/** One row for each load, column and second. Calls count in the second in which they began. */
export function secondsCsv(runs: readonly Series[]): string {
  return rows(SECONDS_HEADER, runs.flatMap(({ load, column, offered, ok, failed, arrivals, queued }) => offered.map((calls, second) => [
    load, column.id, second, calls, ok[second] ?? 0, failed[second] ?? 0, arrivals[second] ?? 0, queued[second] ?? 0,
  ])))
}

function rows(header: string, lines: readonly (readonly (string | number)[])[]): string {
  return `${[header, ...lines.map(line => line.join(','))].join('\n')}\n`
}

/** One object a line. */
export function summaryJson(scenario: Scenario, figures: readonly Figures[]): string {
  return figures.map(({ load, column, goodput, amplification, backAfterSeconds, queueMax }) => `${JSON.stringify({
    sim: 'storm', seed: scenario.seed, outage: scenario.outage, load, column: column.id, goodput, amplification, backAfterSeconds: backAfterSeconds ?? null, queueMax,
  })}\n`).join('')
}

export function table(scenario: Scenario, figures: readonly Figures[]): string {
  const percent = (share: number): string => `${String(Math.round(share * 100))} %`
  const lines = [['load', 'column', 'before', 'during', 'first 10 s', 'end', 'attempts a call: storm', 'end', 'peak', 'queue', 'back after']]
  for (const { load, column, goodput, amplification, backAfterSeconds, queueMax } of figures) {
    lines.push([
      `${String(load)} %`, column.title, percent(goodput.before), percent(goodput.during), percent(goodput.firstTenSeconds), percent(goodput.end),
      amplification.storm.toFixed(2), amplification.end.toFixed(2), amplification.peak.toFixed(2), String(queueMax), backText(scenario, backAfterSeconds),
    ])
  }
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map(line => (line[column] ?? '').length)))
  return `${lines.map(line => line.map((cell, column) => column === 1 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)).join('  ')).join('\n')}\n`
}

export function backText(scenario: Scenario, backAfterSeconds: number | undefined): string {
  return backAfterSeconds === undefined ? `not in ${String(scenario.afterSeconds)} s` : `${String(backAfterSeconds)} s`
}

/** DESIGN's budget: goodput is back within ten seconds; amplification in the minute of the storm is at most 1.1. */
export const BUDGET = Object.freeze({ backWithinSeconds: 10, amplification: 1.1 })
/** Below this share of its calls a service is down, not merely late. */
const DOWN_BELOW = 0.5
/** From this load on naive retries must stay down. */
const CONTROL_LOAD = 75

export interface Verdict {
  readonly kept: boolean
  readonly lines: readonly string[]
}

/** Only columns that have a role are judged: the defaults keep the budget, and naive retries show that it is needed. */
export function verdictOf(scenario: Scenario, figures: readonly Figures[]): Verdict {
  const judged: { readonly kept: boolean; readonly line: string }[] = []
  for (const figure of figures) {
    const { load, column, amplification, backAfterSeconds } = figure
    const where = `${column.title} at ${String(load)} %`
    if (column.role === 'defaults') {
      const back = backAfterSeconds !== undefined && backAfterSeconds <= BUDGET.backWithinSeconds
      const bounded = amplification.storm <= BUDGET.amplification
      judged.push({ kept: back, line: `${where}: back after ${backText(scenario, backAfterSeconds)} (budget ${String(BUDGET.backWithinSeconds)} s)` })
      judged.push({ kept: bounded, line: `${where}: ${amplification.storm.toFixed(2)} attempts a call in the storm, ${amplification.peak.toFixed(2)} in the worst ten seconds (budget ${String(BUDGET.amplification)})` })
    }
    if (column.role === 'naive' && load >= CONTROL_LOAD) {
      const down = staysDown(figure)
      judged.push({ kept: down, line: `${where}: ${down ? 'stays down' : 'does not stay down, so the scenario is too mild'} (control)` })
    }
  }
  return { kept: judged.every(({ kept }) => kept), lines: judged.map(({ kept, line }) => `${kept ? 'ok    ' : 'FAILED'} ${line}`) }
}

export function staysDown({ backAfterSeconds, goodput }: Figures): boolean {
  return backAfterSeconds === undefined && goodput.end < DOWN_BELOW
}

/** What is watched, in a sentence. */
export function scenarioText(scenario: Scenario): string {
  return `${String(scenario.clients)} clients, ${String(scenario.workers)} workers, outage of ${String(scenario.outageSeconds)} s (${scenario.outage}), ${String(secondsOf(scenario))} s in all, seed ${String(scenario.seed)}`
}
