/**
 * Wiring and lifecycle: rooms become one service that starts, drains and stops, with one page of facts for operators.
 */
export { createHoldfast } from './create.ts'
export type { CommandImpact, CommandRequest, CommandResult, DurableHoldfast, Holdfast, HoldfastOptions, StoreOptions } from './holdfast.ts'
export type { DoctorCheck, DoctorReport } from '../deploy/index.ts'
export type { NamedRunbook } from './runbooks.ts'
export type { AuditRow } from '../control/index.ts'
export type { ConfirmationTicket, HistoryEntry, SagaHistory } from '../durable/index.ts'
export type { AlertStatus, ComponentStatus, DependencyStatus, FaultsStatus, FlagStatus, QueueStatus, Status, Verdict, WorkerStatus, WorkItemStatus } from './status.ts'
export type { Explanation } from '../guard/index.ts'
export type { TimelineEntry } from '../observe/index.ts'
