/** Everything known about one piece of work, in order. */
import { useEffect, useRef } from 'preact/hooks'
import { story } from '../commands.ts'
import type { TimelineEntry } from '../../../src/operate/api.ts'
import { Empty } from './card.tsx'
import { Entry } from './events.tsx'

export function Story() {
  return story.value === undefined ? null : <Told key={story.value.id} id={story.value.id} entries={story.value.entries} />
}

function Told({ id, entries }: { readonly id: string; readonly entries: readonly TimelineEntry[] }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => { dialog.current?.showModal() }, [])
  // Closed as a dialog first: that gives the focus back to what opened it.
  const close = (): void => { dialog.current?.close() }
  return (
    <dialog ref={dialog} class="ask story" aria-labelledby="story-title" onClose={() => { story.value = undefined }}>
      <h2 id="story-title">The story of {id}</h2>
      {entries.length === 0 ? <Empty>Nothing is known any more.</Empty> : <ol class="events">{entries.map(entry => <Entry key={entry.id} entry={entry} plain />)}</ol>}
      <div class="ask-buttons"><button type="button" class="button" onClick={close}>Close</button></div>
    </dialog>
  )
}
