/** The pieces that every part is made of. */
import type { ComponentChildren } from 'preact'
import { openRunbook } from '../commands.ts'

export type Tone = 'good' | 'warn' | 'bad' | 'quiet'

export function Card({ title, note, id, children }: { readonly title: string; readonly note?: string; readonly id: string; readonly children: ComponentChildren }) {
  return (
    <section class="card" aria-labelledby={id} data-part={id}>
      <header class="card-head">
        <h2 id={id}>{title}</h2>
        {note === undefined ? null : <span class="card-note">{note}</span>}
      </header>
      {children}
    </section>
  )
}

/** A state: a dot for the glance, and the word, because a colour alone says nothing to many. */
export function State({ tone, word }: { readonly tone: Tone; readonly word: string }) {
  return (
    <span class={`state state-${tone}`}>
      <span class="dot" aria-hidden="true" />
      {word}
    </span>
  )
}

export function Row({ name, state, detail, figures, actions, children }: { readonly name: ComponentChildren; readonly state: ComponentChildren; readonly detail?: ComponentChildren; readonly figures?: ComponentChildren; readonly actions?: ComponentChildren; readonly children?: ComponentChildren }) {
  return (
    <li class="row">
      <div class="row-main">
        <span class="row-name">{name}</span>
        <span class="row-state">{state}</span>
        {figures === undefined ? null : <span class="row-figures">{figures}</span>}
        {actions === undefined ? null : <span class="row-actions">{actions}</span>}
      </div>
      {detail === undefined || detail === '' ? null : <p class="row-detail">{detail}</p>}
      {children}
    </li>
  )
}

export function Action({ label, about, onClick, disabled }: { readonly label: string; readonly about: string; readonly onClick: () => void; readonly disabled?: boolean }) {
  return (
    <button type="button" class="action" aria-label={`${label}: ${about}`} onClick={onClick} disabled={disabled ?? false}>
      {label}
    </button>
  )
}

export function Empty({ children }: { readonly children: ComponentChildren }) {
  return <p class="empty">{children}</p>
}

/** Opens what is to be done (./runbook.tsx). */
export function Runbook({ name }: { readonly name: string | undefined }) {
  if (name === undefined || name === '') return null
  return <button type="button" class="runbook" aria-haspopup="dialog" onClick={() => { void openRunbook(name) }}>runbook {name}</button>
}
