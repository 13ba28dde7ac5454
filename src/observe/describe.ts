/**
 * Each event as one sentence for people: the log's message, the timeline's text.
 */
import { humanDuration, type EventName, type HoldfastEvent, type HoldfastEvents } from '../core/index.ts'

type Sentences = { readonly [Name in EventName]: (data: HoldfastEvents[Name]) => string }

const inAWhile = (ms: number | undefined): string => (ms === undefined ? '' : `, again in ${humanDuration(ms)}`)

const FALLBACKS = { value: 'a fixed value', function: 'its fallback function', stale: 'the last good answer' } as const

const SENTENCES: Sentences = {
  'app.starting': data => `${data.service} ${data.version} is starting on ${data.store}`,
  'app.progress': data => data.message,
  'app.started': data => `${data.service} is ready after ${humanDuration(data.durationMs)}`,
  'app.draining': data => `draining: ${data.reason}`,
  'app.stopped': data => (data.left === 0 ? `stopped after ${humanDuration(data.durationMs)}` : `stopped after ${humanDuration(data.durationMs)} with ${String(data.left)} pieces of work left to the next start`),
  'listener.failed': data => `an event listener threw: ${data.message}`,
  'breaker.changed': data => `${data.dependency}: breaker ${data.from} -> ${data.to}: ${data.reason}${inAWhile(data.retryAfterMs)}`,
  'breaker.partition.changed': data => `${data.dependency} (${data.partition}): breaker ${data.from} -> ${data.to}: ${data.reason}${inAWhile(data.retryAfterMs)}`,
  'breaker.shadowed': data => `${data.dependency}${data.partition === undefined ? '' : ` (${data.partition})`}: breaker in shadow would have gone ${data.from} -> ${data.to}: ${data.reason}`,
  'breaker.state.lost': data => data.message,
  'call.failed': data => `${data.dependency} ${data.operation} failed (attempt ${String(data.attempt)}): ${data.message}${inAWhile(data.retryInMs)}`,
  'call.refused': data => `${data.dependency} ${data.operation} was not called: ${data.reason}${inAWhile(data.retryAfterMs)}`,
  'call.abandoned': data => `${data.dependency} ${data.operation} runs on after its timeout (${String(data.abandoned)} such calls)`,
  'call.hedged': data => `${data.dependency} ${data.operation} was late after ${humanDuration(data.afterMs)} and is called once more`,
  'retry.nested': data => `${data.inner} ${data.operation} retries inside ${data.outer}, which retries too: up to ${String(data.product)} attempts for one call`,
  'call.fell-back': data => `${data.dependency} ${data.operation} fell back to ${FALLBACKS[data.source]}${data.ageMs === undefined ? '' : ` (${humanDuration(data.ageMs)} old)`}: ${data.message}`,
  'call.fallback-failed': data => `${data.dependency} ${data.operation} could not fall back to ${FALLBACKS[data.source]}: ${data.message}`,
  'faults.armed': data => `fault injection ${data.faults} is on, by ${data.by}: ${data.reason}`,
  'faults.disarmed': data => `fault injection ${data.faults} is off, by ${data.by}: ${data.reason}`,
  'fault.injected': data => `fault injection ${data.faults} gave ${data.operation} a fault: ${data.kind}`,
  'limit.refused': data => `limit ${data.limit}: ${data.key} has to wait ${humanDuration(data.retryAfterMs)}`,
  'health.changed': data => `${data.component} is ${data.to} (was ${data.from}): ${data.reason}`,
  'system.changed': data => `the service is ${data.to} (was ${data.from}): ${data.reason}`,
  'store.lost': data => `the store cannot be reached: ${data.message}`,
  'store.recovered': data => `the store is back after ${humanDuration(data.awayMs)}`,
  'store.snapshot.taken': data => `a snapshot was taken in ${humanDuration(data.durationMs)}: ${data.file} (${String(Math.ceil(data.bytes / 1_000))} kB)`,
  'store.snapshot.failed': data => `no snapshot could be taken: ${data.message}`,
  'store.migrated': data => `the schema went from version ${String(data.from)} to ${String(data.to)}`,
  'once.done': data => `${data.once} done for ${data.key}`,
  'once.replayed': data => `${data.once} was already done for ${data.key}`,
  'once.unknown': data => `${data.once} for ${data.key}: nobody knows whether it happened; policy ${data.policy}`,
  'once.settled': data => `${data.once} for ${data.key} is settled: ${data.as}`,
  'saga.started': data => `${data.saga} ${data.id} begun`,
  'saga.resumed': data => `${data.saga} ${data.id} is taken up again (${data.direction})`,
  'saga.step': data => `${data.saga} ${data.id}: ${data.phase === 'undo' ? 'undo of ' : ''}${data.step} ${data.outcome}${data.message === undefined ? '' : `: ${data.message}`}`,
  'saga.waiting': data => `${data.saga} ${data.id} waits for confirmation: ${data.summary}`,
  'saga.confirmed': data => `${data.saga} ${data.id}: ${data.step} is confirmed by ${data.actor}`,
  'saga.cancelled': data => `${data.saga} ${data.id} is cancelled by ${data.actor}: ${data.reason}`,
  'saga.finished': data => `${data.saga} ${data.id} is ${data.outcome}${data.reason === '' ? '' : `: ${data.reason}`}`,
  'lease.acquired': data => `lease ${data.lease} ${data.takenOver ? 'taken over' : 'acquired'} (fence ${String(data.fence)})`,
  'lease.lost': data => `lease ${data.lease} lost (fence ${String(data.fence)}): ${data.reason}`,
  'outbox.sent': data => `sent ${data.topic} ${data.onceKey}`,
  'outbox.failed': data => `sending ${data.topic} ${data.onceKey} failed: ${data.message}${inAWhile(data.retryInMs)}`,
  'outbox.parked': data => `${data.topic} ${data.onceKey} is ${data.state}: ${data.message}`,
  'outbox.paused': data => `outgoing lane ${data.lane} pauses for ${humanDuration(data.forMs)}`,
  'inbox.received': data => `${data.source} ${data.id} received`,
  'inbox.duplicate': data => `${data.source} ${data.id} came again`,
  'inbox.done': data => `${data.source} ${data.id} handled in ${humanDuration(data.durationMs)}`,
  'inbox.failed': data => `${data.source} ${data.id} failed (attempt ${String(data.attempt)})${data.parked ? ' and is parked' : ''}: ${data.message}`,
  'sweep.done': data => `recovery: ${String(data.sagas)} sagas, ${String(data.inbox)} incoming, ${String(data.outbox)} outgoing, ${String(data.leases)} leases, ${String(data.keys)} old keys`,
  'flag.changed': data => `${data.flag} is ${data.to ? 'on' : 'off'}, by ${data.by}: ${data.reason}`,
  'flag.skipped': data => `${data.where} skipped: ${data.message}`,
  'flags.stale': data => data.message,
  'degradation.marked': data => `${data.feature} is degraded: ${data.reason}`,
  'degradation.cleared': data => `${data.feature} is whole again after ${humanDuration(data.afterMs)}`,
  'ticket.requested': data => `${data.actor} asked to: ${data.summary}`,
  'ticket.refused': data => `${data.actor} could not confirm ${data.action}: ticket ${data.why}`,
  'irreversible.done': data => `${data.actor} confirmed: ${data.summary}`,
  'command.done': data => `${data.actor}: ${data.command} ${data.target}: ${data.reason}`,
  'command.refused': data => `${data.actor}: ${data.command} ${data.target} refused: ${data.message}`,
  'worker.iteration': data => `${data.worker}: ${data.outcome}${data.reason === undefined ? '' : `: ${data.reason}`}${data.done + data.failed + data.parked === 0 ? '' : ` (${String(data.done)} done, ${String(data.failed)} failed, ${String(data.parked)} parked)`}`,
  'worker.missed': data => `${data.worker}: ${String(data.missed)} due ${data.missed === 1 ? 'time' : 'times'} missed, ${data.ran ? 'run once for all of them' : 'left out'}`,
  'worker.item.failed': data => `${data.worker}: ${data.item} failed (attempt ${String(data.attempt)}): ${data.message}`,
  'worker.item.parked': data => `${data.worker}: ${data.item} is parked after ${String(data.attempts)} attempts: ${data.message}`,
  'handler.failed': data => `${data.handler} failed: ${data.message}`,
  'handler.refused': data => `${data.handler} refused: ${data.message}`,
  'alert.raised': data => `ALERT ${data.alert}: ${data.summary}`,
  'alert.recovered': data => `recovered ${data.alert}: ${data.summary} (after ${humanDuration(data.afterMs)})`,
  'app.fact': data => data.message,
}

export function describeEvent(event: HoldfastEvent): string {
  return (SENTENCES[event.name] as (data: unknown) => string)(event.data)
}
