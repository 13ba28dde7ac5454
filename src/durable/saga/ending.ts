/**
 * How a turn ends: closed, parked until it is due again, waiting for a confirmation, or turned round and undone.
 *
 * What has happened and is not recorded yet goes with the change of the run's state, in one transaction.
 */
import { decodeJson, encodeJson, messageOf, type Json } from '../../core/index.ts'
import type { BoundedCalls } from './bounded-call.ts'
import type { Resolved } from './options.ts'
import type { Note, RunRow, StepRow, TrackRow } from './port.ts'
import { errorInWords, NotBegun, type Recording } from './recording.ts'
import type { SagaOptions, SagaOutcome } from './types.ts'
import { listed, trackName, Undoing, type Done } from './undoing.ts'

/** Why the turn is over before the function returned. */
export type Ending =
  /** A step surely failed, or the run is to stop: what was done is undone. */
  | { readonly kind: 'failed'; readonly reason: string }
  /** To be gone on with later. */
  | { readonly kind: 'later'; readonly reason: string; readonly retryAfterMs: number | undefined; /** It was a failed try. */ readonly counts: boolean; readonly note: Omit<Note, 'by'> | undefined }
  /** Until somebody confirms it; `ask` when nobody was asked yet. */
  | { readonly kind: 'unconfirmed'; readonly step: string; readonly summary: string; readonly waitMs: number; readonly ask: { readonly secondPerson: boolean } | undefined }
  | { readonly kind: 'needs-human'; readonly reason: string }
  /** Every step that was done is known; for the way back. */
  | { readonly kind: 'collected' }
  | { readonly kind: 'lost' }
  /** The store could not record; what is recorded decides later. */
  | { readonly kind: 'away'; readonly error: unknown }

/** A peer that asks for a longer wait is asked again after this. */
const WAIT_MAX_MS = 300_000
const LOST = { outcome: 'running', reason: 'another instance took over' } as const

export interface Turn<In, I, R extends Json | void, Tx> {
  readonly name: string
  readonly options: SagaOptions<In, I, R, Tx, string>
  readonly resolved: Resolved
  readonly recording: Recording<Tx>
  readonly run: RunRow
  readonly steps: readonly StepRow[]
  readonly tracks: readonly TrackRow[]
  /** Monotonic: when the run was asked for. What it says in milliseconds counts from then. */
  readonly readAtMs: number
}

/** What a turn has come to so far. */
export interface Progress {
  /** What is done, in order, with its undo. */
  readonly done: readonly Done[]
  readonly tracks: readonly TrackRow[]
  /** The point of no return that may have been passed. */
  readonly pivot: string | undefined
  /** A point of no return that is recorded and surely was not passed. */
  readonly unpivot: string | undefined
}

export class Closing<In, I, R extends Json | void, Tx> {
  readonly #turn: Turn<In, I, R, Tx>
  readonly #recording: Recording<Tx>
  readonly #run: RunRow
  readonly #calls: BoundedCalls
  readonly #progress: Progress

  constructor(turn: Turn<In, I, R, Tx>, calls: BoundedCalls, progress: Progress) {
    this.#turn = turn
    this.#recording = turn.recording
    this.#run = turn.run
    this.#calls = calls
    this.#progress = progress
  }

  /** Every step is done. */
  async finish(value: R | undefined): Promise<SagaOutcome<R>> {
    let result: string
    try {
      result = encodeJson(value, `saga ${this.#turn.name}: result`)
    } catch (error) {
      return this.end({ kind: 'needs-human', reason: messageOf(error) })
    }
    try {
      await this.#close('done', result, 'every step is done')
    } catch (error) {
      // Cancelled between the last step and this: it is undone, as whoever cancelled it was told.
      const reason = error instanceof NotBegun ? await this.#recording.whyStopped() : undefined
      if (reason === undefined) throw error
      return this.end({ kind: 'failed', reason })
    }
    return { outcome: 'done', value: decodeJson<R>(result) }
  }

  /** @throws what the store throws when it could not record */
  async end(ending: Ending): Promise<SagaOutcome<R>> {
    if (ending.kind === 'away') throw ending.error
    if (ending.kind === 'lost') return LOST
    if (ending.kind === 'needs-human') return this.needsHuman(ending.reason)
    if (ending.kind === 'later') return this.#later(ending.reason, ending.retryAfterMs, this.#run.attempts, ending.counts, ending.note)
    if (ending.kind === 'unconfirmed') return this.#wait(ending)
    const reason = ending.kind === 'failed' ? ending.reason : 'it is being undone'
    if (this.#progress.pivot !== undefined) return this.needsHuman(`past its point of no return (${this.#progress.pivot}): ${reason}`)
    await this.#recording.change('saga.turn', async tx => {
      if (this.#progress.unpivot !== undefined) await this.#recording.port.unpivot(tx, this.#recording.key, this.#recording.fence, this.#progress.unpivot)
      return this.#recording.port.turn(tx, this.#recording.key, this.#recording.fence, reason)
    }, run => run.state === 'undoing', { what: 'turned', detail: reason })
    return this.#undoAll(reason, 0)
  }

  /** After a crash or a failed undo: the function was run again to learn the undos. */
  async wayBack(ending: Ending | undefined): Promise<SagaOutcome<R>> {
    if (ending?.kind === 'needs-human') return this.needsHuman(ending.reason)
    const left = this.#turn.steps.filter(step => step.state === 'done').length
    if (left !== this.#progress.done.length) return this.needsHuman(`HF_SAGA_DIVERGED: ${String(left)} steps are to be undone, the code reaches ${String(this.#progress.done.length)}`)
    return this.#undoAll(this.#run.reason ?? 'a step failed', this.#run.attempts)
  }

  async #undoAll(reason: string, attempts: number): Promise<SagaOutcome<R>> {
    const { resolved, options } = this.#turn
    const undone = await new Undoing(this.#recording, this.#calls, options.undo ?? {}, resolved.stepTimeoutMs).undo(this.#progress.done, this.#turn.steps, this.#progress.tracks)
    if (undone.outcome === 'lost') return LOST
    if (undone.outcome === 'failed') {
      const { what, error, counts, retryAfterMs, left } = undone
      if (counts && attempts + 1 >= resolved.undoAttempts) {
        return this.needsHuman(`undo of ${what}: ${messageOf(error)} (undone because ${reason}); tried ${String(attempts + 1)} times; still to undo: ${listed(left)}`)
      }
      return this.#later(reason, retryAfterMs, attempts, counts, { what: 'undo-failed', step: what, detail: errorInWords(error) })
    }
    const summary = undone.kept.length === 0 ? reason : `${reason}; not undone: ${listed(undone.kept)}`
    await this.#close('undone', null, summary)
    return { outcome: 'undone', reason: summary }
  }

  /** Tries that count wait twice as long each time; what was not tried at all waits a quarter of the run's age, which also grows and needs no counter. */
  async #later(reason: string, retryAfterMs: number | undefined, attempts: number, counts: boolean, note: Omit<Note, 'by'> | undefined): Promise<SagaOutcome<R>> {
    const { backoffMs, backoffMaxMs } = this.#turn.resolved
    const backoff = counts ? backoffMs * 2 ** Math.min(attempts, 20) : Math.max(backoffMs, this.#run.ageMs / 4)
    return this.#park(reason, Math.min(WAIT_MAX_MS, Math.max(retryAfterMs ?? 0, Math.min(backoffMaxMs, backoff))), counts, note, undefined)
  }

  async #wait({ step, summary, waitMs, ask }: Extract<Ending, { readonly kind: 'unconfirmed' }>): Promise<SagaOutcome<R>> {
    const answer = await this.#park(`waits for confirmation: ${summary}`, waitMs, false, ask === undefined ? undefined : { what: 'asked', step, detail: summary },
      ask === undefined ? undefined : tx => this.#recording.port.ask(tx, this.#recording.key, this.#recording.fence, { step, summary, forMs: waitMs, secondPerson: ask.secondPerson }))
    const { runbook } = this.#turn.options
    if (ask !== undefined) this.#recording.kit.events.emit('saga.waiting', { ...this.#recording.key, step, summary, ...(runbook === undefined ? {} : { runbook }) })
    return answer
  }

  async #park(reason: string, waitMs: number, counts: boolean, note: Omit<Note, 'by'> | undefined, before: ((tx: Tx) => Promise<boolean>) | undefined): Promise<SagaOutcome<R>> {
    const { port, key, fence, kit } = this.#recording
    const leftMs = (this.#run.deadlineInMs ?? Infinity) - (kit.env.monotonic() - this.#turn.readAtMs)
    // Due again when its time is over, at the latest; what is over already is due by its backoff.
    const wakeInMs = Math.ceil(leftMs > 0 ? Math.min(waitMs, leftMs) : waitMs)
    await this.#recording.change('saga.park', async tx => {
      if (this.#progress.unpivot !== undefined) await port.unpivot(tx, key, fence, this.#progress.unpivot)
      if (before !== undefined && !await before(tx)) return false
      return port.park(tx, key, fence, reason, wakeInMs, counts)
    }, run => !run.live, note)
    this.#recording.keepAlive.stop()
    return { outcome: 'running', reason, retryAfterMs: wakeInMs }
  }

  async needsHuman(reason: string): Promise<SagaOutcome<R>> {
    const made = this.#progress.tracks.filter(track => track.state === 'made').map(trackName)
    const told = made.length === 0 || reason.includes('still to undo') ? reason : `${reason}; it has made: ${listed(made)}`
    await this.#close('needs-human', null, told)
    return { outcome: 'needs-human', reason: told }
  }

  async #close(state: 'done' | 'undone' | 'needs-human', result: string | null, reason: string): Promise<void> {
    const { port, key, fence } = this.#recording
    const { unpivot } = this.#progress
    await this.#recording.close({ state, result, reason, keepForMs: this.#turn.resolved.keepForMs },
      unpivot === undefined ? undefined : tx => port.unpivot(tx, key, fence, unpivot),
      state === 'needs-human' ? { what: 'needs-human', detail: reason } : undefined)
    this.#recording.keepAlive.stop()
    const { runbook } = this.#turn.options
    this.#recording.kit.events.emit('saga.finished', { ...this.#recording.key, outcome: state, reason, ...(runbook === undefined ? {} : { runbook }) })
  }
}
