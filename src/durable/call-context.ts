/**
 * What every call to another system is handed, whoever makes it: once, a step of a saga, a topic of the outbox.
 */
import type { KeepAlive } from './keep-alive.ts'

export interface CallContext {
  /** Derived from what is being done (name and key, saga and step, once-key): the same for every attempt, in every process. */
  readonly key: string
  /** Aborts when the call should end: its lease was lost, its timeout or the caller's patience is over, what it belongs to was cancelled. */
  readonly signal: AbortSignal
  /**
   * Wall clock, ms: when the lease under which the call is made ends, if it is not renewed (read it when the request is made). For a side that can refuse
   * what arrives later: a process that is frozen here sends its request when it goes on, and nothing on our side can call it back.
   */
  readonly untilMs: number
}

/** Its `untilMs` moves with the heartbeats, so add to it by Object.assign: a spread would keep the end of the moment. */
export function callContext(key: string, signal: AbortSignal, keepAlive: KeepAlive): CallContext {
  return { key, signal, get untilMs() { return keepAlive.endsAtMs } }
}
