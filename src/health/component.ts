/**
 * One component's health as a pure machine: results go in, a state with hysteresis comes out. No clock, no events.
 *
 * Hysteresis: the first result decides at once; afterwards two bad results in a row are needed to leave `healthy`, and one
 * good one leads back. A failing check is `degraded` first; two failures in a row of a `required` component make it
 * `unavailable`. Slow or self-declared degraded answers never make anything unavailable: it answered.
 */
import type { ComponentState, Tier } from '../core/index.ts'

/** Source: the common "2 of 2 down, 1 of 1 up" of load balancers' checks; quick recovery is what customers feel. */
export const HYSTERESIS: Readonly<{ readonly badToLeave: number }> = Object.freeze({ badToLeave: 2 })

/** What one run of a check came to. */
export type CheckResult =
  | { readonly kind: 'good' }
  /** It answered, but slowly or with a complaint. */
  | { readonly kind: 'poor'; readonly reason: string }
  /** It threw or did not answer in time. */
  | { readonly kind: 'failed'; readonly reason: string }

export interface ComponentHealth {
  readonly state: ComponentState
  readonly reason: string
  /** False until the first result: `state` is then a guess on the safe side. */
  readonly known: boolean
  /** Bad results in a row. */
  readonly bad: number
  /** Of those, the failed ones in a row. */
  readonly failed: number
}

/** Before anything is known: what the service cannot work without is not taken for granted. */
export function unknownHealth(tier: Tier): ComponentHealth {
  return { state: tier === 'required' ? 'unavailable' : 'degraded', reason: 'not checked yet', known: false, bad: 0, failed: 0 }
}

export function afterResult(health: ComponentHealth, tier: Tier, result: CheckResult): ComponentHealth {
  if (result.kind === 'good') return { state: 'healthy', reason: 'ok', known: true, bad: 0, failed: 0 }
  const bad = health.bad + 1
  const failed = result.kind === 'failed' ? health.failed + 1 : 0
  const stays = health.known && health.state === 'healthy' && bad < HYSTERESIS.badToLeave
  if (stays) return { ...health, bad, failed }
  // What is known to be away (it said so itself) does not get better by failing a check.
  const stillAway = result.kind === 'failed' && health.known && health.state === 'unavailable'
  const unavailable = stillAway || (tier === 'required' && failed >= HYSTERESIS.badToLeave)
  return { state: unavailable ? 'unavailable' : 'degraded', reason: result.reason, known: true, bad, failed }
}
