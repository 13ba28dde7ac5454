/**
 * Unpacks the template: a gzipped ustar archive of plain files and directories, made by our own build.
 *
 * Links, long names and anything else are refused rather than guessed at; nothing is written outside the target.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'

const BLOCK = 512

export async function unpack(archive: Uint8Array, target: string): Promise<void> {
  const tar = await promisify(gunzip)(archive)
  for (let at = 0; at + BLOCK <= tar.length;) {
    const header = tar.subarray(at, at + BLOCK)
    // Two empty blocks end an archive.
    if (header[0] === 0) return
    const name = normalize([text(header, 345, 155), text(header, 0, 100)].filter(part => part !== '').join('/')).replace(/^\/+/, '')
    const size = Number.parseInt(text(header, 124, 12), 8) || 0
    const type = text(header, 156, 1)
    if (name.startsWith('..')) throw new Error(`the template holds a file outside of itself: ${name}`)
    const path = join(target, name)
    at += BLOCK
    if (type === '5') {
      await mkdir(path, { recursive: true, mode: 0o700 })
    } else if (type === '0' || type === '') {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await writeFile(path, tar.subarray(at, at + size), { mode: 0o600 })
    } else {
      throw new Error(`the template holds something that is neither file nor directory: ${name}`)
    }
    at += Math.ceil(size / BLOCK) * BLOCK
  }
}

function text(header: Uint8Array, from: number, length: number): string {
  const field = Buffer.from(header.subarray(from, from + length))
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end === -1 ? length : end).trim()
}
