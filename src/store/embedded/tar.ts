/**
 * Packs and unpacks a data directory: a gzipped ustar archive of plain files and directories.
 *
 * Links, long names and anything else are refused rather than guessed at; nothing is written outside the target.
 */
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, open, readdir, stat, writeFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { createGzip, gunzip } from 'node:zlib'

const BLOCK = 512
/** An archive is unpacked in memory. A control store is a hundredth of this. */
const UNPACKED_BYTES_MAX = 2_000_000_000

/** Everything below `source`, the file called `first` at the beginning. `target` is on the disk when this resolves. */
export async function pack(source: string, target: string, first: string): Promise<void> {
  const output = createWriteStream(target, { mode: 0o600 })
  await pipeline(Readable.from(blocksOf(source, first)), createGzip({ level: 6 }), output)
  const file = await open(target, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

async function* blocksOf(source: string, first: string): AsyncGenerator<Uint8Array> {
  const entries = (await readdir(source, { recursive: true, withFileTypes: true })).map(entry => ({ name: join(entry.parentPath, entry.name).slice(source.length + 1), directory: entry.isDirectory() }))
  entries.sort((a, b) => Number(b.name === first) - Number(a.name === first) || (a.name < b.name ? -1 : 1))
  for (const { name, directory } of entries) {
    const size = directory ? 0 : (await stat(join(source, name))).size
    yield header(name, size, directory)
    if (directory) continue
    yield* createReadStream(join(source, name)) as AsyncIterable<Uint8Array>
    yield new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK)
  }
  yield new Uint8Array(2 * BLOCK)
}

function header(name: string, size: number, directory: boolean): Uint8Array {
  const block = Buffer.alloc(BLOCK)
  if (Buffer.byteLength(name) > 100) throw new Error(`the name ${name} is too long for an archive`)
  block.write(name, 0)
  block.write(directory ? '0000700\0' : '0000600\0', 100)
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124)
  block.write(directory ? '5' : '0', 156)
  block.write('ustar\u000000', 257)
  // The sum is over the header with blanks in its own place.
  block.write('        ', 148)
  block.write(`${block.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

/** @throws Error for what is no such archive, or is not whole */
export async function unpack(archive: Uint8Array, target: string): Promise<void> {
  const tar = await promisify(gunzip)(archive, { maxOutputLength: UNPACKED_BYTES_MAX })
  let ended = false
  for (let at = 0; at + BLOCK <= tar.length;) {
    const block = tar.subarray(at, at + BLOCK)
    // Two empty blocks end an archive.
    if (block[0] === 0) {
      ended = true
      break
    }
    const name = normalize([text(block, 345, 155), text(block, 0, 100)].filter(part => part !== '').join('/')).replace(/^\/+/, '')
    const size = Number.parseInt(text(block, 124, 12), 8) || 0
    const type = text(block, 156, 1)
    if (name.startsWith('..')) throw new Error(`the archive holds a file outside of itself: ${name}`)
    const path = join(target, name)
    at += BLOCK
    if (at + size > tar.length) throw new Error(`the archive ends within ${name}`)
    if (type === '5') {
      await mkdir(path, { recursive: true, mode: 0o700 })
    } else if (type === '0' || type === '') {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await writeFile(path, tar.subarray(at, at + size), { mode: 0o600 })
    } else {
      throw new Error(`the archive holds something that is neither file nor directory: ${name}`)
    }
    at += Math.ceil(size / BLOCK) * BLOCK
  }
  if (!ended) throw new Error('the archive has no end')
}

function text(block: Uint8Array, from: number, length: number): string {
  const field = Buffer.from(block.subarray(from, from + length))
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end === -1 ? length : end).trim()
}
