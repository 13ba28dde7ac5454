/**
 * @module holdfast/observe
 * Turns events into what people and machines look at: log, metrics, timeline, alerts. Nobody announces anything to this
 * room: it listens.
 */
export { ALERT_DEFAULTS, ALERT_RULES, alerts, type Alert, type AlertRule, type Alerts, type AlertSink } from './alerts.ts'
export { describeEvent } from './describe.ts'
export { ESCALATION, type Escalation, type LogRule } from './escalation.ts'
export { logEvents } from './event-log.ts'
export { countEvents } from './event-metrics.ts'
export { type Logger, type LogLevel, pinoLogger, redacting, SILENT } from './logger.ts'
export { type Labels, metrics, type Metrics } from './metrics.ts'
export { redactor, type Redactor } from './redact.ts'
export type { Runbook } from './runbooks.ts'
export { type Timeline, timeline, type TimelineEntry } from './timeline.ts'
