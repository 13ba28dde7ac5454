/**
 * The slots of a concurrency limit: the counter of work in flight, and the bounded queue before it.
 *
 * A slot is held until the work is really over. The queue is served by priority, first come first served within one;
 * a place in it is left at once when its caller gives up, when what is left of its deadline is not enough for the work,
 * or when somebody more important needs it. Whoever could never be served in time is not let in.
 * Reads no clock: the times are its callers'.
 */
import type { AbortWatcher, Env } from '../../core/index.ts'
import { TimerEntry, timerQueue, type TimerQueue } from '../timer-queue.ts'
import { Gradient, type AdaptiveRules } from './adaptive.ts'
import { eventLoopLag, type EventLoopLag } from './event-loop-lag.ts'

/**
 * Who is served first and shed last. `critical` is what the business lives on (take a payment), `background` what can
 * be done later (refresh a cache): it begins only while a share of the slots is free.
 */
export type Priority = 'critical' | 'normal' | 'background'

export interface ConcurrencyRules {
  /** Pieces of work at once; where an adaptive limit starts. */
  readonly limit: number
  readonly adaptive: AdaptiveRules | undefined
  /** Callers that may wait. */
  readonly queue: number
  /** What must be left of a deadline when the work begins; undefined: what the work typically takes. */
  readonly marginMs: number | undefined
  /** Background work begins while less than this share of the slots is taken. */
  readonly backgroundShare: number
}

/** Of an observed duration into the typical one: about the last twenty count. */
const TYPICAL_SMOOTHING = 0.1
/** A waiter whose typical work became shorter is given the time it won, when that is worth a timer. */
const REARM_MS = 1

/** One caller in the queue. Whoever is granted has a slot and must give it back. */
export class Waiter extends TimerEntry implements AbortWatcher {
  readonly promise: Promise<void>
  readonly deadlineAt: number
  readonly line: Line
  readonly #slots: Slots
  #wake: () => void = () => undefined
  ahead: Waiter | undefined = undefined
  behind: Waiter | undefined = undefined
  ending: 'waiting' | 'granted' | 'deadline' | 'cancelled' | 'overloaded' = 'waiting'

  constructor(slots: Slots, line: Line, deadlineAt: number) {
    super()
    this.#slots = slots
    this.line = line
    this.deadlineAt = deadlineAt
    this.promise = new Promise(resolve => { this.#wake = resolve })
  }

  expire(): void {
    this.#slots.due(this)
  }

  aborted(): void {
    this.end('cancelled')
  }

  end(ending: 'granted' | 'deadline' | 'cancelled' | 'overloaded'): void {
    if (this.ending !== 'waiting') return
    this.ending = ending
    this.#slots.leave(this)
    this.#wake()
  }
}

/** The waiters of one priority, oldest first. */
class Line {
  first: Waiter | undefined = undefined
  last: Waiter | undefined = undefined
  size = 0

  add(waiter: Waiter): void {
    waiter.ahead = this.last
    if (this.last === undefined) this.first = waiter
    else this.last.behind = waiter
    this.last = waiter
    this.size += 1
  }

  remove(waiter: Waiter): void {
    if (waiter.ahead === undefined) this.first = waiter.behind
    else waiter.ahead.behind = waiter.behind
    if (waiter.behind === undefined) this.last = waiter.ahead
    else waiter.behind.ahead = waiter.ahead
    waiter.ahead = undefined
    waiter.behind = undefined
    this.size -= 1
  }
}

export class Slots {
  readonly rules: ConcurrencyRules
  readonly #timers: TimerQueue
  readonly #gradient: Gradient | undefined
  readonly #loop: EventLoopLag | undefined
  /** From monotonic time to one that other instances share, give or take their clocks. */
  readonly #commonTimeMs: number = 0
  readonly #critical = new Line()
  readonly #normal = new Line()
  readonly #background = new Line()
  #inFlight = 0
  /** Most in flight since the last result, for the adaptive limit. */
  #peak = 0
  #limit = 0
  #backgroundLimit = 0
  /** NaN before the first: a number always, so that writing it allocates nothing. */
  #typicalMs = Number.NaN
  /** The latest time that anybody told; the real one is never earlier. */
  #now = 0

  constructor(rules: ConcurrencyRules, env: Env) {
    this.rules = rules
    this.#timers = timerQueue(env)
    if (rules.adaptive !== undefined) {
      this.#gradient = new Gradient(rules.adaptive)
      this.#loop = eventLoopLag(env)
      this.#commonTimeMs = env.now() - env.monotonic()
    }
    this.#setLimit(rules.limit)
  }

  get inFlight(): number {
    return this.#inFlight
  }

  get queued(): number {
    return this.#critical.size + this.#normal.size + this.#background.size
  }

  /** Pieces of work at once, now. More may be in flight for a while when it has shrunk; nothing begins meanwhile. */
  get limit(): number {
    return this.#limit
  }

  /** What a piece of work has typically taken of late; undefined before the first. */
  get typicalMs(): number | undefined {
    return Number.isNaN(this.#typicalMs) ? undefined : this.#typicalMs
  }

  /** Whoever could be served from the queue has been, so a free slot belongs to nobody else. */
  tryTake(priority: Priority = 'normal'): boolean {
    if (this.#inFlight >= (priority === 'background' ? this.#backgroundLimit : this.#limit)) return false
    this.#begin()
    return true
  }

  /**
   * A place in the queue for who has `leftMs` until its deadline, or why there is none: `overloaded` when the queue is
   * full of callers at least as important, `deadline` when its turn would come too late. Whoever is displaced by a more
   * important newcomer (the youngest of the least important) ends as `overloaded`.
   */
  join(leftMs: number, now: number, priority: Priority = 'normal'): Waiter | 'overloaded' | 'deadline' {
    this.#tick(now)
    const displaced = this.queued < this.rules.queue ? undefined : this.#leastBelow(priority)
    if (this.queued >= this.rules.queue && displaced === undefined) return 'overloaded'
    const waitMs = leftMs - this.#marginMs()
    if (waitMs <= 0 || waitMs < this.#expectedWaitMs(priority)) return 'deadline'
    displaced?.end('overloaded')
    const line = this.#line(priority)
    const waiter = new Waiter(this, line, now + leftMs)
    line.add(waiter)
    if (waitMs !== Number.POSITIVE_INFINITY) this.#timers.add(waiter, waitMs, now)
    return waiter
  }

  /** The timer of a waiter: too little is left, unless the work has become shorter since the timer was set. */
  due(waiter: Waiter): void {
    const wonMs = waiter.deadlineAt - this.#marginMs() - waiter.dueAt
    if (wonMs > REARM_MS) this.#timers.add(waiter, wonMs, waiter.dueAt)
    else waiter.end('deadline')
  }

  leave(waiter: Waiter): void {
    waiter.line.remove(waiter)
    this.#timers.remove(waiter)
  }

  /** The work is really over: its slot goes to the first in the queue who may have it, without being free in between. */
  give(): void {
    this.#inFlight -= 1
    if (this.#loop !== undefined) this.#loop.end()
    if (this.queued > 0) this.#admit()
  }

  /**
   * What became of a piece of work and how long it took, told before or after its slot is given back. `neither`
   * (cancelled, refused) says nothing about how long work takes and is ignored.
   */
  observe(durationMs: number, result: 'success' | 'failure' | 'neither', now: number): void {
    this.#tick(now)
    if (result === 'neither') return
    this.#typicalMs = Number.isNaN(this.#typicalMs) ? durationMs : this.#typicalMs + TYPICAL_SMOOTHING * (durationMs - this.#typicalMs)
    if (this.#gradient !== undefined) this.#adapt(this.#gradient, durationMs, result, now)
  }

  #adapt(gradient: Gradient, durationMs: number, result: 'success' | 'failure', now: number): void {
    const peak = this.#peak
    this.#peak = this.#inFlight
    let told = result
    if (this.#loop?.stalledSince(now - durationMs, now) === true) {
      if (this.rules.adaptive?.eventLoop === 'discount') return
      told = 'failure'
    }
    if (!gradient.observe(durationMs, told, peak, now + this.#commonTimeMs)) return
    this.#setLimit(gradient.limit)
    if (this.queued > 0) this.#admit()
  }

  #begin(): void {
    this.#inFlight += 1
    if (this.#loop === undefined) return
    this.#loop.begin()
    if (this.#inFlight > this.#peak) this.#peak = this.#inFlight
  }

  #tick(now: number): void {
    if (now > this.#now) this.#now = now
  }

  #setLimit(limit: number): void {
    this.#limit = limit
    this.#backgroundLimit = Math.max(1, Math.floor(limit * this.rules.backgroundShare))
  }

  #marginMs(): number {
    return this.rules.marginMs ?? this.typicalMs ?? 0
  }

  /** Slots come free at a rate of limit / typical; those ahead get theirs first. */
  #expectedWaitMs(priority: Priority): number {
    let ahead = Math.max(0, this.#inFlight - this.#limit) + this.#critical.size
    if (priority !== 'critical') ahead += this.#normal.size
    if (priority === 'background') ahead += this.#background.size
    return ahead * (this.typicalMs ?? 0) / this.#limit
  }

  #admit(): void {
    while (this.#inFlight < this.#limit) {
      const next = this.#critical.first ?? this.#normal.first ?? (this.#inFlight < this.#backgroundLimit ? this.#background.first : undefined)
      if (next === undefined) return
      // Its timer may be late, and the work may have become longer since it was set.
      if (next.deadlineAt - this.#now < this.#marginMs()) {
        next.end('deadline')
        continue
      }
      this.#begin()
      next.end('granted')
    }
  }

  #line(priority: Priority): Line {
    return priority === 'critical' ? this.#critical : priority === 'background' ? this.#background : this.#normal
  }

  #leastBelow(priority: Priority): Waiter | undefined {
    if (priority === 'background') return undefined
    return this.#background.last ?? (priority === 'critical' ? this.#normal.last : undefined)
  }
}
