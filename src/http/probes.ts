/**
 * Probes: what an orchestrator, a load balancer and Prometheus ask.
 *
 * Every answer is made from what is already known: no probe waits for a dependency, the store or a check, so they stay fast
 * when everything hangs. `/livez` looks at nothing at all (a restart heals no dependency); `/readyz` fails only when the
 * instance is not ready, drains, or a required component is away: an open breaker is `degraded` and still 200.
 *
 * Strangers are told the status only. Names, reasons and figures are for requests from this machine or with the token.
 */
import { secretMatches, type BreakerState, type ComponentState, type Env, type EventBus, type SystemState } from '../core/index.ts'
import type { Health, HealthReport } from '../health/index.ts'
import { mount, type Mounted, type RequestInfo } from './handler.ts'
import { isLocalRequest } from './loopback.ts'
import { json, plainProblem } from './problem.ts'

/** What probes need of a Holdfast; every `Holdfast` fits. */
export interface ProbeSource {
  readonly service: string
  readonly instance: string
  readonly env: Pick<Env, 'now' | 'monotonic'>
  readonly events: EventBus
  readonly phase: 'starting' | 'ready' | 'draining' | 'stopped'
  /** The last results, read from memory. */
  readonly health: Pick<Health, 'state' | 'report'>
  /** Asked in the background, never waited for by an answer. */
  status(): Promise<ProbeStatus>
  metrics(): string
}

/** The part of the operators' read model that probes show. */
export interface ProbeStatus {
  readonly verdict: { readonly state: SystemState; readonly sentence: string; readonly since: number }
  readonly dependencies: readonly { readonly name: string; readonly breaker: BreakerState; readonly calls: number; readonly failures: number; readonly refusals: number; readonly inFlight: number; readonly queued: number; readonly p50Ms?: number; readonly p95Ms?: number }[]
  readonly workers: readonly { readonly name: string; readonly state: string; readonly consecutiveFailures: number; readonly parked: number }[]
  readonly flags: readonly { readonly name: string; readonly on: boolean }[]
  readonly work: readonly unknown[]
  readonly alerts: readonly unknown[]
}

export interface ProbeOptions {
  /** Version and commit for `/healthz`. Default `0.0.0` and `unknown`. */
  readonly version?: string
  readonly commit?: string
  /** With it as Bearer, details and metrics are answered to anyone. Default: only to requests from this machine. */
  readonly token?: string
  /** Answer `/metrics` to everyone who reaches the port: for a Prometheus inside a closed network. Default false. */
  readonly publicMetrics?: boolean
}

/** How old the facts behind details may be before they are read again, in the background. */
const REFRESH_AFTER_MS = 1_000
const RETRY_AFTER_S = '5'

const PATHS = ['/livez', '/readyz', '/healthz', '/metrics', '/health/live', '/health/ready', '/health/check', '/health/summary', '/health/metrics', '/health/security'] as const

/** The probes, at the paths of MISSION O6. Listens to the events of `hold` for as long as that lives. */
export function probes(hold: ProbeSource, options: ProbeOptions = {}): Mounted {
  const facts = new LastFacts(hold)
  const tokens = options.token === undefined ? [] : [options.token]
  const trusted = (request: Request, info: RequestInfo | undefined): boolean =>
    isLocalRequest(request, info) || (tokens.length > 0 && secretMatches(bearerOf(request), tokens))

  return mount(PATHS, async (request, info) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') return plainProblem(405, undefined, { allow: 'GET, HEAD' })
    const { pathname } = new URL(request.url)
    if (pathname === '/livez' || pathname === '/health/live') return json({ status: 'alive' })
    if (pathname === '/healthz') return json({ status: 'ok', version: options.version ?? '0.0.0', commit: options.commit ?? 'unknown' })
    facts.refresh()
    const detailed = trusted(request, info)
    switch (pathname) {
      case '/readyz':
      case '/health/ready':
        return readiness(hold, facts, detailed)
      case '/metrics':
        return detailed || options.publicMetrics === true
          ? new Response(hold.metrics(), { headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' } })
          : denied()
      case '/health/check':
        return full(hold, facts, detailed)
      case '/health/summary':
        return json({ status: hold.health.state, ...(detailed ? summary(hold, facts) : {}) })
      case '/health/metrics':
        return detailed ? json({ status: hold.health.state, ...figures(facts) }) : denied()
      default:
        return detailed ? json({ status: hold.health.state, ...facts.security() }) : denied()
    }
  })
}

function readiness(hold: ProbeSource, facts: LastFacts, detailed: boolean): Response {
  const { state } = hold.health
  const ready = hold.phase === 'ready' && state !== 'unavailable'
  const status = hold.phase !== 'ready' ? hold.phase : state === 'healthy' ? 'ready' : state
  const more = detailed ? { service: hold.service, instance: hold.instance, ...sentence(hold, facts) } : {}
  return json({ status, ...more }, ready ? {} : { status: 503, headers: { 'retry-after': RETRY_AFTER_S } })
}

/** Every component with its last result. The status code follows readiness, so that it can be alerted on. */
function full(hold: ProbeSource, facts: LastFacts, detailed: boolean): Response {
  const begun = hold.env.monotonic()
  const report = hold.health.report()
  const { state } = report
  const body = {
    status: state,
    ...(detailed
      ? {
          service: hold.service,
          instance: hold.instance,
          phase: hold.phase,
          ...sentence(hold, facts),
          components: report.components.map(({ name, tier, state: now, reason, since, responseMs, checkedAt }) => ({
            name, tier, state: now, reason, since: iso(since), response_ms: responseMs ?? null, checked_at: checkedAt === undefined ? null : iso(checkedAt),
          })),
          breakers: breakers(report),
          checks_ms: report.durationMs,
          startup_ms: facts.startupMs ?? null,
          duration_ms: Math.round((hold.env.monotonic() - begun) * 100) / 100,
        }
      : {}),
  }
  return json(body, state === 'unavailable' ? { status: 503, headers: { 'retry-after': RETRY_AFTER_S } } : {})
}

function summary(hold: ProbeSource, facts: LastFacts): Readonly<Record<string, unknown>> {
  const { last } = facts
  const report = hold.health.report()
  const of = (state: ComponentState): number => report.components.filter(component => component.state === state).length
  return {
    service: hold.service,
    phase: hold.phase,
    ...sentence(hold, facts),
    components: { healthy: of('healthy'), degraded: of('degraded'), unavailable: of('unavailable'), not_configured: of('not-configured') },
    breakers: breakers(report),
    flags_off: (last?.flags ?? []).filter(flag => !flag.on).map(flag => flag.name),
    stuck_work: last?.work.length ?? 0,
    alerts: last?.alerts.length ?? 0,
  }
}

function figures(facts: LastFacts): Readonly<Record<string, unknown>> {
  return {
    dependencies: (facts.last?.dependencies ?? []).map(({ name, breaker, calls, failures, refusals, inFlight, queued, p50Ms, p95Ms }) => ({
      name, breaker, calls, failures, refusals, in_flight: inFlight, queued, p50_ms: p50Ms ?? null, p95_ms: p95Ms ?? null,
    })),
    workers: (facts.last?.workers ?? []).map(({ name, state, consecutiveFailures, parked }) => ({ name, state, consecutive_failures: consecutiveFailures, parked })),
  }
}

function breakers({ breakers: { open, halfOpen, closed } }: HealthReport): Readonly<Record<string, number>> {
  return { open, half_open: halfOpen, closed }
}

/** The operators' sentence, once it was read; until then what the components say. */
function sentence(hold: ProbeSource, facts: LastFacts): Readonly<Record<string, unknown>> {
  const report = hold.health.report()
  return facts.last === undefined
    ? { verdict: report.reason, since: iso(report.since) }
    : { verdict: facts.last.verdict.sentence, since: iso(facts.last.verdict.since), age_ms: facts.ageMs() ?? null }
}

function iso(at: number): string {
  return new Date(at).toISOString()
}

function denied(): Response {
  return plainProblem(401, 'Details are answered to requests from this machine, or with the token', { 'www-authenticate': 'Bearer' })
}

function bearerOf(request: Request): string | undefined {
  return /^Bearer (\S+)$/i.exec(request.headers.get('authorization') ?? '')?.[1]
}

interface Refused {
  rateLimited: number
  ticketsRefused: number
  commandsRefused: number
  signaturesRefused: number
  bodiesRefused: number
}

/** The last status, read in the background at most once a second, and what was counted from events. */
class LastFacts {
  readonly #hold: ProbeSource
  last: ProbeStatus | undefined
  startupMs: number | undefined
  #readAt: number | undefined
  #askedAt = Number.NEGATIVE_INFINITY
  #asking = false
  readonly #refused: Refused = { rateLimited: 0, ticketsRefused: 0, commandsRefused: 0, signaturesRefused: 0, bodiesRefused: 0 }
  #lastRefusalAt: number | undefined

  constructor(hold: ProbeSource) {
    this.#hold = hold
    const count = (what: keyof Refused, at: number): void => {
      this.#refused[what] += 1
      this.#lastRefusalAt = at
    }
    hold.events.on('app.started', event => {
      this.startupMs = event.data.durationMs
      this.refresh()
    })
    hold.events.on('limit.refused', event => { count('rateLimited', event.at) })
    hold.events.on('ticket.refused', event => { count('ticketsRefused', event.at) })
    hold.events.on('command.refused', event => { count('commandsRefused', event.at) })
    hold.events.on('handler.refused', event => {
      if (event.data.code === 'HF_SIGNATURE_INVALID' || event.data.code === 'HF_UNAUTHENTICATED') count('signaturesRefused', event.at)
      if (event.data.code === 'HF_BODY_INVALID' || event.data.code === 'HF_BODY_TOO_LARGE') count('bodiesRefused', event.at)
    })
  }

  /** Asks for the status unless that is under way or was done within the last second. Returns at once. */
  refresh(): void {
    const now = this.#hold.env.monotonic()
    if (this.#asking || now - this.#askedAt < REFRESH_AFTER_MS) return
    this.#asking = true
    this.#askedAt = now
    this.#hold.status().then(
      status => {
        this.last = status
        this.#readAt = this.#hold.env.monotonic()
        this.#asking = false
      },
      // The old facts stay, and their age says how old they are.
      () => { this.#asking = false },
    )
  }

  ageMs(): number | undefined {
    return this.#readAt === undefined ? undefined : Math.round(this.#hold.env.monotonic() - this.#readAt)
  }

  security(): Readonly<Record<string, unknown>> {
    const { rateLimited, ticketsRefused, commandsRefused, signaturesRefused, bodiesRefused } = this.#refused
    return {
      refused: { rate_limited: rateLimited, tickets: ticketsRefused, commands: commandsRefused, signatures: signaturesRefused, bodies: bodiesRefused },
      last_refusal_at: this.#lastRefusalAt === undefined ? null : iso(this.#lastRefusalAt),
    }
  }
}
