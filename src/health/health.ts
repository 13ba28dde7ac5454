/**
 * Health of the components and of the system: scheduled checks, event-driven components, breakers; answered from the last
 * result, so a probe never waits and never asks a dependency.
 *
 * System: `unavailable` when a required component is; `degraded` when anything required or degradable is not healthy;
 * `info` never counts, nor what is not configured. An open breaker degrades and never makes unavailable: emptying the
 * load balancer would not bring the dependency back.
 * Not here: what a probe answers over HTTP (http), alerts (observe).
 */
import {
  checkName, durationMs, HoldfastError,
  type BreakerState, type ComponentState, type Duration, type Kit, type SystemState, type Tier,
} from '../core/index.ts'
import { CheckRun, type CheckComplaint } from './check-run.ts'
import { afterResult, unknownHealth, type CheckResult, type ComponentHealth } from './component.ts'
import { Heartbeat, type Liveness } from './heartbeat.ts'

export interface HealthCheckOptions {
  /** What its loss means for the system. */
  readonly tier: Tier
  /** Time between two runs, give or take 10 %. */
  readonly every: Duration
  /** A run that takes longer has failed; its `signal` aborts. */
  readonly timeout: Duration
  /** Whatever it returns is fine; a `{ degraded: 'reason' }` is a complaint; what it throws is the reason of a failure. */
  readonly check: (context: { readonly signal: AbortSignal }) => Promise<unknown>
  /** An answer that takes longer degrades. Default: none. */
  readonly slowerThan?: Duration
}

export interface ComponentReport {
  readonly name: string
  readonly tier: Tier
  readonly state: ComponentState
  /** Wall clock, milliseconds. */
  readonly since: number
  readonly reason: string
  readonly responseMs: number | undefined
  /** Wall clock of the last result; undefined when there was none. */
  readonly checkedAt: number | undefined
}

export interface HealthReport {
  readonly state: SystemState
  readonly since: number
  /** One sentence: which components make it so. */
  readonly reason: string
  readonly components: readonly ComponentReport[]
  /** Of the followed dependencies; forced ones count as what they do. */
  readonly breakers: { readonly open: number; readonly halfOpen: number; readonly closed: number }
  /** The slowest of the last checks: how long a full round takes. */
  readonly durationMs: number
  readonly at: number
}

export interface Health {
  readonly state: SystemState
  /** A component that is checked on a schedule. @throws HF_NAME_TAKEN, HF_OPTION_INVALID */
  check(name: string, options: HealthCheckOptions): void
  /** A component that says itself how it is; at once, without hysteresis. Also overrules a checked one until its next result. */
  set(name: string, tier: Tier, state: ComponentState, reason: string): void
  /** A component that is absent on purpose: no fault. */
  notConfigured(name: string, reason?: string): void
  /** A dependency's breaker becomes a component, by listening to `breaker.changed`. */
  follow(dependency: string, tier: Tier): void
  /** Runs every check once, then on schedule; resolves when each has its first result (a timeout is one). */
  start(): Promise<void>
  /** Resolves when nothing of ours is left. */
  stop(): Promise<void>
  /** Runs one check now, or all. @throws HF_UNKNOWN_NAME */
  refresh(name?: string): Promise<void>
  report(): HealthReport
  component(name: string): ComponentReport | undefined
  /** Touches no dependency. */
  live(): Liveness
}

interface Component {
  readonly name: string
  tier: Tier
  health: ComponentHealth
  since: number
  responseMs: number | undefined
  checkedAt: number | undefined
  readonly run: CheckRun | undefined
}

export type HealthKit = Pick<Kit, 'env' | 'events'>

class ComponentsHealth implements Health {
  readonly #kit: HealthKit
  readonly #components = new Map<string, Component>()
  readonly #breakers = new Map<string, BreakerState>()
  readonly #heartbeat: Heartbeat
  #unlisten: (() => void) | undefined
  #started = false
  #announced: SystemState = 'healthy'
  #since: number

  constructor(kit: HealthKit) {
    this.#kit = kit
    this.#since = kit.env.now()
    this.#heartbeat = new Heartbeat(kit.env)
  }

  get state(): SystemState {
    return systemState([...this.#components.values()])
  }

  check(name: string, options: HealthCheckOptions): void {
    const where = `health check ${name}`
    checkName('health check', name)
    if (this.#components.has(name)) throw new HoldfastError('HF_NAME_TAKEN', { message: `component ${name} is already defined`, context: { kind: 'component', name } })
    const run = new CheckRun({
      everyMs: durationMs(options.every, `${where}: every`),
      timeoutMs: durationMs(options.timeout, `${where}: timeout`),
      slowerThanMs: options.slowerThan === undefined ? undefined : durationMs(options.slowerThan, `${where}: slowerThan`),
      check: options.check,
    }, this.#kit.env, (result, responseMs) => { this.#checked(name, result, responseMs) })
    this.#components.set(name, { name, tier: options.tier, health: unknownHealth(options.tier), since: this.#kit.env.now(), responseMs: undefined, checkedAt: undefined, run })
    // A check that is declared late joins the schedule; its first result is announced like any other.
    if (this.#started) void run.start()
  }

  set(name: string, tier: Tier, state: ComponentState, reason: string): void {
    const component = this.#components.get(name)
    const health: ComponentHealth = { state, reason, known: true, bad: 0, failed: 0 }
    if (component === undefined) {
      checkName('component', name)
      this.#components.set(name, { name, tier, health: unknownHealth(tier), since: this.#kit.env.now(), responseMs: undefined, checkedAt: undefined, run: undefined })
    } else component.tier = tier
    this.#become(name, health)
  }

  notConfigured(name: string, reason = 'not configured'): void {
    this.set(name, 'info', 'not-configured', reason)
  }

  follow(dependency: string, tier: Tier): void {
    this.#breakers.set(dependency, 'closed')
    this.set(dependency, tier, 'healthy', 'its breaker is closed')
    this.#listen()
  }

  async start(): Promise<void> {
    if (this.#started) return
    this.#started = true
    this.#heartbeat.start()
    this.#listen()
    await Promise.all([...this.#components.values()].map(async component => component.run?.start()))
  }

  async stop(): Promise<void> {
    this.#started = false
    this.#heartbeat.stop()
    this.#unlisten?.()
    this.#unlisten = undefined
    await Promise.all([...this.#components.values()].map(async component => component.run?.stop()))
  }

  async refresh(name?: string): Promise<void> {
    if (name !== undefined && !this.#components.has(name)) {
      throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no component is called ${JSON.stringify(name)}; there is ${[...this.#components.keys()].join(', ')}`, context: { kind: 'component', name } })
    }
    const chosen = [...this.#components.values()].filter(component => name === undefined || component.name === name)
    await Promise.all(chosen.map(async component => component.run?.runNow()))
  }

  report(): HealthReport {
    const components = [...this.#components.values()].map(reportOf)
    const breakers = { open: 0, halfOpen: 0, closed: 0 }
    for (const state of this.#breakers.values()) {
      if (state === 'half-open') breakers.halfOpen += 1
      else if (state === 'open' || state === 'forced-open') breakers.open += 1
      else breakers.closed += 1
    }
    return {
      state: this.state, since: this.#since, reason: systemReason([...this.#components.values()]), components, breakers,
      durationMs: components.reduce((slowest, one) => Math.max(slowest, one.responseMs ?? 0), 0),
      at: this.#kit.env.now(),
    }
  }

  component(name: string): ComponentReport | undefined {
    const component = this.#components.get(name)
    return component === undefined ? undefined : reportOf(component)
  }

  live(): Liveness {
    return this.#heartbeat.look()
  }

  #listen(): void {
    this.#unlisten ??= this.#kit.events.on('breaker.changed', ({ data }) => {
      const component = this.#components.get(data.dependency)
      if (component === undefined || !this.#breakers.has(data.dependency)) return
      this.#breakers.set(data.dependency, data.to)
      const passes = data.to === 'closed' || data.to === 'forced-closed'
      this.set(data.dependency, component.tier, passes ? 'healthy' : 'degraded', `its breaker is ${data.to}: ${data.reason}`)
    })
  }

  #checked(name: string, result: CheckResult, responseMs: number): void {
    const component = this.#components.get(name)
    if (component === undefined) return
    component.responseMs = responseMs
    component.checkedAt = this.#kit.env.now()
    this.#become(name, afterResult(component.health, component.tier, result))
  }

  #become(name: string, health: ComponentHealth): void {
    const component = this.#components.get(name)
    if (component === undefined) return
    const before = component.health
    component.health = health
    if (before.state !== health.state || !before.known) component.since = this.#kit.env.now()
    // A first result that is good is no recovery: a start announces only what is wrong.
    const from = before.known ? before.state : 'healthy'
    const quiet = from === health.state || (!before.known && health.state === 'not-configured')
    if (!quiet) this.#kit.events.emit('health.changed', { component: name, tier: component.tier, from, to: health.state, reason: health.reason })
    this.#announceSystem()
  }

  /** Components that were never checked don't count here, or each start would announce an outage and a recovery. */
  #announceSystem(): void {
    const known = [...this.#components.values()].filter(component => component.health.known)
    const to = systemState(known)
    if (to === this.#announced) return
    const from = this.#announced
    this.#announced = to
    this.#since = this.#kit.env.now()
    this.#kit.events.emit('system.changed', { from, to, reason: systemReason(known) })
  }
}

function reportOf({ name, tier, health, since, responseMs, checkedAt }: Component): ComponentReport {
  return { name, tier, state: health.state, since, reason: health.reason, responseMs, checkedAt }
}

function systemState(components: readonly Component[]): SystemState {
  let state: SystemState = 'healthy'
  for (const { tier, health } of components) {
    if (tier === 'info' || health.state === 'healthy' || health.state === 'not-configured') continue
    if (tier === 'required' && health.state === 'unavailable') return 'unavailable'
    state = 'degraded'
  }
  return state
}

function systemReason(components: readonly Component[]): string {
  const wrong = components.filter(({ tier, health }) => tier !== 'info' && health.state !== 'healthy' && health.state !== 'not-configured')
  if (wrong.length === 0) return 'every component is healthy'
  return wrong.map(({ name, health }) => `${name} is ${health.state} (${health.reason})`).join('; ')
}

/**
 * Health without an app. Emits `health.changed`, `system.changed`.
 * @example
 * const health = createHealth({ env, events })
 * health.check('database', { tier: 'required', every: '5s', timeout: '1s', slowerThan: '100ms', check: ({ signal }) => ping(signal) })
 * await health.start()
 */
export function createHealth(kit: HealthKit): Health {
  return new ComponentsHealth(kit)
}

export type { CheckComplaint, Liveness }
