/**
 * One direction of a proxied connection: what arrives on `source` goes out on `target`, in order, as the faults allow.
 *
 * A closing is passed on in its turn behind the bytes before it, so that in a black hole neither side learns that the other
 * has gone. Memory is bounded: beyond a megabyte that waits, nothing more is read from the source.
 */
import type { Socket } from 'node:net'
import type { Env } from '../core/index.ts'

/** What stands in the way of one direction, resolved. */
export interface LinkFaults {
  readonly latencyMs: number
  readonly jitterMs: number
  readonly sliceBytes: number
  readonly bytesPerSecond: number
  readonly blackHole: boolean
}

export interface LinkHost {
  readonly env: Env
  /** As they are now. */
  faults(): LinkFaults
  /** What of the bytes may go on. */
  passes(bytes: Buffer): Buffer
  /** So many bytes went out. */
  passed(count: number): void
  /** The connection is over, whatever still waits. */
  readonly closing: AbortSignal
}

type Arrival = { readonly kind: 'bytes'; readonly bytes: Buffer; readonly atMs: number } | { readonly kind: 'end' | 'reset' }

/** Bytes that wait in one direction before its source is not read any more. */
const WAITING_MAX = 1_048_576
/** A limited bandwidth is spread over the second in so many pieces. */
const PIECES_PER_SECOND = 50

/** RST, at once: by itself it would wait for bytes that a peer which does not read will never take. */
export function cutSocket(socket: Socket): void {
  // One that is not connected (yet) has nobody to send RST to; of one that has said FIN the kernel takes none, and Node would never close it.
  if (!socket.connecting && !socket.pending && !socket.writableEnded) socket.resetAndDestroy()
  socket.destroy()
}

export class FaultLink {
  /** Resolves when nothing of this direction runs any more. */
  readonly over: Promise<void>
  readonly #source: Socket
  readonly #target: Socket
  readonly #host: LinkHost
  readonly #queue: Arrival[] = []
  #waiting = 0
  #wake: () => void = () => undefined

  constructor(source: Socket, target: Socket, host: LinkHost) {
    this.#source = source
    this.#target = target
    this.#host = host
    let ended = false
    source.on('data', (bytes: Buffer) => {
      this.#waiting += bytes.length
      if (this.#waiting > WAITING_MAX) source.pause()
      this.#push({ kind: 'bytes', bytes, atMs: host.env.monotonic() })
    })
    source.on('end', () => { ended = true; this.#push({ kind: 'end' }) })
    source.on('close', () => { if (!ended) this.#push({ kind: 'reset' }) })
    target.on('close', () => { this.#wake() })
    host.closing.addEventListener('abort', () => { this.#wake() }, { once: true })
    this.over = this.#run()
  }

  /** The faults have changed. */
  look(): void {
    this.#wake()
  }

  #push(arrival: Arrival): void {
    this.#queue.push(arrival)
    this.#wake()
  }

  get #isOver(): boolean {
    return this.#host.closing.aborted || this.#target.destroyed
  }

  /** Runs until the connection's end, its reset, or the proxy's closing. */
  async #run(): Promise<void> {
    while (!this.#isOver) {
      const next = this.#queue.shift()
      if (next === undefined) {
        await this.#woken()
      } else if (next.kind === 'bytes') {
        await this.#pass(next.bytes, next.atMs)
        this.#waiting -= next.bytes.length
        if (this.#waiting <= WAITING_MAX) this.#source.resume()
      } else {
        await this.#unobstructed()
        if (this.#isOver) return
        if (next.kind === 'end') this.#target.end()
        else cutSocket(this.#target)
        return
      }
    }
  }

  async #pass(arrived: Buffer, atMs: number): Promise<void> {
    const { env, closing } = this.#host
    const { latencyMs, jitterMs } = this.#host.faults()
    const waitMs = latencyMs + jitterMs === 0 ? 0 : atMs + latencyMs + env.random() * jitterMs - env.monotonic()
    if (waitMs > 0) await env.sleep(waitMs, closing)
    await this.#unobstructed()
    const bytes = this.#host.passes(arrived)
    for (let from = 0; from < bytes.length;) {
      await this.#unobstructed()
      if (this.#isOver) return
      // Looked at again for each piece: faults may change while a long one is on its way.
      const { sliceBytes, bytesPerSecond } = this.#host.faults()
      const piece = bytes.subarray(from, from + Math.min(sliceBytes, Math.ceil(bytesPerSecond / PIECES_PER_SECOND)))
      from += piece.length
      await this.#write(piece)
      this.#host.passed(piece.length)
      if (Number.isFinite(bytesPerSecond)) await env.sleep((piece.length / bytesPerSecond) * 1_000, closing)
    }
  }

  async #unobstructed(): Promise<void> {
    while (this.#host.faults().blackHole && !this.#isOver) await this.#woken()
  }

  #woken(): Promise<void> {
    return new Promise(resolve => { this.#wake = resolve })
  }

  /** A piece is handed to the kernel before the next is written, so that pieces are not glued together on our side. */
  #write(piece: Buffer): Promise<void> {
    return new Promise(resolve => { this.#target.write(piece, () => { resolve() }) })
  }
}
