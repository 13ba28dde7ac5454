/**
 * How PGlite is opened: small, silent, flushed to the disk, and with the same types as the driver of a PostgreSQL server.
 */
import { PGlite, types, type PGliteOptions } from '@electric-sql/pglite'
import { messageOf } from '../../core/index.ts'
import { failStop, type DatabaseEnded } from './fail-stop.ts'
import { DatabaseFiles } from './files.ts'

/** Measured: 292 MB resident with PostgreSQL's defaults, 153 MB with these; a control store has little to cache. */
const SMALL = ['-c', 'shared_buffers=4MB', '-c', 'max_wal_size=64MB', '-c', 'min_wal_size=32MB', '-c', 'wal_buffers=1MB', '-c', 'maintenance_work_mem=16MB']
/** The flag by which PGlite tells PostgreSQL never to ask for a flush. */
const NEVER_FLUSH = '-F'

/** `commit`: a commit is answered when it is on the disk. `os`: when the operating system has it. */
export type Flush = 'commit' | 'os'

export interface OpenedPglite {
  readonly pglite: PGlite
  /** Absent in memory. */
  readonly files?: DatabaseFiles
}

export interface OpenPgliteOptions {
  /** Without it the database lives in memory. */
  readonly dir?: string
  readonly flush?: Flush
  readonly template?: Uint8Array<ArrayBuffer> | undefined
  /** PostgreSQL gave up; the database answers nothing any more. */
  readonly onEnded?: (error: DatabaseEnded) => void
}

/**
 * Resolves when it is ready.
 * @throws Error with PostgreSQL's last words where it does not start
 */
export async function openPglite({ dir, flush = 'os', template, onEnded }: OpenPgliteOptions): Promise<OpenedPglite> {
  const lastWords = new LastWords()
  const flushing = flush === 'commit'
  const given: PGliteOptions = {
    startParams: [...PGlite.defaultStartParams.filter(param => !flushing || param !== NEVER_FLUSH), ...SMALL,
      // PGlite drops fdatasync and passes on fsync.
      ...(flushing ? ['-c', 'fsync=on', '-c', 'wal_sync_method=fsync'] : [])],
    // bigint as text, as in every other client of PostgreSQL: a number would round, a BigInt is no JSON.
    parsers: { [types.INT8]: text => text },
    onStderr: text => lastWords.hear(text),
    ...(template === undefined ? {} : { loadDataDir: new Blob([template], { type: 'application/x-gzip' }) }),
  }
  const files = dir === undefined ? undefined : new DatabaseFiles(dir, { flush: flushing, onFlushFailed: error => { lastWords.keep(`a write could not be flushed to the disk (${messageOf(error)})`) } })
  try {
    const pglite = await PGlite.create(files === undefined ? { ...given, dataDir: 'memory://' } : { ...given, fs: files })
    failStop(pglite, () => lastWords.said, error => { onEnded?.(error) })
    return { pglite, ...(files === undefined ? {} : { files }) }
  } catch (error) {
    throw lastWords.said === undefined ? error : new Error(lastWords.said, { cause: error })
  }
}

/** What PostgreSQL said before it gave up: PGlite keeps only that it did. */
class LastWords {
  #said: string | undefined
  #detail = ''
  #kept = false

  get said(): string | undefined {
    return this.#said === undefined || this.#detail === '' ? this.#said : `${this.#said}: ${this.#detail}`
  }

  /** False: PGlite need not print it. */
  hear(line: string): false {
    const [, kind, message] = /\b(PANIC|FATAL|DETAIL):\s+(.*)/.exec(line) ?? []
    if (message === undefined || this.#kept) return false
    if (kind === 'DETAIL') this.#detail = message
    else [this.#said, this.#detail] = [message, '']
    return false
  }

  /** Nothing said later is a better reason. */
  keep(reason: string): void {
    this.#said ??= reason
    this.#kept = true
  }
}

/**
 * A file of a table or an index that is missing or was cut to nothing, which PostgreSQL takes for an empty one. An index has at least one page;
 * a table that once had rows and is empty now was cut short by TRUNCATE or VACUUM, which say so in the catalog.
 */
export async function holeIn(pglite: PGlite): Promise<string | undefined> {
  const { rows: [hole] } = await pglite.query<{ readonly name: string; readonly path: string }>(`
    SELECT oid::regclass::text AS name, pg_relation_filepath(oid) AS path FROM pg_class
     WHERE relpersistence = 'p' AND pg_relation_size(oid) = 0 AND (relkind = 'i' OR (relkind IN ('r', 't', 'm') AND relpages > 0)) ORDER BY 1 LIMIT 1`)
  return hole === undefined ? undefined : `${hole.path}, the file of ${hole.name}, is missing or empty`
}
