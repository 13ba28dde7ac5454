import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, realEnv } from '../../core/index.ts'
import type { Database, SqlTx } from '../port.ts'
import { embedded } from './index.ts'

const env = realEnv()
const root = mkdtempSync(join(tmpdir(), 'holdfast-damage-'))
afterAll(() => { rmSync(root, { recursive: true, force: true }) })

const open = (dir: string): Promise<Database<SqlTx>> => embedded(dir, { singleInstance: true }).open({ env, events: new EventBus(env), service: 'test' })
const errorOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => { throw new Error('it did not fail') }, (error: unknown) => error)

/** Closed in order; and as a killed process leaves it, whose last commit is in the log alone. */
const closed = join(root, 'closed')
const killed = join(root, 'killed')
let table = ''
let index = ''
let count = 0

beforeAll(async () => {
  const database = await open(closed)
  await database.transaction('set-up', tx => tx.query(`CREATE TABLE t (id serial PRIMARY KEY, text text NOT NULL); INSERT INTO t (text) SELECT 'before' FROM generate_series(1, 100); ANALYZE t; CHECKPOINT`))
  const [paths] = await database.transaction('paths', tx => tx.query<{ readonly table: string; readonly index: string }>(`SELECT pg_relation_filepath('t') AS table, pg_relation_filepath('t_pkey') AS index`))
  table = paths?.table ?? ''
  index = paths?.index ?? ''
  await database.transaction('last', tx => tx.query(`INSERT INTO t (text) SELECT 'last' FROM generate_series(1, 100)`))
  cpSync(closed, killed, { recursive: true })
  rmSync(join(killed, 'holdfast.lock'))
  await database.close()
})

function copyOf(which: string): string {
  const dir = join(root, `data-${String(++count)}`)
  cpSync(which, dir, { recursive: true })
  return dir
}

const log = (database: string): readonly string[] => readdirSync(join(database, 'pg_wal')).filter(name => /^[0-9A-F]{24}$/.test(name)).map(name => join(database, 'pg_wal', name))

describe('a damaged directory', () => {
  it('is told from a sound one (the control)', async () => {
    for (const which of [closed, killed]) {
      const database = await open(copyOf(which))
      expect(await database.transaction('read', tx => tx.query('SELECT count(*)::int AS n FROM t'))).toEqual([{ n: 200 }])
      await database.close()
    }
  })

  it.each<readonly [string, (database: string) => void, RegExp]>([
    ['without PG_VERSION', database => { rmSync(join(database, 'PG_VERSION')) }, /PG_VERSION is missing/],
    ['with another text as PG_VERSION', database => { writeFileSync(join(database, 'PG_VERSION'), 'abc') }, /PG_VERSION holds no version/],
    ['without pg_control', database => { rmSync(join(database, 'global/pg_control')) }, /global\/pg_control is missing/],
    ['with half a pg_control', database => { truncateSync(join(database, 'global/pg_control'), 100) }, /pg_control has 100 bytes instead of 8192/],
    ['without its data', database => { rmSync(join(database, 'base'), { recursive: true }) }, /base is missing/],
  ])('%s is refused by name and not touched', async (_what, damage, says) => {
    const dir = copyOf(closed)
    damage(join(dir, 'postgres'))
    const before = fingerprint(dir)
    expect(await errorOf(open(dir))).toMatchObject({ code: 'HF_STORE_DAMAGED', message: expect.stringMatching(says) as string })
    expect(fingerprint(dir)).toBe(before)
  })

  it.each<readonly [string, string, (database: string) => void, RegExp]>([
    ['of another major version', 'closed', database => { writeFileSync(join(database, 'PG_VERSION'), '17\n') }, /initialized by PostgreSQL version 17, which is not compatible with this version/],
    ['whose pg_control is garbage', 'closed', database => { writeFileSync(join(database, 'global/pg_control'), Buffer.alloc(8_192, 7)) }, /incompatible with server/],
    ['whose log is gone', 'closed', database => { for (const segment of log(database)) rmSync(segment) }, /could not locate a valid checkpoint record/],
    ['whose log is cut to nothing', 'killed', database => { for (const segment of log(database)) truncateSync(segment, 0) }, /could not locate a valid checkpoint record/],
    ['whose log is garbage', 'killed', database => { for (const segment of log(database)) writeFileSync(segment, Buffer.alloc(16 << 20, 7)) }, /could not locate a valid checkpoint record/],
    ['whose commit states are gone', 'closed', database => { rmSync(join(database, 'pg_xact/0000')) }, /pg_xact\/0000/],
    ['whose catalog is cut to nothing', 'closed', database => { truncateSync(join(database, 'base/5/1259'), 0) }, /critical system index|is missing or empty/],
    ['one of whose tables is cut to nothing', 'closed', database => { truncateSync(join(database, table), 0) }, /the file of t, is missing or empty/],
    ['one of whose tables is gone', 'closed', database => { rmSync(join(database, table)) }, /the file of t, is missing or empty/],
    ['one of whose indexes is cut to nothing', 'closed', database => { truncateSync(join(database, index), 0) }, /the file of t_pkey, is missing or empty/],
  ])('%s is refused with a clear reason and the way out; the process lives on, and nothing is made anew', async (_what, which, damage, says) => {
    const dir = copyOf(which === 'closed' ? closed : killed)
    damage(join(dir, 'postgres'))
    const error = await errorOf(open(dir))
    expect(error).toMatchObject({ code: 'HF_STORE_DAMAGED', message: expect.stringMatching(says) as string })
    expect((error as Error).message).toContain(`holdfast restore FILE --to ${dir} --replace`)
    expect((error as Error).message).not.toMatch(/unreachable|RuntimeError|wasm|Aborted/i)
    expect(process.exitCode ?? 0).toBe(0)
    expect(existsSync(join(dir, 'holdfast.lock'))).toBe(false)
  })

  it('with a page that is not what was written is met by its checksum', async () => {
    const dir = copyOf(closed)
    const file = join(dir, 'postgres', table)
    const bytes = readFileSync(file)
    bytes.writeUInt8(bytes.readUInt8(8_000) ^ 255, 8_000)
    writeFileSync(file, bytes)
    const database = await open(dir)
    expect(await errorOf(database.transaction('read', tx => tx.query('SELECT count(*) FROM t')))).toMatchObject({ code: 'HF_STORE_DAMAGED', context: { sqlstate: 'XX001' } })
    await database.close()
  })
})

describe('a place that cannot hold a directory', () => {
  it('because it is a file, or below one, is refused as such', async () => {
    const file = join(root, 'file')
    writeFileSync(file, 'not a directory')
    expect(await errorOf(open(file))).toMatchObject({ code: 'HF_STORE_DIRECTORY', message: expect.stringMatching(/it is a file and no directory/) as string })
    expect(await errorOf(open(join(file, 'below')))).toMatchObject({ code: 'HF_STORE_DIRECTORY', message: expect.stringMatching(/on the way to it is a file/) as string })
    expect(readFileSync(file, 'utf8')).toBe('not a directory')
    const dir = join(root, 'with-a-file')
    mkdirSync(dir)
    writeFileSync(join(dir, 'postgres'), 'not a directory')
    expect(await errorOf(open(dir))).toMatchObject({ code: 'HF_STORE_DIRECTORY' })
    expect(readFileSync(join(dir, 'postgres'), 'utf8')).toBe('not a directory')
  })

  const mountable = process.platform === 'linux' && userInfo().uid === 0
  const mounted = async (options: string, use: (dir: string) => Promise<void>): Promise<boolean> => {
    const dir = join(root, `mounted-${String(++count)}`)
    mkdirSync(dir)
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', dir]).status !== 0) return false
    try {
      await use(dir)
    } finally {
      spawnSync('umount', ['-l', dir])
    }
    return true
  }

  it.skipIf(!mountable)('because it is read-only is refused as such (needs root on Linux: a mount)', async context => {
    const could = await mounted('size=100m', async dir => {
      const data = join(dir, 'data')
      cpSync(closed, data, { recursive: true })
      expect(spawnSync('mount', ['-o', 'remount,ro', dir]).status).toBe(0)
      expect(await errorOf(open(data))).toMatchObject({ code: 'HF_STORE_DIRECTORY', message: expect.stringMatching(/read-only/) as string })
    })
    if (!could) context.skip('this root may not mount')
  })

  it.skipIf(!mountable)('because its disk is full is refused as such, and opens when there is room (needs root on Linux: a mount)', async context => {
    const could = await mounted('size=20m', async dir => {
      const data = join(dir, 'data')
      const ballast = join(dir, 'ballast')
      writeFileSync(ballast, Buffer.alloc(10 << 20))
      expect(await errorOf(open(data))).toMatchObject({ code: 'HF_STORE_DIRECTORY', message: expect.stringMatching(/disk is full/) as string })
      rmSync(data, { recursive: true })
      rmSync(ballast)
      spawnSync('mount', ['-o', 'remount,size=120m', dir])
      cpSync(killed, data, { recursive: true })
      // What was asked for is there as far as it goes.
      spawnSync('dd', ['if=/dev/zero', `of=${ballast}`, 'bs=4096'])
      expect(await errorOf(open(data))).toMatchObject({ code: 'HF_STORE_DIRECTORY', message: expect.stringMatching(/disk is full/) as string })
      rmSync(ballast, { force: true })
      const database = await open(data)
      expect(await database.transaction('read', tx => tx.query('SELECT count(*)::int AS n FROM t'))).toEqual([{ n: 200 }])
      await database.close()
    })
    if (!could) context.skip('this root may not mount')
  })
})

/** Names and contents of everything below. */
function fingerprint(dir: string): string {
  const hash = createHash('sha256')
  for (const entry of readdirSync(dir, { withFileTypes: true, recursive: true }).sort((a, b) => (join(a.parentPath, a.name) < join(b.parentPath, b.name) ? -1 : 1))) {
    hash.update(join(entry.parentPath, entry.name))
    if (entry.isFile()) hash.update(readFileSync(join(entry.parentPath, entry.name)))
  }
  return hash.digest('hex')
}
