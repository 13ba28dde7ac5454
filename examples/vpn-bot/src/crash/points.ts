/**
 * Crash points: the moments of a purchase at which a process may die, by name, so that a run can be repeated.
 *
 * A point is a durable operation or an outside call, which occurrence of it, and the side: `saga.intent#1:before`. Before
 * means that it never happened; after, that it happened and nobody learned of it: doubles live there.
 * What is only looked at again and again by the clock is no point: it changes nothing, and how often it happens differs
 * from run to run.
 */
import type { Env } from 'holdfast/core'

export type Side = 'before' | 'after'

export interface Point {
  readonly operation: string
  readonly occurrence: number
  readonly side: Side
}

export function pointName({ operation, occurrence, side }: Point): string {
  return `${operation}#${String(occurrence)}:${side}`
}

/** @throws RangeError when it is not one */
export function parsePoint(name: string): Point {
  const match = /^(.+)#(\d+):(before|after)$/.exec(name)
  if (match === null) throw new RangeError(`expected a point such as saga.intent#1:after, got ${JSON.stringify(name)}`)
  return { operation: match[1] ?? '', occurrence: Number(match[2]), side: match[3] as Side }
}

/**
 * Not points. By the clock, whatever customers do: polls of the switches, leadership, heartbeats, recovery, the workers'
 * lists of what is due, and what the rig itself asks.
 */
const BY_THE_CLOCK = /^(?:flags\.poll|lease\..+|.+\.(?:renew|prune|sweep|due|stuck|reap)|recovery\..+|shop\.(?:activations-due|removals-due|invoices-to-watch|unsettled|expire-orders|delayed)|worker.*|inbox\.park|items?\..+|audit\..+|migrate\..+|rig\..+|telegram:(?:getMe|getWebhookInfo|setWebhook)|crypto-pay:(?:getMe|getInvoices)|panel:GET \/api\/system)$/

/** Takes what is due, if anything is: empty-handed it was a poll, and whether it will be is known only afterwards. */
const TAKES: ReadonlySet<string> = new Set(['inbox.next', 'outbox.take'])

export function isPoint(operation: string, side: Side): boolean {
  return !BY_THE_CLOCK.test(operation) && !(TAKES.has(operation) && side === 'before')
}

/** Counts operations by name, and says at which point the process is. */
export class Counter {
  readonly #counts = new Map<string, number>()
  readonly #reached: (point: Point) => void
  armed = false

  constructor(reached: (point: Point) => void) {
    this.#reached = reached
  }

  before(operation: string): void {
    if (!this.armed || BY_THE_CLOCK.test(operation) || TAKES.has(operation)) return
    const occurrence = (this.#counts.get(operation) ?? 0) + 1
    this.#counts.set(operation, occurrence)
    this.#reached({ operation, occurrence, side: 'before' })
  }

  /** `value`: what the operation answered, where that is known. */
  after(operation: string, value?: unknown): void {
    if (!this.armed || BY_THE_CLOCK.test(operation)) return
    if (TAKES.has(operation)) {
      if (!tookSomething(value)) return
      this.#counts.set(operation, (this.#counts.get(operation) ?? 0) + 1)
    }
    // Of two at once the later one may end first; the number is then that of the last one begun, which is as good a name.
    this.#reached({ operation, occurrence: this.#counts.get(operation) ?? 1, side: 'after' })
  }
}

export function tookSomething(value: unknown): boolean {
  const rows = typeof value === 'object' && value !== null && 'rows' in value ? value.rows : value
  return Array.isArray(rows) && rows.length > 0
}

export interface Partners {
  readonly telegramUrl: string
  readonly cryptoPayUrl: string
  readonly panelUrl: string
}

/** `telegram:sendInvoice`, `crypto-pay:createInvoice`, `panel:POST /api/user`; ids are left out, so that runs compare. */
export function callName(partners: Partners, url: string, method: string): string {
  const path = new URL(url).pathname
  if (url.startsWith(partners.telegramUrl)) return `telegram:${path.split('/').at(-1) ?? ''}`
  if (url.startsWith(partners.cryptoPayUrl)) return `crypto-pay:${path.split('/').at(-1) ?? ''}`
  return `panel:${method} ${path.replace(/^(\/api\/user)\/.*/, '$1')}`
}

/** The same Env, with every outside call counted. */
export function countingCalls(env: Env, partners: Partners, counter: Counter): Env {
  return {
    ...env,
    fetch: async (input, init) => {
      const [url, method] = typeof input === 'string' ? [input] : 'method' in input ? [input.url, input.method] : [input.href]
      const name = callName(partners, url, method ?? init?.method ?? 'GET')
      counter.before(name)
      const response = await env.fetch(input, init)
      counter.after(name)
      return response
    },
  }
}
