/**
 * Which event becomes which log line: the escalation table, as data.
 *
 * Normal operation writes neither warning nor error. What repeats is written once per interval with a count.
 * `stack: true` is for crashes and defects only: an expected failure without its stack is read, with it it is not.
 */
import { type ErrorCode, type EventName, type FailureClass, type HoldfastEvent, type HoldfastEvents, isHoldfastError } from '../core/index.ts'
import type { LogLevel } from './logger.ts'

export interface LogRule {
  readonly level: LogLevel | 'none'
  readonly stack?: boolean
  /** Same key within `THROTTLE_MS`: counted, not written. */
  readonly throttle?: string
}

export type Escalation = { readonly [Name in EventName]?: (data: HoldfastEvents[Name]) => LogRule }

/** How long a repeated line is only counted. */
export const THROTTLE_MS = 60_000

const info: LogRule = { level: 'info' }
const warn: LogRule = { level: 'warn' }
const error: LogRule = { level: 'error' }
const debug: LogRule = { level: 'debug' }

/** A failure by whose fault it is: ours is an error with its stack, theirs a warning without, the user's no trouble at all. */
const FAILURES: Readonly<Record<FailureClass, LogRule>> = {
  dependency_error: warn,
  infra_error: warn,
  domain_error: error,
  user_error: info,
  defect: { level: 'error', stack: true },
}

/** What a stranger sends who need not know any secret. */
const BAD_PAYLOADS: ReadonlySet<string> = new Set<ErrorCode>(['HF_BODY_INVALID', 'HF_SIGNATURE_INVALID', 'HF_BODY_TOO_LARGE', 'HF_UNAUTHENTICATED', 'HF_IDEMPOTENCY_KEY_INVALID'])

/** The table that is used unless the program overrides entries of it. */
export const ESCALATION: Required<Escalation> = Object.freeze<Required<Escalation>>({
  'app.starting': () => info,
  'app.progress': () => info,
  'app.started': () => info,
  'app.draining': () => info,
  'app.stopped': data => (data.left === 0 ? info : warn),
  'listener.failed': () => error,
  'breaker.changed': data => (data.to === 'open' || data.to === 'forced-open' ? warn : info),
  'breaker.partition.changed': data => ({ level: data.to === 'open' ? 'warn' : 'info', throttle: `${data.dependency} partition ${data.to}` }),
  'breaker.shadowed': () => info,
  'breaker.state.lost': () => warn,
  'call.failed': data => ({ ...FAILURES[data.failure], ...(data.failure === 'defect' ? {} : { throttle: `${data.dependency} ${data.operation}` }) }),
  'call.refused': data => ({ level: 'info', throttle: `${data.dependency} ${data.reason}` }),
  'call.abandoned': data => ({ level: 'warn', throttle: data.dependency }),
  'call.hedged': () => debug,
  'retry.nested': () => warn,
  'call.fell-back': data => ({ level: 'info', throttle: `${data.dependency} ${data.operation} ${data.reason}` }),
  'call.fallback-failed': data => ({ level: 'warn', throttle: `${data.dependency} ${data.operation} ${data.source}` }),
  'faults.armed': () => warn,
  'faults.disarmed': () => info,
  'fault.injected': data => ({ level: 'info', throttle: `${data.faults} ${data.operation} ${data.kind}` }),
  'limit.refused': data => ({ level: 'info', throttle: `${data.limit} ${data.key}` }),
  'health.changed': data => (data.to === 'healthy' || data.to === 'not-configured' ? info : warn),
  'system.changed': data => (data.to === 'healthy' ? info : warn),
  'store.lost': () => warn,
  'store.recovered': () => info,
  'store.snapshot.taken': () => info,
  'store.snapshot.failed': () => warn,
  'store.migrated': () => info,
  'once.done': () => debug,
  'once.replayed': () => info,
  'once.unknown': () => warn,
  'once.settled': () => info,
  'saga.started': () => debug,
  'saga.resumed': () => info,
  'saga.step': data => (data.outcome === 'failed' ? warn : debug),
  'saga.waiting': () => warn,
  'saga.confirmed': () => info,
  'saga.cancelled': () => info,
  'saga.finished': data => (data.outcome === 'done' ? info : data.outcome === 'undone' ? warn : error),
  'lease.acquired': () => debug,
  'lease.lost': () => warn,
  'outbox.sent': () => debug,
  'outbox.failed': data => ({ level: 'warn', throttle: `${data.lane} ${data.topic}` }),
  // A customer who blocked the bot is no fault of anybody: it is kept as a fact, the work list shows what needs a person.
  'outbox.parked': data => (data.state === 'unknown' ? warn : info),
  'outbox.paused': () => info,
  'inbox.received': () => debug,
  'inbox.duplicate': () => info,
  'inbox.done': () => debug,
  'inbox.failed': data => (data.parked ? { level: 'error', stack: true } : warn),
  'sweep.done': data => (data.sagas + data.inbox + data.outbox + data.leases > 0 ? info : debug),
  'flag.changed': () => info,
  'flag.skipped': data => ({ level: 'info', throttle: `${data.flag} ${data.where}` }),
  'flags.stale': () => ({ level: 'warn', throttle: 'flags' }),
  'degradation.marked': () => warn,
  'degradation.cleared': () => info,
  'ticket.requested': () => info,
  'ticket.refused': () => info,
  'irreversible.done': () => info,
  'command.done': () => info,
  'command.refused': () => info,
  'worker.iteration': data =>
    data.outcome === 'skipped' ? { level: 'info', throttle: `${data.worker} ${data.reason ?? ''}` }
    : data.outcome === 'failed' ? FAILURES[isHoldfastError(data.error) ? data.error.failure : 'defect']
    : data.outcome === 'degraded' ? warn : debug,
  'worker.missed': () => warn,
  'worker.item.failed': data => ({ ...FAILURES[data.failure], ...(data.failure === 'dependency_error' ? { throttle: data.worker } : {}) }),
  'worker.item.parked': () => error,
  'handler.failed': data => FAILURES[data.failure],
  // Who sends rubbish chooses how often, and under which names: one line a minute says that it goes on.
  'handler.refused': data => ({ level: 'info', throttle: BAD_PAYLOADS.has(data.code) ? data.code : `${data.handler} ${data.code}` }),
  // What an alert is about has its own line; the alert itself reaches people by its sinks and the console.
  'alert.raised': () => warn,
  'alert.recovered': () => info,
  'app.fact': data => (data.severity === 'info' ? info : warn),
})

/** The rule for one event, the program's own table first. */
export function ruleFor(event: HoldfastEvent, overrides: Escalation): LogRule {
  const rule = (overrides[event.name] ?? ESCALATION[event.name]) as (data: unknown) => LogRule
  return rule(event.data)
}
