/**
 * The power goes at some point of a real run of the embedded store, and all that was not flushed is dropped, kept in part or torn.
 *
 * HOLDFAST_POWER_POINTS=200 (`npm run power-loss -- 200`) sets how many points; HOLDFAST_SEED another seed.
 */
import fs, { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, realEnv } from '../../core/index.ts'
import type { Database, SqlTx } from '../port.ts'
import { embedded } from './index.ts'
import { LosingDisk, record, type Step, type Survival } from './power-loss.fixture.ts'

const POINTS = Number(process.env['HOLDFAST_POWER_POINTS'] ?? '6')
const SEED = Number(process.env['HOLDFAST_SEED'] ?? '1')
const COMMITS = 80

const env = realEnv()
const root = mkdtempSync(join(tmpdir(), 'holdfast-power-'))
afterAll(() => { rmSync(root, { recursive: true, force: true }) })

const open = (dir: string, flush: 'commit' | 'os'): Promise<Database<SqlTx>> => embedded(dir, { singleInstance: true, flush }).open({ env, events: new EventBus(env), service: 'test' })

/** xorshift: small, seeded, good enough to choose points. */
function randomFrom(seed: number): () => number {
  let state = (seed * 2_654_435_761) | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** A new directory, commits of several shapes, checkpoints on the way, and a clean end. */
async function run(dir: string, flush: 'commit' | 'os'): Promise<readonly Step[]> {
  const recording = record(dir)
  try {
    const database = await open(dir, flush)
    await database.transaction('tables', tx => tx.query('CREATE TABLE entry (id int PRIMARY KEY, pad text NOT NULL); CREATE INDEX entry_pad ON entry (left(pad, 20)); CREATE TABLE total (n int NOT NULL); INSERT INTO total VALUES (0)'))
    for (let n = 1; n <= COMMITS; n++) {
      await database.transaction('commit', async tx => {
        // Every tenth is larger than a segment's page, every twentieth changes old rows as well.
        await tx.query(`INSERT INTO entry SELECT $1::int, string_agg(md5($1::int::text || g), '') FROM generate_series(1, $2::int) g`, [n, n % 10 === 0 ? 900 : 6])
        if (n % 20 === 0) await tx.query('UPDATE entry SET pad = md5(pad) || pad WHERE id % 7 = 0')
        await tx.query('UPDATE total SET n = n + 1')
      })
      recording.acknowledge(n)
      if (n % 20 === 5) await database.transaction('checkpoint', tx => tx.query('CHECKPOINT'))
      if (n === 50) await database.transaction('switch', tx => tx.query('SELECT pg_switch_wal(); CREATE TABLE late AS SELECT * FROM entry; DROP TABLE late'))
    }
    await database.close()
  } finally {
    recording.stop()
  }
  return recording.steps
}

/** Undefined: everything acknowledged is there, whole. */
async function harmIn(dir: string, acknowledged: number): Promise<string | undefined> {
  let database: Database<SqlTx>
  try {
    database = await open(dir, 'commit')
  } catch (error) {
    return `does not open: ${String(error)}`
  }
  try {
    return await database.transaction('check', async tx => {
      const [made] = await tx.query<{ readonly made: boolean }>(`SELECT to_regclass('total') IS NOT NULL AS made`)
      if (made?.made !== true) return acknowledged === 0 ? undefined : `no table after ${String(acknowledged)} commits`
      const [found] = await tx.query<{ readonly n: number; readonly rows: number; readonly highest: number; readonly indexed: number }>(`
        SELECT n, (SELECT count(*)::int FROM entry) AS rows, (SELECT coalesce(max(id), 0) FROM entry) AS highest, (SELECT count(DISTINCT id)::int FROM entry WHERE length(pad) >= 192) AS indexed FROM total`)
      if (found === undefined) return 'no total'
      if (found.n < acknowledged) return `lost ${String(acknowledged - found.n)} of ${String(acknowledged)} acknowledged commits`
      if (found.rows !== found.n || found.highest !== found.n || found.indexed !== found.n) return `not whole: ${JSON.stringify(found)}`
      // Reads every page of every table (checksums are on) and builds every index anew from it.
      const tables = await tx.query<{ readonly name: string }>(`SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'r'`)
      for (const { name } of tables) await tx.query(`SELECT count(*) FROM ${name} t WHERE t IS NOT NULL`)
      await tx.query('REINDEX TABLE entry; INSERT INTO entry VALUES (1000000, repeat($$x$$, 192)); DELETE FROM entry WHERE id = 1000000')
      return undefined
    }, { timeout: '60s' })
  } catch (error) {
    return `breaks: ${String(error)}`
  } finally {
    await database.close()
  }
}

const KINDS: readonly Omit<Survival, 'random'>[] = [{ unflushed: 'none', sectorBytes: 4_096 }, { unflushed: 'some', sectorBytes: 4_096 }, { unflushed: 'some', sectorBytes: 512 }, { unflushed: 'all', sectorBytes: 4_096 }]

const WORST = KINDS.slice(0, 1)

/** Losses of power at `points` places of the record, rising; half of them just after an acknowledgement, where a lie shows. */
async function losses(steps: readonly Step[], points: number, seed: number, kinds = KINDS): Promise<readonly string[]> {
  const random = randomFrom(seed)
  const firstOwn = steps.findIndex(step => step.what === 'acknowledged')
  const afterAcknowledgement = steps.flatMap((step, at) => (step.what === 'acknowledged' ? [at + 1] : []))
  const chosen = Array.from({ length: points }, (_, i) => {
    if (i % 2 === 0) return afterAcknowledgement[Math.floor(random() * afterAcknowledgement.length)] ?? 0
    // A tenth of the others while the directory is made.
    return i % 20 === 1 ? Math.floor(random() * firstOwn) : firstOwn + Math.floor(random() * (steps.length - firstOwn))
  })
  const disk = new LosingDisk()
  const harm: string[] = []
  let at = 0
  for (const [i, point] of chosen.sort((a, b) => a - b).entries()) {
    for (; at < point; at++) disk.apply(steps[at] as Step)
    const kind = kinds[i % kinds.length] as (typeof KINDS)[number]
    const dir = join(root, `after-${String(seed)}-${String(i)}`)
    disk.materialise(dir, { ...kind, random })
    const found = await harmIn(dir, disk.acknowledged)
    if (found !== undefined) harm.push(`step ${String(point)} of ${String(steps.length)}, ${kind.unflushed} of what was not flushed, sectors of ${String(kind.sectorBytes)}: ${found}`)
    rmSync(dir, { recursive: true })
    // A long run tells how far it is: what it has found so far counts also when it is ended.
    if (POINTS > 50 && points === POINTS && (i + 1) % 10 === 0) process.stdout.write(`power went at ${String(i + 1)} of ${String(points)} points, ${String(harm.length)} with harm\n`)
  }
  return harm
}

describe('a loss of power', () => {
  let steps: readonly Step[]
  const dir = join(root, 'flushed')
  beforeAll(async () => { steps = await run(dir, 'commit') }, 120_000)

  it('is modelled on all that happens: the record, played back, is the real directory byte by byte', () => {
    const disk = new LosingDisk()
    for (const step of steps) disk.apply(step)
    const played = join(root, 'played')
    disk.materialise(played, { unflushed: 'all', sectorBytes: 4_096, random: () => 0 })
    expect(disk.acknowledged).toBe(COMMITS)
    expect(differences(dir, played)).toEqual([])
    rmSync(played, { recursive: true })
  })

  it('at any point loses no commit that was acknowledged, and what is left is whole', async () => {
    const harm = await losses(steps, POINTS, SEED)
    if (POINTS > 50) process.stdout.write(`power went at ${String(POINTS)} points of ${String(steps.length)} recorded steps (${String(COMMITS)} commits, seed ${String(SEED)}): ${String(harm.length)} with harm\n`)
    expect(harm).toEqual([])
  }, 60_000 + POINTS * (POINTS > 50 ? 60_000 : 15_000))

  it('does harm where nothing is flushed (the control: PGlite as it comes)', async () => {
    const unflushed = await run(join(root, 'unflushed'), 'os')
    expect(unflushed.filter(step => step.what === 'flush')).toEqual([])
    expect(await losses(unflushed, 1, SEED, WORST)).toEqual([expect.stringMatching(/no table after|lost/)])
  }, 120_000)

  it('does harm where the log is flushed and the data is not before a checkpoint is recorded (the control of the order)', async () => {
    const withoutData = steps.filter(step => step.what !== 'flush' || !/postgres\/base\/5\//.test(step.path))
    expect(await losses(withoutData, 1, SEED, WORST)).toEqual([expect.stringMatching(/no table after|lost|not whole|breaks|does not open/)])
  }, 120_000)
})

function differences(real: string, played: string): readonly string[] {
  const files = (dir: string): readonly string[] => readdirSync(dir, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile()).map(entry => relative(dir, join(entry.parentPath, entry.name))).sort()
  const [ours, theirs] = [files(real), files(played)]
  const names = ours.filter(name => !theirs.includes(name)).concat(theirs.filter(name => !ours.includes(name)))
  const contents = ours.filter(name => theirs.includes(name) && !readFileSync(join(real, name)).equals(readFileSync(join(played, name))))
  return [...names.map(name => `only in one: ${name}`), ...contents.map(name => `differs: ${name} (${String(fs.statSync(join(real, name)).size)} bytes)`)]
}
