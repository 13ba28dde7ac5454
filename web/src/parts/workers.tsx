/** The background loops: what the last run did and why, when the next one is. */
import type { WorkerStatus } from '../../../src/operate/api.ts'
import { question } from '../commands.ts'
import { now } from '../store.ts'
import { ago, span } from '../time.ts'
import { Action, Card, Empty, Row, Runbook, State, type Tone } from './card.tsx'

const TONES: Readonly<Record<string, Tone>> = { ok: 'good', skipped: 'quiet', degraded: 'warn', failed: 'bad' }
const WORDS: Readonly<Record<string, string>> = { ok: 'ok', skipped: 'skipped', degraded: 'partly failed', failed: 'failed' }

/** Less is the pace of a skip or a failure, and nothing to look into. */
const LATE_MS = 60_000

export function Workers({ workers }: { readonly workers: readonly WorkerStatus[] }) {
  return (
    <Card id="workers" title="Workers" note="what runs in the background">
      {workers.length === 0 ? <Empty>None is declared.</Empty> : <ul class="rows">{workers.map(worker => <One key={worker.name} worker={worker} />)}</ul>}
    </Card>
  )
}

function One({ worker }: { readonly worker: WorkerStatus }) {
  const { name, state, lastOutcome, lastReason, lastSuccessAt, consecutiveFailures, parked, lagMs = 0, runbook } = worker
  const paused = state === 'paused'
  const troubled = paused || (lastOutcome !== undefined && lastOutcome !== 'ok') || parked > 0 || lagMs > LATE_MS
  const parts = [
    lastReason ?? '',
    lagMs > LATE_MS ? `${span(lagMs)} late` : '',
    consecutiveFailures > 1 ? `${String(consecutiveFailures)} failures in a row` : '',
    parked > 0 ? `${String(parked)} given up and waiting for a person` : '',
    troubled && lastSuccessAt !== undefined ? `last success ${ago(now.value - lastSuccessAt)} ago` : '',
  ].filter(part => part !== '')
  return (
    <Row
      name={name}
      state={paused ? <State tone="warn" word="paused" /> : state === 'stopped' ? <State tone="quiet" word="stopped" /> : <State tone={TONES[lastOutcome ?? ''] ?? 'quiet'} word={lastOutcome === undefined ? 'has not run yet' : (WORDS[lastOutcome] ?? lastOutcome)} />}
      figures={<span>{state === 'running' ? 'runs now' : next(worker)}</span>}
      actions={
        <>
          <Action label="Run" about={name} onClick={() => { run(name) }} disabled={state === 'running' || state === 'stopped'} />
          {paused ? <Action label="Resume" about={name} onClick={() => { resume(name) }} /> : <Action label="Pause" about={name} onClick={() => { pause(name) }} disabled={state === 'stopped'} />}
        </>
      }
      detail={troubled && parts.length > 0 ? <>{parts.join(' · ')} <Runbook name={lastOutcome === 'failed' || parked > 0 ? runbook : undefined} /></> : undefined}
    />
  )
}

function next({ state, nextRunAt, leader }: WorkerStatus): string {
  if (state !== 'idle' || nextRunAt === undefined) return ''
  if (leader === false) return 'another instance runs it'
  return nextRunAt <= now.value ? 'next now' : `next in ${span(nextRunAt - now.value)}`
}

function run(name: string): void {
  question.value = { title: `Run ${name} now?`, text: 'One iteration, at once. Its guards still hold: switched off stays off.', confirm: 'Run now', tone: 'calm', command: 'worker.run', target: name }
}

function pause(name: string): void {
  question.value = { title: `Pause ${name}?`, text: 'The item under way is finished; nothing new is begun until it is resumed. What waits is kept.', confirm: 'Pause', tone: 'kill', command: 'worker.pause', target: name }
}

function resume(name: string): void {
  question.value = { title: `Resume ${name}?`, text: 'It goes on with what waits.', confirm: 'Resume', tone: 'calm', command: 'worker.resume', target: name }
}
