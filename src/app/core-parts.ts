/**
 * The rooms of one service, wired to one event spine: what every Holdfast has, with a store or without.
 */
import { type Duration, durationMs, type Env, EventBus, type Kit, realEnv, Registry } from '../core/index.ts'
import { type Audit, auditLog, commands, type CommandBus, flagBoard, type FlagBoard, type Flags, type FlagOptions, storedOverrides, ticketDesk, type TicketDesk } from '../control/index.ts'
import { type DurableKit, lease } from '../durable/index.ts'
import { type Dependency, dependency, type DependencyOptions, type FaultOptions, type FaultPlan, faults } from '../guard/index.ts'
import { createHealth, type Health } from '../health/index.ts'
import { type Limit, limit, type LimitOptions } from '../limits/index.ts'
import { type Alerts, alerts, countEvents, logEvents, type Logger, metrics, type Metrics, pinoLogger, redacting, redactor, type Redactor, SILENT, type Timeline, timeline } from '../observe/index.ts'
import { storedItems, storedSchedule, worker, type ItemLedger, type Worker, type WorkerOptions } from '../worker/index.ts'
import { hear } from './attached.ts'
import { BreakerFile } from './breaker-file.ts'
import type { HoldfastOptions } from './holdfast.ts'
import { Runbooks } from './runbooks.ts'

/** What a dependency of ours is given where the program does not say: the lease of everything that is held. */
export const LEASE_DEFAULT = '15s'
/** Kubernetes kills after 30 s. */
export const DRAIN_DEFAULT = '25s'
/** What is in flight is cancelled this long before the service closes its store, to end in order and give leadership back. */
const CANCEL_BEFORE_MS = 2_000

export class CoreParts<Tx> {
  readonly options: HoldfastOptions
  readonly kit: Kit
  readonly durable: DurableKit<Tx> | undefined
  readonly health: Health
  readonly board: FlagBoard
  readonly bus: CommandBus
  readonly dependencies: Registry<Dependency> = new Registry<Dependency>('dependency')
  readonly faultPlans: Registry<FaultPlan> = new Registry<FaultPlan>('faults')
  readonly limits: Registry<Limit> = new Registry<Limit>('limit')
  readonly workers: Registry<Worker> = new Registry<Worker>('worker')
  /** Undefined without a data directory. */
  readonly breakerFile: BreakerFile | undefined
  readonly items: ItemLedger | undefined
  readonly audit: Audit<Tx> | undefined
  readonly tickets: TicketDesk<Tx> | undefined
  readonly runbooks: Runbooks
  readonly log: Logger
  readonly redact: Redactor
  readonly metrics: Metrics
  readonly timeline: Timeline
  readonly alerts: Alerts
  /** What is in flight is cancelled then. */
  readonly cancelAfter: Duration
  readonly #silence: (() => void)[]

  constructor(options: HoldfastOptions, database: DurableKit<Tx>['database'] | undefined) {
    this.options = options
    const env: Env = options.env ?? realEnv()
    const events = new EventBus(env)
    const instance = env.uuid().slice(0, 8)
    this.kit = { env, events, service: options.service, instance }
    this.durable = database === undefined ? undefined : { ...this.kit, database }

    this.runbooks = new Runbooks(options.runbooks)
    this.cancelAfter = cancelAfter(options.service, options.drainFor)
    this.redact = redactor()
    for (const secret of options.secrets ?? []) this.redact.register(secret)
    const logger = options.log === 'silent' ? SILENT : (options.log ?? pinoLogger({ service: options.service, instance }))
    this.log = logger === SILENT ? SILENT : redacting(logger, this.redact)
    this.metrics = metrics()
    this.timeline = timeline(events, { instance, redact: this.redact })
    this.#silence = [logEvents(events, this.log, env), countEvents(events, this.metrics)]

    this.health = createHealth(this.kit)
    this.audit = this.durable === undefined ? undefined : auditLog(this.durable)
    this.tickets = this.durable === undefined || this.audit === undefined ? undefined : ticketDesk(this.durable, this.audit)
    const overrides = this.durable === undefined || this.audit === undefined ? undefined : storedOverrides(this.durable, this.audit)
    this.board = flagBoard(this.kit, {
      environment: options.environment ?? process.env,
      ...(overrides === undefined ? {} : { overrides }),
      ...(options.dataDir === undefined ? {} : { dataDir: options.dataDir }),
    })
    this.breakerFile = options.dataDir === undefined ? undefined : new BreakerFile(options.dataDir, this.kit, this.dependencies)
    this.alerts = alerts(events, env, { sinks: options.alertSinks ?? [], runbookOf: (_alert, key) => this.dependencies.get(key)?.runbook })
    this.bus = commands(this.kit, this.#commandPorts())
    this.items = this.durable === undefined ? undefined : storedItems(this.durable)
  }

  flags<const Names extends string>(declared: { readonly [N in Names]: FlagOptions }): Flags<Names> {
    for (const [name, { runbook }] of Object.entries<FlagOptions>(declared)) this.runbooks.named(`flag ${name}`, runbook)
    return this.board.declare(declared)
  }

  dependency<const Name extends string>(name: Name, options: DependencyOptions): Dependency<Name> {
    this.runbooks.named(`dependency ${name}`, options.runbook)
    return this.#known(dependency(name, options, this.kit))
  }

  attach<D extends Dependency>(made: D): D {
    this.runbooks.named(`dependency ${made.name}`, made.runbook)
    this.#known(made)
    this.#silence.push(hear(made, this.kit.events))
    return made
  }

  faults(options: Omit<FaultOptions, 'production'>): FaultPlan {
    const production = (this.options.environment ?? process.env)['NODE_ENV'] === 'production'
    return this.faultPlans.add(options.name, faults({ ...options, production }, this.kit))
  }

  limit(name: string, options: LimitOptions): Limit {
    return this.limits.add(name, limit(name, options, this.kit))
  }

  worker(name: string, options: WorkerOptions): Worker {
    this.runbooks.named(`worker ${name}`, options.runbook)
    const made = worker(name, { ...options, drainFor: options.drainFor ?? this.cancelAfter }, this.kit, {
      systemState: () => this.health.state,
      ...(this.durable === undefined ? {} : { lease: lease(`worker:${name}`, { ttl: this.options.leaseFor ?? LEASE_DEFAULT }, this.durable), schedule: storedSchedule(this.durable) }),
      ...(this.items === undefined ? {} : { items: this.items }),
    })
    return this.workers.add(name, made)
  }

  /** Nothing of what happens afterwards is written anywhere. */
  silence(): void {
    for (const stop of this.#silence) stop()
    this.alerts.stop()
    this.timeline.stop()
  }

  #known<D extends Dependency>(made: D): D {
    this.dependencies.add(made.name, made)
    this.health.follow(made.name, made.tier)
    this.breakerFile?.declared(made)
    return made
  }

  #commandPorts(): Parameters<typeof commands<Tx>>[1] {
    const { audit, tickets } = this
    if (this.durable === undefined || audit === undefined || tickets === undefined) return undefined
    return { audit, tickets, kit: this.durable }
  }
}

function cancelAfter(service: string, drainFor: Duration = DRAIN_DEFAULT): Duration {
  const drainMs = durationMs(drainFor, `${service}: drainFor`)
  return `${Math.floor(Math.max(drainMs - CANCEL_BEFORE_MS, drainMs * 0.6))}ms`
}
