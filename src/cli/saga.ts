/**
 * `holdfast saga ...`: what happened to a run, and what may be done with it. What a change would do is shown with --preview.
 */
import type { Command } from 'commander'
import { HoldfastError, isHoldfastError, type Json } from '../core/index.ts'
import type { OperatorClient, SagaHistory } from '../operate/index.ts'
import type { GlobalOptions } from './connect.ts'
import { renderHistory } from './render.ts'
import type { Session, WriteOptions } from './run.ts'
import { clean } from './text.ts'

type SagaWrite = GlobalOptions & WriteOptions & { readonly preview?: boolean; readonly value?: string }

export function defineSaga(session: Session, saga: Command, write: (parent: Command, usage: string, summary: string) => Command): void {
  const { io } = session
  saga.command('show <saga> <id>').description('what happened to a run: steps, attempts, who did what').action(async (name: string, id: string, _options, command: Command) => {
    await session.show(command.optsWithGlobals<GlobalOptions>(), client => client.sagaHistory(name, id), history => renderHistory(io, history))
  })
  const change = (verb: 'retry' | 'skip' | 'cancel', summary: string): Command => write(saga, `${verb} <saga> <id>`, summary).option('--preview', 'only say what it would do')
    .action(async (name: string, id: string, _options, command: Command) => {
      const given = command.optsWithGlobals<SagaWrite>()
      const args = { saga: name, ...valueOf(given) }
      if (given.preview === true) await session.show(given, client => client.preview(`saga.${verb}`, { target: id, args }), ({ impact }) => `${clean(impact)}.`)
      else await session.command(given, `saga.${verb}`, id, args)
    })
  change('retry', 'let a run that needs a human go on from where it stands')
  change('skip', 'go on without the step that it stands at').option('--value <json>', 'what the step would have answered')
  change('cancel', 'undo a run that has not passed its point of no return')
  write(saga, 'confirm <saga> <id>', 'without --ticket: ask what will be done; with it: let it be done')
    .option('--ticket <token>', 'from asking, within its time, by the same person')
    .action(async (name: string, id: string, _options, command: Command) => {
      const given = command.optsWithGlobals<SagaWrite>()
      if (given.ticket !== undefined) await session.command(given, 'saga.confirm', id, { saga: name })
      else await session.show(given, client => client.sagaTicket(name, id), ({ summary, token }) => `${clean(summary)}.\nTo let it be done: holdfast saga confirm ${clean(name)} ${clean(id)} --ticket ${token} --reason "..."`)
    })
}

/** A correlation id of a run, such as `saga:provision:42`, names it: its history is in the database, whatever the timeline has forgotten. */
export async function runNamed(client: OperatorClient, correlationId: string): Promise<SagaHistory | undefined> {
  const [, saga, id] = /^saga:([^:]+):(.+)$/s.exec(correlationId) ?? []
  if (saga === undefined || id === undefined) return undefined
  try {
    return await client.sagaHistory(saga, id)
  } catch (error) {
    // There is none: what the timeline knows is the answer then.
    if (isHoldfastError(error) && error.code === 'HF_UNKNOWN_NAME') return undefined
    throw error
  }
}

/** @throws HF_OPTION_INVALID */
function valueOf({ value }: SagaWrite): { readonly value?: Json } {
  if (value === undefined) return {}
  try {
    return { value: JSON.parse(value) as Json }
  } catch (error) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `expected --value to be JSON, got ${JSON.stringify(value)}`, cause: error })
  }
}
