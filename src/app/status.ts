/**
 * The read model that operators see: one page of facts, the same for console, CLI and Telegram.
 *
 * Plain JSON by construction. Nothing here is ever a payload or a secret.
 */
import type { BreakerState, ComponentState, IterationOutcome, SystemState, Tier } from '../core/index.ts'

export interface Status {
  readonly service: string
  readonly instance: string
  readonly version: string
  /** Wall clock of the instance when this was made; the console shows the age of what it shows. */
  readonly at: number
  readonly startedAt: number
  readonly phase: 'starting' | 'ready' | 'draining' | 'stopped'
  readonly verdict: Verdict
  readonly store: { readonly name: string; readonly state: ComponentState; readonly outlives: string }
  readonly components: readonly ComponentStatus[]
  readonly dependencies: readonly DependencyStatus[]
  /** Faults on purpose, by plan. */
  readonly faults: readonly FaultsStatus[]
  readonly workers: readonly WorkerStatus[]
  readonly flags: readonly FlagStatus[]
  /** Outbox topics and inbox sources in which something waits. */
  readonly queues: readonly QueueStatus[]
  readonly work: readonly WorkItemStatus[]
  readonly alerts: readonly AlertStatus[]
}

/** One sentence that answers "is it broken, what does that mean for customers, is anything lost". */
export interface Verdict {
  readonly state: SystemState
  readonly sentence: string
  readonly since: number
}

export interface ComponentStatus {
  readonly name: string
  readonly tier: Tier
  readonly state: ComponentState
  readonly reason: string
  readonly since: number
  readonly responseMs?: number
}

export interface DependencyStatus {
  readonly name: string
  readonly tier: Tier
  readonly breaker: BreakerState
  readonly since: number
  readonly retryAfterMs?: number
  /** The share of calls that pass while admission grows after closing; absent when all do. */
  readonly ramp?: number
  /** What a breaker that only watches would be doing. */
  readonly shadow?: { readonly state: BreakerState; readonly since: number; readonly wouldHaveRefused: number }
  /** Breakers by host, tenant or shard. `first`: at most five of those that are not closed, the least recently used first. */
  readonly partitions?: { readonly size: number; readonly notClosed: number; readonly first: readonly { readonly partition: string; readonly state: BreakerState; readonly retryAfterMs?: number }[] }
  /** Calls at once, now; under an adaptive limit it moves. */
  readonly limit: number
  readonly inFlight: number
  readonly queued: number
  readonly abandoned: number
  /** These count since the start of this instance. */
  readonly calls: number
  readonly failures: number
  readonly refusals: number
  readonly retries: number
  /** Repetitions and hedges that the retry budget did not allow. */
  readonly retriesSuppressed: number
  readonly hedges: number
  readonly timeouts: number
  readonly p50Ms?: number
  readonly p95Ms?: number
  readonly lastError?: { readonly message: string; readonly at: number }
  readonly forced?: { readonly by: string; readonly reason: string; readonly until?: number }
  readonly runbook: string
}

export interface FaultsStatus {
  readonly name: string
  /** `on`: outside production; `armed`: until `armed.until`; `off`: until somebody arms it. */
  readonly state: 'on' | 'armed' | 'off'
  /** Whether calls may get a fault now: on or armed, and its own switch agrees. */
  readonly active: boolean
  readonly production: boolean
  /** Faults since the start of this instance. */
  readonly injected: number
  readonly armed?: { readonly by: string; readonly reason: string; readonly until: number }
  /** Why its own switch could not be asked. */
  readonly trouble?: string
}

export interface WorkerStatus {
  readonly name: string
  readonly state: 'idle' | 'running' | 'paused' | 'stopped'
  readonly lastOutcome?: IterationOutcome
  readonly lastReason?: string
  readonly lastRunAt?: number
  readonly lastSuccessAt?: number
  readonly nextRunAt?: number
  /** When it runs: `every 5m`, `cron 0 3 * * * Europe/Berlin`. */
  readonly times: string
  /** How late the last iteration began, or how overdue the next one is. */
  readonly lagMs?: number
  readonly consecutiveFailures: number
  readonly leader?: boolean
  readonly parked: number
  readonly runbook?: string
}

/** As last read; both figures are "at least" beyond 10,000 messages. */
export interface QueueStatus {
  readonly kind: 'outbox' | 'inbox'
  /** Of the topic or source. */
  readonly name: string
  /** Not sent or handled yet. */
  readonly waiting: number
  /** Age of the oldest of them. */
  readonly oldestMs: number
}

export interface FlagStatus {
  readonly name: string
  readonly on: boolean
  /** Why it has this value: `default`, `pinned by FEATURE_X_ENABLED`, `console:alice: panel is down`, `parent workers is off`. */
  readonly because: string
  readonly whenOff: string
  readonly pinned: boolean
  readonly override?: { readonly on: boolean; readonly by: string; readonly reason: string; readonly at: number; readonly expiresAt?: number }
  readonly runbook?: string
}

/** Something that was begun and needs a person, or is simply waiting long. */
export interface WorkItemStatus {
  readonly kind: 'saga' | 'outbox' | 'inbox' | 'once' | 'worker-item'
  readonly name: string
  readonly id: string
  readonly state: string
  readonly since: number
  readonly reason: string
  readonly runbook?: string
  readonly actions: readonly ('retry' | 'discard')[]
}

export interface AlertStatus {
  readonly key: string
  readonly alert: string
  readonly severity: 'page' | 'warning'
  readonly summary: string
  readonly since: number
  readonly runbook?: string
}
