/**
 * Takes a snapshot back, offline: into an empty directory, or in place of a database that is kept aside.
 *
 * First the snapshot is unpacked beside, opened by PostgreSQL and read to the last page; only what passes gets the database's
 * name. Whatever is wrong with it, and wherever the process dies, what was there is still there.
 */
import { readFile, readdir, rename, rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { HoldfastError, isHoldfastError, messageOf, type Env } from '../../core/index.ts'
import { databaseDir, inspectDirectory, isEmpty, placeFailure } from './directory.ts'
import { flushPathTo, flushTree } from './files.ts'
import { lockDirectory } from './lock.ts'
import { holeIn, openPglite } from './pglite.ts'
import { LABEL, type Label } from './snapshot.ts'
import { unpack } from './tar.ts'

export interface RestoreOptions {
  readonly env: Env
  /** A database that is there is kept aside instead of refused. Default false. */
  readonly replace?: boolean
}

export interface Restored {
  readonly takenAt: string
  readonly tables: number
  readonly rows: number
  /** Where the database that was there is now. */
  readonly keptAside?: string
}

/**
 * The database of the snapshot `file` becomes that of `dir`; no service may be running on it.
 * @throws HF_SNAPSHOT_INVALID, HF_STORE_LOCKED, HF_STORE_DIRECTORY, HF_OPTION_INVALID where a database is there and `replace` is not given; nothing was changed then
 */
export async function restoreSnapshot(file: string, dir: string, { env, replace = false }: RestoreOptions): Promise<Restored> {
  const path = resolve(dir)
  const archive = await readFile(file).catch((error: unknown) => { throw invalid(file, `it cannot be read (${messageOf(error)})`) })
  const lock = await lockDirectory(path, env, () => undefined).catch((error: unknown) => { throw placeFailure(path, error) })
  const draft = `${databaseDir(path)}.new`
  try {
    const occupied = !(await isEmpty(path))
    if (occupied && !replace) throw new HoldfastError('HF_OPTION_INVALID', { message: `${path} holds a database already; give --replace to put the snapshot in its place and keep it aside, or restore to another directory`, context: { dir: path } })
    await rm(draft, { recursive: true, force: true })
    const { takenAt, tables, rows } = await makeFrom(file, archive, draft)
    await flushTree(draft)
    const keptAside = occupied ? `${databaseDir(path)}.replaced-${new Date(env.now()).toISOString().replaceAll(':', '-')}` : undefined
    // Between the two nothing has the name: a start then finds the draft and says that a restore was interrupted (./directory.ts).
    if (keptAside !== undefined) await rename(databaseDir(path), keptAside)
    else await rm(databaseDir(path), { recursive: true, force: true })
    await rename(draft, databaseDir(path))
    flushPathTo(path)
    return { takenAt, tables, rows, ...(keptAside === undefined ? {} : { keptAside }) }
  } catch (error) {
    await rm(draft, { recursive: true, force: true }).catch(() => undefined)
    throw placeFailure(path, error)
  } finally {
    await lock.release()
  }
}

async function makeFrom(file: string, archive: Uint8Array, draft: string): Promise<{ readonly takenAt: string; readonly tables: number; readonly rows: number }> {
  let label: Label
  try {
    await unpack(archive, draft)
    label = JSON.parse(await readFile(join(draft, LABEL), 'utf8')) as Label
    await rm(join(draft, LABEL))
    const files = (await readdir(draft, { recursive: true, withFileTypes: true })).filter(entry => entry.isFile()).length
    if (label.format !== 1 || files !== label.files) throw new Error(`expected ${String(label.files)} files, found ${String(files)}`)
  } catch (error) {
    // A disk that is full is no fault of the snapshot.
    if (isHoldfastError(placeFailure(draft, error)) && (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw invalid(file, messageOf(error))
  }
  return { takenAt: label.takenAt, ...await readAll(file, draft) }
}

/** Opens it and reads every page of every table and index: their checksums are on. */
async function readAll(file: string, draft: string): Promise<{ readonly tables: number; readonly rows: number }> {
  const found = await inspectDirectory(draft, draft)
  if (found.state !== 'ready') throw invalid(file, found.state === 'new' ? 'it holds no database' : found.reason)
  const exitCode = process.exitCode
  try {
    const { pglite } = await openPglite({ dir: draft, flush: 'commit' })
    const hole = await holeIn(pglite)
    if (hole !== undefined) throw new Error(hole)
    const { rows: tables } = await pglite.query<{ readonly name: string; readonly own: boolean }>(`SELECT oid::regclass::text AS name, relnamespace <> 'pg_catalog'::regnamespace AND relnamespace <> 'information_schema'::regnamespace AS own FROM pg_class WHERE relkind IN ('r', 'm')`)
    let rows = 0
    for (const { name, own } of tables) {
      const { rows: [counted] } = await pglite.query<{ readonly n: string }>(`SELECT count(*) AS n FROM ${name}`)
      if (own) rows += Number(counted?.n ?? 0)
    }
    await pglite.close()
    return { tables: tables.filter(each => each.own).length, rows }
  } catch (error) {
    // The WebAssembly runtime takes PostgreSQL's exit for the process's own.
    process.exitCode = exitCode
    throw invalid(file, `PostgreSQL does not accept it (${messageOf(error)})`)
  }
}

function invalid(file: string, reason: string): HoldfastError {
  return new HoldfastError('HF_SNAPSHOT_INVALID', { message: `${file} is no snapshot that can be restored: ${reason}; nothing was changed`, context: { file } })
}
