/**
 * A loop that survives: look at the needs, run behind a boundary, sleep; until it is stopped.
 *
 * Promises: it outlives every failure; it never overlaps with itself; after a failure it sleeps at least `safeSleep`
 * whatever wakes it; an iteration that takes longer than its deadline is cancelled; a skip says why. A run that ignores
 * its cancellation is waited for (and said each time) rather than run beside.
 *
 * Not here: what the items' attempts mean (./each.ts), how long it sleeps (./pace.ts), when it may run (./guards.ts).
 */
import { HoldfastError, messageOf, withContext, type IterationOutcome, type Kit } from '../core/index.ts'
import { newTally, orAborted, runBatch, type BatchHost, type Tally } from './each.ts'
import { Guards } from './guards.ts'
import { localItems, type ItemLedger } from './items/ledger.ts'
import { resolveWorker, type ResolvedWorker, type WorkerContext, type WorkerDeps, type WorkerOptions } from './options.ts'
import { GAP_MS, paceAfter } from './pace.ts'

export interface WorkerSnapshot {
  readonly name: string
  /** `skipping`: idle, and its last iteration was skipped. */
  readonly state: 'idle' | 'running' | 'paused' | 'skipping' | 'stopped'
  readonly lastOutcome?: IterationOutcome
  readonly lastReason?: string
  readonly lastRunAt?: number
  readonly lastSuccessAt?: number
  readonly nextRunAt?: number
  readonly consecutiveFailures: number
  /** Absent where leadership isn't needed. */
  readonly leader?: boolean
  /** Items that wait for a person, as last read. */
  readonly parked: number
  /** Last progress: an item or an iteration that ended. A loop that hangs makes none. */
  readonly heartbeatAt?: number
  readonly pausedBecause?: string
  readonly runbook?: string
}

export interface Worker {
  readonly kind: 'worker'
  readonly name: string
  /** Begins at once. A second call while it runs does nothing. */
  start(): void
  /** Begins nothing new; waits for the item in progress (`drainFor`), then cancels it; gives leadership back. Answers how many iterations were cut short (0 or 1). Never throws. */
  stop(): Promise<number>
  /** There is work: wakes the loop now (after a failure: when `safeSleep` is over). Any number of kicks is one. */
  kick(): void
  /** By a person: one iteration now, also while paused or backing off; needs are still asked. Answers its outcome. */
  runNow(): Promise<IterationOutcome>
  /** The iteration in progress ends; none begins until `resume()`. */
  pause(reason: string): void
  resume(): void
  /** By a person: the item is due now, with all its attempts. @throws what the store throws */
  retry(item: string): Promise<boolean>
  /** By a person: the item is never tried again. @throws what the store throws */
  discard(item: string): Promise<boolean>
  snapshot(): WorkerSnapshot
}

/** A body that does not end when it is cancelled is given this long before the iteration is called over. */
const ABORT_GRACE_MS = 1_000

/**
 * @throws HF_OPTION_INVALID
 * Emits worker.iteration for each iteration, worker.item.failed and worker.item.parked.
 */
export function worker(name: string, options: WorkerOptions, kit: Kit, deps: WorkerDeps = {}): Worker {
  return new Loop(name, resolveWorker(name, options, deps), kit, deps)
}

class Loop implements Worker, BatchHost {
  readonly kind = 'worker'
  readonly name: string
  readonly options: ResolvedWorker
  readonly items: ItemLedger
  readonly events: Kit['events']
  readonly running = new Set<string>()
  readonly parkedKeys = new Set<string>()
  stopping = false
  readonly #env: Kit['env']
  readonly #guards: Guards
  #loop: Promise<void> | undefined
  #stopListening: (() => void)[] = []
  #wake = new AbortController()
  #kicked = false
  #callers: ((outcome: IterationOutcome) => void)[] = []
  #pausedBecause: string | undefined
  /** Monotonic. */
  #dueAt = 0
  #earliestAt = 0
  #gapUntil = 0
  #current: AbortController | undefined
  /** A cancelled body that has not ended. */
  #abandoned: Promise<void> | undefined
  #last: { readonly outcome: IterationOutcome; readonly reason: string | undefined; readonly at: number } | undefined
  #lastSuccessAt: number | undefined
  #heartbeatAt: number | undefined
  #failures = 0

  constructor(name: string, options: ResolvedWorker, kit: Kit, deps: WorkerDeps) {
    this.name = name
    this.options = options
    this.items = deps.items ?? localItems(kit.env)
    this.events = kit.events
    this.#env = kit.env
    this.#guards = new Guards(name, options, deps)
  }

  start(): void {
    if (this.#loop !== undefined) return
    this.stopping = false
    const look = (concerned: boolean): void => { if (concerned && this.#last?.outcome === 'skipped') this.kick() }
    this.#stopListening = [
      this.events.on('flag.changed', event => { look(event.data.to && this.#guards.concerns('flag', event.data.flag)) }),
      this.events.on('breaker.changed', event => { look(event.data.to !== 'open' && this.#guards.concerns('dependency', event.data.dependency)) }),
      this.events.on('system.changed', event => { look(event.data.to !== 'unavailable' && this.#guards.needsSystem) }),
    ]
    this.#loop = this.#run()
  }

  async stop(): Promise<number> {
    const loop = this.#loop
    if (loop === undefined) return 0
    this.stopping = true
    let cut = 0
    for (const stop of this.#stopListening) stop()
    this.#wakeUp()
    const timer = this.#env.timer(this.options.drainMs, () => {
      cut = this.#current === undefined ? 0 : 1
      this.#current?.abort(new HoldfastError('HF_STOPPING', { message: `worker ${this.name}: cancelled, as draining took longer than ${String(this.options.drainMs)} ms` }))
    }, { keepAlive: true })
    await loop
    timer.cancel()
    await this.#guards.release()
    this.#loop = undefined
    for (const caller of this.#callers.splice(0)) caller('skipped')
    return cut
  }

  kick(): void {
    this.#kicked = true
    this.#wakeUp()
  }

  runNow(): Promise<IterationOutcome> {
    if (this.#loop === undefined || this.stopping) return Promise.resolve('skipped')
    return new Promise(resolve => {
      this.#callers.push(resolve)
      this.#wakeUp()
    })
  }

  pause(reason: string): void {
    this.#pausedBecause = reason
    this.#wakeUp()
  }

  resume(): void {
    this.#pausedBecause = undefined
    this.kick()
  }

  async retry(item: string): Promise<boolean> {
    const found = await this.items.retry(this.name, item)
    this.parkedKeys.delete(item)
    this.kick()
    return found
  }

  async discard(item: string): Promise<boolean> {
    const found = await this.items.discard(this.name, item)
    this.parkedKeys.delete(item)
    return found
  }

  progress(): void {
    this.#heartbeatAt = this.#env.now()
  }

  snapshot(): WorkerSnapshot {
    const idle = this.#last?.outcome === 'skipped' ? 'skipping' : 'idle'
    const state = this.#loop === undefined ? 'stopped' : this.#current !== undefined ? 'running' : this.#pausedBecause !== undefined ? 'paused' : idle
    const { leader } = this.#guards
    return {
      name: this.name, state, consecutiveFailures: this.#failures, parked: this.parkedKeys.size,
      ...(this.#last === undefined ? {} : { lastOutcome: this.#last.outcome, lastRunAt: this.#last.at }),
      ...(this.#last?.reason === undefined ? {} : { lastReason: this.#last.reason }),
      ...(this.#lastSuccessAt === undefined ? {} : { lastSuccessAt: this.#lastSuccessAt }),
      ...(state === 'idle' || state === 'skipping' ? { nextRunAt: this.#env.now() + Math.max(0, this.#dueAt - this.#env.monotonic()) } : {}),
      ...(leader === undefined ? {} : { leader }),
      ...(this.#heartbeatAt === undefined ? {} : { heartbeatAt: this.#heartbeatAt }),
      ...(this.#pausedBecause === undefined ? {} : { pausedBecause: this.#pausedBecause }),
      ...(this.options.runbook === undefined ? {} : { runbook: this.options.runbook }),
    }
  }

  #wakeUp(): void {
    this.#wake.abort()
    this.#wake = new AbortController()
  }

  /** Ends only by `stop()`: everything that can fail in it is behind a boundary. */
  async #run(): Promise<void> {
    for (;;) {
      await this.#untilDue()
      if (this.stopping) return
      const callers = this.#callers.splice(0)
      this.#kicked = false
      const outcome = await withContext({ correlationId: this.#env.uuid(), component: `worker ${this.name}` }, () => this.#iterate())
      for (const caller of callers) caller(outcome)
    }
  }

  async #untilDue(): Promise<void> {
    while (!this.stopping) {
      const { signal } = this.#wake
      if (this.#pausedBecause !== undefined && this.#callers.length === 0) {
        await new Promise<void>(resolve => { signal.addEventListener('abort', () => { resolve() }, { once: true }) })
        continue
      }
      const at = this.#callers.length > 0 ? this.#gapUntil : this.#kicked ? Math.min(this.#dueAt, this.#earliestAt) : this.#dueAt
      const ms = at - this.#env.monotonic()
      if (ms <= 0) return
      await this.#env.sleep(ms, signal)
    }
  }

  async #iterate(): Promise<IterationOutcome> {
    const began = this.#env.monotonic()
    const tally = newTally()
    const ended = await this.#guarded(tally)
    this.#last = { outcome: ended.outcome, reason: ended.reason, at: this.#env.now() }
    this.#failures = ended.outcome === 'failed' ? this.#failures + 1 : ended.outcome === 'skipped' ? this.#failures : 0
    if (ended.outcome === 'ok') this.#lastSuccessAt = this.#env.now()
    if (ended.outcome !== 'skipped') this.progress()
    const now = this.#env.monotonic()
    const pace = paceAfter(ended.outcome, this.options, this.#failures, tally.soonestMs)
    this.#dueAt = now + pace.sleepMs
    this.#earliestAt = now + pace.earliestMs
    this.#gapUntil = now + GAP_MS
    this.events.emit('worker.iteration', {
      worker: this.name, outcome: ended.outcome, durationMs: now - began, done: tally.done, failed: tally.failed, parked: tally.parked,
      ...(ended.reason === undefined ? {} : { reason: ended.reason }),
      ...(ended.error === undefined ? {} : { error: ended.error }),
    })
    return ended.outcome
  }

  async #guarded(tally: Tally): Promise<{ readonly outcome: IterationOutcome; readonly reason?: string | undefined; readonly error?: unknown }> {
    if (this.#abandoned !== undefined) return { outcome: 'skipped', reason: 'the iteration before was cancelled and has not ended yet' }
    const cancel = new AbortController()
    this.#current = cancel
    const deadline = this.#env.timer(this.options.deadlineMs, () => {
      cancel.abort(new HoldfastError('HF_WORKER_DEADLINE', { message: `worker ${this.name}: an iteration took longer than ${String(this.options.deadlineMs)} ms and was cancelled`, context: { worker: this.name } }))
    }, { keepAlive: true })
    const lost = (): void => { cancel.abort(new HoldfastError('HF_LEASE_LOST', { message: `worker ${this.name}: leadership was lost`, context: { worker: this.name } })) }
    try {
      const refusal = await orAborted(this.#guards.refusal(cancel.signal), cancel.signal)
      if (refusal !== undefined) return { outcome: 'skipped', reason: refusal }
      const leadership = this.#guards.leadership?.signal
      leadership?.addEventListener('abort', lost, { once: true })
      try {
        return await this.#body(tally, cancel.signal)
      } finally {
        leadership?.removeEventListener('abort', lost)
      }
    } catch (error) {
      return { outcome: 'failed', reason: messageOf(error), error }
    } finally {
      deadline.cancel()
      this.#current = undefined
    }
  }

  async #body(tally: Tally, signal: AbortSignal): Promise<{ readonly outcome: IterationOutcome; readonly reason?: string | undefined; readonly error?: unknown }> {
    let degraded: string | undefined
    const loop = (): boolean => this.stopping
    const context: WorkerContext = {
      signal,
      get stopping() {
        return loop()
      },
      degraded: reason => { degraded ??= reason },
      each: (items, key, run, { concurrency = 1 } = {}) => runBatch(this, tally, signal, items, key, run, concurrency),
    }
    const work = (async () => { await this.options.run(context) })()
    try {
      await orAborted(work, signal)
    } catch (error) {
      if (!signal.aborted) throw error
    }
    if (signal.aborted) {
      await this.#leaveBehind(work)
      const reason: unknown = signal.reason
      if (reason instanceof HoldfastError && reason.code !== 'HF_WORKER_DEADLINE') return { outcome: 'degraded', reason: messageOf(reason) }
      throw reason
    }
    const { done, failed, postponed } = tally
    if (failed > 0 && done === 0) return { outcome: 'failed', reason: `${items(failed)} failed` }
    if (failed > 0) return { outcome: 'degraded', reason: `${String(failed)} of ${items(done + failed)} failed` }
    if (tally.reason !== undefined) return { outcome: 'degraded', reason: tally.reason }
    if (degraded !== undefined) return { outcome: 'degraded', reason: degraded }
    return { outcome: 'ok', reason: postponed > 0 ? 'stopping' : undefined }
  }

  /** Gives a cancelled body a moment to end; remembers one that does not. */
  async #leaveBehind(work: Promise<void>): Promise<void> {
    const ended = work.catch(() => undefined).finally(() => { this.#abandoned = undefined })
    this.#abandoned = ended
    const grace = new AbortController()
    await Promise.race([ended.then(() => { grace.abort() }), this.#env.sleep(ABORT_GRACE_MS, grace.signal)])
  }
}

function items(count: number): string {
  return count === 1 ? '1 item' : `${String(count)} items`
}
