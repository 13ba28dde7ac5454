/** What happened last, newest first; a piece of work can be followed by its id. */
import { explain } from '../commands.ts'
import { entries } from '../store.ts'
import { clock, moment } from '../time.ts'
import type { TimelineEntry } from '../../../src/operate/api.ts'
import { Card, Empty } from './card.tsx'

const SHOWN_MAX = 60

export function Events() {
  const shown = entries.value.slice(-SHOWN_MAX).reverse()
  return (
    <Card id="events" title="Events" note="newest first">
      {shown.length === 0 ? <Empty>Nothing has happened yet.</Empty> : (
        // The list scrolls by itself, so it must be reachable by keyboard.
        <ol class="events" tabIndex={0} aria-label="Events, newest first">
          {shown.map(entry => <Entry key={entry.id} entry={entry} />)}
        </ol>
      )}
    </Card>
  )
}

export function Entry({ entry, plain }: { readonly entry: TimelineEntry; readonly plain?: boolean }) {
  const { at, text, tone, count, correlationId } = entry
  return (
    <li class={`event event-${tone}`}>
      <time class="event-time" dateTime={new Date(at).toISOString()} title={moment(at)}>{clock(at)}</time>
      <span class="dot" aria-hidden="true" />
      <span class="event-text">
        {text}
        {count > 1 ? <span class="event-count"> ×{count}</span> : null}
        {correlationId === undefined || plain === true ? null : (
          <button type="button" class="event-id" aria-label={`The story of ${correlationId}`} onClick={() => { void explain(correlationId) }}>{correlationId}</button>
        )}
      </span>
    </li>
  )
}
