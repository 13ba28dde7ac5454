/**
 * One open transaction on PGlite.
 *
 * Ends exactly once: by commit, by rollback, or cut by its timer; then its turn passes on and its `tx` is refused.
 */
import type { PGlite, QueryOptions, Results } from '@electric-sql/pglite'
import { HoldfastError, type Env, type Timer } from '../../core/index.ts'
import { storeFailure } from '../failure.ts'
import type { Answer, DriverTx, RawResult } from '../driver-tx.ts'
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

export class EmbeddedSession implements Session<DriverTx> {
  readonly tx: DriverTx
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
    this.tx = {
      query: async <Row>(sql: string, params?: readonly unknown[]) => (await this.#answer<Row>(sql, params)).rows,
      answer: (sql, params) => this.#answer(sql, params),
      raw: async (sql, params) => (await this.#run<(string | null)[]>(sql, params, { rowMode: 'array', parsers: unread(options.pglite) })).map(rawResult),
    }
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

  async #answer<Row>(sql: string, params?: readonly unknown[]): Promise<Answer<Row>> {
    const results = await this.#run<Row>(sql, params)
    const last = results.findLast(result => result.fields.length > 0) ?? results.at(-1)
    return { command: last?.command ?? '', count: countOf(last), rows: last?.rows ?? [] }
  }

  async #run<Row>(sql: string, params: readonly unknown[] = [], queryOptions: QueryOptions = {}): Promise<readonly Results<Row>[]> {
    const { name, pglite, signal, usable } = this.#options
    const reason = this.#ended ?? usable()
    if (reason !== undefined) throw reason
    if (signal?.aborted === true) throw new HoldfastError('HF_CANCELLED', { message: `transaction ${name} was cancelled; nothing is committed`, context: { transaction: name } })
    try {
      if (params.length > 0) return [await pglite.query<Row>(sql, params.map(plain), queryOptions)]
      return await pglite.exec(sql, queryOptions) as unknown as Results<Row>[]
    } catch (error) {
      const failure = storeFailure(name, 'query', error)
      // After the first failure every statement is answered with 25P02: the first is the reason.
      if (failure.context['sqlstate'] !== '25P02') this.#failed = failure
      throw failure.context['sqlstate'] === '25P02' && this.#failed !== undefined ? this.#failed : failure
    }
  }
}

/** Leaves every value as the text that PostgreSQL wrote. */
function unread(pglite: PGlite): NonNullable<QueryOptions['parsers']> {
  return Object.fromEntries(Object.keys(pglite.parsers).map(oid => [Number(oid), (text: string) => text]))
}

function countOf(result: Results<unknown> | undefined): number | null {
  return result?.rowCount ?? result?.affectedRows ?? null
}

function rawResult(result: Results<(string | null)[]>): RawResult {
  return { command: result.command ?? '', count: countOf(result), fields: result.fields.map(({ name, dataTypeID }) => ({ name, type: dataTypeID })), rows: result.rows }
}

function plain(value: unknown): unknown {
  return value === undefined ? null : value
}

function ended(name: string): HoldfastError {
  return new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${name} has ended; its tx cannot be used any more`, context: { transaction: name } })
}
