/**
 * What a run comes to: goodput, amplification, and when it was back.
 *
 * Goodput is the share of the calls of a time that ended well. Amplification is requests that reached the server for each call that began;
 * its peak is over any ten seconds, which is how long a retry budget remembers. "Back" is the first second after the outage from which on
 * every five seconds, to the end of the run, keep at least 95 %.
 */
import type { Column } from './columns.ts'
import type { Series } from './run.ts'
import { secondsOf, type Scenario } from './scenario.ts'

export interface Figures {
  readonly column: Column
  readonly load: number
  /** Shares of the offered calls, 0..1. */
  readonly goodput: { readonly before: number; readonly during: number; readonly firstTenSeconds: number; readonly end: number }
  readonly amplification: { readonly before: number; readonly storm: number; readonly end: number; readonly peak: number }
  /** Seconds after the outage; undefined when it was not back before the run ended. */
  readonly backAfterSeconds: number | undefined
  readonly queueMax: number
}

/** Goodput that counts as back, of what is offered. */
export const BACK_AT = 0.95
const WINDOW_SECONDS = 5
const PEAK_SECONDS = 10
/** The queue needs a moment to fill before "before" is measured, and calls of the last moment are already hit. */
const WARM_UP_SECONDS = 5
const HIT_SECONDS = 2
/** The minute in which an outage does its harm. */
const STORM_SECONDS = 60
const END_SECONDS = 10

export function figuresOf(scenario: Scenario, series: Series): Figures {
  const { column, load, offered, ok, arrivals, queued } = series
  const from = scenario.beforeSeconds
  const to = from + scenario.outageSeconds
  const last = secondsOf(scenario)
  const warm = Math.min(WARM_UP_SECONDS, Math.floor(from / 3))
  const share = (counts: readonly number[], begin: number, end: number): number => sum(counts, begin, end) / Math.max(1, sum(offered, begin, end))
  let peak = 0
  for (let begin = warm; begin + PEAK_SECONDS <= last; begin += 1) peak = Math.max(peak, share(arrivals, begin, begin + PEAK_SECONDS))
  return {
    column, load,
    goodput: { before: share(ok, warm, from - HIT_SECONDS), during: share(ok, from, to), firstTenSeconds: share(ok, to, Math.min(last, to + 10)), end: share(ok, last - END_SECONDS, last) },
    amplification: { before: share(arrivals, warm, from), storm: share(arrivals, from, Math.min(last, from + STORM_SECONDS)), end: share(arrivals, last - END_SECONDS, last), peak },
    backAfterSeconds: backAfter(series, to, last),
    queueMax: Math.max(...queued),
  }
}

function backAfter({ offered, ok }: Series, to: number, last: number): number | undefined {
  let back: number | undefined
  for (let begin = last - WINDOW_SECONDS; begin >= to; begin -= 1) {
    if (sum(ok, begin, begin + WINDOW_SECONDS) < BACK_AT * sum(offered, begin, begin + WINDOW_SECONDS)) break
    back = begin - to
  }
  return back
}

function sum(counts: readonly number[], begin: number, end: number): number {
  let total = 0
  for (let second = begin; second < end; second += 1) total += counts[second] ?? 0
  return total
}
