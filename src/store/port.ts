/**
 * What a store is to the rooms above it: named transactions over one open database, in one of two dialects.
 *
 * `sql` is PostgreSQL's dialect (the embedded PGlite and a PostgreSQL server). `memory` is transactional tables in
 * this process: for tests, simulation and services that need no memory across restarts. A durable feature writes its
 * operations once per dialect, beside each other, and one contract suite runs over all stores.
 *
 * A transaction is atomic and isolated (memory and embedded: serial; postgres: READ COMMITTED, so every
 * read-then-write must re-check in its WHERE or lock the row). Its name is what crash tests and the log call it.
 */
import { type Duration, type EventBus, type Env } from '../core/index.ts'

/** What a commit of this store outlives. */
export interface Durability {
  readonly processCrash: boolean
  readonly powerLoss: boolean
  readonly severalInstances: boolean
}

/** A transaction in PostgreSQL's dialect; what users get where they bring no client of their own. */
export interface SqlTx {
  /**
   * `$1`-style parameters. Timestamps come back as `Date`, bigint and numeric as `string`, jsonb decoded.
   *
   * A parameter for json or jsonb is an object or array, or JSON text: a string is taken as JSON text in every dialect,
   * so pass `JSON.stringify(text)` for a JSON string. `undefined` is NULL. An array goes to `= ANY($1)`.
   * Without parameters several statements may be given, separated by `;`: the rows are those of the last.
   * A statement that fails dooms the transaction, also when its error is caught (except inside a SAVEPOINT that is rolled back to).
   * @throws HF_QUERY_FAILED with `context.sqlstate` and, where there is one, `context.constraint`; HF_STORE_CONFLICT
   *   (40001, 40P01: `work` runs again; 55P03, a lock waited for in vain: it does not); HF_STORE_TX_TIMEOUT; HF_STORE_UNAVAILABLE
   */
  query<Row>(sql: string, params?: readonly unknown[]): Promise<readonly Row[]>
}

/** A keyed table of the memory dialect. Rows are plain JSON, copied in and out: changing one without `set` changes nothing. */
export interface MemoryTable<Row> {
  get(key: string): Row | undefined
  set(key: string, row: Row): void
  delete(key: string): boolean
  /** In insertion order. */
  entries(): IterableIterator<readonly [string, Row]>
  readonly size: number
}

/** A transaction of the memory dialect. */
export interface MemoryTx {
  table<Row>(name: string): MemoryTable<Row>
  /** Rises by one per call; gaps where a transaction was rolled back. */
  sequence(name: string): number
  /** The database's clock, milliseconds. */
  now(): number
}

export interface TransactionOptions {
  readonly signal?: AbortSignal | undefined
  /** Retries of serialization failures, deadlocks and connections found dead before BEGIN: `work` runs again. Default 3. */
  readonly conflictRetries?: number
  /**
   * How long it may stay open before it is cut and rolled back (HF_STORE_TX_TIMEOUT).
   * Default 1 s embedded (one connection: everybody waits), 10 s postgres; memory has no bound.
   */
  readonly timeout?: Duration
}

/** What our own rooms may say beside it. */
export interface RoomTransactionOptions extends TransactionOptions {
  /**
   * `work` is one statement through `last(tx)` (./last.ts) that waits for no lock of long-lived transactions: it may then share
   * a commit with others. With it, `timeout` is the store's. Default false.
   */
  readonly lone?: boolean
}

/** One open database. */
export interface Database<Tx> {
  readonly dialect: 'sql' | 'memory'
  /** Where Tx is a client of the user's choosing (./user-tx.ts): the same transaction as SqlTx. A decorator of a database passes it on. */
  sqlOf?(tx: Tx): SqlTx
  /** Where that client keeps count of savepoints itself: `work` gets the transaction of the inner one. When it throws, only what it did is taken back. */
  savepoint?<T>(tx: Tx, work: (inner: Tx) => Promise<T>): Promise<T>
  readonly durability: Durability
  /**
   * Runs `work` in a transaction called `name` and commits. When `work` throws, it is rolled back and the error passes.
   * `work` must not make outside calls (HF_CALL_IN_TX) nor open another transaction (HF_STORE_REENTRANT).
   * Where `signal` aborts before the commit, it is rolled back (HF_CANCELLED).
   * @throws HF_STORE_UNAVAILABLE (nothing happened), HF_STORE_CONFLICT (nothing happened, try again),
   *   HF_STORE_TX_TIMEOUT (nothing happened), HF_STORE_UNKNOWN_COMMIT (found out by key), HF_QUERY_FAILED
   */
  transaction<T>(name: string, work: (tx: Tx) => Promise<T>, options?: RoomTransactionOptions): Promise<T>
  /** Resolves when the database answers. */
  ping(signal?: AbortSignal): Promise<void>
  /** A copy of everything at one moment, in one file, while it runs. Only where the files are this process's own (embedded). */
  readonly snapshot?: () => Promise<Snapshot>
  /** Waits for open transactions (bounded), then closes. */
  close(): Promise<void>
}

export interface Snapshot {
  readonly file: string
  readonly bytes: number
  /** How many older ones were removed, by the rule of how many are kept. */
  readonly removed: number
}

export interface OpenOptions {
  readonly env: Env
  readonly events: EventBus
  readonly service: string
}

/** A store as it is declared: no I/O before `open`. */
export interface Store<Tx = SqlTx> {
  readonly kind: 'store'
  /** `memory`, `embedded ./data`, `postgres db.internal/bot`: never a password. */
  readonly name: string
  readonly durability: Durability
  open(options: OpenOptions): Promise<Database<Tx>>
}

/**
 * The body of a durable feature for this database's dialect. The one place where the types of transactions meet: a database of
 * dialect `memory` always has MemoryTx as its Tx, one of dialect `sql` has SqlTx, or says by `sqlOf` how it becomes one.
 * Each operation of a port takes the transaction first.
 */
export function bodyFor<Tx, Port>(database: Pick<Database<Tx>, 'dialect' | 'sqlOf'>, bodies: { readonly sql: object; readonly memory: object }): Port {
  if (database.dialect === 'memory') return bodies.memory as Port
  return (database.sqlOf === undefined ? bodies.sql : throughSql(bodies.sql as Operations, database)) as Port
}

/** Operations of a port; what they take after the transaction is known to their callers. */
type Operations = Readonly<Record<string, (tx: SqlTx, ...rest: readonly unknown[]) => unknown>>

const adapted = new WeakMap<object, WeakMap<object, object>>()

function throughSql<Tx>(body: Operations, database: Pick<Database<Tx>, 'sqlOf'>): object {
  let known = adapted.get(body)
  if (known === undefined) adapted.set(body, known = new WeakMap<object, object>())
  let port = known.get(database)
  if (port === undefined) {
    port = Object.fromEntries(Object.entries(body).map(([name, operation]) => [name, (tx: Tx, ...rest: readonly unknown[]) => operation(database.sqlOf?.(tx) ?? tx as SqlTx, ...rest)]))
    known.set(database, port)
  }
  return port
}
