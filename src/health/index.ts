/**
 * Component and system health: answered from the last result, in microseconds, with every dependency hung.
 */
export { HYSTERESIS } from './component.ts'
export { createHealth, type CheckComplaint, type ComponentReport, type Health, type HealthCheckOptions, type HealthKit, type HealthReport, type Liveness } from './health.ts'
export { STALLED_AFTER_MS } from './heartbeat.ts'
