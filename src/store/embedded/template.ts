/**
 * The prebuilt data directory (scripts/build-template.mjs), if there is one for the PGlite that is installed.
 */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'

/** From `src/store/embedded` and from `dist/store/embedded` alike. */
const DIST = resolve(import.meta.dirname, '../../../dist')

/** Undefined: none was built, or it is for another version of PGlite. */
export async function readTemplate(dist: string = DIST): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    const main = createRequire(import.meta.url).resolve('@electric-sql/pglite')
    const [installed, built] = await Promise.all([readVersion(join(dirname(dirname(main)), 'package.json'), 'version'), readVersion(join(dist, 'embedded-template.json'), 'pglite')])
    return installed === built ? new Uint8Array(await readFile(join(dist, 'embedded-template.tar.gz'))) : undefined
  } catch {
    // Not built (a checkout where nothing was prepared): the slow way works too, and says so.
    return undefined
  }
}

async function readVersion(path: string, key: string): Promise<unknown> {
  return (JSON.parse(await readFile(path, 'utf8')) as Readonly<Record<string, unknown>>)[key]
}
