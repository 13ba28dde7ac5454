/**
 * Retries around retries multiply: three layers of three attempts are 27 calls on a dependency that is already down.
 *
 * What repeats runs its work in a context that carries the product of the attempts around it. To keep the success path
 * free of `AsyncLocalStorage.run`, that context is entered for repetitions and for one call in 1,024 (the first
 * included): a nesting that exists is seen at the first call, and one that appears later soon after.
 * Each pair of layers is announced once, as `retry.nested`. Errors of a guarded call inside are not repeated by the one
 * outside (./classify.ts), so the product is what could happen where somebody unwraps them.
 */
import { currentContext, withContext, type Context, type EventBus } from '../core/index.ts'

const SAMPLE = 1_024
/** Pairs that are remembered as told, by bus. */
const PAIRS_KEPT = 256

/** Whether the n-th call (from 1) runs in a context although nothing is repeated yet. */
export function sampled(call: number): boolean {
  return call % SAMPLE === 1
}

/** Runs `work` so that layers inside know of this one, which may attempt it `attempts` times. */
export function repeatedBy<T>(layer: string, attempts: number, work: () => T): T {
  return withContext({ attempts: (currentContext().attempts ?? 1) * attempts, repeatedBy: layer }, work)
}

const told = new WeakMap<EventBus, Set<string>>()

/** Announces that `layer`, which may attempt its work `attempts` times, runs inside another that does. */
export function announceNesting(events: EventBus, context: Context, layer: string, operation: string, attempts: number): void {
  const around = context.attempts ?? 1
  const outer = context.repeatedBy ?? 'a retry'
  let pairs = told.get(events)
  if (pairs === undefined) {
    pairs = new Set()
    told.set(events, pairs)
  }
  const pair = `${outer}\n${layer}`
  if (pairs.has(pair) || pairs.size >= PAIRS_KEPT) return
  pairs.add(pair)
  events.emit('retry.nested', { outer, inner: layer, operation, product: around * attempts })
}
