/**
 * What the tests of sagas share: a world, sagas of free shape in it, a fake ticket desk, and words for what is recorded.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { z } from 'zod'
import type { TestWorld } from './durable-stores.ts'
import { actorName, HoldfastError, type Actor } from '../src/core/index.ts'
import type { DurableKit } from '../src/durable/kit.ts'
import type { TicketPort } from '../src/durable/saga/operator-types.ts'
import { saga, sagaPort } from '../src/durable/saga/saga.ts'
import type { RunRow } from '../src/durable/saga/port.ts'
import type { Saga, SagaOptions } from '../src/durable/saga/types.ts'

export const Input = z.object({ id: z.string() })
export type Input = z.infer<typeof Input>
export type Kinds = 'workspace' | 'key'
export type Options = SagaOptions<Input, Input, string, unknown, Kinds>
export const alice: Actor = { id: 'alice', via: 'cli' }
export const bob: Actor = { id: 'bob', via: 'cli' }

export const hangUp = (): Error => Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' })
export const unreachable = (): Error => new TypeError('fetch failed', { cause: Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }) })
export const never = <T>(): Promise<T> => new Promise(() => undefined)

/** Tickets as the desk of another room gives them: single use, bound to actor and state. */
export function fakeTickets(): TicketPort<unknown> {
  const issued = new Map<string, { readonly by: string; readonly id: string; readonly input: string; readonly summary: string; readonly state: string; readonly secondPerson: boolean }>()
  let count = 0
  return {
    issue: async ({ actor, input, summary, state, secondPerson, ttlMs }) => {
      const token = `ticket-${String(++count)}`
      issued.set(token, { by: actorName(actor), id: actor.id, input, summary, state, secondPerson })
      return { token, summary, expiresAt: new Date(ttlMs) }
    },
    redeem: async (_, { actor, token, stateOf }) => {
      const ticket = issued.get(token)
      if (ticket === undefined) return { ok: false, why: 'unknown' }
      if (ticket.secondPerson ? ticket.id === actor.id : ticket.by !== actorName(actor)) return { ok: false, why: 'other-actor' }
      issued.delete(token)
      if (await stateOf?.(ticket) !== ticket.state) return { ok: false, why: 'state-changed' }
      return { ok: true, ticket }
    },
    refuse: (_, { why }) => { throw new HoldfastError('HF_TICKET_INVALID', { message: why, context: { why } }) },
  }
}

export class SagaWorld {
  readonly world: TestWorld
  readonly name: string
  readonly id: string
  /** What was done outside, in order. */
  readonly log: string[] = []
  readonly tickets: TicketPort<unknown> = fakeTickets()

  constructor(world: TestWorld, number: number) {
    this.world = world
    this.name = `depth-${String(number)}`
    this.id = `r${String(number)}`
  }

  /** Undoes workspaces and keys by saying so. */
  define(run: Options['run'], options: Partial<Omit<Options, 'run' | 'input'>> = {}, kit: DurableKit<unknown> = this.world.kit()): Saga<Input, string> {
    const undo = async (kind: string, id: string): Promise<void> => { this.log.push(`-${kind} ${id}`) }
    return saga(this.name, { version: 1, input: Input, undo: { workspace: id => undo('workspace', id), key: id => undo('key', id) }, ...options, run }, kit, { tickets: this.tickets })
  }

  start(subject: Saga<Input, string>): ReturnType<Saga<Input, string>['start']> {
    return subject.start(this.id, { id: this.id })
  }

  row(): Promise<RunRow | undefined> {
    return this.world.database.transaction('test.run', tx => sagaPort<unknown>(this.world.database).read(tx, { saga: this.name, id: this.id }))
  }

  async states(): Promise<string> {
    const steps = await this.world.database.transaction('test.steps', tx => sagaPort<unknown>(this.world.database).steps(tx, { saga: this.name, id: this.id }))
    return steps.map(step => `${step.name} ${step.state}`).join(', ')
  }

  told(event: 'saga.waiting' | 'saga.confirmed' | 'saga.cancelled' | 'saga.finished'): readonly unknown[] {
    return this.world.names(event).map(fact => fact.data as { readonly saga: string }).filter(data => data.saga === this.name)
  }

  /** Asks until it is so; between the questions is a round trip to the store, so it is no busy loop. */
  async until(done: () => boolean | Promise<boolean>): Promise<void> {
    for (let i = 0; i < 300; i++) {
      if (await done()) return
      await this.world.database.transaction('test.wait', () => turn())
    }
    throw new Error('never')
  }
}
