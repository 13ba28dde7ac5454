/**
 * A durable room on the memory store, in simulated time, with a store that fails as it is told to: what tests of a room's
 * behaviour around failures share.
 */
import { EventBus, HoldfastError, type EventName, type HoldfastEvent, type Schema } from '../src/core/index.ts'
import type { DurableKit } from '../src/durable/index.ts'
import { withHooks, type MemoryTx } from '../src/store/index.ts'
import { memory } from '../src/store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../src/testing/index.ts'

export const text: Schema<string, string> = { '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as string }) } }

export interface FaultyStore {
  readonly env: SimulatedEnv
  readonly kit: DurableKit<MemoryTx>
  /** Thrown around the next transactions of a name, one after the other: `before` nothing has happened, `after` it is committed and nobody is told. */
  readonly before: Record<string, Error[]>
  readonly after: Record<string, Error[]>
  told(name: EventName): readonly unknown[]
  /** When transactions of that name were begun, ms. */
  begun(name: string): readonly number[]
}

export async function faultyStore(): Promise<FaultyStore> {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const facts: HoldfastEvent[] = []
  events.onAny(fact => { facts.push(fact) })
  const begun: { readonly name: string; readonly atMs: number }[] = []
  const before: FaultyStore['before'] = {}
  const after: FaultyStore['after'] = {}
  const fail = (errors: FaultyStore['before'], name: string): void => {
    const error = errors[name]?.shift()
    if (error !== undefined) throw error
  }
  const store = withHooks(memory(), { before: name => { begun.push({ name, atMs: env.monotonic() }); fail(before, name) }, after: name => { fail(after, name) } })
  const database = await store.open({ env, events, service: 'test' })
  return {
    env, before, after,
    kit: { env, events, service: 'test', instance: 'i', database: () => database },
    told: name => facts.filter(fact => fact.name === name).map(({ data }) => data),
    begun: name => begun.filter(each => each.name === name).map(({ atMs }) => atMs),
  }
}

export function away(): Error {
  return new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })
}

export function noAnswer(): Error {
  return new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: 'no answer' })
}
