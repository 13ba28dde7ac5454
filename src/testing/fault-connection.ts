/**
 * One connection through the fault proxy: the client's socket, ours to the server for it, a link each way, and the cut that
 * may wait for what the client sends.
 */
import { Socket } from 'node:net'
import type { Env } from '../core/index.ts'
import { cutSocket, FaultLink, type LinkFaults } from './fault-link.ts'

export interface LinkDirections<T> {
  readonly toServer: T
  readonly toClient: T
}

/** A cut, as the connection sees it that is to be cut. */
export interface ConnectionCut {
  /** What the client sent never arrives. */
  readonly before: boolean
  readonly answered: (received: Uint8Array) => boolean
  readonly withinMs: number
}

export interface ConnectionHost {
  readonly env: Env
  readonly to: { readonly host: string; readonly port: number }
  faults(): LinkDirections<LinkFaults>
  /** Is this the moment of a cut? */
  cutFor(sent: Uint8Array, newFrom: number): ConnectionCut | undefined
  passed(direction: keyof LinkDirections<unknown>, count: number): void
  resetting(): void
}

const SENT_BEFORE_BYTES = 64
const ANSWER_BYTES_MAX = 4_096
const NOTHING = Buffer.alloc(0)

export class FaultConnection {
  /** Resolves when both sockets are closed and nothing of it runs. */
  readonly over: Promise<void>
  /** Both directions together, since it was last set to 0. */
  passedBytes = 0
  readonly #client: Socket
  readonly #server = new Socket({ allowHalfOpen: true })
  readonly #host: ConnectionHost
  readonly #links: readonly FaultLink[]
  readonly #closing = new AbortController()
  #connected = false
  #sentBefore: Buffer = NOTHING
  #cut: ConnectionCut | undefined
  #answer: Buffer = NOTHING

  constructor(client: Socket, host: ConnectionHost) {
    this.#client = client
    this.#host = host
    this.#server.setNoDelay(true)
    const closed = [client, this.#server].map(socket => new Promise<void>(resolve => {
      // An error is followed by 'close', which is what counts.
      socket.on('error', () => undefined)
      socket.once('close', () => { resolve() })
    }))
    const { env } = host
    const closing = this.#closing.signal
    this.#links = [
      new FaultLink(client, this.#server, { env, closing, faults: () => host.faults().toServer, passes: bytes => this.#sent(bytes), passed: count => { host.passed('toServer', count) } }),
      new FaultLink(this.#server, client, { env, closing, faults: () => host.faults().toClient, passes: bytes => this.#received(bytes), passed: count => { host.passed('toClient', count) } }),
    ]
    this.over = Promise.all(closed).then(async () => {
      this.#closing.abort()
      await Promise.all(this.#links.map(link => link.over))
    })
    this.look()
  }

  /** The faults have changed. In a black hole not even the server hears of a new connection. */
  look(): void {
    const { toServer } = this.#host.faults()
    if (!this.#connected && !toServer.blackHole && !this.#closing.signal.aborted) {
      this.#connected = true
      this.#server.connect(this.#host.to.port, this.#host.to.host)
    }
    for (const link of this.#links) link.look()
  }

  /** Cuts both sides with RST. Twice does nothing. */
  reset(): void {
    if (this.#closing.signal.aborted) return
    this.#host.resetting()
    this.#closing.abort()
    for (const socket of [this.#client, this.#server]) cutSocket(socket)
  }

  /** What may go on to the server. */
  #sent(bytes: Buffer): Buffer {
    if (this.#cut !== undefined) return bytes
    const sent = Buffer.concat([this.#sentBefore, bytes])
    this.#sentBefore = sent.subarray(-SENT_BEFORE_BYTES)
    const cut = this.#host.cutFor(sent, sent.length - bytes.length)
    if (cut === undefined) return bytes
    this.#cut = cut
    if (cut.before) {
      this.reset()
      return NOTHING
    }
    const timer = this.#host.env.timer(cut.withinMs, () => { this.reset() })
    this.#closing.signal.addEventListener('abort', () => { timer.cancel() }, { once: true })
    return bytes
  }

  /** What may go on to the client: nothing any more, once a cut waits for the server's answer. */
  #received(bytes: Buffer): Buffer {
    if (this.#cut === undefined) return bytes
    this.#answer = Buffer.concat([this.#answer, bytes]).subarray(-ANSWER_BYTES_MAX)
    if (this.#cut.answered(this.#answer)) this.reset()
    return NOTHING
  }
}
