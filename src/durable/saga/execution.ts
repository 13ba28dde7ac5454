/**
 * One process's turn at a run: forward through the steps, or back through their undos.
 *
 * A step's end is recorded together with the intent of the next (one commit a step), and always before the next one
 * runs. Whatever ends the turn becomes an `Ending`; after the first one no step runs any more, even where the saga's
 * function catches what `step` threw.
 */
import { checkInput, decodeJson, encodeJson, HoldfastError, isHoldfastError, messageOf, type Json } from '../../core/index.ts'
import { failureVerdict, isOwnRefusal, retryAfterOf, type FailureVerdict } from '../failure.ts'
import { sha256 } from '../fingerprint.ts'
import { leaseLost, type KeepAlive } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import type { RunKey, RunRow, SagaPort, StepRow, StepState } from './port.ts'
import type { Verified } from '../once/types.ts'
import type { LocalStep, OutsideStep, SagaOptions, SagaOutcome, StepContext } from './types.ts'

export interface Resolved {
  readonly attempts: number
  readonly giveUpAfterMs: number
  readonly undoAttempts: number
  readonly backoffMs: number
  readonly backoffMaxMs: number
  readonly keepForMs: number
}

/** Why the turn is over before the function returned. */
type Ending =
  /** A step surely failed: what was done is undone. */
  | { readonly kind: 'failed'; readonly reason: string }
  /** To be gone on with later. */
  | { readonly kind: 'later'; readonly reason: string; readonly retryAfterMs: number | undefined; /** It was a failed try. */ readonly counts: boolean }
  | { readonly kind: 'needs-human'; readonly reason: string }
  /** Every step that was done is known; for the way back. */
  | { readonly kind: 'collected' }
  | { readonly kind: 'lost' }
  /** The store could not record; what is recorded decides later. */
  | { readonly kind: 'away'; readonly error: unknown }

interface Done {
  readonly seq: number
  readonly name: string
  readonly undo: ((context: StepContext) => Promise<unknown>) | undefined
  readonly undoIn: ((tx: unknown) => Promise<unknown>) | undefined
}

/** A peer that asks for a longer wait is asked again after this. */
const WAIT_MAX_MS = 300_000
/** A store that is briefly away is asked again before a turn is lost. */
const RECORD_ATTEMPTS = 3
const RECORD_PAUSE_MS = 200

export class Execution<In, I, R extends Json | void, Tx> {
  readonly #name: string
  readonly #options: SagaOptions<In, I, R, Tx>
  readonly #resolved: Resolved
  readonly #kit: DurableKit<Tx>
  readonly #port: SagaPort<Tx>
  readonly #key: RunKey
  readonly #run: RunRow
  readonly #fence: number
  readonly #steps: readonly StepRow[]
  readonly #keepAlive: KeepAlive
  readonly #done: Done[] = []
  readonly #names = new Set<string>()
  #seq = 0
  #busy = false
  /** Settles, never rejects, when no step that was begun is at work any more. */
  #active: Promise<unknown> = Promise.resolve()
  #returned = false
  #ending: Ending | undefined
  /** Ended in this process, not recorded yet. */
  #unrecorded: readonly StepRow[] = []

  constructor(name: string, options: SagaOptions<In, I, R, Tx>, resolved: Resolved, kit: DurableKit<Tx>, port: SagaPort<Tx>, run: RunRow, fence: number, steps: readonly StepRow[], keepAlive: KeepAlive) {
    this.#name = name
    this.#options = options
    this.#resolved = resolved
    this.#kit = kit
    this.#port = port
    this.#run = run
    this.#key = { saga: name, id: run.id }
    this.#fence = fence
    this.#steps = steps
    this.#keepAlive = keepAlive
  }

  /** @throws what the store throws when it could not record */
  async run(): Promise<SagaOutcome<R>> {
    const forward = this.#run.state === 'running'
    let value: R | undefined
    try {
      const input = await checkInput(this.#options.input, decodeJson<unknown>(this.#run.input), `saga ${this.#name}`)
      value = await this.#options.run(this.#step, input)
    } catch (error) {
      this.#ending ??= { kind: 'failed', reason: messageOf(error) }
    }
    await this.#letGo()
    // A function that fails before it has reached what is recorded does not know what there is to undo.
    const left = this.#steps.length - this.#seq
    if (left > 0 && (this.#ending === undefined || (forward && this.#ending.kind === 'failed'))) {
      this.#diverged(`the journal has ${String(this.#steps.length)} steps, the code reaches ${String(this.#seq)}${this.#ending === undefined ? '' : `: ${this.#ending.reason}`}`)
    }
    if (!forward) return this.#wayBack()
    return this.#ending === undefined ? this.#finish(value) : this.#end(this.#ending)
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
  readonly #step = (name: string, step: OutsideStep<Json> | LocalStep<Json, Tx>): Promise<Json> => {
    const running = this.#take(name, step)
    // What it came to is in `#ending`, also where the function lets go of the promise.
    const settled = running.then(() => undefined, () => undefined)
    this.#active = Promise.all([this.#active, settled])
    return running
  }

  async #take(name: string, step: OutsideStep<Json> | LocalStep<Json, Tx>): Promise<Json> {
    if (this.#ending !== undefined || this.#returned) throw this.#over()
    if (this.#busy) return this.#stop({ kind: 'failed', reason: `step ${name} was begun before the one before it ended; steps run one after another` })
    if (this.#names.has(name)) return this.#stop({ kind: 'failed', reason: `two steps are called ${name}; their keys would be the same` })
    this.#names.add(name)
    const seq = this.#seq++
    const recorded = this.#steps[seq]
    if (recorded !== undefined && recorded.name !== name) {
      this.#diverged(`step ${String(seq + 1)} is ${recorded.name} in the journal and ${name} in the code`)
      throw this.#over()
    }
    if (recorded?.state === 'done' || recorded?.state === 'undone' || recorded?.state === 'kept') return this.#replay(seq, name, step, recorded)
    if (this.#run.state !== 'running') return this.#stop({ kind: 'collected' })
    this.#busy = true
    try {
      const text = 'write' in step ? await this.#local(seq, name, step) : await this.#outside(seq, name, step, recorded?.state === 'intent')
      this.#remember(seq, name, step, text)
      this.#kit.events.emit('saga.step', { saga: this.#name, id: this.#key.id, step: name, phase: 'do', outcome: 'done' })
      return decodeJson<Json>(text)
    } finally {
      this.#busy = false
    }
  }

  #replay(seq: number, name: string, step: OutsideStep<Json> | LocalStep<Json, Tx>, recorded: StepRow): Json {
    const text = recorded.output ?? 'null'
    if (recorded.state === 'done') this.#remember(seq, name, step, text)
    return decodeJson<Json>(text)
  }

  #remember(seq: number, name: string, step: OutsideStep<Json> | LocalStep<Json, Tx>, text: string): void {
    const { undo } = step
    const local = 'write' in step ? step.undo : undefined
    const outside = 'write' in step ? undefined : step.undo
    this.#done.push({
      seq, name,
      undoIn: undo === undefined || local === undefined ? undefined : tx => local(decodeJson(text), { tx: tx as Tx }),
      undo: undo === undefined || outside === undefined ? undefined : context => outside(decodeJson(text), context),
    })
  }

  /** The writes, the end of the step before and of this one: one transaction. */
  async #local(seq: number, name: string, step: LocalStep<Json, Tx>): Promise<string> {
    let recording = false
    try {
      const text = await this.#kit.database().transaction('saga.write', async tx => {
        recording = false
        const output = encodeJson(await step.write({ tx }), `saga ${this.#name}: step ${name}`)
        recording = true
        await this.#journal(tx, [...this.#unrecorded, { seq, name, state: 'done', output }])
        return output
      })
      this.#unrecorded = []
      return text
    } catch (error) {
      if (isLost(error)) return this.#stop({ kind: 'lost' })
      // Rolled back, or found out from the journal: either way nothing is guessed.
      if (isStoreTrouble(error)) return this.#stop({ kind: 'later', reason: `step ${name}: ${messageOf(error)}`, retryAfterMs: undefined, counts: false })
      if (recording) return this.#stop({ kind: 'away', error })
      return this.#fail(name, error, 'failed')
    }
  }

  async #outside(seq: number, name: string, step: OutsideStep<Json>, maybe: boolean): Promise<string> {
    const context = { key: sha256(`saga:${this.#name}:${this.#key.id}:${name}`), signal: this.#keepAlive.signal }
    if (!maybe) await this.#record('saga.intent', [{ seq, name, state: 'intent', output: null }])
    if (!this.#keepAlive.held) return this.#stop({ kind: 'lost' })
    let found: Verified<Json> | undefined
    if (maybe && step.effect === 'once') {
      if (step.verify === 'hold') return this.#fail(name, new Error('whether it happened is not known'), 'needs-human')
      try {
        found = await step.verify(context)
      } catch (error) {
        // A look-up that was refused says nothing about what it looked for.
        return this.#stepFailed(seq, name, step, false, error, 'ambiguous')
      }
      if (!this.#keepAlive.held) return this.#stop({ kind: 'lost' })
    }
    let value: Json
    try {
      value = found?.happened === true ? found.value : await step.run(context)
    } catch (error) {
      return this.#stepFailed(seq, name, step, !maybe || found?.happened === false, error, failureVerdict(error))
    }
    let output: string
    try {
      output = encodeJson(value, `saga ${this.#name}: step ${name}`)
    } catch (error) {
      return this.#fail(name, error, 'needs-human')
    }
    this.#unrecorded = [{ seq, name, state: 'done', output }]
    return output
  }

  #stepFailed(seq: number, name: string, step: OutsideStep<Json>, clean: boolean, error: unknown, verdict: FailureVerdict): never {
    if (this.#keepAlive.signal.aborted) return this.#stop({ kind: 'lost' })
    // "Not this time" says nothing about an earlier attempt; "refused", under the same key, does.
    const surelyNot = verdict === 'refused' || (verdict === 'not-applied' && clean)
    if (surelyNot) this.#unrecorded = [{ seq, name, state: 'clear', output: null }]
    if (verdict === 'refused') return this.#fail(name, error, 'failed')
    if (!surelyNot && step.effect === 'once' && step.verify === 'hold') return this.#fail(name, error, 'needs-human')
    const counts = !isOwnRefusal(error)
    const givenUp = counts && this.#run.attempts + 1 >= this.#resolved.attempts && this.#run.ageMs >= this.#resolved.giveUpAfterMs
    if (givenUp) return this.#fail(name, error, surelyNot ? 'failed' : 'needs-human')
    this.#tellFailed(name, 'do', error)
    return this.#stop({ kind: 'later', reason: `step ${name}: ${messageOf(error)}`, retryAfterMs: retryAfterOf(error), counts })
  }

  #fail(name: string, error: unknown, kind: 'failed' | 'needs-human'): never {
    this.#tellFailed(name, 'do', error)
    return this.#stop({ kind, reason: `step ${name}: ${messageOf(error)}` })
  }

  async #finish(value: R | undefined): Promise<SagaOutcome<R>> {
    let result: string
    try {
      result = encodeJson(value, `saga ${this.#name}: result`)
    } catch (error) {
      return this.#end({ kind: 'needs-human', reason: messageOf(error) })
    }
    await this.#close('done', result, 'every step is done')
    return { outcome: 'done', value: decodeJson<R>(result) }
  }

  async #end(ending: Ending): Promise<SagaOutcome<R>> {
    if (ending.kind === 'away') throw ending.error
    if (ending.kind === 'lost') return this.#lost()
    if (ending.kind === 'needs-human') return this.#needsHuman(ending.reason)
    if (ending.kind === 'later') return this.#later(ending.reason, ending.retryAfterMs, this.#run.attempts, ending.counts)
    const reason = ending.kind === 'failed' ? ending.reason : 'it is being undone'
    await this.#change('saga.turn', tx => this.#port.turn(tx, this.#key, this.#fence, reason), run => run.state === 'undoing')
    return this.#undoAll(reason, 0)
  }

  /** After a crash or a failed undo: the function was run again to learn the undos. */
  async #wayBack(): Promise<SagaOutcome<R>> {
    if (this.#ending?.kind === 'needs-human') return this.#needsHuman(this.#ending.reason)
    const left = this.#steps.filter(step => step.state === 'done').length
    if (left !== this.#done.length) return this.#needsHuman(`HF_SAGA_DIVERGED: ${String(left)} steps are to be undone, the code reaches ${String(this.#done.length)}`)
    return this.#undoAll(this.#run.reason ?? 'a step failed', this.#run.attempts)
  }

  /** In reverse order; an undo is recorded after its effect, so one that was interrupted is called again. */
  async #undoAll(reason: string, attempts: number): Promise<SagaOutcome<R>> {
    const kept = this.#steps.filter(step => step.state === 'kept').map(step => step.name)
    for (const step of [...this.#done].reverse()) {
      try {
        if (step.undo === undefined && step.undoIn === undefined) kept.push(step.name)
        await this.#undoOne(step)
      } catch (error) {
        if (isLost(error) || this.#keepAlive.signal.aborted) return this.#lost()
        const undoReason = `undo of ${step.name}: ${messageOf(error)} (undone because ${reason})`
        this.#tellFailed(step.name, 'undo', error)
        const counts = !isOwnRefusal(error) && !isStoreTrouble(error)
        if (counts && attempts + 1 >= this.#resolved.undoAttempts) return this.#needsHuman(`${undoReason}; tried ${String(attempts + 1)} times`)
        return this.#later(reason, retryAfterOf(error), attempts, counts)
      }
    }
    const summary = kept.length === 0 ? reason : `${reason}; not undone: ${kept.join(', ')}`
    await this.#close('undone', null, summary)
    return { outcome: 'undone', reason: summary }
  }

  async #undoOne({ seq, name, undo, undoIn }: Done): Promise<void> {
    if (!this.#keepAlive.held) throw leaseLost(`saga ${this.#name} ${this.#key.id}`, 'it ran out')
    const output = this.#steps[seq]?.output ?? null
    const entry = (state: StepState): readonly StepRow[] => [{ seq, name, state, output }]
    if (undoIn !== undefined) {
      await this.#kit.database().transaction('saga.undo-write', async tx => {
        await undoIn(tx)
        await this.#journal(tx, entry('undone'))
      })
    } else {
      await undo?.({ key: sha256(`saga:${this.#name}:${this.#key.id}:${name}:undo`), signal: this.#keepAlive.signal })
      await this.#persist('saga.undone', tx => this.#journal(tx, entry(undo === undefined ? 'kept' : 'undone')))
    }
    this.#kit.events.emit('saga.step', { saga: this.#name, id: this.#key.id, step: name, phase: 'undo', outcome: 'done', ...(undo === undefined && undoIn === undefined ? { message: 'it has no undo and is kept' } : {}) })
  }

  /** Tries that count wait twice as long each time; what was not tried at all waits a quarter of the run's age, which also grows and needs no counter. */
  async #later(reason: string, retryAfterMs: number | undefined, attempts: number, counts: boolean): Promise<SagaOutcome<R>> {
    const { backoffMs, backoffMaxMs } = this.#resolved
    const backoff = counts ? backoffMs * 2 ** Math.min(attempts, 20) : Math.max(backoffMs, this.#run.ageMs / 4)
    const wakeInMs = Math.ceil(Math.min(WAIT_MAX_MS, Math.max(retryAfterMs ?? 0, Math.min(backoffMaxMs, backoff))))
    await this.#change('saga.park', tx => this.#port.park(tx, this.#key, this.#fence, reason, wakeInMs, counts), run => !run.live)
    this.#keepAlive.stop()
    return { outcome: 'running', reason, retryAfterMs: wakeInMs }
  }

  async #needsHuman(reason: string): Promise<SagaOutcome<R>> {
    await this.#close('needs-human', null, reason)
    return { outcome: 'needs-human', reason }
  }

  async #close(state: 'done' | 'undone' | 'needs-human', result: string | null, reason: string): Promise<void> {
    await this.#change('saga.finish', tx => this.#port.close(tx, this.#key, this.#fence, state, result, reason, this.#resolved.keepForMs), run => run.state === state)
    this.#keepAlive.stop()
    const { runbook } = this.#options
    this.#kit.events.emit('saga.finished', { saga: this.#name, id: this.#key.id, outcome: state, reason, ...(runbook === undefined ? {} : { runbook }) })
  }

  async #record(transaction: string, entries: readonly StepRow[]): Promise<void> {
    try {
      await this.#persist(transaction, tx => this.#journal(tx, [...this.#unrecorded, ...entries]))
      this.#unrecorded = []
    } catch (error) {
      return this.#stop(isLost(error) ? { kind: 'lost' } : { kind: 'away', error })
    }
  }

  /** The run's state changes, with what is not recorded yet; `happened` recognises that it did when the answer of the commit was lost. */
  async #change(transaction: string, change: (tx: Tx) => Promise<boolean>, happened: (run: RunRow) => boolean): Promise<void> {
    await this.#persist(transaction, async (tx, attempt) => {
      const run = attempt === 1 ? undefined : await this.#port.read(tx, this.#key)
      if (run?.fence === this.#fence && happened(run)) return
      await this.#journal(tx, this.#unrecorded)
      if (!await change(tx)) throw this.#refused()
    })
    this.#unrecorded = []
  }

  /** For what may be recorded twice: what has happened is worth asking again a store that is briefly away. */
  async #persist(transaction: string, work: (tx: Tx, attempt: number) => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#kit.database().transaction(transaction, tx => work(tx, attempt))
      } catch (error) {
        const again = isHoldfastError(error) && (error.code === 'HF_STORE_UNAVAILABLE' || error.code === 'HF_STORE_UNKNOWN_COMMIT')
        if (!again || attempt >= RECORD_ATTEMPTS || !this.#keepAlive.held) throw error
        if (error.code === 'HF_STORE_UNAVAILABLE') await this.#kit.env.sleep(RECORD_PAUSE_MS * attempt)
      }
    }
  }

  /** Refused when this fence is not the live one: then the whole transaction is rolled back. */
  async #journal(tx: Tx, entries: readonly StepRow[]): Promise<void> {
    if (entries.length > 0 && !await this.#port.journal(tx, this.#key, this.#fence, entries)) throw this.#refused()
  }

  #refused(): HoldfastError {
    this.#keepAlive.lose('a journal write of this fence was refused')
    return leaseLost(`saga ${this.#name} ${this.#key.id}`, 'a journal write of this fence was refused')
  }

  #lost(): SagaOutcome<R> {
    return { outcome: 'running', reason: 'another instance took over' }
  }

  #diverged(what: string): void {
    this.#ending = { kind: 'needs-human', reason: new HoldfastError('HF_SAGA_DIVERGED', { message: `HF_SAGA_DIVERGED: ${what}` }).message }
  }

  #stop(ending: Ending): never {
    this.#ending = ending
    throw this.#over()
  }

  /** What the saga's function is thrown; what counts is the ending. */
  #over(): HoldfastError {
    const reason = this.#ending !== undefined && 'reason' in this.#ending ? this.#ending.reason : 'the run is over in this process'
    return new HoldfastError('HF_SAGA_STEP_FAILED', { message: `saga ${this.#name} ${this.#key.id}: ${reason}`, context: { saga: this.#name, id: this.#key.id } })
  }

  #tellFailed(step: string, phase: 'do' | 'undo', error: unknown): void {
    this.#kit.events.emit('saga.step', { saga: this.#name, id: this.#key.id, step, phase, outcome: 'failed', message: messageOf(error) })
  }
}

function isLost(error: unknown): boolean {
  return isHoldfastError(error) && error.code === 'HF_LEASE_LOST'
}

/** The store's own, and not of what was written: later it may work, and the journal says how far it got. */
function isStoreTrouble(error: unknown): boolean {
  return isHoldfastError(error) && ['HF_STORE_UNAVAILABLE', 'HF_STORE_CONFLICT', 'HF_STORE_UNKNOWN_COMMIT', 'HF_STORE_TX_TIMEOUT'].includes(error.code)
}
