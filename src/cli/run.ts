/**
 * The command line: every command is a call of the operators' API, rendered or as JSON.
 *
 * Exit codes: 0 done, 1 failed, 2 the service answers and is degraded, 64 wrong usage, 69 no service answers, 77 not allowed.
 * With --json standard output is JSON and nothing else, and errors are JSON on standard error.
 */
import { Command, CommanderError } from 'commander'
import { durationMs, HoldfastError, isHoldfastError, messageOf, type Duration, type ErrorCode, type Json } from '../core/index.ts'
import type { OperatorClient, Status } from '../operate/index.ts'
import { connect, type Connection, type GlobalOptions } from './connect.ts'
import { EXIT, type ExitCode, type Io } from './io.ts'
import { renderRestored, restoreFile } from './restore.ts'
import { followEvents, watchStatus } from './live.ts'
import { renderAudit, renderDependencies, renderDoctor, renderEntry, renderExplanation, renderFaults, renderFlags, renderHealth, renderHistory, renderRunbook, renderRunbooks, renderStatus, renderWork, renderWorkers } from './render.ts'
import { defineSaga, runNamed } from './saga.ts'
import { clean, closest } from './text.ts'

/** Runs one command line (without `node holdfast`). Never throws. */
export async function run(args: readonly string[], io: Io): Promise<ExitCode> {
  const session = new Session(io)
  const program = define(session)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return session.exit
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    return session.fail(error, args.includes('--json'))
  }
}

/** One run: its output, its exit code, its connection. */
export class Session {
  readonly io: Io
  exit: ExitCode = EXIT.ok
  #connection: Connection | undefined
  /** Names that a mistyped one may have meant. */
  #names: (() => Promise<readonly string[]>) | undefined
  #typed = ''

  constructor(io: Io) {
    this.io = io
  }

  client(options: GlobalOptions): OperatorClient {
    this.#connection ??= connect(this.io, options)
    return this.#connection.client
  }

  async show<T>(options: GlobalOptions, read: (client: OperatorClient) => Promise<T>, render: (value: T) => string): Promise<T> {
    const value = await read(this.client(options))
    this.io.out(options.json === true ? JSON.stringify(value, undefined, 2) : render(value))
    return value
  }

  /** A write: a reason is required, and a mistyped target is met with the name that was meant. */
  async command(options: GlobalOptions & WriteOptions, name: string, target: string, args: Readonly<Record<string, Json>>, names?: (status: Status) => readonly string[]): Promise<void> {
    const { reason } = options
    if (reason === undefined || reason.trim() === '') throw new HoldfastError('HF_REASON_REQUIRED', { message: 'say why with --reason "...": it is kept, and shown to whoever asks later' })
    this.#names = names === undefined ? undefined : async () => names(await this.client(options).status())
    this.#typed = target
    await this.show(options, client => client.command(name, { target, args, reason, ...(options.ticket === undefined ? {} : { ticket: options.ticket }) }), result => `${clean(result.message)}.`)
  }

  async fail(error: unknown, asJson: boolean): Promise<ExitCode> {
    const code: ErrorCode | undefined = isHoldfastError(error) ? error.code : undefined
    let message = messageOf(error)
    if (code === 'HF_UNKNOWN_NAME') message += await this.#meant()
    if (code === 'HF_SERVICE_UNREACHABLE' && this.#connection !== undefined) {
      message += `; it was named by ${this.#connection.found}. Start it, or name another with --url or --data <dir>`
    }
    const operator = isHoldfastError(error) ? error.operator : undefined
    if (asJson) this.io.err(JSON.stringify({ error: { code: code ?? null, message, ...(operator === undefined ? {} : { operator }) } }))
    else this.io.err(`holdfast: ${clean(message)}${/[.?]$/.test(message) ? '' : '.'}${code === 'HF_UNAUTHENTICATED' || code === 'HF_FORBIDDEN' ? ` ${operator ?? ''}` : ''}`)
    return exitFor(code)
  }

  /** A read by name: one that is mistyped is met with the name that was meant. */
  meaning<T>(typed: string, read: Promise<T>, names: () => Promise<readonly string[]>): Promise<T> {
    this.#names = names
    this.#typed = typed
    return read
  }

  async #meant(): Promise<string> {
    if (this.#names === undefined || this.#connection === undefined) return ''
    try {
      const name = closest(this.#typed, await this.#names())
      return name === undefined ? '' : `. Did you mean ${name}?`
    } catch {
      // The suggestion is a courtesy; the error itself is what matters.
      return ''
    }
  }
}

export interface WriteOptions {
  readonly ticket?: string
  readonly reason?: string
  readonly for?: string
}

function define(session: Session): Command {
  const { io } = session
  const program = new Command('holdfast')
    .description('Operate a running service: see what is true, switch, pause, retry. Every change says why.')
    .option('--url <url>', 'the service (default: HOLDFAST_URL, else holdfast.json in the data directory)')
    .option('--token <token>', 'operator token (default: HOLDFAST_TOKEN, else from holdfast.json)')
    .option('--data <dir>', 'data directory of the service (default: HOLDFAST_DATA, else ./data)')
    .option('--json', 'JSON instead of text')
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({ writeOut: text => { io.out(text.trimEnd()) }, writeErr: text => { io.err(text.trimEnd()) } })
  const add = (parent: Command, usage: string, summary: string): Command => parent.command(usage).description(summary)
  const group = (name: string, summary: string): Command => add(program, name, summary)
  const options = <T extends object>(command: Command): GlobalOptions & T => command.optsWithGlobals<GlobalOptions & T>()
  const write = (parent: Command, usage: string, summary: string): Command => add(parent, usage, summary).option('--reason <text>', 'why (required)')

  add(program, 'status', 'one page of facts: is it broken, what does that mean, is anything lost')
    .option('--watch', 'keep showing it, live')
    .action(async (_options, command: Command) => {
      const given = options<{ watch?: boolean }>(command)
      if (given.watch === true) session.exit = stateExit(await watchStatus(io, session.client(given), given.json === true))
      else session.exit = stateExit((await session.show(given, client => client.status(), status => renderStatus(io, status))).verdict.state)
    })

  add(program, 'health', 'components, and why they are what they are').action(async (_options, command: Command) => {
    const status = await session.client(options(command)).status()
    const { verdict, phase, store, components } = status
    await session.show(options(command), async () => ({ state: verdict.state, sentence: verdict.sentence, phase, store, components }), () => renderHealth(io, status))
    session.exit = stateExit(verdict.state)
  })

  const flags = group('flags', 'the switches, and why each is what it is')
  flags.action(async (_options, command: Command) => {
    const status = await session.client(options(command)).status()
    await session.show(options(command), async () => ({ flags: status.flags }), value => renderFlags(io, value.flags, status.at))
  })
  write(flags, 'set <name> <on|off>', 'switch on or off, on every instance')
    .option('--for <duration>', 'go back by itself after this long, such as 30m')
    .action(async (name: string, state: string, _options, command: Command) => {
      if (state !== 'on' && state !== 'off') throw usage(`expected on or off, got ${JSON.stringify(state)}`)
      const given = options<WriteOptions>(command)
      await session.command(given, 'flag.set', name, { on: state === 'on', ...duration(given) }, status => status.flags.map(flag => flag.name))
    })
  write(flags, 'clear <name>', 'take the override back: the default decides again').action(async (name: string, _options, command: Command) => {
    await session.command(options<WriteOptions>(command), 'flag.clear', name, {}, status => status.flags.map(flag => flag.name))
  })

  add(program, 'workers', 'background loops: last outcome, next run').action(async (_options, command: Command) => {
    const status = await session.client(options(command)).status()
    await session.show(options(command), async () => ({ workers: status.workers }), value => renderWorkers(io, value.workers, status.at))
  })
  const worker = group('worker', 'pause, resume or run one worker')
  for (const verb of ['pause', 'resume', 'run'] as const) {
    write(worker, `${verb} <name>`, verb === 'run' ? 'run it now' : `${verb} it`).action(async (name: string, _options, command: Command) => {
      await session.command(options<WriteOptions>(command), `worker.${verb}`, name, {}, status => status.workers.map(item => item.name))
    })
  }

  const breaker = group('breaker', 'the dependencies and their breakers; force one, or let it decide again')
  breaker.action(async (_options, command: Command) => {
    const status = await session.client(options(command)).status()
    await session.show(options(command), async () => ({ dependencies: status.dependencies }), value => renderDependencies(io, value.dependencies, status.at))
  })
  add(breaker, 'explain <dependency>', 'what a call of it costs at worst: latency, attempts, load on the other side, work that is held').action(async (name: string, _options, command: Command) => {
    await session.show(options(command), client => session.meaning(name, client.dependency(name), async () => (await client.status()).dependencies.map(each => each.name)), answer => renderExplanation(io, answer))
  })
  for (const state of ['open', 'closed'] as const) {
    write(breaker, `force-${state} <dependency>`, state === 'open' ? 'leave the dependency alone' : 'call it whatever it answers')
      .option('--for <duration>', 'then it decides by itself again', '15m')
      .action(async (name: string, _options, command: Command) => {
        const given = options<WriteOptions>(command)
        await session.command(given, 'breaker.force', name, { state, ...duration(given) }, status => status.dependencies.map(item => item.name))
      })
  }
  write(breaker, 'release <dependency>', 'let it decide by itself again').action(async (name: string, _options, command: Command) => {
    await session.command(options<WriteOptions>(command), 'breaker.release', name, {}, status => status.dependencies.map(item => item.name))
  })

  const faults = group('faults', 'faults on purpose, and whether they are on')
  faults.action(async (_options, command: Command) => {
    const status = await session.client(options(command)).status()
    await session.show(options(command), async () => ({ faults: status.faults }), value => renderFaults(io, value.faults, status.at))
  })
  write(faults, 'arm <plan>', 'inject them, in production too, for a time')
    .option('--for <duration>', 'then it ends by itself, 1h at most', '10m')
    .action(async (name: string, _options, command: Command) => {
      const given = options<WriteOptions>(command)
      await session.command(given, 'faults.arm', name, duration(given), status => status.faults.map(item => item.name))
    })
  write(faults, 'disarm <plan>', 'inject none any more').action(async (name: string, _options, command: Command) => {
    await session.command(options<WriteOptions>(command), 'faults.disarm', name, {}, status => status.faults.map(item => item.name))
  })

  const work = group('work', 'what was begun and needs a person')
  work.action(async (_options, command: Command) => {
    const status = await session.client(options(command)).status()
    await session.show(options(command), async () => ({ work: status.work }), value => renderWork(io, value.work, status.at))
  })
  for (const verb of ['retry', 'discard'] as const) {
    write(work, `${verb} <kind> <name> <id>`, verb === 'retry' ? 'try it again' : 'give it up, for good').action(async (kind: string, name: string, id: string, _options, command: Command) => {
      await session.command(options<WriteOptions>(command), `work.${verb}`, id, { kind, name }, status => status.work.map(item => item.id))
    })
  }

  defineSaga(session, group('saga', 'runs of sagas: what happened, try again, skip, cancel, confirm'), write)

  add(program, 'events', 'the last events')
    .option('--follow', 'keep showing new ones')
    .option('--limit <n>', 'how many', '30')
    .action(async (_options, command: Command) => {
      const given = options<{ follow?: boolean; limit: string }>(command)
      const limit = whole('--limit', given.limit, 1_000)
      if (given.follow === true) await followEvents(io, session.client(given), { json: given.json === true, limit })
      else await session.show(given, async client => ({ entries: await client.timeline({ limit }) }), ({ entries }) => entries.map(entry => renderEntry(io, entry)).join('\n'))
    })
  add(program, 'explain <id>', 'everything known about one piece of work').action(async (id: string, _options, command: Command) => {
    const { entries, run } = await session.show(options(command), async client => ({ id, run: await runNamed(client, id), entries: await client.explain(id) }), value =>
      value.run !== undefined ? [renderHistory(io, value.run), ...value.entries.map(entry => renderEntry(io, entry))].join('\n') : value.entries.length === 0 ? `Nothing is known about ${clean(id)}: it never was, or it is older than what is kept.` : value.entries.map(entry => renderEntry(io, entry)).join('\n'))
    if (entries.length === 0 && run === undefined) session.exit = EXIT.failed
  })

  add(program, 'doctor', 'what the service stands on: store, schema, server, clock; what is wrong, and what to do').action(async (_options, command: Command) => {
    const { verdict } = await session.show(options(command), client => client.doctor(), report => renderDoctor(io, report))
    if (verdict === 'fail') session.exit = EXIT.failed
  })
  write(program, 'snapshot', 'copy everything in the embedded store into one file, while the service runs').action(async (_options, command: Command) => {
    await session.command(options<WriteOptions>(command), 'store.snapshot', 'store', {})
  })
  add(program, 'restore <file>', 'take a snapshot back, with the service stopped: it is tried first, and what is there is kept aside')
    .requiredOption('--to <dir>', 'data directory of the service')
    .option('--replace', 'where a database is there already, put the snapshot in its place and keep it aside')
    .action(async (file: string, _options, command: Command) => {
      const given = options<{ to: string; replace?: boolean }>(command)
      const restored = await restoreFile(io, file, given.to, given.replace === true)
      io.out(given.json === true ? JSON.stringify(restored, undefined, 2) : renderRestored(restored))
    })

  add(program, 'runbook [id]', 'what to do about a named trouble; without a name, which there are').action(async (id: string | undefined, _options, command: Command) => {
    const given = options(command)
    if (id === undefined) await session.show(given, async client => ({ runbooks: await client.runbooks() }), ({ runbooks }) => renderRunbooks(io, runbooks))
    else await session.show(given, client => session.meaning(id, client.runbook(id), async () => (await client.runbooks()).map(each => each.id)), runbook => renderRunbook(io, runbook))
  })

  add(program, 'audit', 'who changed what, why, before and after; newest first')
    .option('--limit <n>', 'how many', '30')
    .option('--before <id>', 'only rows older than this one')
    .action(async (_options, command: Command) => {
      const given = options<{ limit: string; before?: string }>(command)
      const limit = whole('--limit', given.limit, 500)
      const query = { limit, ...(given.before === undefined ? {} : { before: whole('--before', given.before, Number.MAX_SAFE_INTEGER) }) }
      await session.show(given, async client => ({ rows: await client.audit(query) }), ({ rows }) => renderAudit(io, rows))
    })

  return program
}

/** @throws HF_OPTION_INVALID */
function whole(option: string, given: string, max: number): number {
  const value = Number(given)
  if (!Number.isInteger(value) || value < 1 || value > max) throw usage(`expected ${option} between 1 and ${String(max)}, got ${JSON.stringify(given)}`)
  return value
}

/** @throws HF_OPTION_INVALID */
function duration(options: WriteOptions): { readonly for?: string } {
  if (options.for === undefined) return {}
  durationMs(options.for as Duration, '--for')
  return { for: options.for }
}

function usage(message: string): HoldfastError {
  return new HoldfastError('HF_OPTION_INVALID', { message })
}

function stateExit(state: Status['verdict']['state'] | undefined): ExitCode {
  if (state === undefined || state === 'healthy') return EXIT.ok
  return state === 'degraded' ? EXIT.degraded : EXIT.failed
}

function exitFor(code: ErrorCode | undefined): ExitCode {
  switch (code) {
    case 'HF_UNKNOWN_NAME':
    case 'HF_REASON_REQUIRED':
    case 'HF_OPTION_INVALID':
    case 'HF_BODY_INVALID':
    case 'HF_INPUT_INVALID':
      return EXIT.usage
    case 'HF_UNAUTHENTICATED':
    case 'HF_FORBIDDEN':
      return EXIT.denied
    case 'HF_SERVICE_UNREACHABLE':
    case 'HF_STORE_UNAVAILABLE':
    case 'HF_STOPPING':
      return EXIT.unavailable
    default:
      return EXIT.failed
  }
}
