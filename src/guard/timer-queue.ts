/**
 * One timer for all calls of an Env, in place of one per call: arming and disarming are constant-time list operations.
 *
 * Entries of the same duration expire in the order they came, so each duration has its own list and only the heads are
 * compared. The Env's timer is armed for the earliest head and never cancelled on the success path; when it fires and
 * nothing is due it is armed again for the next head.
 * An entry never expires early. The timer does not keep the process alive: what is waited for does.
 */
import type { Env } from '../core/index.ts'

/** Whole durations (those of options) that keep their list while it is empty; what is left of a deadline is dropped. */
const LISTS_KEPT = 32

/** Something that expires unless it is removed first. */
export abstract class TimerEntry {
  dueAt = 0
  list: EntryList | undefined = undefined
  previous: TimerEntry | undefined = undefined
  next: TimerEntry | undefined = undefined

  abstract expire(): void
}

interface EntryList {
  readonly ms: number
  head: TimerEntry | undefined
  tail: TimerEntry | undefined
}

export class TimerQueue {
  readonly env: Env
  readonly #lists = new Map<number, EntryList>()
  #armedAt = Number.POSITIVE_INFINITY
  #disarm: (() => void) | undefined

  constructor(env: Env) {
    this.env = env
  }

  /** `now` is the monotonic time, which callers have at hand. */
  add(entry: TimerEntry, ms: number, now: number): void {
    let list = this.#lists.get(ms)
    if (list === undefined) {
      list = { ms, head: undefined, tail: undefined }
      this.#lists.set(ms, list)
    }
    entry.dueAt = now + ms
    entry.list = list
    entry.previous = list.tail
    entry.next = undefined
    if (list.tail === undefined) list.head = entry
    else list.tail.next = entry
    list.tail = entry
    if (entry.dueAt < this.#armedAt) this.#arm(entry.dueAt, now)
  }

  /** Removing what is not in the queue does nothing. */
  remove(entry: TimerEntry): void {
    const list = entry.list
    if (list === undefined) return
    if (entry.previous === undefined) list.head = entry.next
    else entry.previous.next = entry.next
    if (entry.next === undefined) list.tail = entry.previous
    else entry.next.previous = entry.previous
    entry.list = undefined
    entry.previous = undefined
    entry.next = undefined
    if (list.head === undefined && (!Number.isInteger(list.ms) || this.#lists.size > LISTS_KEPT)) this.#lists.delete(list.ms)
  }

  #arm(at: number, now: number): void {
    this.#disarm?.()
    this.#armedAt = at
    const timer = this.env.timer(Math.max(0, at - now), () => { this.#fire() })
    this.#disarm = () => { timer.cancel() }
  }

  #fire(): void {
    this.#armedAt = Number.POSITIVE_INFINITY
    this.#disarm = undefined
    const now = this.env.monotonic()
    let next = Number.POSITIVE_INFINITY
    for (const list of [...this.#lists.values()]) {
      while (list.head !== undefined && list.head.dueAt <= now) {
        const entry = list.head
        this.remove(entry)
        entry.expire()
      }
      if (list.head !== undefined) next = Math.min(next, list.head.dueAt)
    }
    if (next < this.#armedAt) this.#arm(next, now)
  }
}

const queues = new WeakMap<Env, TimerQueue>()

/** The queue that everything on this Env shares. */
export function timerQueue(env: Env): TimerQueue {
  let queue = queues.get(env)
  if (queue === undefined) {
    queue = new TimerQueue(env)
    queues.set(env, queue)
  }
  return queue
}
