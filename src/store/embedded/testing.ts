/**
 * The embedded database in memory, for fast tests of SQL: same dialect, same driver, no directory, no lock. Not public.
 */
import type { Database, OpenOptions, SqlTx, Store } from '../port.ts'
import { openDatabase } from '../transaction.ts'
import { EmbeddedDriver } from './driver.ts'
import { openPglite } from './pglite.ts'
import { readTemplate } from './template.ts'

let template: Promise<Uint8Array<ArrayBuffer> | undefined> | undefined

/** Each `open` is a new, empty database. About a second with the prebuilt template (`node scripts/build-template.mjs`). */
export function pgliteMemory(options: { readonly transactionTimeoutMs?: number } = {}): Store {
  const durability = { processCrash: false, powerLoss: false, severalInstances: false }
  return {
    kind: 'store',
    name: 'pglite in memory',
    durability,
    open: async ({ env, events }: OpenOptions): Promise<Database<SqlTx>> => {
      template ??= templateOrDump()
      const { pglite } = await openPglite({ template: await template })
      const driver = new EmbeddedDriver({ pglite, durability, env, transactionTimeoutMs: options.transactionTimeoutMs ?? 1_000, acquireTimeoutMs: 10_000, onClosed: () => Promise.resolve() })
      return openDatabase(driver, { env, events })
    },
  }
}

/** Made once per process where none was built. */
async function templateOrDump(): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const built = await readTemplate()
  if (built !== undefined) return built
  const { pglite } = await openPglite({})
  const dump = await pglite.dumpDataDir('gzip')
  await pglite.close()
  return new Uint8Array(await dump.arrayBuffer())
}
