/** What to do about one trouble: when it is this one, whether it may be repeated, the steps, the commands to paste. */
import { useEffect, useRef } from 'preact/hooks'
import type { NamedRunbook } from '../../../src/operate/api.ts'
import { runbook } from '../commands.ts'
import { Empty, State } from './card.tsx'

export function RunbookDialog() {
  return runbook.value === undefined ? null : <Opened key={runbook.value.id} {...runbook.value} />
}

function Opened({ id, found }: { readonly id: string; readonly found?: NamedRunbook }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => { dialog.current?.showModal() }, [])
  // Closed as a dialog first: that gives the focus back to what opened it.
  const close = (): void => { dialog.current?.close() }
  return (
    <dialog ref={dialog} class="ask story" aria-labelledby="runbook-title" onClose={() => { runbook.value = undefined }}>
      <h2 id="runbook-title">{found?.title ?? `Runbook ${id}`}</h2>
      {found === undefined ? <Empty>No runbook is given under this name: the program declares it elsewhere or not at all.</Empty> : <Told runbook={found} />}
      <div class="ask-buttons"><button type="button" class="button" autofocus onClick={close}>Close</button></div>
    </dialog>
  )
}

function Told({ runbook: { id, when, safeToRetry, steps, commands } }: { readonly runbook: NamedRunbook }) {
  return (
    // Longer than the screen, it scrolls by itself, so it must be reachable by keyboard.
    <div class="runbook-body" tabIndex={0} role="group" aria-label={`Runbook ${id}`}>
      <p><span class="work-id">{id}</span> · {when}</p>
      <p>{safeToRetry ? <State tone="good" word="safe to retry" /> : <State tone="warn" word="not safe to retry: follow the steps" />}</p>
      <ol class="runbook-steps">{steps.map((step, index) => <li key={index}>{step}</li>)}</ol>
      {commands === undefined || commands.length === 0 ? null : <pre class="runbook-commands">{commands.join('\n')}</pre>}
    </div>
  )
}
