/**
 * The way back: what was done is undone in reverse order, a step's own undo before what it made.
 *
 * An undo is recorded after its effect, so one that was interrupted is called again, under its key. What cannot be undone is said.
 */
import { HoldfastError, messageOf } from '../../core/index.ts'
import { last } from '../../store/index.ts'
import { callContext, type CallContext } from '../call-context.ts'
import { sha256 } from '../fingerprint.ts'
import { isOwnRefusal, retryAfterOf } from '../failure.ts'
import { leaseLost } from '../keep-alive.ts'
import type { BoundedCalls } from './bounded-call.ts'
import { isLost, isStoreTrouble, type Recording } from './recording.ts'
import type { StepRow, StepState, TrackRow } from './port.ts'

/** A step that is done, and how it is undone. Neither: it is kept. */
export interface Done {
  readonly seq: number
  readonly name: string
  /** Kept when it is undone: the function is run again to learn the undos, and asks for it. */
  readonly output: string
  readonly timeoutMs: number
  readonly undo: ((context: CallContext) => Promise<unknown>) | undefined
  readonly undoIn: ((tx: unknown) => Promise<unknown>) | undefined
}

export type UndoHandlers = Readonly<Record<string, (id: string, context: CallContext) => Promise<unknown>>>

export type Undone =
  | { readonly outcome: 'undone'; /** What could not be. */ readonly kept: readonly string[] }
  | { readonly outcome: 'lost' }
  | { readonly outcome: 'failed'; readonly what: string; readonly error: unknown; readonly counts: boolean; readonly retryAfterMs: number | undefined; readonly left: readonly string[] }

interface Item {
  readonly name: string
  readonly undo: () => Promise<void>
}

export class Undoing<Tx> {
  readonly #recording: Recording<Tx>
  readonly #calls: BoundedCalls
  readonly #handlers: UndoHandlers
  readonly #timeoutMs: number

  constructor(recording: Recording<Tx>, calls: BoundedCalls, handlers: UndoHandlers, timeoutMs: number) {
    this.#recording = recording
    this.#calls = calls
    this.#handlers = handlers
    this.#timeoutMs = timeoutMs
  }

  async undo(done: readonly Done[], steps: readonly StepRow[], tracks: readonly TrackRow[]): Promise<Undone> {
    const made = (seq: number): boolean => tracks.some(track => track.seq === seq)
    const kept = [
      ...steps.filter(step => step.state === 'kept' && !made(step.seq)).map(step => step.name),
      ...tracks.filter(track => track.state === 'kept').map(trackName),
      // A step without an undo of its own whose resources are undone has left nothing.
      ...done.filter(step => step.undo === undefined && step.undoIn === undefined && !made(step.seq)).map(step => step.name),
    ]
    const items = this.#items(done, tracks)
    for (const [at, item] of items.entries()) {
      try {
        if (!this.#recording.keepAlive.held) throw leaseLost(`saga ${this.#recording.key.saga} ${this.#recording.key.id}`, 'it ran out')
        await item.undo()
      } catch (error) {
        if (isLost(error) || this.#recording.keepAlive.signal.aborted) return { outcome: 'lost' }
        this.#tell(item.name, 'failed', messageOf(error))
        const counts = !isOwnRefusal(error) && !isStoreTrouble(error)
        return { outcome: 'failed', what: item.name, error, counts, retryAfterMs: retryAfterOf(error), left: items.slice(at).map(each => each.name) }
      }
    }
    return { outcome: 'undone', kept }
  }

  #items(done: readonly Done[], tracks: readonly TrackRow[]): readonly Item[] {
    const left = tracks.filter(track => track.state === 'made')
    const seqs = [...new Set([...done.map(step => step.seq), ...left.map(track => track.seq)])].sort((a, b) => b - a)
    return seqs.flatMap(seq => [
      ...done.filter(step => step.seq === seq).map(step => ({ name: step.name, undo: () => this.#step(step) })),
      ...left.filter(track => track.seq === seq).reverse().map(track => ({ name: trackName(track), undo: () => this.#track(track) })),
    ])
  }

  async #step({ seq, name, output, timeoutMs, undo, undoIn }: Done): Promise<void> {
    const entry = (state: StepState): readonly StepRow[] => [{ seq, name, state, output }]
    if (undoIn !== undefined) {
      await this.#recording.kit.database().transaction('saga.undo-write', async tx => {
        await undoIn(tx)
        await this.#recording.journal(tx, entry('undone'))
      })
    } else {
      if (undo !== undefined) await this.#calls.run(`undo of ${name}`, timeoutMs, signal => undo(this.#context(name, signal)))
      await this.#recording.persist('saga.undone', tx => this.#recording.journal(last(tx), entry(undo === undefined ? 'kept' : 'undone')), true)
    }
    this.#tell(name, 'done', undo === undefined && undoIn === undefined ? 'it has no undo and is kept' : undefined)
  }

  async #track(track: TrackRow): Promise<void> {
    const handler = this.#handlers[track.kind]
    const name = trackName(track)
    if (handler === undefined) throw new HoldfastError('HF_SAGA_DIVERGED', { message: `nothing undoes a ${track.kind} in this version of the code` })
    await this.#calls.run(`undo of ${name}`, this.#timeoutMs, signal => handler(track.resource, this.#context(name, signal)))
    await this.#recording.persist('saga.undone', async tx => {
      if (!await this.#recording.port.untrack(last(tx), this.#recording.key, this.#recording.fence, track.kind, track.resource)) throw this.#recording.refused()
    })
    this.#tell(name, 'done', undefined)
  }

  #context(name: string, signal: AbortSignal): CallContext {
    const { key: { saga, id }, keepAlive } = this.#recording
    return callContext(sha256(`saga:${saga}:${id}:${name}:undo`), signal, keepAlive)
  }

  #tell(step: string, outcome: 'done' | 'failed', message: string | undefined): void {
    this.#recording.kit.events.emit('saga.step', { ...this.#recording.key, step, phase: 'undo', outcome, ...(message === undefined ? {} : { message }) })
  }
}

export function trackName({ kind, resource }: { readonly kind: string; readonly resource: string }): string {
  return `${kind} ${resource}`
}

/** A list that a person reads, and a database keeps: the first ten. */
export function listed(names: readonly string[]): string {
  return names.length <= 10 ? names.join(', ') : `${names.slice(0, 10).join(', ')} and ${String(names.length - 10)} more`
}
