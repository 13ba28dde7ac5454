/**
 * What a worker is declared with, its defaults, and what its code is handed.
 */
import { checkName, durationMs, HoldfastError, type Duration, type SystemState } from '../core/index.ts'
import type { Flag } from '../control/index.ts'
import type { ItemLedger } from './items/ledger.ts'

/** A dependency, as far as a worker needs to know it. */
export interface NeededDependency {
  readonly kind: 'dependency'
  readonly name: string
  /** Only looks; takes no half-open trial. */
  allows(): boolean
}

/** What must be so for an iteration to run; otherwise it is skipped with its reason. Takes what was declared, not names. */
export type Need = Flag | NeededDependency | 'healthy' | 'not-unavailable' | 'leader'

export interface WorkerOptions {
  /** From the end of a good iteration to the next one. At least 100 ms. */
  readonly every: Duration
  /** After a failed iteration never sooner than this, whatever wakes the worker; doubles with each failure in a row, up to `every`. Also how soon a skipped worker looks again. At least 100 ms. */
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
  /** Begun or not, not counted as an attempt: a breaker opened, a switch went off, we are stopping. They come again. */
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
  readonly everyMs: number
  readonly safeSleepMs: number
  readonly deadlineMs: number
  readonly drainMs: number
  readonly maxAttempts: number
  readonly needs: readonly Need[]
  readonly runbook: string | undefined
  readonly run: WorkerOptions['run']
}

/** @throws HF_OPTION_INVALID */
export function resolveWorker(name: string, options: WorkerOptions, deps: WorkerDeps): ResolvedWorker {
  checkName('worker', name)
  const refuse = (message: string): never => {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `worker ${name}: ${message}`, context: { worker: name } })
  }
  const maxAttempts = options.maxAttempts ?? WORKER_DEFAULTS.maxAttempts
  if (!Number.isInteger(maxAttempts) || maxAttempts < 1 || maxAttempts > 100) refuse(`expected maxAttempts of 1 to 100, got ${String(maxAttempts)}`)
  const needs = options.needs ?? []
  for (const need of needs) {
    if (need === 'leader' && deps.lease === undefined) refuse('needs the leader, for which a store is required')
    if ((need === 'healthy' || need === 'not-unavailable') && deps.systemState === undefined) refuse(`needs '${need}', for which health is required`)
    if (typeof need === 'string' && need !== 'leader' && need !== 'healthy' && need !== 'not-unavailable') refuse(`expected needs to be declared flags, dependencies, 'healthy', 'not-unavailable' or 'leader', got ${JSON.stringify(need)}`)
  }
  return {
    everyMs: durationMs(options.every, `worker ${name}: every`, { min: 100 }),
    safeSleepMs: durationMs(options.safeSleep, `worker ${name}: safeSleep`, { min: 100 }),
    deadlineMs: durationMs(options.deadline ?? WORKER_DEFAULTS.deadline, `worker ${name}: deadline`),
    drainMs: durationMs(options.drainFor ?? WORKER_DEFAULTS.drainFor, `worker ${name}: drainFor`, { min: 0 }),
    maxAttempts, needs, runbook: options.runbook, run: options.run,
  }
}
