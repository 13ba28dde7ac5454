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
import { sleepUntilLook, type Due } from './schedule/schedule.ts'

export interface WorkerSnapshot {
  readonly name: string
  /** `skipping`: idle, and its last iteration was skipped. */
  readonly state: 'idle' | 'running' | 'paused' | 'skipping' | 'stopped'
  /** When it runs: `every 5m`, `cron 0 3 * * * Europe/Berlin`. */
  readonly times: string
  readonly lastOutcome?: IterationOutcome
  readonly lastReason?: string
  readonly lastRunAt?: number
  readonly lastSuccessAt?: number
  readonly nextRunAt?: number
  readonly consecutiveFailures: number
  /** How late the last iteration began after it was due, or how overdue the next one is. Absent before the first. */
  readonly lagMs?: number
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

interface Ended {
  readonly outcome: IterationOutcome
  readonly reason?: string | undefined
  readonly error?: unknown
  /** It came to its own end, with nothing left undone that was not an item's failure. */
  readonly finished?: boolean
}

/**
 * @throws HF_OPTION_INVALID
 * Emits worker.iteration for each iteration, worker.missed, worker.item.failed and worker.item.parked.
 */
export function worker(name: string, options: WorkerOptions, kit: Kit, deps: WorkerDeps = {}): Worker {
  return new Loop(name, resolveWorker(name, options, deps, kit.env), kit, deps)
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
  /** Monotonic: when the loop looks again, which without a schedule is when the next iteration is due. */
  #dueAt = 0
  /** Monotonic, with a schedule: the next due time, as last looked; and when an item that failed before is due. */
  #scheduledAt: number | undefined
  #itemsAt = Infinity
  #earliestAt = 0
  #gapUntil = 0
  #current: AbortController | undefined
  /** A cancelled body that has not ended. */
  #abandoned: Promise<void> | undefined
  #last: { readonly outcome: IterationOutcome; readonly reason: string | undefined; readonly at: number } | undefined
  #lastSuccessAt: number | undefined
  #heartbeatAt: number | undefined
  #failures = 0
  #lagMs: number | undefined
  /** The due time whose missed ones were told last. */
  #toldMs: number | undefined

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
    const look = (concerned: boolean): void => { if (concerned && this.#last?.outcome === 'skipped') this.#lookNow() }
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
    this.#lookNow()
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
    const nextAt = this.#scheduledAt ?? this.#dueAt
    const overdueMs = state === 'running' || state === 'stopped' ? 0 : this.#env.monotonic() - nextAt
    return {
      name: this.name, state, times: this.options.timesText, consecutiveFailures: this.#failures, parked: this.parkedKeys.size,
      ...(this.#last === undefined ? {} : { lastOutcome: this.#last.outcome, lastRunAt: this.#last.at }),
      ...(this.#last?.reason === undefined ? {} : { lastReason: this.#last.reason }),
      ...(this.#lastSuccessAt === undefined ? {} : { lastSuccessAt: this.#lastSuccessAt }),
      ...(state === 'idle' || state === 'skipping' ? { nextRunAt: this.#env.now() + Math.max(0, nextAt - this.#env.monotonic()) } : {}),
      ...(leader === undefined ? {} : { leader }),
      ...(this.#lagMs === undefined ? {} : { lagMs: Math.max(this.#lagMs, overdueMs) }),
      ...(this.#heartbeatAt === undefined ? {} : { heartbeatAt: this.#heartbeatAt }),
      ...(this.#pausedBecause === undefined ? {} : { pausedBecause: this.#pausedBecause }),
      ...(this.options.runbook === undefined ? {} : { runbook: this.options.runbook }),
    }
  }

  /** What kept it from running has changed: without a schedule an iteration, with one a look at what is due. */
  #lookNow(): void {
    if (this.options.schedule === undefined) {
      this.kick()
      return
    }
    this.#dueAt = Math.min(this.#dueAt, this.#earliestAt)
    this.#wakeUp()
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
      const due = this.options.schedule === undefined ? undefined : await this.#look()
      if (due === 'not yet') continue
      const callers = this.#callers.splice(0)
      this.#kicked = false
      const outcome = await withContext({ correlationId: this.#env.uuid(), component: `worker ${this.name}` }, () => this.#iterate(due))
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
      const next = Math.min(this.#dueAt, this.#itemsAt)
      const at = this.#callers.length > 0 ? this.#gapUntil : this.#kicked ? Math.min(next, this.#earliestAt) : next
      const ms = at - this.#env.monotonic()
      if (ms <= 0) return
      await this.#env.sleep(ms, signal)
    }
  }

  /** What is due by the schedule; undefined for an iteration that somebody or an item asked for; `'not yet'` when there is nothing to run. */
  async #look(): Promise<Due | undefined | 'not yet'> {
    const { schedule, safeSleepMs } = this.options
    const asked = this.#kicked || this.#callers.length > 0 || this.#itemsAt <= this.#env.monotonic()
    try {
      const looked = await schedule?.look()
      const now = this.#env.monotonic()
      if (looked !== undefined && looked.left > 0) this.events.emit('worker.missed', { worker: this.name, missed: looked.left, ran: false })
      if (looked?.due !== undefined) return looked.due
      const waitMs = looked?.waitMs ?? safeSleepMs
      this.#scheduledAt = now + waitMs
      this.#dueAt = now + sleepUntilLook(waitMs, this.#env)
    } catch (error) {
      // Said once per outage by the store itself; what is due stays due.
      this.#last = { outcome: 'skipped', reason: `what is due cannot be found out: ${messageOf(error)}`, at: this.#env.now() }
      this.#dueAt = this.#env.monotonic() + safeSleepMs
    }
    return asked ? undefined : 'not yet'
  }

  async #iterate(due: Due | undefined): Promise<IterationOutcome> {
    const { schedule } = this.options
    const began = this.#env.monotonic()
    const tally = newTally()
    this.#lagMs = due?.lateMs ?? (schedule === undefined && this.#last !== undefined ? Math.max(0, began - this.#dueAt) : 0)
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
    // An item that was due while the worker may not run is asked about again when the worker itself is.
    if (this.#itemsAt <= now) this.#itemsAt = this.#dueAt
    if (schedule !== undefined && ended.outcome !== 'skipped') await this.#settleDue(due, ended, now, tally)
    this.events.emit('worker.iteration', {
      worker: this.name, outcome: ended.outcome, durationMs: now - began, lateMs: this.#lagMs, done: tally.done, failed: tally.failed, parked: tally.parked,
      ...(ended.reason === undefined ? {} : { reason: ended.reason }),
      ...(ended.error === undefined ? {} : { error: ended.error }),
    })
    return ended.outcome
  }

  /** With a schedule: an iteration that looked at everything is done with, and the next look says how long to sleep; items that failed are due in between. */
  async #settleDue(due: Due | undefined, { outcome, finished = false }: Ended, now: number, tally: Tally): Promise<void> {
    const { schedule, safeSleepMs } = this.options
    if (due !== undefined) schedule?.begun(due.dueMs)
    this.#itemsAt = Number.isFinite(tally.soonestMs) ? now + Math.max(safeSleepMs, tally.soonestMs) : Infinity
    if (due !== undefined && due.missed > 0 && due.dueMs !== this.#toldMs) {
      this.#toldMs = due.dueMs
      this.events.emit('worker.missed', { worker: this.name, missed: due.missed, ran: true })
    }
    if (finished && due !== undefined) await schedule?.done(due.dueMs)
    // A failed one waits by its backoff. What was put off (an open breaker, a switch) is due again as after a skip.
    if (outcome !== 'failed') this.#dueAt = this.#earliestAt
  }

  async #guarded(tally: Tally): Promise<Ended> {
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

  async #body(tally: Tally, signal: AbortSignal): Promise<Ended> {
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
    // Looked at everything that there was to do: what failed has an attempt of its own coming.
    const finished = postponed === 0
    if (failed > 0 && done === 0) return { outcome: 'failed', reason: `${items(failed)} failed` }
    if (failed > 0) return { outcome: 'degraded', reason: `${String(failed)} of ${items(done + failed)} failed`, finished }
    if (tally.reason !== undefined) return { outcome: 'degraded', reason: tally.reason, finished }
    if (degraded !== undefined) return { outcome: 'degraded', reason: degraded, finished }
    return { outcome: 'ok', reason: postponed > 0 ? 'stopping' : undefined, finished }
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
