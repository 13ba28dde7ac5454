/**
 * Transactions of the memory dialect: serial (one at a time per disk, first come first served), atomic, isolated.
 *
 * The death of a simulated process is `abandon()`: its open transactions roll back at once and give up their turn, as
 * when a server notices a dead connection, and nothing that the dead process still awaits ever settles.
 */
import { HoldfastError, type Env } from '../../core/index.ts'
import type { Durability, MemoryTable, MemoryTx } from '../port.ts'
import type { BeginOptions, Driver, Session } from '../transaction.ts'
import type { Claim, Disk } from './disk.ts'
import { TableView } from './table.ts'

/** Nothing outlives the process, and no other process sees it. */
export const MEMORY_DURABILITY: Durability = Object.freeze({ processCrash: false, powerLoss: false, severalInstances: false })

/** A new one each time: a shared one would hold on to everything that ever waited for it, dead process after dead process. */
function never(): Promise<never> {
  return new Promise(() => undefined)
}

export class MemoryDriver implements Driver<MemoryTx> {
  readonly dialect = 'memory'
  readonly durability: Durability = MEMORY_DURABILITY
  readonly #disk: Disk
  readonly #env: Pick<Env, 'now'>
  readonly #sessions = new Set<MemorySession>()
  #dead = false

  constructor(disk: Disk, env: Pick<Env, 'now'>) {
    this.#disk = disk
    this.#env = env
  }

  begin(name: string, { signal }: BeginOptions): Promise<Session<MemoryTx>> {
    if (this.#dead) return never()
    return new Promise((resolve, reject) => {
      const cancelled = (): void => {
        session.endAs('ended')
        reject(new HoldfastError('HF_CANCELLED', { message: `transaction ${name} was cancelled while it waited for its turn`, context: { transaction: name } }))
      }
      const session: MemorySession = new MemorySession(name, this.#disk, this.#env, {
        admit: () => {
          signal?.removeEventListener('abort', cancelled)
          resolve(session)
        },
      }, () => {
        this.#sessions.delete(session)
        this.#disk.release(session.claim)
        signal?.removeEventListener('abort', cancelled)
        // Matters to a session that still waits for its turn; after `resolve` it does nothing.
        if (session.state === 'closed') reject(cutError(name))
      })
      this.#sessions.add(session)
      const turn = this.#disk.claim(session.claim)
      if (turn === true) {
        resolve(session)
      } else if (turn === undefined) {
        session.endAs('ended')
        reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${name}: too many transactions wait for the memory store`, context: { transaction: name, local: true } }))
      } else {
        signal?.addEventListener('abort', cancelled, { once: true })
      }
    })
  }

  ping(): Promise<void> {
    return this.#dead ? never() : Promise.resolve()
  }

  close(): Promise<void> {
    this.#cutAll('closed')
    return Promise.resolve()
  }

  abandon(): void {
    this.#dead = true
    this.#cutAll('dead')
  }

  /** Last come first, so that the turn of one that is cut never passes to another that is about to be. */
  #cutAll(state: 'closed' | 'dead'): void {
    for (const session of [...this.#sessions].reverse()) session.endAs(state)
  }
}

/** Of a session: open; over; cut because the store was closed; or its process is dead. */
type State = 'open' | 'ended' | 'closed' | 'dead'

class MemorySession implements Session<MemoryTx> {
  readonly claim: Claim
  readonly tx: MemoryTx
  readonly #name: string
  readonly #disk: Disk
  readonly #views = new Map<string, TableView<unknown>>()
  readonly #end: () => void
  state: State = 'open'

  constructor(name: string, disk: Disk, env: Pick<Env, 'now'>, claim: Claim, end: () => void) {
    this.#name = name
    this.#disk = disk
    this.claim = claim
    this.#end = end
    const check = (): void => { this.#check() }
    this.tx = {
      table: <Row>(table: string): MemoryTable<Row> => {
        check()
        let view = this.#views.get(table)
        if (view === undefined) {
          view = new TableView<unknown>(table, disk.table(table), check)
          this.#views.set(table, view)
        }
        // The table's name stands for its row type, as a table of a database does.
        return view as MemoryTable<unknown> as MemoryTable<Row>
      },
      sequence: sequence => {
        check()
        const next = (disk.sequences.get(sequence) ?? 0) + 1
        disk.sequences.set(sequence, next)
        return next
      },
      now: () => env.now(),
    }
  }

  commit(): Promise<void> {
    if (this.state === 'dead') return never()
    if (this.state === 'closed') return Promise.reject(cutError(this.#name))
    for (const view of this.#views.values()) view.apply()
    this.#disk.commits++
    this.#finish('ended')
    return Promise.resolve()
  }

  rollback(): Promise<void> {
    if (this.state === 'dead') return never()
    this.#finish('ended')
    return Promise.resolve()
  }

  endAs(state: Exclude<State, 'open'>): void {
    this.#finish(state)
  }

  #finish(state: Exclude<State, 'open'>): void {
    if (this.state !== 'open') return
    this.state = state
    this.#end()
  }

  #check(): void {
    if (this.state === 'open') return
    throw this.state === 'ended'
      ? new HoldfastError('HF_QUERY_FAILED', { message: `transaction ${this.#name} has ended; its tx cannot be used any more`, context: { transaction: this.#name } })
      : cutError(this.#name)
  }
}

function cutError(name: string): HoldfastError {
  return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${name} was cut and rolled back: the store was closed`, context: { transaction: name, local: true } })
}
