/**
 * Checks of histories that need no search: nothing lost, nothing from nowhere, nothing twice, fences that rise, lanes in order.
 *
 * Each gives the list of what must not be; empty is good. They judge only what was recorded: an effect that the outside world
 * did not write down cannot be missed here.
 */
import type { Anomaly, Operation } from './history.ts'
import { byKey } from './linearizable.ts'

/**
 * A set that only grows: `add` (input the element), `read` (output the list of elements).
 * Each read must hold whatever was confirmed before it began, once, and nothing that was never asked for or surely did not happen.
 */
export function checkSet(operations: readonly Operation[]): readonly Anomaly[] {
  const anomalies: Anomaly[] = []
  for (const [key, ofKey] of byKey(operations)) {
    const adds = new Map(ofKey.filter(({ action }) => action === 'add').map(add => [JSON.stringify(add.input), add]))
    for (const read of ofKey) {
      if (read.action !== 'read' || read.end !== 'ok') continue
      const counts = countsOf((Array.isArray(read.output) ? read.output : []).map(element => JSON.stringify(element)))
      for (const [element, count] of counts) {
        const add = adds.get(element)
        if (add === undefined || add.end === 'fail' || add.invokedAt > read.endedAt) anomalies.push({ kind: 'from nowhere', key, message: `read ${read.id} holds ${element}, which ${add === undefined ? 'nobody added' : add.end === 'fail' ? 'was refused' : 'was added later'}` })
        if (count > 1) anomalies.push({ kind: 'doubled', key, message: `read ${read.id} holds ${element} ${String(count)} times` })
      }
      for (const [element, add] of adds) {
        if (add.end === 'ok' && add.endedAt < read.invokedAt && !counts.has(element)) anomalies.push({ kind: 'lost', key, message: `read ${read.id} does not hold ${element}, which was confirmed before` })
      }
    }
  }
  return anomalies
}

export interface EffectsSeen {
  /** What kind of effect, for the messages. */
  readonly key: string
  /** What the outside world saw: the id of each effect, as often as it happened. */
  readonly effects: Iterable<string>
  /** Ids whose effect was confirmed to whoever asked for it. */
  readonly confirmed: Iterable<string>
  /** All ids that were asked for. Default: what was confirmed is all. */
  readonly requested?: Iterable<string>
}

/** Each effect at most once, each confirmed one at least once, none that nobody asked for. */
export function checkEffects({ key, effects, confirmed, requested }: EffectsSeen): readonly Anomaly[] {
  const counts = countsOf(effects)
  const sure = new Set(confirmed)
  const known = requested === undefined ? sure : new Set([...requested, ...sure])
  const anomalies: Anomaly[] = []
  for (const [id, count] of counts) {
    if (count > 1) anomalies.push({ kind: 'doubled', key, message: `${id} happened ${String(count)} times` })
    if (!known.has(id)) anomalies.push({ kind: 'from nowhere', key, message: `${id} happened and nobody asked for it` })
  }
  for (const id of sure) if (!counts.has(id)) anomalies.push({ kind: 'lost', key, message: `${id} was confirmed and did not happen` })
  return anomalies
}

/** In the order in which they were seen. */
export interface FenceSeen {
  readonly key: string
  readonly fence: number
}

/**
 * Grants: each fence of a key is higher than all before it (`'grants'`, default). Writes: none is lower than one before it
 * (`'writes'`), else a holder wrote after it was overtaken.
 */
export function checkFences(seen: readonly FenceSeen[], of: 'grants' | 'writes' = 'grants'): readonly Anomaly[] {
  const anomalies: Anomaly[] = []
  for (const [key, fences] of byKey(seen)) {
    let highest = Number.NEGATIVE_INFINITY
    for (const { fence } of fences) {
      if (of === 'grants' ? fence <= highest : fence < highest) anomalies.push({ kind: 'fence not rising', key, message: `${of === 'grants' ? 'fence' : 'a write under fence'} ${String(fence)} came after ${String(highest)}` })
      highest = Math.max(highest, fence)
    }
  }
  return anomalies
}

/** In the order in which they were handled. */
export interface Handled {
  /** The lane. */
  readonly key: string
  /** Rises in a lane with the order in which things came in. */
  readonly position: number
}

/** Nothing of a lane after what came in later. `repeats`: the one handled last may be handled again (at least once); default false. */
export function checkLaneOrder(handled: readonly Handled[], { repeats = false }: { readonly repeats?: boolean } = {}): readonly Anomaly[] {
  const anomalies: Anomaly[] = []
  for (const [key, ofLane] of byKey(handled)) {
    let last = Number.NEGATIVE_INFINITY
    for (const { position } of ofLane) {
      if (repeats ? position < last : position <= last) anomalies.push({ kind: 'out of order', key, message: `${String(position)} came after ${String(last)}` })
      last = Math.max(last, position)
    }
  }
  return anomalies
}

function countsOf(ids: Iterable<string>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1)
  return counts
}
