/** Who we call: does it answer, is it left alone and for how long, may it be held off by hand. */
import type { DependencyStatus } from '../../../src/operate/api.ts'
import { openDependency, question } from '../commands.ts'
import { now, status } from '../store.ts'
import { ago, span } from '../time.ts'
import { Action, Card, Empty, Row, Runbook, State } from './card.tsx'
import { learned } from './dependency.tsx'

export function Dependencies({ dependencies }: { readonly dependencies: readonly DependencyStatus[] }) {
  return (
    <Card id="dependencies" title="Dependencies" note="what this service calls">
      {dependencies.length === 0 ? <Empty>None is declared.</Empty> : <ul class="rows">{dependencies.map(dependency => <One key={dependency.name} dependency={dependency} />)}</ul>}
    </Card>
  )
}

function One({ dependency }: { readonly dependency: DependencyStatus }) {
  const { name, forced, lastError, runbook } = dependency
  const failing = dependency.breaker !== 'closed'
  return (
    <Row
      name={<button type="button" class="name" aria-haspopup="dialog" title={`What is known of ${name}`} onClick={() => { void openDependency(name) }}>{name}</button>}
      state={<Breaker dependency={dependency} />}
      figures={<Figures dependency={dependency} />}
      actions={
        forced === undefined ? (
          <>
            <Action label="Hold off" about={name} onClick={() => { hold(name) }} />
            {failing ? <Action label="Let through" about={name} onClick={() => { letThrough(name) }} /> : null}
          </>
        ) : (
          <Action label="Release" about={name} onClick={() => { release(name) }} />
        )
      }
      detail={
        forced !== undefined ? (
          <>{forced.by}: {forced.reason}{forced.until === undefined ? '' : `, ${span(forced.until - now.value)} left`}</>
        ) : failing ? (
          <>
            {lastError === undefined ? null : <>{ago(now.value - lastError.at)} ago: {lastError.message} </>}
            <Runbook name={runbook} />
          </>
        ) : learned(dependency).join(' · ')
      }
    />
  )
}

function Breaker({ dependency }: { readonly dependency: DependencyStatus }) {
  const { breaker, retryAfterMs } = dependency
  if (breaker === 'closed') return <State tone="good" word="answers" />
  if (breaker === 'half-open') return <State tone="warn" word="is being tried again" />
  if (breaker === 'forced-open') return <State tone="warn" word="held off by hand" />
  if (breaker === 'forced-closed') return <State tone="warn" word="let through by hand" />
  // The wait was counted when the status was made; the server's clock goes on since.
  const left = retryAfterMs === undefined ? undefined : Math.max(0, (status.value?.at ?? 0) + retryAfterMs - now.value)
  return <State tone="bad" word={left === undefined ? 'left alone' : left === 0 ? 'left alone, tried next' : `left alone for ${span(left)}`} />
}

function Figures({ dependency: { calls, failures, refusals, p95Ms, inFlight, queued } }: { readonly dependency: DependencyStatus }) {
  return (
    <>
      <span class="figure" title={`95 % of the calls were faster; ${String(inFlight)} in flight, ${String(queued)} waiting`}>{p95Ms === undefined ? '' : `p95 ${String(Math.round(p95Ms))} ms`}</span>
      <span title={`${String(calls)} calls, ${String(refusals)} refused without calling`} class={failures > 0 ? 'figure figure-off' : 'figure'}>{failures}/{calls} failed</span>
    </>
  )
}

function hold(name: string): void {
  question.value = { title: `Hold ${name} off?`, text: 'It is not called at all; what needs it waits or is refused. It ends by itself.', confirm: 'Hold off', tone: 'kill', command: 'breaker.force', target: name, args: { state: 'open' }, expiry: 'must' }
}

function letThrough(name: string): void {
  question.value = { title: `Call ${name} whatever it answers?`, text: 'Its breaker stays closed, failing or not. It ends by itself.', confirm: 'Let through', tone: 'kill', command: 'breaker.force', target: name, args: { state: 'closed' }, expiry: 'must' }
}

function release(name: string): void {
  question.value = { title: `Release ${name}?`, text: 'Its breaker decides by itself again.', confirm: 'Release', tone: 'calm', command: 'breaker.release', target: name }
}
