import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { unpack } from './tar.ts'

const root = mkdtempSync(join(tmpdir(), 'holdfast-tar-'))
afterAll(() => { rmSync(root, { recursive: true, force: true }) })

describe('an archive', () => {
  it('with a name that leads outside is refused and nothing is written', async () => {
    const target = mkdtempSync(join(root, 'target-'))
    await expect(unpack(gzipSync(archive('../outside', '0', 'x')), target)).rejects.toThrow(/outside of itself/)
    expect(readdirSync(target)).toEqual([])
  })

  it('with a link is refused', async () => {
    await expect(unpack(gzipSync(archive('link', '2', '')), mkdtempSync(join(root, 'target-')))).rejects.toThrow(/neither file nor directory/)
  })
})

function archive(name: string, type: string, content: string): Buffer {
  const header = Buffer.alloc(512)
  header.write(name, 0)
  header.write(content.length.toString(8).padStart(11, '0'), 124)
  header.write(type, 156)
  const body = Buffer.alloc(Math.ceil(content.length / 512) * 512)
  body.write(content)
  return Buffer.concat([header, body, Buffer.alloc(1_024)])
}
