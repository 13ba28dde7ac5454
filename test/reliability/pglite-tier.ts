/**
 * The tier of simulated processes on real SQL: PGlite in memory, one database for all worlds of a file, emptied for each.
 *
 * Time is the world's: `clock_timestamp()` is a function of ours that answers with a setting, which each transaction is
 * given at its begin. Statements are real work that virtual time waits for. One connection: transactions of all processes
 * take turns, and the death of a process rolls back what it has open.
 */
import type { PGlite } from '@electric-sql/pglite'
import type { SqlTx, Store } from '../../src/store/index.ts'
import { openPglite } from '../../src/store/embedded/pglite.ts'
import { readTemplate } from '../../src/store/embedded/template.ts'
import { storeFailure } from '../../src/store/failure.ts'
import { openDatabase, type Driver, type Session } from '../../src/store/transaction.ts'
import type { SimulatedEnv, World } from '../../src/testing/index.ts'
import { prepareDatabase, writeRow, writtenRows } from './kill/timed-store.ts'
import type { Tier } from './play.ts'

/** Replaces a clause of a statement, for a control. */
export interface Rewrite {
  readonly from: string | RegExp
  readonly to: string
}

export interface PgliteTier extends Tier<SqlTx> {
  /** Statements are changed until it is given undefined. Answers how many were, since the last call. */
  rewrite(rewrite: Rewrite | undefined): number
  close(): Promise<void>
}

const DURABILITY = { processCrash: false, powerLoss: false, severalInstances: false }
/** Deleted rows are cleared away after so many worlds: PGlite does not do it by itself. */
const VACUUM_EVERY = 25

export async function pgliteTier(): Promise<PgliteTier> {
  const { pglite } = await openPglite({ template: await readTemplate() })
  const connection = new Connection(pglite)
  const prepared = await prepareDatabase(connection.store(() => true, undefined), () => Date.UTC(2026, 0, 1))
  await pglite.exec('SET search_path = sim, pg_catalog, public')
  const { rows } = await pglite.query<{ name: string }>(`SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'holdfast' AND tablename !~ 'migration' UNION ALL SELECT 'public.effect'`)
  const empty = rows.map(({ name }) => `DELETE FROM ${name}`).join('; ')
  let worlds = 0
  return {
    stallInside: false,
    open: async world => {
      connection.world = undefined
      await pglite.exec(empty)
      if (++worlds % VACUUM_EVERY === 0) await pglite.exec('VACUUM')
      connection.world = world
      return {
        dialect: 'sql',
        connect: () => {
          let dead = false
          const open = new Set<() => void>()
          return {
            store: connection.store(() => !dead, open),
            abandon: () => {
              dead = true
              for (const rollBack of [...open].reverse()) rollBack()
            },
          }
        },
        read: work => connection.read(work),
        write: writeRow,
        written: writtenRows,
      }
    },
    rewrite: rewrite => connection.use(rewrite),
    close: () => prepared.close(),
  }
}

/** The one connection, and whose turn it is. */
class Connection {
  readonly #pglite: PGlite
  /** Of the processes that are simulated now. */
  world: (() => World<SqlTx>) | undefined
  #turn: Promise<void> = Promise.resolve()
  #rewrite: Rewrite | undefined
  #rewritten = 0

  constructor(pglite: PGlite) {
    this.#pglite = pglite
  }

  use(rewrite: Rewrite | undefined): number {
    const rewritten = this.#rewritten
    this.#rewrite = rewrite
    this.#rewritten = 0
    return rewritten
  }

  store(alive: () => boolean, open: Set<() => void> | undefined): Store {
    const driver: Driver<SqlTx> = { dialect: 'sql', durability: DURABILITY, begin: name => this.#begin(name, alive, open), ping: async () => undefined, close: () => this.#pglite.close() }
    return { kind: 'store', name: 'pglite in memory', durability: DURABILITY, open: async options => openDatabase(driver, options) }
  }

  /** By a judge, who is no process: nothing of it is simulated. */
  async read<T>(work: (tx: SqlTx) => Promise<T>): Promise<T> {
    const session = await this.#begin('judge.read', () => true, undefined)
    try {
      return await work(session.tx)
    } finally {
      await session.rollback()
    }
  }

  async #begin(name: string, alive: () => boolean, open: Set<() => void> | undefined): Promise<Session<SqlTx>> {
    const leave = await this.#enter()
    // It died while it waited.
    if (!alive()) {
      leave()
      return never()
    }
    let ended = false
    const end = async (statement: 'COMMIT' | 'ROLLBACK'): Promise<string | undefined> => {
      if (ended) return undefined
      ended = true
      open?.delete(rollBack)
      try {
        return (await this.#busy(this.#pglite.exec(statement)))[0]?.command
      } finally {
        leave()
      }
    }
    const rollBack = (): void => { void end('ROLLBACK') }
    open?.add(rollBack)
    await this.#busy(this.#pglite.exec(`BEGIN; SET LOCAL sim.now_ms = '${String(this.#nowMs())}'`))
    return {
      tx: { query: async (sql, params) => alive() && !ended ? this.#query(name, sql, params, alive) : never() },
      commit: async () => {
        if (!alive()) return never()
        let command: string | undefined
        try {
          command = await end('COMMIT')
        } catch (error) {
          throw storeFailure(name, 'commit', error)
        }
        if (!alive()) return never()
        if (command !== 'COMMIT') throw storeFailure(name, 'commit', new Error(`the transaction ended by ${command ?? 'nothing'}`))
      },
      rollback: async () => {
        await end('ROLLBACK')
        if (!alive()) await never()
      },
    }
  }

  async #query<Row>(name: string, sql: string, params: readonly unknown[] = [], alive: () => boolean): Promise<readonly Row[]> {
    const text = this.#rewrite === undefined ? sql : this.#changed(sql, this.#rewrite)
    try {
      const rows = params.length > 0
        ? (await this.#busy(this.#pglite.query<Row>(text, params.map(value => value === undefined ? null : value)))).rows
        : ((await this.#busy(this.#pglite.exec(text))).findLast(result => result.fields.length > 0)?.rows ?? []) as Row[]
      return alive() ? rows : await never()
    } catch (error) {
      throw storeFailure(name, 'query', error)
    }
  }

  #changed(sql: string, { from, to }: Rewrite): string {
    const text = sql.replace(from, to)
    if (text !== sql) this.#rewritten += 1
    return text
  }

  async #enter(): Promise<() => void> {
    let leave = (): void => undefined
    const before = this.#turn
    this.#turn = new Promise(resolve => { leave = resolve })
    await before
    return leave
  }

  #nowMs(): number {
    return this.world === undefined ? Date.UTC(2026, 0, 1) : this.#env(world => world.clock).now()
  }

  #env(of: (world: World<SqlTx>) => SimulatedEnv): SimulatedEnv {
    if (this.world === undefined) throw new Error('no world runs on this database now')
    return of(this.world())
  }

  #busy<T>(work: Promise<T>): Promise<T> {
    return this.world === undefined ? work : this.#env(world => world.env).busy(work)
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined)
}
