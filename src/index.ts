/**
 * @module holdfast
 * Production hardening for TypeScript services and bots, over one durable state.
 *
 * ```ts
 * import { createHoldfast } from 'holdfast'
 * import { postgres } from 'holdfast/postgres'
 *
 * const hold = createHoldfast({ service: 'vpn-bot', store: postgres(process.env.DATABASE_URL) })
 * const flags = hold.flags({ payments: { default: true, whenOff: 'Customers are told that payments are paused' } })
 * await hold.start()
 * ```
 */
export { createHoldfast } from './app/index.ts'
export type {
  AlertStatus, AuditRow, CommandRequest, CommandResult, ComponentStatus, DependencyStatus, DurableHoldfast, FaultsStatus, FlagStatus, Holdfast, HoldfastOptions, NamedRunbook, QueueStatus, Status, StoreOptions, TimelineEntry, Verdict, WorkerStatus, WorkItemStatus,
} from './app/index.ts'
export { type Actor, type Duration, type Effect, type ErrorCode, HoldfastError, isHoldfastError, type Json, type Outcome, type Refusal, type Schema } from './core/index.ts'
export type { Flag, FlagOptions, Flags, Irreversible, IrreversibleOptions, Ticket } from './control/index.ts'
export { refuse, type Inbox, type InboxMessage, type Once, type OnceOutcome, type Outbox, type OutboxMessage, type RetryStore, type Saga, type SagaOutcome, type SendResult } from './durable/index.ts'
export { HttpStatusError, type Attempt, type Dependency, type DependencyOptions, type Explanation, type FaultPlan } from './guard/index.ts'
export type { Health } from './health/index.ts'
export type { Limit, LimitOptions } from './limits/index.ts'
export type { Alert, Logger, Runbook } from './observe/index.ts'
export type { Database, Durability, MemoryTx, Migration, SqlTx, Store } from './store/index.ts'
export type { Need, Worker, WorkerOptions } from './worker/index.ts'
