/**
 * What a worker is declared with, its defaults, and what its code is handed.
 */
import { checkName, durationMs, HoldfastError, type Duration, type Env, type SystemState } from '../core/index.ts'
import type { Flag } from '../control/index.ts'
import type { ItemLedger } from './items/ledger.ts'
import { localSchedule, type ScheduleLedger } from './schedule/ledger.ts'
import { Schedule, type CatchUp } from './schedule/schedule.ts'
import { alignedTimetable, cronTimetable, type Timetable } from './schedule/timetable.ts'

/** A dependency, as far as a worker needs to know it. */
export interface NeededDependency {
  readonly kind: 'dependency'
  readonly name: string
  /** Only looks; takes no half-open trial. */
  allows(): boolean
}

/** What must be so for an iteration to run; otherwise it is skipped with its reason. Takes what was declared, not names. */
export type Need = Flag | NeededDependency | 'healthy' | 'not-unavailable' | 'leader'

/** When it runs: every so often from its own start, every so often by the clock, or by a cron pattern. */
export type WorkerTimes =
  | {
    /** From the end of a good iteration to the next one; the first one begins at the start. At least 100 ms. */
    readonly every: Duration
    readonly align?: false
    readonly cron?: never
    readonly timeZone?: never
    readonly catchUp?: never
  }
  | {
    /** Due at multiples of this since 1970 in UTC: `'15m'` at :00, :15, :30, :45. At least 1 s. */
    readonly every: Duration
    readonly align: true
    readonly cron?: never
    readonly timeZone?: never
    /** As for `cron`. */
    readonly catchUp?: CatchUp
  }
  | {
    /**
     * Due by a cron pattern, by the database's clock: `'0 3 * * *'` (minute, hour, day, month, weekday; with six fields seconds come first).
     * On days on which clocks change: a time that is skipped runs when the clock jumps, a fixed time that comes twice runs the first time.
     */
    readonly cron: string
    /** IANA name in which the pattern is meant. Default `'UTC'`, and never the machine's: that differs between instances. */
    readonly timeZone?: string
    /**
     * What of the due times that nobody could run (everything was down, a switch was off): `'one'` runs once for all of them, as soon as it can;
     * `'none'` leaves out what could not begin within a minute. Needs `mode: 'leader'` to reach over a restart. Default `'one'`.
     */
    readonly catchUp?: CatchUp
    readonly every?: never
    readonly align?: never
  }

/** Everything that a worker is declared with. */
export type WorkerOptions = WorkerBase & WorkerTimes

export interface WorkerBase {
  /**
   * `'leader'`: one instance at a time runs it, the same as the need `'leader'`, and its due times are kept in the store, so that a restart neither
   * repeats nor forgets one. `'every-instance'`: all of them do, each by itself. Default `'every-instance'`, or `'leader'` where that is among the needs.
   */
  readonly mode?: 'leader' | 'every-instance'
  /** After a failed iteration never sooner than this, whatever wakes the worker; doubles with each failure in a row, up to `every` (with `align` or `cron`: up to the time between two due times, an hour at most). Also how soon a skipped worker looks again, and one with due times that has put items off. At least 100 ms. */
  readonly safeSleep: Duration
  /** An iteration that takes longer is cancelled and counts as failed. Default 120 s. */
  readonly deadline?: Duration
  readonly needs?: readonly Need[]
  /** Attempts of one item before it is parked for a person. Default 5, at most 100. */
  readonly maxAttempts?: number
  /** How long `stop()` waits for the item in progress before it is cancelled. Default 20 s. */
  readonly drainFor?: Duration
  readonly runbook?: string
  /** One iteration. What it throws makes the iteration fail, and nothing else. */
  readonly run: (context: WorkerContext) => Promise<unknown>
}

export interface ItemContext {
  /** Aborts at the deadline, when leadership is lost, and when draining takes too long. */
  readonly signal: AbortSignal
  /** 1 for the first attempt. */
  readonly attempt: number
}

export interface EachResult {
  readonly done: number
  readonly failed: number
  /** Of the failed: those that have used up their attempts now. */
  readonly parked: number
  /** Failed before and not due yet, parked or discarded before, or still running from an iteration that was cancelled. */
  readonly waiting: number
  /** Begun or not, not counted as an attempt: a breaker opened, a switch went off, we are stopping. They come again with the next iteration; a due time of which items were put off is not over. */
  readonly postponed: number
}

export interface WorkerContext {
  /** Aborts at the deadline, when leadership is lost, and when draining takes too long. */
  readonly signal: AbortSignal
  /** True once the worker is to stop: begin nothing new. `each` looks by itself. */
  readonly stopping: boolean
  /** Something worked less well than it should; the iteration counts as degraded, with this reason. */
  readonly degraded: (reason: string) => void
  /**
   * Runs `run` for each item behind its own boundary: an item that fails waits longer each time and is parked after
   * `maxAttempts`; it never stops the others. `key` names the item over restarts.
   */
  readonly each: <Item>(
    items: Iterable<Item> | AsyncIterable<Item>,
    key: (item: Item) => string,
    run: (item: Item, context: ItemContext) => Promise<unknown>,
    options?: { readonly concurrency?: number },
  ) => Promise<EachResult>
}

/** What the wiring gives a worker. */
export interface WorkerDeps {
  /** For the needs `'healthy'` and `'not-unavailable'`. */
  readonly systemState?: () => SystemState
  /** For the need `'leader'`: a `Lease` of holdfast/durable. */
  readonly lease?: LeaderLease
  /** Default: `localItems`, gone with the process. */
  readonly items?: ItemLedger
  /** Default: `localSchedule`, gone with the process. */
  readonly schedule?: ScheduleLedger
}

/** The part of a lease that a worker uses. */
export interface LeaderLease {
  /** Undefined when another holds it. */
  acquire(options?: { readonly signal?: AbortSignal }): Promise<HeldLeadership | undefined>
}

export interface HeldLeadership {
  readonly held: boolean
  /** Aborts when it is lost. */
  readonly signal: AbortSignal
  release(): Promise<void>
}

export const WORKER_DEFAULTS: { readonly deadline: Duration; readonly maxAttempts: number; readonly drainFor: Duration } = Object.freeze({
  deadline: '120s',
  maxAttempts: 5,
  drainFor: '20s',
})

export interface ResolvedWorker {
  /** With a schedule: what a failing worker's waits grow up to. */
  readonly everyMs: number
  /** Undefined: from the end of one iteration to the next. */
  readonly schedule: Schedule | undefined
  /** For people: `every 5m`, `cron 0 3 * * * UTC`. */
  readonly timesText: string
  readonly safeSleepMs: number
  readonly deadlineMs: number
  readonly drainMs: number
  readonly maxAttempts: number
  readonly needs: readonly Need[]
  readonly runbook: string | undefined
  readonly run: WorkerOptions['run']
}

/** @throws HF_OPTION_INVALID */
export function resolveWorker(name: string, options: WorkerOptions, deps: WorkerDeps, env: Pick<Env, 'now'>): ResolvedWorker {
  checkName('worker', name)
  const refuse = (message: string): never => {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `worker ${name}: ${message}`, context: { worker: name } })
  }
  const maxAttempts = options.maxAttempts ?? WORKER_DEFAULTS.maxAttempts
  if (!Number.isInteger(maxAttempts) || maxAttempts < 1 || maxAttempts > 100) refuse(`expected maxAttempts of 1 to 100, got ${String(maxAttempts)}`)
  const mode = options.mode ?? (options.needs?.includes('leader') === true ? 'leader' : 'every-instance')
  if (!['leader', 'every-instance'].includes(mode)) refuse(`expected mode to be 'leader' or 'every-instance', got ${JSON.stringify(mode)}`)
  if (mode === 'every-instance' && options.needs?.includes('leader') === true) refuse("needs the leader and runs on every instance: expected mode 'leader', or no such need")
  const needs: readonly Need[] = mode === 'leader' && options.needs?.includes('leader') !== true ? [...options.needs ?? [], 'leader'] : options.needs ?? []
  for (const need of needs) {
    if (need === 'leader' && deps.lease === undefined) refuse('needs the leader, for which a store is required')
    if ((need === 'healthy' || need === 'not-unavailable') && deps.systemState === undefined) refuse(`needs '${need}', for which health is required`)
    if (typeof need === 'string' && need !== 'leader' && need !== 'healthy' && need !== 'not-unavailable') refuse(`expected needs to be declared flags, dependencies, 'healthy', 'not-unavailable' or 'leader', got ${JSON.stringify(need)}`)
  }
  const safeSleepMs = durationMs(options.safeSleep, `worker ${name}: safeSleep`, { min: 100 })
  const timetable = timetableOf(name, options, refuse)
  return {
    everyMs: timetable === undefined ? durationMs(options.every as Duration, `worker ${name}: every`, { min: 100 }) : retryCapMs(timetable),
    schedule: timetable === undefined ? undefined : new Schedule(name, timetable, { catchUp: options.catchUp ?? 'one', shared: mode === 'leader', ledger: deps.schedule ?? localSchedule(env) }),
    timesText: timetable?.text ?? `every ${options.every ?? ''}`,
    safeSleepMs,
    deadlineMs: durationMs(options.deadline ?? WORKER_DEFAULTS.deadline, `worker ${name}: deadline`),
    drainMs: durationMs(options.drainFor ?? WORKER_DEFAULTS.drainFor, `worker ${name}: drainFor`, { min: 0 }),
    maxAttempts, needs, runbook: options.runbook, run: options.run,
  }
}

function timetableOf(name: string, options: WorkerTimes, refuse: (message: string) => never): Timetable | undefined {
  const { every, align, cron, timeZone, catchUp } = options
  if ((every === undefined) === (cron === undefined)) refuse("expected either every or cron")
  if (catchUp !== undefined && !['one', 'none'].includes(catchUp)) refuse(`expected catchUp to be 'one' or 'none', got ${JSON.stringify(catchUp)}`)
  if (cron !== undefined) return cronTimetable(`worker ${name}`, cron, timeZone)
  if (timeZone !== undefined) refuse('timeZone belongs to cron')
  if (align === true) return alignedTimetable(`worker ${name}: every`, every)
  if (catchUp !== undefined) refuse('catchUp belongs to cron and to align: an interval from its own end misses nothing')
  return undefined
}

const RETRY_CAP_MS = 3_600_000

/** The time between two due times, as an example of them, an hour at most. */
function retryCapMs(timetable: Timetable): number {
  const first = timetable.next(Date.UTC(2026, 0, 1))
  return Math.min(RETRY_CAP_MS, Math.max(1_000, timetable.next(first) - first))
}
