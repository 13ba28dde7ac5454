/** Faults on purpose: what breaks calls, who armed it and why, and when it ends. Not there where none is declared. */
import type { FaultsStatus } from '../../../src/operate/api.ts'
import { question } from '../commands.ts'
import { now } from '../store.ts'
import { span } from '../time.ts'
import { Action, Card, Row, State } from './card.tsx'

export function Faults({ plans }: { readonly plans: readonly FaultsStatus[] }) {
  if (plans.length === 0) return null
  return (
    <Card id="faults-on-purpose" title="Faults on purpose" note="what is armed ends by itself">
      <ul class="rows">{plans.map(plan => <One key={plan.name} plan={plan} />)}</ul>
    </Card>
  )
}

function One({ plan: { name, state, active, armed, injected, trouble } }: { readonly plan: FaultsStatus }) {
  return (
    <Row
      name={name}
      state={active ? <State tone="bad" word="breaks calls" /> : <State tone="quiet" word={state === 'off' ? 'off' : 'waits for its own switch'} />}
      figures={<span class="figure" title="since the start of this instance">{injected} injected</span>}
      actions={state === 'off' ? <Action label="Arm" about={name} onClick={() => { arm(name) }} /> : <Action label="Disarm" about={name} onClick={() => { disarm(name) }} />}
      detail={armed === undefined ? trouble : `${armed.by}: ${armed.reason}, ${span(armed.until - now.value)} left`}
    />
  )
}

function arm(name: string): void {
  question.value = { title: `Arm ${name}?`, text: 'Calls break on purpose, on this instance. It ends by itself.', confirm: 'Arm', tone: 'kill', command: 'faults.arm', target: name, expiry: 'hour' }
}

function disarm(name: string): void {
  question.value = { title: `Disarm ${name}?`, text: 'No fault is injected until it is armed again.', confirm: 'Disarm', tone: 'calm', command: 'faults.disarm', target: name }
}
