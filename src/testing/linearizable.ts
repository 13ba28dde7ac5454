/**
 * Linearizability: is there an order in which the operations on a key could have happened one at a time, each between its
 * invocation and its end, that explains every answer?
 *
 * The search of Wing and Gong with Lowe's memory of states that led nowhere, one key at a time (an object is linearizable if
 * each of its keys is: Herlihy and Wing 1990). Operations of unknown outcome may happen at any time after their invocation, or never.
 */
import type { Json } from '../core/index.ts'
import type { Anomaly, Operation } from './history.ts'

/** What a key is when everything happens one at a time. */
export interface Model<State extends Json> {
  readonly name: string
  readonly initial: State
  /** The state after the operation, or undefined when this answer can't be given in this state. `known` is false when the answer is not known: then any is right. */
  readonly step: (state: State, operation: Operation, known: boolean) => State | undefined
}

/** `write` (input), `read` (output), `cas` (input `[from, to]`, output whether it took place). */
export function registerModel(initial: Json = null): Model<Json> {
  return {
    name: 'register',
    initial,
    step: (state, { action, input, output }, known) => {
      if (action === 'write') return input
      if (action === 'read') return !known || same(state, output) ? state : undefined
      if (action !== 'cas' || !Array.isArray(input)) return undefined
      const [from = null, to = null] = input as readonly Json[]
      const took = same(state, from)
      if (known && took !== output) return undefined
      return took ? to : state
    },
  }
}

/** How the lease stands: the last fence that was given out, and whether its holder gave it back. */
export type LeaseState = { readonly fence: number; readonly free: boolean }

/**
 * A lease with fencing: `acquire` (output the fence, or null when another holds it), `release` and `write` (input the fence;
 * output of `write`: whether it was accepted). A fence must be higher than all before; a write counts only under the last one.
 *
 * With `expires` (default) a lease may end by time at any moment, so that a new holder is right although the old one has
 * not released, and a write under the last fence may be refused. Without, only `release` frees it, which holds as long as no
 * holder outlives its lease.
 */
export function leaseModel({ expires = true }: { readonly expires?: boolean } = {}): Model<LeaseState> {
  return {
    name: 'lease',
    initial: { fence: 0, free: true },
    step: (state, { action, input, output }, known) => {
      const { fence, free } = state
      if (action === 'acquire') {
        if (!known) return free || expires ? { fence: fence + 1, free: false } : state
        if (output === null) return free && !expires ? undefined : state
        return typeof output === 'number' && output > fence && (free || expires) ? { fence: output, free: false } : undefined
      }
      const mine = input === fence && !free
      if (action === 'release') return mine ? { fence, free: true } : state
      if (action !== 'write') return undefined
      if (!known || output === mine) return state
      return output === false && expires ? state : undefined
    },
  }
}

export interface LinearizableOptions {
  /** Steps of the search per key until it is given up as `undecided`. Default 1,000,000: some seconds. */
  readonly stepsMax?: number
}

/** Each key whose operations no order explains. Empty is good. */
export function checkLinearizable<State extends Json>(operations: readonly Operation[], model: Model<State>, options: LinearizableOptions = {}): readonly Anomaly[] {
  const anomalies: Anomaly[] = []
  for (const [key, ofKey] of byKey(operations)) {
    const verdict = search(ofKey, model, options.stepsMax ?? 1_000_000)
    if (verdict.kind === 'good') continue
    const message = verdict.kind === 'undecided' ? `${model.name}: no order was found within ${String(verdict.steps)} steps`
      : `${model.name}: no order explains ${verdict.stuckAt.map(said).join('; ')}`
    anomalies.push({ kind: verdict.kind === 'undecided' ? 'undecided' : 'not linearizable', key, message })
  }
  return anomalies
}

type Verdict = { readonly kind: 'good' } | { readonly kind: 'undecided'; readonly steps: number } | { readonly kind: 'bad'; readonly stuckAt: readonly Operation[] }

interface Choice<State> {
  /** Of the operation that was taken to happen next. */
  readonly index: number
  readonly state: State
}

/** Depth first: at each step one of the operations that may be next, i.e. that began before the first end among what is left. */
function search<State extends Json>(given: readonly Operation[], model: Model<State>, stepsMax: number): Verdict {
  const operations = given.filter(operation => operation.end !== 'fail').sort((a, b) => a.invokedAt - b.invokedAt)
  const left = operations.map(() => true)
  let mustHappen = operations.filter(operation => operation.end === 'ok').length
  const path: Choice<State>[] = []
  const seen = new Set<string>()
  let state = model.initial
  let happened = 0n
  let deepest = 0
  let stuckAt: readonly Operation[] = []
  let from = 0
  /** Everything before it has happened. */
  let first = 0
  for (let steps = 0; ; steps++) {
    if (mustHappen === 0) return { kind: 'good' }
    if (steps >= stepsMax) return { kind: 'undecided', steps }
    const next = nextChoice(from)
    if (next !== undefined) {
      path.push({ index: next.index, state })
      take(next.index, true)
      state = next.state
      from = first
      continue
    }
    if (path.length >= deepest) {
      deepest = path.length
      stuckAt = operations.filter((operation, index) => left[index] === true && operation.end === 'ok').slice(0, 3)
    }
    const back = path.pop()
    if (back === undefined) return { kind: 'bad', stuckAt }
    take(back.index, false)
    state = back.state
    from = back.index + 1
  }

  function nextChoice(begin: number): { readonly index: number; readonly state: State } | undefined {
    const bound = firstEnd()
    for (let index = begin; index < operations.length; index++) {
      const operation = operations[index]
      if (operation === undefined || operation.invokedAt > bound) break
      if (left[index] !== true) continue
      const after = model.step(state, operation, operation.end === 'ok')
      // What nobody knows and what changes nothing need not have happened: left out, it does not multiply the orders.
      if (after === undefined || (operation.end !== 'ok' && same(after, state))) continue
      const place = `${(happened | (1n << BigInt(index))).toString(36)} ${JSON.stringify(after)}`
      if (seen.has(place)) continue
      seen.add(place)
      return { index, state: after }
    }
    return undefined
  }

  /** What began after this has something before it that is over. */
  function firstEnd(): number {
    let bound = Infinity
    for (let index = first; index < operations.length; index++) {
      const operation = operations[index]
      if (operation === undefined || operation.invokedAt > bound) break
      if (left[index] === true) bound = Math.min(bound, operation.endedAt)
    }
    return bound
  }

  function take(index: number, taken: boolean): void {
    left[index] = !taken
    happened ^= 1n << BigInt(index)
    if (operations[index]?.end === 'ok') mustHappen += taken ? -1 : 1
    if (!taken) first = Math.min(first, index)
    while (first < left.length && left[first] === false) first++
  }
}

export function byKey<Item extends { readonly key: string }>(items: readonly Item[]): ReadonlyMap<string, Item[]> {
  const groups = new Map<string, Item[]>()
  for (const item of items) {
    const group = groups.get(item.key)
    if (group === undefined) groups.set(item.key, [item])
    else group.push(item)
  }
  return groups
}

function same(a: Json, b: Json): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b)
}

function said({ id, process, action, input, output }: Operation): string {
  return `${process} ${action}(${input === null ? '' : JSON.stringify(input)}) = ${JSON.stringify(output)} [${id}]`
}
