/** What somebody was told about and is still true. Its place is kept while there is none, so that nothing jumps. */
import type { AlertStatus } from '../../../src/operate/api.ts'
import { question } from '../commands.ts'
import { now } from '../store.ts'
import { ago } from '../time.ts'
import { Action, Card, Empty, Row, Runbook, State } from './card.tsx'

export function Alerts({ alerts }: { readonly alerts: readonly AlertStatus[] }) {
  return (
    <Card id="alerts" title="Alerts">
      {alerts.length === 0 ? <Empty>None.</Empty> : <ul class="rows alert-rows">{alerts.map(alert => <One key={alert.key} alert={alert} />)}</ul>}
    </Card>
  )
}

function One({ alert: { key, severity, summary, since, runbook } }: { readonly alert: AlertStatus }) {
  return (
    <Row
      name={<State tone={severity === 'page' ? 'bad' : 'warn'} word={severity} />}
      state={summary}
      actions={<Action label="Acknowledge" about={summary} onClick={() => { acknowledge(key, summary) }} />}
      detail={<>for {ago(now.value - since)} <Runbook name={runbook} /></>}
    />
  )
}

function acknowledge(key: string, summary: string): void {
  question.value = { title: 'Take this alert off the page?', text: summary, confirm: 'Acknowledge', tone: 'calm', command: 'alert.ack', target: key }
}
