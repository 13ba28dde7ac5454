/**
 * Degradation marks: a feature works worse than it should, why, and since when. Set by the schema check, by health, by hand.
 *
 * A mark switches nothing off; it is said aloud so that console and customers' texts can be honest. It is this
 * instance's own, because what makes it (its schema, its checks) is.
 */
import { checkName, type Kit } from '../core/index.ts'

export interface DegradationMark {
  readonly feature: string
  readonly reason: string
  /** Wall clock, milliseconds. */
  readonly since: number
}

export interface Degradation {
  /** Marking again changes the reason and keeps `since`. Emits degradation.marked when the reason is new. @throws HF_OPTION_INVALID */
  mark(feature: string, reason: string): void
  /** Emits degradation.cleared. Nothing happens where there is no mark. */
  clear(feature: string): void
  of(feature: string): DegradationMark | undefined
  list(): readonly DegradationMark[]
}

export function degradation(kit: Pick<Kit, 'env' | 'events'>): Degradation {
  const marks = new Map<string, DegradationMark & { readonly from: number }>()
  return {
    mark: (feature, reason) => {
      checkName('feature', feature)
      const known = marks.get(feature)
      if (known?.reason === reason) return
      marks.set(feature, { feature, reason, since: known?.since ?? kit.env.now(), from: known?.from ?? kit.env.monotonic() })
      kit.events.emit('degradation.marked', { feature, reason })
    },
    clear: feature => {
      const known = marks.get(feature)
      if (known === undefined) return
      marks.delete(feature)
      kit.events.emit('degradation.cleared', { feature, afterMs: kit.env.monotonic() - known.from })
    },
    of: feature => marks.get(feature),
    list: () => [...marks.values()].map(({ feature, reason, since }) => ({ feature, reason, since })),
  }
}
