/**
 * The sentence on top of the page: is it broken, since when, what does that mean, does somebody have to act.
 *
 * Written for someone who was asleep a minute ago. It never says more than the facts it is given, and names the one
 * thing to look at first.
 */
import { humanDuration, type SystemState } from '../core/index.ts'
import type { ComponentStatus, DependencyStatus, FaultsStatus, FlagStatus, Status, Verdict, WorkItemStatus } from './status.ts'

export interface VerdictFacts {
  readonly phase: Status['phase']
  readonly state: SystemState
  readonly since: number
  readonly at: number
  readonly components: readonly ComponentStatus[]
  readonly dependencies: readonly DependencyStatus[]
  readonly faults: readonly FaultsStatus[]
  readonly flags: readonly FlagStatus[]
  readonly work: readonly WorkItemStatus[]
}

export function verdictOf(facts: VerdictFacts): Verdict {
  return { state: facts.state, since: facts.since, sentence: sentenceOf(facts) }
}

function sentenceOf(facts: VerdictFacts): string {
  if (facts.phase === 'starting') return 'Starting: not ready for work yet.'
  if (facts.phase === 'draining') return 'Draining: no new work is taken, what was begun is being finished.'
  if (facts.phase === 'stopped') return 'Stopped.'
  const parts = [headline(facts), ...onPurpose(facts), ...troubles(facts), ...switches(facts.flags), people(facts.work)]
  return parts.filter(part => part !== '').join(' ')
}

function headline(facts: VerdictFacts): string {
  if (facts.state === 'healthy') return facts.work.length === 0 && facts.flags.every(flag => flag.on) && onPurpose(facts).length === 0 ? 'All is well.' : 'Everything answers.'
  const word = facts.state === 'degraded' ? 'Degraded' : 'Unavailable'
  return `${word} for ${humanDuration(Math.max(0, facts.at - facts.since))}.`
}

/** Said first: what follows may be no trouble at all. */
function onPurpose({ faults, at }: VerdictFacts): string[] {
  return faults.flatMap(({ name, active, armed }) => (active && armed !== undefined ? [`${name} breaks calls on purpose for ${humanDuration(Math.max(0, armed.until - at))} more (${armed.by}: ${armed.reason}).`] : []))
}

function troubles(facts: VerdictFacts): string[] {
  const said = new Set<string>()
  const sentences: string[] = []
  for (const dependency of facts.dependencies) {
    if (dependency.breaker === 'closed' || dependency.breaker === 'forced-closed') continue
    said.add(dependency.name)
    sentences.push(breakerSentence(dependency))
  }
  for (const component of facts.components) {
    // `vpn-panel-ping` is a look at `vpn-panel`, which was said already.
    const isSaid = [...said].some(name => component.name === name || component.name.startsWith(`${name}-`))
    if (isSaid || component.state === 'healthy' || component.state === 'not-configured') continue
    sentences.push(`${component.name} is ${component.state}: ${component.reason}.`)
  }
  return sentences
}

function breakerSentence(dependency: DependencyStatus): string {
  if (dependency.breaker === 'forced-open') return `${dependency.name} is held off by ${dependency.forced?.by ?? 'an operator'}${dependency.forced === undefined ? '' : `: ${dependency.forced.reason}`}.`
  if (dependency.breaker === 'half-open') return `${dependency.name} was failing and is being tried again.`
  const retry = dependency.retryAfterMs === undefined ? '' : `, next try in ${humanDuration(dependency.retryAfterMs)}`
  return `${dependency.name} is failing (breaker open${retry}); what needs it waits and nothing is lost.`
}

function switches(flags: readonly FlagStatus[]): string[] {
  return flags.filter(flag => !flag.on).map(flag => `${flag.name} is switched off (${flag.because}): ${lowerFirst(flag.whenOff)}.`)
}

function people(work: readonly WorkItemStatus[]): string {
  if (work.length === 0) return ''
  return work.length === 1 ? 'One thing needs a person, see the list of stuck work.' : `${String(work.length)} things need a person, see the list of stuck work.`
}

function lowerFirst(text: string): string {
  const trimmed = text.replace(/\.$/, '')
  return trimmed.charAt(0).toLowerCase() + trimmed.slice(1)
}
