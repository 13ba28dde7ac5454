/**
 * TCP proxy with faults, in this process: what a network does to a connection, done on purpose and at a chosen moment.
 *
 * Stands between a service and its PostgreSQL (or any other server) in tests with real sockets. It listens on loopback only,
 * forwards bytes in order and unchanged, and adds what it is told: latency, thin pipes, slices, black holes, resets,
 * refusals, and cuts at a chosen byte, such as between a COMMIT and its answer.
 * Not here: loss and reordering of packets, which TCP hides from programs anyway; TLS is passed through, not looked into.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { durationMs, HoldfastError, realEnv, sizeBytes, type Duration, type Env, type Size } from '../core/index.ts'
import { FaultConnection, type ConnectionCut, type LinkDirections } from './fault-connection.ts'
import type { LinkFaults } from './fault-link.ts'

export interface FaultProxyOptions {
  /** Where connections go on to. */
  readonly to: { readonly host?: string; readonly port: number }
  /** Time and the randomness of jitter. Default the real world. */
  readonly env?: Env
}

/** Together, per direction. What is not given is healed. */
export interface Faults {
  /** Every piece arrives so much later; order is kept. At least `'1ms'`. Default none. */
  readonly latency?: Duration
  /** A random time from 0 to this on top. Default none. */
  readonly jitter?: Duration
  /** Passed on in pieces of at most so much, each written by itself. At least `'1b'`. Default as it arrived. */
  readonly slice?: Size
  /** Passed on per second and connection. At least `'1b'`. Default as fast as it goes. */
  readonly bandwidth?: Size
  /**
   * Nothing passes, not even the news that the other side has closed: on open connections (half-open from now on) and on
   * new ones, which are accepted. What arrives waits, and passes when it is healed. Default false.
   */
  readonly blackHole?: boolean
}

export type Direction = 'both' | 'to-server' | 'to-client'

/** A cut that waits for its moment. */
export interface ArmedCut {
  /** Connections cut by it so far. */
  readonly cuts: number
  /** Resolves at its first cut. */
  readonly happened: Promise<void>
  disarm(): void
}

export interface CutOptions {
  /**
   * Is this the moment? Given what a client sent last on one connection: up to 64 bytes that came before, so that what is split
   * between packets is seen, and from `newFrom` on what has arrived now. What ends before `newFrom` has passed already.
   */
  readonly when: (sent: Uint8Array, newFrom: number) => boolean
  /**
   * `'after'`: what was sent reaches the server, and its answer never reaches the client. `'before'`: it never reaches the server.
   * The client sees the same. Default `'after'`.
   */
  readonly cut?: 'after' | 'before'
  /**
   * Has the server answered? Given what it sent since, up to its last 4096 bytes. The connection is cut as soon as this is
   * true, or after `within`, and nothing of it passes. Default: at the first byte.
   */
  readonly answered?: (received: Uint8Array) => boolean
  /** Default `'1s'`. */
  readonly within?: Duration
  /** Cuts until it disarms itself, from 1. Default 1. */
  readonly times?: number
}

export interface FaultProxy {
  readonly host: string
  readonly port: number
  /** Open now. */
  readonly connections: number
  readonly seen: { readonly accepted: number; readonly reset: number; readonly bytesToServer: number; readonly bytesToClient: number }
  /** Replaces the faults of a direction, on open connections and new ones. `set({})` heals. @throws HF_OPTION_INVALID */
  set(faults: Faults, direction?: Direction): void
  /** No faults, no armed cuts, listening again. */
  heal(): Promise<void>
  /** Cuts every open connection on both sides with RST. Answers how many. */
  reset(): number
  /** Every connection is cut with RST as soon as so many bytes have passed on it from now on, both directions together. Undefined lifts it. @throws HF_OPTION_INVALID */
  limit(bytes: Size | undefined): void
  /** Refuses connections (ECONNREFUSED) and cuts open ones. */
  down(): Promise<void>
  /** Listens again, on the same port. */
  up(): Promise<void>
  /** Cuts a connection at the moment that a client sent something. @throws HF_OPTION_INVALID */
  cutWhen(options: CutOptions): ArmedCut
  /**
   * Cuts the connection on which the next COMMIT is sent to a PostgreSQL server. `'after'` (default): the server has committed and
   * its answer is lost. `'before'`: it never learns of it and rolls back. The client can't know which.
   * Seen are COMMIT as a simple query and as a parsed statement, alone or together with others; not through TLS.
   */
  resetAfterCommit(options?: { readonly cut?: 'after' | 'before'; readonly times?: number }): ArmedCut
  /** Cuts what is open, stops listening; when it resolves nothing is left. */
  close(): Promise<void>
}

const LOOPBACK = '127.0.0.1'
const NO_FAULTS: LinkFaults = Object.freeze({ latencyMs: 0, jitterMs: 0, sliceBytes: Infinity, bytesPerSecond: Infinity, blackHole: false })

/**
 * Starts a proxy on a free port of 127.0.0.1.
 *
 * ```ts
 * const proxy = await faultProxy({ to: { port: 5432 } })
 * const store = postgres(`postgres://bot:secret@${proxy.host}:${proxy.port}/bot`)
 * proxy.resetAfterCommit()
 * ```
 */
export async function faultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const proxy = new Proxy(options)
  await proxy.up()
  return proxy
}

class Proxy implements FaultProxy {
  readonly host = LOOPBACK
  port = 0
  readonly seen = { accepted: 0, reset: 0, bytesToServer: 0, bytesToClient: 0 }
  readonly #env: Env
  readonly #to: { readonly host: string; readonly port: number }
  readonly #open = new Set<FaultConnection>()
  readonly #cuts = new Set<Cut>()
  #faults: LinkDirections<LinkFaults> = { toServer: NO_FAULTS, toClient: NO_FAULTS }
  #limitBytes = Infinity
  #server: Server | undefined
  #closed = false

  constructor({ to, env }: FaultProxyOptions) {
    this.#env = env ?? realEnv()
    this.#to = { host: to.host ?? LOOPBACK, port: to.port }
  }

  get connections(): number {
    return this.#open.size
  }

  set(faults: Faults, direction: Direction = 'both'): void {
    const resolved = resolveFaults(faults)
    this.#faults = {
      toServer: direction === 'to-client' ? this.#faults.toServer : resolved,
      toClient: direction === 'to-server' ? this.#faults.toClient : resolved,
    }
    for (const connection of this.#open) connection.look()
  }

  async heal(): Promise<void> {
    this.#cuts.clear()
    this.limit(undefined)
    this.set({})
    await this.up()
  }

  reset(): number {
    const open = [...this.#open]
    for (const connection of open) connection.reset()
    return open.length
  }

  limit(bytes: Size | undefined): void {
    this.#limitBytes = bytes === undefined ? Infinity : sizeBytes(bytes, 'fault proxy: limit')
    for (const connection of this.#open) connection.passedBytes = 0
  }

  async down(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    const closed = server === undefined ? undefined : new Promise<void>(resolve => { server.close(() => { resolve() }) })
    this.reset()
    await closed
  }

  async up(): Promise<void> {
    if (this.#server !== undefined || this.#closed) return
    const server = createServer({ allowHalfOpen: true, noDelay: true }, client => { this.#accept(client) })
    this.#server = server
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(this.port, LOOPBACK, resolve)
    })
    const address = server.address()
    if (typeof address === 'object' && address !== null) this.port = address.port
  }

  cutWhen(options: CutOptions): ArmedCut {
    const times = options.times ?? 1
    if (!Number.isInteger(times) || times < 1) throw new HoldfastError('HF_OPTION_INVALID', { message: `fault proxy: times: expected a whole number from 1, got ${String(times)}` })
    const cut = new Cut(options, times, durationMs(options.within ?? '1s', 'fault proxy: within'))
    this.#cuts.add(cut)
    return {
      get cuts() {
        return cut.cuts
      },
      happened: cut.happened,
      disarm: () => { this.#cuts.delete(cut) },
    }
  }

  resetAfterCommit(options: { readonly cut?: 'after' | 'before'; readonly times?: number } = {}): ArmedCut {
    return this.cutWhen({ ...options, when: sendsCommit, answered: isIdle })
  }

  async close(): Promise<void> {
    this.#closed = true
    const open = [...this.#open]
    await this.down()
    await Promise.all(open.map(connection => connection.over))
  }

  #accept(client: Socket): void {
    this.seen.accepted += 1
    const connection = new FaultConnection(client, {
      env: this.#env,
      to: this.#to,
      faults: () => this.#faults,
      cutFor: (sent, newFrom) => this.#cutFor(sent, newFrom),
      passed: (direction, count) => {
        this.seen[direction === 'toServer' ? 'bytesToServer' : 'bytesToClient'] += count
        connection.passedBytes += count
        if (connection.passedBytes >= this.#limitBytes) connection.reset()
      },
      resetting: () => { this.seen.reset += 1 },
    })
    this.#open.add(connection)
    void connection.over.then(() => { this.#open.delete(connection) })
  }

  #cutFor(sent: Uint8Array, newFrom: number): Cut | undefined {
    for (const cut of this.#cuts) {
      if (!cut.when(sent, newFrom)) continue
      cut.hit()
      if (cut.cuts >= cut.times) this.#cuts.delete(cut)
      return cut
    }
    return undefined
  }
}

class Cut implements ConnectionCut {
  cuts = 0
  readonly times: number
  readonly withinMs: number
  readonly before: boolean
  readonly when: CutOptions['when']
  readonly answered: (received: Uint8Array) => boolean
  /** Resolves at the first. */
  readonly happened: Promise<void>
  #tell: () => void = () => undefined

  constructor(options: CutOptions, times: number, withinMs: number) {
    this.times = times
    this.withinMs = withinMs
    this.before = options.cut === 'before'
    this.when = options.when
    this.answered = options.answered ?? (received => received.length > 0)
    this.happened = new Promise(resolve => { this.#tell = resolve })
  }

  hit(): void {
    this.cuts += 1
    this.#tell()
  }
}

/** Query ('Q', length, text) and Parse ('P', length, name, text) of PostgreSQL's protocol whose text is COMMIT, or ends with it after other statements. */
const COMMIT = /(?:Q[\s\S]{4}|P[\s\S]{4}[^\0]{0,40}\0|;)\s*commit\s*;?\s*\0/gi
/** ReadyForQuery with status idle: no transaction is open any more. */
const IDLE = /Z\0\0\0\x05I/

function sendsCommit(sent: Uint8Array, newFrom: number): boolean {
  return [...latin1(sent).matchAll(COMMIT)].some(match => match.index + match[0].length > newFrom)
}

function isIdle(received: Uint8Array): boolean {
  return IDLE.test(latin1(received))
}

/** One character per byte. */
function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

/** @throws HF_OPTION_INVALID */
function resolveFaults(faults: Faults): LinkFaults {
  const ms = (value: Duration | undefined, name: string): number => (value === undefined ? 0 : durationMs(value, `fault proxy: ${name}`))
  const bytes = (value: Size | undefined, name: string): number => (value === undefined ? Infinity : sizeBytes(value, `fault proxy: ${name}`))
  return {
    latencyMs: ms(faults.latency, 'latency'), jitterMs: ms(faults.jitter, 'jitter'),
    sliceBytes: bytes(faults.slice, 'slice'), bytesPerSecond: bytes(faults.bandwidth, 'bandwidth'),
    blackHole: faults.blackHole ?? false,
  }
}
