/** One sentence on top: is it broken, what does that mean, is anything lost. */
import { useRef } from 'preact/hooks'
import type { Status } from '../../../src/operate/api.ts'
import { now } from '../store.ts'
import { ago, moment } from '../time.ts'

const WORDS = { healthy: 'Healthy', degraded: 'Degraded', unavailable: 'Unavailable' } as const

export function VerdictPanel({ status }: { readonly status: Status }) {
  const { verdict, dependencies, workers, flags, work, alerts } = status
  const answering = dependencies.filter(({ breaker }) => breaker === 'closed' || breaker === 'forced-closed').length
  const working = workers.filter(({ state }) => state !== 'paused' && state !== 'stopped').length
  const off = flags.filter(flag => !flag.on).length
  return (
    <section class={`verdict verdict-${status.phase === 'ready' ? verdict.state : 'phase'}`} aria-label="Verdict">
      <p class="verdict-state">
        <span class="dot" aria-hidden="true" />
        {status.phase === 'ready' ? WORDS[verdict.state] : status.phase}
        <span class="verdict-since" title={moment(verdict.since)}>for {ago(now.value - verdict.since)}</span>
      </p>
      <p class="verdict-sentence" id="verdict">{verdict.sentence}</p>
      <ul class="counters">
        <Counter good={answering === dependencies.length} figure={`${String(answering)}/${String(dependencies.length)}`} word="dependencies answer" />
        <Counter good={working === workers.length} figure={`${String(working)}/${String(workers.length)}`} word="workers run" />
        <Counter good={off === 0} figure={String(off)} word={off === 1 ? 'switch is off' : 'switches are off'} />
        <Counter good={work.length === 0} figure={String(work.length)} word="waiting for a person" />
        <Counter good={alerts.length === 0} figure={String(alerts.length)} word={alerts.length === 1 ? 'alert' : 'alerts'} />
      </ul>
      <Announcement text={`${WORDS[verdict.state]}. ${verdict.sentence}`} />
    </section>
  )
}

function Counter({ good, figure, word }: { readonly good: boolean; readonly figure: string; readonly word: string }) {
  return (
    <li class={good ? 'counter' : 'counter counter-off'}>
      <b>{figure}</b> {word}
    </li>
  )
}

/** For screen readers: spoken when the verdict changes, not when its seconds tick. */
function Announcement({ text }: { readonly text: string }) {
  const last = useRef({ spoken: text, shape: '' })
  const shape = text.replace(/\d+/g, '#').replace(/# (?:ms|s|min|h|d)\b(?: # \w+)?/g, 'a while')
  if (shape !== last.current.shape) last.current = { spoken: text, shape }
  return <p class="unseen" role="status" aria-live="polite">{last.current.spoken}</p>
}
