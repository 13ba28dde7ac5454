/** Which service this is, and how old what is shown is. */
import { ageMs, stale, status, trouble } from '../store.ts'
import { ago } from '../time.ts'

export function Top() {
  const shown = status.value
  return (
    <header class="top">
      <div class="brand">
        <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
          <rect width="32" height="32" rx="8" class="brand-mark" />
          <path d="M10 8v16M22 8v16M10 16h12" class="brand-line" />
        </svg>
        <h1>{shown?.service ?? 'Holdfast'}</h1>
        {shown === undefined ? null : (
          <span class="brand-more">
            {shown.version}
            <span class="wide"> · {shown.instance} · {shown.store.name === 'none' ? 'no store' : `${shown.store.name} store`}</span>
          </span>
        )}
      </div>
      <Age />
    </header>
  )
}

function Age() {
  const age = ageMs.value
  if (stale.value) {
    const old = age === undefined ? '' : ` ${ago(age)}`
    return (
      <span class="age age-stale" role="alert" title={trouble.value ?? 'the service stopped confirming what is shown'}>
        {age === undefined ? 'connecting' : `STALE${old}`}
      </span>
    )
  }
  return (
    <span class="age" title="How long ago the service confirmed what is shown">
      <span class="pulse" aria-hidden="true" />
      live, <span class="age-figure">{((age ?? 0) / 1_000).toFixed(1)} s</span>
    </span>
  )
}
