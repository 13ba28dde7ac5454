/**
 * One open transaction on PGlite.
 *
 * Ends exactly once: by commit, by rollback, or cut by its timer; then its turn passes on and its `tx` is refused.
 */
import type { PGlite } from '@electric-sql/pglite'
import { HoldfastError, type Env, type Timer } from '../../core/index.ts'
import { storeFailure } from '../failure.ts'
import type { SqlTx } from '../port.ts'
import type { Session } from '../transaction.ts'

interface SessionOptions {
  readonly name: string
  readonly pglite: PGlite
  readonly env: Env
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
  readonly giveBack: () => void
  /** An error once the database must not be used any more. */
  readonly usable: () => HoldfastError | undefined
}

export class EmbeddedSession implements Session<SqlTx> {
  readonly tx: SqlTx
  readonly cut: Promise<never>
  readonly #options: SessionOptions
  readonly #timer: Timer
  #ended: HoldfastError | undefined
  #failed: HoldfastError | undefined

  constructor(options: SessionOptions) {
    this.#options = options
    const { name, env, timeoutMs } = options
    let reject: (error: HoldfastError) => void
    this.cut = new Promise((_resolve, refuse) => { reject = refuse })
    // It is looked at only while `work` runs; afterwards nobody may be left to hear it.
    this.cut.catch(() => undefined)
    this.#timer = env.timer(timeoutMs, () => {
      this.#ended ??= new HoldfastError('HF_STORE_TX_TIMEOUT', {
        message: `transaction ${name} held the one connection of the embedded database for ${String(timeoutMs)} ms and is rolled back`, context: { transaction: name },
      })
      reject(this.#ended)
    })
    this.tx = { query: (sql, params) => this.#query(sql, params) }
  }

  async commit(): Promise<void> {
    const { name, pglite, usable, giveBack } = this.#options
    const reason = this.#ended ?? usable()
    if (reason !== undefined) {
      await this.rollback()
      throw reason
    }
    this.#timer.cancel()
    this.#ended = ended(name)
    try {
      const [result] = await pglite.exec('COMMIT')
      if (result?.command !== 'COMMIT') throw this.#failed ?? new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${name} was rolled back although nothing failed here`, context: { transaction: name } })
    } catch (error) {
      throw storeFailure(name, 'commit', error)
    } finally {
      giveBack()
    }
  }

  async rollback(): Promise<void> {
    const { name, pglite, giveBack } = this.#options
    this.#timer.cancel()
    this.#ended ??= ended(name)
    // PGlite runs it behind a statement that is still under way. Where it fails the database is broken, and the next BEGIN says so.
    await pglite.exec('ROLLBACK').catch(() => undefined)
    giveBack()
  }

  async #query<Row>(sql: string, params: readonly unknown[] = []): Promise<readonly Row[]> {
    const { name, pglite, signal, usable } = this.#options
    const reason = this.#ended ?? usable()
    if (reason !== undefined) throw reason
    if (signal?.aborted === true) throw new HoldfastError('HF_CANCELLED', { message: `transaction ${name} was cancelled; nothing is committed`, context: { transaction: name } })
    try {
      if (params.length > 0) return (await pglite.query<Row>(sql, params.map(plain))).rows
      const results = await pglite.exec(sql)
      return (results.findLast(result => result.fields.length > 0)?.rows ?? []) as Row[]
    } catch (error) {
      const failure = storeFailure(name, 'query', error)
      // After the first failure every statement is answered with 25P02: the first is the reason.
      if (failure.context['sqlstate'] !== '25P02') this.#failed = failure
      throw failure.context['sqlstate'] === '25P02' && this.#failed !== undefined ? this.#failed : failure
    }
  }
}

function plain(value: unknown): unknown {
  return value === undefined ? null : value
}

function ended(name: string): HoldfastError {
  return new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${name} has ended; its tx cannot be used any more`, context: { transaction: name } })
}
