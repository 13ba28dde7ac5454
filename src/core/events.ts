/**
 * The event spine. Rooms announce facts here; `observe` turns them into log, metrics, timeline, alerts and console.
 *
 * A listener that throws never fails the call that it listens to: it is counted and reported once per listener.
 * Emitting is synchronous and cheap; an event that nobody listens to costs a map look-up.
 */
import { currentContext } from './context.ts'
import type { Env } from './env.ts'
import { messageOf } from './errors.ts'
import type { HoldfastEvents } from './event-catalogue.ts'

export type { HoldfastEvents } from './event-catalogue.ts'
export type EventName = keyof HoldfastEvents

/** One fact, with when and in which piece of work it happened. */
export type HoldfastEvent<Name extends EventName = EventName> = {
  [N in Name]: {
    /** Rises by one per event of this process. */
    readonly seq: number
    /** Wall clock, milliseconds. */
    readonly at: number
    readonly name: N
    readonly correlationId: string | undefined
    readonly component: string | undefined
    readonly data: HoldfastEvents[N]
  }
}[Name]

export type Listener<Name extends EventName> = (event: HoldfastEvent<Name>) => void

export class EventBus {
  readonly #env: Pick<Env, 'now'>
  readonly #named = new Map<EventName, Set<Listener<never>>>()
  readonly #all = new Set<Listener<EventName>>()
  #seq = 0
  #reported = new WeakSet<Listener<never>>()

  constructor(env: Pick<Env, 'now'>) {
    this.#env = env
  }

  /** Returns the function that stops listening. */
  on<Name extends EventName>(name: Name, listener: Listener<Name>): () => void {
    const listeners = this.#named.get(name) ?? new Set()
    this.#named.set(name, listeners)
    listeners.add(listener)
    return () => { listeners.delete(listener) }
  }

  onAny(listener: Listener<EventName>): () => void {
    this.#all.add(listener)
    return () => { this.#all.delete(listener) }
  }

  emit<Name extends EventName>(name: Name, data: HoldfastEvents[Name]): void {
    const named = this.#named.get(name)
    if (this.#all.size === 0 && (named === undefined || named.size === 0)) return
    const context = currentContext()
    const event = { seq: ++this.#seq, at: this.#env.now(), name, correlationId: context.correlationId, component: context.component, data } as HoldfastEvent<Name>
    if (named !== undefined) for (const listener of named) this.#tell(listener, event as never)
    for (const listener of this.#all) this.#tell(listener, event as never)
  }

  #tell(listener: Listener<never>, event: never): void {
    try {
      listener(event)
    } catch (error) {
      // Reported once per listener: a listener of this very event that throws again must not recurse.
      if (this.#reported.has(listener)) return
      this.#reported.add(listener)
      this.emit('listener.failed', { message: messageOf(error) })
    }
  }
}
