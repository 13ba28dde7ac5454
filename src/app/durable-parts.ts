/**
 * What a store adds: once, sagas, inbox, outbox, irreversible actions, and the recovery that finishes what a crash left.
 */
import { type Actor, type Duration, durationMs, HoldfastError, type Json, Registry } from '../core/index.ts'
import { type AuditRow, controlMigrations, irreversible, type Irreversible, type IrreversibleOptions } from '../control/index.ts'
import { backlog, type ConfirmationTicket, DURABLE_MIGRATIONS, inbox, type Inbox, type InboxOptions, type LocalOnce, once, type Once, outbox, type Outbox, type OutboxOptions, type OutsideOnce, PROCESS_DEFAULTS, type Processor, recovery, type Recovery, retryStore, type RetryStore, type RetryStoreOptions, saga, type Saga, type SagaHistory, type SagaOptions, type WorkItem } from '../durable/index.ts'
import { type Database, migrate, type Migration, type Snapshot, sqlDatabase, type SqlTx, type Store, type TransactionOptions } from '../store/index.ts'
import { workerMigrations } from '../worker/index.ts'
import { endsWithin } from './bounded.ts'
import { type CoreParts, LEASE_DEFAULT } from './core-parts.ts'
import type { AnySaga } from './saga-commands.ts'
import { STORE_COMPONENT } from './status-of.ts'
import type { QueueStatus, WorkItemStatus } from './status.ts'

const SWEEPS_PER_LEASE = 3
/** After a sweep that failed. */
const SWEEP_PAUSE_MAX_MS = 5_000
/** Work items that are shown; more than that is one message: "too many". */
const WORK_MAX = 200
const PARKED_MAX = 100
/** How long the start waits for what a crash left to be taken up; a run that waits for a slow dependency goes on beside the service. */
const FIRST_SWEEP_MS = 10_000

/** The store of a service, between `start()` and `stop()`. */
export interface OpenedStore<Tx> {
  database: Database<Tx> | undefined
  /** By `stop()`: whoever comes now comes too late, which is nobody's mistake. */
  closed: boolean
}

/** @throws HF_NOT_STARTED before the store is open, HF_STOPPING after it was closed */
export function openedDatabase<Tx>({ database, closed }: OpenedStore<Tx>): Database<Tx> {
  if (database !== undefined) return database
  if (closed) throw new HoldfastError('HF_STOPPING', { message: 'this instance is stopping and has closed its store', stackless: true })
  throw new HoldfastError('HF_NOT_STARTED', { message: 'the store is not open: call start() and wait for it' })
}

export class DurableParts<Tx> {
  readonly store: Store<Tx>
  readonly inbox: Inbox<Tx>
  readonly outbox: Outbox<Tx>
  readonly #parts: CoreParts<Tx>
  readonly #kit: NonNullable<CoreParts<Tx>['durable']>
  readonly #onces = new Registry<Once<unknown, Json | void, Tx>>('once')
  readonly sagas: Registry<AnySaga> = new Registry<AnySaga>('saga')
  readonly #retryStores = new Registry<{ readonly name: string }>('retry store')
  readonly #irreversibles = new Registry<{ readonly name: string }>('irreversible')
  readonly #processors: Processor[] = []
  readonly #recovery: Recovery
  #migrations: readonly Migration[] = []
  #started = false
  readonly #opened: OpenedStore<Tx>
  #sweeping: Promise<void> | undefined
  #stopListening: (() => void)[] = []

  constructor(store: Store<Tx>, parts: CoreParts<Tx>, opened: OpenedStore<Tx>, queues: { readonly inbox?: InboxOptions; readonly outbox?: OutboxOptions } = {}) {
    if (parts.durable === undefined) throw new HoldfastError('HF_INVARIANT', { message: 'a store was given and no durable kit was made' })
    this.store = store
    this.#parts = parts
    this.#kit = parts.durable
    this.#opened = opened
    const leaseFor = parts.options.leaseFor ?? LEASE_DEFAULT
    const own = inbox<Tx>({ lease: leaseFor, ...queues.inbox }, this.#kit)
    const drainFor = shorter(parts.cancelAfter, PROCESS_DEFAULTS.drainFor)
    // A processor is started and stopped with the service.
    this.inbox = {
      ...own,
      process: (source, handler, options) => {
        const processor = own.process(source, handler, { drainFor, ...options })
        this.#processors.push(processor)
        if (this.#started) processor.start()
        return processor
      },
    }
    const outgoing = outbox<Tx>({ lease: leaseFor, drainFor, ...queues.outbox }, this.#kit)
    this.outbox = {
      ...outgoing,
      topic: (name, options) => {
        parts.runbooks.named(`topic ${name}`, options.runbook)
        outgoing.topic(name, options)
      },
    }
    this.#recovery = recovery<Tx>({ onces: () => this.#onces.all(), sagas: () => this.sagas.all(), inbox: this.inbox, outbox: this.outbox }, this.#kit)
    parts.health.check(STORE_COMPONENT, { tier: 'required', every: '5s', timeout: '1s', slowerThan: '500ms', check: ({ signal }) => this.database().ping(signal) })
    // A third of the lease: what a dead instance held is taken up within twice its lease, the sweep itself included.
    const sweepEveryMs = durationMs(leaseFor, 'leaseFor') / SWEEPS_PER_LEASE
    parts.worker('recovery', { every: `${sweepEveryMs}ms`, safeSleep: `${Math.min(SWEEP_PAUSE_MAX_MS, sweepEveryMs)}ms`, run: () => this.#sweep() })
  }

  /** @throws HF_NOT_STARTED, HF_STOPPING */
  database(): Database<Tx> {
    return openedDatabase(this.#opened)
  }

  once<In, I, R extends Json | void>(name: string, options: LocalOnce<In, I, R, Tx> | OutsideOnce<In, I, R, Tx>): Once<In, R, Tx> {
    this.#parts.runbooks.named(`once ${name}`, options.runbook)
    const made = 'write' in options ? once(name, options, this.#kit) : once(name, options, this.#kit)
    this.#onces.add(name, made as unknown as Once<unknown, Json | void, Tx>)
    return made
  }

  saga<In, I, R extends Json | void, Kinds extends string = never>(name: string, options: SagaOptions<In, I, R, Tx, Kinds>): Saga<In, R> {
    this.#parts.runbooks.named(`saga ${name}`, options.runbook)
    const { tickets } = this.#parts
    const made = saga<In, I, R, Tx, Kinds>(name, { ...options, lease: options.lease ?? this.#parts.options.leaseFor ?? LEASE_DEFAULT }, this.#kit, tickets === undefined ? {} : { tickets })
    this.sagas.add(name, made)
    return made
  }

  irreversible<In, I, R extends Json | void>(name: string, options: IrreversibleOptions<In, I, R, Tx>): Irreversible<In, R> {
    this.#parts.runbooks.named(`irreversible ${name}`, options.runbook)
    this.#irreversibles.add(name, { name })
    return irreversible(name, options, this.#kit)
  }

  retryStore<In, I>(name: string, options: RetryStoreOptions<In, I>): RetryStore<In, I, Tx> {
    const made = retryStore<In, I, Tx>(name, options, this.#kit)
    this.#retryStores.add(name, made)
    return made
  }

  migrations(migrations: readonly Migration[]): void {
    if (this.#started) throw new HoldfastError('HF_ALREADY_STARTED', { message: 'migrations are declared before start()' })
    this.#migrations = [...this.#migrations, ...migrations]
  }

  async transaction<T>(name: string, work: (tx: Tx) => Promise<T>, options?: TransactionOptions): Promise<T> {
    return this.database().transaction(name, work, options)
  }

  async open(): Promise<void> {
    const { env, events, service } = this.#kit
    const database = await this.store.open({ env, events, service })
    this.#opened.database = database
    if (database.dialect === 'sql') await this.#migrate(sqlDatabase(database))
    const { health } = this.#parts
    this.#stopListening = [
      events.on('store.lost', ({ data }) => { health.set(STORE_COMPONENT, 'required', 'unavailable', data.message) }),
      events.on('store.recovered', () => { health.set(STORE_COMPONENT, 'required', 'healthy', 'it answers again') }),
    ]
  }

  /** In the order in which they are applied: the program's own come last. */
  allMigrations(): readonly { readonly scope: string; readonly migrations: readonly Migration[] }[] {
    return [
      { scope: 'durable', migrations: DURABLE_MIGRATIONS },
      { scope: 'control', migrations: controlMigrations },
      { scope: 'worker', migrations: workerMigrations },
      ...(this.#migrations.length > 0 ? [{ scope: this.#kit.service, migrations: this.#migrations }] : []),
    ]
  }

  async #migrate(database: Database<SqlTx>): Promise<void> {
    for (const { scope, migrations } of this.allMigrations()) await migrate(database, scope, migrations, { events: this.#kit.events })
  }

  /**
   * Everything that takes work. What a crash left is taken up first; a part of it that fails or takes long keeps nothing
   * from starting: the recovery worker goes on with it at once, and says what fails.
   */
  async begin(goOn: () => void): Promise<void> {
    await endsWithin(this.#kit.env, FIRST_SWEEP_MS, () => this.#sweep(FIRST_SWEEP_MS))
    goOn()
    this.#started = true
    this.outbox.start()
    for (const processor of this.#processors) processor.start()
  }

  /** One at a time: the worker joins the sweep of the start. */
  #sweep(waitMs?: number): Promise<void> {
    this.#sweeping ??= this.#recovery.sweep(waitMs).finally(() => { this.#sweeping = undefined })
    return this.#sweeping
  }

  /** Takes nothing new, waits for what is in flight. Answers how many pieces were left. */
  async drain(): Promise<number> {
    this.#started = false
    const left = await Promise.all([this.outbox.stop(), ...this.#processors.map(processor => processor.stop())])
    return left.reduce((sum, each) => sum + each, 0)
  }

  async close(): Promise<void> {
    for (const stop of this.#stopListening) stop()
    const { database } = this.#opened
    this.#opened.database = undefined
    this.#opened.closed = true
    await database?.close()
  }

  /** @throws HF_OPTION_INVALID where the store is not the embedded one */
  snapshot(): Promise<Snapshot> {
    const { snapshot } = this.database()
    if (snapshot === undefined) throw new HoldfastError('HF_OPTION_INVALID', { message: `${this.store.name} is copied by its own means (pg_dump, or your provider's backups); snapshots are of the embedded store` })
    return snapshot()
  }

  async workItems(): Promise<readonly WorkItemStatus[]> {
    const items: WorkItemStatus[] = (await this.#recovery.workItems(WORK_MAX)).map(workItemStatus)
    const parked = (await this.#parts.items?.list(undefined, PARKED_MAX)) ?? []
    for (const { worker, item, condition, message, lastFailedAt } of parked) {
      if (condition !== 'parked') continue
      const runbook = this.#parts.workers.get(worker)?.snapshot().runbook
      items.push({ kind: 'worker-item', name: worker, id: item, state: 'parked', since: lastFailedAt, reason: this.#parts.redact.text(message), actions: ['retry', 'discard'], ...(runbook === undefined ? {} : { runbook }) })
    }
    return items.slice(0, WORK_MAX)
  }

  async queues(): Promise<readonly QueueStatus[]> {
    return backlog(this.#kit)
  }

  /** Newest first. @throws HF_OPTION_INVALID, HF_NOT_STARTED and what the store throws */
  async audit(options: { readonly limit?: number; readonly before?: number } = {}): Promise<readonly AuditRow[]> {
    const { audit, redact } = this.#parts
    if (audit === undefined) return []
    const rows = await audit.list(options)
    return rows.map(row => redact.value(row) as AuditRow)
  }

  /** From the database, redacted. @throws HF_UNKNOWN_NAME for the saga, HF_NOT_STARTED and what the store throws */
  async sagaHistory(name: string, id: string): Promise<SagaHistory | undefined> {
    const history = await this.sagas.need(name).history(id)
    return history === undefined ? undefined : this.#parts.redact.value(history) as SagaHistory
  }

  async requestConfirmation(name: string, id: string, actor: Actor): Promise<ConfirmationTicket | undefined> {
    return this.sagas.need(name).requestConfirmation(id, actor)
  }

  async settleWork(item: Pick<WorkItemStatus, 'kind' | 'name' | 'id'>, action: 'retry' | 'discard', reason: string): Promise<boolean> {
    if (item.kind === 'worker-item') return this.#parts.workers.need(item.name)[action](item.id)
    if (item.kind === 'saga') return action === 'retry' ? this.sagas.need(item.name).retry(item.id, reason) : this.sagas.need(item.name).markDone(item.id, 'undone', reason)
    if (item.kind === 'once') return this.#onces.need(item.name).settleByHand(item.id, action, reason)
    if (item.kind === 'inbox') return this.inbox[action](item.name, item.id, reason)
    return action === 'retry' ? this.outbox.requeue(item.id, reason) : this.outbox.discard(item.id, reason)
  }
}

function workItemStatus({ kind, name, id, state, sinceMs, reason, runbook, actions }: WorkItem): WorkItemStatus {
  return { kind, name, id, state, since: sinceMs, reason, actions, ...(runbook === undefined ? {} : { runbook }) }
}

function shorter(a: Duration, b: Duration): Duration {
  return durationMs(a, 'drainFor', { min: 0 }) < durationMs(b, 'drainFor') ? a : b
}
