/**
 * Numbers updates, remembers the last ones, and hands them to whoever is listening: webhooks, or `getUpdates`.
 *
 * How long an update is worth delivering and which lane it waits in are facts of the server, kept here as data.
 */
import type { Env, Timer } from 'holdfast/core'
import { isAllowed, type Pending, WebhookTarget, type WebhookContext, type WebhookSettings } from './webhook.ts'
import { ApiError, type Arguments, type Update } from './types.ts'

const HISTORY_MAX = 2_000
const POLLING_MAX = 50_000
const EXPIRES_AFTER_S: Readonly<Record<string, number>> = { callback_query: 150, pre_checkout_query: 150, shipping_query: 150, inline_query: 30, chosen_inline_result: 600 }
const DAY_S = 86_400

/** How many of which kind: `my_chat_member` goes by chat, a payment by user, a poll by itself. */
const LANES: Readonly<Record<string, readonly [prefix: string, path: readonly string[]]>> = {
  message: ['chat', ['chat', 'id']], edited_message: ['chat', ['chat', 'id']], channel_post: ['chat', ['chat', 'id']], edited_channel_post: ['chat', ['chat', 'id']], guest_message: ['chat', ['chat', 'id']],
  inline_query: ['inline', ['from', 'id']], chosen_inline_result: ['chosen', ['from', 'id']], callback_query: ['callback', ['from', 'id']],
  pre_checkout_query: ['payment', ['from', 'id']], shipping_query: ['payment', ['from', 'id']], purchased_paid_media: ['media', ['from', 'id']],
  my_chat_member: ['member', ['chat', 'id']], chat_member: ['join', ['from', 'id']], chat_join_request: ['join', ['from', 'id']],
  chat_boost: ['boost', ['chat', 'id']], removed_chat_boost: ['boost', ['chat', 'id']], message_reaction: ['reaction', ['chat', 'id']], message_reaction_count: ['reaction', ['chat', 'id']],
  business_connection: ['business', ['user', 'id']], business_message: ['business-chat', ['chat', 'id']], edited_business_message: ['business-chat', ['chat', 'id']],
  deleted_business_messages: ['business-chat', ['chat', 'id']], poll: ['poll', ['id']], poll_answer: ['poll', ['poll_id']], managed_bot: ['managed', ['user', 'id']],
}

export function kindOf(update: Update): string {
  return Object.keys(update).find(key => key !== 'update_id') ?? 'unknown'
}

export function laneOf(update: Update): string {
  const kind = kindOf(update)
  const [prefix, path] = LANES[kind] ?? ['other', []]
  let value: unknown = update[kind]
  for (const step of path) value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[step] : undefined
  return `${prefix}:${typeof value === 'number' || typeof value === 'string' ? String(value) : '0'}`
}

export interface UpdatesOptions {
  readonly env: Env
  readonly firstId: number
  readonly context: Omit<WebhookContext, 'onGone'>
}

interface Poll {
  readonly args: Arguments
  readonly settle: (updates: readonly Update[] | ApiError) => void
}

export class Updates {
  readonly #env: Env
  readonly #context: Omit<WebhookContext, 'onGone'>
  #nextId: number
  #webhook: WebhookTarget | undefined
  readonly #others = new Set<WebhookTarget>()
  #polling: Pending[] = []
  #poll: Poll | undefined
  readonly #history = new Map<number, Update>()

  constructor({ env, firstId, context }: UpdatesOptions) {
    this.#env = env
    this.#nextId = firstId
    this.#context = context
  }

  get webhook(): WebhookTarget | undefined {
    return this.#webhook
  }

  /** Every update that somebody still has to get. */
  get pending(): number {
    let pending = this.#polling.length + (this.#webhook?.pending ?? 0)
    for (const target of this.#others) pending += target.pending
    return pending
  }

  /** A new update of this kind; answers its number. */
  emit(kind: string, payload: unknown): number {
    const update: Update = { update_id: this.#nextId, [kind]: payload }
    this.deliver(update)
    return update.update_id
  }

  deliver(update: Update): void {
    this.#nextId = Math.max(this.#nextId, update.update_id + 1)
    this.#history.set(update.update_id, update)
    if (this.#history.size > HISTORY_MAX) this.#history.delete(this.#history.keys().next().value ?? 0)
    const pending = this.#toPending(update)
    for (const target of this.#others) target.push(pending)
    if (this.#webhook === undefined) this.#pushPolling(pending)
    else this.#webhook.push(pending)
  }

  nextId(): number {
    return this.#nextId
  }

  find(updateId: number): Update | undefined {
    return this.#history.get(updateId)
  }

  targets(): readonly WebhookTarget[] {
    return this.#webhook === undefined ? [...this.#others] : [this.#webhook, ...this.#others]
  }

  setWebhook(settings: WebhookSettings): void {
    const waiting = [...(this.#webhook?.stop() ?? []), ...this.#polling]
    this.#polling = []
    this.#poll?.settle(new ApiError(409, 'Conflict: terminated by setWebhook request'))
    const target = this.#target(settings, () => { this.removeWebhook() })
    this.#webhook = target
    for (const pending of waiting) target.push(pending)
  }

  /** What was not delivered waits for `getUpdates` or the next webhook. */
  removeWebhook(): void {
    this.#polling.push(...(this.#webhook?.stop() ?? []))
    this.#webhook = undefined
  }

  addTarget(settings: WebhookSettings): { remove(): void } {
    const target = this.#target(settings, () => { this.#others.delete(target) })
    this.#others.add(target)
    return {
      remove: () => {
        target.stop()
        this.#others.delete(target)
      },
    }
  }

  /** A target that gets nothing by itself: for sending one update by hand. */
  looseTarget(url: string, secretToken: string | undefined): WebhookTarget {
    return this.#target({ url, secretToken, maxConnections: 1, allowedUpdates: undefined }, () => undefined)
  }

  /** Forgets everything that waits. Webhooks stay registered. */
  dropPending(): void {
    this.#polling = []
    for (const target of this.targets()) target.clear()
  }

  stop(): void {
    this.#webhook?.stop()
    for (const target of this.#others) target.stop()
    this.#poll?.settle([])
  }

  /** Long polling. Rejects with ApiError 409 when there is a webhook or another poll. */
  getUpdates(args: Arguments, signal: AbortSignal | undefined): Promise<readonly Update[]> {
    if (this.#webhook !== undefined) return Promise.reject(new ApiError(409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"))
    this.#poll?.settle(new ApiError(409, 'Conflict: terminated by other getUpdates request; make sure that only one bot instance is running'))
    const offset = Number(args['offset'] ?? 0)
    if (offset > 0) this.#polling = this.#polling.filter(pending => pending.update.update_id >= offset)
    else if (offset < 0) this.#polling = this.#polling.slice(offset)
    const ready = this.#batch(args)
    const timeoutS = Math.min(50, Number(args['timeout'] ?? 0))
    if (ready.length > 0 || timeoutS <= 0) return Promise.resolve(ready)
    return new Promise((resolve, reject) => {
      const finish = (outcome: readonly Update[] | ApiError): void => {
        timer.cancel()
        if (this.#poll === poll) this.#poll = undefined
        if (outcome instanceof ApiError) reject(outcome)
        else resolve(outcome)
      }
      const poll: Poll = { args, settle: finish }
      const timer: Timer = this.#env.timer(timeoutS * 1_000, () => { finish([]) })
      signal?.addEventListener('abort', () => { finish([]) }, { once: true })
      this.#poll = poll
    })
  }

  #target(settings: WebhookSettings, onGone: () => void): WebhookTarget {
    return new WebhookTarget(settings, { ...this.#context, onGone })
  }

  #pushPolling(pending: Pending): void {
    this.#polling.push(pending)
    if (this.#polling.length > POLLING_MAX) this.#polling.shift()
    const poll = this.#poll
    if (poll === undefined) return
    const ready = this.#batch(poll.args)
    if (ready.length > 0) poll.settle(ready)
  }

  #batch(args: Arguments): readonly Update[] {
    const now = this.#env.now()
    const allowed = Array.isArray(args['allowed_updates']) ? (args['allowed_updates'] as string[]) : undefined
    this.#polling = this.#polling.filter(pending => pending.expiresAt > now && isAllowed(pending.kind, allowed))
    return this.#polling.slice(0, Math.min(100, Number(args['limit'] ?? 100))).map(pending => pending.update)
  }

  #toPending(update: Update): Pending {
    const kind = kindOf(update)
    const payload = update[kind]
    const now = this.#env.now()
    const forS = EXPIRES_AFTER_S[kind]
    const date = typeof payload === 'object' && payload !== null && 'date' in payload && typeof payload.date === 'number' && payload.date > 0 ? payload.date * 1_000 : now
    // A message counts from its own date. One that is older than that is a recorded fixture: it gets its day from now.
    const from = date > now - DAY_S * 1_000 ? date : now
    return { update, kind, lane: laneOf(update), expiresAt: forS === undefined ? from + DAY_S * 1_000 : now + forS * 1_000 }
  }
}
