/**
 * Transactions of one statement that share a COMMIT: what comes while two groups are under way goes together in the next.
 *
 * A record of one row costs more in BEGIN, COMMIT and the flush than in itself; of many callers each waits no longer, and
 * all of them cost one. What is promised stays: a caller is answered when its statement is committed. Where one of a group
 * is refused by the server nothing of the group is kept, so each of the others goes again, alone; where the answer to
 * COMMIT is lost, the outcome is unknown to all of them. Statements that may wait long for a lock do not belong here: the
 * others would wait with them.
 */
import { HoldfastError, type Env } from '../../core/index.ts'
import type { Answer, DriverTx } from '../driver-tx.ts'
import { storeFailure } from '../failure.ts'
import { LAST_QUERY, type OffersLast } from '../last.ts'
import type { Session } from '../transaction.ts'
import type { Client } from './client.ts'

/** Groups under way: one is written by the server while the next is sent. */
const UNDER_WAY_MAX = 2
/** Statements of one group: enough for its COMMIT to cost each next to nothing. */
const GROUP_MAX = 64
const WAITING_MAX = 1_000

export interface GroupCommitOptions {
  readonly env: Env
  /** How long a statement waits to be sent. */
  readonly waitMs: number
  /** How long the server has for a group. */
  readonly timeoutMs: number
  /** A connection on which BEGIN is under way. */
  readonly begin: () => Promise<GroupConnection>
}

export interface GroupConnection {
  readonly client: Client
  /** Does somebody wait for it? Then it is handed on as soon as COMMIT is sent. */
  awaited(): boolean
  giveBack(): void
}

interface Lone {
  readonly name: string
  readonly sql: string
  readonly params: readonly unknown[] | undefined
  readonly signal: AbortSignal | undefined
  readonly sinceMs: number
  /** What one of its group was refused took it back too: now it goes by itself. */
  alone: boolean
  resolve(answer: Answer<unknown>): void
  reject(error: HoldfastError): void
}

type Settled = { readonly answer: Answer<unknown> } | { readonly error: unknown }

export class GroupCommit {
  readonly #options: GroupCommitOptions
  readonly #waiting: Lone[] = []
  #underWay = 0
  /** A group is getting its connection: who comes meanwhile goes with it. */
  #beginning = false
  #watching = false

  constructor(options: GroupCommitOptions) {
    this.#options = options
  }

  /** Resolves when it is committed. @throws as a statement and a COMMIT do */
  run(name: string, sql: string, params: readonly unknown[] | undefined, signal: AbortSignal | undefined): Promise<Answer<unknown>> {
    if (this.#waiting.length >= WAITING_MAX) return Promise.reject(notSent(name, `${String(WAITING_MAX)} statements already wait`))
    return new Promise((resolve, reject) => {
      this.#waiting.push({ name, sql, params, signal, sinceMs: this.#options.env.monotonic(), alone: false, resolve, reject })
      this.#next()
    })
  }

  #next(): void {
    if (this.#waiting.length === 0) return
    if (this.#beginning || this.#underWay >= UNDER_WAY_MAX) {
      this.#watch()
      return
    }
    this.#underWay++
    this.#beginning = true
    void this.#carry().finally(() => {
      this.#underWay--
      this.#next()
    })
  }

  /** Never rejects. */
  async #carry(): Promise<void> {
    const sinceMs = this.#options.env.monotonic()
    let connection: GroupConnection
    try {
      connection = await this.#options.begin()
    } catch (error) {
      this.#withoutConnection(sinceMs, storeFailure('of a group', 'begin', error))
      return
    } finally {
      this.#beginning = false
    }
    const group = this.#taken()
    // More came than one group takes.
    this.#next()
    await this.#send(connection, group)
  }

  /** Who waited since it was asked for is told; who came later asks anew. */
  #withoutConnection(sinceMs: number, { code, message, context }: HoldfastError): void {
    for (let [lone] = this.#waiting; lone !== undefined && lone.sinceMs <= sinceMs; [lone] = this.#waiting) {
      this.#waiting.shift()
      lone.reject(new HoldfastError(code, { message: `transaction ${lone.name} was not begun: ${message}`, context: { ...context, transaction: lone.name } }))
    }
  }

  /** In the order they came; who was refused in a group before goes by itself. */
  #taken(): readonly Lone[] {
    const group: Lone[] = []
    while (group.length < GROUP_MAX) {
      const [lone] = this.#waiting
      if (lone === undefined || (lone.alone && group.length > 0)) break
      this.#waiting.shift()
      if (lone.signal?.aborted === true) {
        lone.reject(new HoldfastError('HF_CANCELLED', { message: `transaction ${lone.name} was cancelled; nothing was committed`, context: { transaction: lone.name } }))
        continue
      }
      group.push(lone)
      if (lone.alone) break
    }
    return group
  }

  async #send(connection: GroupConnection, group: readonly Lone[]): Promise<void> {
    const { env, timeoutMs } = this.#options
    const { client } = connection
    const timer = env.timer(timeoutMs, () => { client.destroy() }, { keepAlive: true })
    const seen: (Settled | undefined)[] = group.map(() => undefined)
    // Noted where it is heard, in the order of the answers: what is not noted when COMMIT is answered came after it.
    const answers = group.map(({ sql, params }, index) => client.query(sql, params).then((answer): Settled => (seen[index] = { answer }), (error: unknown): Settled => (seen[index] = { error })))
    const committing = client.query('COMMIT')
    const handedOn = connection.awaited()
    if (handedOn) {
      client.settled = committing.then(() => undefined, () => undefined)
      connection.giveBack()
    }
    try {
      const { command } = await committing
      if (command === 'COMMIT') for (const [index, answer] of answers.entries()) tell(group[index], await answer)
      else await this.#takenBack(group, [...seen], answers, client)
    } catch (error) {
      for (const lone of group) lone.reject(storeFailure(lone.name, 'commit', error))
    } finally {
      timer.cancel()
      if (!handedOn) connection.giveBack()
    }
  }

  /** `seen`: what each had come to when the server answered that it rolled back. */
  async #takenBack(group: readonly Lone[], seen: readonly (Settled | undefined)[], answers: readonly Promise<Settled>[], client: Client): Promise<void> {
    const again: Lone[] = []
    for (const [index, lone] of group.entries()) {
      const before = seen[index]
      const settled = before ?? await answers[index]
      if (settled !== undefined && 'answer' in settled && before === undefined) {
        // The server had forgotten the prepared statement, and the driver repeated it: by then the transaction was over.
        client.destroy()
        lone.reject(new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: `transaction ${lone.name}: its statement was not prepared on the server any more; behind a pooler that does not keep prepared statements, set prepare: false`, context: { transaction: lone.name } }))
      } else if (settled !== undefined && 'error' in settled && (lone.alone || group.length === 1 || !isBehindAnother(settled.error))) {
        lone.reject(storeFailure(lone.name, 'query', settled.error))
      } else {
        lone.alone = true
        again.push(lone)
      }
    }
    this.#waiting.unshift(...again)
  }

  /** Who waits while all that is under way hangs is told when its time is over. */
  #watch(): void {
    if (this.#watching) return
    const { env, waitMs } = this.#options
    const [first] = this.#waiting
    if (first === undefined) return
    this.#watching = true
    env.timer(Math.max(0, first.sinceMs + waitMs - env.monotonic()), () => {
      this.#watching = false
      const now = env.monotonic()
      while (this.#waiting[0] !== undefined && this.#waiting[0].sinceMs + waitMs <= now) {
        const lone = this.#waiting.shift()
        lone?.reject(notSent(lone.name, `waited ${String(waitMs)} ms to be sent`))
      }
      this.#watch()
    })
  }
}

/** A transaction that is one statement, its last: it has no connection, and shares one with others when it is sent. */
export class LoneSession implements Session<DriverTx> {
  readonly tx: DriverTx & OffersLast
  #sent: Promise<unknown> | undefined

  constructor(groups: GroupCommit, name: string, signal: AbortSignal | undefined) {
    const refuse = (): never => {
      throw new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${name}: it was opened for one statement, its last`, context: { transaction: name } })
    }
    this.tx = {
      query: async () => refuse(), answer: async () => refuse(), raw: async () => refuse(),
      [LAST_QUERY]: async <Row>(sql: string, params?: readonly unknown[]) => {
        if (this.#sent !== undefined) refuse()
        const sent = groups.run(name, sql, params, signal)
        this.#sent = sent
        // What columns a statement gives is its caller's word.
        return (await sent).rows as readonly Row[]
      },
    }
  }

  get committing(): boolean {
    return this.#sent !== undefined
  }

  async commit(): Promise<void> {
    await this.#sent
  }

  async rollback(): Promise<void> {
    await this.#sent?.catch(() => undefined)
  }
}

/** 25P02: refused because one before it was. */
function isBehindAnother(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '25P02'
}

function tell(lone: Lone | undefined, settled: Settled): void {
  if (lone === undefined) return
  if ('answer' in settled) lone.resolve(settled.answer)
  else lone.reject(storeFailure(lone.name, 'query', settled.error))
}

function notSent(name: string, why: string): HoldfastError {
  return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${name}: ${why}`, context: { transaction: name, local: true } })
}
