/**
 * How fast a bot may send: a bucket for each chat and one for the bot. Too fast is 429 with `retry_after` in whole seconds.
 *
 * Telegram publishes no limits; the FAQ and grammY's flood guide name about one message a second in a chat, twenty a
 * minute in a group and thirty a second for a bot. That is `real`. `generous` only stops runaway loops.
 */
import type { Env } from 'holdfast/core'
import { ApiError } from './types.ts'

export interface FloodLimits {
  readonly chatPerSecond: number
  readonly chatBurst: number
  readonly groupPerMinute: number
  readonly botPerSecond: number
  readonly botBurst: number
}

export const FLOOD_LIMITS: Readonly<Record<'real' | 'generous', FloodLimits>> = Object.freeze({
  real: { chatPerSecond: 1, chatBurst: 3, groupPerMinute: 20, botPerSecond: 30, botBurst: 30 },
  generous: { chatPerSecond: 20, chatBurst: 60, groupPerMinute: 600, botPerSecond: 500, botBurst: 1_000 },
})

/** Full buckets say nothing: beyond this many chats they are thrown away. */
const CHATS_MAX = 10_000

interface Bucket {
  tokens: number
  at: number
}

export class Flood {
  readonly #env: Env
  readonly #limits: FloodLimits | undefined
  readonly #chats = new Map<number, Bucket>()
  #bot: Bucket | undefined

  constructor(env: Env, limits: FloodLimits | undefined) {
    this.#env = env
    this.#limits = limits
  }

  /** Takes one message. @throws ApiError 429 */
  take(chatId: number): void {
    const limits = this.#limits
    if (limits === undefined) return
    const now = this.#env.monotonic()
    if (this.#chats.size > CHATS_MAX) this.#chats.clear()
    this.#bot ??= { tokens: limits.botBurst, at: now }
    const group = chatId < 0
    const perSecond = group ? limits.groupPerMinute / 60 : limits.chatPerSecond
    const burst = group ? limits.groupPerMinute : limits.chatBurst
    let chat = this.#chats.get(chatId)
    if (chat === undefined) this.#chats.set(chatId, chat = { tokens: burst, at: now })
    refill(this.#bot, limits.botPerSecond, limits.botBurst, now)
    refill(chat, perSecond, burst, now)
    const waitS = Math.max((1 - chat.tokens) / perSecond, (1 - this.#bot.tokens) / limits.botPerSecond)
    if (waitS > 0) {
      const retryAfterS = Math.ceil(waitS)
      throw new ApiError(429, `Too Many Requests: retry after ${String(retryAfterS)}`, retryAfterS)
    }
    chat.tokens -= 1
    this.#bot.tokens -= 1
  }

  clear(): void {
    this.#chats.clear()
    this.#bot = undefined
  }
}

function refill(bucket: Bucket, perSecond: number, burst: number, now: number): void {
  bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1_000) * perSecond)
  bucket.at = now
}
