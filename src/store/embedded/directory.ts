/**
 * The data directory on disk: is it new, sound or damaged, and how a new one comes to be.
 *
 * A new one is made beside its place, flushed and renamed into it, so that a kill or a power failure at any moment leaves
 * either none or a whole one.
 * One that is there but cannot be right is refused and not touched: PGlite would make a new database over what is left.
 */
import { readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HoldfastError } from '../../core/index.ts'
import { flushPathTo, flushTree } from './files.ts'

/** Inside the directory that the user names, so that other files may live beside it. */
export function databaseDir(dir: string): string {
  return join(dir, 'postgres')
}

export type DirectoryState = { readonly state: 'new' } | { readonly state: 'ready' } | { readonly state: 'damaged'; readonly reason: string }

/** What every data directory of PostgreSQL has. */
const REQUIRED = ['global/pg_control', 'pg_wal', 'base', 'pg_xact']
/** The size of pg_control is fixed (PG_CONTROL_FILE_SIZE). */
const CONTROL_BYTES = 8_192

export async function inspectDirectory(dir: string, database: string = databaseDir(dir)): Promise<DirectoryState> {
  if (await namesIn(database) === 0) {
    const aside = (await readdir(dir)).filter(name => name.startsWith('postgres.replaced-')).sort().at(-1)
    return aside === undefined ? { state: 'new' } : { state: 'damaged', reason: `a restore was interrupted when it had put the former database aside as ${aside}` }
  }
  try {
    const version = (await readFile(join(database, 'PG_VERSION'), 'utf8')).trim()
    if (!/^\d+$/.test(version)) return { state: 'damaged', reason: 'PG_VERSION holds no version' }
    for (const name of REQUIRED) await stat(join(database, name))
    const control = await stat(join(database, 'global/pg_control'))
    if (control.size !== CONTROL_BYTES) return { state: 'damaged', reason: `global/pg_control has ${String(control.size)} bytes instead of ${String(CONTROL_BYTES)}` }
    return { state: 'ready' }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return { state: 'damaged', reason: `${String((error as NodeJS.ErrnoException).path).slice(database.length + 1)} is missing` }
  }
}

/** Is there no database? */
export async function isEmpty(dir: string): Promise<boolean> {
  return await namesIn(databaseDir(dir)) === 0
}

async function namesIn(path: string): Promise<number> {
  try {
    return (await readdir(path)).length
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

/** Makes a new one with `fill`; what an earlier, killed attempt left is removed. Only called by who holds the lock. `flush`: it is on the disk when this resolves. */
export async function makeDirectory(dir: string, flush: boolean, fill: (draft: string) => Promise<void>): Promise<void> {
  const draft = `${databaseDir(dir)}.new`
  await rm(draft, { recursive: true, force: true })
  await fill(draft)
  if (flush) await flushTree(draft)
  await rm(databaseDir(dir), { recursive: true, force: true })
  await rename(draft, databaseDir(dir))
  if (flush) flushPathTo(dir)
}

export function damaged(dir: string, reason: string): HoldfastError {
  return new HoldfastError('HF_STORE_DAMAGED', { message: `the data directory ${dir} cannot be opened: ${reason}; restore a snapshot of it (holdfast restore FILE --to ${dir} --replace), or use another directory`, context: { dir } })
}

/** What the place is like, and not what is in it. */
const PLACE: Readonly<Record<string, string>> = {
  EACCES: 'this user may not write there', EPERM: 'this user may not write there', EROFS: 'it is on a file system that is mounted read-only', ENOSPC: 'its disk is full', EDQUOT: 'the quota of its disk is used up',
  ENOTDIR: 'something on the way to it is a file', EEXIST: 'it is a file and no directory', EIO: 'its disk fails to read or write',
}

/** The same failure in our words, where the place is at fault; anything else passes. */
export function placeFailure(dir: string, error: unknown): unknown {
  const code = error instanceof Error && !(error instanceof HoldfastError) ? (error as NodeJS.ErrnoException).code : undefined
  const why = code === undefined ? undefined : PLACE[code]
  return why === undefined ? error : unusable(dir, why, error)
}

/** PostgreSQL's own words for it. */
export function placeFailureInWords(dir: string, words: string): HoldfastError | undefined {
  const code = /No space left/.test(words) ? 'ENOSPC' : /Read-only file system/.test(words) ? 'EROFS' : /Permission denied/.test(words) ? 'EACCES' : /I\/O error/.test(words) ? 'EIO' : undefined
  return code === undefined ? undefined : unusable(dir, PLACE[code] ?? words)
}

function unusable(dir: string, why: string, cause?: unknown): HoldfastError {
  return new HoldfastError('HF_STORE_DIRECTORY', { message: `the data directory ${dir} cannot be used: ${why}; nothing was changed`, cause, context: { dir } })
}
