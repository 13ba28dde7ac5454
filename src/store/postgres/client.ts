/**
 * One connection to a PostgreSQL server, over the driver `postgres` with a pool of exactly one.
 *
 * The driver reconnects by itself, and a statement of a transaction that lost its connection would then run outside of
 * it, by itself. So a client is used for one connection only: when that is gone it is `lost` for ever and a new
 * client takes its place. The socket is ours, so that a server which hangs can be left at once.
 */
import { Socket } from 'node:net'
import createSql from 'postgres'
import type { Env } from '../../core/index.ts'
import type { Host } from './options.ts'
import { ARRAY_TYPES, ArrayParameter, learnArrays, type ArrayType, type DriverTypes } from './arrays.ts'
import { isLostConnection } from '../failure.ts'
import type { Answer, RawResult } from '../driver-tx.ts'

/** Distinct statements kept prepared per connection; a program that builds SQL texts must not grow the server's memory. */
const PREPARED_MAX = 500

export interface ClientOptions {
  readonly url: string
  readonly env: Env
  readonly service: string
  readonly connectTimeoutMs: number
  readonly prepare: boolean
  /** Where the URL names several: the one that this connection goes to. */
  readonly host: Host | undefined
}

export class Client {
  /** When it was last given back, monotonic milliseconds. */
  idleSinceMs = 0
  /** Resolves when the COMMIT that was sent before the connection was handed on is answered. */
  settled: Promise<unknown> = Promise.resolve()
  /** Told once, when the connection is gone. */
  onLost: () => void = () => undefined
  readonly #sql: createSql.Sql
  readonly #prepare: boolean
  readonly #prepared = new Set<string>()
  #socket: Socket | undefined
  #lost = false

  constructor(options: ClientOptions) {
    this.#prepare = options.prepare
    const given = {
      ...options.host,
      max: 1,
      // A connection is left when it is lost, not by age: an open transaction must not meet its end.
      max_lifetime: null,
      idle_timeout: 0,
      connect_timeout: Math.ceil(options.connectTimeoutMs / 1_000),
      keep_alive: 30,
      // See ./arrays.ts.
      fetch_types: false,
      prepare: options.prepare,
      connection: { application_name: `holdfast ${options.service}` },
      onnotice: () => undefined,
      onclose: () => { this.#lose() },
      transform: { undefined: null },
      types: {
        // A string is JSON text, as PGlite and every other client of PostgreSQL take it; the driver alone would quote it again.
        json: { to: 114, from: [114, 3802], serialize: jsonText, parse: (text: string): unknown => JSON.parse(text) },
      },
      socket: async ({ host, port, path }: { readonly host: readonly string[]; readonly port: readonly number[]; readonly path?: string | false }) => {
        const socket = await connect(typeof path === 'string' ? { path } : (options.host ?? { host: host[0] ?? 'localhost', port: port[0] ?? 5432 }), options)
        // The driver takes the name for the server's certificate from here.
        this.#socket = Object.assign(socket, { host: options.host?.host ?? host[0] })
        return socket
      },
    }
    this.#sql = createSql(options.url, given)
  }

  /** The driver itself, for who writes statements in its own way; see `lost` before each. */
  get sql(): createSql.Sql {
    return this.#sql
  }

  get lost(): boolean {
    return this.#lost
  }

  /** The first statement of a connection: its answer brings the server's version, and what the driver must know of types. */
  async greet(): Promise<void> {
    const { rows } = await this.query(ARRAY_TYPES)
    learnArrays(this.#sql.options as unknown as DriverTypes, rows as readonly ArrayType[])
  }

  /** `18`, as soon as the first answer came. */
  get serverMajor(): number {
    return Number.parseInt((this.#sql.parameters as { readonly server_version?: string }).server_version ?? '0', 10)
  }

  /** A standby, or a server that was set to read only. PostgreSQL says so by itself when it changes. */
  get readsOnly(): boolean {
    const { in_hot_standby: standby, default_transaction_read_only: readOnly } = this.#sql.parameters as unknown as { readonly in_hot_standby?: string; readonly default_transaction_read_only?: string }
    return standby === 'on' || readOnly === 'on'
  }

  /** Statements are sent in the order of the calls, without waiting for each other. */
  async query(text: string, params: readonly unknown[] = []): Promise<Answer<unknown>> {
    return lastResult(await this.#heard(this.#send(text, params)))
  }

  /** The same, with values as the server sent them. */
  async raw(text: string, params: readonly unknown[] = []): Promise<readonly RawResult[]> {
    const answer = await this.#heard(this.#send(text, params).raw()) as unknown as DriverResult | readonly DriverResult[]
    return (isOne(answer) ? [answer] : answer).map(rawResult)
  }

  /** Leaves the connection without ceremony; whatever was under way is rejected. */
  destroy(): void {
    this.#lose()
    this.#socket?.destroy()
    // Rejects what is queued; the socket is gone already, so this cannot wait for the server.
    this.#sql.end({ timeout: 0 }).catch(() => undefined)
  }

  /** Says goodbye to the server, at most a second long. */
  async end(): Promise<void> {
    await this.#sql.end({ timeout: 1 }).catch(() => undefined)
    this.destroy()
  }

  #send(text: string, params: readonly unknown[]): createSql.PendingQuery<(createSql.Row & Iterable<createSql.Row>)[]> {
    if (this.#lost) throw Object.assign(new Error('the connection was lost'), { code: 'CONNECTION_CLOSED' })
    const values = params.map(value => this.#sql.typed(plain(value) as never, 0))
    const query = this.#sql.unsafe(text, values as never[], { prepare: values.length > 0 && this.#mayPrepare(text) })
    // The driver would keep the text of every statement that failed, for ever (query.js, originStackCache).
    return Object.defineProperty(query, 'origin', { value: '' })
  }

  /**
   * A statement learns of a broken connection before the driver closes it, and what is sent in between is answered by nobody, ever: so it is
   * left at the first such word.
   */
  async #heard<T>(answer: PromiseLike<T>): Promise<T> {
    try {
      return await answer
    } catch (error) {
      if (isLostConnection(error)) this.destroy()
      throw error
    }
  }

  #mayPrepare(text: string): boolean {
    if (!this.#prepare) return false
    if (this.#prepared.has(text)) return true
    if (this.#prepared.size >= PREPARED_MAX) return false
    this.#prepared.add(text)
    return true
  }

  #lose(): void {
    if (this.#lost) return
    this.#lost = true
    this.onLost()
  }
}

function connect(to: { readonly path: string } | { readonly host: string; readonly port: number }, { env, connectTimeoutMs }: ClientOptions): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = new Socket()
    const timer = env.timer(connectTimeoutMs, () => {
      socket.destroy()
      reject(Object.assign(new Error(`no connection within ${String(connectTimeoutMs)} ms`), { code: 'CONNECT_TIMEOUT' }))
    }, { keepAlive: true })
    const settle = (): void => {
      timer.cancel()
      socket.removeAllListeners()
    }
    socket.once('error', error => { settle(); reject(error) })
    socket.once('connect', () => { settle(); socket.setNoDelay(true); resolve(socket) })
    if ('path' in to) socket.connect(to.path)
    else socket.connect(to.port, to.host)
  })
}

/**
 * Types are inferred by the server; only what has no textual form of its own is written out here. What cannot be written
 * at all must throw here and now: thrown inside the driver, it leaves the connection waiting for the rest of a message.
 */
function plain(value: unknown): unknown {
  if (value === undefined || value === null) return null
  if (value instanceof Date) return value.toISOString()
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'symbol' || typeof value === 'function') throw new TypeError(`a ${typeof value} is no parameter`)
  if (typeof value !== 'object' || value instanceof Uint8Array) return value
  const text = JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? String(item) : item))
  // Whether an array is an array of PostgreSQL or JSON, only the server knows.
  return Array.isArray(value) ? new ArrayParameter(value, text) : text
}

/** As `plain` left it. */
function jsonText(value: unknown): string {
  if (value instanceof ArrayParameter) return value.json
  return typeof value === 'string' ? value : JSON.stringify(value)
}

/** What the driver answers: the rows, with what it knows about them. */
interface DriverResult extends ReadonlyArray<unknown> {
  readonly command: string | undefined
  readonly count: number | null
  readonly columns?: readonly { readonly name: string; readonly type: number }[]
}

/** Of several statements in one text the driver gives a list of results, else the result itself. */
function isOne(answer: DriverResult | readonly DriverResult[]): answer is DriverResult {
  return 'command' in answer
}

function lastResult(answer: DriverResult | readonly DriverResult[]): Answer<unknown> {
  const result = isOne(answer) ? answer : answer.at(-1)
  // A plain array, as from PGlite: the driver's carries the statement and the columns.
  return { rows: Array.from(result ?? []), command: result?.command ?? '', count: result?.count ?? null }
}

function rawResult(result: DriverResult): RawResult {
  const rows = result as readonly (readonly (Buffer | null)[])[]
  return {
    command: result.command ?? '', count: result.count, fields: (result.columns ?? []).map(({ name, type }) => ({ name, type })),
    rows: Array.from(rows, row => row.map(value => value?.toString('utf8') ?? null)),
  }
}
