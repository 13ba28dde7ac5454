/**
 * What is read when somebody scrapes: the state of every definition, as gauges.
 */
import type { BreakerState, SystemState } from '../core/index.ts'
import type { FlagBoard } from '../control/index.ts'
import type { Dependency } from '../guard/index.ts'
import type { Health } from '../health/index.ts'
import type { Labels, Metrics } from '../observe/index.ts'
import type { Worker } from '../worker/index.ts'

export interface GaugeSources {
  readonly service: string
  readonly version: string
  readonly instance: string
  readonly uptimeMs: () => number
  readonly health: Health
  readonly board: FlagBoard
  readonly dependencies: () => readonly Dependency[]
  readonly workers: () => readonly Worker[]
  readonly work: () => number
  readonly alerts: () => number
}

const BREAKER: Readonly<Record<BreakerState, number>> = { closed: 0, 'half-open': 1, open: 2, 'forced-closed': 0, 'forced-open': 2 }
const SYSTEM: Readonly<Record<SystemState, number>> = { healthy: 0, degraded: 1, unavailable: 2 }

export function defineGauges(metrics: Metrics, sources: GaugeSources): void {
  const one = (value: number): readonly (readonly [Labels, number])[] => [[{}, value]]
  metrics.gauge('holdfast_info', 'Who this is; always 1.', () => [[{ service: sources.service, version: sources.version, instance: sources.instance }, 1]])
  metrics.gauge('holdfast_uptime_seconds', 'Since the start of this instance.', () => one(Math.round(sources.uptimeMs() / 1_000)))
  metrics.gauge('holdfast_heap_used_bytes', 'Memory of JavaScript values in this process, garbage not yet collected included.', () => one(process.memoryUsage().heapUsed))
  metrics.gauge('holdfast_resident_memory_bytes', 'Memory of this process as the operating system sees it.', () => one(process.memoryUsage.rss()))
  metrics.gauge('holdfast_system_state', 'The service: 0 healthy, 1 degraded, 2 unavailable.', () => one(SYSTEM[sources.health.state]))
  metrics.gauge('holdfast_component_healthy', 'Components: 1 healthy, 0 not.', () => sources.health.report().components.map(({ name, state }) => [{ component: name }, state === 'healthy' || state === 'not-configured' ? 1 : 0]))
  metrics.gauge('holdfast_breaker_state', 'Breakers: 0 closed, 1 half-open, 2 open.', () => sources.dependencies().map(each => [{ dependency: each.name }, BREAKER[each.snapshot().state]]))
  metrics.gauge('holdfast_calls_in_flight', 'Outside calls at work, the abandoned ones included.', () => sources.dependencies().map(each => [{ dependency: each.name }, each.snapshot().inFlight]))
  metrics.gauge('holdfast_calls_abandoned', 'Outside calls that run on after their timeout.', () => sources.dependencies().map(each => [{ dependency: each.name }, each.snapshot().abandoned]))
  metrics.gauge('holdfast_flag_on', 'Switches: 1 on, 0 off.', () => sources.board.status().map(({ name, on }) => [{ flag: name }, on ? 1 : 0]))
  metrics.gauge('holdfast_flags_age_seconds', 'Since the shared switches were last read.', () => (sources.board.ageMs === undefined ? [] : one(Math.round(sources.board.ageMs / 1_000))))
  metrics.gauge('holdfast_worker_failures_in_a_row', 'Failed iterations since the last good one.', () => sources.workers().map(each => [{ worker: each.name }, each.snapshot().consecutiveFailures]))
  metrics.gauge('holdfast_worker_parked_items', 'Items that wait for a person, as last read.', () => sources.workers().map(each => [{ worker: each.name }, each.snapshot().parked]))
  metrics.gauge('holdfast_work_items', 'Things that need a person, as last read.', () => one(sources.work()))
  metrics.gauge('holdfast_alerts_active', 'Alerts that have not recovered.', () => one(sources.alerts()))
}
