/**
 * The read model as sentences and tables. Everything that is data goes through `clean` (./text.ts).
 */
import { humanDuration } from '../core/index.ts'
import type { AuditRow, DependencyAnswer, DependencyStatus, DoctorReport, FaultsStatus, FlagStatus, NamedRunbook, SagaHistory, Status, TimelineEntry, WorkerStatus, WorkItemStatus } from '../operate/index.ts'
import type { Io } from './io.ts'
import { clean, painter, table, type Cell, type Tone } from './text.ts'

const STATE_TONE: Readonly<Record<string, Tone>> = { healthy: 'good', degraded: 'warn', unavailable: 'bad', 'not-configured': 'dim' }

export function renderStatus(io: Io, status: Status): string {
  const paint = painter(io)
  const { verdict, at } = status
  const parts = [
    `${paint(verdict.state.toUpperCase(), STATE_TONE[verdict.state] ?? 'plain')}  ${clean(verdict.sentence)}`,
    paint(`${clean(status.service)} ${clean(status.version)} is ${status.phase}, ${verdict.state} for ${humanDuration(at - verdict.since)}, up for ${humanDuration(at - status.startedAt)}; ${status.store.name === 'none' ? 'no store' : `store ${clean(status.store.name)}: ${clean(status.store.outlives)}`}`, 'dim'),
  ]
  const section = (title: string, rows: readonly (readonly Cell[])[]): void => {
    if (rows.length > 0) parts.push(`\n${paint(title, 'bold')}\n${table(io, rows)}`)
  }
  section('Dependencies', dependencyRows(status.dependencies, at))
  section('Faults on purpose', faultsRows(status.faults.filter(plan => plan.active || plan.trouble !== undefined), at))
  section('Workers', workerRows(status.workers, at))
  section('Switches that are off', flagRows(status.flags.filter(flag => !flag.on), at))
  section('Stuck work', workRows(status.work, at))
  section('Alerts', status.alerts.map(alert => [
    { text: alert.severity, tone: alert.severity === 'page' ? 'bad' : 'warn' },
    { text: `for ${humanDuration(at - alert.since)}`, tone: 'dim' },
    { text: `${alert.summary}${alert.runbook === undefined ? '' : ` (runbook ${alert.runbook})`}` },
  ]))
  return parts.join('\n')
}

const DOCTOR_TONE: Readonly<Record<string, Tone>> = { pass: 'good', warn: 'warn', fail: 'bad', unknown: 'dim' }

export function renderDoctor(io: Io, { checks }: DoctorReport): string {
  return table(io, checks.map(({ name, verdict, found, remedy }) => [{ text: verdict, tone: DOCTOR_TONE[verdict] ?? 'plain' }, { text: name }, { text: remedy === undefined ? found : `${found}. ${remedy}` }]))
}

export function renderFlags(io: Io, flags: readonly FlagStatus[], at: number): string {
  return flags.length === 0 ? 'No switch is declared.' : table(io, flagRows(flags, at))
}

export function renderDependencies(io: Io, dependencies: readonly DependencyStatus[], at: number): string {
  return dependencies.length === 0 ? 'No dependency is declared.' : table(io, dependencyRows(dependencies, at))
}

/** The policies from the outside in, then the worst case in sentences. */
export function renderExplanation(io: Io, { name, explanation: { words } }: DependencyAnswer): string {
  const paint = painter(io)
  return [paint(clean(name), 'bold'), ...words.map(line => (line.startsWith('Beware') ? paint(clean(line), 'warn') : clean(line)))].join('\n')
}

export function renderFaults(io: Io, faults: readonly FaultsStatus[], at: number): string {
  return faults.length === 0 ? 'No faults are declared.' : table(io, faultsRows(faults, at))
}

export function renderWorkers(io: Io, workers: readonly WorkerStatus[], at: number): string {
  return workers.length === 0 ? 'No worker is declared.' : table(io, workerRows(workers, at))
}

export function renderWork(io: Io, work: readonly WorkItemStatus[], at: number): string {
  return work.length === 0 ? 'Nothing is stuck.' : table(io, workRows(work, at))
}

export function renderHealth(io: Io, status: Status): string {
  const rows = status.components.map((component): readonly Cell[] => [
    { text: component.name },
    { text: component.state, tone: STATE_TONE[component.state] ?? 'plain' },
    { text: component.tier, tone: 'dim' },
    { text: component.responseMs === undefined ? '' : `${String(Math.round(component.responseMs))} ms`, tone: 'dim' },
    { text: component.reason },
  ])
  return `${painter(io)(status.verdict.state, STATE_TONE[status.verdict.state] ?? 'plain')}: ${clean(status.verdict.sentence)}\n${table(io, rows)}`
}

const ENTRY_TONE: Readonly<Record<string, Tone>> = { good: 'good', neutral: 'plain', bad: 'bad' }

/** `02:51:07  vpn-panel: left alone for 60 s  buy-1042` in UTC, as logs are. */
export function renderEntry(io: Io, entry: TimelineEntry): string {
  const paint = painter(io)
  const time = new Date(entry.at).toISOString().slice(11, 19)
  const times = entry.count > 1 ? ` (${String(entry.count)} times)` : ''
  const story = entry.correlationId === undefined ? '' : `  ${paint(clean(entry.correlationId), 'dim')}`
  return `${paint(time, 'dim')}  ${paint(clean(entry.text), ENTRY_TONE[entry.tone] ?? 'plain')}${times}${story}`
}

export function renderRunbooks(io: Io, runbooks: readonly NamedRunbook[]): string {
  return runbooks.length === 0 ? 'No runbook is given.' : table(io, runbooks.map(({ id, title }) => [{ text: id }, { text: title, tone: 'dim' }]))
}

/** Title, when, may it be repeated, the steps by number, the commands to paste. */
export function renderRunbook(io: Io, { id, title, when, safeToRetry, steps, commands }: NamedRunbook): string {
  const paint = painter(io)
  return [
    `${paint(clean(title), 'bold')}  ${paint(clean(id), 'dim')}`,
    `When: ${clean(when)}`,
    safeToRetry ? paint('Safe to retry: what already happened does not happen twice.', 'good') : paint('Not safe to retry: follow the steps.', 'warn'),
    ...steps.map((step, index) => `${String(index + 1).padStart(3)}. ${clean(step)}`),
    ...(commands === undefined || commands.length === 0 ? [] : ['Commands:', ...commands.map(command => `     ${clean(command)}`)]),
  ].join('\n')
}

const BAD_ENTRIES: ReadonlySet<string> = new Set(['failed', 'undo-failed', 'needs-human'])

/** One line for each thing that happened, times in UTC, as logs are. */
export function renderHistory(io: Io, { saga, id, version, state, reason, fence, entries }: SagaHistory): string {
  const paint = painter(io)
  const title = `${paint(`${clean(saga)} ${clean(id)}`, 'bold')}  ${state}${reason === undefined ? '' : `: ${clean(reason)}`}`
  return [title, paint(`version ${String(version)}, changed hands ${String(fence - 1)} times`, 'dim'), table(io, entries.map(({ at, what, step, detail, by, durationMs, times }) => [
    { text: new Date(at).toISOString().slice(0, 19).replace('T', ' '), tone: 'dim' },
    { text: what, tone: BAD_ENTRIES.has(what) ? 'bad' : 'plain' },
    { text: step ?? '' },
    { text: durationMs === undefined ? '' : humanDuration(durationMs), tone: 'dim' },
    { text: `${detail ?? ''}${times === undefined ? '' : ` (${String(times)} times)`}` },
    { text: by === undefined ? '' : `by ${by}`, tone: 'dim' },
  ]))].join('\n')
}

const AUDIT_TONE: Readonly<Record<AuditRow['outcome'], Tone>> = { done: 'plain', refused: 'warn', failed: 'bad' }

/** Times in UTC, as logs are. */
export function renderAudit(io: Io, rows: readonly AuditRow[]): string {
  if (rows.length === 0) return 'Nothing was changed or refused yet.'
  return table(io, rows.map(row => [
    { text: String(row.id), tone: 'dim' },
    { text: new Date(row.at).toISOString().slice(0, 19).replace('T', ' '), tone: 'dim' },
    { text: row.actor },
    { text: row.action },
    { text: row.target },
    { text: row.outcome, tone: AUDIT_TONE[row.outcome] },
    { text: `${row.reason}${changeOf(row)}` },
  ]))
}

function changeOf({ before, after }: AuditRow): string {
  if (before === undefined && after === undefined) return ''
  return ` (${before === undefined ? '' : `${JSON.stringify(before)} -> `}${JSON.stringify(after ?? null)})`
}

function dependencyRows(dependencies: readonly DependencyStatus[], at: number): readonly (readonly Cell[])[] {
  return dependencies.map(dependency => [
    { text: dependency.name },
    breakerCell(dependency, at),
    { text: `${String(dependency.failures)} of ${String(dependency.calls)} failed`, tone: dependency.failures > 0 ? 'warn' : 'dim' },
    { text: dependency.p95Ms === undefined ? '' : `p95 ${String(Math.round(dependency.p95Ms))} ms`, tone: 'dim' },
    { text: `${String(dependency.inFlight)} of ${String(dependency.limit)} at work${dependency.queued === 0 ? '' : `, ${String(dependency.queued)} waiting`}`, tone: dependency.queued > 0 ? 'warn' : 'dim' },
    { text: extras(dependency).join(', '), tone: 'dim' },
    { text: dependency.lastError === undefined ? '' : `last error ${humanDuration(at - dependency.lastError.at)} ago: ${dependency.lastError.message}`, tone: 'dim' },
  ])
}

function breakerCell({ breaker, forced, retryAfterMs }: DependencyStatus, at: number): Cell {
  if (forced !== undefined) return { text: `${breaker === 'forced-open' ? 'forced open' : 'forced closed'} by ${forced.by}${forced.until === undefined ? '' : ` for ${humanDuration(forced.until - at)}`}: ${forced.reason}`, tone: 'warn' }
  if (breaker === 'closed') return { text: 'answers', tone: 'good' }
  if (breaker === 'half-open') return { text: 'being tried again', tone: 'warn' }
  return { text: retryAfterMs === undefined ? 'left alone' : `left alone, tried again in ${humanDuration(retryAfterMs)}`, tone: 'bad' }
}

/** What there is to say beyond the usual. */
function extras({ ramp, shadow, partitions, retries, retriesSuppressed, hedges, timeouts, abandoned }: DependencyStatus): string[] {
  const counted = (count: number, what: string): string[] => (count === 0 ? [] : [`${String(count)} ${what}`])
  return [
    ...(ramp === undefined ? [] : [`coming back: ${String(Math.round(ramp * 100))} % of the calls pass`]),
    ...(shadow === undefined ? [] : [`its breaker only watches: it would be ${shadow.state} and have refused ${String(shadow.wouldHaveRefused)}`]),
    ...(partitions === undefined ? [] : [`${String(partitions.notClosed)} of ${String(partitions.size)} partitions left alone${partitions.first.length === 0 ? '' : ` (${partitions.first.map(each => each.partition).join(', ')}${partitions.notClosed > partitions.first.length ? ', ...' : ''})`}`]),
    ...counted(retries, 'repeated'), ...counted(retriesSuppressed, 'repetitions held back by the budget'), ...counted(hedges, 'hedged'), ...counted(timeouts, 'timeouts'), ...counted(abandoned, 'run on abandoned'),
  ]
}

function faultsRows(faults: readonly FaultsStatus[], at: number): readonly (readonly Cell[])[] {
  return faults.map(({ name, state, active, armed, injected, trouble }) => [
    { text: name },
    { text: state === 'off' ? 'off' : active ? 'breaks calls' : 'waits for its own switch', tone: active ? 'bad' : 'dim' },
    { text: `${String(injected)} injected`, tone: 'dim' },
    { text: armed !== undefined ? `armed by ${armed.by} for ${humanDuration(Math.max(0, armed.until - at))} more: ${armed.reason}` : (trouble ?? ''), tone: trouble === undefined ? 'dim' : 'warn' },
  ])
}

const OUTCOME_TONE: Readonly<Record<string, Tone>> = { ok: 'good', skipped: 'dim', degraded: 'warn', failed: 'bad' }

/** Less is the pace of a skip or a failure, and nothing to look into. */
const LATE_MS = 60_000

function workerRows(workers: readonly WorkerStatus[], at: number): readonly (readonly Cell[])[] {
  return workers.map(worker => {
    const outcome = worker.lastOutcome ?? 'has not run'
    const next = worker.nextRunAt === undefined || worker.state !== 'idle' ? '' : `next in ${humanDuration(Math.max(0, worker.nextRunAt - at))}`
    const parked = worker.parked > 0 ? `, ${String(worker.parked)} parked` : ''
    const late = (worker.lagMs ?? 0) > LATE_MS ? `, ${humanDuration(worker.lagMs ?? 0)} late` : ''
    return [
      { text: worker.name },
      { text: worker.state, tone: worker.state === 'paused' || worker.state === 'stopped' ? 'warn' : 'dim' },
      { text: `${outcome}${late}${parked}`, tone: OUTCOME_TONE[outcome] ?? 'dim' },
      { text: next, tone: 'dim' },
      { text: worker.lastReason ?? '', tone: 'dim' },
    ]
  })
}

function flagRows(flags: readonly FlagStatus[], at: number): readonly (readonly Cell[])[] {
  return flags.map(flag => {
    const until = flag.override?.expiresAt
    return [
      { text: flag.name },
      { text: flag.on ? 'on' : 'off', tone: flag.on ? 'good' : 'bad' },
      { text: until === undefined ? '' : `for ${humanDuration(Math.max(0, until - at))} more`, tone: 'dim' },
      { text: flag.on ? flag.because : `${flag.because}; off means: ${flag.whenOff}`, tone: 'dim' },
    ]
  })
}

function workRows(work: readonly WorkItemStatus[], at: number): readonly (readonly Cell[])[] {
  return work.map(item => [
    { text: item.kind },
    { text: item.name },
    { text: item.id },
    { text: item.state, tone: 'bad' },
    { text: `for ${humanDuration(at - item.since)}`, tone: 'dim' },
    { text: item.reason },
  ])
}
