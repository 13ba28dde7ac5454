/**
 * A keyed table and one transaction's view of it.
 *
 * A transaction writes into an overlay over the committed rows; `apply()` moves the overlay in, and forgetting it is
 * the rollback. Rows are plain JSON and are copied on the way in and out, so that no reference crosses a commit.
 */
import { HoldfastError } from '../../core/index.ts'
import type { MemoryTable } from '../port.ts'

export type Rows = Map<string, unknown>

interface Change {
  readonly row: unknown
  readonly deleted: boolean
  /** Goes to the end of the insertion order: a new key, or one that was deleted before in this transaction. */
  readonly fresh: boolean
}

export class TableView<Row> implements MemoryTable<Row> {
  readonly #name: string
  readonly #base: Rows
  readonly #changes = new Map<string, Change>()
  readonly #check: () => void
  #size: number

  /** `check` throws when the transaction has ended. */
  constructor(name: string, base: Rows, check: () => void) {
    this.#name = name
    this.#base = base
    this.#check = check
    this.#size = base.size
  }

  get size(): number {
    this.#check()
    return this.#size
  }

  get(key: string): Row | undefined {
    this.#check()
    const change = this.#changes.get(key)
    return copyOut(change === undefined ? this.#base.get(key) : change.row) as Row | undefined
  }

  set(key: string, row: Row): void {
    this.#check()
    const copied = copyIn(row, this.#name, 0)
    const change = this.#changes.get(key)
    const inBase = this.#base.has(key)
    if (change === undefined ? !inBase : change.deleted) this.#size++
    // A Map keeps the position of a key that is set again; only deleting first moves it to the end.
    if (change?.deleted === true) this.#changes.delete(key)
    this.#changes.set(key, { row: copied, deleted: false, fresh: change === undefined ? !inBase : change.deleted || change.fresh })
  }

  delete(key: string): boolean {
    this.#check()
    const change = this.#changes.get(key)
    const inBase = this.#base.has(key)
    const existed = change === undefined ? inBase : !change.deleted
    if (!existed) return false
    this.#size--
    if (inBase) this.#changes.set(key, { row: undefined, deleted: true, fresh: false })
    else this.#changes.delete(key)
    return true
  }

  *entries(): IterableIterator<readonly [string, Row]> {
    this.#check()
    // The fresh keys are taken now, so that a loop which deletes and sets again meets every key once.
    const fresh = [...this.#changes].filter(([, change]) => change.fresh).map(([key]) => key)
    for (const [key, row] of this.#base) {
      const change = this.#changes.get(key)
      if (change === undefined) yield [key, copyOut(row) as Row]
      else if (!change.deleted && !change.fresh) yield [key, copyOut(change.row) as Row]
    }
    for (const key of fresh) {
      const change = this.#changes.get(key)
      if (change?.fresh === true) yield [key, copyOut(change.row) as Row]
    }
  }

  /** The commit. */
  apply(): void {
    for (const [key, change] of this.#changes) {
      if (change.deleted || change.fresh) this.#base.delete(key)
      if (!change.deleted) this.#base.set(key, change.row)
    }
  }
}

const DEPTH_MAX = 64

/** Ten times faster than structuredClone for small rows (measured), and refuses what would not survive as jsonb in the other dialect. */
function copyIn(value: unknown, table: string, depth: number): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) return value
  if (depth > DEPTH_MAX) throw refused(table, `a value nested deeper than ${String(DEPTH_MAX)} levels`)
  if (Array.isArray(value)) return value.map(item => copyIn(item, table, depth + 1))
  if (typeof value === 'object') {
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) throw refused(table, `an instance of ${value.constructor.name}`)
    const copy: Record<string, unknown> = {}
    for (const key of Object.keys(value)) {
      const item = (value as Record<string, unknown>)[key]
      if (item !== undefined) copy[key] = copyIn(item, table, depth + 1)
    }
    return copy
  }
  throw refused(table, typeof value === 'number' ? String(value) : `a value of type ${typeof value}`)
}

/** Committed rows were checked on their way in. */
function copyOut(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(copyOut)
  const copy: Record<string, unknown> = {}
  for (const key of Object.keys(value)) copy[key] = copyOut((value as Record<string, unknown>)[key])
  return copy
}

function refused(table: string, what: string): HoldfastError {
  return new HoldfastError('HF_RESULT_NOT_JSON', { message: `table ${table}: expected a row of plain JSON, got ${what}`, context: { table } })
}
