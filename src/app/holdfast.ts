/**
 * The public face: what `createHoldfast` gives, with a store and without one.
 */
import type { Actor, Duration, Env, EventBus, Json } from '../core/index.ts'
import type { AuditRow, Flags, FlagOptions, Irreversible, IrreversibleOptions } from '../control/index.ts'
import type { ConfirmationTicket, Inbox, InboxOptions, LocalOnce, Once, Outbox, OutboxOptions, OutsideOnce, RetryStore, RetryStoreOptions, Saga, SagaHistory, SagaOptions } from '../durable/index.ts'
import type { DoctorReport } from '../deploy/index.ts'
import type { Dependency, DependencyOptions, Explanation, FaultOptions, FaultPlan } from '../guard/index.ts'
import type { Health } from '../health/index.ts'
import type { Limit, LimitOptions } from '../limits/index.ts'
import type { Alert, Logger, Runbook, TimelineEntry } from '../observe/index.ts'
import type { Migration, TransactionOptions, Store } from '../store/index.ts'
import type { Worker, WorkerOptions } from '../worker/index.ts'
import type { NamedRunbook } from './runbooks.ts'
import type { Status } from './status.ts'

/** What every service may say about itself. */
export interface HoldfastOptions {
  /** Name of the service: in every log line, metric and lease. */
  readonly service: string
  /** Shown by probes, console and events. Default `0.0.0`. */
  readonly version?: string
  /** Time, randomness and outside calls. Default: the real world. */
  readonly env?: Env
  /** Read for pinned switches (`FEATURE_PAYMENTS_ENABLED`), and for `NODE_ENV`: in `production` faults are injected only while armed. Default: `process.env`. */
  readonly environment?: Readonly<Record<string, string | undefined>>
  /**
   * Where the last known good switches, the state of the breakers and the local override file live; each instance has its own. A breaker that is open
   * or forced goes on so after a restart, with the time that remains. Default: nothing is kept, and every breaker begins closed.
   */
  readonly dataDir?: string
  /** Where log lines go. Default: JSON lines on standard output through pino. `'silent'` for tests. */
  readonly log?: Logger | 'silent'
  /** Where alerts go beside the log. A sink that fails never harms anything. */
  readonly alertSinks?: readonly ((alert: Alert) => Promise<void>)[]
  /** What is to be done about each named trouble. Given, a definition that names one that is not here is refused at `start()`. */
  readonly runbooks?: Readonly<Record<string, Runbook>>
  /** Secrets that must never be written anywhere, whatever they turn up in. */
  readonly secrets?: readonly string[]
  /**
   * How many instances of this service are to run: 1 or more. More than one on a store of one instance is refused at `start()`.
   * Default: `HOLDFAST_REPLICAS` of `environment`, else 1.
   */
  readonly replicas?: number
  /** How long what a dead instance held stays taken: leadership, sagas, messages. `'1s'` to `'10m'`, default `'15s'`. */
  readonly leaseFor?: Duration
  /** Longest time that `stop()` waits for work in flight. Default `25s` (Kubernetes kills after 30). */
  readonly drainFor?: Duration
}

/** Useful without a store: flags from the environment, dependencies, limits, health, workers. */
export interface Holdfast {
  readonly service: string
  readonly instance: string
  readonly env: Env
  readonly events: EventBus
  readonly log: Logger
  readonly health: Health
  flags<const Names extends string>(declared: { readonly [N in Names]: FlagOptions }): Flags<Names>
  dependency<const Name extends string>(name: Name, options: DependencyOptions): Dependency<Name>
  /**
   * Takes in a dependency that `dependency()` of `holdfast/guard` made before there was an app. Operators see, force and explain it like any other,
   * health follows its breaker, and what its own bus says of it is heard by log, metrics, timeline and alerts until this app stops. A breaker that is
   * not closed is announced at once. It keeps its time, its rules and its bus; faults that it was given are not taken in.
   * For dependencies only: a breaker or a limit alone has no tier, no runbook and no calls to show.
   * @throws HF_NAME_TAKEN; at `start()` HF_OPTION_INVALID for a runbook that does not exist
   */
  attach<D extends Dependency>(dependency: D): D
  /**
   * Faults on purpose for the calls of a dependency (its option `faults`), known to operators by name: in the status, and by the commands
   * `faults.arm` and `faults.disarm`, which ask who and why and leave an audit row. Where `NODE_ENV` (of `environment`) is `production` nothing is
   * injected until it is armed, for an hour at most; elsewhere it acts from the beginning. Give a flag as `when`, and that switches it too.
   * Emits `faults.armed`, `faults.disarmed`, `fault.injected`; while armed there is an alert. Arming ends with the instance.
   * @throws HF_OPTION_INVALID, HF_NAME_TAKEN
   * @example
   * const chaos = hold.faults({ name: 'panel-chaos', rules: [{ rate: 0.2, fault: { error: 503 } }], when: () => flags.chaos.on })
   * const panel = hold.dependency('panel', { tier: 'degradable', runbook: 'panel-down', faults: chaos })
   */
  faults(options: Omit<FaultOptions, 'production'>): FaultPlan
  limit(name: string, options: LimitOptions): Limit
  worker(name: string, options: WorkerOptions): Worker
  /**
   * Opens the store, migrates, recovers what a crash left, starts checks and workers; resolves when ready.
   * @throws HF_ALREADY_STARTED, HF_OPTION_INVALID (runbooks that are named and do not exist), HF_STOPPING (stopped meanwhile), HF_STORE_UNAVAILABLE, HF_STORE_LOCKED, HF_STORE_DAMAGED, HF_STORE_SCHEMA
   */
  start(): Promise<void>
  /**
   * Drains: not ready, workers finish their item, leases are released, the store is closed. Waits at most `drainFor` for work in flight
   * and some seconds for closing, then says in app.stopped how many pieces were left. Never throws; a second call waits for the first;
   * during a start it ends the start.
   */
  stop(reason?: string): Promise<void>
  /** One page of facts, read from memory and (bounded) from the store. */
  status(): Promise<Status>
  /**
   * Looks at what the service stands on (store, durability against replicas, schema, server, clock, retention, locks) and says what to do. Reads only;
   * what cannot be found out is `unknown` and no error.
   */
  doctor(): Promise<DoctorReport>
  /** The last events, oldest first; `after` is the id of the last entry that is known. */
  timeline(options?: { readonly after?: string; readonly limit?: number }): readonly TimelineEntry[]
  /** Calls `listener` for each new timeline entry; returns the function that stops. */
  onTimeline(listener: (entry: TimelineEntry) => void): () => void
  /** Carries out an operator's command, whoever asks. @throws HF_REASON_REQUIRED, HF_UNKNOWN_NAME, HF_FORBIDDEN */
  command(name: string, request: CommandRequest): Promise<CommandResult>
  /** What a command would do, in words; nothing is changed. @throws HF_UNKNOWN_NAME, HF_FORBIDDEN and what the command's preview throws */
  preview(name: string, request: Pick<CommandRequest, 'target' | 'args' | 'actor'>): Promise<CommandImpact>
  /** Commands that exist, for help texts. */
  commands(): readonly { readonly name: string; readonly summary: string }[]
  /** Everything known about one correlation id, in order. */
  explain(correlationId: string): readonly TimelineEntry[]
  /** What a call of a dependency costs at worst: latency, attempts, load on the other side, work that is held. Undefined: none has this name. */
  explainDependency(name: string): Explanation | undefined
  /** What to do about a named trouble. Undefined: none is given under this name. */
  runbook(id: string): NamedRunbook | undefined
  runbooks(): readonly NamedRunbook[]
  /** Prometheus text. */
  metrics(): string
  /** A fact of the program's own, for log, timeline and (with severity `attention`) an alert. */
  fact(name: string, options: { readonly severity: 'info' | 'warning' | 'attention'; readonly message: string; readonly runbook?: string; readonly key?: string; readonly data?: Readonly<Record<string, string | number | boolean>> }): void
  readonly phase: Status['phase']
}

export interface CommandRequest {
  readonly target: string
  readonly args?: Readonly<Record<string, Json>>
  readonly actor: Actor
  readonly reason: string
  /** For commands that need one, as it was given to the same actor. Never kept. */
  readonly ticket?: string
}

/** What a command would do. */
export interface CommandImpact {
  readonly command: string
  readonly target: string
  readonly impact: string
}

export interface CommandResult {
  readonly command: string
  readonly target: string
  /** One sentence: what is true now. */
  readonly message: string
}

/** What a store adds. */
export interface DurableHoldfast<Tx> extends Holdfast {
  once<In, I, R extends Json | void>(name: string, options: LocalOnce<In, I, R, Tx>): Once<In, R, Tx>
  once<In, I, R extends Json | void>(name: string, options: OutsideOnce<In, I, R, Tx>): Once<In, R, Tx>
  saga<In, I, R extends Json | void, Kinds extends string = never>(name: string, options: SagaOptions<In, I, R, Tx, Kinds>): Saga<In, R>
  /**
   * Last inputs per owner and slot, kept for a Retry button: over restarts, for `keepFor` (7 days), bounded per owner.
   * @throws HF_OPTION_INVALID, HF_NAME_TAKEN
   * @example
   * const inputs = hold.retryStore('generation', { input: Prompt })
   * await inputs.store(userId, model, prompt)
   * const again = await inputs.get(userId, model)
   */
  retryStore<In, I>(name: string, options: RetryStoreOptions<In, I>): RetryStore<In, I, Tx>
  irreversible<In, I, R extends Json | void>(name: string, options: IrreversibleOptions<In, I, R, Tx>): Irreversible<In, R>
  /** The program's own tables: numbered, forward-only, applied at start after Holdfast's own. Nothing to do for `memory()`. */
  migrations(migrations: readonly Migration[]): void
  /** A transaction of the program's own. @throws HF_NOT_STARTED and what the store throws */
  transaction<T>(name: string, work: (tx: Tx) => Promise<T>, options?: TransactionOptions): Promise<T>
  /**
   * Who changed what, why, before and after; refusals too. Newest first, 100 by default, 500 at most; `before` is the id of the last row
   * that is known. @throws HF_OPTION_INVALID, HF_NOT_STARTED and what the store throws
   */
  audit(options?: { readonly limit?: number; readonly before?: number }): Promise<readonly AuditRow[]>
  /** What happened to a run, from the database, over restarts; redacted. Undefined: there is no such run. @throws HF_UNKNOWN_NAME, HF_NOT_STARTED and what the store throws */
  sagaHistory(saga: string, id: string): Promise<SagaHistory | undefined>
  /** A ticket for the step that a run waits with; confirm it by the saga, or by the command `saga.confirm`. Undefined: it waits for none. */
  requestConfirmation(saga: string, id: string, actor: Actor): Promise<ConfirmationTicket | undefined>
  readonly outbox: Outbox<Tx>
  readonly inbox: Inbox<Tx>
}

export type StoreOptions<Tx> = HoldfastOptions & {
  readonly store: Store<Tx>
  /** How messages that came in are kept and tried: attempts, waits, sizes, how long duplicates are recognised. */
  readonly inbox?: InboxOptions
  /** How messages that go out are kept: lanes, sizes, how long once-keys are remembered. How they are sent is said per topic. */
  readonly outbox?: OutboxOptions
}
