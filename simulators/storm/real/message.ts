/**
 * What the processes of the real storm say to each other.
 */
import type { Intake } from '../columns.ts'
import type { Scenario } from '../scenario.ts'
import type { Counts } from '../traffic.ts'

/** To a child, at first: what it is. */
export type Order =
  | { readonly role: 'server'; readonly scenario: Scenario; readonly intake: Intake }
  | { readonly role: 'client'; readonly scenario: Scenario; readonly columnId: string; readonly load: number; readonly number: number; readonly url: string }

/** To a child, when all are ready. Wall time: all of them count seconds from there. */
export interface Go {
  readonly startAt: number
}

/** From a child. A client has no address. */
export type Report =
  | { readonly kind: 'ready'; readonly url: string }
  | { readonly kind: 'served'; readonly arrivals: readonly number[]; readonly queued: readonly number[] }
  | { readonly kind: 'called'; readonly counts: Counts }
