/**
 * A batch: every item behind its own boundary, at most `concurrency` at a time.
 *
 * An item that fails is counted, waits and is parked after its attempts; the others go on. What is not the item's fault
 * (an open breaker, a switch that went off, a lost store) is not counted and ends the batch: the rest comes again.
 * An item that ignores its cancellation is left behind, and is not begun again before it has ended.
 */
import { HoldfastError, isHoldfastError, messageOf, unwatchAbort, watchAbort, type ErrorCode, type EventBus, type FailureClass } from '../core/index.ts'
import { ITEMS_MAX, type ItemLedger, type ItemState } from './items/ledger.ts'
import type { EachResult, ItemContext, ResolvedWorker } from './options.ts'
import { backoffMs } from './pace.ts'

/** Refusals that say nothing about the item. */
const NOT_THE_ITEM: ReadonlySet<ErrorCode> = new Set([
  'HF_BREAKER_OPEN', 'HF_OVERLOADED', 'HF_RATE_LIMITED', 'HF_SWITCHED_OFF', 'HF_STOPPING', 'HF_CANCELLED', 'HF_STORE_UNAVAILABLE', 'HF_LEASE_LOST', 'HF_NOT_STARTED',
])

const CONCURRENCY_MAX = 1_000

/** What one iteration has done, over all its batches. */
export interface Tally {
  done: number
  failed: number
  parked: number
  postponed: number
  /** Until the first of the failed items is due. */
  soonestMs: number
  /** Why a batch ended early. */
  reason: string | undefined
}

export function newTally(): Tally {
  return { done: 0, failed: 0, parked: 0, postponed: 0, soonestMs: Infinity, reason: undefined }
}

/** What a batch needs of its worker. */
export interface BatchHost {
  readonly name: string
  readonly options: ResolvedWorker
  readonly items: ItemLedger
  readonly events: EventBus
  readonly stopping: boolean
  /** Items of cancelled iterations that have not ended yet. */
  readonly running: Set<string>
  /** Keys that are parked, as last known. */
  readonly parkedKeys: Set<string>
  progress(): void
}

export async function runBatch<Item>(
  host: BatchHost, tally: Tally, signal: AbortSignal,
  items: Iterable<Item> | AsyncIterable<Item>, key: (item: Item) => string, run: (item: Item, context: ItemContext) => Promise<unknown>, concurrency: number,
): Promise<EachResult> {
  if (!Number.isInteger(concurrency) || concurrency < 1 || concurrency > CONCURRENCY_MAX) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `worker ${host.name}: each: expected concurrency of 1 to ${String(CONCURRENCY_MAX)}, got ${String(concurrency)}`, context: { worker: host.name } })
  }
  const known = await host.items.list(host.name, ITEMS_MAX)
  host.parkedKeys.clear()
  for (const state of known) if (state.condition === 'parked') host.parkedKeys.add(state.item)
  const batch = new Batch(host, tally, signal, new Map(known.map(state => [state.item, state])))
  const source = serial(items)
  const lane = async (): Promise<void> => {
    while (!batch.over) {
      const next = await source.next()
      if (next.done === true) return
      await batch.item(key(next.value), context => run(next.value, context))
    }
  }
  const guarded = async (): Promise<void> => {
    try {
      await orAborted(lane(), signal)
    } catch (error) {
      // A cancelled batch says what it has done; the iteration knows why it was cancelled.
      if (!signal.aborted) {
        batch.end()
        throw error
      }
    }
  }
  const lanes = await Promise.allSettled(Array.from({ length: concurrency }, guarded))
  await source.close(signal)
  for (const settled of lanes) if (settled.status === 'rejected') throw settled.reason
  return { ...batch.result }
}

class Batch {
  readonly result: { -readonly [Key in keyof EachResult]: number } = { done: 0, failed: 0, parked: 0, waiting: 0, postponed: 0 }
  readonly #host: BatchHost
  readonly #tally: Tally
  readonly #signal: AbortSignal
  readonly #known: ReadonlyMap<string, ItemState>
  readonly #seen = new Set<string>()
  #ended = false

  constructor(host: BatchHost, tally: Tally, signal: AbortSignal, known: ReadonlyMap<string, ItemState>) {
    this.#host = host
    this.#tally = tally
    this.#signal = signal
    this.#known = known
  }

  get over(): boolean {
    return this.#ended || this.#signal.aborted || this.#host.stopping
  }

  end(): void {
    this.#ended = true
  }

  async item(key: string, run: (context: ItemContext) => Promise<unknown>): Promise<void> {
    const state = this.#known.get(key)
    if (this.#seen.has(key)) return
    this.#seen.add(key)
    if (this.over) {
      this.#postpone(undefined)
    } else if (state !== undefined && (state.condition !== 'waiting' || state.waitMs > 0)) {
      this.result.waiting += 1
      if (state.condition === 'waiting') this.#tally.soonestMs = Math.min(this.#tally.soonestMs, state.waitMs)
    } else if (this.#host.running.has(key)) {
      this.result.waiting += 1
    } else {
      await this.#attempt(key, state, run)
    }
  }

  async #attempt(key: string, state: ItemState | undefined, run: (context: ItemContext) => Promise<unknown>): Promise<void> {
    const { running } = this.#host
    running.add(key)
    const work = (async () => run({ signal: this.#signal, attempt: (state?.attempts ?? 0) + 1 }))()
    const ended = work.then(() => undefined, () => undefined).finally(() => { running.delete(key) })
    try {
      await orAborted(work, this.#signal)
    } catch (error) {
      await this.#failed(key, error)
      return
    }
    await ended
    if (state !== undefined) await this.#host.items.clear(this.#host.name, key)
    this.result.done += 1
    this.#tally.done += 1
    this.#host.progress()
  }

  async #failed(key: string, error: unknown): Promise<void> {
    const { name, options, items, events, parkedKeys } = this.#host
    const cause = this.#signal.aborted ? this.#signal.reason as unknown : error
    if (isHoldfastError(cause) && NOT_THE_ITEM.has(cause.code)) {
      this.#postpone(cause.message)
      return
    }
    const message = messageOf(cause)
    const failure = failureOf(cause)
    this.result.failed += 1
    this.#tally.failed += 1
    let state: ItemState | undefined
    try {
      state = await items.fail(name, key, { message, maxAttempts: options.maxAttempts, baseMs: options.safeSleepMs, capMs: backoffMs(options, options.maxAttempts) })
    } finally {
      // Said also when the store is away and the attempt can't be counted.
      events.emit('worker.item.failed', { worker: name, item: key, attempt: state?.attempts ?? (this.#known.get(key)?.attempts ?? 0) + 1, failure, message, error: cause })
    }
    if (state.condition === 'parked') {
      this.result.parked += 1
      this.#tally.parked += 1
      parkedKeys.add(key)
      events.emit('worker.item.parked', { worker: name, item: key, attempts: state.attempts, message, ...(options.runbook === undefined ? {} : { runbook: options.runbook }) })
    } else {
      this.#tally.soonestMs = Math.min(this.#tally.soonestMs, state.waitMs)
    }
    this.#host.progress()
  }

  /** The item is as it was, and the batch is over. */
  #postpone(reason: string | undefined): void {
    this.#ended = true
    this.result.postponed += 1
    this.#tally.postponed += 1
    this.#tally.reason ??= reason
  }
}

/** Whose fault it is, where the error does not say: what our own code got wrong is a defect, what the network says is not. */
export function failureOf(error: unknown): FailureClass {
  if (isHoldfastError(error)) return error.failure
  if (error instanceof Error && ('code' in error || error.name === 'AbortError' || error.name === 'TimeoutError')) return 'dependency_error'
  return 'defect'
}

/** Settles with `work`, or rejects when the signal aborts first. */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    // Shared by all lanes of a batch: hundreds of waits for one signal are one listener.
    const watcher = { aborted: (): void => { reject(asError(signal.reason)) } }
    if (signal.aborted) watcher.aborted()
    else watchAbort(signal, watcher)
    work.then(resolve, (error: unknown) => { reject(asError(error)) }).finally(() => { unwatchAbort(signal, watcher) })
  })
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

/** One `next()` at a time, as not every iterator bears more; closed when the batch ends early. */
function serial<Item>(items: Iterable<Item> | AsyncIterable<Item>): { next(): Promise<IteratorResult<Item, unknown>>; close(signal: AbortSignal): Promise<void> } {
  const iterator: Iterator<Item, unknown> | AsyncIterator<Item, unknown> = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]()
  let last: Promise<unknown> = Promise.resolve()
  let exhausted = false
  return {
    next: () => {
      const next = last.then(async (): Promise<IteratorResult<Item, unknown>> => {
        if (exhausted) return { done: true, value: undefined }
        const result = await iterator.next()
        exhausted = result.done === true
        return result
      })
      last = next.catch(() => { exhausted = true })
      return next
    },
    close: async signal => {
      const closing = last.then(async () => { if (!exhausted) await iterator.return?.() }).then(() => undefined, () => undefined)
      // A source that hangs is left behind like an item that hangs.
      await orAborted(closing, signal).catch(() => undefined)
    },
  }
}
