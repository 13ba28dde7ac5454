/**
 * What a transaction is in every dialect: one place for context, re-entrancy, retries of conflicts, and closing.
 *
 * A dialect gives a `Driver`: it begins sessions and says by code what went wrong (./failure.ts maps SQLSTATEs).
 * Here is decided what that means for the caller. `work` runs again only where nothing can have happened: after
 * HF_STORE_CONFLICT, or when the connection was dead before BEGIN; after HF_STORE_UNKNOWN_COMMIT nothing is repeated, ever.
 */
import { currentContext, durationMs, HoldfastError, withContext, type Env, type EventBus } from '../core/index.ts'
import { Availability } from './availability.ts'
import type { Database, Durability, RoomTransactionOptions } from './port.ts'

/** One open transaction of a dialect. */
export interface Session<Tx> {
  readonly tx: Tx
  /** Rejects when the transaction was ended by force (its time is over, its connection is gone) while `work` still runs. */
  readonly cut?: Promise<never>
  /** COMMIT was sent together with the last statement (./last.ts): whatever `work` comes to now, nothing is taken back. */
  readonly committing?: boolean
  /** Resolves when it is committed. @throws HF_STORE_UNKNOWN_COMMIT, HF_STORE_CONFLICT, HF_QUERY_FAILED, HF_STORE_UNAVAILABLE */
  commit(): Promise<void>
  /** Never rejects: where the connection is gone, the database rolls back by itself. */
  rollback(): Promise<void>
}

export interface BeginOptions {
  readonly signal: AbortSignal | undefined
  /** How long it may stay open; undefined: the dialect's default. */
  readonly timeoutMs: number | undefined
}

/** What a dialect must give. Its errors are HoldfastErrors already. */
export interface Driver<Tx> {
  readonly dialect: 'sql' | 'memory'
  readonly durability: Durability
  /** Waits for its turn or a connection, bounded. @throws HF_STORE_UNAVAILABLE, HF_CANCELLED */
  begin(name: string, options: BeginOptions): Promise<Session<Tx>>
  /** For a transaction of one statement, its last; undefined where the dialect gains nothing by knowing. */
  readonly lone?: (name: string, signal: AbortSignal | undefined) => Session<Tx>
  /** @throws HF_STORE_UNAVAILABLE */
  ping(signal: AbortSignal | undefined): Promise<void>
  /** Cuts what is still open. Never rejects. */
  close(): Promise<void>
}

export interface TransactionDefaults {
  /** Four attempts resolve nearly all collisions of short transactions; more would hide a design that always collides. */
  readonly conflictRetries: number
  /** Upper bound of the first pause; doubles per attempt, with full jitter. */
  readonly conflictPauseMs: number
  /** How long `close()` waits for open transactions before they are cut. */
  readonly closeWaitMs: number
}

export const TRANSACTION_DEFAULTS: TransactionDefaults = Object.freeze({ conflictRetries: 3, conflictPauseMs: 10, closeWaitMs: 5_000 })

/** A database over a driver. */
export function openDatabase<Tx>(driver: Driver<Tx>, options: { readonly env: Env; readonly events: EventBus }): Database<Tx> {
  return new DriverDatabase(driver, options.env, options.events)
}

class DriverDatabase<Tx> implements Database<Tx> {
  readonly dialect: 'sql' | 'memory'
  readonly durability: Durability
  readonly #driver: Driver<Tx>
  readonly #env: Env
  readonly #availability: Availability
  /** One token per open transaction. A token and not the database is put into the context, so that what outlives its transaction may use the store again. */
  readonly #open = new Set<object>()
  #closing: Promise<void> | undefined
  #allSettled: (() => void) | undefined

  constructor(driver: Driver<Tx>, env: Env, events: EventBus) {
    this.dialect = driver.dialect
    this.durability = driver.durability
    this.#driver = driver
    this.#env = env
    this.#availability = new Availability(env, events)
  }

  async transaction<T>(name: string, work: (tx: Tx) => Promise<T>, options: RoomTransactionOptions = {}): Promise<T> {
    this.#refuseReentrant(name)
    const timeoutMs = options.timeout === undefined ? undefined : durationMs(options.timeout, `transaction ${name}: timeout`)
    const retries = options.conflictRetries ?? TRANSACTION_DEFAULTS.conflictRetries
    for (let attempt = 0; ; attempt++) {
      if (this.#closing !== undefined) throw closed(name)
      const token = {}
      this.#open.add(token)
      try {
        const value = await this.#attempt(name, work, { signal: options.signal, timeoutMs }, options.lone === true, token)
        this.#availability.answered()
        return value
      } catch (error) {
        const again = mayRunAgain(error) && attempt < retries && options.signal?.aborted !== true
        // What is made good by another attempt is no loss of the store.
        if (!again) {
          this.#availability.noticed(error)
          throw error
        }
      } finally {
        this.#open.delete(token)
        if (this.#open.size === 0) this.#allSettled?.()
      }
      await this.#env.sleep(this.#env.random() * TRANSACTION_DEFAULTS.conflictPauseMs * 2 ** attempt, options.signal)
    }
  }

  async ping(signal?: AbortSignal): Promise<void> {
    if (this.#closing !== undefined) throw closed('ping')
    try {
      await this.#driver.ping(signal)
      this.#availability.answered()
    } catch (error) {
      this.#availability.noticed(error)
      throw error
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#drain().then(() => this.#driver.close())
    return this.#closing
  }

  async #attempt<T>(name: string, work: (tx: Tx) => Promise<T>, options: BeginOptions, lone: boolean, token: object): Promise<T> {
    refuseAborted(name, options.signal)
    const session = (lone ? this.#driver.lone?.(name, options.signal) : undefined) ?? await this.#driver.begin(name, options)
    let value: T
    try {
      const working = withContext({ transaction: name, transactionOwner: token }, () => work(session.tx))
      value = await (session.cut === undefined ? working : Promise.race([working, session.cut]))
      if (session.committing !== true) refuseAborted(name, options.signal)
    } catch (error) {
      await session.rollback()
      throw error
    }
    await session.commit()
    return value
  }

  #refuseReentrant(name: string): void {
    const { transaction, transactionOwner } = currentContext()
    if (transactionOwner === undefined || !this.#open.has(transactionOwner)) return
    throw new HoldfastError('HF_STORE_REENTRANT', {
      message: `transaction ${name} was opened inside transaction ${transaction ?? '?'} of the same database; use the tx that is open, or move the call out`,
      context: { transaction: name, inside: transaction },
    })
  }

  async #drain(): Promise<void> {
    if (this.#open.size === 0) return
    await new Promise<void>(resolve => {
      const timer = this.#env.timer(TRANSACTION_DEFAULTS.closeWaitMs, resolve, { keepAlive: true })
      this.#allSettled = () => {
        timer.cancel()
        resolve()
      }
    })
  }
}

/**
 * After a conflict; and where the connection turned out to be dead before the server had even begun. A lock that was waited
 * for in vain (55P03) is a conflict too, but has taken its time already: the caller decides.
 */
function mayRunAgain(error: unknown): boolean {
  if (!(error instanceof HoldfastError)) return false
  if (error.code === 'HF_STORE_UNAVAILABLE') return error.context['begun'] === false
  return error.code === 'HF_STORE_CONFLICT' && error.context['sqlstate'] !== '55P03'
}

function refuseAborted(name: string, signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return
  throw new HoldfastError('HF_CANCELLED', { message: `transaction ${name} was cancelled; nothing was committed`, cause: signal.reason, context: { transaction: name } })
}

function closed(name: string): HoldfastError {
  return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${name}: the store is closed`, context: { transaction: name, local: true } })
}
