/**
 * One open transaction on a PostgreSQL connection.
 *
 * Decides what a failure means by when it happened: before COMMIT was sent nothing is kept; after that only the server's
 * answer tells, and without one the outcome is unknown. A transaction whose statement failed never looks committed.
 */
import type { Sql } from 'postgres'
import { HoldfastError, type Env, type Timer } from '../../core/index.ts'
import { isLostConnection, isReadOnly, storeFailure } from '../failure.ts'
import type { Answer, DriverTx } from '../driver-tx.ts'
import { LAST_QUERY, type OffersLast } from '../last.ts'
import type { Session } from '../transaction.ts'
import type { Client } from './client.ts'

interface SessionOptions {
  readonly name: string
  readonly client: Client
  /** The answer to BEGIN, which may still be on its way. */
  readonly begun: Promise<unknown>
  readonly timeoutMs: number
  readonly idleTimeoutMs: number
  readonly signal: AbortSignal | undefined
  readonly env: Env
  /** Does somebody wait for a connection? */
  readonly awaited: () => boolean
  readonly giveBack: () => void
}

/** The driver's own access to a transaction, for the adapter of its users. */
export interface Connection {
  readonly sql: Sql
  /** Sends as a statement of the transaction; refused when that has ended or its connection is gone. */
  run<T>(send: () => Promise<T>): Promise<T>
  /** What the driver's error of a statement means. */
  failureOf(error: unknown): HoldfastError
}

/** A symbol, so that a decorated copy of the transaction keeps it. */
const CONNECTION: unique symbol = Symbol('connection')

/** Undefined for a transaction of another dialect. */
export function connectionOf(tx: DriverTx & { readonly [CONNECTION]?: Connection }): Connection | undefined {
  return tx[CONNECTION]
}

/** ROLLBACK on a connection that answers takes one round trip. */
const ROLLBACK_MS = 1_000

export class PostgresSession implements Session<DriverTx> {
  readonly tx: DriverTx & OffersLast & { readonly [CONNECTION]: Connection }
  readonly cut: Promise<never>
  readonly #options: SessionOptions
  readonly #timer: Timer
  #rejectCut: (error: HoldfastError) => void = () => undefined
  /** Why it was ended by force. */
  #ended: HoldfastError | undefined
  /** Its end has been decided: nothing more is taken. */
  #over = false
  #failed: HoldfastError | undefined
  #begun = false
  #underWay = 0
  #idleSinceMs: number
  #released = false
  /** Since the last statement was sent. */
  #committing: Promise<void> | undefined
  #restore: () => void = () => undefined

  constructor(options: SessionOptions) {
    this.#options = options
    const { env, name, timeoutMs, begun } = options
    this.cut = new Promise((_resolve, reject) => { this.#rejectCut = reject })
    // It is looked at only while `work` runs; afterwards nobody may be left to hear it.
    this.cut.catch(() => undefined)
    // A failed BEGIN is told by the first statement or by the commit.
    begun.then(() => { this.#begun = true }, () => undefined)
    this.#idleSinceMs = env.monotonic()
    this.#timer = env.timer(timeoutMs, () => {
      this.#cutWith(new HoldfastError('HF_STORE_TX_TIMEOUT', { message: `transaction ${name} was open for ${String(timeoutMs)} ms and is rolled back`, context: { transaction: name } }))
    })
    const { client } = options
    const before = client.onLost
    this.#restore = () => { client.onLost = before }
    client.onLost = () => {
      before()
      this.#cutWith(this.#lostError())
    }
    // What columns a statement gives is its caller's word.
    const answer = <Row>(sql: string, params?: readonly unknown[]): Promise<Answer<Row>> => this.#run(async () => await client.query(sql, params) as Answer<Row>)
    this.tx = {
      query: async <Row>(sql: string, params?: readonly unknown[]) => (await answer<Row>(sql, params)).rows,
      answer,
      raw: (sql, params) => this.#run(() => client.raw(sql, params)),
      [CONNECTION]: { sql: client.sql, run: send => this.#run(send), failureOf: error => this.#failureOf(error) },
      [LAST_QUERY]: (sql, params) => this.#queryLast(sql, params),
    }
  }

  get committing(): boolean {
    return this.#committing !== undefined
  }

  async commit(): Promise<void> {
    if (this.#committing !== undefined) return this.#committing
    if (this.#ended !== undefined) {
      const reason = this.#ended
      await this.rollback()
      throw reason
    }
    this.#end()
    return this.#commit()
  }

  async rollback(): Promise<void> {
    const { client, env } = this.#options
    if (this.#committing !== undefined) {
      // The statement that failed has taken the transaction back; nothing else can be said any more.
      await this.#committing.catch(() => undefined)
      return
    }
    this.#end()
    // The COMMIT of the one before is on this connection too, and must be heard.
    await client.settled
    // A statement that still runs would have to be waited for; the server rolls back when the connection is gone.
    if (this.#underWay > 0) client.destroy()
    const timer = env.timer(ROLLBACK_MS, () => { client.destroy() }, { keepAlive: true })
    try {
      if (!client.lost) await client.query('ROLLBACK')
    } catch {
      // Whatever the reason: the connection is left, and with it the transaction.
      client.destroy()
    } finally {
      timer.cancel()
      this.#release()
    }
  }

  /** Behind the `statement` that was sent just now, or else when BEGIN is known to have succeeded. */
  async #commit(statement?: Promise<unknown>): Promise<void> {
    const { client, name, env, timeoutMs } = this.#options
    // The server may hang: then the answer is not waited for, and the outcome is unknown.
    const timer = env.timer(timeoutMs, () => { client.destroy() }, { keepAlive: true })
    try {
      if (statement === undefined) await this.#begunWell()
      const answer = client.query('COMMIT')
      if (this.#options.awaited()) this.#handOn(answer)
      const { command } = await answer
      if (command === 'COMMIT') return
      if (statement !== undefined && await statement.then(() => true, () => false)) throw this.#outlived()
      throw this.#failed ?? new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${name} was rolled back by the server although nothing failed here`, context: { transaction: name } })
    } catch (error) {
      throw storeFailure(name, 'commit', error)
    } finally {
      timer.cancel()
      this.#release()
    }
  }

  /** Where BEGIN failed, COMMIT is never sent, and the connection is not trusted any more. */
  async #begunWell(): Promise<void> {
    const { client, begun, name } = this.#options
    try {
      await begun
    } catch (error) {
      client.destroy()
      throw isLostConnection(error) ? this.#lostError() : storeFailure(name, 'begin', error)
    }
  }

  /** The driver prepares a statement anew that the server has forgotten, and repeats it: by then the transaction was over, and it ran by itself. */
  #outlived(): HoldfastError {
    const { client, name } = this.#options
    client.destroy()
    return new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: `transaction ${name}: its last statement was not prepared on the server any more; behind a pooler that does not keep prepared statements, set prepare: false`, context: { transaction: name } })
  }

  /** The next transaction's BEGIN goes behind our COMMIT, in the same turn: it would wait for the answer anyway. */
  #handOn(answer: Promise<unknown>): void {
    this.#options.client.settled = answer.then(() => undefined, () => undefined)
    this.#release()
  }

  async #queryLast<Row>(sql: string, params?: readonly unknown[]): Promise<readonly Row[]> {
    const { client, name } = this.#options
    this.#refuseEnded()
    if (client.lost) throw this.#lostError()
    this.#end()
    const answer = client.query(sql, params)
    this.#committing = this.#commit(answer)
    // Heard by `commit` or `rollback`.
    this.#committing.catch(() => undefined)
    try {
      return (await answer).rows as readonly Row[]
    } catch (error) {
      throw this.#firstFailure(storeFailure(name, client.lost || isLostConnection(error) ? 'commit' : 'query', error))
    }
  }

  async #run<T>(send: () => Promise<T>): Promise<T> {
    const { env } = this.#options
    this.#refuseEnded()
    this.#underWay++
    try {
      return await send()
    } catch (error) {
      throw this.#firstFailure(this.#failureOf(error))
    } finally {
      this.#underWay--
      this.#idleSinceMs = env.monotonic()
    }
  }

  #failureOf(error: unknown): HoldfastError {
    const { client, name } = this.#options
    // A fail-over has left this connection on a server that does not write any more: the next one looks for the one that does.
    if (client.readsOnly && isReadOnly(error)) client.destroy()
    return client.lost || isLostConnection(error) ? (this.#ended ?? this.#lostError()) : storeFailure(name, 'query', error)
  }

  /** After the first failure the server answers every statement with 25P02: the first is the reason. */
  #firstFailure(failure: HoldfastError): HoldfastError {
    if (failure.context['sqlstate'] === '25P02') return this.#failed ?? failure
    this.#failed = failure
    return failure
  }

  #refuseEnded(): void {
    const { name, signal } = this.#options
    if (this.#ended !== undefined) throw this.#ended
    if (this.#over) throw ended(name)
    if (signal?.aborted === true) throw new HoldfastError('HF_CANCELLED', { message: `transaction ${name} was cancelled; nothing is committed`, context: { transaction: name } })
  }

  /** No further statement is taken. */
  #end(): void {
    this.#timer.cancel()
    this.#over = true
  }

  /** The server ends a session that idles in a transaction; the driver does not pass on why. */
  #lostError(): HoldfastError {
    const { name, env, idleTimeoutMs } = this.#options
    const idleMs = env.monotonic() - this.#idleSinceMs
    if (this.#underWay === 0 && idleMs >= idleTimeoutMs * 0.95) {
      return new HoldfastError('HF_STORE_TX_TIMEOUT', { message: `transaction ${name} was idle for ${String(Math.round(idleMs))} ms and was rolled back by the server`, context: { transaction: name } })
    }
    return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${name}: nothing was committed: the connection was lost`, context: { transaction: name, begun: this.#begun } })
  }

  #cutWith(error: HoldfastError): void {
    if (this.#over || this.#ended !== undefined) return
    this.#ended = error
    this.#rejectCut(error)
  }

  #release(): void {
    if (this.#released) return
    this.#released = true
    this.#restore()
    this.#options.giveBack()
  }
}

function ended(name: string): HoldfastError {
  return new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${name} has ended; its tx cannot be used any more`, context: { transaction: name } })
}
