/**
 * A service without insides: what operators see and what their commands do to it, for tests of the API, the CLI and the page.
 *
 * Not a simulation of Holdfast: each command changes the read model just as far as a test looks at it.
 */
import type { CommandRequest, CommandResult } from '../../src/app/holdfast.ts'
import type { DependencyStatus, FaultsStatus, FlagStatus, Status, WorkerStatus, WorkItemStatus } from '../../src/app/status.ts'
import { actorName, EventBus, HoldfastError, type Env } from '../../src/core/index.ts'
import { dependency } from '../../src/guard/index.ts'
import type { AuditRow, DemoControls, DemoFault, NamedRunbook, Operated, TimelineEntry } from '../../src/operate/index.ts'

type Changing<T> = { -readonly [K in keyof T]: T[K] }
type FlagOverride = NonNullable<FlagStatus['override']>

export interface FakeHoldfast extends Operated {
  /** Change it and call `touch()`. */
  readonly model: Changing<Omit<Status, 'at' | 'flags' | 'workers' | 'dependencies' | 'faults' | 'work'>> & {
    flags: Changing<FlagStatus>[]
    workers: Changing<WorkerStatus>[]
    dependencies: Changing<DependencyStatus>[]
    faults: Changing<FaultsStatus>[]
    work: WorkItemStatus[]
  }
  readonly auditRows: AuditRow[]
  readonly commandsSeen: (CommandRequest & { readonly name: string })[]
  /** Adds a line to the timeline, and tells who listens. */
  say(text: string, tone?: TimelineEntry['tone'], correlationId?: string): TimelineEntry
  /** Tells who listens about an entry that is there already, as when it repeats. */
  tell(entry: TimelineEntry): void
  touch(): void
  /** While true, `status()` never answers. */
  hung: boolean
  readonly listeners: number
  readonly phase: Status['phase']
  readonly health: { readonly state: Status['verdict']['state'] }
  metrics(): string
}

const MINUTE = 60_000

export const PANEL_DOWN: NamedRunbook = {
  id: 'vpn-panel-down', title: 'The VPN panel does not answer', when: 'Its breaker is open; activations wait', safeToRetry: true,
  steps: ['Look at the panel itself', 'Hold it off while it is repaired', 'Release it'], commands: ['holdfast breaker force-open vpn-panel --for 30m --reason "..."'],
}

/** Real words, so that what is shown is what operators read. */
const EXPLANATION = dependency('vpn-panel', { tier: 'degradable', runbook: 'vpn-panel-down', deadline: '10s', timeout: '3s', concurrency: 20 }).explain()

export function fakeHoldfast(env: Env, options: { readonly instance?: string } = {}): FakeHoldfast {
  const events = new EventBus(env)
  const instance = options.instance ?? 'vpn-bot-7f3a'
  const entries: TimelineEntry[] = []
  const listeners = new Set<(entry: TimelineEntry) => void>()
  let seq = 0

  const fake: FakeHoldfast = {
    service: 'vpn-bot',
    instance,
    env,
    events,
    commandsSeen: [],
    hung: false,
    model: healthyModel(env.now(), instance),
    get listeners() { return listeners.size },
    get phase() { return fake.model.phase },
    get health() { return fake.model.verdict },
    metrics: () => 'holdfast_up 1\n',
    status: () => (fake.hung ? new Promise(() => undefined) : Promise.resolve(structuredClone({ ...fake.model, at: env.now() }))),
    timeline: ({ after, limit } = {}) => {
      const index = after === undefined ? -1 : entries.findIndex(entry => entry.id === after)
      return entries.slice(index + 1).slice(-(limit ?? 100))
    },
    onTimeline: listener => {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
    explain: id => entries.filter(entry => entry.correlationId === id),
    explainDependency: name => (fake.model.dependencies.some(each => each.name === name) ? EXPLANATION : undefined),
    runbooks: () => [PANEL_DOWN],
    runbook: id => (id === PANEL_DOWN.id ? PANEL_DOWN : undefined),
    audit: async ({ limit = 100, before = Number.POSITIVE_INFINITY } = {}) => fake.auditRows.filter(row => row.id < before).sort((a, b) => b.id - a.id).slice(0, limit),
    auditRows: [],
    commands: () => ['flag.set', 'flag.clear', 'breaker.force', 'breaker.release', 'faults.arm', 'faults.disarm', 'worker.pause', 'worker.resume', 'worker.run', 'work.retry', 'work.discard'].map(name => ({ name, summary: `What ${name} does` })),
    command: async (name, request) => {
      if (request.reason.trim() === '') throw new HoldfastError('HF_REASON_REQUIRED', { message: `${name} needs a reason` })
      const result = carryOut(fake, name, request)
      fake.commandsSeen.push({ ...request, name })
      fake.auditRows.push({ id: fake.auditRows.length + 1, at: env.now(), actor: actorName(request.actor), action: name, target: request.target, reason: request.reason, outcome: 'done', after: request.args ?? {} })
      fake.say(`${actorName(request.actor)}: ${result.message} (${request.reason})`)
      return result
    },
    say: (text, tone = 'neutral', correlationId) => {
      const entry: TimelineEntry = { id: `${instance}:${String(++seq)}`, at: env.now(), name: 'app.fact', text, tone, count: 1, lastAt: env.now(), ...(correlationId === undefined ? {} : { correlationId }) }
      entries.push(entry)
      fake.tell(entry)
      fake.touch()
      return entry
    },
    tell: entry => { for (const listener of [...listeners]) listener(entry) },
    touch: () => { events.emit('app.progress', { message: 'changed' }) },
  }
  return fake
}

function carryOut(fake: FakeHoldfast, name: string, { target, args = {}, actor, reason }: CommandRequest): CommandResult {
  const { model } = fake
  const now = fake.env.now()
  const until = now + (typeof args['for'] === 'string' ? Number.parseInt(args['for'], 10) * MINUTE : 30 * MINUTE)
  const done = (message: string): CommandResult => ({ command: name, target, message })
  const named = <Item extends { readonly name: string }>(kind: string, items: readonly Item[]): Item => {
    const item = items.find(candidate => candidate.name === target)
    if (item === undefined) throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no ${kind} is called ${JSON.stringify(target)}; there is ${items.map(({ name: known }) => known).join(', ')}` })
    return item
  }
  if (name === 'flag.set') {
    const flag = named('flag', model.flags)
    const override: FlagOverride = { on: args['on'] === true, by: actorName(actor), reason, at: now, ...(args['for'] === undefined ? {} : { expiresAt: until }) }
    Object.assign(flag, { on: override.on, because: `${override.by}: ${reason}`, override })
    return done(`${target} is ${override.on ? 'on' : 'off'}`)
  }
  if (name === 'flag.clear') {
    const flag = named('flag', model.flags)
    delete flag.override
    Object.assign(flag, { on: true, because: 'default' })
    return done(`${target} is on again, by default`)
  }
  if (name.startsWith('breaker.')) {
    const dependency = named('dependency', model.dependencies)
    if (name === 'breaker.release') {
      delete dependency.forced
      dependency.breaker = 'closed'
      return done(`${target} decides by itself again`)
    }
    dependency.breaker = args['state'] === 'open' ? 'forced-open' : 'forced-closed'
    dependency.forced = { by: actorName(actor), reason, until }
    return done(`${target} is forced ${args['state'] === 'open' ? 'open' : 'closed'}`)
  }
  if (name.startsWith('faults.')) {
    const plan = named('faults', model.faults)
    const isArmed = name === 'faults.arm'
    delete plan.armed
    Object.assign(plan, isArmed ? { state: 'armed', active: true, armed: { by: actorName(actor), reason, until } } : { state: 'off', active: false })
    return done(`${target} ${isArmed ? 'is armed' : 'injects nothing'}`)
  }
  if (name.startsWith('worker.')) {
    const worker = named('worker', model.workers)
    if (name === 'worker.run') return done(`${target} runs now`)
    worker.state = name === 'worker.pause' ? 'paused' : 'idle'
    return done(`${target} is ${name === 'worker.pause' ? 'paused' : 'resumed'}`)
  }
  if (name.startsWith('work.')) {
    const before = model.work.length
    model.work = model.work.filter(item => item.id !== target)
    if (model.work.length === before) throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no stuck work has the id ${JSON.stringify(target)}` })
    return done(`${target} is ${name === 'work.retry' ? 'tried again' : 'discarded'}`)
  }
  throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no command is called ${JSON.stringify(name)}` })
}

function healthyModel(now: number, instance: string): FakeHoldfast['model'] {
  const startedAt = now - 26 * MINUTE
  const dependency = (name: string, runbook: string, figures: { readonly calls: number; readonly p50Ms: number; readonly p95Ms: number }): Changing<DependencyStatus> => ({
    name, tier: 'degradable', breaker: 'closed', since: startedAt, limit: 20, inFlight: 0, queued: 0, abandoned: 0, failures: 0, refusals: 0, retries: 0, retriesSuppressed: 0, hedges: 0, timeouts: 0, runbook, ...figures,
  })
  const worker = (name: string, afterMs: number): Changing<WorkerStatus> => ({
    name, state: 'idle', lastOutcome: 'ok', lastRunAt: now - 20_000, lastSuccessAt: now - 20_000, nextRunAt: now + afterMs, times: 'every 5m', consecutiveFailures: 0, leader: true, parked: 0, runbook: `${name}-stuck`,
  })
  const flag = (name: string, whenOff: string): Changing<FlagStatus> => ({ name, on: true, because: 'default', whenOff, pinned: false, runbook: `${name}-off` })
  return {
    service: 'vpn-bot',
    instance,
    version: '0.1.0',
    startedAt,
    phase: 'ready',
    verdict: { state: 'healthy', sentence: 'Everything works. 3 dependencies answer, 4 workers run, nothing is stuck.', since: startedAt },
    store: { name: 'embedded', state: 'healthy', outlives: 'outlives a crash of the process' },
    components: [{ name: 'store', tier: 'required', state: 'healthy', reason: 'answers in 2 ms', since: startedAt, responseMs: 2 }],
    dependencies: [
      dependency('telegram', 'telegram-down', { calls: 412, p50Ms: 18, p95Ms: 61 }),
      dependency('vpn-panel', 'vpn-panel-down', { calls: 96, p50Ms: 34, p95Ms: 120 }),
      dependency('crypto-pay', 'crypto-pay-down', { calls: 58, p50Ms: 41, p95Ms: 140 }),
    ],
    faults: [],
    workers: [worker('activation', 280_000), worker('expiry', 40_000), worker('crypto-watcher', 12_000), worker('crypto-reconciler', 190_000)],
    flags: [
      flag('payments', 'Customers are told that payments are paused; nobody is charged'),
      flag('vpnProvisioning', 'Paid subscriptions wait; nothing is lost'),
      flag('backgroundWorkers', 'No worker runs; work waits'),
      flag('adminActions', 'Admins see, and change nothing'),
    ],
    queues: [],
    work: [],
    alerts: [],
  }
}

/** The panel is down: what an operator meets at 3 a.m. */
export function breakThePanel(fake: FakeHoldfast): void {
  const { model } = fake
  const now = fake.env.now()
  model.verdict = { state: 'degraded', sentence: 'VPN provisioning is failing: vpn-panel is left alone for 48 s. Payments work. 3 activations wait, the oldest for 4 min. Nothing is lost.', since: now - 4 * MINUTE }
  const panel = model.dependencies.find(({ name }) => name === 'vpn-panel')
  if (panel !== undefined) {
    Object.assign(panel, { breaker: 'open', since: now - 12_000, retryAfterMs: 48_000, failures: 9, refusals: 14, abandoned: 1, lastError: { message: 'connect ECONNREFUSED 127.0.0.1:8712', at: now - 12_000 } } satisfies Partial<DependencyStatus>)
  }
  const activation = model.workers.find(({ name }) => name === 'activation')
  if (activation !== undefined) Object.assign(activation, { lastOutcome: 'skipped', lastReason: 'vpn-panel is left alone (breaker open)', nextRunAt: now + 10_000, consecutiveFailures: 2 } satisfies Partial<WorkerStatus>)
  model.work = [
    { kind: 'saga', name: 'provision', id: 'sub-1042', state: 'needs-human', since: now - 6 * MINUTE, reason: 'undo of add-user failed 5 times: connect ECONNREFUSED 127.0.0.1:8712', runbook: 'vpn-panel-down', actions: ['retry', 'discard'] },
    { kind: 'outbox', name: 'customer-messages', id: 'msg-88', state: 'unknown', since: now - 11 * MINUTE, reason: 'the connection was lost after the message left; it may have arrived', actions: ['retry', 'discard'] },
  ]
  model.alerts = [{ key: 'breaker:vpn-panel', alert: 'breaker-open', severity: 'warning', summary: 'vpn-panel has been failing for 4 min', since: now - 4 * MINUTE, runbook: 'vpn-panel-down' }]
  fake.say('vpn-panel: 5 failures in a row, left alone for 60 s', 'bad', 'buy-1042')
  fake.say('activation skipped: vpn-panel is left alone', 'neutral')
}

/** Two faults whose buttons change the model. */
export function fakeDemo(fake: FakeHoldfast): DemoControls {
  const faults: Changing<DemoFault>[] = [
    { id: 'panel-down', label: 'VPN panel down', hint: 'The breaker opens after 5 failures; activations wait', active: false },
    { id: 'crypto-slow', label: 'Crypto Pay slow', hint: 'Calls take 5 s; timeouts cut them at 3 s', active: false },
  ]
  return {
    list: () => structuredClone(faults),
    set: async (id, active) => {
      const fault = faults.find(candidate => candidate.id === id)
      if (fault !== undefined) fault.active = active
      if (id === 'panel-down' && active) breakThePanel(fake)
      else fake.say(`demo: ${id} ${active ? 'on' : 'off'}`)
    },
  }
}
