/**
 * Messages that follow from what was booked: they commit with it and are sent from the outbox, at most once by
 * themselves. One lane per chat keeps their order; nothing is queued for a customer who cannot be reached.
 */
import type { DurableHoldfast, Json } from 'holdfast'
import { chatLane, TELEGRAM_TOPIC } from 'holdfast/telegram'
import type { Customer } from './shop/types.ts'
import { escapeHtml } from './texts.ts'

export interface Notice {
  /** At most one message ever has this key. */
  readonly onceKey: string
  readonly text: string
}

/** Any method of the Bot API that sends. */
export interface Sending {
  readonly onceKey: string
  readonly method: string
  readonly args: Readonly<Record<string, Json>>
}

export interface Notices<Tx> {
  toCustomer(tx: Tx, customer: Customer, notice: Notice): Promise<void>
  /** Something other than a text: an invoice, a message with buttons. */
  send(tx: Tx, chatId: string, sending: Sending): Promise<void>
  toAdmins(tx: Tx, adminIds: readonly string[], notice: Notice): Promise<void>
}

export function notices<Tx>(outbox: DurableHoldfast<Tx>['outbox']): Notices<Tx> {
  const send: Notices<Tx>['send'] = async (tx, chatId, { onceKey, method, args }) => {
    await outbox.enqueue(tx, { lane: chatLane(chatId), topic: TELEGRAM_TOPIC, onceKey, payload: { method, args: { chat_id: chatId, ...args } } })
  }
  const text = (tx: Tx, chatId: string, notice: Notice): Promise<void> =>
    send(tx, chatId, { onceKey: notice.onceKey, method: 'sendMessage', args: { text: notice.text, parse_mode: 'HTML', link_preview_options: { is_disabled: true } } })
  return {
    send,
    async toCustomer(tx, customer, notice) {
      if (customer.reachable) await text(tx, customer.chatId, notice)
    },
    async toAdmins(tx, adminIds, notice) {
      for (const id of adminIds) await text(tx, id, { onceKey: `${notice.onceKey}:${id}`, text: escapeHtml(notice.text) })
    },
  }
}
