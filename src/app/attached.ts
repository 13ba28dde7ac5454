/**
 * A dependency that was made before the app, with a bus of its own: what that bus says of it is said on the app's bus too,
 * so that log, metrics, timeline, alerts, health and console hear of it like of any other.
 *
 * Only what is about this dependency is passed on: the bus of those that are made without a kit is one for the whole process.
 */
import type { EventBus, EventName, HoldfastEvent, HoldfastEvents } from '../core/index.ts'
import type { Dependency } from '../guard/index.ts'

/** Passes on what is said from now on, and the state of a breaker that is not closed already. Answers the function that stops. */
export function hear(dependency: Dependency, events: EventBus): () => void {
  const { name, kit } = dependency
  // It was made for this app and is heard already.
  if (kit.events === events) return () => undefined
  const { state, forced, retryAfterMs } = dependency.snapshot()
  if (state !== 'closed') {
    const why = forced === undefined ? '' : `: forced by ${forced.by}: ${forced.reason}`
    events.emit('breaker.changed', { dependency: name, from: 'closed', to: state, reason: `it was so when it was attached${why}`, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) })
  }
  return kit.events.onAny(event => { if (isAbout(name, event)) passOn(event, events) })
}

function isAbout(name: string, { name: what, data }: HoldfastEvent): boolean {
  if (what === 'retry.nested') return data.inner === name
  return 'dependency' in data && data.dependency === name
}

function passOn<Name extends EventName>({ name, data }: { readonly name: Name; readonly data: HoldfastEvents[Name] }, events: EventBus): void {
  events.emit(name, data)
}
