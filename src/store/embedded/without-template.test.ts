import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { EventBus, realEnv } from '../../core/index.ts'
import { embedded } from './index.ts'
import { unpack } from './tar.ts'
import * as template from './template.ts'

const root = mkdtempSync(join(tmpdir(), 'holdfast-template-'))
afterAll(() => { rmSync(root, { recursive: true, force: true }) })

describe('without a prebuilt template', () => {
  it('a new directory is made the slow way, and that is said beforehand', async () => {
    vi.spyOn(template, 'readTemplate').mockResolvedValue(undefined)
    const env = realEnv()
    const events = new EventBus(env)
    const progress: string[] = []
    events.on('app.progress', event => { progress.push(event.data.message) })
    const dir = join(root, 'data')
    const database = await embedded(dir, { singleInstance: true }).open({ env, events, service: 'test' })
    expect(progress[0]).toContain('up to 12 seconds')
    expect(await database.transaction('works', tx => tx.query('SELECT 1 AS one'))).toEqual([{ one: 1 }])
    await database.close()
    vi.restoreAllMocks()
  }, 60_000)

  it('or with one for another PGlite there is none', async () => {
    expect(await template.readTemplate(join(root, 'nowhere'))).toBeUndefined()
    writeFileSync(join(root, 'embedded-template.json'), JSON.stringify({ pglite: '0.0.1' }))
    writeFileSync(join(root, 'embedded-template.tar.gz'), '')
    expect(await template.readTemplate(root)).toBeUndefined()
  })
})

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
