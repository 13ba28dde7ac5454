/**
 * Counts events as metrics. Labels are names of definitions, never ids: their number is bounded by the program.
 */
import type { EventBus } from '../core/index.ts'
import type { Metrics } from './metrics.ts'

/** Returns the function that stops counting. */
export function countEvents(events: EventBus, metrics: Metrics): () => void {
  const count = (name: string, help: string): { add(labels: Readonly<Record<string, string>>, by?: number): void } => metrics.counter(`holdfast_${name}_total`, help)
  const transitions = count('breaker_transitions', 'Changes of a breaker.')
  const failures = count('call_failures', 'Attempts of outside calls that failed.')
  const refusals = count('call_refusals', 'Outside calls that were not made.')
  const partitions = count('breaker_partition_transitions', 'Changes of the breakers of partitions.')
  const fallbackFailures = count('call_fallback_failures', 'Fallbacks that gave no answer.')
  const fallbacks = count('call_fallbacks', 'Outside calls that were answered by a fallback.')
  const faults = count('faults_injected', 'Faults that were injected on purpose.')
  const limited = count('limit_refusals', 'Requests refused by a rate limit.')
  const onces = count('once_outcomes', 'Effects by what became of them.')
  const sagas = count('saga_outcomes', 'Sagas by how they ended.')
  const outgoing = count('outbox_messages', 'Outgoing messages by what became of them.')
  const incoming = count('inbox_messages', 'Incoming messages by what became of them.')
  const iterations = count('worker_iterations', 'Iterations of workers by outcome.')
  const parked = count('worker_items_parked', 'Items that wait for a person.')
  const handlers = count('handler_failures', 'Handlers that failed.')
  const flips = count('flag_changes', 'Switches that were flipped.')
  const alerts = count('alerts', 'Alerts raised.')
  const facts = count('facts', 'Facts of the program.')
  const lost = count('store_losses', 'Times the store could not be reached.')
  const seconds = metrics.histogram('holdfast_worker_iteration_seconds', 'Duration of worker iterations.')
  const handling = metrics.histogram('holdfast_inbox_handling_seconds', 'Time from taking an incoming message up to its end.')
  const stops = [
    events.on('breaker.changed', ({ data }) => { transitions.add({ dependency: data.dependency, to: data.to }) }),
    events.on('call.failed', ({ data }) => { failures.add({ dependency: data.dependency, operation: data.operation, failure: data.failure }) }),
    events.on('call.refused', ({ data }) => { refusals.add({ dependency: data.dependency, reason: data.reason }) }),
    events.on('breaker.partition.changed', ({ data }) => { partitions.add({ dependency: data.dependency, to: data.to }) }),
    events.on('call.fallback-failed', ({ data }) => { fallbackFailures.add({ dependency: data.dependency, operation: data.operation, source: data.source }) }),
    events.on('call.fell-back', ({ data }) => { fallbacks.add({ dependency: data.dependency, operation: data.operation, source: data.source }) }),
    events.on('fault.injected', ({ data }) => { faults.add({ faults: data.faults, kind: data.kind }) }),
    events.on('limit.refused', ({ data }) => { limited.add({ limit: data.limit }) }),
    events.on('once.done', ({ data }) => { onces.add({ once: data.once, outcome: 'done' }) }),
    events.on('once.replayed', ({ data }) => { onces.add({ once: data.once, outcome: 'replayed' }) }),
    events.on('once.unknown', ({ data }) => { onces.add({ once: data.once, outcome: 'unknown' }) }),
    events.on('saga.finished', ({ data }) => { sagas.add({ saga: data.saga, outcome: data.outcome }) }),
    events.on('outbox.sent', ({ data }) => { outgoing.add({ topic: data.topic, outcome: 'sent' }) }),
    events.on('outbox.failed', ({ data }) => { outgoing.add({ topic: data.topic, outcome: 'failed' }) }),
    events.on('outbox.parked', ({ data }) => { outgoing.add({ topic: data.topic, outcome: data.state }) }),
    events.on('inbox.received', ({ data }) => { incoming.add({ source: data.source, outcome: 'received' }) }),
    events.on('inbox.duplicate', ({ data }) => { incoming.add({ source: data.source, outcome: 'duplicate' }) }),
    events.on('inbox.failed', ({ data }) => { incoming.add({ source: data.source, outcome: data.parked ? 'parked' : 'failed' }) }),
    events.on('inbox.done', ({ data }) => {
      incoming.add({ source: data.source, outcome: 'done' })
      handling.observe({ source: data.source }, data.durationMs / 1_000)
    }),
    events.on('worker.iteration', ({ data }) => {
      iterations.add({ worker: data.worker, outcome: data.outcome })
      if (data.outcome !== 'skipped') seconds.observe({ worker: data.worker }, data.durationMs / 1_000)
    }),
    events.on('worker.item.parked', ({ data }) => { parked.add({ worker: data.worker }) }),
    events.on('handler.failed', ({ data }) => { handlers.add({ handler: data.handler, failure: data.failure }) }),
    events.on('flag.changed', ({ data }) => { flips.add({ flag: data.flag, to: data.to ? 'on' : 'off' }) }),
    events.on('alert.raised', ({ data }) => { alerts.add({ alert: data.alert, severity: data.severity }) }),
    events.on('app.fact', ({ data }) => { facts.add({ fact: data.fact, severity: data.severity }) }),
    events.on('store.lost', () => { lost.add({}) }),
  ]
  return () => { for (const stop of stops) stop() }
}
