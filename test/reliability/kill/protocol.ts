/**
 * What the parent and a process that will be killed say to each other.
 *
 * The parent is everything that a crash does not touch: the time, the outside world, the judge. The process only runs flows.
 */
import type { Json } from '../../../src/core/index.ts'
import type { FlowMechanism } from '../flow.ts'

export type StoreAddress = { readonly kind: 'postgres'; readonly url: string } | { readonly kind: 'embedded'; readonly dir: string }

/** Where a process kills itself. */
export interface Kill {
  /** The crash point since this process took up the iteration: its number from 0, or its name and how often it was passed: `after saga.step#2`. */
  readonly at: number | string
  /** `at`: exactly there. `amid`: up to two milliseconds after it, where nobody waits for it: a commit may be on its way. */
  readonly how: 'at' | 'amid'
}

export interface Iteration {
  readonly flow: string
  readonly id: string
  readonly nowMs: number
  readonly without: readonly FlowMechanism[]
  readonly kill: Kill | undefined
}

export type ToProcess =
  | { readonly type: 'open'; readonly store: StoreAddress; readonly name: string; readonly nowMs: number }
  | { readonly type: 'begin'; readonly iteration: Iteration }
  | { readonly type: 'advance'; readonly nowMs: number }
  | { readonly type: 'answer'; readonly call: number; readonly value: Json }
  | { readonly type: 'refused'; readonly call: number; readonly status: number; readonly message: string }
  | { readonly type: 'read'; readonly sql: string; readonly params: readonly unknown[] }
  /** The iteration is over: its loops end, and the process waits for another. */
  | { readonly type: 'end' }

export type FromProcess =
  | { readonly type: 'open' }
  /** Nothing is under way: time may go on. `passed`: crash points since it last said so. */
  | { readonly type: 'idle'; readonly nextAtMs: number | undefined; readonly passed: readonly string[] }
  | { readonly type: 'call'; readonly call: number; readonly name: string; readonly request: Json }
  | { readonly type: 'told'; readonly fact: string }
  | { readonly type: 'reached'; readonly state: string }
  | { readonly type: 'rows'; readonly rows: readonly unknown[] }
  /** Its last words. */
  | { readonly type: 'dying'; readonly passed: readonly string[] }

/** `before saga.start` for the third time is `before saga.start#3`. */
export function numbered(point: string, counts: Map<string, number>): string {
  const count = (counts.get(point) ?? 0) + 1
  counts.set(point, count)
  return `${point}#${String(count)}`
}
