/**
 * A worker's due times: which one is to be run now, how long until the next one, and what was missed.
 *
 * Promise (with leadership): a due time whose iteration ended is never run again, also by another instance or after a restart; one that was
 * cut off, failed or skipped stays due until an iteration ends or the next one replaces it. What was missed is run once or left out, as
 * declared. Without leadership each instance keeps its own count, from its start.
 */
import type { Env } from '../../core/index.ts'
import type { ScheduleLedger } from './ledger.ts'
import type { Timetable } from './timetable.ts'

export type CatchUp = 'one' | 'none'

export interface Due {
  /** By the ledger's clock. */
  readonly dueMs: number
  /** How late it is now. */
  readonly lateMs: number
  /** Due times before it that were never run. */
  readonly missed: number
}

export type Looked =
  | { readonly due: Due; readonly left: number }
  /** `left`: missed due times that are left out, as declared. */
  | { readonly due: undefined; readonly waitMs: number; readonly left: number }

/** `'none'`: an iteration that begins this late still counts as on time: a leader that died is replaced within it. */
export const ON_TIME_MS = 60_000
/** Missed due times are counted up to here; a thousand and more is all the same. */
const MISSED_MAX = 1_000

export class Schedule {
  readonly timetable: Timetable
  readonly #worker: string
  readonly #catchUp: CatchUp
  /** Shared by all instances, or by nobody. */
  readonly #shared: boolean
  readonly #ledger: ScheduleLedger
  /** Ran here, as far as this process knows: also where the ledger could not be told. */
  #doneMs: number | undefined
  #untold = false
  /** Of which an iteration began here in time: what failed since is not missed. */
  #begunMs: number | undefined

  constructor(worker: string, timetable: Timetable, options: { readonly catchUp: CatchUp; readonly shared: boolean; readonly ledger: ScheduleLedger }) {
    this.#worker = worker
    this.timetable = timetable
    this.#catchUp = options.catchUp
    this.#shared = options.shared
    this.#ledger = options.ledger
  }

  /** @throws what the store throws */
  async look(): Promise<Looked> {
    if (this.#untold && this.#doneMs !== undefined) await this.#tell(this.#doneMs)
    const { lastDueMs, nowMs } = await this.#state()
    let latest: number | undefined
    let passed = 0
    let next = this.timetable.next(lastDueMs)
    while (next <= nowMs && passed < MISSED_MAX) {
      latest = next
      passed += 1
      next = this.timetable.next(next)
    }
    // Beyond the count the latest one is looked for from behind.
    if (next <= nowMs) [latest, next] = this.#latestBefore(nowMs)
    if (latest === undefined) return { due: undefined, waitMs: next - nowMs, left: 0 }
    const lateMs = nowMs - latest
    if (this.#catchUp === 'one') return { due: { dueMs: latest, lateMs, missed: passed - 1 }, left: 0 }
    if (lateMs <= ON_TIME_MS || latest === this.#begunMs) return { due: { dueMs: latest, lateMs, missed: 0 }, left: 0 }
    await this.done(latest)
    return { due: undefined, waitMs: next - nowMs, left: passed }
  }

  /** An iteration of it was run, whatever became of it. */
  begun(dueMs: number): void {
    this.#begunMs = dueMs
  }

  /** Its iteration ended. Never throws: what the ledger could not be told is told before the next look, and not run again here. */
  async done(dueMs: number): Promise<void> {
    this.#doneMs = dueMs
    this.#untold = this.#shared
    try {
      if (this.#untold) await this.#tell(dueMs)
    } catch {
      // The store is away and says so itself.
    }
  }

  async #tell(dueMs: number): Promise<void> {
    await this.#ledger.done(this.#worker, dueMs)
    this.#untold = false
  }

  async #state(): Promise<{ readonly lastDueMs: number; readonly nowMs: number }> {
    if (this.#shared) {
      const state = await this.#ledger.look(this.#worker, this.timetable.text)
      return { ...state, lastDueMs: Math.max(state.lastDueMs, this.#doneMs ?? 0) }
    }
    const nowMs = await this.#ledger.now()
    this.#doneMs ??= nowMs
    return { lastDueMs: this.#doneMs, nowMs }
  }

  /** The last due time until then, and the one after it: steps back further and further until one is found. */
  #latestBefore(nowMs: number): [latest: number, next: number] {
    let back = 1_000
    while (this.timetable.next(nowMs - back) > nowMs) back *= 2
    let latest = this.timetable.next(nowMs - back)
    for (;;) {
      const next = this.timetable.next(latest)
      if (next > nowMs) return [latest, next]
      latest = next
    }
  }
}

/** Due times are far apart, and clocks of processes are not to be trusted for long. */
export function sleepUntilLook(waitMs: number, env: Pick<Env, 'random'>): number {
  return waitMs > LOOK_AGAIN_MS ? Math.round(LOOK_AGAIN_MS * (0.9 + 0.1 * env.random())) : Math.max(1, waitMs)
}

const LOOK_AGAIN_MS = 3_600_000
