/** The one dialog before every change: what will be true, for how long, and why. The reason is kept in the audit. */
import { useEffect, useRef, useState } from 'preact/hooks'
import { carryOut, question, type Question } from '../commands.ts'

const WITHIN_AN_HOUR = [['15m', '15 minutes'], ['30m', '30 minutes'], ['1h', '1 hour']] as const
const EXPIRIES = [...WITHIN_AN_HOUR, ['4h', '4 hours'], ['24h', '1 day']] as const

export function Ask() {
  const asked = question.value
  // A key of its own per question: nothing typed for one is left over for the next.
  return asked === undefined ? null : <AskAbout key={`${asked.command} ${asked.target}`} asked={asked} />
}

function AskAbout({ asked }: { readonly asked: Question }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [reason, setReason] = useState('')
  const [duration, setDuration] = useState(asked.expiry === 'must' || asked.expiry === 'hour' ? '15m' : '')
  const [busy, setBusy] = useState(false)
  const [refusal, setRefusal] = useState<string | undefined>(undefined)
  useEffect(() => { dialog.current?.showModal() }, [])

  // Closed as a dialog first: that gives the focus back to what opened it.
  const close = (): void => { dialog.current?.close() }
  const submit = async (): Promise<void> => {
    setBusy(true)
    try {
      await carryOut(asked, reason.trim(), duration)
      close()
    } catch (error) {
      setRefusal(error instanceof Error ? error.message : String(error))
      setBusy(false)
    }
  }

  return (
    <dialog ref={dialog} class="ask" aria-labelledby="ask-title" onClose={() => { question.value = undefined }}>
      <form
        onSubmit={event => {
          event.preventDefault()
          if (reason.trim() !== '' && !busy) void submit()
        }}
      >
        <h2 id="ask-title">{asked.title}</h2>
        <p>{asked.text}</p>
        <label for="ask-reason">Why?</label>
        <input id="ask-reason" value={reason} onInput={event => { setReason(event.currentTarget.value) }} maxLength={500} required autocomplete="off" placeholder="Kept, and shown to whoever asks later" autofocus />
        {asked.expiry === undefined ? null : (
          <>
            <label for="ask-for">For how long?</label>
            <select id="ask-for" value={duration} onChange={event => { setDuration(event.currentTarget.value) }}>
              {asked.expiry === 'may' ? <option value="">Until somebody changes it</option> : null}
              {(asked.expiry === 'hour' ? WITHIN_AN_HOUR : EXPIRIES).map(([value, label]) => <option key={value} value={value}>{label}</option>)}
            </select>
          </>
        )}
        {refusal === undefined ? null : <p class="refusal" role="alert">{refusal}</p>}
        <div class="ask-buttons">
          <button type="button" class="button" onClick={close}>Cancel</button>
          <button type="submit" class={`button button-${asked.tone}`} disabled={busy}>{asked.confirm}</button>
        </div>
      </form>
    </dialog>
  )
}
