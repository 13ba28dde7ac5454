/**
 * @module holdfast/durable
 * What outlives a crash: once, saga, lease with fencing, outbox, inbox, retry store, and the sweep that finishes what was begun.
 */
export { backlog, type Backlog } from './backlog.ts'
export type { CallContext } from './call-context.ts'
export type { DurableKit } from './kit.ts'
export { failureVerdict, refuse, type FailureVerdict } from './failure.ts'
export { lease, LEASE_DEFAULTS, type HeldLease, type Lease, type LeaseOptions } from './lease/lease.ts'
export { once } from './once/once.ts'
export { ONCE_DEFAULTS, type LocalOnce, type Once, type OnceOutcome, type OutsideOnce, type Verified } from './once/types.ts'
export { inbox, INBOX_DEFAULTS, PROCESS_DEFAULTS, type Inbox, type InboxContext, type InboxHandler, type InboxMessage, type InboxOptions, type Processor, type ProcessOptions } from './inbox/inbox.ts'
export { outbox } from './outbox/outbox.ts'
export { OUTBOX_DEFAULTS, TOPIC_DEFAULTS, type Envelope, type Outbox, type OutboxMessage, type OutboxOptions, type RelayReport, type Send, type SendResult, type TopicOptions } from './outbox/types.ts'
export { DURABLE_MIGRATIONS } from './migrations.ts'
export { retryStore, RETRY_STORE_DEFAULTS, type RetryStore, type RetryStoreOptions, type StoredInput } from './retry-store/retry-store.ts'
export { saga, sagaPort } from './saga/saga.ts'
export { SAGA_DEFAULTS, type ConfirmationOptions, type LocalStep, type OutsideStep, type Saga, type SagaOptions, type SagaOutcome, type SagaPorts, type Step, type StepContext, type Tracked } from './saga/types.ts'
export type { CancelOutcome, ConfirmationTicket, HistoryEntry, ReplayReport, SagaHistory, TicketPort, TicketRefused } from './saga/operator-types.ts'
export { recovery, RECOVERY_DEFAULTS, type Recovery, type RecoverySources, type WorkItem } from './recovery.ts'
