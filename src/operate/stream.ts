/**
 * The live stream of the console: server-sent events with status, timeline, and an honest heartbeat.
 *
 * The status is read once for all who watch, when something happened (at most twice a second) and otherwise each second. What
 * did not change is a small `tick`, so that the console knows how old its facts are; when the status hangs there is no
 * tick, and the console says STALE. A client that stops reading is cut and resumes where it was by Last-Event-ID.
 */
import type { Status } from '../app/index.ts'
import type { Env, EventBus, Timer } from '../core/index.ts'
import type { StreamEvents, TimelineEntry } from './api.ts'

export interface StreamSource {
  readonly instance: string
  readonly env: Env
  readonly events: EventBus
  status(): Promise<Status>
  timeline(options?: { readonly after?: string; readonly limit?: number }): readonly TimelineEntry[]
  onTimeline(listener: (entry: TimelineEntry) => void): () => void
}

/** Twice a second at most: faster than this a person sees flicker, not facts. */
const CHANGED_EVERY_MS = 500
const IDLE_EVERY_MS = 1_000
const HEARTBEAT_MS = 10_000
/** Chunks that a client may leave unread before it is cut. */
const BACKLOG_MAX = 256
/** What a console is given when it begins. */
export const TIMELINE_FIRST = 100
/** What is looked through for the entry that a client knows. */
const TIMELINE_MAX = 1_000
/** Browsers connect again after this long. */
const RETRY_MS = 1_000

interface Client {
  send(event: keyof StreamEvents, data: unknown, id?: string): void
  beat(): void
  end(): void
}

export class Streams {
  readonly #source: StreamSource
  readonly #max: number
  readonly #clients = new Set<Client>()
  #unlisten: (() => void)[] = []
  #timer: Timer | undefined
  #dirty = true
  #readAt = Number.NEGATIVE_INFINITY
  #beatAt = 0
  #last: { readonly text: string; readonly status: Status } | undefined
  #reading = false

  constructor(source: StreamSource, max: number) {
    this.#source = source
    this.#max = max
  }

  get open(): number {
    return this.#clients.size
  }

  get full(): boolean {
    return this.#clients.size >= this.#max
  }

  /** A new stream. `after` is the id of the last entry that the client has. */
  connect(after: string | undefined, draining: AbortSignal | undefined): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder()
    let client: Client | undefined
    const leave = (): void => {
      if (client === undefined) return
      this.#clients.delete(client)
      draining?.removeEventListener('abort', onDrain)
      if (this.#clients.size === 0) this.#rest()
    }
    const onDrain = (): void => {
      client?.send('bye', { reason: 'draining' })
      client?.end()
    }
    return new ReadableStream<Uint8Array>(
      {
        start: controller => {
          let ended = false
          const write = (text: string): void => {
            if (ended) return
            if ((controller.desiredSize ?? 0) <= 0) {
              // It reads slower than things happen. It will come back with Last-Event-ID and miss nothing.
              end()
              return
            }
            controller.enqueue(encoder.encode(text))
          }
          const end = (): void => {
            if (ended) return
            ended = true
            leave()
            controller.close()
          }
          client = {
            send: (event, data, id) => { write(`${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`) },
            beat: () => { write(': still here\n\n') },
            end,
          }
          write(`retry: ${String(RETRY_MS)}\n\n`)
          this.#clients.add(client)
          this.#greet(client, after)
          if (draining?.aborted === true) onDrain()
          else draining?.addEventListener('abort', onDrain, { once: true })
          if (this.#clients.size === 1) this.#wake()
        },
        cancel: leave,
      },
      { highWaterMark: BACKLOG_MAX },
    )
  }

  /** Ends every stream with `bye`. */
  stop(reason: string): void {
    for (const client of [...this.#clients]) {
      client.send('bye', { reason })
      client.end()
    }
  }

  /** What it missed, when we know where it was and it is not long ago; otherwise the newest entries. And the last status at once. */
  #greet(client: Client, after: string | undefined): void {
    const known = after === undefined ? [] : this.#source.timeline({ limit: TIMELINE_MAX })
    const index = known.findIndex(entry => entry.id === after)
    // The entry that it has may have been repeated since: it comes again, with its count.
    const missed = known.slice(index)
    if (index >= 0 && missed.length <= TIMELINE_FIRST) {
      for (const entry of missed) client.send('entry', entry, entry.id)
    } else {
      const entries = this.#source.timeline({ limit: TIMELINE_FIRST })
      client.send('timeline', { entries }, entries.at(-1)?.id)
    }
    if (this.#last !== undefined) client.send('status', this.#last.status)
    this.#dirty = true
  }

  #wake(): void {
    this.#beatAt = this.#source.env.monotonic()
    this.#unlisten = [
      this.#source.onTimeline(entry => { for (const client of [...this.#clients]) client.send('entry', entry, entry.id) }),
      this.#source.events.onAny(() => { this.#dirty = true }),
      this.#source.events.on('app.stopped', () => { this.stop('stopped') }),
    ]
    this.#turn()
  }

  #rest(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    for (const stop of this.#unlisten.splice(0)) stop()
    // Whoever comes next is told what is true then, not what was.
    this.#last = undefined
    this.#readAt = Number.NEGATIVE_INFINITY
  }

  /** Every half second while somebody watches. */
  #turn(): void {
    const now = this.#source.env.monotonic()
    if (now - this.#beatAt >= HEARTBEAT_MS) {
      this.#beatAt = now
      for (const client of [...this.#clients]) client.beat()
    }
    if (this.#clients.size === 0) return
    this.#timer = this.#source.env.timer(CHANGED_EVERY_MS, () => { this.#turn() })
    if (!this.#reading && (this.#dirty || now - this.#readAt >= IDLE_EVERY_MS)) void this.#read(now)
  }

  async #read(now: number): Promise<void> {
    this.#reading = true
    this.#dirty = false
    this.#readAt = now
    try {
      const status = await this.#source.status()
      if (this.#clients.size === 0) return
      const text = JSON.stringify({ ...status, at: 0 })
      const changed = text !== this.#last?.text
      this.#last = { text, status }
      for (const client of [...this.#clients]) {
        if (changed) client.send('status', status)
        else client.send('tick', { at: status.at })
      }
    } catch {
      // No status, no tick: the age that the console shows grows, which is the truth.
    } finally {
      this.#reading = false
    }
  }
}
