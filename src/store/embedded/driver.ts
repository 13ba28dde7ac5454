/**
 * Transactions on PGlite: one connection, so one at a time, first come first served, each cut when its time is over.
 *
 * PGlite runs on the calling thread: a statement blocks the event loop while it runs and cannot be interrupted. What is
 * cut is a transaction that waits (for a timer, a lock of ours, another call) while everybody waits for it.
 */
import type { PGlite } from '@electric-sql/pglite'
import { HoldfastError, type Env } from '../../core/index.ts'
import { storeFailure } from '../failure.ts'
import type { DriverTx } from '../driver-tx.ts'
import type { Durability } from '../port.ts'
import { Turns } from '../queue.ts'
import type { DatabaseFiles } from './files.ts'
import type { BeginOptions, Driver, Session } from '../transaction.ts'
import { EmbeddedSession } from './session.ts'

export interface EmbeddedDriverOptions {
  readonly pglite: PGlite
  /** Undefined: in memory. */
  readonly files?: DatabaseFiles | undefined
  readonly durability: Durability
  readonly env: Env
  readonly transactionTimeoutMs: number
  readonly acquireTimeoutMs: number
  /** Before the database is closed, when no transaction begins any more: ends what still reads its files. */
  readonly beforeClose?: () => Promise<void>
  /** After the database is closed: gives the directory free. */
  readonly onClosed: () => Promise<void>
}

/**
 * Segments of the log, 16 MB each, after which the data is written out and dead rows are cleared. A server does both by itself; PGlite is
 * its single-user mode, which never does: the log would grow for as long as the process lives (measured: 224 MB after 30 large
 * statements), a start after a crash would replay all of it, and the tables of queues would grow with all that ever passed.
 */
const CHECKPOINT_SEGMENTS = 2
/**
 * How long transactions may follow each other before timers and I/O get their turn. PGlite answers within the same turn of the event
 * loop, so that a loop of nothing but transactions would stop everything else, the heartbeat of the directory's lock included.
 */
const LOOP_TURN_MS = 50
const WAITERS_MAX = 1_000
/** PGlite waits for a query that is under way; a checkpoint of a control store takes well below a second. */
const CLOSE_MS = 5_000

export class EmbeddedDriver implements Driver<DriverTx> {
  readonly dialect = 'sql'
  readonly durability: Durability
  readonly #options: EmbeddedDriverOptions
  readonly #turns: Turns
  #unusable: HoldfastError | undefined
  #checkpointing = false
  /** Set until the event loop has turned. */
  #sameLoopTurnSinceMs: number | undefined

  constructor(options: EmbeddedDriverOptions) {
    this.#options = options
    this.durability = options.durability
    this.#turns = new Turns(options.env, { slots: 1, waitersMax: WAITERS_MAX, waitMs: options.acquireTimeoutMs, what: 'the one connection of the embedded database' })
  }

  /** From now on every transaction is refused with `error`: the directory is not ours any more, or the database broke down. */
  disable(error: HoldfastError): void {
    this.#unusable ??= error
  }

  async begin(name: string, { signal, timeoutMs = this.#options.transactionTimeoutMs }: BeginOptions): Promise<Session<DriverTx>> {
    await this.#turns.enter(name, signal)
    try {
      await this.#letLoopTurn()
      if (this.#unusable !== undefined) throw this.#unusable
      await this.#options.pglite.exec('BEGIN')
      return new EmbeddedSession({ name, pglite: this.#options.pglite, env: this.#options.env, timeoutMs, signal, giveBack: () => { this.#giveBack() }, usable: () => this.#unusable })
    } catch (error) {
      this.#turns.leave()
      throw storeFailure(name, 'begin', error)
    }
  }

  /** Runs `work` while no transaction is open. @throws HF_STORE_UNAVAILABLE */
  async inOwnTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    await this.#turns.enter(name)
    try {
      if (this.#unusable !== undefined) throw this.#unusable
      return await work()
    } finally {
      this.#giveBack()
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
    const broken = this.#unusable !== undefined
    this.disable(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'the store is closed', context: { local: true } }))
    this.#turns.refuseAll('the store is closed')
    await this.#options.beforeClose?.()
    // Not in order any more: what PostgreSQL writes when it is closed must not come on top. Its next start replays the log.
    if (broken) {
      await pglite.fs?.closeFs().catch(() => undefined)
      await onClosed()
      return
    }
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

  /** Only where it is a real database: one in memory is for tests, whose time may stand still. */
  async #letLoopTurn(): Promise<void> {
    const { env, files } = this.#options
    if (files === undefined) return
    if (this.#sameLoopTurnSinceMs === undefined) {
      this.#sameLoopTurnSinceMs = env.monotonic()
      env.timer(0, () => { this.#sameLoopTurnSinceMs = undefined })
    } else if (env.monotonic() - this.#sameLoopTurnSinceMs >= LOOP_TURN_MS) {
      await env.sleep(0)
    }
  }

  #giveBack(): void {
    this.#turns.leave()
    if ((this.#options.files?.segmentsBegun ?? 0) >= CHECKPOINT_SEGMENTS && !this.#checkpointing) void this.#checkpoint()
  }

  /** In a turn of its own. Where it gets none in time, or fails, the next segments of the log ask for it again. */
  async #checkpoint(): Promise<void> {
    const { pglite, files } = this.#options
    this.#checkpointing = true
    try {
      await this.#turns.enter('checkpoint')
      try {
        files?.forgetSegments()
        // Not in one call: that would be one transaction, in which VACUUM may not run.
        for (const statement of ['VACUUM (ANALYZE)', 'CHECKPOINT']) if (this.#unusable === undefined) await pglite.exec(statement)
      } finally {
        this.#turns.leave()
      }
    } catch {
      // A refused turn; or PostgreSQL's error, which the transactions meet too where it concerns them.
    } finally {
      this.#checkpointing = false
    }
  }
}
