/**
 * The bench's own promises: its command line, its lines of JSON, its tables and its verdict. No figure is judged here.
 *
 * Holdfast is measured from its sources and beside `bare` only, so neither a build nor an installed peer is needed.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const dir = mkdtempSync(join(tmpdir(), 'holdfast-bench-'))
afterAll(() => { rmSync(dir, { recursive: true, force: true }) })

interface Row { readonly bench: string; readonly case: string; readonly subject: string; readonly value: number; readonly unit: string }

function bench(...args: readonly string[]): { readonly code: number | null; readonly out: string; readonly err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/bench.mjs', ...args], { cwd: root, encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

const rowsOf = (text: string): Row[] => text.trim().split('\n').map(line => JSON.parse(line) as Row)

const FULL = 'full stack'
const IN_ALS = 'full stack, in AsyncLocalStorage'
const LISTENING = 'full stack, metrics and log listening'
const TRY = 'refusal by an open breaker, try'

/** Figures that keep every budget by a little. */
const KEPT: readonly Omit<Row, 'bench'>[] = [
  { case: FULL, subject: 'bare', value: 200, unit: 'ns/op' },
  { case: FULL, subject: 'holdfast', value: 990, unit: 'ns/op' },
  { case: FULL, subject: 'cockatiel@4.0.0', value: 20_000, unit: 'ns/op' },
  { case: FULL, subject: 'opossum@9.0.0 + p-retry@7.1.1', value: 20_000, unit: 'ns/op' },
  { case: FULL, subject: 'holdfast', value: 1_000, unit: 'bytes/op' },
  { case: IN_ALS, subject: 'bare', value: 300, unit: 'ns/op' },
  { case: IN_ALS, subject: 'holdfast', value: 1_500, unit: 'ns/op' },
  { case: LISTENING, subject: 'holdfast', value: 1_480, unit: 'ns/op' },
  { case: TRY, subject: 'holdfast', value: 1_000, unit: 'ns/op' },
]

/** The same, with one figure replaced. */
function saved(name: string, change: Partial<Row> = {}): string {
  const path = join(dir, `${name}.jsonl`)
  const rows = KEPT.map(row => (row.case === change.case && row.subject === change.subject && row.unit === change.unit ? { ...row, ...change } : row))
  // What npm prints before a script's own output may be in such a file.
  writeFileSync(path, `\n> holdfast bench\n\n${rows.map(row => JSON.stringify({ bench: 'guard', ...row })).join('\n')}\n`)
  return path
}

describe('the command line', () => {
  it('names the benches when none, or one that does not exist, is asked for', () => {
    for (const args of [[], ['brakes']]) {
      const { code, out, err } = bench(...args)
      expect({ code, out }).toEqual({ code: 64, out: '' })
      expect(err).toContain('the benches are: durable, guard')
    }
  })

  it('explains itself and lists the cases', () => {
    const { code, out } = bench('--help')
    expect(code).toBe(0)
    for (const name of ['retry', 'breaker', 'timeout', 'concurrency', 'full stack']) expect(out).toContain(`  ${name}\n  ${name}, in AsyncLocalStorage\n`)
    for (const name of [LISTENING, 'refusal by an open breaker, throwing', TRY, 'failure path, 20000 calls in the window', '1000 idle breakers']) expect(out).toContain(`  ${name}\n`)
  })

  it('refuses what it does not understand, and says what it would', () => {
    expect(bench('guard', '--runs', '2').err).toContain('at least 3')
    expect(bench('guard', '--runs', 'many').err).toContain('whole number')
    expect(bench('guard', '--only', 'brakes').err).toContain('there are: retry;')
    expect(bench('guard', '--subjects', 'polly').err).toContain('there are: bare, holdfast, cockatiel, opossum, effect')
    expect(bench('guard', '--jsonl').err).toContain('--jsonl')
    expect(bench('guard', '--from', join(dir, 'none.jsonl')).err).toContain('none.jsonl')
  })
})

describe('a run', () => {
  it('writes one object per figure, and nothing else, on standard output', () => {
    const { code, out, err } = bench('guard', '--json', '--quick', '--source', '--only', FULL, '--subjects', 'holdfast,bare')
    expect(err).not.toContain('failed')
    expect(code).toBe(0)
    const rows = rowsOf(out)
    for (const row of rows) {
      expect(Object.keys(row)).toEqual(['bench', 'case', 'subject', 'value', 'unit'])
      expect(row.bench).toBe('guard')
      expect(row.value).toBeGreaterThan(0)
    }
    const figures = rows.map(({ case: name, subject, unit }) => `${name} | ${subject} | ${unit}`)
    expect(figures).toEqual([FULL, IN_ALS, 'full stack, signal read', LISTENING].flatMap(name => ['ns/op', 'bytes/op'].flatMap(unit =>
      (name === LISTENING ? ['holdfast'] : ['bare', 'holdfast']).map(subject => `${name} | ${subject} | ${unit}`))))
    // An empty call allocates two or three hundred bytes; half of that would mean that it was not made, or a collection was counted.
    const bare = rows.find(row => row.case === FULL && row.subject === 'bare' && row.unit === 'bytes/op')
    expect(bare?.value).toBeGreaterThan(150)
    expect(bare?.value).toBeLessThan(500)
  }, 60_000)
})

describe('saved figures', () => {
  it('become a table with ratios', () => {
    const { code, out } = bench('guard', '--from', saved('table'), '--only', IN_ALS)
    expect(code).toBe(0)
    expect(out).toMatch(/^full stack, in AsyncLocalStorage \(ns\/op\)$/m)
    expect(out).toMatch(/^ {2}holdfast +1,500 +5\.00x +1\.00x$/m)
    expect(out).toMatch(/^ {2}bare +300 +1\.00x +0\.20x$/m)
  })

  it('become tables for documentation', () => {
    const { out } = bench('guard', '--from', saved('markdown'), '--markdown')
    expect(out).toContain('| ns/op | bare | holdfast | cockatiel@4.0.0 | opossum@9.0.0 + p-retry@7.1.1 |')
    expect(out).toContain('| full stack | 200 (0.20x) | 990 | 20,000 (20.2x) | 20,000 (20.2x) |')
  })

  it('pass the check when they keep every budget', () => {
    const { code, out } = bench('guard', '--from', saved('kept'), '--check')
    expect(out.match(/^ {2}pass /gm)).toHaveLength(7)
    expect(out).not.toMatch(/MISS|not measured/)
    expect(code).toBe(0)
  })

  it.each<Partial<Row>>([
    { case: FULL, subject: 'holdfast', unit: 'bytes/op', value: 1_001 },
    { case: FULL, subject: 'cockatiel@4.0.0', unit: 'ns/op', value: 19_000 },
    { case: FULL, subject: 'opossum@9.0.0 + p-retry@7.1.1', unit: 'ns/op', value: 19_000 },
    { case: IN_ALS, subject: 'holdfast', unit: 'ns/op', value: 1_501 },
    { case: LISTENING, subject: 'holdfast', unit: 'ns/op', value: 1_491 },
    { case: TRY, subject: 'holdfast', unit: 'ns/op', value: 1_001 },
  ])('fail the check when one is missed: $case, $subject, $value $unit', change => {
    const { code, out } = bench('guard', '--from', saved('missed', change), '--check')
    expect(out.match(/^ {2}MISS /gm)).toHaveLength(1)
    expect(code).toBe(1)
  })

  it('fail the check when one is not there at all', () => {
    const { code, out } = bench('guard', '--from', saved('absent', { case: TRY, subject: 'holdfast', unit: 'ns/op', bench: 'other' }), '--check')
    expect(out).toContain('through try: at most 1 µs: not measured')
    expect(code).toBe(1)
  })

  it('are judged beside the lines of JSON, not among them', () => {
    const { out, err } = bench('guard', '--from', saved('both'), '--check', '--json')
    expect(rowsOf(out)).toHaveLength(KEPT.length)
    expect(err).toContain('budgets')
  })
})

describe('durable', () => {
  const PER = 'ops/s'
  /** Figures that keep every budget by a little. */
  const kept: readonly Omit<Row, 'bench'>[] = [['sequential', 300], ['32 in parallel', 500]].flatMap(([how, dbosPercent]) => [
    { case: `once, ${String(how)}`, subject: 'bare', value: 1_000, unit: PER },
    { case: `once, ${String(how)}`, subject: 'holdfast', value: 800, unit: PER },
    { case: `saga, 3 steps, ${String(how)}`, subject: '@dbos-inc/dbos-sdk@5.3.0', value: 100, unit: PER },
    { case: `saga, 3 steps, ${String(how)}`, subject: 'holdfast', value: Number(dbosPercent), unit: PER },
  ])
  const check = (name: string, missed?: string): ReturnType<typeof bench> => {
    const path = join(dir, `${name}.jsonl`)
    writeFileSync(path, kept.map(row => `${JSON.stringify({ bench: 'durable', ...row, value: row.case === missed && row.subject === 'holdfast' ? row.value - 1 : row.value })}\n`).join(''))
    return bench('durable', '--from', path, '--check')
  }

  it('passes the check when every budget is kept, and fails it when any is missed', () => {
    const { code, out } = check('durable')
    expect(out.match(/^ {2}pass /gm)).toHaveLength(4)
    expect(code).toBe(0)
    for (const { case: missed, subject } of kept.filter(row => row.subject === 'holdfast')) {
      const verdict = check('missed', missed)
      expect([subject, missed, verdict.out.match(/^ {2}MISS /gm)?.length, verdict.code]).toEqual([subject, missed, 1, 1])
    }
  })

  it('chooses peers by their names without scope', () => {
    const path = join(dir, 'durable.jsonl')
    expect(rowsOf(bench('durable', '--from', path, '--json', '--subjects', 'dbos-sdk').out).map(row => row.subject)).toEqual(['@dbos-inc/dbos-sdk@5.3.0', '@dbos-inc/dbos-sdk@5.3.0'])
  })

  it('measures on a server that it starts, subjects taking turns', () => {
    const { code, out, err } = bench('durable', '--json', '--quick', '--source', '--only', 'once, sequential')
    expect(err).not.toContain('failed')
    expect(code).toBe(0)
    expect(rowsOf(out).map(({ bench: name, case: of, subject, unit, value }) => [name, of, subject, unit, value > 0])).toEqual([
      ['durable', 'once, sequential', 'bare', PER, true], ['durable', 'once, sequential', 'holdfast', PER, true],
    ])
  }, 60_000)
})

describe('the peers', () => {
  it('are installed from a lockfile of their own that names no registry, by nobody but the bench', () => {
    expect(readFileSync(join(root, 'bench/package-lock.json'), 'utf8')).not.toMatch(/"resolved"|https?:\/\/registry/)
    const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly workspaces: readonly string[]; readonly devDependencies: Readonly<Record<string, string>> }
    expect(own.workspaces).not.toContain('bench')
    for (const peer of ['cockatiel', 'opossum', 'p-retry', 'effect', '@dbos-inc/dbos-sdk', 'graphile-worker', 'pg-boss']) expect(own.devDependencies).not.toHaveProperty(peer)
    expect(existsSync(join(root, 'bench/package.json'))).toBe(true)
  })
})
