/** All that is known of one dependency: what it is doing now, what it has learned, what a call costs at worst. */
import { useEffect, useRef } from 'preact/hooks'
import type { DependencyStatus } from '../../../src/operate/api.ts'
import { dependency } from '../commands.ts'
import { status } from '../store.ts'
import { span } from '../time.ts'
import { Empty } from './card.tsx'

/** What is worth a line in its row: none of it is there in usual times. */
export function learned({ ramp, shadow, partitions }: DependencyStatus): readonly string[] {
  return [
    ...(ramp === undefined ? [] : [`coming back: ${percent(ramp)} of the calls pass`]),
    ...(shadow === undefined || shadow.state === 'closed' ? [] : [`its breaker only watches and would be ${shadow.state}`]),
    ...(partitions === undefined || partitions.notClosed === 0 ? [] : [`${String(partitions.notClosed)} of ${String(partitions.size)} partitions left alone`]),
  ]
}

export function DependencyDialog() {
  return dependency.value === undefined ? null : <Opened key={dependency.value.name} {...dependency.value} />
}

function Opened({ name, words }: { readonly name: string; readonly words?: readonly string[] }) {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => { dialog.current?.showModal() }, [])
  // Closed as a dialog first: that gives the focus back to what opened it.
  const close = (): void => { dialog.current?.close() }
  const known = status.value?.dependencies.find(each => each.name === name)
  return (
    <dialog ref={dialog} class="ask story" aria-labelledby="dependency-title" onClose={() => { dependency.value = undefined }}>
      <h2 id="dependency-title">{name}</h2>
      {known === undefined ? <Empty>It is not declared any more.</Empty> : (
        <div class="runbook-body" tabIndex={0} role="group" aria-label={`What is known of ${name}`}>
          <dl class="facts">{factsOf(known).map(([what, value]) => <div key={what}><dt>{what}</dt><dd>{value}</dd></div>)}</dl>
          {words === undefined ? null : <ul class="words" aria-label="At worst">{words.map((line, index) => <li key={index}>{line}</li>)}</ul>}
        </div>
      )}
      <div class="ask-buttons"><button type="button" class="button" autofocus onClick={close}>Close</button></div>
    </dialog>
  )
}

function factsOf({ limit, inFlight, queued, abandoned, calls, failures, refusals, retries, retriesSuppressed, hedges, timeouts, p50Ms, p95Ms, ramp, shadow, partitions }: DependencyStatus): readonly (readonly [string, string])[] {
  const counted = (count: number, what: string): string => (count === 0 ? '' : `, ${String(count)} ${what}`)
  return [
    ['Calls', `${String(calls)}${counted(failures, 'failed')}${counted(refusals, 'refused without calling')}${counted(timeouts, 'timeouts')}`],
    ['At work', `${String(inFlight)} of ${String(limit)} at once${counted(queued, 'waiting')}${counted(abandoned, 'run on abandoned')}`],
    ['Repeated', `${String(retries)}${counted(hedges, 'hedged')}${counted(retriesSuppressed, 'held back by the budget')}`],
    ...(p50Ms === undefined || p95Ms === undefined ? [] : [['Answers in', `${String(p50Ms)} ms (half), ${String(p95Ms)} ms (95 %)`] as const]),
    ...(ramp === undefined ? [] : [['Coming back', `${percent(ramp)} of the calls pass`] as const]),
    ...(shadow === undefined ? [] : [['In shadow', `it would be ${shadow.state}; ${String(shadow.wouldHaveRefused)} calls would have been refused`] as const]),
    ...(partitions === undefined ? [] : [['Partitions', partitionsInWords(partitions)] as const]),
  ]
}

function partitionsInWords({ size, notClosed, first }: NonNullable<DependencyStatus['partitions']>): string {
  const named = first.map(({ partition, state, retryAfterMs }) => `${partition} ${state}${retryAfterMs === undefined ? '' : ` for ${span(retryAfterMs)}`}`)
  return `${String(size)}${notClosed === 0 ? ', all closed' : `, ${String(notClosed)} not closed: ${named.join(', ')}${notClosed > named.length ? ', ...' : ''}`}`
}

function percent(share: number): string {
  return `${String(Math.round(share * 100))} %`
}
