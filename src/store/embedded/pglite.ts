/**
 * How PGlite is opened: small, silent, and with the same types as the driver of a PostgreSQL server.
 */
import { PGlite, types, type PGliteOptions } from '@electric-sql/pglite'

/** Measured: 292 MB resident with PostgreSQL's defaults, 153 MB with these; a control store has little to cache. */
const SMALL = ['-c', 'shared_buffers=4MB', '-c', 'max_wal_size=64MB', '-c', 'min_wal_size=32MB', '-c', 'wal_buffers=1MB', '-c', 'maintenance_work_mem=16MB']

/** Resolves when it is ready. Without `dir` it lives in memory. */
export async function openPglite(options: { readonly dir?: string; readonly template?: Uint8Array<ArrayBuffer> | undefined }): Promise<PGlite> {
  const given: PGliteOptions = {
    startParams: [...PGlite.defaultStartParams, ...SMALL],
    // bigint as text, as in every other client of PostgreSQL: a number would round, a BigInt is no JSON.
    parsers: { [types.INT8]: text => text },
    ...(options.template === undefined ? {} : { loadDataDir: new Blob([options.template], { type: 'application/x-gzip' }) }),
  }
  return PGlite.create(options.dir ?? 'memory://', given)
}
