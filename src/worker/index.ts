/**
 * @module holdfast/worker
 * Background loops that survive every failure, never spin, never overlap across instances, and say why they skipped.
 */
export { ITEMS_MAX, localItems, storedItems, type ItemCondition, type ItemLedger, type ItemState } from './items/ledger.ts'
export { localSchedule, storedSchedule, type ScheduleLedger, type ScheduleState } from './schedule/ledger.ts'
export { workerMigrations } from './migrations.ts'
export { WORKER_DEFAULTS, type EachResult, type HeldLeadership, type ItemContext, type LeaderLease, type Need, type NeededDependency, type WorkerContext, type WorkerBase, type WorkerDeps, type WorkerOptions, type WorkerTimes } from './options.ts'
export { worker, type Worker, type WorkerSnapshot } from './worker.ts'
