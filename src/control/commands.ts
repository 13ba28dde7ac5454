/**
 * The command bus: every operator's action, whoever asks (console, CLI, Telegram, code), goes this one way.
 *
 * preview (what will it do) > ticket, where the risk is severe > execute > verify > undo, where there is one. A reason is
 * always required, and every command and every refusal leaves an audit row.
 *
 * The bus knows no other room: whoever wires the service declares the commands.
 */
import { actorName, canonicalJson, HoldfastError, messageOf, Registry, type Actor, type Json, type Kit } from '../core/index.ts'
import type { Audit, AuditEntry } from './audit/audit.ts'
import { checkRole } from './irreversible/irreversible.ts'
import type { Ticket, TicketDesk } from './irreversible/tickets.ts'
import type { StoreKit } from './kit.ts'

export type CommandArgs = Readonly<Record<string, Json>>

/** What is asked for. */
export interface CommandCall {
  readonly target: string
  readonly args: CommandArgs
  readonly actor: Actor
  readonly reason: string
  /** Given by whoever asks, for commands that use tickets of their own; never written to the audit. */
  readonly ticket?: string
}

export interface CommandOptions {
  /** For help texts: `Pause a worker`. */
  readonly summary: string
  /** `severe` needs a ticket: preview first, then execute with what the preview gave. */
  readonly risk: 'mild' | 'severe'
  /** Any of these. Default: everybody. */
  readonly roles?: readonly string[]
  readonly runbook?: string
  /** What it will do, with numbers: `stops 2 workers; 17 pending items will wait`. A severe command's ticket is void when this sentence changes. */
  readonly preview?: (target: string, args: CommandArgs) => string | Promise<string>
  /** Answers in one sentence what is true now. */
  readonly execute: (call: CommandCall) => string | Promise<string>
  /** Looks whether it is so. */
  readonly verify?: (target: string, args: CommandArgs) => boolean | Promise<boolean>
  /** The command that takes it back; asked before execution, so that it can name the state that was. */
  readonly undo?: (target: string, args: CommandArgs) => UndoCommand | undefined
  /** The change writes its own audit row, in its own transaction: none is added. */
  readonly selfAudited?: boolean
}

export interface UndoCommand {
  readonly command: string
  readonly target: string
  readonly args: CommandArgs
}

export interface CommandRequest {
  readonly target: string
  readonly args?: CommandArgs
  readonly actor: Actor
  readonly reason: string
  /** What `preview` gave, for a severe command. */
  readonly ticket?: string
}

export interface CommandResult {
  readonly command: string
  readonly target: string
  /** One sentence: what is true now. */
  readonly message: string
  /** Absent where the command has no check. */
  readonly verified?: boolean
  readonly undo?: UndoCommand
}

export interface CommandPreview {
  readonly command: string
  readonly target: string
  readonly risk: 'mild' | 'severe'
  readonly impact: string
  /** For a severe command: `execute` with its token. */
  readonly ticket?: Ticket
}

export interface CommandBus {
  /** @throws HF_NAME_TAKEN, HF_OPTION_INVALID */
  declare(name: string, options: CommandOptions): void
  list(): readonly { readonly name: string; readonly summary: string; readonly risk: 'mild' | 'severe'; readonly runbook?: string }[]
  /** @throws HF_UNKNOWN_NAME, HF_FORBIDDEN and what the command's preview throws */
  preview(name: string, request: Omit<CommandRequest, 'reason' | 'ticket'>): Promise<CommandPreview>
  /** Emits command.done or command.refused. @throws HF_REASON_REQUIRED, HF_UNKNOWN_NAME, HF_FORBIDDEN, HF_TICKET_INVALID, and what the command throws */
  execute(name: string, request: CommandRequest): Promise<CommandResult>
}

/** A mistaken preview is looked at again within a minute, or thought over anew. */
const TICKET_FOR_MS = 60_000

export interface CommandPorts<Tx> {
  readonly audit: Audit<Tx>
  readonly tickets: TicketDesk<Tx>
  readonly kit: StoreKit<Tx>
}

/** Without ports (no store) nothing is audited beyond the events, and severe commands are refused. */
export function commands<Tx>(kit: Kit, ports?: CommandPorts<Tx>): CommandBus {
  return new Bus(kit, ports)
}

class Bus<Tx> implements CommandBus {
  readonly #kit: Kit
  readonly #ports: CommandPorts<Tx> | undefined
  readonly #commands = new Registry<{ readonly name: string; readonly options: CommandOptions }>('command')

  constructor(kit: Kit, ports: CommandPorts<Tx> | undefined) {
    this.#kit = kit
    this.#ports = ports
  }

  declare(name: string, options: CommandOptions): void {
    this.#commands.add(name, { name, options })
  }

  list(): ReturnType<CommandBus['list']> {
    return this.#commands.all().map(({ name, options: { summary, risk, runbook } }) => ({ name, summary, risk, ...(runbook === undefined ? {} : { runbook }) }))
  }

  async preview(name: string, { target, args = {}, actor }: Omit<CommandRequest, 'reason' | 'ticket'>): Promise<CommandPreview> {
    const { options } = this.#commands.need(name)
    checkRole(name, options.roles, actor)
    const impact = await impactOf(options, target, args)
    const preview: CommandPreview = { command: name, target, risk: options.risk, impact }
    if (options.risk === 'mild' || this.#ports === undefined) return preview
    const ticket = await this.#ports.tickets.issue({
      action: `command.${name}`, actor, input: canonicalJson({ target, args }), summary: impact, state: stateOf(target, args, impact), secondPerson: false, ttlMs: TICKET_FOR_MS, reason: '',
    })
    return { ...preview, ticket }
  }

  async execute(name: string, request: CommandRequest): Promise<CommandResult> {
    const call: CommandCall = { target: request.target, args: request.args ?? {}, actor: request.actor, reason: request.reason.trim(), ...(request.ticket === undefined ? {} : { ticket: request.ticket }) }
    let begun = false
    try {
      const { options } = this.#commands.need(name)
      if (call.reason === '') throw new HoldfastError('HF_REASON_REQUIRED', { message: `${name} ${call.target}: say why`, context: { command: name } })
      checkRole(name, options.roles, call.actor)
      if (options.risk === 'severe') await this.#spend(name, options, call, request.ticket)
      const undo = options.undo?.(call.target, call.args)
      begun = true
      const message = await options.execute(call)
      const verified = await options.verify?.(call.target, call.args)
      if (options.selfAudited !== true) await this.#audit(name, call, 'done', message)
      this.#kit.events.emit('command.done', { command: name, target: call.target, actor: actorName(call.actor), reason: call.reason })
      return { command: name, target: call.target, message, ...(verified === undefined ? {} : { verified }), ...(undo === undefined ? {} : { undo }) }
    } catch (error) {
      await this.#audit(name, call, begun ? 'failed' : 'refused', messageOf(error))
      this.#kit.events.emit('command.refused', { command: name, target: call.target, actor: actorName(call.actor), message: messageOf(error) })
      throw error
    }
  }

  async #spend(name: string, options: CommandOptions, call: CommandCall, token: string | undefined): Promise<void> {
    const ports = this.#ports
    if (ports === undefined || token === undefined) {
      throw new HoldfastError('HF_TICKET_INVALID', {
        message: `${name} ${call.target}: ${ports === undefined ? 'a severe command needs a store' : 'preview it first, and give the ticket of the preview'}; nothing was done`,
        context: { action: name, why: 'unknown' },
      })
    }
    // Before the transaction: a preview may ask the store itself.
    const impact = await impactOf(options, call.target, call.args)
    const action = `command.${name}`
    const redeemed = await ports.kit.database().transaction('command.confirm', tx => ports.tickets.redeem(tx, {
      action, actor: call.actor, token, stateOf: async () => stateOf(call.target, call.args, impact),
    }))
    if (!redeemed.ok) ports.tickets.refuse({ action, actor: call.actor }, redeemed)
  }

  async #audit(name: string, call: CommandCall, outcome: AuditEntry['outcome'], message: string): Promise<void> {
    await this.#ports?.audit.record({ actor: actorName(call.actor), action: `command.${name}`, target: call.target, reason: call.reason, outcome, after: { args: call.args, message } })
  }
}

async function impactOf(options: CommandOptions, target: string, args: CommandArgs): Promise<string> {
  return options.preview === undefined ? `${options.summary}: ${target}` : options.preview(target, args)
}

/** Target and arguments are part of the state, so that a ticket for one thing never serves another. */
function stateOf(target: string, args: CommandArgs, impact: string): string {
  return canonicalJson({ target, args, impact })
}
