/**
 * Irreversible actions from Telegram: the ticket's summary with a button that confirms and one that does not.
 *
 * The button carries the ticket's token, which the server checks: bound to who asked, once, for a short time. A second
 * tap, somebody else's tap and a tap after a restart are refused there, not here.
 */
import { HoldfastError, isHoldfastError, type Actor, type Json } from '../core/index.ts'
import type { Irreversible, Ticket } from '../control/index.ts'

/** Telegram's limit on what a button may carry. */
export const CALLBACK_BYTES_MAX: number = 64

export interface InlineButton { readonly text: string; readonly callback_data: string }

export interface ConfirmationTexts {
  readonly yes: string
  readonly no: string
}

export type Confirmed<R> =
  | { readonly outcome: 'done'; readonly action: string; readonly value: R }
  | { readonly outcome: 'cancelled'; readonly action: string }
  /** `why` is the refusal's: unknown, expired, used, other-actor, state-changed, too-many, forbidden. */
  | { readonly outcome: 'refused'; readonly action: string; readonly why: string; readonly message: string }

export interface Confirmations<R> {
  /** The keyboard to show below `ticket.summary`. @throws HF_OPTION_INVALID when action and token do not fit into 64 bytes */
  keyboard(action: Irreversible<never, R>, ticket: Ticket, texts: ConfirmationTexts): { readonly inline_keyboard: InlineButton[][] }
  /** What a press means; undefined when the button is none of these. @throws what the action's `run` and the store throw */
  press(data: string, actor: Actor): Promise<Confirmed<R> | undefined>
}

const YES = 'hf+'
const NO = 'hf-'

/** For the actions that may be confirmed by a button. */
export function confirmations<R extends Json | void>(actions: readonly Irreversible<never, R>[]): Confirmations<R> {
  const byName = new Map(actions.map(action => [action.name, action]))
  return {
    keyboard(action, ticket, texts) {
      const data = (prefix: string): string => {
        const text = `${prefix}${action.name}:${ticket.token}`
        if (Buffer.byteLength(text) > CALLBACK_BYTES_MAX) {
          throw new HoldfastError('HF_OPTION_INVALID', { message: `confirmation of ${action.name}: expected at most ${String(CALLBACK_BYTES_MAX)} bytes of callback data, got ${String(Buffer.byteLength(text))}; shorten the action's name` })
        }
        return text
      }
      return { inline_keyboard: [[{ text: texts.yes, callback_data: data(YES) }, { text: texts.no, callback_data: data(NO) }]] }
    },
    async press(data, actor) {
      const match = /^hf([+-])([^:]+):(.+)$/.exec(data)
      const action = match === null ? undefined : byName.get(match[2] ?? '')
      if (match === null || action === undefined) return undefined
      if (match[1] === '-') return { outcome: 'cancelled', action: action.name }
      try {
        return { outcome: 'done', action: action.name, value: await action.confirm(match[3] ?? '', actor) }
      } catch (error) {
        if (!isHoldfastError(error)) throw error
        const why = error.code === 'HF_TICKET_INVALID' ? String(error.context['why'] ?? 'unknown') : error.code === 'HF_RATE_LIMITED' ? 'too-many' : error.code === 'HF_FORBIDDEN' ? 'forbidden' : undefined
        if (why === undefined) throw error
        return { outcome: 'refused', action: action.name, why, message: error.message }
      }
    },
  }
}
