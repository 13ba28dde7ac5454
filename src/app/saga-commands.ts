/**
 * The operators' commands about runs of sagas: try again, skip, cancel, confirm. The target is the run's id, the argument `saga` its saga.
 *
 * What a command would do is said by its preview, from the record. What a saga refuses (a cancellation behind the point of no return) is
 * answered in words and changes nothing.
 */
import { HoldfastError, type Json, type Registry } from '../core/index.ts'
import type { CommandArgs, CommandBus } from '../control/index.ts'
import type { Saga, SagaHistory } from '../durable/index.ts'

export type AnySaga = Saga<unknown, Json | void>

export function declareSagaCommands(bus: CommandBus, sagas: Registry<AnySaga>): void {
  bus.declare('saga.retry', {
    summary: 'Let a run that needs a human go on from where it stands',
    risk: 'mild',
    preview: async (id, args) => `${await standing(sagas, id, args)}; it is tried again from there`,
    execute: async ({ target, args, reason, actor }) => {
      const saga = sagaOf(sagas, args)
      return await saga.retry(target, reason, actor) ? `${saga.name} ${target} goes on` : `${saga.name} ${target} does not need a human; nothing changed`
    },
  })
  bus.declare('saga.skip', {
    summary: 'Count the step that a run stands at as done (with the argument value, or nothing), or, on its way back, keep what is to be undone next',
    risk: 'mild',
    preview: async (id, args) => `${await standing(sagas, id, args)}; the step it stands at is not carried out, and it goes on behind it`,
    execute: async ({ target, args, reason, actor }) => {
      const saga = sagaOf(sagas, args)
      const skipped = await saga.skip(target, reason, { actor, value: args['value'] ?? null })
      return skipped === undefined ? `${saga.name} ${target} has nothing to skip; nothing changed` : `${saga.name} ${target} goes on without ${skipped}`
    },
  })
  bus.declare('saga.cancel', {
    summary: 'Undo a run that has not passed its point of no return',
    risk: 'mild',
    preview: async (id, args) => `${await standing(sagas, id, args)}; what it has done is undone in reverse order, unless it is past its point of no return`,
    execute: async ({ target, args, reason, actor }) => {
      const saga = sagaOf(sagas, args)
      const answer = await saga.cancel(target, reason, actor)
      const subject = `${saga.name} ${target}`
      if (answer.outcome === 'refused') return `${subject} was not cancelled: ${answer.reason}; nothing changed`
      if (answer.outcome === 'needs-human') return `${subject} is cancelled and needs a human: ${answer.reason}`
      return answer.outcome === 'undone' ? `${subject} is undone: ${answer.reason}` : `${subject} is cancelled: whoever holds it undoes it`
    },
  })
  bus.declare('saga.confirm', {
    summary: 'Confirm the step that a run waits with, by a ticket that was asked for',
    risk: 'mild',
    execute: async ({ args, actor, ticket }) => {
      const saga = sagaOf(sagas, args)
      if (ticket === undefined) throw new HoldfastError('HF_TICKET_INVALID', { message: `${saga.name}: ask for a ticket first, it says what will be done; nothing was done`, context: { action: `saga.${saga.name}`, why: 'unknown' } })
      const answer = await saga.confirm(ticket, actor)
      return `${saga.name} ${answer.id} is confirmed and ${answer.outcome === 'done' ? 'done' : `${answer.outcome}: ${answer.reason}`}`
    },
  })
}

/** @throws HF_INPUT_INVALID, HF_UNKNOWN_NAME */
function sagaOf(sagas: Registry<AnySaga>, args: CommandArgs): AnySaga {
  const { saga } = args
  if (typeof saga !== 'string') throw new HoldfastError('HF_INPUT_INVALID', { message: `expected the argument saga to be a name, got ${JSON.stringify(saga)}`, context: { argument: 'saga' } })
  return sagas.need(saga)
}

async function standing(sagas: Registry<AnySaga>, id: string, args: CommandArgs): Promise<string> {
  const saga = sagaOf(sagas, args)
  const history = await saga.history(id)
  if (history === undefined) throw new HoldfastError('HF_UNKNOWN_NAME', { message: `${saga.name} has no run ${JSON.stringify(id)}`, context: { kind: 'saga run', name: id } })
  return `${saga.name} ${id} is ${history.state}${history.reason === undefined ? '' : ` (${history.reason})`}, ${doneOf(history)}`
}

function doneOf({ entries }: SagaHistory): string {
  const undone = new Set(entries.filter(entry => entry.what === 'undo').map(entry => entry.step))
  const done = entries.filter(entry => entry.what === 'step' && entry.detail === 'done' && !undone.has(entry.step)).map(entry => entry.step ?? '')
  return done.length === 0 ? 'nothing of it is done' : `done: ${done.join(', ')}`
}
