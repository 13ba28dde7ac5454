/**
 * A snapshot: everything in the database at one moment, as one file, taken while the service runs.
 *
 * In a turn of its own the data is written out (CHECKPOINT) and its files are copied beside; nothing else runs meanwhile, so the
 * copy is of one moment. Packing it happens outside the turn. The file gets its name when it is on the disk, so whatever
 * has the name is whole; the oldest beyond `keep` are removed after that.
 * Not here: taking one back (./restore.ts).
 */
import { copyFile, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { PGlite } from '@electric-sql/pglite'
import { HoldfastError, messageOf, type Env, type EventBus, type Timer } from '../../core/index.ts'
import type { Snapshot } from '../port.ts'
import { databaseDir, placeFailure } from './directory.ts'
import { flushDirectory } from './files.ts'
import { pack } from './tar.ts'

/** Beside the database, in the directory that the user names. */
function snapshotsDir(dir: string): string {
  return join(dir, 'snapshots')
}

/** The first entry of a snapshot's archive: what it is. */
export const LABEL = 'holdfast-snapshot.json'

export interface Label {
  readonly format: 1
  readonly takenAt: string
  readonly files: number
  readonly bytes: number
}

export interface SnapshotsOptions {
  readonly dir: string
  readonly keep: number
  readonly everyMs: number | undefined
  readonly env: Env
  readonly events: EventBus
  readonly pglite: PGlite
  /** Runs `work` while nothing else uses the database. */
  readonly inOwnTurn: <T>(name: string, work: () => Promise<T>) => Promise<T>
}

/** What a start makes anew, or must not find. */
const LEFT_OUT = new Set(['postmaster.pid', 'postmaster.opts'])
const COPIES_AT_ONCE = 16
const SUFFIX = '.tar.gz'

export class Snapshots {
  readonly #options: SnapshotsOptions
  #timer: Timer | undefined
  #stopped = false
  #taking: Promise<Snapshot> | undefined

  constructor(options: SnapshotsOptions) {
    this.#options = options
    this.#schedule()
  }

  /** One at a time: who comes while one is being taken gets that one. @throws HF_STORE_UNAVAILABLE, HF_STORE_DIRECTORY */
  take(): Promise<Snapshot> {
    this.#taking ??= this.#take().finally(() => { this.#taking = undefined })
    return this.#taking
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#taking?.catch(() => undefined)
  }

  #schedule(): void {
    const { everyMs, env } = this.#options
    if (everyMs === undefined || this.#stopped) return
    // What fails is announced, and tried again at its next time.
    this.#timer = env.timer(everyMs, () => { this.take().catch(() => undefined).finally(() => { this.#schedule() }) })
  }

  async #take(): Promise<Snapshot> {
    const { dir, keep, env, events, pglite, inOwnTurn } = this.#options
    const begunAt = env.monotonic()
    const target = snapshotsDir(dir)
    const copy = join(target, `.${env.uuid()}.copy`)
    try {
      await mkdir(copy, { recursive: true, mode: 0o700 })
      const bytes = await inOwnTurn('snapshot', async () => {
        await pglite.exec('CHECKPOINT')
        const { rows: [log] } = await pglite.query<LogRange>('SELECT pg_walfile_name(redo_lsn) AS first, pg_walfile_name(pg_current_wal_insert_lsn()) AS last FROM pg_control_checkpoint()')
        if (log === undefined) throw new HoldfastError('HF_INVARIANT', { message: 'PostgreSQL knows no checkpoint of its own' })
        return copyDatabase(databaseDir(dir), copy, log)
      })
      const takenAt = new Date(env.now()).toISOString()
      const label: Label = { format: 1, takenAt, files: bytes.length, bytes: bytes.reduce((sum, each) => sum + each, 0) }
      await writeFile(join(copy, LABEL), JSON.stringify(label), { mode: 0o600 })
      const file = join(target, `${takenAt.replaceAll(':', '-')}${SUFFIX}`)
      await pack(copy, `${file}.part`, LABEL)
      await rename(`${file}.part`, file)
      flushDirectory(target)
      const removed = await removeOldest(target, keep)
      const snapshot: Snapshot = { file, bytes: (await stat(file)).size, removed }
      events.emit('store.snapshot.taken', { ...snapshot, durationMs: env.monotonic() - begunAt })
      return snapshot
    } catch (error) {
      events.emit('store.snapshot.failed', { message: messageOf(error) })
      throw placeFailure(target, error)
    } finally {
      await rm(copy, { recursive: true, force: true }).catch(() => undefined)
    }
  }
}

/** The segments of the log that a start reads. The others are old, or old ones that are kept for use again. */
interface LogRange {
  readonly first: string
  readonly last: string
}

/** The sizes of what was copied. */
async function copyDatabase(from: string, to: string, log: LogRange): Promise<readonly number[]> {
  const entries = await readdir(from, { recursive: true, withFileTypes: true })
  const files: string[] = []
  for (const entry of entries) {
    const name = join(entry.parentPath, entry.name).slice(from.length + 1)
    if (entry.isDirectory()) await mkdir(join(to, name), { recursive: true, mode: 0o700 })
    else if (!LEFT_OUT.has(name) && !isOldLog(name, log)) files.push(name)
  }
  const sizes: number[] = []
  for (let at = 0; at < files.length; at += COPIES_AT_ONCE) {
    sizes.push(...await Promise.all(files.slice(at, at + COPIES_AT_ONCE).map(async name => {
      await copyFile(join(from, name), join(to, name))
      return (await stat(join(to, name))).size
    })))
  }
  return sizes
}

function isOldLog(name: string, { first, last }: LogRange): boolean {
  return dirname(name) === 'pg_wal' && /^[0-9A-F]{24}$/.test(basename(name)) && (basename(name) < first || basename(name) > last)
}

async function removeOldest(target: string, keep: number): Promise<number> {
  const names = (await readdir(target)).filter(name => name.endsWith(SUFFIX)).sort()
  const old = names.slice(0, Math.max(0, names.length - keep))
  for (const name of old) await rm(join(target, name), { force: true })
  // What a killed process left half made.
  for (const name of await readdir(target)) if (name.endsWith('.part')) await rm(join(target, name), { force: true })
  return old.length
}

/** @throws HF_OPTION_INVALID */
export function checkKeep(keep: number): number {
  if (!Number.isSafeInteger(keep) || keep < 1 || keep > 1_000) throw new HoldfastError('HF_OPTION_INVALID', { message: `embedded: snapshots.keep: expected a whole number from 1 to 1000, got ${String(keep)}` })
  return keep
}
