/**
 * Irreversible actions: requested by one call, confirmed by another, never run by one slip.
 *
 * `request` says what will be done and gives a ticket; `confirm` uses the ticket up and runs the action in one
 * transaction: when the action fails, nothing of it is kept and the ticket can be confirmed again until it expires.
 * There is no `run` to be called by mistake.
 */
import { actorName, canonicalJson, checkInput, checkName, decodeJson, durationMs, encodeJson, HoldfastError, type Actor, type Duration, type Json, type Schema } from '../../core/index.ts'
import { auditLog } from '../audit/audit.ts'
import type { StoreKit } from '../kit.ts'
import { ticketDesk, type Ticket } from './tickets.ts'

export interface IrreversibleOptions<In, I, R extends Json | void, Tx> {
  readonly input: Schema<In, I>
  /** What confirming will do, in one sentence with names: `Delete the key of 42`. Shown before, kept after. */
  readonly summary: (input: NoInfer<I>) => string
  /** How long the ticket lives, by the database's clock. 10 s to 1 h; 60 s to 2 min is usual. */
  readonly ticketFor: Duration
  /** 2: somebody else than who asked must confirm. Default 1: the same person. */
  readonly approvals?: 1 | 2
  /** Who may request and confirm: any of these. Default: everybody. */
  readonly roles?: readonly string[]
  readonly runbook?: string
  /** What the thing looks like now (a version, a status). When it differs between request and confirm, the ticket is void. */
  readonly state?: (input: NoInfer<I>, context: { readonly tx: Tx }) => string | Promise<string>
  /** Commits together with the ticket. Outside effects go through the outbox or a saga started here. */
  readonly run: (input: NoInfer<I>, context: { readonly tx: Tx; readonly signal: AbortSignal }) => Promise<R>
}

/** Has no `run`: it is requested by one call and confirmed by another. */
export interface Irreversible<In, R> {
  readonly kind: 'irreversible'
  readonly name: string
  readonly runbook: string | undefined
  /** @throws HF_INPUT_INVALID, HF_RESULT_NOT_JSON, HF_FORBIDDEN and what the store throws */
  request(input: In, actor: Actor, options?: { readonly reason?: string }): Promise<Ticket>
  /**
   * @throws HF_TICKET_INVALID (`context.why`: unknown, expired, used, other-actor, state-changed), HF_RATE_LIMITED after five wrong tickets,
   *   HF_FORBIDDEN, what `run` throws, and what the store throws. Emits irreversible.done or ticket.refused.
   */
  confirm(token: string, actor: Actor, options?: { readonly signal?: AbortSignal }): Promise<R>
}

const TICKET_MIN_MS = 10_000
const TICKET_MAX_MS = 3_600_000

/** @throws HF_OPTION_INVALID */
export function irreversible<In, I, R extends Json | void, Tx>(name: string, options: IrreversibleOptions<In, I, R, Tx>, kit: StoreKit<Tx>): Irreversible<In, R> {
  checkName('irreversible', name)
  const ttlMs = durationMs(options.ticketFor, `irreversible ${name}: ticketFor`, { min: TICKET_MIN_MS })
  if (ttlMs > TICKET_MAX_MS) throw new HoldfastError('HF_OPTION_INVALID', { message: `irreversible ${name}: expected ticketFor of 1h at most, got ${options.ticketFor}`, context: { irreversible: name } })
  const audit = auditLog(kit)
  const desk = ticketDesk(kit, audit)
  const stateNow = async (input: I, tx: Tx): Promise<string> => (options.state === undefined ? '' : options.state(input, { tx }))
  const where = `irreversible ${name}`

  return {
    kind: 'irreversible',
    name,
    runbook: options.runbook,
    async request(raw, actor, { reason = '' } = {}) {
      checkRole(name, options.roles, actor)
      const input = await checkInput(options.input, raw, where)
      // What is kept is what was given, and what is decoded again at confirmation: it must survive a restart.
      encodeJson(raw, where)
      const state = options.state === undefined ? '' : await kit.database().transaction('irreversible.state', tx => stateNow(input, tx))
      return desk.issue({ action: name, actor, input: canonicalJson(raw), summary: options.summary(input), state, secondPerson: options.approvals === 2, ttlMs, reason })
    },
    async confirm(token, actor, { signal = new AbortController().signal } = {}) {
      checkRole(name, options.roles, actor)
      const decided = await kit.database().transaction('irreversible.confirm', async tx => {
        let input: I | undefined
        const decode = async (text: string): Promise<I> => (input ??= await checkInput(options.input, decodeJson(text), where))
        const redeemed = await desk.redeem(tx, { action: name, actor, token, stateOf: async ticket => stateNow(await decode(ticket.input), tx) })
        if (!redeemed.ok) return { redeemed }
        const { ticket } = redeemed
        const value = await options.run(await decode(ticket.input), { tx, signal })
        await audit.append(tx, {
          actor: actorName(actor), action: `irreversible.${name}`, target: ticket.summary, reason: `requested by ${ticket.requestedBy}`, outcome: 'done',
          before: { input: decodeJson<Json>(ticket.input), state: ticket.state },
        })
        return { redeemed, value }
      }, { signal })
      if (!decided.redeemed.ok) return desk.refuse({ action: name, actor }, decided.redeemed)
      kit.events.emit('irreversible.done', { action: name, summary: decided.redeemed.ticket.summary, actor: actorName(actor) })
      return decided.value as R
    },
  }
}

/** @throws HF_FORBIDDEN */
export function checkRole(what: string, roles: readonly string[] | undefined, actor: Actor): void {
  if (roles === undefined || roles.some(role => actor.roles?.includes(role) === true)) return
  throw new HoldfastError('HF_FORBIDDEN', { message: `${what}: ${actorName(actor)} has none of the roles ${roles.join(', ')}`, context: { action: what, actor: actorName(actor) } })
}
