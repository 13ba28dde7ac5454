/** What was begun and could not be finished by itself: never lost, always listed, with what may safely be done. */
import type { WorkItemStatus } from '../../../src/operate/api.ts'
import { question } from '../commands.ts'
import { now } from '../store.ts'
import { ago } from '../time.ts'
import { Action, Card, Empty, Row, Runbook, State } from './card.tsx'

const STATES: Readonly<Record<string, string>> = { 'needs-human': 'needs a person', unknown: 'outcome unknown', dead: 'given up', parked: 'given up' }

export function Work({ work }: { readonly work: readonly WorkItemStatus[] }) {
  return (
    <Card id="work" title="Stuck work" {...(work.length > 0 ? { note: 'nothing of it is lost' } : {})}>
      {work.length === 0 ? <Empty>Nothing waits for a person.</Empty> : <ul class="rows">{work.map(item => <One key={`${item.kind} ${item.name} ${item.id}`} item={item} />)}</ul>}
    </Card>
  )
}

function One({ item }: { readonly item: WorkItemStatus }) {
  const { kind, name, id, state, since, reason, runbook, actions } = item
  return (
    <Row
      name={<>{name} <span class="work-id">{id}</span></>}
      state={<State tone="bad" word={STATES[state] ?? state} />}
      figures={<span>{kind}</span>}
      actions={
        <>
          {actions.includes('retry') ? <Action label="Retry" about={`${name} ${id}`} onClick={() => { settle(item, 'retry') }} /> : null}
          {actions.includes('discard') ? <Action label="Discard" about={`${name} ${id}`} onClick={() => { settle(item, 'discard') }} /> : null}
        </>
      }
      detail={<>for {ago(now.value - since)}: {reason} <Runbook name={runbook} /></>}
    />
  )
}

function settle({ kind, name, id }: WorkItemStatus, verb: 'retry' | 'discard'): void {
  question.value =
    verb === 'retry'
      ? { title: `Try ${name} ${id} again?`, text: 'It goes on under the same key, so what already happened does not happen twice.', confirm: 'Retry', tone: 'calm', command: 'work.retry', target: id, args: { kind, name } }
      : { title: `Give ${name} ${id} up?`, text: 'It is never tried again. Make sure that it was settled by hand.', confirm: 'Discard for good', tone: 'kill', command: 'work.discard', target: id, args: { kind, name } }
}
