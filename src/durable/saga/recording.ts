/**
 * Writing to the journal of one run under one fence.
 *
 * What has happened and is not written yet goes with the next write. A write of a fence that is not the live one loses the run for
 * this process. What begins something may also be refused because the run is to stop: then `NotBegun`, and nothing is lost.
 */
import { isHoldfastError } from '../../core/index.ts'
import { last } from '../../store/index.ts'
import { leaseLost, type KeepAlive } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import type { Begins, Closed, Note, RunKey, RunRow, SagaPort, StepRow } from './port.ts'

/** A store that is briefly away is asked again before a turn is lost. */
const RECORD_ATTEMPTS = 3
const RECORD_PAUSE_MS = 200
/** Reasons and errors in notes: enough to know what it was. */
const DETAIL_CHARS_MAX = 500

/** The journal did not let a step begin; why is asked for afterwards. */
export class NotBegun extends Error {}

export class Recording<Tx> {
  readonly kit: DurableKit<Tx>
  readonly port: SagaPort<Tx>
  readonly key: RunKey
  readonly fence: number
  readonly keepAlive: KeepAlive
  /** Ended in this process, not recorded yet. */
  unrecorded: readonly StepRow[] = []

  constructor(kit: DurableKit<Tx>, port: SagaPort<Tx>, key: RunKey, fence: number, keepAlive: KeepAlive) {
    this.kit = kit
    this.port = port
    this.key = key
    this.fence = fence
    this.keepAlive = keepAlive
  }

  /** For what may be recorded twice: what has happened is worth asking again a store that is briefly away. `lone`: its first attempt is one last statement. */
  async persist(transaction: string, work: (tx: Tx, attempt: number) => Promise<void>, lone = false): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.kit.database().transaction(transaction, tx => work(tx, attempt), { lone: lone && attempt === 1 })
      } catch (error) {
        const again = isHoldfastError(error) && (error.code === 'HF_STORE_UNAVAILABLE' || error.code === 'HF_STORE_UNKNOWN_COMMIT')
        if (!again || attempt >= RECORD_ATTEMPTS || !this.keepAlive.held) throw error
        if (error.code === 'HF_STORE_UNAVAILABLE') await this.kit.env.sleep(RECORD_PAUSE_MS * attempt)
      }
    }
  }

  /** Refused when this fence is not the live one: then the whole transaction is rolled back. @throws HF_LEASE_LOST */
  async journal(tx: Tx, entries: readonly StepRow[]): Promise<void> {
    if (entries.length > 0 && !await this.port.journal(tx, this.key, this.fence, entries)) throw this.refused()
  }

  /** @throws NotBegun */
  async begin(tx: Tx, entries: readonly StepRow[], begins: Begins): Promise<void> {
    if (!await this.port.journal(tx, this.key, this.fence, [...this.unrecorded, ...entries], begins)) throw new NotBegun('the journal did not let it begin')
  }

  /** The run's state changes, with what is not recorded yet; `happened` recognises that it did when the answer of the commit was lost. */
  async change(transaction: string, change: (tx: Tx) => Promise<boolean>, happened: (run: RunRow) => boolean, note?: Omit<Note, 'by'>): Promise<void> {
    await this.persist(transaction, async (tx, attempt) => {
      const run = attempt === 1 ? undefined : await this.port.read(tx, this.key)
      if (run?.fence === this.fence && happened(run)) return
      await this.journal(tx, this.unrecorded)
      if (!await change(tx)) throw this.refused()
      if (note !== undefined) await this.note(tx, note)
    })
    this.unrecorded = []
  }

  /** To a state of rest, behind `before`; where no note follows it travels with its COMMIT. @throws NotBegun where it may not be done any more */
  async close(closed: Omit<Closed, 'steps'>, before: ((tx: Tx) => Promise<void>) | undefined, note: Omit<Note, 'by'> | undefined): Promise<void> {
    await this.persist('saga.finish', async (tx, attempt) => {
      const run = attempt === 1 ? undefined : await this.port.read(tx, this.key)
      if (run?.fence === this.fence && run.state === closed.state) return
      await before?.(tx)
      if (!await this.port.close(note === undefined ? last(tx) : tx, this.key, this.fence, { ...closed, steps: this.unrecorded })) {
        throw closed.state === 'done' ? new NotBegun('it is not done any more') : this.refused()
      }
      if (note !== undefined) await this.note(tx, note)
    }, before === undefined && note === undefined)
    this.unrecorded = []
  }

  /** Why the run is to stop, asked of the record; undefined when it is somebody else's by now, and then it is lost. */
  async whyStopped(): Promise<string | undefined> {
    const run = await this.kit.database().transaction('saga.look', tx => this.port.read(tx, this.key))
    const reason = run?.fence === this.fence && run.live ? stopReasonOf(run) : undefined
    if (reason === undefined) this.refused()
    return reason
  }

  async note(tx: Tx, note: Omit<Note, 'by'>): Promise<void> {
    await this.port.note(tx, this.key, { ...note, detail: note.detail.slice(0, DETAIL_CHARS_MAX), by: this.kit.instance })
  }

  refused(): Error {
    this.keepAlive.lose('a journal write of this fence was refused')
    return leaseLost(`saga ${this.key.saga} ${this.key.id}`, 'a journal write of this fence was refused')
  }
}

export const OUT_OF_TIME = 'its deadline has passed'

/** Why no step of it begins any more. */
export function stopReasonOf({ cancelled, deadlineInMs }: RunRow): string | undefined {
  return cancelled ?? (deadlineInMs !== null && deadlineInMs <= 0 ? OUT_OF_TIME : undefined)
}

export function isLost(error: unknown): boolean {
  return isHoldfastError(error) && error.code === 'HF_LEASE_LOST'
}

/** The store's own, and not of what was written: later it may work, and the journal says how far it got. */
export function isStoreTrouble(error: unknown): boolean {
  return isHoldfastError(error) && ['HF_STORE_UNAVAILABLE', 'HF_STORE_CONFLICT', 'HF_STORE_UNKNOWN_COMMIT', 'HF_STORE_TX_TIMEOUT'].includes(error.code)
}

/** Its code, or the name of its class, before what it says. */
export function errorInWords(error: unknown): string {
  if (isHoldfastError(error)) return `${error.code}: ${error.message}`
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error)
}
