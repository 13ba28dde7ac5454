/**
 * The operators' commands: what may be asked of flags, breakers, faults, workers, stuck work and alerts, all through one bus.
 *
 * Killing takes a reason and one step. Each command says in one sentence what is true afterwards.
 */
import { actorName, type Duration, durationMs, HoldfastError, humanDuration, type Json, type Registry } from '../core/index.ts'
import type { CommandArgs, CommandBus, CommandCall, FlagBoard } from '../control/index.ts'
import type { Dependency, FaultPlan } from '../guard/index.ts'
import type { Alerts } from '../observe/index.ts'
import type { Snapshot } from '../store/index.ts'
import type { Worker } from '../worker/index.ts'
import type { WorkItemStatus } from './status.ts'

export interface CommandTargets {
  readonly board: FlagBoard
  readonly dependencies: Registry<Dependency>
  readonly faultPlans: Registry<FaultPlan>
  readonly workers: Registry<Worker>
  readonly alerts: Alerts
  /** @throws HF_OPTION_INVALID where the store is not of that kind, HF_STORE_UNAVAILABLE, HF_STORE_DIRECTORY */
  readonly snapshot: () => Promise<Snapshot>
  /** Answers false when there is no such item any more. */
  readonly settleWork: (item: Pick<WorkItemStatus, 'kind' | 'name' | 'id'>, action: 'retry' | 'discard', reason: string) => Promise<boolean>
}

/** A forced breaker ends by itself: what is forgotten must not hold for ever. */
const FORCE_DEFAULT: Duration = '1h'
/** Long enough for a drill; whoever needs more arms again. */
const ARM_DEFAULT: Duration = '10m'

export function declareCommands(bus: CommandBus, targets: CommandTargets): void {
  const { board, dependencies, faultPlans, workers, alerts } = targets
  const flagOf = (name: string): ReturnType<FlagBoard['status']>[number] | undefined => board.status().find(flag => flag.name === name)

  bus.declare('flag.set', {
    summary: 'Flip a switch, for a time or until it is cleared',
    risk: 'mild',
    selfAudited: true,
    preview: (name, args) => `${name} goes ${bool(args, 'on') ? 'on' : 'off'}: ${flagOf(name)?.whenOff ?? ''}`,
    execute: async ({ target, args, actor, reason }) => {
      const forMs = optionalMs(args, 'for')
      const { flag, reach } = await board.set(target, bool(args, 'on'), { actor, reason, ...(forMs === undefined ? {} : { forMs }) })
      const until = forMs === undefined ? '' : ` for ${humanDuration(forMs)}`
      const where = reach === 'every-instance' ? '' : '; only on this instance, as the store is away: it is passed on when the store is back'
      const pinned = flag.on === bool(args, 'on') ? '' : `, but it stays ${flag.on ? 'on' : 'off'}: ${flag.because}`
      return `${target} was switched ${bool(args, 'on') ? 'on' : 'off'}${until}${pinned}${where}`
    },
    undo: target => ({ command: 'flag.clear', target, args: {} }),
  })
  bus.declare('flag.clear', {
    summary: 'Take an override back: the switch returns to its default',
    risk: 'mild',
    selfAudited: true,
    execute: async ({ target, actor, reason }) => {
      const { flag } = await board.clear(target, { actor, reason })
      return `${target} is ${flag.on ? 'on' : 'off'} (${flag.because})`
    },
  })
  bus.declare('breaker.force', {
    summary: 'Hold a dependency off, or let calls through whatever its breaker says, for a time (1 h unless said)',
    risk: 'mild',
    execute: ({ target, args, actor, reason }) => {
      const to = word(args, 'state', ['open', 'closed'])
      const forMs = optionalMs(args, 'for') ?? durationMs(FORCE_DEFAULT, 'for')
      dependencies.need(target).force(to, { by: actorName(actor), reason, forMs })
      return `${target} is forced ${to} for ${humanDuration(forMs)}`
    },
    undo: target => ({ command: 'breaker.release', target, args: {} }),
  })
  bus.declare('breaker.release', {
    summary: 'End a forced breaker: it decides by itself again',
    risk: 'mild',
    execute: ({ target, actor, reason }) => {
      const dependency = dependencies.need(target)
      return dependency.release({ by: actorName(actor), reason }) ? `${target} decides by itself again` : `${target} was not forced; nothing changed`
    },
  })
  bus.declare('faults.arm', {
    summary: 'Inject the faults of a plan on purpose, in production too, for a time (10 min unless said, 1 h at most), on this instance',
    risk: 'mild',
    preview: name => `${name} breaks calls on purpose, on this instance, until its time is over or it is disarmed`,
    execute: ({ target, args, actor, reason }) => {
      const forMs = optionalMs(args, 'for') ?? durationMs(ARM_DEFAULT, 'for')
      const plan = faultPlans.need(target)
      plan.arm({ by: actorName(actor), reason, for: `${forMs}ms` })
      const waits = plan.active ? '' : '; its own switch is off, so nothing is injected until that is on'
      return `${target} is armed for ${humanDuration(forMs)}${waits}`
    },
    undo: target => ({ command: 'faults.disarm', target, args: {} }),
  })
  bus.declare('faults.disarm', {
    summary: 'Inject no faults of a plan any more, until it is armed again',
    risk: 'mild',
    execute: ({ target, actor, reason }) => (faultPlans.need(target).disarm({ by: actorName(actor), reason }) ? `${target} injects nothing` : `${target} was off; nothing changed`),
  })
  bus.declare('worker.pause', {
    summary: 'Stop a worker after its current iteration, on this instance',
    risk: 'mild',
    execute: ({ target, actor, reason }) => {
      workers.need(target).pause(`${actorName(actor)}: ${reason}`)
      return `${target} is paused`
    },
    undo: target => ({ command: 'worker.resume', target, args: {} }),
  })
  bus.declare('worker.resume', {
    summary: 'Let a paused worker go on',
    risk: 'mild',
    execute: ({ target }) => {
      workers.need(target).resume()
      return `${target} goes on`
    },
  })
  bus.declare('worker.run', {
    summary: 'One iteration now',
    risk: 'mild',
    execute: async ({ target }) => {
      const worker = workers.need(target)
      const outcome = await worker.runNow()
      const reason = worker.snapshot().lastReason
      return `${target} ran: ${outcome}${reason === undefined ? '' : `: ${reason}`}`
    },
  })
  for (const action of ['retry', 'discard'] as const) {
    bus.declare(`work.${action}`, {
      summary: action === 'retry' ? 'Try a stuck piece of work again' : 'Leave a stuck piece of work for good; it is kept as discarded',
      risk: 'mild',
      execute: call => settle(call, action),
    })
  }
  bus.declare('store.snapshot', {
    summary: 'Copy everything in the embedded store into one file, while the service runs',
    risk: 'mild',
    execute: async () => {
      const { file, bytes, removed } = await targets.snapshot()
      return `a snapshot is in ${file} (${String(Math.ceil(bytes / 1_000))} kB)${removed === 0 ? '' : `; ${String(removed)} older ${removed === 1 ? 'one was' : 'ones were'} removed`}`
    },
  })
  bus.declare('alert.ack', {
    summary: 'Take an alert off the page',
    risk: 'mild',
    execute: ({ target }) => (alerts.acknowledge(target) ? `${target} is acknowledged` : `there is no alert ${target}; nothing changed`),
  })

  async function settle({ target, args, reason }: CommandCall, action: 'retry' | 'discard'): Promise<string> {
    const kind = word(args, 'kind', ['saga', 'outbox', 'inbox', 'once', 'worker-item'])
    const name = text(args, 'name')
    if (!(await targets.settleWork({ kind, name, id: target }, action, reason))) return `${kind} ${name} ${target} does not wait for a person any more; nothing changed`
    return action === 'retry' ? `${kind} ${name} ${target} is tried again` : `${kind} ${name} ${target} is discarded`
  }
}

function refuse(name: string, expected: string, got: Json | undefined): never {
  throw new HoldfastError('HF_INPUT_INVALID', { message: `expected the argument ${name} to be ${expected}, got ${JSON.stringify(got)}`, context: { argument: name } })
}

function bool(args: CommandArgs, name: string): boolean {
  const value = args[name]
  return typeof value === 'boolean' ? value : refuse(name, 'true or false', value)
}

function text(args: CommandArgs, name: string): string {
  const value = args[name]
  return typeof value === 'string' && value !== '' ? value : refuse(name, 'a text', value)
}

function word<const Words extends readonly string[]>(args: CommandArgs, name: string, words: Words): Words[number] {
  const value = args[name]
  return typeof value === 'string' && words.includes(value) ? value : refuse(name, `one of ${words.join(', ')}`, value)
}

/** A duration with its unit (`30m`), or nothing. */
function optionalMs(args: CommandArgs, name: string): number | undefined {
  const value = args[name]
  if (value === undefined || value === null) return undefined
  return typeof value === 'string' ? durationMs(value as Duration, name, { min: 1_000 }) : refuse(name, "a duration such as '30m'", value)
}
