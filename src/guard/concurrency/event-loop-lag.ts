/**
 * Whether this process' own event loop stalls: then what took long may have been us, not whom we called.
 *
 * A timer that comes more than 50 ms late means that the loop was busy with something else. One sampler per Env, which
 * ticks only while work under an adaptive limit is in flight, does not keep the process alive, and leaves no timer behind
 * when the work is over (the last one fires within a tick and is not set again).
 */
import type { Env } from '../../core/index.ts'

/** Between two looks: a stall of twice this is always noticed, and twenty timers a second cost nothing that can be measured. */
const TICK_MS = 50
/** So late is a stall; a garbage collection or a full loop turn is shorter. */
const LAG_MS = 50

export class EventLoopLag {
  readonly #env: Env
  #active = 0
  #dueAt = Number.POSITIVE_INFINITY
  #stalledAt = Number.NEGATIVE_INFINITY

  constructor(env: Env) {
    this.#env = env
  }

  /** A piece of work begins; the first one starts the sampler. */
  begin(): void {
    this.#active += 1
    if (this.#dueAt === Number.POSITIVE_INFINITY) this.#arm(this.#env.monotonic())
  }

  /** It is over. */
  end(): void {
    this.#active -= 1
  }

  /**
   * Whether the loop stalled at any time since. What arrived during a stall is handled before the timer that would tell of
   * it, so one that is overdue counts already.
   */
  stalledSince(since: number, now: number): boolean {
    return this.#stalledAt >= since || now - this.#dueAt > LAG_MS
  }

  #arm(now: number): void {
    this.#dueAt = now + TICK_MS
    this.#env.timer(TICK_MS, () => { this.#look() })
  }

  #look(): void {
    const now = this.#env.monotonic()
    if (now - this.#dueAt > LAG_MS) this.#stalledAt = now
    this.#dueAt = Number.POSITIVE_INFINITY
    if (this.#active > 0) this.#arm(now)
  }
}

const samplers = new WeakMap<Env, EventLoopLag>()

/** The sampler that everything on this Env shares. */
export function eventLoopLag(env: Env): EventLoopLag {
  let sampler = samplers.get(env)
  if (sampler === undefined) {
    sampler = new EventLoopLag(env)
    samplers.set(env, sampler)
  }
  return sampler
}
