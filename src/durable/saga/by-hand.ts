/**
 * What people do with runs: try again, settle, skip, cancel, confirm, look.
 *
 * Every change notes who and why in the same transaction, and none needs the lease: it is decided by the state of the record, and whoever
 * holds the run finds out by the record.
 */
import { actorName, canonicalJson, decodeJson, encodeJson, HoldfastError, type Actor, type Json } from '../../core/index.ts'
import { rerunUnknownCommit } from '../../store/index.ts'
import type { DurableKit } from '../kit.ts'
import { historyOf } from './history.ts'
import type { CancelOutcome } from './operator-types.ts'
import type { Resolved } from './options.ts'
import type { Note, RunKey, RunRow, SagaPort } from './port.ts'
import { replayRun } from './replay.ts'
import type { Saga, SagaOptions, SagaOutcome, SagaPorts } from './types.ts'

type ByHand<R> = Pick<Saga<unknown, R>, 'retry' | 'markDone' | 'resolveStep' | 'skip' | 'cancel' | 'requestConfirmation' | 'confirm' | 'history' | 'replay'>

export interface ByHandParts<Tx> {
  readonly kit: DurableKit<Tx>
  readonly port: () => SagaPort<Tx>
  readonly tickets: SagaPorts<Tx>['tickets']
  /** Tells the run that it is to stop, where this process holds it. False: it does not. */
  readonly stopHere: (id: string, reason: string) => boolean
  /** Goes on with a run if it is due and free, here and now. */
  readonly resume: (id: string) => Promise<void>
}

const SOMEBODY = 'code'
/** A run that changes each time between asking and looking is cancelled by whoever asks again. */
const CANCEL_ATTEMPTS = 5

export function byHand<In, I, R extends Json | void, Tx>(name: string, options: SagaOptions<In, I, R, Tx, string>, resolved: Resolved, parts: ByHandParts<Tx>): ByHand<R> {
  const { kit, port, tickets, stopHere, resume } = parts
  const keyOf = (id: string): RunKey => ({ saga: name, id })
  const read = (id: string): Promise<RunRow | undefined> => kit.database().transaction('saga.look', tx => port().read(tx, keyOf(id)))

  /** A change and its note: both or neither. */
  async function change<T>(transaction: string, id: string, what: Note['what'], detail: string, actor: Actor | undefined, work: (tx: Tx) => Promise<T | undefined | false>): Promise<T | undefined> {
    return kit.database().transaction(transaction, async tx => {
      const changed = await work(tx)
      if (changed === undefined || changed === false) return undefined
      await port().note(tx, keyOf(id), { what, detail, by: actor === undefined ? SOMEBODY : actorName(actor), ...(typeof changed === 'string' ? { step: changed } : {}) })
      return changed
    })
  }

  async function retry(id: string, reason: string, actor?: Actor): Promise<boolean> {
    return await change('saga.retry', id, 'retried', reason, actor, tx => port().retryByHand(tx, keyOf(id), reason)) === true
  }

  async function markDone(id: string, as: 'undone' | { readonly value: R }, reason: string, actor?: Actor): Promise<boolean> {
    const state = as === 'undone' ? 'undone' : 'done'
    const result = as === 'undone' ? null : encodeJson(as.value, `saga ${name}: result`)
    const marked = await change('saga.mark-done', id, 'marked', `${state}: ${reason}`, actor, tx => port().closeByHand(tx, keyOf(id), state, result, reason, resolved.keepForMs))
    if (marked === true) kit.events.emit('saga.finished', { saga: name, id, outcome: state, reason })
    return marked === true
  }

  async function cancel(id: string, reason: string, actor: Actor): Promise<CancelOutcome> {
    const words = `cancelled by ${actorName(actor)}: ${reason}`
    for (let attempt = 1; ; attempt++) {
      // Asked again it finds its own word: the first reason stays.
      const asked = await rerunUnknownCommit(() => change('saga.cancel', id, 'cancelled', reason, actor, tx => port().cancel(tx, keyOf(id), words))) === true
      if (asked) {
        kit.events.emit('saga.cancelled', { saga: name, id, actor: actorName(actor), reason })
        if (!stopHere(id, words)) await resume(id)
      }
      const run = await read(id)
      // Begun, or turned back from its pivot, between the question and the look: what was answered must be what is recorded.
      if (asked || attempt >= CANCEL_ATTEMPTS || run === undefined || !cancellable(run)) return cancelOutcome(run, asked)
    }
  }

  async function requestConfirmation(id: string, actor: Actor): ReturnType<Saga<unknown, R>['requestConfirmation']> {
    const desk = needTickets()
    const run = await read(id)
    if (run === undefined || !waits(run)) return undefined
    return desk.issue({
      action: `saga.${name}`, actor, input: canonicalJson({ id, step: run.askStep, round: run.askRound }), summary: run.askSummary ?? '', state: askState(run),
      secondPerson: run.askTwo, ttlMs: Math.min(resolved.ticketForMs, Math.max(1, run.askInMs ?? 0)), reason: '',
    })
  }

  async function confirm(token: string, actor: Actor): Promise<{ readonly id: string } & SagaOutcome<R>> {
    const desk = needTickets()
    const action = `saga.${name}`
    const decided = await kit.database().transaction('saga.confirm', async tx => {
      const runAt = async (input: string): Promise<RunRow | undefined> => port().read(tx, keyOf(idOf(input)))
      const redeemed = await desk.redeem(tx, { action, actor, token, stateOf: async ticket => askState(await runAt(ticket.input)) })
      if (!redeemed.ok) return redeemed
      const id = idOf(redeemed.ticket.input)
      const run = await port().read(tx, keyOf(id))
      const confirmed = run !== undefined && await port().confirm(tx, keyOf(id), run.askRound, actorName(actor))
      // Cancelled or timed out since the ticket was read: the ticket is spent, and nothing is confirmed.
      if (!confirmed) return { ok: false, why: 'state-changed' } as const
      await port().note(tx, keyOf(id), { what: 'confirmed', detail: redeemed.ticket.summary, by: actorName(actor), ...(run.askStep === null ? {} : { step: run.askStep }) })
      return { ok: true, id, step: run.askStep ?? '' } as const
    })
    if (!decided.ok) return desk.refuse({ action, actor }, decided)
    const { id, step } = decided
    kit.events.emit('saga.confirmed', { saga: name, id, step, actor: actorName(actor) })
    await resume(id)
    return { id, ...outcomeOf<R>(await read(id)) }
  }

  function needTickets(): NonNullable<SagaPorts<Tx>['tickets']> {
    if (tickets !== undefined) return tickets
    throw new HoldfastError('HF_OPTION_INVALID', { message: `saga ${name}: expected a ticket port to confirm with, got none`, context: { saga: name } })
  }

  return {
    retry, markDone, cancel, requestConfirmation, confirm,
    resolveStep: async (id, verified, reason, actor) => {
      const output = verified.happened ? encodeJson(verified.value, `saga ${name}: resolved step`) : undefined
      return await change('saga.resolve-step', id, 'resolved', `${verified.happened ? 'it happened' : 'it did not happen'}: ${reason}`, actor, tx => port().resolveStep(tx, keyOf(id), output, reason)) === true
    },
    skip: async (id, reason, { value = null, actor } = {}) => {
      const output = encodeJson(value, `saga ${name}: skipped step`)
      return change('saga.skip', id, 'skipped', reason, actor, async tx => {
        const skipped = await port().skip(tx, keyOf(id), output)
        return skipped !== undefined && await port().retryByHand(tx, keyOf(id), reason) ? skipped : undefined
      })
    },
    history: id => kit.database().transaction('saga.history', async tx => {
      const [run, rows] = [await port().read(tx, keyOf(id)), await port().history(tx, keyOf(id))]
      return run === undefined || rows === undefined ? undefined : historyOf(name, run, rows)
    }),
    replay: async id => {
      const recorded = await kit.database().transaction('saga.look', async tx => ({ run: await port().read(tx, keyOf(id)), steps: await port().steps(tx, keyOf(id)) }))
      if (recorded.run === undefined) return { diverges: true, reason: `there is no run ${id}` }
      if (!resolved.versions.includes(recorded.run.version)) return { diverges: true, reason: `version ${String(recorded.run.version)} is not known here` }
      return replayRun(name, options, resolved, recorded.run, recorded.steps)
    },
  }
}

function waits({ state, askStep, confirmedBy, askInMs, cancelled }: RunRow): boolean {
  return state === 'running' && askStep !== null && confirmedBy === null && askInMs !== null && askInMs > 0 && cancelled === null
}

/** What a ticket is about: it is void when the run waits for something else by now, or for nothing. */
function askState(run: RunRow | undefined): string {
  return run === undefined || !waits(run) ? '' : canonicalJson({ id: run.id, step: run.askStep, round: run.askRound, summary: run.askSummary })
}

function idOf(input: string): string {
  return decodeJson<{ readonly id: string }>(input).id
}

function cancellable({ state, direction, pivot }: RunRow): boolean {
  return (state === 'running' || state === 'needs-human') && direction === 'forward' && pivot === null
}

function cancelOutcome(run: RunRow | undefined, asked: boolean): CancelOutcome {
  if (run === undefined) return { outcome: 'refused', why: 'not-found', reason: 'there is no such run' }
  const reason = run.reason ?? 'it is being undone'
  if (run.state === 'undone' && asked) return { outcome: 'undone', reason }
  if (run.state === 'done' || run.state === 'undone') return { outcome: 'refused', why: 'over', reason: `it is ${run.state}` }
  if (!asked && cancellable(run)) return { outcome: 'refused', why: 'not-found', reason: 'it was just begun; ask again' }
  if (!asked && run.pivot !== null) return { outcome: 'refused', why: 'past-pivot', reason: `${run.pivot} may have happened, and cannot be taken back` }
  return run.state === 'needs-human' ? { outcome: 'needs-human', reason } : { outcome: 'undoing', reason: run.cancelled ?? reason }
}

function outcomeOf<R>(run: RunRow | undefined): SagaOutcome<R> {
  if (run?.state === 'done') return { outcome: 'done', value: decodeJson<R>(run.result ?? 'null') }
  const reason = run?.reason ?? 'it is being worked on'
  return run?.state === 'undone' || run?.state === 'needs-human' ? { outcome: run.state, reason } : { outcome: 'running', reason }
}
