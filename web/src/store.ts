/**
 * What the page knows: filled by the live stream, read by the parts. Signals, so that only what changed is drawn again.
 *
 * The age of the facts is measured by this browser's own steady clock, from the moment they arrived; nothing is shown as
 * fresh because a connection merely exists.
 */
import { computed, signal } from '@preact/signals'
import type { DemoFault, Status, StreamEvents, TimelineEntry } from '../../src/operate/api.ts'

/** Facts older than this are not called live. The server confirms them every second. */
const STALE_AFTER_MS = 4_000
const ENTRIES_MAX = 200
const CONNECT_AGAIN_MS = 2_000
const FAULTS_EVERY_MS = 5_000

export const status = signal<Status | undefined>(undefined)
export const entries = signal<readonly TimelineEntry[]>([])
export const faults = signal<readonly DemoFault[]>([])
/** Why there is no stream, when there is none. */
export const trouble = signal<string | undefined>(undefined)
/** What the last command answered. */
export const notice = signal<{ readonly text: string; readonly tone: 'good' | 'bad' } | undefined>(undefined)

/** This browser's steady clock, ten times a second (age) and once a second (countdowns). */
const steady = signal(performance.now())
const factsAt = signal<number | undefined>(undefined)
/** Server time minus the steady clock, as of the last facts. */
let offset = 0

export const ageMs = computed(() => (factsAt.value === undefined ? undefined : Math.max(0, steady.value - factsAt.value)))
export const stale = computed(() => trouble.value !== undefined || ageMs.value === undefined || ageMs.value > STALE_AFTER_MS)
/** The server's time now, in whole seconds: countdowns tick together. */
export const now = computed(() => Math.floor((steady.value + offset) / 1_000) * 1_000)

function confirmed(at: number): void {
  factsAt.value = performance.now()
  offset = at - performance.now()
  trouble.value = undefined
}

/** A line that repeats comes again under its id, with its count. */
function withEntry(list: readonly TimelineEntry[], entry: TimelineEntry): readonly TimelineEntry[] {
  const index = list.findIndex(({ id }) => id === entry.id)
  return (index >= 0 ? list.with(index, entry) : [...list, entry]).slice(-ENTRIES_MAX)
}

function listen<Name extends keyof StreamEvents>(source: EventSource, name: Name, take: (data: StreamEvents[Name]) => void): void {
  source.addEventListener(name, event => {
    take(JSON.parse((event as MessageEvent<string>).data) as StreamEvents[Name])
  })
}

/** Begins, and never ends: the page lives as long as its tab. */
export function begin(): void {
  setInterval(() => { steady.value = performance.now() }, 100)
  setInterval(() => { void readFaults() }, FAULTS_EVERY_MS)
  connect()
}

function connect(): void {
  const source = new EventSource('./api/events')
  source.addEventListener('open', () => { void readFaults() })
  listen(source, 'status', data => {
    status.value = data
    confirmed(data.at)
    document.title = `${data.verdict.state === 'healthy' ? '' : `${data.verdict.state.toUpperCase()}: `}${data.service}`
  })
  listen(source, 'tick', data => { confirmed(data.at) })
  listen(source, 'timeline', data => { entries.value = data.entries.slice(-ENTRIES_MAX) })
  listen(source, 'entry', entry => { entries.value = withEntry(entries.value, entry) })
  listen(source, 'bye', ({ reason }) => { trouble.value = reason === 'draining' ? 'the service is stopping' : 'the service stopped' })
  source.addEventListener('error', () => {
    trouble.value ??= 'no connection to the service'
    // After an HTTP error the browser gives up; after a lost connection it tries again by itself, with the last id.
    if (source.readyState !== EventSource.CLOSED) return
    setTimeout(() => { void again() }, CONNECT_AGAIN_MS)
  })
}

/** The session may have ended meanwhile: then the page itself is the login. */
async function again(): Promise<void> {
  try {
    if ((await fetch('./api/status')).status === 401) location.reload()
  } catch {
    // Still no connection: the next try will say the same.
  }
  connect()
}

export async function readFaults(): Promise<void> {
  try {
    const response = await fetch('./api/demo/faults')
    if (response.ok) faults.value = ((await response.json()) as { readonly faults: readonly DemoFault[] }).faults
  } catch {
    // The age of the facts says already that the service does not answer.
  }
}
