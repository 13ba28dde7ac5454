/**
 * One process's turn at a run: forward through the steps, or back through their undos (./undoing.ts).
 *
 * A step's end is recorded together with the intent of the next (one commit a step), and always before the next one
 * runs. Whatever ends the turn becomes an `Ending`; after the first one no step runs any more, even where the saga's
 * function catches what `step` threw.
 */
import { checkInput, decodeJson, encodeJson, HoldfastError, messageOf, type Json } from '../../core/index.ts'
import { last } from '../../store/index.ts'
import { callContext, type CallContext } from '../call-context.ts'
import { failureVerdict, isOwnRefusal, retryAfterOf, type FailureVerdict } from '../failure.ts'
import { sha256 } from '../fingerprint.ts'
import type { Verified } from '../once/types.ts'
import { BoundedCalls } from './bounded-call.ts'
import { Closing, type Ending, type Turn } from './ending.ts'
import { anyStep, beginsOf, effectOf, type AnyStep } from './options.ts'
import type { RunRow, StepRow, TrackRow } from './port.ts'
import { errorInWords, isLost, isStoreTrouble, NotBegun, OUT_OF_TIME, stopReasonOf, type Recording } from './recording.ts'
import type { LocalStep, OutsideStep, SagaOutcome, StepContext } from './types.ts'
import type { Done } from './undoing.ts'

export class Execution<In, I, R extends Json | void, Tx> {
  readonly #turn: Turn<In, I, R, Tx>
  readonly #recording: Recording<Tx>
  readonly #run: RunRow
  readonly #steps: readonly StepRow[]
  readonly #calls: BoundedCalls
  readonly #done: Done[] = []
  readonly #names = new Set<string>()
  #tracks: readonly TrackRow[]
  #seq = 0
  #busy = false
  /** Settles, never rejects, when no step that was begun is at work any more. */
  #active: Promise<unknown> = Promise.resolve()
  #returned = false
  #ending: Ending | undefined
  /** Why no step begins any more: it is cancelled, or out of time. */
  #stopReason: string | undefined
  /** The point of no return that may have been passed. */
  #pivot: string | undefined
  /** A point of no return that is recorded and surely was not passed. */
  #unpivot: string | undefined

  constructor(turn: Turn<In, I, R, Tx>) {
    this.#turn = turn
    this.#recording = turn.recording
    this.#run = turn.run
    this.#steps = turn.steps
    this.#tracks = turn.tracks
    this.#calls = new BoundedCalls(turn.recording.kit.env, turn.recording.keepAlive)
    this.#stopReason = stopReasonOf(turn.run)
    this.#pivot = turn.run.pivot ?? undefined
    if (turn.steps.some(step => step.name === this.#pivot && step.state === 'clear')) this.#isNoPivot(turn.run.pivot ?? '')
  }

  /** From outside, while it runs: no step begins any more, and the one at work is told. */
  stop(reason: string): void {
    if (this.#stopReason !== undefined) return
    this.#stopReason = reason
    this.#calls.abort(new HoldfastError('HF_CANCELLED', { message: `saga ${this.#turn.name} ${this.#run.id}: ${reason}` }))
  }

  /** @throws what the store throws when it could not record */
  async run(): Promise<SagaOutcome<R>> {
    const forward = this.#run.state === 'running'
    const { crashes } = this.#turn.resolved
    if (this.#run.crashes >= crashes) return this.#closing().needsHuman(`${String(this.#run.crashes)} holders in a row died ${whereOf(this.#run, this.#steps)}`)
    const { deadlineInMs } = this.#run
    const deadline = deadlineInMs === null || deadlineInMs <= 0 ? undefined : this.#recording.kit.env.timer(deadlineInMs, () => { this.stop(OUT_OF_TIME) })
    try {
      return await this.#go(forward)
    } finally {
      deadline?.cancel()
    }
  }

  async #go(forward: boolean): Promise<SagaOutcome<R>> {
    const { name, options, resolved } = this.#turn
    let value: R | undefined
    try {
      const input = await checkInput(options.input, decodeJson<unknown>(this.#run.input), `saga ${name}`)
      value = await resolved.runOf(this.#run.version, options)(this.#step, input)
    } catch (error) {
      this.#ending ??= { kind: 'failed', reason: messageOf(error) }
    }
    await this.#letGo()
    // A function that fails before it has reached what is recorded does not know what there is to undo.
    const left = this.#steps.length - this.#seq
    if (left > 0 && (this.#ending === undefined || (forward && this.#ending.kind === 'failed'))) {
      this.#diverged(`the journal has ${String(this.#steps.length)} steps, the next is ${this.#steps[this.#seq]?.name ?? ''}; the code reaches ${String(this.#seq)}${this.#ending === undefined ? '' : `: ${this.#ending.reason}`}`)
    }
    if (!forward) return this.#closing().wayBack(this.#ending)
    return this.#ending === undefined ? this.#closing().finish(value) : this.#closing().end(this.#ending)
  }

  /** Steps that the function did not wait for: their end is waited for, so that it is recorded or undone like any other. */
  async #letGo(): Promise<void> {
    for (let waited: unknown; waited !== this.#active;) {
      waited = this.#active
      await waited
    }
    this.#returned = true
  }

  /** Typed for users by `Step`. */
  readonly #step = (name: string, step: OutsideStep<Json, string> | LocalStep<Json, Tx>): Promise<Json> => {
    const running = this.#take(name, anyStep(step))
    // What it came to is in `#ending`, also where the function lets go of the promise.
    const settled = running.then(() => undefined, () => undefined)
    this.#active = Promise.all([this.#active, settled])
    return running
  }

  async #take(name: string, step: AnyStep<Tx>): Promise<Json> {
    if (this.#ending !== undefined || this.#returned) throw this.#over()
    if (this.#busy) return this.#endWith({ kind: 'failed', reason: `step ${name} was begun before the one before it ended; steps run one after another` })
    if (this.#names.has(name)) return this.#endWith({ kind: 'failed', reason: `two steps are called ${name}; their keys would be the same` })
    this.#names.add(name)
    const seq = this.#seq++
    const recorded = this.#steps[seq]
    const differs = recorded === undefined ? undefined : differenceOf(seq, recorded, name, effectOf(step))
    if (differs !== undefined) {
      this.#diverged(differs)
      throw this.#over()
    }
    if (recorded?.state === 'done' || recorded?.state === 'undone' || recorded?.state === 'kept') return this.#replay(seq, name, step, recorded)
    if (this.#run.state !== 'running') return this.#endWith({ kind: 'collected' })
    // What may have happened is settled first, so that its undo knows what it undoes.
    if (this.#stopReason !== undefined && recorded?.state !== 'intent') return this.#endWith({ kind: 'failed', reason: this.#stopReason })
    if (recorded?.state !== 'intent') this.#needConfirmation(name, step)
    this.#busy = true
    try {
      const text = step.kind === 'local' ? await this.#local(seq, name, step) : await this.#outside(seq, name, step, recorded?.state === 'intent')
      this.#remember(seq, name, step, text)
      this.#recording.kit.events.emit('saga.step', { ...this.#recording.key, step: name, phase: 'do', outcome: 'done' })
      return decodeJson<Json>(text)
    } finally {
      this.#busy = false
    }
  }

  #replay(seq: number, name: string, step: AnyStep<Tx>, recorded: StepRow): Json {
    const text = recorded.output ?? 'null'
    if (recorded.state === 'done') this.#remember(seq, name, step, text)
    return decodeJson<Json>(text)
  }

  #remember(seq: number, name: string, step: AnyStep<Tx>, text: string): void {
    const local = step.kind === 'local' ? step.step.undo : undefined
    const outside = step.kind === 'outside' ? step.step.undo : undefined
    this.#done.push({
      seq, name, output: text, timeoutMs: this.#turn.resolved.timeoutMs(step),
      undoIn: local === undefined ? undefined : tx => local(decodeJson(text), { tx: tx as Tx }),
      undo: outside === undefined ? undefined : context => outside(decodeJson(text), context),
    })
  }

  /** An irreversible step begins only when its confirmation is recorded; the journal's own WHERE asks again. */
  #needConfirmation(name: string, { irreversible }: AnyStep<Tx>): void {
    if (irreversible === undefined) return
    const { askStep, askInMs, confirmedBy, askSummary } = this.#run
    const asked = askStep === name && askSummary === irreversible.summary
    if (asked && confirmedBy !== null) return
    if (!this.#turn.resolved.canAsk) this.#endWith({ kind: 'needs-human', reason: `step ${name} cannot be taken back and this saga has no tickets to confirm it with` })
    const waitMs = this.#turn.resolved.waitMs(irreversible)
    if (asked && askInMs !== null && askInMs > 0) this.#endWith({ kind: 'unconfirmed', step: name, summary: irreversible.summary, waitMs: askInMs, ask: undefined })
    if (asked && irreversible.onExpiry !== 'ask-again' && this.#pivot === undefined) this.#endWith({ kind: 'failed', reason: `step ${name}: nobody confirmed it in time` })
    this.#endWith({ kind: 'unconfirmed', step: name, summary: irreversible.summary, waitMs, ask: { secondPerson: irreversible.approvals === 2 } })
  }

  /** The writes, the end of the step before and of this one: one transaction. */
  async #local(seq: number, name: string, step: Extract<AnyStep<Tx>, { readonly kind: 'local' }>): Promise<string> {
    let recording = false
    try {
      const text = await this.#recording.kit.database().transaction('saga.write', async tx => {
        recording = false
        const output = encodeJson(await step.step.write({ tx }), `saga ${this.#turn.name}: step ${name}`)
        recording = true
        await this.#recording.begin(tx, [{ seq, name, state: 'done', output, effect: effectOf(step) }], beginsOf(name, step))
        return output
      })
      this.#recording.unrecorded = []
      this.#hasBegun(name, step)
      return text
    } catch (error) {
      if (error instanceof NotBegun) return this.#notBegun()
      if (isLost(error)) return this.#endWith({ kind: 'lost' })
      // Rolled back, or found out from the journal: either way nothing is guessed.
      if (isStoreTrouble(error)) return this.#endWith(this.#failedForNow(name, error, false))
      if (recording) return this.#endWith({ kind: 'away', error })
      return this.#fail(name, error, 'failed')
    }
  }

  async #outside(seq: number, name: string, step: Extract<AnyStep<Tx>, { readonly kind: 'outside' }>, maybe: boolean): Promise<string> {
    const { step: declared } = step
    const timeoutMs = this.#turn.resolved.timeoutMs(step)
    if (!maybe) await this.#begin(seq, name, step)
    if (!this.#recording.keepAlive.held) return this.#endWith({ kind: 'lost' })
    let found: Verified<Json> | undefined
    if (maybe && declared.effect === 'once') {
      const { verify } = declared
      if (verify === 'hold') return this.#fail(name, new Error('whether it happened is not known'), 'needs-human')
      try {
        found = await this.#calls.run(`verify of ${name}`, timeoutMs, signal => verify(this.#callContext(name, signal)))
      } catch (error) {
        // A look-up that was refused says nothing about what it looked for.
        return this.#stepFailed(seq, name, step, false, error, 'ambiguous')
      }
      if (!this.#recording.keepAlive.held) return this.#endWith({ kind: 'lost' })
    }
    let value: Json
    try {
      value = found?.happened === true ? found.value : await this.#calls.run(`step ${name}`, timeoutMs, signal => declared.run(this.#stepContext(seq, name, signal)))
    } catch (error) {
      return this.#stepFailed(seq, name, step, !maybe || found?.happened === false, error, failureVerdict(error))
    }
    let output: string
    try {
      output = encodeJson(value, `saga ${this.#turn.name}: step ${name}`)
    } catch (error) {
      return this.#fail(name, error, 'needs-human')
    }
    this.#recording.unrecorded = [{ seq, name, state: 'done', output }]
    return output
  }

  #callContext(name: string, signal: AbortSignal): CallContext {
    return callContext(sha256(`saga:${this.#turn.name}:${this.#run.id}:${name}`), signal, this.#recording.keepAlive)
  }

  #stepContext(seq: number, name: string, signal: AbortSignal): StepContext<string> {
    const tracked = this.#tracks.filter(track => track.seq === seq && track.state === 'made').map(({ kind, resource, description }) => ({ kind, id: resource, ...(description === null ? {} : { description }) }))
    return Object.assign(this.#callContext(name, signal), { tracked, track: (kind: string, id: string, description?: string) => this.#track({ seq, kind, resource: id, description: description ?? null }) })
  }

  /** Durable before the step goes on, and known to this turn's way back. */
  async #track(track: Omit<TrackRow, 'state'>): Promise<void> {
    const { kind, resource } = track
    if (!Object.hasOwn(this.#turn.options.undo ?? {}, kind) || resource === '') {
      throw new HoldfastError('HF_OPTION_INVALID', { message: `saga ${this.#turn.name}: expected a kind with an undo handler and an id, got ${JSON.stringify(kind)} and ${JSON.stringify(resource)}` })
    }
    await this.#recording.persist('saga.track', async tx => {
      if (!await this.#recording.port.track(last(tx), this.#recording.key, this.#recording.fence, track)) throw this.#recording.refused()
    }, true)
    if (!this.#tracks.some(made => made.kind === kind && made.resource === resource)) this.#tracks = [...this.#tracks, { ...track, state: 'made' }]
  }

  #stepFailed(seq: number, name: string, step: AnyStep<Tx>, clean: boolean, error: unknown, verdict: FailureVerdict): never {
    if (this.#recording.keepAlive.signal.aborted) return this.#endWith({ kind: 'lost' })
    // "Not this time" says nothing about an earlier attempt; "refused", under the same key, does.
    const surelyNot = verdict === 'refused' || (verdict === 'not-applied' && clean)
    if (surelyNot) {
      this.#recording.unrecorded = [{ seq, name, state: 'clear', output: null }]
      this.#isNoPivot(name)
    }
    if (verdict === 'refused') return this.#fail(name, error, 'failed')
    if (surelyNot && this.#stopReason !== undefined) return this.#endWith({ kind: 'failed', reason: this.#stopReason })
    const held = step.kind === 'outside' && step.step.effect === 'once' && step.step.verify === 'hold'
    if (!surelyNot && held) return this.#fail(name, error, 'needs-human')
    const counts = !isOwnRefusal(error)
    const { attempts, giveUpAfterMs } = this.#turn.resolved
    if (counts && this.#run.attempts + 1 >= attempts && this.#run.ageMs >= giveUpAfterMs) return this.#fail(name, error, surelyNot ? 'failed' : 'needs-human')
    this.#tellFailed(name, error)
    return this.#endWith(this.#failedForNow(name, error, counts))
  }

  #failedForNow(name: string, error: unknown, counts: boolean): Ending {
    return { kind: 'later', reason: `step ${name}: ${messageOf(error)}`, retryAfterMs: retryAfterOf(error), counts, note: { what: 'failed', step: name, detail: errorInWords(error) } }
  }

  #fail(name: string, error: unknown, kind: 'failed' | 'needs-human'): never {
    this.#tellFailed(name, error)
    return this.#endWith({ kind, reason: `step ${name}: ${messageOf(error)}` })
  }

  async #begin(seq: number, name: string, step: AnyStep<Tx>): Promise<void> {
    try {
      await this.#recording.persist('saga.intent', tx => this.#recording.begin(last(tx), [{ seq, name, state: 'intent', output: null, effect: effectOf(step) }], beginsOf(name, step)), true)
      this.#recording.unrecorded = []
      this.#hasBegun(name, step)
    } catch (error) {
      if (error instanceof NotBegun) {
        // The intent may have been recorded by an attempt whose answer was lost; it was not run.
        this.#recording.unrecorded = [...this.#recording.unrecorded, { seq, name, state: 'clear', output: null, effect: effectOf(step) }]
        this.#unpivot = name
        return this.#notBegun()
      }
      return this.#endWith(isLost(error) ? { kind: 'lost' } : { kind: 'away', error })
    }
  }

  /** The journal said no: because the run is to stop, or because it is not ours any more. */
  async #notBegun(): Promise<never> {
    let reason: string | undefined
    try {
      reason = await this.#recording.whyStopped()
    } catch (error) {
      return this.#endWith({ kind: 'away', error })
    }
    return this.#endWith(reason === undefined ? { kind: 'lost' } : { kind: 'failed', reason })
  }

  #hasBegun(name: string, { pivot }: AnyStep<Tx>): void {
    if (!pivot) return
    this.#pivot ??= name
    if (this.#unpivot === name) this.#unpivot = undefined
  }

  #isNoPivot(name: string): void {
    if (this.#pivot !== name) return
    this.#pivot = undefined
    this.#unpivot = name
  }

  #closing(): Closing<In, I, R, Tx> {
    return new Closing(this.#turn, this.#calls, { done: this.#done, tracks: this.#tracks, pivot: this.#pivot, unpivot: this.#unpivot })
  }

  #diverged(what: string): void {
    this.#ending = { kind: 'needs-human', reason: new HoldfastError('HF_SAGA_DIVERGED', { message: `HF_SAGA_DIVERGED: ${what}` }).message }
  }

  #endWith(ending: Ending): never {
    this.#ending = ending
    throw this.#over()
  }

  /** What the saga's function is thrown; what counts is the ending. */
  #over(): HoldfastError {
    const reason = this.#ending !== undefined && 'reason' in this.#ending ? this.#ending.reason : 'the run is over in this process'
    return new HoldfastError('HF_SAGA_STEP_FAILED', { message: `saga ${this.#turn.name} ${this.#run.id}: ${reason}`, context: { saga: this.#turn.name, id: this.#run.id } })
  }

  #tellFailed(step: string, error: unknown): void {
    this.#recording.kit.events.emit('saga.step', { ...this.#recording.key, step, phase: 'do', outcome: 'failed', message: messageOf(error) })
  }
}

/** For a person: at which step. */
function whereOf({ state }: RunRow, steps: readonly StepRow[]): string {
  if (state === 'undoing') return 'while it was being undone'
  const at = steps.find(step => step.state === 'intent' || step.state === 'clear')?.name
  if (at !== undefined) return `in step ${at}`
  const last = steps.at(-1)?.name
  return last === undefined ? 'before its first step' : `after step ${last}`
}

/** What a journal and the code disagree about, in words. */
export function differenceOf(seq: number, recorded: StepRow, name: string, effect: string): string | undefined {
  if (recorded.name !== name) return `step ${String(seq + 1)} is ${recorded.name} in the journal and ${name} in the code`
  if (typeof recorded.effect === 'string' && recorded.effect !== effect) return `step ${name} is ${recorded.effect} in the journal and ${effect} in the code`
  return undefined
}
