/**
 * Every event and what it carries: a documented contract (docs/events.md, held together by test/docs.test.ts).
 *
 * Names are `room.fact`, past tense. Data holds names, ids, numbers and one human sentence (`reason`, `message`),
 * never payloads or secrets.
 */
import type { FailureClass } from './error-catalogue.ts'
import type { RefusalReason } from './outcome.ts'

export type BreakerState = 'closed' | 'open' | 'half-open' | 'forced-open' | 'forced-closed'
export type ComponentState = 'healthy' | 'degraded' | 'unavailable' | 'not-configured'
export type SystemState = 'healthy' | 'degraded' | 'unavailable'
export type Tier = 'required' | 'degradable' | 'info'
export type IterationOutcome = 'ok' | 'degraded' | 'failed' | 'skipped'

export interface HoldfastEvents {
  // ---- lifecycle
  'app.starting': { readonly service: string; readonly instance: string; readonly version: string; readonly store: string }
  'app.progress': { readonly message: string }
  'app.started': { readonly service: string; readonly instance: string; readonly durationMs: number }
  'app.draining': { readonly reason: string }
  'app.stopped': { readonly durationMs: number; readonly left: number }
  'listener.failed': { readonly message: string }
  // ---- guard
  'breaker.changed': { readonly dependency: string; readonly from: BreakerState; readonly to: BreakerState; readonly reason: string; readonly retryAfterMs?: number }
  'breaker.partition.changed': { readonly dependency: string; readonly partition: string; readonly from: BreakerState; readonly to: BreakerState; readonly reason: string; readonly retryAfterMs?: number }
  'breaker.shadowed': { readonly dependency: string; readonly partition?: string; readonly from: BreakerState; readonly to: BreakerState; readonly reason: string; readonly wouldHaveRefused: number; readonly retryAfterMs?: number }
  'breaker.state.lost': { readonly message: string }
  'call.failed': { readonly dependency: string; readonly operation: string; readonly attempt: number; readonly failure: FailureClass; readonly message: string; readonly retryInMs?: number; readonly error?: unknown }
  'call.refused': { readonly dependency: string; readonly operation: string; readonly reason: RefusalReason; readonly retryAfterMs?: number }
  'call.abandoned': { readonly dependency: string; readonly operation: string; readonly abandoned: number }
  'call.hedged': { readonly dependency: string; readonly operation: string; readonly afterMs: number }
  'retry.nested': { readonly outer: string; readonly inner: string; readonly operation: string; readonly product: number }
  'call.fell-back': { readonly dependency: string; readonly operation: string; readonly reason: RefusalReason; readonly source: 'value' | 'function' | 'stale'; readonly message: string; readonly ageMs?: number }
  'call.fallback-failed': { readonly dependency: string; readonly operation: string; readonly reason: RefusalReason; readonly source: 'function' | 'stale'; readonly message: string; readonly error?: unknown }
  'faults.armed': { readonly faults: string; readonly by: string; readonly reason: string; readonly until: number }
  'faults.disarmed': { readonly faults: string; readonly by: string; readonly reason: string }
  'fault.injected': { readonly faults: string; readonly operation: string; readonly kind: 'error' | 'latency' | 'hang' | 'outcome' | 'answer-lost' }
  // ---- limits
  'limit.refused': { readonly limit: string; readonly key: string; readonly retryAfterMs: number }
  // ---- health
  'health.changed': { readonly component: string; readonly tier: Tier; readonly from: ComponentState; readonly to: ComponentState; readonly reason: string }
  'system.changed': { readonly from: SystemState; readonly to: SystemState; readonly reason: string }
  // ---- store
  'store.lost': { readonly message: string }
  'store.recovered': { readonly awayMs: number }
  'store.snapshot.taken': { readonly file: string; readonly bytes: number; readonly removed: number; readonly durationMs: number }
  'store.snapshot.failed': { readonly message: string }
  'store.migrated': { readonly from: number; readonly to: number }
  // ---- durable
  'once.done': { readonly once: string; readonly key: string }
  'once.replayed': { readonly once: string; readonly key: string }
  'once.unknown': { readonly once: string; readonly key: string; readonly policy: string }
  'once.settled': { readonly once: string; readonly key: string; readonly as: string }
  'saga.started': { readonly saga: string; readonly id: string }
  'saga.resumed': { readonly saga: string; readonly id: string; readonly direction: 'forward' | 'undo' }
  'saga.step': { readonly saga: string; readonly id: string; readonly step: string; readonly phase: 'do' | 'undo'; readonly outcome: 'done' | 'failed'; readonly message?: string }
  'saga.waiting': { readonly saga: string; readonly id: string; readonly step: string; readonly summary: string; readonly runbook?: string }
  'saga.confirmed': { readonly saga: string; readonly id: string; readonly step: string; readonly actor: string }
  'saga.cancelled': { readonly saga: string; readonly id: string; readonly actor: string; readonly reason: string }
  'saga.finished': { readonly saga: string; readonly id: string; readonly outcome: 'done' | 'undone' | 'needs-human'; readonly reason: string; readonly runbook?: string }
  'lease.acquired': { readonly lease: string; readonly fence: number; readonly takenOver: boolean }
  'lease.lost': { readonly lease: string; readonly fence: number; readonly reason: string }
  'outbox.sent': { readonly lane: string; readonly onceKey: string; readonly topic: string }
  'outbox.failed': { readonly lane: string; readonly onceKey: string; readonly topic: string; readonly message: string; readonly retryInMs?: number }
  'outbox.parked': { readonly lane: string; readonly onceKey: string; readonly topic: string; readonly state: 'dead' | 'unknown'; readonly message: string }
  'outbox.paused': { readonly lane: string; readonly forMs: number }
  'inbox.received': { readonly source: string; readonly id: string; readonly lane: string }
  'inbox.duplicate': { readonly source: string; readonly id: string }
  'inbox.done': { readonly source: string; readonly id: string; readonly durationMs: number }
  'inbox.failed': { readonly source: string; readonly id: string; readonly attempt: number; readonly message: string; readonly parked: boolean; readonly error?: unknown }
  'sweep.done': { readonly leases: number; readonly keys: number; readonly inbox: number; readonly outbox: number; readonly sagas: number; readonly durationMs: number }
  // ---- control
  'flag.changed': { readonly flag: string; readonly from: boolean; readonly to: boolean; readonly by: string; readonly reason: string; readonly expiresAt?: number }
  'flag.skipped': { readonly flag: string; readonly where: string; readonly message: string }
  'flags.stale': { readonly ageMs: number; readonly message: string }
  'degradation.marked': { readonly feature: string; readonly reason: string }
  'degradation.cleared': { readonly feature: string; readonly afterMs: number }
  'ticket.requested': { readonly action: string; readonly summary: string; readonly actor: string; readonly expiresAt: number }
  'ticket.refused': { readonly action: string; readonly actor: string; readonly why: 'unknown' | 'expired' | 'used' | 'other-actor' | 'state-changed' }
  'irreversible.done': { readonly action: string; readonly summary: string; readonly actor: string }
  'command.done': { readonly command: string; readonly target: string; readonly actor: string; readonly reason: string }
  'command.refused': { readonly command: string; readonly target: string; readonly actor: string; readonly message: string }
  // ---- worker
  'worker.iteration': { readonly worker: string; readonly outcome: IterationOutcome; readonly reason?: string; readonly durationMs: number; readonly lateMs: number; readonly done: number; readonly failed: number; readonly parked: number; readonly error?: unknown }
  'worker.missed': { readonly worker: string; readonly missed: number; readonly ran: boolean }
  'worker.item.failed': { readonly worker: string; readonly item: string; readonly attempt: number; readonly failure: FailureClass; readonly message: string; readonly error?: unknown }
  'worker.item.parked': { readonly worker: string; readonly item: string; readonly attempts: number; readonly message: string; readonly runbook?: string }
  // ---- handlers (http, telegram, users' own)
  'handler.failed': { readonly handler: string; readonly failure: FailureClass; readonly message: string; readonly error?: unknown }
  'handler.refused': { readonly handler: string; readonly code: string; readonly message: string }
  // ---- observe
  'alert.raised': { readonly alert: string; readonly severity: 'page' | 'warning'; readonly summary: string; readonly runbook?: string; readonly key: string }
  'alert.recovered': { readonly alert: string; readonly summary: string; readonly key: string; readonly afterMs: number }
  /** A fact of the user's own program, by name: `payment.mismatch`. `attention` raises an alert. */
  'app.fact': { readonly fact: string; readonly severity: 'info' | 'warning' | 'attention'; readonly message: string; readonly runbook?: string; readonly key?: string; readonly data?: Readonly<Record<string, string | number | boolean>> }
}
