/**
 * What the rig and the program that it kills tell each other, over the child's IPC channel.
 */
import type { Duration } from 'holdfast/core'
import type { BotConfig } from '../settings.ts'
import type { Snapshot } from '../shop/types.ts'

/**
 * Protections that can be taken away, to see that the same kills then do harm.
 * `panel-names`: each run of the program has panel names of its own. `sending-marks`: a message that may have been sent is
 * forgotten to have been begun. `once-keys`: what was booked is forgotten, so that a second report of a charge is booked again.
 */
export type Control = 'panel-names' | 'sending-marks' | 'once-keys'

export interface ChildSettings {
  readonly port: number
  readonly store: { readonly kind: 'embedded'; readonly dir: string } | { readonly kind: 'postgres'; readonly url: string }
  readonly config: BotConfig
  /** `name#occurrence:side`: here it dies. */
  readonly dieAt?: string
  readonly without?: Control
  /** How long what a dead program held stays taken. Default: a few seconds, so that a run is short. */
  readonly leaseFor?: Duration
}

export type ToChild =
  /** From now on operations are counted. */
  | { readonly type: 'arm' }
  /** What the books say, and what is unfinished. */
  | { readonly type: 'look'; readonly id: number }
  /** Background work is begun now instead of at its time. */
  | { readonly type: 'hurry' }
  | { readonly type: 'stop' }

export interface Look {
  readonly snapshot: Snapshot
  /** Messages, updates and runs that are still to be worked on. */
  readonly open: number
  /** What waits for a person: `inbox telegram/17 parked`. */
  readonly stuck: readonly string[]
}

export type FromChild =
  | { readonly type: 'ready'; readonly tookMs: number }
  | { readonly type: 'point'; readonly name: string }
  | ({ readonly type: 'look'; readonly id: number } & Look)
  | { readonly type: 'log'; readonly level: 'warn' | 'error'; readonly message: string }
