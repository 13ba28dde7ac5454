/** The kill switches: what off means, who switched and why, and when it ends by itself. */
import type { FlagStatus } from '../../../src/operate/api.ts'
import { question } from '../commands.ts'
import { now } from '../store.ts'
import { span } from '../time.ts'
import { Action, Card, Empty, Runbook } from './card.tsx'

export function Switches({ flags }: { readonly flags: readonly FlagStatus[] }) {
  return (
    <Card id="switches" title="Switches" note="off is safe: skipped, and said so">
      {flags.length === 0 ? <Empty>None is declared.</Empty> : <ul class="rows">{flags.map(flag => <One key={flag.name} flag={flag} />)}</ul>}
    </Card>
  )
}

function One({ flag }: { readonly flag: FlagStatus }) {
  const { name, on, because, whenOff, pinned, override, runbook } = flag
  const ends = override?.expiresAt
  return (
    <li class={on ? 'row switch-row' : 'row switch-row switch-off'}>
      <div class="row-main">
        <button type="button" role="switch" class="switch" aria-checked={on} aria-label={name} disabled={pinned} title={pinned ? because : undefined} onClick={() => { flip(flag) }}>
          <span class="knob" aria-hidden="true" />
        </button>
        <span class="row-name">{name}</span>
        <span class="switch-word">{on ? 'on' : 'off'}</span>
        <span class="row-figures">{ends === undefined ? '' : <span title="then it goes back by itself">{span(ends - now.value)} left</span>}</span>
        {override === undefined || pinned ? null : (
          <span class="row-actions">
            <Action label="Undo" about={`override of ${name}`} onClick={() => { clear(flag) }} />
          </span>
        )}
      </div>
      {on ? null : <p class="row-detail switch-meaning">{sentence(whenOff)} <Runbook name={runbook} /></p>}
      {on && override === undefined && !pinned ? null : <p class="row-detail">{because}</p>}
    </li>
  )
}

/** People write it with and without a full stop. */
function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`
}

function flip({ name, on, whenOff }: FlagStatus): void {
  question.value = on
    ? { title: `Switch ${name} off?`, text: sentence(whenOff), confirm: 'Switch off', tone: 'kill', command: 'flag.set', target: name, args: { on: false }, expiry: 'may' }
    : { title: `Switch ${name} on?`, text: 'It works again on every instance within a second.', confirm: 'Switch on', tone: 'calm', command: 'flag.set', target: name, args: { on: true }, expiry: 'may' }
}

function clear({ name }: FlagStatus): void {
  question.value = { title: `Take the override of ${name} back?`, text: 'Its default decides again.', confirm: 'Take back', tone: 'calm', command: 'flag.clear', target: name }
}
