/**
 * The world of the retry storm as numbers: what the server can do, what is asked of it, and when it is out.
 *
 * Everything is in milliseconds of virtual time, from the start of the run. All columns of one load see the same calls at the
 * same times, so that what differs between them is the protection and nothing else.
 */

/**
 * What is wrong during the outage. `hang`: workers stand still, and what is asked waits. `slow`: each piece of work takes four times as long.
 * `errors`: half of the answers are 503s, after the usual time.
 */
export const OUTAGES = ['hang', 'slow', 'errors'] as const
export type Outage = (typeof OUTAGES)[number]

export interface Scenario {
  readonly seed: number
  readonly outage: Outage
  /** Processes that call; each has budgets, breakers and limits of its own. */
  readonly clients: number
  /** Requests that the server works on at once. */
  readonly workers: number
  /** Work of one request: a fixed part and an exponentially distributed one with this mean. Together with `workers` they give the capacity. */
  readonly fixedWorkMs: number
  readonly randomWorkMs: number
  readonly beforeSeconds: number
  readonly outageSeconds: number
  readonly afterSeconds: number
}

/** 10 workers of 100 ms: 100 requests a second. */
export const SCENARIO_DEFAULTS: Scenario = Object.freeze({
  seed: 1, outage: 'hang', clients: 10, workers: 10, fixedWorkMs: 20, randomWorkMs: 80, beforeSeconds: 15, outageSeconds: 30, afterSeconds: 60,
})

/** Percent of the server's capacity that is offered. */
export const LOADS: readonly number[] = Object.freeze([50, 75, 90])

/** Share of answers that are 503s during an outage of errors. */
export const ERROR_SHARE = 0.5
const SLOW_FACTOR = 4

/** Requests a second that the server can do. */
export function capacityOf(scenario: Scenario): number {
  return (scenario.workers * 1_000) / (scenario.fixedWorkMs + scenario.randomWorkMs)
}

export function secondsOf(scenario: Scenario): number {
  return scenario.beforeSeconds + scenario.outageSeconds + scenario.afterSeconds
}

export function isOut(scenario: Scenario, now: number): boolean {
  return now >= scenario.beforeSeconds * 1_000 && now < (scenario.beforeSeconds + scenario.outageSeconds) * 1_000
}

/** How long a worker is busy with work that would take `ms` on a good day and that begins `now`: work stands still or slows down during the outage. */
export function busyMs(scenario: Scenario, ms: number, now: number): number {
  if (scenario.outage === 'errors') return ms
  const from = scenario.beforeSeconds * 1_000
  const to = from + scenario.outageSeconds * 1_000
  if (now + ms <= from || now >= to) return ms
  const before = Math.max(0, from - now)
  const left = ms - before
  if (scenario.outage === 'hang') return before + (to - Math.max(now, from)) + left
  const during = Math.min(left * SLOW_FACTOR, to - Math.max(now, from))
  return before + during + (left - during / SLOW_FACTOR)
}
