/**
 * `createHoldfast`: definitions first, then `start()`; `stop()` is the same in reverse.
 *
 * Nothing touches disk or network before `start()`. A start that fails leaves nothing behind and says in one error why.
 */
import { checkName, HoldfastError, type HoldfastEvents } from '../core/index.ts'
import type { Database, Snapshot } from '../store/index.ts'
import { checkReplicas, examine, type DoctorReport } from '../deploy/index.ts'
import type { TimelineEntry } from '../observe/index.ts'
import { declareCommands } from './commands.ts'
import { CoreParts } from './core-parts.ts'
import { DurableParts, openedDatabase, type OpenedStore } from './durable-parts.ts'
import { defineGauges } from './gauges.ts'
import type { CommandRequest, CommandResult, DurableHoldfast, Holdfast, HoldfastOptions, StoreOptions } from './holdfast.ts'
import { Lifecycle } from './lifecycle.ts'
import type { QueueStatus, Status, WorkItemStatus } from './status.ts'
import { declareSagaCommands } from './saga-commands.ts'
import { statusOf, type StatusSources } from './status-of.ts'
import { WorkList } from './work-list.ts'

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
  readonly #lifecycle: Lifecycle<Tx>
  readonly #work: WorkList<WorkItemStatus>
  readonly #queues: WorkList<QueueStatus>

  constructor(options: HoldfastOptions, store: StoreOptions<Tx>['store'] | undefined) {
    const opened: OpenedStore<Tx> = { database: undefined, closed: false }
    const database = (): Database<Tx> => openedDatabase(opened)
    const parts = new CoreParts<Tx>(options, store === undefined ? undefined : database)
    this.#parts = parts
    const { env } = parts.kit
    const startedAt = env.now()
    this.#durable = store === undefined ? undefined : new DurableParts(store, parts, opened, options as Partial<StoreOptions<Tx>>)
    this.#work = new WorkList(env, async () => (await this.#durable?.workItems()) ?? [])
    const version = options.version ?? '0.0.0'
    this.#queues = new WorkList(env, async () => (await this.#durable?.queues()) ?? [])
    this.#lifecycle = new Lifecycle(parts, this.#durable, { version, store: store?.name ?? 'no store' })
    this.#sources = {
      service: options.service,
      instance: parts.kit.instance,
      version,
      env,
      startedAt,
      phase: () => this.#lifecycle.phase,
      store,
      health: parts.health,
      board: parts.board,
      dependencies: () => parts.dependencies.all(),
      faultPlans: () => parts.faultPlans.all(),
      workers: () => parts.workers.all(),
      queues: () => this.#queues.last,
      alerts: parts.alerts,
    }
    declareCommands(parts.bus, { board: parts.board, dependencies: parts.dependencies, faultPlans: parts.faultPlans, workers: parts.workers, alerts: parts.alerts, snapshot: () => this.#snapshot(), settleWork: async (item, action, reason) => (await this.#durable?.settleWork(item, action, reason)) ?? false })
    if (this.#durable !== undefined) declareSagaCommands(parts.bus, this.#durable.sagas)
    defineGauges(parts.metrics, { ...this.#sources, uptimeMs: () => env.now() - startedAt, work: () => this.#work.last.length, alerts: () => parts.alerts.active().length })
  }

  bare(): Holdfast {
    const parts = this.#parts
    const { kit } = parts
    const phase = (): Status['phase'] => this.#lifecycle.phase
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
      attach: made => parts.attach(made),
      faults: given => parts.faults(given),
      limit: (name, given) => parts.limit(name, given),
      worker: (name, given) => {
        const made = parts.worker(name, given)
        if (phase() === 'ready') made.start()
        return made
      },
      start: () => this.#start(),
      stop: reason => this.#lifecycle.stop(reason ?? 'stop() was called'),
      status: () => this.#status(),
      doctor: () => this.#doctor(),
      timeline: given => parts.timeline.list(given),
      onTimeline: listener => parts.timeline.onEntry(listener),
      command: (name, request) => this.#command(name, request),
      preview: async (name, request) => { const { command, target, impact } = await parts.bus.preview(name, request); return { command, target, impact } },
      commands: () => parts.bus.list(),
      explain: (correlationId): readonly TimelineEntry[] => parts.timeline.explain(correlationId),
      explainDependency: name => parts.dependencies.get(name)?.explain(),
      runbook: id => parts.runbooks.get(id),
      runbooks: () => parts.runbooks.all(),
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
      retryStore: durable.retryStore.bind(durable),
      migrations: durable.migrations.bind(durable),
      transaction: durable.transaction.bind(durable),
      audit: durable.audit.bind(durable),
      sagaHistory: durable.sagaHistory.bind(durable),
      requestConfirmation: durable.requestConfirmation.bind(durable),
      inbox: durable.inbox,
      outbox: durable.outbox,
    })
  }

  #snapshot(): Promise<Snapshot> {
    if (this.#durable === undefined) throw new HoldfastError('HF_OPTION_INVALID', { message: 'this service has no store: there is nothing to copy' })
    return this.#durable.snapshot()
  }

  #doctor(): Promise<DoctorReport> {
    const { store, env } = this.#sources
    const durable = this.#durable
    return examine<Tx>({
      env, store, replicas: this.#replicas(),
      database: () => durable?.database() ?? openedDatabase({ database: undefined, closed: false }),
      migrations: durable?.allMigrations() ?? [],
      waiting: async () => (await durable?.workItems())?.length ?? 0,
    })
  }

  /** @throws HF_OPTION_INVALID */
  #replicas(): number {
    const { options } = this.#parts
    return checkReplicas(options.replicas, options.environment ?? process.env, this.#sources.store)
  }

  async #start(): Promise<void> {
    this.#replicas()
    await this.#lifecycle.start()
  }

  async #status(): Promise<Status> {
    if (this.#durable !== undefined && this.#lifecycle.phase === 'ready') await Promise.all([this.#work.refresh(), this.#queues.refresh()])
    return statusOf(this.#sources, this.#work.last)
  }

  async #command(name: string, request: CommandRequest): Promise<CommandResult> {
    const { command, target, message } = await this.#parts.bus.execute(name, request)
    return { command, target, message }
  }
}
