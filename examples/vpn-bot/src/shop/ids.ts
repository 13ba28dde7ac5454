/**
 * Names that are derived, never drawn: the same cause gives the same id after any crash, so that doing it again finds
 * what was already there. Also the one payload format that invoices carry.
 */
import { createHash } from 'node:crypto'

const NAMESPACE = '3f1c9a52-7f0e-5b44-9d6f-0c1b7a8e2d61'
const PAYLOAD = /^hf1:([0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})$/

/** RFC 9562 version 5: the same name, the same id. */
export function uuid5(name: string): string {
  const hash = createHash('sha1').update(Buffer.from(NAMESPACE.replaceAll('-', ''), 'hex')).update(name).digest()
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x50
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80
  const hex = hash.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`
}

/** The order that one press of a button makes, however often the press is delivered. */
export function orderIdFor(cause: string): string {
  return uuid5(`order:${cause}`)
}

/** 16 hexadecimal digits: a panel name has room for 32 characters, and a customer's Telegram id is nobody's business there. */
export function subscriptionIdOf(customerId: string): string {
  return uuid5(`subscription:${customerId}`).replaceAll('-', '').slice(0, 16)
}

/** What an invoice carries and a payment brings back (40 bytes; Telegram allows 128). */
export function payloadOf(orderId: string): string {
  return `hf1:${orderId}`
}

/** The order that a payload names, or undefined: then the payment is not ours. */
export function orderIdIn(payload: string): string | undefined {
  return PAYLOAD.exec(payload)?.[1]
}

export function panelUsername(subscription: { readonly id: string; readonly generation: number }): string {
  return `sub_${subscription.id}_g${String(subscription.generation)}`
}

/** Client-chosen, so that a repeated creation is the same user and never a second one. */
export function panelUserId(subscription: { readonly id: string; readonly generation: number }): string {
  return uuid5(`panel:${panelUsername(subscription)}`)
}

/** The subscription and generation that a panel name belongs to, or undefined when it is none of ours. */
export function subscriptionIn(username: string): { readonly id: string; readonly generation: number } | undefined {
  const match = /^sub_([0-9a-f]{16})_g(\d+)$/.exec(username)
  return match === null ? undefined : { id: match[1] ?? '', generation: Number(match[2]) }
}
