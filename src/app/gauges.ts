/**
 * What is read when somebody scrapes: the state of every definition, as gauges, and what definitions count themselves.
 *
 * Labels are names of definitions. Each dependency is looked at once per scrape.
 */
import type { BreakerState, SystemState } from '../core/index.ts'
import type { FlagBoard } from '../control/index.ts'
import type { Dependency, DependencySnapshot, FaultPlan } from '../guard/index.ts'
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
  readonly faultPlans: () => readonly FaultPlan[]
  readonly workers: () => readonly Worker[]
  readonly queues: () => readonly { readonly kind: string; readonly name: string; readonly waiting: number; readonly oldestMs: number }[]
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
  defineDependencyMetrics(metrics, sources.dependencies)
  metrics.gauge('holdfast_faults_active', 'Faults on purpose: 1 calls may get one, 0 not.', () => sources.faultPlans().map(({ name, active }) => [{ faults: name }, active ? 1 : 0]))
  metrics.gauge('holdfast_flag_on', 'Switches: 1 on, 0 off.', () => sources.board.status().map(({ name, on }) => [{ flag: name }, on ? 1 : 0]))
  metrics.gauge('holdfast_flags_age_seconds', 'Since the shared switches were last read.', () => (sources.board.ageMs === undefined ? [] : one(Math.round(sources.board.ageMs / 1_000))))
  metrics.gauge('holdfast_worker_failures_in_a_row', 'Failed iterations since the last good one.', () => sources.workers().map(each => [{ worker: each.name }, each.snapshot().consecutiveFailures]))
  metrics.gauge('holdfast_worker_lag_seconds', 'How late the last iteration began, or how overdue the next one is.', () => sources.workers().flatMap(each => { const { lagMs } = each.snapshot(); return lagMs === undefined ? [] : [[{ worker: each.name }, lagMs / 1_000] as const] }))
  metrics.gauge('holdfast_worker_parked_items', 'Items that wait for a person, as last read.', () => sources.workers().map(each => [{ worker: each.name }, each.snapshot().parked]))
  metrics.gauge('holdfast_queue_waiting', 'Messages of outbox topics and inbox sources that are not done, as last read.', () => sources.queues().map(({ kind, name, waiting }) => [{ kind, name }, waiting]))
  metrics.gauge('holdfast_queue_oldest_seconds', 'Age of the oldest message that is not done, as last read.', () => sources.queues().map(({ kind, name, oldestMs }) => [{ kind, name }, Math.round(oldestMs / 1_000)]))
  metrics.gauge('holdfast_work_items', 'Things that need a person, as last read.', () => one(sources.work()))
  metrics.gauge('holdfast_alerts_active', 'Alerts that have not recovered.', () => one(sources.alerts()))
}

function defineDependencyMetrics(metrics: Metrics, dependencies: () => readonly Dependency[]): void {
  let looked: readonly DependencySnapshot[] | undefined
  const look = (): readonly DependencySnapshot[] => {
    // A scrape is synchronous: its metrics share one look, and the next one looks anew.
    if (looked === undefined) queueMicrotask(() => { looked = undefined })
    looked ??= dependencies().map(each => each.snapshot())
    return looked
  }
  /** Undefined: this dependency has nothing of the kind. */
  const each = (value: (snapshot: DependencySnapshot) => number | undefined) => (): readonly (readonly [Labels, number])[] =>
    look().flatMap(snapshot => {
      const read = value(snapshot)
      return read === undefined ? [] : [[{ dependency: snapshot.name }, read] as const]
    })
  metrics.gauge('holdfast_breaker_state', 'Breakers: 0 closed, 1 half-open, 2 open.', each(({ state }) => BREAKER[state]))
  metrics.gauge('holdfast_breaker_ramp_ratio', 'Share of the calls that a breaker lets through while admission grows after closing, else 1.', each(({ ramp }) => ramp ?? 1))
  metrics.gauge('holdfast_breaker_shadow_state', 'What breakers that only watch would be: 0 closed, 1 half-open, 2 open.', each(({ shadow }) => (shadow === undefined ? undefined : BREAKER[shadow.state])))
  metrics.counterOf('holdfast_breaker_shadow_refusals_total', 'Calls that breakers that only watch would have refused.', each(({ shadow }) => shadow?.wouldHaveRefused))
  metrics.gauge('holdfast_breaker_partitions', 'Partitions that have a breaker of their own.', each(({ partitions }) => partitions?.size))
  metrics.gauge('holdfast_breaker_partitions_not_closed', 'Partitions whose breaker is not closed.', each(({ partitions }) => partitions?.notClosed))
  metrics.gauge('holdfast_call_limit', 'Outside calls that may be at work at once, now.', each(({ limit }) => limit))
  metrics.gauge('holdfast_calls_in_flight', 'Outside calls at work, the abandoned ones included.', each(({ inFlight }) => inFlight))
  metrics.gauge('holdfast_calls_queued', 'Outside calls that wait for their turn.', each(({ queued }) => queued))
  metrics.gauge('holdfast_calls_abandoned', 'Outside calls that run on after their timeout.', each(({ abandoned }) => abandoned))
  metrics.counterOf('holdfast_calls_total', 'Outside calls that were asked for.', each(({ counters }) => counters.calls))
  metrics.counterOf('holdfast_call_retries_total', 'Outside calls that were repeated after a failure.', each(({ counters }) => counters.retries))
  metrics.counterOf('holdfast_call_retries_suppressed_total', 'Repetitions and hedges that the retry budget did not allow.', each(({ counters }) => counters.retriesSuppressed))
  metrics.counterOf('holdfast_call_hedges_total', 'Outside calls that were made once more because the answer was late.', each(({ counters }) => counters.hedges))
  metrics.counterOf('holdfast_call_timeouts_total', 'Attempts that ran into their timeout.', each(({ counters }) => counters.timeouts))
}
