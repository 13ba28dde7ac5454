/**
 * @module holdfast/embedded
 * A PostgreSQL inside this process (PGlite), in a directory: the default for one instance on one machine.
 *
 * ```ts
 * import { createHoldfast } from 'holdfast'
 * import { embedded } from 'holdfast/embedded'
 *
 * const hold = createHoldfast({ service: 'vpn-bot', store: embedded('./data', { singleInstance: true }) })
 * ```
 * What was committed survives the death of the process at any moment (kill -9), and a power failure or a crash of the operating
 * system: every commit is flushed to the disk, which PGlite by itself never does. For more than one instance use `postgres`.
 * Needs the package `@electric-sql/pglite` (an optional peer dependency).
 */
import { resolve } from 'node:path'
import { durationMs, HoldfastError, messageOf, type Duration } from '../../core/index.ts'
import { openDatabase } from '../transaction.ts'
import type { Database, Durability, OpenOptions, SqlTx, Store } from '../port.ts'
import { damaged, databaseDir, inspectDirectory, makeDirectory, placeFailure, placeFailureInWords } from './directory.ts'
import { EmbeddedDriver } from './driver.ts'
import type { DatabaseEnded } from './fail-stop.ts'
import { lockDirectory } from './lock.ts'
import { holeIn, openPglite, type Flush } from './pglite.ts'
import { checkKeep, Snapshots } from './snapshot.ts'
import { unpack } from './tar.ts'
import { withClient, type TxAdapter } from '../user-tx.ts'
import { readTemplate } from './template.ts'

export { migrate, type Migration, type MigrationReport } from '../migrations.ts'
export { restoreSnapshot, type Restored, type RestoreOptions } from './restore.ts'
export type { TxAdapter } from '../user-tx.ts'
export type { Database, Durability, Snapshot, SqlTx, Store, TransactionOptions } from '../port.ts'

const DURABILITY: Readonly<Record<Flush, Durability>> = Object.freeze({
  commit: Object.freeze({ processCrash: true, powerLoss: true, severalInstances: false }),
  os: Object.freeze({ processCrash: true, powerLoss: false, severalInstances: false }),
})

export interface EmbeddedOptions<UserTx = SqlTx> {
  /**
   * Makes `tx` the client that you write SQL with: `kysely(db)` of holdfast/kysely, `drizzle(make)` of holdfast/drizzle, or `pg()` of
   * holdfast/pg. Default: `tx.query(sql, params)`, see SqlTx. Nothing else reaches this database, so there is nothing to join but these.
   */
  readonly tx?: TxAdapter<UserTx>
  /** Says that this directory is used by one process only. A second one is refused (HF_STORE_LOCKED). */
  readonly singleInstance: true
  /**
   * `commit` (default): a commit is answered when it is on the disk, one flush each. `os`: when the operating system has it; a
   * power failure may then lose commits that were answered, and with them the whole directory, because nothing keeps the order
   * in which data and log reach the disk. Health shows which it is. Measured (./power-loss.test.ts): `commit` loses nothing.
   */
  readonly flush?: Flush
  /**
   * Snapshots (`holdfast snapshot`, or `every` so often by themselves, from `1m` on) are kept in `<dir>/snapshots`, the newest `keep` of
   * them (1 to 1000). Default: none by themselves, the last 7 are kept.
   */
  readonly snapshots?: { readonly every?: Duration; readonly keep?: number }
  /** How long a transaction may hold the one connection before it is rolled back. Default 1 s; `TransactionOptions.timeout` overrides it for one. */
  readonly transactionTimeout?: Duration
  /** How long a transaction waits for its turn. Default 10 s. */
  readonly acquireTimeout?: Duration
}

export const EMBEDDED_DEFAULTS: Required<Omit<EmbeddedOptions, 'singleInstance' | 'tx'>> = Object.freeze({ flush: 'commit', snapshots: Object.freeze({ keep: 7 }), transactionTimeout: '1s', acquireTimeout: '10s' })

/**
 * A store in `dir` (made where it is missing). No I/O before `open`, which says what it does by `app.progress`: about two seconds for a new
 * directory and one for an existing one; without the prebuilt template 5 to 12 s, in which the process answers nothing.
 * @throws HF_OPTION_INVALID; `open` throws HF_STORE_LOCKED (open elsewhere, with the pid), HF_STORE_DIRECTORY (not writable, full, no directory) and HF_STORE_DAMAGED
 */
export function embedded(dir: string, options: Omit<EmbeddedOptions, 'tx'>): Store
/** The same, with `tx` of the user's own client. */
export function embedded<UserTx extends object>(dir: string, options: EmbeddedOptions<UserTx> & { readonly tx: TxAdapter<UserTx> }): Store<UserTx>
export function embedded<UserTx extends object>(dir: string, options: EmbeddedOptions<UserTx>): Store | Store<UserTx> {
  const store = embeddedStore(dir, options)
  return options.tx === undefined ? store : withClient(store, options.tx)
}

function embeddedStore(dir: string, options: Omit<EmbeddedOptions<never>, 'tx'>): Store {
  const given = { ...EMBEDDED_DEFAULTS, ...options }
  // Types cannot stop a program in JavaScript.
  if ((options as { readonly singleInstance?: unknown } | undefined)?.singleInstance !== true) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `embedded: expected { singleInstance: true }: one process only may use ${dir}; several instances need postgres(url)` })
  }
  if (!Object.hasOwn(DURABILITY, given.flush)) throw new HoldfastError('HF_OPTION_INVALID', { message: `embedded: flush: expected 'commit' or 'os', got ${JSON.stringify(given.flush)}` })
  const durability = DURABILITY[given.flush]
  const { every, keep = EMBEDDED_DEFAULTS.snapshots.keep ?? 7 } = given.snapshots
  const snapshots = { keep: checkKeep(keep), everyMs: every === undefined ? undefined : durationMs(every, 'embedded: snapshots.every', { min: 60_000 }) }
  const transactionTimeoutMs = durationMs(given.transactionTimeout, 'embedded: transactionTimeout')
  const acquireTimeoutMs = durationMs(given.acquireTimeout, 'embedded: acquireTimeout')
  return {
    kind: 'store',
    name: `embedded ${dir}`,
    durability,
    open: async (openOptions: OpenOptions): Promise<Database<SqlTx>> => {
      const { env, events } = openOptions
      const path = resolve(dir)
      let driver: EmbeddedDriver | undefined
      const lost = new HoldfastError('HF_STORE_LOCKED', { message: `the data directory ${path} was taken over by another process while this one stood still; this one must be started again`, context: { dir: path } })
      const lock = await lockDirectory(path, env, () => { driver?.disable(lost) }).catch((error: unknown) => { throw placeFailure(path, error) })
      try {
        const ended = (error: DatabaseEnded): void => { driver?.disable(endedFor(path, error)) }
        const { pglite, files } = await openDirectory(path, given.flush, openOptions, ended)
        const opened: EmbeddedDriver = new EmbeddedDriver({ pglite, files, durability, env, transactionTimeoutMs, acquireTimeoutMs, beforeClose: () => taken.stop(), onClosed: () => lock.release() })
        driver = opened
        const taken: Snapshots = new Snapshots({ dir: path, ...snapshots, env, events, pglite, inOwnTurn: (name, work) => opened.inOwnTurn(name, work) })
        return Object.assign(openDatabase(opened, { env, events }), { snapshot: () => taken.take() })
      } catch (error) {
        await lock.release().catch(() => undefined)
        throw placeFailure(path, error)
      }
    },
  }
}

/** The log of what was committed is whole as far as it was acknowledged; the next start replays it. */
function endedFor(dir: string, error: DatabaseEnded): HoldfastError {
  return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `${error.message}; nothing that was acknowledged is lost: see to the disk under ${dir}, then start this process again`, context: { dir } })
}

async function openDirectory(dir: string, flush: Flush, { events }: OpenOptions, onEnded: (error: DatabaseEnded) => void): ReturnType<typeof openPglite> {
  const progress = (message: string): void => { events.emit('app.progress', { message }) }
  const found = await inspectDirectory(dir)
  if (found.state === 'damaged') throw damaged(dir, found.reason)
  if (found.state === 'new') {
    const template = await readTemplate()
    progress(template === undefined ? `making a new database in ${dir}; this takes up to 12 seconds, once` : `making a new database in ${dir}`)
    await makeDirectory(dir, flush === 'commit', async draft => {
      if (template === undefined) await (await openPglite({ dir: draft })).pglite.close()
      else await unpack(template, draft)
    })
  }
  progress(`opening the database in ${dir}`)
  const exitCode = process.exitCode
  try {
    const opened = await openPglite({ dir: databaseDir(dir), flush, onEnded })
    const hole = await holeIn(opened.pglite)
    if (hole === undefined) return opened
    await opened.files?.closeFs()
    throw damaged(dir, hole)
  } catch (error) {
    // The WebAssembly runtime takes PostgreSQL's exit for the process's own.
    process.exitCode = exitCode
    if (error instanceof HoldfastError) throw error
    const place = placeFailureInWords(dir, messageOf(error))
    if (place !== undefined) throw place
    if (error instanceof RangeError) throw new HoldfastError('HF_STORE_UNAVAILABLE', { message: `the embedded database cannot be started: ${messageOf(error)}`, cause: error })
    throw damaged(dir, `PostgreSQL does not start on it (${messageOf(error)})`)
  }
}
