/**
 * @module holdfast/limits
 * Rate limits: who asks too often is told how long to wait, exactly, and nothing is logged as an error.
 */
export { limit, LIMIT_DEFAULTS, type Limit, type LimitDecision, type LimitKit, type LimitOptions, type LimitRefusal, type LimitSnapshot, type SharedBuckets } from './limit.ts'
export type { Rate } from './rate.ts'
