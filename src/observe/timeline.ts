/**
 * The last events as an operator reads them: one line each, runs of the same line counted, bounded in memory.
 *
 * Also answers `explain(correlationId)`: everything known about one piece of work, in order.
 */
import type { EventBus, EventName, HoldfastEvent } from '../core/index.ts'
import { describeEvent } from './describe.ts'
import type { Redactor } from './redact.ts'

/** One line of the timeline. */
export interface TimelineEntry {
  /** `instance:seq`: where a console resumes. */
  readonly id: string
  readonly at: number
  readonly name: EventName
  readonly text: string
  readonly tone: 'good' | 'neutral' | 'bad'
  readonly correlationId?: string
  /** How many times in a row, where the same line repeated. */
  readonly count: number
  /** When it was last repeated. */
  readonly lastAt: number
}

export const TIMELINE_DEFAULTS: { readonly entriesMax: number; readonly explainMax: number } = Object.freeze({
  /** Lines that everybody sees. */
  entriesMax: 1_000,
  /** Lines with a correlation id, the quiet ones too, for `explain`. */
  explainMax: 5_000,
})

/** Too frequent or too small for the page; `explain` has them. */
const QUIET: ReadonlySet<EventName> = new Set<EventName>(['inbox.received', 'inbox.done', 'outbox.sent', 'once.done', 'saga.started', 'saga.step', 'lease.acquired', 'sweep.done', 'call.failed'])

export interface Timeline {
  /** Oldest first. `after`: only what came later than that entry; an unknown id answers everything. */
  list(options?: { readonly after?: string; readonly limit?: number }): readonly TimelineEntry[]
  explain(correlationId: string): readonly TimelineEntry[]
  /** Called with each new line, and again with a raised count when it repeats. */
  onEntry(listener: (entry: TimelineEntry) => void): () => void
  stop(): void
}

export function timeline(events: EventBus, options: { readonly instance: string; readonly redact: Redactor }): Timeline {
  const entries: TimelineEntry[] = []
  const detailed: TimelineEntry[] = []
  const listeners = new Set<(entry: TimelineEntry) => void>()

  const stop = events.onAny(event => {
    if (isNoise(event)) return
    const entry = entryOf(event, options)
    if (entry.correlationId !== undefined) keep(detailed, entry, TIMELINE_DEFAULTS.explainMax)
    if (QUIET.has(event.name)) return
    const last = entries.at(-1)
    // The same line again and again is one line with a count; it keeps the id under which it was first seen.
    const repeated = last?.name === entry.name && last.text === entry.text
    const told = repeated ? { ...last, count: last.count + 1, lastAt: entry.at } : entry
    if (repeated) entries[entries.length - 1] = told
    else keep(entries, told, TIMELINE_DEFAULTS.entriesMax)
    tellAll(listeners, told)
  })

  return {
    list: ({ after, limit = TIMELINE_DEFAULTS.entriesMax } = {}) => {
      const index = after === undefined ? -1 : entries.findIndex(entry => entry.id === after)
      return entries.slice(index + 1).slice(-limit)
    },
    explain: correlationId => detailed.filter(entry => entry.correlationId === correlationId),
    onEntry: listener => {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
    stop,
  }
}

/** One listener that throws keeps none of the others; the first error goes to the event bus, which reports it once. */
function tellAll(listeners: ReadonlySet<(entry: TimelineEntry) => void>, entry: TimelineEntry): void {
  const thrown: unknown[] = []
  for (const listener of listeners) {
    try {
      listener(entry)
    } catch (error) {
      thrown.push(error)
    }
  }
  if (thrown.length > 0) throw thrown[0]
}

/** What says nothing: an iteration that found nothing to do. */
function isNoise(event: HoldfastEvent): boolean {
  return event.name === 'worker.iteration' && event.data.outcome === 'ok' && event.data.done + event.data.failed + event.data.parked === 0
}

function entryOf(event: HoldfastEvent, options: { readonly instance: string; readonly redact: Redactor }): TimelineEntry {
  return {
    id: `${options.instance}:${String(event.seq)}`,
    at: event.at,
    name: event.name,
    text: options.redact.text(describeEvent(event)),
    tone: toneOf(event),
    ...(event.correlationId === undefined ? {} : { correlationId: event.correlationId }),
    count: 1,
    lastAt: event.at,
  }
}

function keep(list: TimelineEntry[], entry: TimelineEntry, max: number): void {
  list.push(entry)
  if (list.length > max) list.shift()
}

function toneOf(event: HoldfastEvent): TimelineEntry['tone'] {
  switch (event.name) {
    case 'breaker.changed':
      return event.data.to === 'closed' ? 'good' : event.data.to === 'half-open' || event.data.to === 'forced-closed' ? 'neutral' : 'bad'
    case 'health.changed':
    case 'system.changed':
      return event.data.to === 'healthy' ? 'good' : 'bad'
    case 'worker.iteration':
      return event.data.outcome === 'ok' ? 'good' : event.data.outcome === 'skipped' ? 'neutral' : 'bad'
    case 'saga.finished':
      return event.data.outcome === 'done' ? 'good' : 'bad'
    case 'flag.changed':
      return event.data.to ? 'good' : 'bad'
    case 'app.fact':
      return event.data.severity === 'info' ? 'neutral' : 'bad'
    case 'store.recovered':
    case 'alert.recovered':
    case 'degradation.cleared':
    case 'app.started':
      return 'good'
    case 'store.lost':
    case 'store.snapshot.failed':
    case 'breaker.state.lost':
    case 'call.failed':
    case 'call.abandoned':
    case 'call.fallback-failed':
    case 'faults.armed':
    case 'inbox.failed':
    case 'outbox.failed':
    case 'outbox.parked':
    case 'once.unknown':
    case 'lease.lost':
    case 'worker.item.failed':
    case 'worker.item.parked':
    case 'handler.failed':
    case 'alert.raised':
    case 'degradation.marked':
    case 'listener.failed':
      return 'bad'
    default:
      return 'neutral'
  }
}
