/**
 * The parts of one simulated Telegram, in one hand: what methods and actors work on.
 */
import type { Env } from 'holdfast/core'
import type { SeededRandom } from '../kit/index.ts'
import type { Callbacks } from './callbacks.ts'
import type { Chats } from './chats.ts'
import type { Files } from './files.ts'
import type { Flood } from './flood.ts'
import type { Payments } from './payments.ts'
import type { TelegramUser } from './types.ts'
import type { Updates } from './updates.ts'

export interface World {
  readonly env: Env
  readonly random: SeededRandom
  readonly me: TelegramUser
  readonly chats: Chats
  readonly updates: Updates
  readonly payments: Payments
  readonly callbacks: Callbacks
  readonly files: Files
  readonly flood: Flood
  /** Like a local Bot API server: any webhook port, plain http. */
  readonly local: boolean
  /** What setMyCommands, setMyName, ... stored, by method and scope. */
  readonly profile: Map<string, unknown>
  /** Wall clock, milliseconds, of the last setWebhook. */
  lastSetWebhookAt: number
}
