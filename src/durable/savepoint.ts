/**
 * Work inside somebody else's transaction that can fail without spoiling it.
 *
 * `sql`: a savepoint. `memory`: an overlay over the open transaction's tables, written through when the work succeeds.
 */
import type { Database, MemoryTable, MemoryTx, SqlTx } from '../store/index.ts'

/** One name is enough: PostgreSQL stacks savepoints of the same name, and ROLLBACK TO and RELEASE mean the innermost. */
const NAME = 'holdfast_inner'

/** Runs `work` so that, when it throws, the transaction is as it was before, and goes on. The error passes. */
export async function inSavepoint<Tx, T>(database: Pick<Database<Tx>, 'dialect' | 'sqlOf' | 'savepoint'>, tx: Tx, work: (tx: Tx) => Promise<T>): Promise<T> {
  if (database.savepoint !== undefined) return database.savepoint(tx, work)
  // `dialect` says which of the two a Tx is (see bodyFor in the store's port).
  return database.dialect === 'sql'
    ? sqlSavepoint(asSql(database, tx), () => work(tx))
    : memorySavepoint(tx as MemoryTx, inner => work(inner as Tx))
}

/**
 * Bounds the waits for row locks within `work`, and puts the bound back that the transaction had.
 * Where `work` throws, the savepoint around it puts it back. Does nothing in the memory dialect, where nobody waits inside a transaction.
 */
export async function withLockTimeout<Tx, T>(database: Pick<Database<Tx>, 'dialect' | 'sqlOf'>, tx: Tx, ms: number, work: () => Promise<T>): Promise<T> {
  if (database.dialect !== 'sql') return work()
  const sql = asSql(database, tx)
  const rows = await sql.query<{ before: string }>(`SELECT current_setting('lock_timeout') AS before, set_config('lock_timeout', $1, true)`, [`${String(ms)}ms`])
  const value = await work()
  await sql.query(`SELECT set_config('lock_timeout', $1, true)`, [rows[0]?.before ?? '0'])
  return value
}

function asSql<Tx>(database: Pick<Database<Tx>, 'sqlOf'>, tx: Tx): SqlTx {
  return database.sqlOf?.(tx) ?? tx as SqlTx
}

async function sqlSavepoint<T>(tx: SqlTx, work: () => Promise<T>): Promise<T> {
  await tx.query(`SAVEPOINT ${NAME}`)
  let value: T
  try {
    value = await work()
  } catch (error) {
    await tx.query(`ROLLBACK TO SAVEPOINT ${NAME}`)
    await tx.query(`RELEASE SAVEPOINT ${NAME}`)
    throw error
  }
  await tx.query(`RELEASE SAVEPOINT ${NAME}`)
  return value
}

async function memorySavepoint<T>(tx: MemoryTx, work: (tx: MemoryTx) => Promise<T>): Promise<T> {
  const overlays = new Map<string, Overlay<unknown>>()
  const inner: MemoryTx = {
    table: <Row>(name: string): MemoryTable<Row> => {
      let overlay = overlays.get(name)
      if (overlay === undefined) {
        overlay = new Overlay<unknown>(tx.table<unknown>(name))
        overlays.set(name, overlay)
      }
      // The table's name stands for its row type, as in the store itself.
      return overlay as MemoryTable<unknown> as MemoryTable<Row>
    },
    sequence: name => tx.sequence(name),
    now: () => tx.now(),
  }
  const value = await work(inner)
  for (const overlay of overlays.values()) overlay.apply()
  return value
}

class Overlay<Row> implements MemoryTable<Row> {
  readonly #below: MemoryTable<Row>
  /** `undefined` is a deleted key. */
  readonly #changes = new Map<string, { readonly row: Row } | undefined>()

  constructor(below: MemoryTable<Row>) {
    this.#below = below
  }

  get(key: string): Row | undefined {
    if (!this.#changes.has(key)) return this.#below.get(key)
    return structuredClone(this.#changes.get(key)?.row)
  }

  set(key: string, row: Row): void {
    this.#changes.set(key, { row: structuredClone(row) })
  }

  delete(key: string): boolean {
    const existed = this.get(key) !== undefined
    this.#changes.set(key, undefined)
    return existed
  }

  *entries(): IterableIterator<readonly [string, Row]> {
    const seen = new Set<string>()
    for (const [key, row] of this.#below.entries()) {
      seen.add(key)
      if (!this.#changes.has(key)) yield [key, row]
      else {
        const change = this.#changes.get(key)
        if (change !== undefined) yield [key, structuredClone(change.row)]
      }
    }
    for (const [key, change] of [...this.#changes]) if (!seen.has(key) && change !== undefined) yield [key, structuredClone(change.row)]
  }

  get size(): number {
    return [...this.entries()].length
  }

  apply(): void {
    for (const [key, change] of this.#changes) {
      if (change === undefined) this.#below.delete(key)
      else this.#below.set(key, change.row)
    }
  }
}
