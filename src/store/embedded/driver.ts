/**
 * Transactions on PGlite: one connection, so one at a time, first come first served, each cut when its time is over.
 *
 * PGlite runs on the calling thread: a statement blocks the event loop while it runs and cannot be interrupted. What is
 * cut is a transaction that waits (for a timer, a lock of ours, another call) while everybody waits for it.
 */
import type { PGlite } from '@electric-sql/pglite'
import { HoldfastError, type Env } from '../../core/index.ts'
import { storeFailure } from '../failure.ts'
import type { Durability, SqlTx } from '../port.ts'
import { Turns } from '../queue.ts'
import type { BeginOptions, Driver, Session } from '../transaction.ts'
import { EmbeddedSession } from './session.ts'

export interface EmbeddedDriverOptions {
  readonly pglite: PGlite
  readonly durability: Durability
  readonly env: Env
  readonly transactionTimeoutMs: number
  readonly acquireTimeoutMs: number
  /** After the database is closed: gives the directory free. */
  readonly onClosed: () => Promise<void>
}

const WAITERS_MAX = 1_000
/** PGlite waits for a query that is under way; a checkpoint of a control store takes well below a second. */
const CLOSE_MS = 5_000

export class EmbeddedDriver implements Driver<SqlTx> {
  readonly dialect = 'sql'
  readonly durability: Durability
  readonly #options: EmbeddedDriverOptions
  readonly #turns: Turns
  #unusable: HoldfastError | undefined

  constructor(options: EmbeddedDriverOptions) {
    this.#options = options
    this.durability = options.durability
    this.#turns = new Turns(options.env, { slots: 1, waitersMax: WAITERS_MAX, waitMs: options.acquireTimeoutMs, what: 'the one connection of the embedded database' })
  }

  /** From now on every transaction is refused with `error`: the directory is not ours any more, or the database broke down. */
  disable(error: HoldfastError): void {
    this.#unusable ??= error
  }

  async begin(name: string, { signal, timeoutMs = this.#options.transactionTimeoutMs }: BeginOptions): Promise<Session<SqlTx>> {
    await this.#turns.enter(name, signal)
    try {
      if (this.#unusable !== undefined) throw this.#unusable
      await this.#options.pglite.exec('BEGIN')
      return new EmbeddedSession({ name, pglite: this.#options.pglite, env: this.#options.env, timeoutMs, signal, giveBack: () => { this.#turns.leave() }, usable: () => this.#unusable })
    } catch (error) {
      this.#turns.leave()
      throw storeFailure(name, 'begin', error)
    }
  }

  async ping(signal: AbortSignal | undefined): Promise<void> {
    await this.#turns.enter('ping', signal)
    try {
      if (this.#unusable !== undefined) throw this.#unusable
      await this.#options.pglite.query('SELECT 1')
    } catch (error) {
      throw storeFailure('ping', 'begin', error)
    } finally {
      this.#turns.leave()
    }
  }

  async close(): Promise<void> {
    const { pglite, env, onClosed } = this.#options
    this.disable(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'the store is closed', context: { local: true } }))
    this.#turns.refuseAll('the store is closed')
    await new Promise<void>(resolve => {
      const timer = env.timer(CLOSE_MS, resolve, { keepAlive: true })
      // Whatever it says: what was committed is with the operating system already.
      pglite.close().catch(() => undefined).finally(() => {
        timer.cancel()
        resolve()
      })
    })
    await onClosed()
  }
}
