/**
 * Alerts: rules as data over events, each told once, repeated no sooner than the floor, and taken back when it is over.
 *
 * An alert without a way out trains people to ignore it: what can recover (a breaker, a component) recovers by its own
 * event; what cannot (a payment that matched nothing) stays until somebody acknowledges it.
 */
import { type Env, type EventBus, type EventName, type HoldfastEvent, type HoldfastEvents } from '../core/index.ts'

export interface Alert {
  /** Same key, same trouble. */
  readonly key: string
  readonly alert: string
  readonly severity: 'page' | 'warning'
  readonly summary: string
  readonly runbook?: string
  readonly state: 'raised' | 'recovered'
  /** Wall clock. */
  readonly at: number
  readonly since: number
}

export type AlertSink = (alert: Alert) => Promise<void>

type Found = { readonly key: string; readonly severity: Alert['severity']; readonly summary: string; readonly runbook?: string | undefined } | { readonly key: string; readonly recovered: true } | undefined

/** One rule: what an event of one name means for an alert. */
export interface AlertRule<Name extends EventName = EventName> {
  readonly alert: string
  readonly on: Name
  readonly judge: (data: HoldfastEvents[Name]) => Found
}

function rule<Name extends EventName>(alert: string, on: Name, judge: (data: HoldfastEvents[Name]) => Found): AlertRule {
  return { alert, on, judge } as unknown as AlertRule
}

/** The rules that every service has. */
export const ALERT_RULES: readonly AlertRule[] = Object.freeze([
  rule('breaker-open', 'breaker.changed', data =>
    data.to === 'open' ? { key: data.dependency, severity: 'page', summary: `${data.dependency} is failing: ${data.reason}` } : data.to === 'closed' ? { key: data.dependency, recovered: true } : undefined),
  rule('component-unhealthy', 'health.changed', data =>
    data.to === 'unavailable' ? { key: data.component, severity: data.tier === 'required' ? 'page' : 'warning', summary: `${data.component} is unavailable: ${data.reason}` } : data.to === 'healthy' ? { key: data.component, recovered: true } : undefined),
  rule('service-unavailable', 'system.changed', data =>
    data.to === 'unavailable' ? { key: 'service', severity: 'page', summary: `the service is unavailable: ${data.reason}` } : { key: 'service', recovered: true }),
  rule('item-parked', 'worker.item.parked', data => ({ key: `${data.worker} ${data.item}`, severity: 'page', summary: `${data.worker} gave up on ${data.item} after ${String(data.attempts)} attempts: ${data.message}`, runbook: data.runbook })),
  rule('incoming-parked', 'inbox.failed', data => (data.parked ? { key: `${data.source} ${data.id}`, severity: 'page', summary: `${data.source} ${data.id} cannot be handled: ${data.message}` } : undefined)),
  rule('outcome-unknown', 'outbox.parked', data => (data.state === 'unknown' ? { key: data.onceKey, severity: 'warning', summary: `nobody knows whether ${data.topic} ${data.onceKey} was sent: ${data.message}` } : undefined)),
  rule('saga-needs-human', 'saga.finished', data => (data.outcome === 'needs-human' ? { key: `${data.saga} ${data.id}`, severity: 'page', summary: `${data.saga} ${data.id} can neither be finished nor undone: ${data.reason}`, runbook: data.runbook } : undefined)),
  // Whoever is woken by what the faults do must read that it is on purpose. (`retry.nested` is a defect of the program and nobody's incident: its log line is enough.)
  rule('faults-armed', 'faults.armed', data => ({ key: data.faults, severity: 'warning', summary: `${data.faults} breaks calls on purpose, by ${data.by}: ${data.reason}` })),
  rule('faults-armed', 'faults.disarmed', data => ({ key: data.faults, recovered: true })),
  rule('fact', 'app.fact', data => (data.severity === 'attention' ? { key: `${data.fact} ${data.key ?? ''}`.trim(), severity: 'page', summary: data.message, runbook: data.runbook } : undefined)),
])

export const ALERT_DEFAULTS: { readonly repeatAfterMs: number; readonly activeMax: number; readonly sinkQueueMax: number; readonly sinkTimeoutMs: number } = Object.freeze({
  /** The same trouble is told again no sooner. */
  repeatAfterMs: 15 * 60_000,
  activeMax: 500,
  /** Messages waiting for one slow sink; beyond it the oldest is dropped and counted. */
  sinkQueueMax: 100,
  sinkTimeoutMs: 10_000,
})

interface Active {
  readonly alert: Alert
  toldAt: number
}

export interface Alerts {
  active(): readonly Alert[]
  /** Takes an alert off the page. False when there is none with this key. */
  acknowledge(key: string): boolean
  /** Messages that no sink took. */
  readonly dropped: number
  stop(): void
}

export function alerts(events: EventBus, env: Env, options: { readonly rules?: readonly AlertRule[]; readonly sinks?: readonly AlertSink[]; readonly runbookOf?: (alert: string, key: string) => string | undefined } = {}): Alerts {
  const active = new Map<string, Active>()
  const sinks = (options.sinks ?? []).map(sink => sinkQueue(sink, env))
  const tell = (alert: Alert): void => { for (const sink of sinks) sink.push(alert) }

  const raise = (name: string, found: Exclude<Found, undefined | { recovered: true }>, at: number): void => {
    const key = `${name}:${found.key}`
    const known = active.get(key)
    const now = env.monotonic()
    if (known !== undefined && now - known.toldAt < ALERT_DEFAULTS.repeatAfterMs) return
    const runbook = found.runbook ?? options.runbookOf?.(name, found.key)
    const alert: Alert = { key, alert: name, severity: found.severity, summary: found.summary, state: 'raised', at, since: known?.alert.since ?? at, ...(runbook === undefined ? {} : { runbook }) }
    active.delete(key)
    active.set(key, { alert, toldAt: now })
    const oldest = active.size > ALERT_DEFAULTS.activeMax ? active.keys().next().value : undefined
    if (oldest !== undefined) active.delete(oldest)
    events.emit('alert.raised', { alert: name, severity: found.severity, summary: found.summary, key, ...(runbook === undefined ? {} : { runbook }) })
    tell(alert)
  }

  const recover = (key: string, at: number): void => {
    const known = active.get(key)
    if (known === undefined) return
    active.delete(key)
    events.emit('alert.recovered', { alert: known.alert.alert, summary: known.alert.summary, key, afterMs: at - known.alert.since })
    tell({ ...known.alert, state: 'recovered', at })
  }

  const stops = (options.rules ?? ALERT_RULES).map(each =>
    events.on(each.on, (event: HoldfastEvent) => {
      const found = (each.judge as (data: unknown) => Found)(event.data)
      if (found === undefined) return
      if ('recovered' in found) recover(`${each.alert}:${found.key}`, event.at)
      else raise(each.alert, found, event.at)
    }),
  )

  return {
    active: () => [...active.values()].map(({ alert }) => alert),
    acknowledge: key => active.delete(key),
    get dropped() {
      return sinks.reduce((sum, sink) => sum + sink.dropped, 0)
    },
    stop: () => { for (const stop of stops) stop() },
  }
}

/** Hands alerts to one sink, one after the other, bounded in number and time. A sink that fails harms nothing. */
function sinkQueue(sink: AlertSink, env: Env): { push(alert: Alert): void; readonly dropped: number } {
  const queue: Alert[] = []
  let busy = false
  let dropped = 0
  const drain = async (): Promise<void> => {
    for (let alert = queue.shift(); alert !== undefined; alert = queue.shift()) {
      const late = new AbortController()
      const told = await Promise.race([
        // Asynchronous, so that a sink that throws at once is one that fails.
        (async () => sink(alert))().then(() => true, () => false),
        env.sleep(ALERT_DEFAULTS.sinkTimeoutMs, late.signal).then(() => false),
      ])
      late.abort()
      if (!told) dropped += 1
    }
    busy = false
  }
  return {
    push: alert => {
      queue.push(alert)
      if (queue.length > ALERT_DEFAULTS.sinkQueueMax) {
        queue.shift()
        dropped += 1
      }
      if (busy) return
      busy = true
      void drain()
    },
    get dropped() {
      return dropped
    },
  }
}
