/**
 * `createHoldfast`: definitions first, then `start()`; `stop()` is the same in reverse.
 *
 * Nothing touches disk or network before `start()`. A start that fails leaves nothing behind and says in one error why.
 */
import { checkName, durationMs, HoldfastError, type HoldfastEvents } from '../core/index.ts'
import type { Database } from '../store/index.ts'
import type { TimelineEntry } from '../observe/index.ts'
import { declareCommands } from './commands.ts'
import { CoreParts } from './core-parts.ts'
import { DurableParts, openedDatabase, type OpenedStore } from './durable-parts.ts'
import { defineGauges } from './gauges.ts'
import type { CommandRequest, CommandResult, DurableHoldfast, Holdfast, HoldfastOptions, StoreOptions } from './holdfast.ts'
import type { Status, WorkItemStatus } from './status.ts'
import { statusOf, type StatusSources } from './status-of.ts'

/** Kubernetes kills after 30 s. */
const DRAIN_DEFAULT = '25s'
/** Reading the list of stuck work for the page: longer, and the last one is shown. */
const WORK_READ_MS = 1_000

/** With a store: everything. */
export function createHoldfast<Tx>(options: StoreOptions<Tx>): DurableHoldfast<Tx>
/** Without: flags from the environment, dependencies, limits, health, workers. */
export function createHoldfast(options: HoldfastOptions): Holdfast
export function createHoldfast<Tx>(options: HoldfastOptions | StoreOptions<Tx>): Holdfast | DurableHoldfast<Tx> {
  checkName('service', options.service)
  return 'store' in options ? new Service<Tx>(options, options.store).durable() : new Service<Tx>(options, undefined).bare()
}

class Service<Tx> {
  readonly #parts: CoreParts<Tx>
  readonly #durable: DurableParts<Tx> | undefined
  readonly #sources: StatusSources
  readonly #drainMs: number
  #phase: Status['phase'] = 'starting'
  #begun = false
  #stopping: Promise<void> | undefined
  #startedAt: number
  /** As last read: the page shows it while the store is away. */
  #work: readonly WorkItemStatus[] = []

  constructor(options: HoldfastOptions, store: StoreOptions<Tx>['store'] | undefined) {
    const opened: OpenedStore<Tx> = { database: undefined, closed: false }
    const database = (): Database<Tx> => openedDatabase(opened)
    const parts = new CoreParts<Tx>(options, store === undefined ? undefined : database)
    this.#parts = parts
    this.#drainMs = durationMs(options.drainFor ?? DRAIN_DEFAULT, `${options.service}: drainFor`)
    this.#startedAt = parts.kit.env.now()
    this.#durable = store === undefined ? undefined : new DurableParts(store, parts, opened)
    this.#sources = {
      service: options.service,
      instance: parts.kit.instance,
      version: options.version ?? '0.0.0',
      env: parts.kit.env,
      startedAt: this.#startedAt,
      phase: () => this.#phase,
      store,
      health: parts.health,
      board: parts.board,
      dependencies: () => parts.dependencies.all(),
      workers: () => parts.workers.all(),
      alerts: parts.alerts,
    }
    declareCommands(parts.bus, { board: parts.board, dependencies: parts.dependencies, workers: parts.workers, alerts: parts.alerts, settleWork: async (item, action, reason) => (await this.#durable?.settleWork(item, action, reason)) ?? false })
    defineGauges(parts.metrics, { ...this.#sources, uptimeMs: () => parts.kit.env.now() - this.#startedAt, work: () => this.#work.length, alerts: () => parts.alerts.active().length })
  }

  bare(): Holdfast {
    const parts = this.#parts
    const { kit } = parts
    const phase = (): Status['phase'] => this.#phase
    return {
      service: kit.service,
      instance: kit.instance,
      env: kit.env,
      events: kit.events,
      log: parts.log,
      health: parts.health,
      get phase() {
        return phase()
      },
      flags: declared => parts.flags(declared),
      dependency: (name, given) => parts.dependency(name, given),
      limit: (name, given) => parts.limit(name, given),
      worker: (name, given) => {
        const made = parts.worker(name, given)
        if (this.#phase === 'ready') made.start()
        return made
      },
      start: () => this.#start(),
      stop: reason => this.#stop(reason ?? 'stop() was called'),
      status: () => this.#status(),
      timeline: given => parts.timeline.list(given),
      onTimeline: listener => parts.timeline.onEntry(listener),
      command: (name, request) => this.#command(name, request),
      commands: () => parts.bus.list(),
      explain: (correlationId): readonly TimelineEntry[] => parts.timeline.explain(correlationId),
      metrics: () => parts.metrics.render(),
      fact: (fact, given) => { kit.events.emit('app.fact', { fact, ...given } satisfies HoldfastEvents['app.fact']) },
    }
  }

  durable(): DurableHoldfast<Tx> {
    const durable = this.#durable
    if (durable === undefined) throw new HoldfastError('HF_INVARIANT', { message: 'a durable service has a store' })
    // The bare one is extended and not spread: its `phase` is a getter.
    return Object.assign(this.bare(), {
      once: durable.once.bind(durable),
      saga: durable.saga.bind(durable),
      irreversible: durable.irreversible.bind(durable),
      migrations: durable.migrations.bind(durable),
      transaction: durable.transaction.bind(durable),
      inbox: durable.inbox,
      outbox: durable.outbox,
    })
  }

  async #start(): Promise<void> {
    if (this.#begun) throw new HoldfastError('HF_ALREADY_STARTED', { message: `${this.#parts.kit.service} was started already; make a new one to start again` })
    this.#begun = true
    const { kit, board, health, workers } = this.#parts
    const begunAt = kit.env.monotonic()
    this.#startedAt = kit.env.now()
    kit.events.emit('app.starting', { service: kit.service, instance: kit.instance, version: this.#sources.version, store: this.#sources.store?.name ?? 'no store' })
    try {
      await this.#durable?.open()
      await board.start()
      await health.start()
      await this.#durable?.begin()
    } catch (error) {
      await this.#release()
      this.#phase = 'stopped'
      throw error
    }
    this.#phase = 'ready'
    for (const each of workers.all()) each.start()
    kit.events.emit('app.started', { service: kit.service, instance: kit.instance, durationMs: kit.env.monotonic() - begunAt })
  }

  #stop(reason: string): Promise<void> {
    this.#stopping ??= this.#drain(reason)
    return this.#stopping
  }

  async #drain(reason: string): Promise<void> {
    const { kit, workers } = this.#parts
    if (this.#phase === 'stopped') return
    const begunAt = kit.env.monotonic()
    this.#phase = 'draining'
    kit.events.emit('app.draining', { reason })
    const late = new AbortController()
    let left = 1
    const finished = Promise.all([this.#durable?.drain() ?? Promise.resolve(0), ...workers.all().map(each => each.stop())]).then(([count]) => { left = count })
    await Promise.race([finished, kit.env.sleep(this.#drainMs, late.signal)])
    late.abort()
    await this.#release()
    this.#phase = 'stopped'
    kit.events.emit('app.stopped', { durationMs: kit.env.monotonic() - begunAt, left })
    this.#parts.silence()
  }

  /** In reverse order of starting; one that fails does not keep the others. */
  async #release(): Promise<void> {
    const { board, health } = this.#parts
    await Promise.allSettled([health.stop(), board.stop()])
    await Promise.allSettled([this.#durable?.close()])
  }

  async #status(): Promise<Status> {
    if (this.#durable !== undefined && this.#phase === 'ready') await this.#readWork(this.#durable)
    return statusOf(this.#sources, this.#work)
  }

  /** Bounded: a store that hangs must not take the page along. */
  async #readWork(durable: DurableParts<Tx>): Promise<void> {
    const { env } = this.#parts.kit
    const late = new AbortController()
    const read = durable.workItems().then(items => { this.#work = items }, () => {
      // The store is away, which the page says; the last list stays.
    })
    await Promise.race([read, env.sleep(WORK_READ_MS, late.signal)])
    late.abort()
  }

  async #command(name: string, request: CommandRequest): Promise<CommandResult> {
    const { command, target, message } = await this.#parts.bus.execute(name, request)
    return { command, target, message }
  }
}
