import { spawn, type ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { EventBus, realEnv } from '../../core/index.ts'
import type { Database, SqlTx } from '../port.ts'
import { embedded, type EmbeddedOptions } from './index.ts'
import { lockDirectory } from './lock.ts'
import { openPglite } from './pglite.ts'
import { thisProcess } from './process-identity.ts'
import * as template from './template.ts'

const env = realEnv()
const root = mkdtempSync(join(tmpdir(), 'holdfast-embedded-'))
let count = 0
const freshDir = (): string => join(root, `data-${String(++count)}`)
const children = new Set<ChildProcess>()
const progress: string[] = []
afterEach(() => {
  for (const child of children) child.kill('SIGKILL')
  children.clear()
})
afterAll(() => { rmSync(root, { recursive: true, force: true }) })

async function open(dir: string, options: Partial<EmbeddedOptions> = {}): Promise<Database<SqlTx>> {
  const events = new EventBus(env)
  progress.length = 0
  events.on('app.progress', event => { progress.push(event.data.message) })
  return embedded(dir, { singleInstance: true, ...options }).open({ env, events, service: 'test' })
}
const errorOf = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => { throw new Error('it did not fail') }, (error: unknown) => error)

interface Child {
  readonly pid: number
  /** The next line that it prints; `ended` when there will be none. */
  line(): Promise<string>
  signal(signal: NodeJS.Signals): void
  ended(): Promise<void>
}

/** A real second process, running `script` (an ES module in which `open(dir)` gives a database, and `say` prints a line). */
function child(script: string): Child {
  const file = join(root, `child-${String(++count)}.mts`)
  const index = join(import.meta.dirname, 'index.ts')
  writeFileSync(file, `
    import { EventBus, realEnv } from ${JSON.stringify(join(import.meta.dirname, '../../core/index.ts'))}
    import { embedded } from ${JSON.stringify(index)}
    const env = realEnv()
    const say = text => { process.stdout.write(text + '\\n') }
    const open = dir => embedded(dir, { singleInstance: true }).open({ env, events: new EventBus(env), service: 'child' })
    ${script}`)
  const process_ = spawn(process.execPath, ['--import', 'tsx', '--conditions=holdfast-source', file], { stdio: ['ignore', 'pipe', 'inherit'], cwd: join(import.meta.dirname, '../../..') })
  children.add(process_)
  const lines: string[] = []
  let closed = false
  let wake = (): void => undefined
  createInterface({ input: process_.stdout }).on('line', line => {
    lines.push(line)
    wake()
  }).on('close', () => {
    closed = true
    wake()
  })
  const ended = new Promise<void>(resolve => { process_.once('exit', () => { resolve() }) })
  return {
    pid: process_.pid ?? 0,
    line: async () => {
      if (lines.length === 0 && !closed) await new Promise<void>(resolve => { wake = resolve })
      return lines.shift() ?? 'ended'
    },
    signal: signal => { process_.kill(signal) },
    ended: () => ended,
  }
}

describe('a new directory', () => {
  it('is made with what is above it, says so, and keeps what was committed for the next start', async () => {
    const dir = join(freshDir(), 'deeper')
    const database = await open(dir)
    expect(progress).toEqual([`making a new database in ${dir}`, `opening the database in ${dir}`])
    await database.transaction('write', tx => tx.query('CREATE TABLE t (id int); INSERT INTO t VALUES (1)'))
    await database.close()
    expect(readdirSync(dir)).toEqual(['postgres'])
    const again = await open(dir)
    expect(progress).toEqual([`opening the database in ${dir}`])
    expect(await again.transaction('read', tx => tx.query('SELECT id FROM t'))).toEqual([{ id: 1 }])
    await again.close()
  })

  it('takes small buffers, flushes every commit, and says what that survives and that it is for one instance', async () => {
    const database = await open(freshDir())
    expect(await database.transaction('look', tx => tx.query(`SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS pages, current_setting('synchronous_commit') AS commit`))).toEqual([{ fsync: 'on', pages: 'on', commit: 'on' }])
    expect(await database.transaction('look', tx => tx.query(`SELECT current_setting('shared_buffers') AS buffers`))).toEqual([{ buffers: '4MB' }])
    expect(database.durability).toEqual({ processCrash: true, powerLoss: true, severalInstances: false })
    await database.close()
  })

  it('leaves the flushing to the operating system where that is asked for, and says what it no longer survives', async () => {
    const database = await open(freshDir(), { flush: 'os' })
    expect(await database.transaction('look', tx => tx.query(`SELECT current_setting('fsync') AS fsync`))).toEqual([{ fsync: 'off' }])
    expect(database.durability).toEqual({ processCrash: true, powerLoss: false, severalInstances: false })
    await database.close()
    expect(() => embedded('data', { singleInstance: true, flush: 'sometimes' as 'os' })).toThrow(/'commit' or 'os'/)
  })

  it('that a killed process left half made is made again', async () => {
    const dir = freshDir()
    mkdirSync(join(dir, 'postgres.new', 'base'), { recursive: true })
    writeFileSync(join(dir, 'postgres.new', 'PG_VERSION'), '18\n')
    const database = await open(dir)
    await database.ping()
    await database.close()
    expect(readdirSync(dir)).toEqual(['postgres'])
  })

  it('is refused without the word that one process only uses it', () => {
    expect(() => embedded('data', {} as EmbeddedOptions)).toThrow(/singleInstance: true/)
  })
})

describe('without a prebuilt template', () => {
  it('a new directory is made the slow way, and that is said beforehand', async () => {
    vi.spyOn(template, 'readTemplate').mockResolvedValue(undefined)
    const database = await open(freshDir())
    vi.restoreAllMocks()
    expect(progress[0]).toContain('up to 12 seconds')
    expect(await database.transaction('works', tx => tx.query('SELECT 1 AS one'))).toEqual([{ one: 1 }])
    await database.close()
  }, 60_000)

  it('or with one for another PGlite there is none', async () => {
    const dist = freshDir()
    expect(await template.readTemplate(dist)).toBeUndefined()
    mkdirSync(dist)
    writeFileSync(join(dist, 'embedded-template.json'), JSON.stringify({ pglite: '0.0.1' }))
    writeFileSync(join(dist, 'embedded-template.tar.gz'), '')
    expect(await template.readTemplate(dist)).toBeUndefined()
  })
})

describe('a transaction', () => {
  it('that takes longer than a second is cut, so that the others get their turn', async () => {
    const database = await open(freshDir())
    const started = performance.now()
    const slow = errorOf(database.transaction('slow', () => new Promise(() => undefined)))
    const waiting = database.transaction('waiting', tx => tx.query('SELECT 1 AS one'))
    expect(await slow).toMatchObject({ code: 'HF_STORE_TX_TIMEOUT', context: { transaction: 'slow' } })
    expect(await waiting).toEqual([{ one: 1 }])
    expect(performance.now() - started).toBeGreaterThan(900)
    // Without the cut the other would be refused after 10 s.
    expect(performance.now() - started).toBeLessThan(8_000)
    await database.close()
  })

  it('after transaction leaves timers and I/O their turn', async () => {
    const dir = freshDir()
    const database = await open(dir)
    let fired = false
    setTimeout(() => { fired = true }, 1)
    const started = performance.now()
    while (!fired && performance.now() - started < 5_000) await database.transaction('loop', tx => tx.query('SELECT 1'))
    expect(fired).toBe(true)
    await database.close()
    // The control: PGlite itself leaves none.
    const { pglite } = await openPglite({ dir: join(dir, 'postgres') })
    fired = false
    setTimeout(() => { fired = true }, 1)
    const begun = performance.now()
    while (performance.now() - begun < 300) await pglite.exec('SELECT 1')
    expect(fired).toBe(false)
    await pglite.close()
  }, 60_000)

  it('that waits too long for its turn is refused', async () => {
    const database = await open(freshDir(), { acquireTimeout: '100ms' })
    let release = (): void => undefined
    const holder = database.transaction('holder', () => new Promise<void>(resolve => { release = resolve }))
    expect(await errorOf(database.transaction('late', async () => 1))).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    release()
    await holder
    await database.close()
  })
})

describe('the log of a process that runs for long', () => {
  const LOG_ONLY = `SELECT pg_logical_emit_message(true, 'test', repeat('x', 12000000))`
  const logBytes = (dir: string): number => readdirSync(join(dir, 'postgres/pg_wal'), { withFileTypes: true }).filter(entry => entry.isFile()).length * (16 << 20)
  // Two segments that ask for a checkpoint, one that is written meanwhile, and what PostgreSQL keeps for use again (max_wal_size).
  const BOUND = 96 << 20

  it('is written out as it grows, in turns of its own, so that a start after a crash is short', async () => {
    const dir = freshDir()
    const database = await open(dir)
    for (let i = 0; i < 12; i++) await database.transaction('grow', tx => tx.query(LOG_ONLY))
    expect(logBytes(dir)).toBeLessThanOrEqual(BOUND)
    await database.close()
  })

  it('would grow for ever (the control: PGlite never does that by itself)', async () => {
    const dir = freshDir()
    await (await open(dir)).close()
    const { pglite } = await openPglite({ dir: join(dir, 'postgres') })
    for (let i = 0; i < 12; i++) await pglite.exec(LOG_ONLY)
    expect(logBytes(dir)).toBeGreaterThan(BOUND)
    await pglite.close()
  })
})

describe('a table through which much passes', () => {
  /** 18 MB through a table that is empty in between. */
  const PASS = [`INSERT INTO passing (pad) SELECT repeat(md5(g::text), 60) FROM generate_series(1, 9000) g`, 'DELETE FROM passing']
  const TABLE = 'CREATE TABLE passing (id serial PRIMARY KEY, pad text NOT NULL); ALTER TABLE passing ALTER pad SET STORAGE plain'
  const SIZE = `SELECT pg_relation_size('passing')::int AS bytes`

  it('does not keep the room of all that ever passed', async () => {
    const database = await open(freshDir())
    await database.transaction('table', tx => tx.query(TABLE))
    for (let i = 0; i < 3; i++) for (const statement of PASS) await database.transaction('pass', tx => tx.query(statement), { timeout: '60s' })
    const [size] = await database.transaction('size', tx => tx.query<{ readonly bytes: number }>(SIZE))
    expect(size?.bytes).toBeLessThan(45 << 20)
    await database.close()
  }, 60_000)

  it('would keep it for ever (the control: PGlite never clears a table by itself)', async () => {
    const dir = freshDir()
    await (await open(dir)).close()
    const { pglite } = await openPglite({ dir: join(dir, 'postgres') })
    await pglite.exec(TABLE)
    for (let i = 0; i < 3; i++) for (const statement of PASS) await pglite.exec(statement)
    expect((await pglite.query<{ readonly bytes: number }>(SIZE)).rows[0]?.bytes).toBeGreaterThan(50 << 20)
    await pglite.close()
  }, 60_000)
})

describe('a second opener', () => {
  it('in another process is refused within a second, by pid and directory, in one sentence', async () => {
    const dir = freshDir()
    const first = child(`await open(${JSON.stringify(dir)}); say('open')`)
    expect(await first.line()).toBe('open')
    const started = performance.now()
    const error = await errorOf(open(dir))
    expect(performance.now() - started).toBeLessThan(1_000)
    expect(error).toMatchObject({ code: 'HF_STORE_LOCKED', context: { pid: first.pid, dir } })
    expect(String((error as Error).message)).toMatch(new RegExp(`${dir} is open in process ${String(first.pid)} `))
    first.signal('SIGKILL')
    await first.ended()
  })

  it('in the same process is refused too', async () => {
    const dir = freshDir()
    const database = await open(dir)
    expect(await errorOf(open(dir))).toMatchObject({ code: 'HF_STORE_LOCKED', message: expect.stringContaining('this process itself') as string })
    await database.close()
  })

  it('that took over while the first stood still is not written over when the first is closed', async () => {
    const dir = freshDir()
    const database = await open(dir)
    await database.transaction('write', tx => tx.query('CREATE TABLE t (id int)'))
    const lock = join(dir, 'holdfast.lock')
    writeFileSync(lock, readFileSync(lock, 'utf8').replace(/"owner":"[^"]+"/, '"owner":"another"'))
    // The next heartbeat finds it out.
    let error: unknown
    while (error === undefined) error = await database.transaction('look', tx => tx.query('SELECT 1')).then(() => undefined, (reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'HF_STORE_LOCKED', message: expect.stringContaining('taken over') as string })
    const before = fingerprint(join(dir, 'postgres'))
    await database.close()
    expect(fingerprint(join(dir, 'postgres'))).toBe(before)
    expect(existsSync(lock)).toBe(true)
  })

  it('would silently destroy what the first wrote (the control: PGlite itself lets both in)', async () => {
    const dir = freshDir()
    const set = await open(dir)
    await set.transaction('set-up', tx => tx.query('CREATE TABLE t (id int)'))
    await set.close()
    const both = await Promise.all([openPglite({ dir: join(dir, 'postgres') }), openPglite({ dir: join(dir, 'postgres') })])
    for (let i = 0; i < 20; i++) for (const { pglite } of both) await pglite.exec(`INSERT INTO t VALUES (${String(i)})`)
    for (const { pglite } of both) await pglite.close()
    const after = await open(dir)
    const [row] = await after.transaction('count', tx => tx.query<{ n: string }>('SELECT count(*) AS n FROM t'))
    await after.close()
    expect(Number(row?.n)).toBeLessThan(40)
  })

  it('gets it when the first has closed', async () => {
    const dir = freshDir()
    await (await open(dir)).close()
    await (await open(dir)).close()
  })
})

describe('kill -9', () => {
  it('loses nothing that was acknowledged, and the next start has it within a second', async () => {
    const dir = freshDir()
    const first = await open(dir)
    await first.transaction('set-up', tx => tx.query('CREATE TABLE t (id int PRIMARY KEY, pad text); CREATE TABLE total (n int); INSERT INTO total VALUES (0)'))
    await first.close()
    let acknowledged = 0
    for (let round = 0; round < 3; round++) {
      const writer = child(`
        const database = await open(${JSON.stringify(dir)})
        const [{ n }] = await database.transaction('read', tx => tx.query('SELECT n FROM total'))
        for (let id = n + 1; ; id++) {
          await database.transaction('write', async tx => {
            await tx.query('INSERT INTO t VALUES ($1, $2)', [id, 'x'.repeat(200)])
            await tx.query('UPDATE total SET n = n + 1')
          })
          say(String(id))
        }`)
      for (let i = 0; i < 20 + round * 13; i++) acknowledged = Number(await writer.line())
      writer.signal('SIGKILL')
      await writer.ended()
      for (let line = await writer.line(); line !== 'ended'; line = await writer.line()) acknowledged = Number(line)
      const started = performance.now()
      const database = await open(dir)
      const openMs = performance.now() - started
      const [row] = await database.transaction('read', tx => tx.query<{ n: number; rows: string; highest: number }>('SELECT n, (SELECT count(*) FROM t) AS rows, (SELECT max(id) FROM t) AS highest FROM total'))
      await database.close()
      expect(row?.n).toBeGreaterThanOrEqual(acknowledged)
      expect(Number(row?.rows)).toBe(row?.n)
      expect(row?.highest).toBe(row?.n)
      // A second on a quiet machine; what this bound excludes is waiting for a heartbeat to go stale.
      expect(openMs).toBeLessThan(5_000)
    }
  }, 60_000)
})

describe('the lock', () => {
  const times = { heartbeatMs: 20, staleMs: 2_000 }
  const foreign = { host: 'other-container/boot/pid:[1]', pid: 1, started: '1', owner: 'somebody', since: '2026-01-01T00:00:00.000Z' }
  const lockedDir = (owner: object, ageMs: number): string => {
    const dir = freshDir()
    mkdirSync(dir)
    const file = join(dir, 'holdfast.lock')
    writeFileSync(file, JSON.stringify(owner))
    const at = new Date(Date.now() - ageMs)
    utimesSync(file, at, at)
    return dir
  }

  it('of a host that cannot be asked counts while its heartbeat is fresh', async () => {
    expect(await errorOf(lockDirectory(lockedDir(foreign, 500), env, () => undefined, times))).toMatchObject({ code: 'HF_STORE_LOCKED', message: expect.stringContaining('on other-container') as string })
  })

  it('of a host that cannot be asked is taken over when its heartbeat stands still', async () => {
    await (await lockDirectory(lockedDir(foreign, 3_000), env, () => undefined, times)).release()
  })

  it('of a process of this host that is gone is taken over at once, however fresh', async () => {
    await (await lockDirectory(lockedDir({ ...thisProcess(), pid: 2 ** 22 + 1, owner: 'dead' }, 0), env, () => undefined, times)).release()
  })

  it('of a pid that now is another process is taken over at once', async () => {
    await (await lockDirectory(lockedDir({ ...thisProcess(), started: '1', owner: 'dead' }, 0), env, () => undefined, times)).release()
  })

  it('of a process that stands still counts as long as it lives (the control)', async () => {
    expect(await errorOf(lockDirectory(lockedDir({ ...thisProcess(), owner: 'stopped' }, 60_000), env, () => undefined, times))).toMatchObject({ code: 'HF_STORE_LOCKED' })
  })

  it('that nobody can read is respected while it is fresh', async () => {
    const dir = lockedDir({}, 0)
    writeFileSync(join(dir, 'holdfast.lock'), 'gar')
    expect(await errorOf(lockDirectory(dir, env, () => undefined, times))).toMatchObject({ code: 'HF_STORE_LOCKED' })
  })

  it('goes to exactly one of many that find its owner dead at the same moment, and leaves nothing behind', async () => {
    for (let round = 0; round < 20; round++) {
      const dir = lockedDir({ ...thisProcess(), started: '1', owner: `dead-${String(round)}` }, 0)
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => lockDirectory(dir, env, () => undefined, times)))
      const winners = results.filter(result => result.status === 'fulfilled')
      expect(winners).toHaveLength(1)
      await winners[0]?.value.release()
      expect(readdirSync(dir)).toEqual([])
    }
  })

  it('is kept fresh by its owner', async () => {
    const dir = freshDir()
    const lock = await lockDirectory(dir, env, () => undefined, times)
    const file = join(dir, 'holdfast.lock')
    const old = new Date(Date.now() - 60_000)
    utimesSync(file, old, old)
    while (statSync(file).mtimeMs < Date.now() - 30_000) await new Promise(resolve => { setImmediate(resolve) })
    await lock.release()
    expect(existsSync(file)).toBe(false)
  })

  it('that was taken over meanwhile is reported to who had it, and not removed by him', async () => {
    const dir = freshDir()
    let lock: Awaited<ReturnType<typeof lockDirectory>> | undefined
    await new Promise<void>((resolve, reject) => {
      lockDirectory(dir, env, resolve, times).then(got => {
        lock = got
        writeFileSync(join(dir, 'holdfast.lock'), JSON.stringify(foreign))
      }, reject)
    })
    await lock?.release()
    expect(JSON.parse(readFileSync(join(dir, 'holdfast.lock'), 'utf8'))).toEqual(foreign)
  })
})

/** Names, sizes and contents of everything below. */
function fingerprint(dir: string): string {
  const hash = createHash('sha256')
  const add = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const full = join(path, entry.name)
      hash.update(full)
      if (entry.isDirectory()) add(full)
      else hash.update(readFileSync(full))
    }
  }
  add(dir)
  return hash.digest('hex')
}
