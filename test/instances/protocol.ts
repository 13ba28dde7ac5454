/**
 * What the run and its instances tell each other, and what an instance is started with.
 */

/** Protections that the control run takes away, all of them: guards mask each other. */
export type Guards = 'on' | 'off'

/** An order that comes in from outside. Those of one lane come one after another. */
export interface Order {
  readonly id: string
  readonly lane: string
  /** In its lane, from 1. */
  readonly position: number
  /** The outside world refuses its last step: what was reserved must be given back. */
  readonly refused: boolean
  /** `mail`: sent at most once. `push`: sent again where its outcome is unknown; the outside world knows its key. */
  readonly topic: 'mail' | 'push'
}

export interface InstanceSettings {
  /** Of PostgreSQL, through this instance's proxy. */
  readonly databaseUrl: string
  /** Of the outside world. */
  readonly outsideUrl: string
  /** Where the instance writes down what it was told, as it happens. */
  readonly historyFile: string
  readonly leaseMs: number
  readonly guards: Guards
  /** Orders at work at a time. */
  readonly concurrency: number
  /** Loops that take leases and write under them. */
  readonly holders: number
  /** Keys of those leases; the loops meet on a few of them at a time. */
  readonly leaseKeys: number
  /** How long a loop rests after it gave a lease back. */
  readonly holderRestMs: number
}

export type ToInstance = { readonly type: 'deliver'; readonly order: Order; readonly delivery: number }

export type FromInstance =
  | { readonly type: 'ready'; readonly instance: string }
  /** The order is kept: the sender need not send it again. */
  | { readonly type: 'acknowledged'; readonly id: string }

/** One request to the outside world. */
export interface Effect {
  readonly kind: 'charge' | 'reserve' | 'release' | 'confirm' | 'mail' | 'push'
  readonly id: string
  /** Ours, the same for every attempt. The outside world honours it for `release`, `confirm` and `push` only. */
  readonly key: string
  readonly lane: string
  readonly position: number
  readonly refused: boolean
  /** Wall clock, of one machine: what arrives later is refused. */
  readonly deadlineMs: number
}

/** Milliseconds of the clock that all processes of this machine share, and that never goes back. */
export function sharedMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
