/**
 * Transactions on a PostgreSQL server: READ COMMITTED, bounded on both sides, over a fixed share of connections.
 *
 * Bounded on the server (lock, statement and idle timeouts, set with SET LOCAL and so safe behind a transaction pooler),
 * which holds even when this process is stopped; and here, which holds even when the server hangs.
 * BEGIN travels together with the first statement, a last statement (../last.ts) with its COMMIT, and while others wait for a
 * connection, a COMMIT with the BEGIN of the next: a round trip costs more than a statement.
 */
import { HoldfastError, messageOf, type Env } from '../../core/index.ts'
import { isCrowded, isLostConnection, isRefusedForGood, storeFailure } from '../failure.ts'
import type { DriverTx } from '../driver-tx.ts'
import type { Durability } from '../port.ts'
import { Turns } from '../queue.ts'
import type { BeginOptions, Driver, Session } from '../transaction.ts'
import { Client } from './client.ts'
import { GroupCommit, LoneSession, type GroupConnection } from './group-commit.ts'
import { severalHosts, type Host, type ResolvedPostgres } from './options.ts'
import { PostgresSession } from './session.ts'

/** What a server with its default `fsync` and `synchronous_commit` keeps. */
export const POSTGRES_DURABILITY: Durability = Object.freeze({ processCrash: true, powerLoss: true, severalInstances: true })

const WAITERS_MAX = 1_000
const PING_MS = 2_000
/** The oldest that PostgreSQL's own project still looked after in 2026, and that our tests run on. */
const SERVER_MAJOR_MIN = 14
/** A crowded server is not helped by asking at once. */
const CROWDED_PAUSE_MS = 50
const CROWDED_PAUSE_MAX_MS = 1_000
/** A connection that rested longer may be dead without our knowing: it is asked before work is begun on it. */
const TRUSTED_IDLE_MS = 1_000

export class PostgresDriver implements Driver<DriverTx> {
  readonly dialect = 'sql'
  readonly durability: Durability = POSTGRES_DURABILITY
  readonly #url: string
  readonly #address: string
  readonly #options: ResolvedPostgres
  readonly #env: Env
  readonly #service: string
  readonly #turns: Turns
  readonly #idle: Client[] = []
  readonly #clients = new Set<Client>()
  readonly #hosts: readonly Host[]
  readonly #groups: GroupCommit
  /** The host that answered last, by number; the next connection goes there first. */
  #host = 0
  #closed = false

  constructor(url: string, address: string, options: ResolvedPostgres, env: Env, service: string) {
    this.#url = url
    this.#hosts = severalHosts(url)
    this.#address = address
    this.#options = options
    this.#env = env
    this.#service = service
    this.#turns = new Turns(env, { slots: options.connections, waitersMax: WAITERS_MAX, waitMs: options.acquireTimeoutMs, what: `one of ${String(options.connections)} connections` })
    this.#groups = new GroupCommit({ env, waitMs: options.acquireTimeoutMs, timeoutMs: options.transactionTimeoutMs, begin: () => this.#beginGroup() })
  }

  /** Reaches the server, with patience for one that is just starting. @throws HF_STORE_UNAVAILABLE */
  async connect(): Promise<void> {
    const { openWithinMs } = this.#options
    const startedMs = this.#env.monotonic()
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 1_000)) {
      try {
        const client = await this.#newClient()
        client.idleSinceMs = this.#env.monotonic()
        this.#idle.push(client)
        return
      } catch (error) {
        const leftMs = openWithinMs - (this.#env.monotonic() - startedMs)
        if (isRefusedForGood(error) || leftMs <= 0) throw this.#unreachable(error)
        await this.#env.sleep(Math.min(pauseMs, leftMs))
      }
    }
  }

  async begin(name: string, { signal, timeoutMs = this.#options.transactionTimeoutMs }: BeginOptions): Promise<Session<DriverTx>> {
    await this.#turns.enter(name, signal)
    try {
      const { client, begun } = await this.#begun(timeoutMs)
      return new PostgresSession({
        name, client, begun, timeoutMs, signal, env: this.#env, idleTimeoutMs: this.#options.idleInTransactionTimeoutMs,
        awaited: () => this.#turns.waiting > 0,
        giveBack: () => { this.#giveBack(client) },
      })
    } catch (error) {
      this.#turns.leave()
      const failure = storeFailure(name, 'begin', error)
      throw failure.code === 'HF_STORE_UNAVAILABLE' ? this.#unreachable(error) : failure
    }
  }

  lone(name: string, signal: AbortSignal | undefined): Session<DriverTx> {
    return new LoneSession(this.#groups, name, signal)
  }

  async ping(signal: AbortSignal | undefined): Promise<void> {
    await this.#turns.enter('ping', signal)
    let client: Client | undefined
    const timer = this.#env.timer(PING_MS, () => { client?.destroy() })
    try {
      client = this.#takeIdle() ?? await this.#newClient()
      await client.query('SELECT 1')
    } catch (error) {
      client?.destroy()
      throw this.#unreachable(error)
    } finally {
      timer.cancel()
      if (client === undefined) this.#turns.leave()
      else this.#giveBack(client)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#turns.refuseAll('the store is closed')
    const idle = this.#idle.splice(0)
    for (const client of this.#clients) if (!idle.includes(client)) client.destroy()
    await Promise.all(idle.map(client => client.end()))
  }

  async #beginGroup(): Promise<GroupConnection> {
    await this.#turns.enter('of a group', undefined)
    try {
      const { client, begun } = await this.#begun(this.#options.transactionTimeoutMs)
      // What it came to, the statements behind it tell.
      begun.catch(() => undefined)
      return { client, awaited: () => this.#turns.waiting > 0, giveBack: () => { this.#giveBack(client) } }
    } catch (error) {
      this.#turns.leave()
      throw isLostConnection(error) ? this.#unreachable(error) : storeFailure('of a group', 'begin', error)
    }
  }

  async #begun(timeoutMs: number): Promise<{ readonly client: Client; readonly begun: Promise<unknown> }> {
    for (let client = this.#takeIdle(); client !== undefined; client = this.#takeIdle()) {
      const begun = client.query(this.#beginSql(client, timeoutMs))
      if (this.#env.monotonic() - client.idleSinceMs <= TRUSTED_IDLE_MS) return { client, begun }
      try {
        await begun
        return { client, begun }
      } catch (error) {
        // Nothing has begun: a connection that died in its sleep (restart, fail-over, firewall) is replaced unnoticed.
        client.destroy()
        if (!isLostConnection(error)) throw error
      }
    }
    const client = await this.#connected()
    return { client, begun: client.query(this.#beginSql(client, timeoutMs)) }
  }

  /** Where the server has no connection to spare, one of it or one of ours may come free before the wait for one is over. */
  async #connected(): Promise<Client> {
    const startedMs = this.#env.monotonic()
    for (let pauseMs = CROWDED_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, CROWDED_PAUSE_MAX_MS)) {
      try {
        return await this.#newClient()
      } catch (error) {
        const leftMs = this.#options.acquireTimeoutMs - (this.#env.monotonic() - startedMs)
        if (!isCrowded(error) || leftMs <= 0) throw error
        await this.#env.sleep(Math.min(leftMs, pauseMs * (0.5 + this.#env.random() / 2)))
      }
      const client = this.#takeIdle()
      if (client !== undefined) return client
    }
  }

  /** One text, so one round trip; nothing of it outlives the transaction. */
  #beginSql(client: Client, timeoutMs: number): string {
    const { lockTimeoutMs, idleInTransactionTimeoutMs } = this.#options
    const whole = client.serverMajor >= 17 ? `; SET LOCAL transaction_timeout = ${String(Math.ceil(timeoutMs))}` : ''
    return `BEGIN; SET LOCAL lock_timeout = ${String(Math.ceil(Math.min(lockTimeoutMs, timeoutMs)))}; SET LOCAL statement_timeout = ${String(Math.ceil(timeoutMs))}; `
      + `SET LOCAL idle_in_transaction_session_timeout = ${String(Math.ceil(Math.min(idleInTransactionTimeoutMs, timeoutMs)))}${whole}`
  }

  #takeIdle(): Client | undefined {
    // The one used last, so that a quiet service rests on few connections.
    for (let client = this.#idle.pop(); client !== undefined; client = this.#idle.pop()) {
      if (!client.lost) return client
    }
    return undefined
  }

  /** Of several hosts the first that answers and writes, beginning with the one that did last. */
  async #newClient(): Promise<Client> {
    const first = this.#host
    for (let tried = 1; ; tried++) {
      const index = (first + tried - 1) % Math.max(1, this.#hosts.length)
      try {
        const client = await this.#newClientTo(this.#hosts[index])
        this.#host = index
        return client
      } catch (error) {
        if (this.#closed || tried >= this.#hosts.length) throw error
      }
    }
  }

  async #newClientTo(host: Host | undefined): Promise<Client> {
    if (this.#closed) throw new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'the store is closed', context: { local: true } })
    const client = new Client({
      url: this.#url, env: this.#env, service: this.#service, connectTimeoutMs: this.#options.connectTimeoutMs, prepare: this.#options.prepare,
      host,
    })
    this.#clients.add(client)
    client.onLost = () => { this.#clients.delete(client) }
    const timer = this.#env.timer(this.#options.connectTimeoutMs, () => { client.destroy() }, { keepAlive: true })
    try {
      await client.greet()
      // A pooler may not say.
      if (client.serverMajor > 0 && client.serverMajor < SERVER_MAJOR_MIN) throw this.#tooOld(client.serverMajor)
      if (client.readsOnly) throw new HoldfastError('HF_STORE_UNAVAILABLE', { message: `PostgreSQL at ${host === undefined ? this.#address : `${host.host}:${String(host.port)}`} only reads: it is a standby, or was set to read only`, context: { address: this.#address } })
      return client
    } catch (error) {
      client.destroy()
      throw error
    } finally {
      timer.cancel()
    }
  }

  #giveBack(client: Client): void {
    client.idleSinceMs = this.#env.monotonic()
    if (this.#closed) client.destroy()
    else if (!client.lost) this.#idle.push(client)
    this.#turns.leave()
  }

  #tooOld(major: number): HoldfastError {
    return new HoldfastError('HF_STORE_UNAVAILABLE', {
      message: `PostgreSQL ${String(major)} at ${this.#address} is too old: expected ${String(SERVER_MAJOR_MIN)} or newer`, context: { address: this.#address, forGood: true },
    })
  }

  #unreachable(error: unknown): HoldfastError {
    if (error instanceof HoldfastError) return error
    return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `cannot reach PostgreSQL at ${this.#address}: ${reasonOf(error)}`, context: { address: this.#address } })
  }
}

/** Where several addresses of one name were tried, Node's own message is empty. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join('; ')
  return messageOf(error)
}
