/**
 * Makes the operators' read model from the rooms: what each knows of itself, in one page.
 */
import type { FlagBoard } from '../control/index.ts'
import type { Env } from '../core/index.ts'
import type { Dependency, DependencySnapshot, FaultPlan } from '../guard/index.ts'
import type { Health } from '../health/index.ts'
import type { Alerts } from '../observe/index.ts'
import type { Durability } from '../store/index.ts'
import type { Worker } from '../worker/index.ts'
import type { AlertStatus, ComponentStatus, DependencyStatus, FaultsStatus, FlagStatus, QueueStatus, Status, WorkerStatus, WorkItemStatus } from './status.ts'
import { verdictOf } from './verdict.ts'

export interface StatusSources {
  readonly service: string
  readonly instance: string
  readonly version: string
  readonly env: Env
  readonly startedAt: number
  readonly phase: () => Status['phase']
  readonly store: { readonly name: string; readonly durability: Durability } | undefined
  readonly health: Health
  readonly board: FlagBoard
  readonly dependencies: () => readonly Dependency[]
  readonly faultPlans: () => readonly FaultPlan[]
  readonly workers: () => readonly Worker[]
  readonly queues: () => readonly QueueStatus[]
  readonly alerts: Alerts
}

export const STORE_COMPONENT = 'store'
/** Partitions that are named on the page. */
const PARTITIONS_SHOWN = 5

export function statusOf(sources: StatusSources, work: readonly WorkItemStatus[]): Status {
  const report = sources.health.report()
  const phase = sources.phase()
  const components: readonly ComponentStatus[] = report.components.map(({ name, tier, state, reason, since, responseMs }) => ({ name, tier, state, reason, since, ...(responseMs === undefined ? {} : { responseMs }) }))
  const dependencies = sources.dependencies().map(dependencyStatus)
  const faults = sources.faultPlans().map(faultsStatus)
  const flags = sources.board.status().map(flagStatus)
  const at = sources.env.now()
  return {
    service: sources.service,
    instance: sources.instance,
    version: sources.version,
    at,
    startedAt: sources.startedAt,
    phase,
    verdict: verdictOf({ phase, state: report.state, since: report.since, at, components, dependencies, faults, flags, work }),
    store: {
      name: sources.store?.name ?? 'none',
      state: sources.store === undefined ? 'not-configured' : (sources.health.component(STORE_COMPONENT)?.state ?? 'healthy'),
      outlives: sources.store === undefined ? 'nothing is kept' : outlives(sources.store.durability),
    },
    components,
    dependencies,
    faults,
    workers: sources.workers().map(workerStatus),
    flags,
    queues: sources.queues(),
    work,
    alerts: sources.alerts.active().map(({ key, alert, severity, summary, since, runbook }): AlertStatus => ({ key, alert, severity, summary, since, ...(runbook === undefined ? {} : { runbook }) })),
  }
}

/** What a commit outlives, in words: a person must not have to guess. */
export function outlives(durability: Durability): string {
  const kept = [durability.processCrash ? 'a crash of the process' : '', durability.powerLoss ? 'a loss of power' : ''].filter(part => part !== '')
  const what = kept.length === 0 ? 'nothing: it is gone with the process' : `outlives ${kept.join(' and ')}${durability.powerLoss ? '' : ', not a loss of power'}`
  return `${what}; ${durability.severalInstances ? 'several instances' : 'one instance'}`
}

function dependencyStatus(dependency: Dependency): DependencyStatus {
  const { name, tier, runbook, state, since, retryAfterMs, ramp, shadow, partitions, forced, limit, inFlight, queued, abandoned, counters, lastError, latency } = dependency.snapshot()
  return {
    name, tier, runbook, breaker: state, since, limit, inFlight, queued, abandoned, ...counters,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    ...(ramp === undefined ? {} : { ramp }),
    ...(shadow === undefined ? {} : { shadow }),
    ...(partitions === undefined ? {} : { partitions: partitionsStatus(partitions) }),
    ...(latency === undefined ? {} : { p50Ms: Math.round(latency.p50Ms), p95Ms: Math.round(latency.p95Ms) }),
    ...(lastError === undefined ? {} : { lastError }),
    ...(forced === undefined ? {} : { forced: { by: forced.by, reason: forced.reason, ...(forced.until === undefined ? {} : { until: forced.until }) } }),
  }
}

function partitionsStatus({ size, notClosed, partitions }: NonNullable<DependencySnapshot['partitions']>): NonNullable<DependencyStatus['partitions']> {
  return { size, notClosed, first: partitions.slice(0, PARTITIONS_SHOWN).map(({ partition, state, retryAfterMs }) => ({ partition, state, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })) }
}

function faultsStatus(plan: FaultPlan): FaultsStatus {
  const { name, state, active, production, armed, injected, whenFailed } = plan.snapshot()
  return {
    name, state, active, production, injected: Object.values(injected).reduce((sum, count) => sum + count, 0),
    ...(armed === undefined ? {} : { armed }),
    ...(whenFailed === undefined ? {} : { trouble: whenFailed }),
  }
}

function workerStatus(worker: Worker): WorkerStatus {
  const { state, heartbeatAt: _heartbeatAt, pausedBecause, lastReason, ...rest } = worker.snapshot()
  const reason = pausedBecause ?? lastReason
  // For a person, skipping is an idle worker whose last outcome says so.
  return { ...rest, state: state === 'skipping' ? 'idle' : state, ...(reason === undefined ? {} : { lastReason: reason }) }
}

function flagStatus({ skips: _skips, parent: _parent, ...flag }: ReturnType<FlagBoard['status']>[number]): FlagStatus {
  return flag
}
