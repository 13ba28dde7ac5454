/**
 * What the bot and the world of its demonstration agree on.
 */
import type { CrowdScript } from 'holdfast-simulators/telegram'

/** Told where the others are by a file, so that a bot that was killed finds the same world again. */
export interface WorldFile {
  readonly pid: number
  /** The bot that it was made for: webhooks go there. */
  readonly bot: string
  readonly telegram: { readonly url: string; readonly token: string }
  readonly cryptoPay: { readonly url: string; readonly token: string }
  readonly panel: { readonly url: string; readonly token: string }
}

export const DEMO_ADMIN_ID = 7_000_000

/** What the customers press, in both languages. */
export const CROWD_SCRIPT: CrowdScript = {
  browse: [/See the plans|Посмотреть цены/],
  plan: /^(1 month|3 months|1 месяц|3 месяца)/,
  card: /By card|Картой/,
  crypto: /By crypto|Криптовалютой/,
}
