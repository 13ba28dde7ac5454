/**
 * Makes dist/embedded-template.tar.gz: an empty PostgreSQL data directory, as PGlite makes it.
 *
 * Making one takes PGlite 5 to 12 seconds and 0.8 GB of memory, during which the process answers nothing; unpacking this
 * takes a fraction of a second. The json beside it says for which PGlite it is: another version makes its own.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { PGlite } from '@electric-sql/pglite'

const dist = resolve(import.meta.dirname, '../dist')
const main = createRequire(import.meta.url).resolve('@electric-sql/pglite')
const { version } = JSON.parse(readFileSync(join(dirname(dirname(main)), 'package.json'), 'utf8'))

const database = await PGlite.create('memory://')
await database.exec('CHECKPOINT')
const dump = await database.dumpDataDir('none')
await database.close()

mkdirSync(dist, { recursive: true })
const target = join(dist, 'embedded-template.tar.gz')
// Renamed into place, so that an interrupted build leaves no half of a template.
writeFileSync(`${target}.part`, gzipSync(Buffer.from(await dump.arrayBuffer()), { level: 9 }))
renameSync(`${target}.part`, target)
writeFileSync(join(dist, 'embedded-template.json'), `${JSON.stringify({ pglite: version })}\n`)
