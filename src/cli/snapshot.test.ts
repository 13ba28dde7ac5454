/**
 * Snapshot and restore by the command line: the real program, a real service on the embedded store, real files.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { createHoldfast, type DurableHoldfast } from '../app/index.ts'
import { EventBus, realEnv } from '../core/index.ts'
import { combine } from '../http/index.ts'
import { serve, type Served } from '../http/node.ts'
import { operate, writeRuntimeFile } from '../operate/index.ts'
import { embedded, restoreSnapshot } from '../store/embedded/index.ts'
import type { SqlTx } from '../store/index.ts'
import { memory } from '../store/memory/index.ts'
import { run } from './run.ts'

// Unpacking, opening and reading a database on a machine that does other things beside.
vi.setConfig({ testTimeout: 120_000 })

const env = realEnv()
const root = mkdtempSync(join(tmpdir(), 'holdfast-snapshot-'))
let count = 0
const fresh = (): string => join(root, `data-${String(++count)}`)
afterAll(() => { rmSync(root, { recursive: true, force: true }) })

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** In this process, which is what `main.ts` does in its own. */
async function holdfast(...args: readonly string[]): Promise<Ran> {
  const said = { out: '', err: '' }
  const code = await run(args, {
    env, environment: {}, cwd: root, user: 'alice', terminal: false, columns: 80, signal: new AbortController().signal,
    out: text => { said.out += text }, err: text => { said.err += text },
  })
  return { code, ...said }
}

/** The program as it is installed, in a process of its own. */
function program(...args: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, ['--import', 'tsx', '--conditions=holdfast-source', join(import.meta.dirname, 'main.ts'), ...args], { cwd: join(import.meta.dirname, '../..'), stdio: ['ignore', 'pipe', 'pipe'] })
  const said = { out: '', err: '' }
  child.stdout.on('data', (chunk: Buffer) => { said.out += chunk.toString() })
  child.stderr.on('data', (chunk: Buffer) => { said.err += chunk.toString() })
  return new Promise(resolve => { child.once('close', code => { resolve({ code, ...said }) }) })
}

interface Running {
  readonly hold: DurableHoldfast<SqlTx>
  readonly served: Served
  readonly end: () => Promise<void>
}

const running = new Set<Running>()
afterEach(async () => { for (const each of running) await each.end() })

async function start(dir: string, snapshots: { readonly every?: '1m'; readonly keep?: number } = {}): Promise<Running> {
  const hold = createHoldfast({ service: 'shop', log: 'silent', environment: {}, store: embedded(dir, { singleInstance: true, snapshots }) })
  hold.migrations([{ id: 1, name: 'sale', sql: 'CREATE TABLE sale (id serial PRIMARY KEY, what text NOT NULL)' }])
  await hold.start()
  const served = await serve(combine([operate(hold)]), { port: 0 })
  writeRuntimeFile(dir, { url: `${served.url}/console`, pid: process.pid })
  const each: Running = {
    hold, served,
    end: async () => {
      running.delete(each)
      await served.close()
      await hold.stop()
    },
  }
  running.add(each)
  return each
}

const sell = (hold: DurableHoldfast<SqlTx>, what: string): Promise<unknown> => hold.transaction('sell', tx => tx.query('INSERT INTO sale (what) VALUES ($1)', [what]))
const salesOf = async (dir: string): Promise<readonly string[]> => {
  const database = await embedded(dir, { singleInstance: true }).open({ env, events: new EventBus(env), service: 'check' })
  try {
    return (await database.transaction('read', tx => tx.query<{ readonly what: string }>('SELECT what FROM sale ORDER BY id'))).map(row => row.what)
  } finally {
    await database.close()
  }
}

/** Of a service that went on selling after it was taken. */
let snapshot = ''
const home = fresh()

beforeAll(async () => {
  const { hold, end } = await start(home)
  await sell(hold, 'before')
  const { code, out, err } = await program('snapshot', '--reason', 'before the upgrade', '--data', home, '--json')
  expect([code, err]).toEqual([0, ''])
  snapshot = /a snapshot is in (\S+) \(/.exec((JSON.parse(out) as { readonly message: string }).message)?.[1] ?? ''
  await sell(hold, 'after')
  const [row] = await hold.audit({ limit: 1 })
  expect(row).toMatchObject({ action: 'command.store.snapshot', actor: expect.stringMatching(/^cli:/) as string, reason: 'before the upgrade', outcome: 'done' })
  await end()
}, 120_000)

describe('a snapshot', () => {
  it('is one file, taken while the service runs, under its reason and actor', async () => {
    expect(readdirSync(join(home, 'snapshots'))).toEqual([snapshot.slice(join(home, 'snapshots').length + 1)])
    expect(await salesOf(home)).toEqual(['before', 'after'])
    expect((await holdfast('snapshot', '--data', home)).code).toBe(64)
  })

  it('of which the newest are kept; two at once are one', async () => {
    const { hold } = await start(fresh(), { keep: 2 })
    const take = (): Promise<{ readonly message: string }> => hold.command('store.snapshot', { target: 'store', actor: { id: 'alice', via: 'code' }, reason: 'test' })
    const [first, same] = await Promise.all([take(), take()])
    expect(first).toEqual(same)
    await take()
    expect((await take()).message).toMatch(/1 older one was removed$/)
  })

  it('that is being taken when the service stops is whole or is none, and the database is sound', async () => {
    const dir = fresh()
    const { hold, end } = await start(dir)
    await sell(hold, 'before')
    const taking = hold.command('store.snapshot', { target: 'store', actor: { id: 'alice', via: 'code' }, reason: 'test' }).then(() => 'taken', () => 'refused')
    await end()
    await taking
    expect(await salesOf(dir)).toEqual(['before'])
    const [file] = readdirSync(join(dir, 'snapshots'))
    const other = fresh()
    if (file !== undefined) await restoreSnapshot(join(dir, 'snapshots', file), other, { env })
    expect(file === undefined ? ['before'] : await salesOf(other)).toEqual(['before'])
  })

  it('is refused by a service whose store is no directory of its own', async () => {
    const hold = createHoldfast({ service: 'shop', log: 'silent', environment: {}, store: memory() })
    await hold.start()
    await expect(hold.command('store.snapshot', { target: 'store', actor: { id: 'alice', via: 'code' }, reason: 'test' })).rejects.toMatchObject({ code: 'HF_OPTION_INVALID', message: expect.stringContaining('its own means') as string })
    await hold.stop()
  })
})

describe('restore', () => {
  it('to an empty directory has what was there when it was taken, and says how much it read', async () => {
    const dir = fresh()
    const { code, out } = await program('restore', snapshot, '--to', dir, '--json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ file: snapshot, dir, tables: expect.any(Number) as number })
    expect(await salesOf(dir)).toEqual(['before'])
  })

  it('is refused where a database is, and with --replace keeps that one aside, whole', async () => {
    const dir = fresh()
    cpSync(home, dir, { recursive: true })
    const refused = await holdfast('restore', snapshot, '--to', dir)
    expect([refused.code, refused.err]).toEqual([64, expect.stringContaining('--replace')])
    expect(await salesOf(dir)).toEqual(['before', 'after'])
    const { code, out } = await holdfast('restore', snapshot, '--to', dir, '--replace')
    expect(code).toBe(0)
    expect(await salesOf(dir)).toEqual(['before'])
    const aside = /kept in (\S+);/.exec(out)?.[1] ?? ''
    const again = fresh()
    mkdirSync(again)
    renameSync(aside, join(again, 'postgres'))
    expect(await salesOf(again)).toEqual(['before', 'after'])
  })

  it('is refused while a service runs there', async () => {
    const dir = fresh()
    await start(dir)
    const { code, err } = await holdfast('restore', snapshot, '--to', dir, '--replace', '--json')
    expect(code).toBe(1)
    expect(JSON.parse(err)).toMatchObject({ error: { code: 'HF_STORE_LOCKED' } })
  })

  it('takes the place of a damaged database, as its error says', async () => {
    const dir = fresh()
    cpSync(home, dir, { recursive: true })
    truncateSync(join(dir, 'postgres/global/pg_control'), 10)
    await expect(salesOf(dir)).rejects.toMatchObject({ code: 'HF_STORE_DAMAGED', message: expect.stringContaining('--replace') as string })
    expect((await holdfast('restore', snapshot, '--to', dir, '--replace')).code).toBe(0)
    expect(await salesOf(dir)).toEqual(['before'])
  })

  it('that died when it had put the former database aside is noticed by the next start, and finished by the next restore', async () => {
    const dir = fresh()
    cpSync(home, dir, { recursive: true })
    renameSync(join(dir, 'postgres'), join(dir, 'postgres.replaced-2026-11-28T12-00-00.000Z'))
    await expect(salesOf(dir)).rejects.toMatchObject({ code: 'HF_STORE_DAMAGED', message: expect.stringContaining('a restore was interrupted') as string })
    expect((await holdfast('restore', snapshot, '--to', dir)).code).toBe(0)
    expect(await salesOf(dir)).toEqual(['before'])
  })

  describe('of a file that is not whole (the control)', () => {
    const altered = (change: (bytes: Buffer) => Buffer): string => {
      const file = join(root, `altered-${String(++count)}.tar.gz`)
      writeFileSync(file, change(readFileSync(snapshot)))
      return file
    }
    /** Packed again with a sound checksum of its own, so that only PostgreSQL can tell. */
    const inside = (change: (tar: Buffer) => void): string => altered(bytes => {
      const tar = gunzipSync(bytes)
      change(tar)
      return gzipSync(tar, { level: 1 })
    })

    it.each<readonly [string, () => string]>([
      ['cut short', () => altered(bytes => bytes.subarray(0, bytes.length / 2))],
      ['with a byte that flipped', () => altered(bytes => { bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1); return bytes })],
      ['of another kind', () => altered(() => Buffer.from('PK not a snapshot'))],
      ['with a page that flipped before it was packed', () => inside(tar => {
        const at = tar.indexOf('before', tar.indexOf('base/5/'))
        tar.writeUInt8(tar.readUInt8(at) ^ 1, at)
      })],
      ['that is not there', () => join(root, 'nowhere.tar.gz')],
    ])('%s is refused and changes nothing', async (_what, make) => {
      const file = make()
      const dir = fresh()
      mkdirSync(join(dir, 'postgres'), { recursive: true })
      writeFileSync(join(dir, 'postgres/PG_VERSION'), 'what is there')
      const before = fingerprint(dir)
      const { code, err } = await holdfast('restore', file, '--to', dir, '--replace', '--json')
      expect([code, JSON.parse(err)]).toEqual([1, { error: expect.objectContaining({ code: 'HF_SNAPSHOT_INVALID', message: expect.stringContaining('nothing was changed') as string }) as object }])
      expect(fingerprint(dir)).toBe(before)
      expect(existsSync(join(dir, 'holdfast.lock'))).toBe(false)
    })
  })
})

function fingerprint(dir: string): string {
  const hash = createHash('sha256')
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()) hash.update(name)
  hash.update(readFileSync(join(dir, 'postgres/PG_VERSION')))
  return hash.digest('hex')
}
