/**
 * Retries around retries multiply: three layers of three attempts are 27 calls on a dependency that is already down.
 *
 * What repeats says so while it calls its work, and what repeats inside finds it there: a nested call that is begun before
 * the work's first await is seen at once and costs nothing to see. Behind an await only a context tells; it is entered for
 * repetitions and for one call in 1,024, and only where the program has one already (each handler, worker and saga of an
 * app): the first `AsyncLocalStorage.run` of a process makes all of its promises dearer for good.
 * Each pair of layers is announced once, as `retry.nested`. Errors of a guarded call inside are not repeated by the one
 * outside (./classify.ts), so the product is what could happen where somebody unwraps them.
 */
import { currentContext, withContext, type Context, type EventBus } from '../core/index.ts'

/** Somebody who may attempt work more than once. `attempts` is the product with the layers around. */
export interface Layer {
  readonly name: string
  readonly attempts: number
}

const SAMPLE = 1_024
/** Pairs that are remembered as told, by bus. */
const PAIRS_KEPT = 256

/** Who is calling its work right now, synchronously. */
let calling: Layer | undefined

/** To be handed to `leave` when the call of the work has returned, however it did. */
export function enter(layer: Layer): Layer | undefined {
  const around = calling
  calling = layer
  return around
}

export function leave(around: Layer | undefined): void {
  calling = around
}

/** The layer that repeats what is being called now, if any. */
export function around(context: Context): Layer | undefined {
  if (calling !== undefined) return calling
  return context.attempts === undefined ? undefined : { name: context.repeatedBy ?? 'a retry', attempts: context.attempts }
}

/** Whether the attempt runs in a context that tells of its layer. `call` is the n-th of the layer, from 1. */
export function carried(context: Context, call: number, attempt: number): boolean {
  return (attempt > 1 || call % SAMPLE === 1) && Object.keys(context).length > 0
}

/** Calls `work` in a context that tells of the layer behind every await. */
export function repeatedBy<A, T>(layer: Layer, work: (argument: A) => T, argument: A): T {
  return withContext({ ...currentContext(), attempts: layer.attempts, repeatedBy: layer.name }, () => work(argument))
}

const told = new WeakMap<EventBus, Set<string>>()

/** Announces that `name`, which may attempt its work `attempts` times, runs inside another that does; the layer it is there. */
export function nestedLayer(events: EventBus, outer: Layer, name: string, operation: string, attempts: number): Layer {
  const layer = { name, attempts: outer.attempts * attempts }
  let pairs = told.get(events)
  if (pairs === undefined) {
    pairs = new Set()
    told.set(events, pairs)
  }
  const pair = `${outer.name}\n${name}`
  if (!pairs.has(pair) && pairs.size < PAIRS_KEPT) {
    pairs.add(pair)
    events.emit('retry.nested', { outer: outer.name, inner: name, operation, product: layer.attempts })
  }
  return layer
}
