/**
 * Time of a real process that only passes when somebody says so.
 *
 * Everything else of the process is real: its memory, its sockets, its files, its death. Leases of ten seconds and pauses
 * of minutes would make a run of thousands of kills take days, so its clock stands still while anything is under way and
 * goes to the next timer when nothing is. The parent decides, and the database is told the same time (./timed-store.ts).
 */
import { realEnv, sleepWith, type Env, type Timer } from '../../../src/core/index.ts'

interface Waiting {
  readonly atMs: number
  readonly run: () => void
}

export class VirtualEnv implements Env {
  readonly #real = realEnv()
  readonly #waiting = new Set<Waiting>()
  #nowMs: number

  constructor(nowMs: number) {
    this.#nowMs = nowMs
  }

  readonly fetch = (): Promise<Response> => Promise.reject(new Error('flows reach the outside by call'))

  now(): number {
    return this.#nowMs
  }

  monotonic(): number {
    return this.#nowMs
  }

  timer(ms: number, run: () => void): Timer {
    const waiting = { atMs: this.#nowMs + Math.max(0, ms), run }
    this.#waiting.add(waiting)
    return { cancel: () => { this.#waiting.delete(waiting) } }
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepWith(this, ms, signal)
  }

  random(): number {
    return this.#real.random()
  }

  uuid(): string {
    return this.#real.uuid()
  }

  bytes(length: number): Uint8Array {
    return this.#real.bytes(length)
  }

  /** When the next timer fires. */
  get nextAtMs(): number | undefined {
    return this.#next()?.atMs
  }

  /** It is `nowMs`: fires the one timer that is due first, in the order of their being set. */
  advance(nowMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, nowMs)
    const next = this.#next()
    if (next === undefined || next.atMs > this.#nowMs) return
    this.#waiting.delete(next)
    next.run()
  }

  #next(): Waiting | undefined {
    let first: Waiting | undefined
    for (const waiting of this.#waiting) if (first === undefined || waiting.atMs < first.atMs) first = waiting
    return first
  }
}
