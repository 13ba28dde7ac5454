/**
 * Delivers updates to one webhook, the way Telegram's server does it.
 *
 * Updates wait in lanes (a chat's messages, a user's button presses, a user's payments, ...). A lane sends its head and
 * nothing else until that succeeded or expired; lanes run in parallel up to `max_connections`. After a failure the first
 * retry is immediate, then 2, 4, 8 ... seconds, at most a random 60 to 120, or what our `Retry-After` says. Without a
 * success for 10 s the server probes with one connection. Source: tdlib/telegram-bot-api `WebhookActor.cpp`.
 *
 * Not here: DNS, certificates, connection reuse.
 */
import { type Env, messageOf, type Timer } from 'holdfast/core'
import type { FaultScript, SeededRandom } from '../kit/index.ts'
import { json } from '../kit/index.ts'
import type { Update } from './types.ts'

export interface WebhookSettings {
  readonly url: string
  readonly secretToken: string | undefined
  readonly maxConnections: number
  readonly allowedUpdates: readonly string[] | undefined
}

export interface WebhookContext {
  readonly env: Env
  readonly random: SeededRandom
  readonly faults: FaultScript
  /** Probe with one connection after 10 s without a success. */
  readonly probe: boolean
  /** The bot answered with a method to be carried out. */
  readonly onMethod: (body: string, contentType: string) => void
  /** 410 for longer than 23 hours. */
  readonly onGone: () => void
}

/** An update that is not delivered yet. */
export interface Pending {
  readonly update: Update
  readonly kind: string
  readonly lane: string
  /** Wall clock, milliseconds. */
  readonly expiresAt: number
}

interface Queued extends Pending {
  failures: number
  delayS: number
}

interface Lane {
  readonly key: string
  readonly queue: Queued[]
  timer: Timer | undefined
}

/** What the bot answered. */
export interface WebhookAnswer {
  readonly status: number
  readonly body: string
  readonly retryAfterS: number
  readonly contentType: string
}

type Attempt = { readonly ok: true } | { readonly ok: false; readonly message: string; readonly status: number | undefined; readonly retryAfterS: number }

const RESPONSE_LIMIT_MS = 60_000
const PROBE_AFTER_MS = 10_000
const GONE_FOR_MS = 23 * 3_600_000
const RETRY_CAP_S = 60
const RETRY_AFTER_MAX_S = 3_600

export class WebhookTarget {
  readonly settings: WebhookSettings
  readonly #context: WebhookContext
  readonly #lanes = new Map<string, Lane>()
  #ready: Lane[] = []
  #active = 0
  #pending = 0
  #stopped = false
  /** Counts `clear()`: what was under way before one changes nothing after it. */
  #epoch = 0
  #lastSuccessAt = Number.NEGATIVE_INFINITY
  #goneSince: number | undefined
  readonly #inFlight = new Set<AbortController>()
  /** For getWebhookInfo. */
  lastError: { readonly at: number; readonly message: string } | undefined
  readonly counts = { delivered: 0, failed: 0, expired: 0 }

  constructor(settings: WebhookSettings, context: WebhookContext) {
    this.settings = settings
    this.#context = context
  }

  get pending(): number {
    return this.#pending
  }

  push(pending: Pending): void {
    const { allowedUpdates } = this.settings
    if (this.#stopped || !isAllowed(pending.kind, allowedUpdates)) return
    let lane = this.#lanes.get(pending.lane)
    if (lane === undefined) {
      lane = { key: pending.lane, queue: [], timer: undefined }
      this.#lanes.set(pending.lane, lane)
    }
    lane.queue.push({ ...pending, failures: 0, delayS: 1 })
    this.#pending += 1
    if (lane.queue.length === 1) this.#enqueue(lane)
  }

  /** Stops delivering; answers what was not delivered, oldest first. */
  stop(): readonly Pending[] {
    this.#stopped = true
    const left = this.clear()
    for (const controller of this.#inFlight) controller.abort()
    return left.sort((a, b) => a.update.update_id - b.update.update_id)
  }

  /** Forgets what waits, and answers it; requests that are under way go on, and their outcome is ignored. */
  clear(): Pending[] {
    const left = [...this.#lanes.values()].flatMap(lane => {
      lane.timer?.cancel()
      return lane.queue
    })
    this.#epoch += 1
    this.#lanes.clear()
    this.#ready = []
    this.#pending = 0
    return left
  }

  /** Sends one update now, outside the lanes, and answers what came back. */
  async post(update: Update, kind: string): Promise<WebhookAnswer> {
    const { env, faults } = this.#context
    const controller = new AbortController()
    this.#inFlight.add(controller)
    const timer = env.timer(RESPONSE_LIMIT_MS, () => { controller.abort(new DOMException('Read timeout expired', 'TimeoutError')) })
    const { url, secretToken } = this.settings
    const body = JSON.stringify(update)
    const headers: Record<string, string> = { 'content-type': 'application/json' }
    if (secretToken !== undefined) headers['x-telegram-bot-api-secret-token'] = secretToken
    try {
      const sending = faults.run({
        direction: 'out', operation: `webhook:${kind}`, method: 'POST', args: update, signal: controller.signal,
        apply: () => env.fetch(url, { method: 'POST', headers, body, signal: controller.signal, redirect: 'manual' }),
        refuse: (status, retryAfterS) => json(status, {}, retryAfterS === undefined ? undefined : { 'retry-after': String(retryAfterS) }),
      })
      const reading = sending.then(async response => ({
        status: response.status, body: await response.text(),
        retryAfterS: Number(response.headers.get('retry-after') ?? '0'), contentType: response.headers.get('content-type') ?? '',
      }))
      // A peer that died without a word settles nothing: the limit above decides.
      return await Promise.race([reading, aborted(controller.signal)])
    } finally {
      timer.cancel()
      this.#inFlight.delete(controller)
    }
  }

  #enqueue(lane: Lane): void {
    lane.timer = undefined
    this.#ready.push(lane)
    this.#pump()
  }

  #pump(): void {
    const { env, probe } = this.#context
    while (this.#ready.length > 0) {
      const probing = probe && env.monotonic() - this.#lastSuccessAt > PROBE_AFTER_MS
      if (this.#active >= (probing ? 1 : this.settings.maxConnections)) return
      const lane = this.#ready.shift()
      if (lane !== undefined) void this.#deliverHead(lane)
    }
  }

  /** Never rejects. */
  async #deliverHead(lane: Lane): Promise<void> {
    const { env } = this.#context
    let head = lane.queue[0]
    while (head !== undefined && head.expiresAt <= env.now()) {
      this.counts.expired += 1
      this.#shift(lane)
      head = lane.queue[0]
    }
    if (head === undefined) return
    const epoch = this.#epoch
    this.#active += 1
    const attempt = await this.#attempt(head)
    this.#active -= 1
    if (this.#stopped) return
    if (this.#epoch !== epoch) {
      this.#pump()
      return
    }
    if (attempt.ok) {
      this.counts.delivered += 1
      this.#lastSuccessAt = env.monotonic()
      this.#goneSince = undefined
      this.#shift(lane)
      if (lane.queue.length > 0) this.#enqueue(lane)
    } else {
      this.#failed(lane, head, attempt)
    }
    this.#pump()
  }

  #failed(lane: Lane, head: Queued, attempt: Extract<Attempt, { ok: false }>): void {
    const { env, random } = this.#context
    this.counts.failed += 1
    this.lastError = { at: Math.floor(env.now() / 1_000), message: attempt.message }
    if (attempt.status === 410) {
      this.#goneSince ??= env.now()
      if (env.now() - this.#goneSince > GONE_FOR_MS) {
        this.#context.onGone()
        return
      }
    } else {
      this.#goneSince = undefined
    }
    let waitS = attempt.retryAfterS
    if (waitS === 0 && head.failures > 0) {
      head.delayS = Math.min(RETRY_CAP_S + random.next() * RETRY_CAP_S, head.delayS * 2)
      waitS = head.delayS
    }
    head.failures += 1
    if (env.now() + waitS * 1_000 >= head.expiresAt) {
      this.counts.expired += 1
      this.#shift(lane)
      if (lane.queue.length > 0) this.#enqueue(lane)
      return
    }
    if (waitS === 0) this.#enqueue(lane)
    else lane.timer = env.timer(waitS * 1_000, () => { this.#enqueue(lane) })
  }

  #shift(lane: Lane): void {
    lane.queue.shift()
    this.#pending -= 1
    if (lane.queue.length === 0 && this.#lanes.get(lane.key) === lane) this.#lanes.delete(lane.key)
  }

  async #attempt(head: Queued): Promise<Attempt> {
    try {
      const { status, body, retryAfterS: asked, contentType } = await this.post(head.update, head.kind)
      if (status >= 200 && status < 300) {
        if (body.includes('method')) this.#context.onMethod(body, contentType)
        return { ok: true }
      }
      const retryAfterS = Number.isFinite(asked) ? Math.min(RETRY_AFTER_MAX_S, Math.max(0, asked)) : 0
      return { ok: false, status, message: `Wrong response from the webhook: ${String(status)} ${STATUS[status] ?? ''}`.trim(), retryAfterS }
    } catch (error) {
      return { ok: false, status: undefined, message: connectionProblem(error), retryAfterS: 0 }
    }
  }
}

/** What is not asked for explicitly is not delivered. */
const ON_REQUEST: readonly string[] = ['chat_member', 'message_reaction', 'message_reaction_count']

export function isAllowed(kind: string, allowed: readonly string[] | undefined): boolean {
  return allowed === undefined || allowed.length === 0 ? !ON_REQUEST.includes(kind) : allowed.includes(kind)
}

const STATUS: Readonly<Record<number, string>> = {
  301: 'Moved Permanently', 302: 'Found', 307: 'Temporary Redirect', 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 408: 'Request Timeout', 410: 'Gone',
  413: 'Payload Too Large', 429: 'Too Many Requests', 500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Unavailable', 504: 'Gateway Timeout',
}

function connectionProblem(error: unknown): string {
  if (error instanceof DOMException && error.name === 'TimeoutError') return 'Read timeout expired'
  const code = error instanceof Error && error.cause instanceof Error && 'code' in error.cause ? String(error.cause.code) : ''
  if (code === 'ECONNREFUSED') return 'Connection refused'
  if (code === 'ECONNRESET' || code === 'UND_ERR_SOCKET') return 'Connection reset by peer'
  return messageOf(error)
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => { reject(signal.reason instanceof Error ? signal.reason : new DOMException('aborted', 'AbortError')) }, { once: true })
  })
}
