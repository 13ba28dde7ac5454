import { spawn, spawnSync } from 'node:child_process'
import fs, { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { EventBus, realEnv } from '../../core/index.ts'
import type { Database, SqlTx } from '../port.ts'
import { databaseDir } from './directory.ts'
import { embedded } from './index.ts'
import { openPglite } from './pglite.ts'

const env = realEnv()
const root = mkdtempSync(join(tmpdir(), 'holdfast-fail-stop-'))
const prepared = join(root, 'prepared')
let count = 0
const told: string[] = []

async function open(dir: string): Promise<Database<SqlTx>> {
  const events = new EventBus(env)
  told.length = 0
  events.on('store.lost', event => { told.push(event.data.message) })
  return embedded(dir, { singleInstance: true }).open({ env, events, service: 'test' })
}
const errorOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => { throw new Error('it did not fail') }, (error: unknown) => error)
const insert = (database: Database<SqlTx>, text: string): Promise<unknown> => database.transaction('insert', tx => tx.query('INSERT INTO t (text) VALUES ($1)', [text]))
const texts = async (database: Database<SqlTx>): Promise<readonly string[]> => (await database.transaction('read', tx => tx.query<{ text: string }>('SELECT text FROM t ORDER BY id'))).map(row => row.text)
function copyOfPrepared(): string {
  const dir = join(root, `data-${String(++count)}`)
  cpSync(prepared, dir, { recursive: true })
  return dir
}

beforeAll(async () => {
  const database = await open(prepared)
  await database.transaction('set-up', tx => tx.query('CREATE TABLE t (id serial PRIMARY KEY, text text NOT NULL)'))
  await database.close()
})
afterEach(() => { vi.restoreAllMocks() })
afterAll(() => { rmSync(root, { recursive: true, force: true }) })

/** As a disk does that cannot write what it had taken. */
function failing(): never {
  throw Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO', errno: -5, syscall: 'fdatasync' })
}

describe('a flush of the log that fails', () => {
  it('acknowledges nothing, and ends the store with a clear word; the next start has all that was acknowledged', async () => {
    const dir = copyOfPrepared()
    const database = await open(dir)
    await insert(database, 'acknowledged')
    const flush = vi.spyOn(fs, 'fdatasyncSync').mockImplementation(failing)
    expect(await errorOf(insert(database, 'not acknowledged'))).toMatchObject({ code: 'HF_STORE_UNKNOWN_COMMIT', message: expect.stringContaining('EIO') as string })
    flush.mockRestore()
    // The disk works again, and still: what the kernel dropped does not come back by asking anew.
    for (const _again of [1, 2]) {
      expect(await errorOf(insert(database, 'later'))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringMatching(/could not be flushed to the disk .*EIO.*start this process again/) as string })
    }
    expect(told).toHaveLength(1)
    expect(process.exitCode ?? 0).toBe(0)
    await database.close()
    const again = await open(dir)
    const found = await texts(again)
    expect(found[0]).toBe('acknowledged')
    expect(found).not.toContain('later')
    await again.close()
  })

  it('does not end it where nothing is flushed (the control)', async () => {
    const dir = copyOfPrepared()
    const { pglite } = await openPglite({ dir: databaseDir(dir), flush: 'os' })
    const flush = vi.spyOn(fs, 'fdatasyncSync').mockImplementation(failing)
    await pglite.exec(`INSERT INTO t (text) VALUES ('on its word alone')`)
    expect(flush).not.toHaveBeenCalled()
    await pglite.close()
  })
})

describe('a flush of the data that fails', () => {
  it('during a checkpoint ends the store too, and the log has it', async () => {
    const dir = copyOfPrepared()
    const database = await open(dir)
    await insert(database, 'in the log')
    vi.spyOn(fs, 'fsyncSync').mockImplementation(failing)
    expect(await errorOf(database.transaction('checkpoint', tx => tx.query('CHECKPOINT')))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringContaining('could not be flushed') as string })
    expect(await errorOf(texts(database))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    vi.restoreAllMocks()
    await database.close()
    const again = await open(dir)
    expect(await texts(again)).toEqual(['in the log'])
    await again.close()
  })
})

/** A log that grows and nothing else. */
const LOG_ONLY = `SELECT pg_logical_emit_message(true, 'test', repeat('x', 4000000))`

describe('a log that cannot be written', () => {
  it('ends the store at once, and it starts again when there is room', async () => {
    const dir = copyOfPrepared()
    const database = await open(dir)
    await insert(database, 'acknowledged')
    vi.spyOn(fs, 'writeSync').mockImplementation(() => { throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }) })
    expect(await errorOf(insert(database, 'not acknowledged'))).toMatchObject({ code: 'HF_STORE_UNKNOWN_COMMIT', message: expect.stringContaining('No space left') as string })
    vi.restoreAllMocks()
    expect(await errorOf(texts(database))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringContaining('start this process again') as string })
    await database.close()
    const again = await open(dir)
    expect((await texts(again))[0]).toBe('acknowledged')
    await again.close()
  })

  it('would hang the process for ever (the control: PGlite by itself asks the dead database again and again)', async () => {
    const dir = copyOfPrepared()
    const program = join(dir, 'program.mjs')
    fs.writeFileSync(program, `
      import fs from 'node:fs'
      import { PGlite } from ${JSON.stringify(import.meta.resolve('@electric-sql/pglite'))}
      const pglite = await PGlite.create(${JSON.stringify(databaseDir(dir))})
      await pglite.exec(\`INSERT INTO t (text) VALUES ('makes the file large enough')\`)
      fs.writeSync(1, 'open ')
      const write = fs.writeSync
      fs.writeSync = (file, ...rest) => { if (file < 3) return write(file, ...rest); throw Object.assign(new Error('full'), { code: 'ENOSPC' }) }
      await pglite.exec(\`INSERT INTO t (text) VALUES ('x')\`).then(() => write(1, 'answered'), error => write(1, String(error)))`)
    const child = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'ignore'] })
    let said = ''
    await new Promise<void>(resolve => {
      child.stdout.on('data', (chunk: Buffer) => {
        said += chunk.toString()
        // What it has not answered in two seconds of spinning it never answers.
        setTimeout(resolve, 2_000)
      })
      child.once('exit', () => { resolve() })
    })
    expect(said).toBe('open ')
    expect(child.exitCode).toBeNull()
    child.kill('SIGKILL')
  })
})

describe('a disk that is full', () => {
  const mountable = process.platform === 'linux' && userInfo().uid === 0

  it.skipIf(!mountable)('refuses the statement that needs more room and lives on, ends where the log finds none, and starts again when there is (needs root on Linux: a tmpfs of limited size)', async context => {
    const dir = join(root, 'small')
    mkdirSync(dir)
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=100m', 'tmpfs', dir]).status !== 0) context.skip('this root may not mount')
    const fill = (): void => {
      try {
        for (let i = 0; ; i++) fs.writeFileSync(join(dir, `ballast-${String(i)}`), Buffer.alloc(1 << 16), { flag: 'wx' })
      } catch {
        // Full.
      }
    }
    const makeRoom = (): void => { for (const name of fs.readdirSync(dir)) if (name.startsWith('ballast')) rmSync(join(dir, name)) }
    try {
      cpSync(prepared, dir, { recursive: true })
      const database = await open(dir)
      await insert(database, 'acknowledged')
      fill()
      expect(await errorOf(insert(database, 'x'.repeat(500_000)).then(() => insert(database, 'y'.repeat(500_000))))).toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '53100' }, message: expect.stringContaining('No space left') as string })
      expect((await texts(database))[0]).toBe('acknowledged')
      makeRoom()
      await insert(database, 'acknowledged too')
      fill()
      const grow = async (): Promise<never> => { for (;;) await database.transaction('grow', tx => tx.query(LOG_ONLY)) }
      expect(await errorOf(grow())).toMatchObject({ code: expect.stringMatching(/^HF_STORE_(?:UNAVAILABLE|UNKNOWN_COMMIT)$/) as string, message: expect.stringContaining('No space left') as string })
      expect(await errorOf(texts(database))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', message: expect.stringContaining('start this process again') as string })
      await database.close()
      makeRoom()
      const again = await open(dir)
      expect(await texts(again)).toEqual(expect.arrayContaining(['acknowledged', 'acknowledged too']))
      await again.close()
    } finally {
      spawnSync('umount', [dir])
    }
  })
})
