/**
 * The storm at two loads with fewer seconds: the defaults keep the budget, and without protection the server stays down.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { storm, type Output } from './command.ts'
import { COLUMNS } from './columns.ts'
import { figuresOf, type Figures } from './figures.ts'
import { BUDGET, SECONDS_HEADER, SUMMARY_HEADER, verdictOf } from './report.ts'
import { runColumn } from './run.ts'
import { busyMs, OUTAGES, SCENARIO_DEFAULTS, secondsOf, type Outage, type Scenario } from './scenario.ts'

const SCENARIO: Scenario = { ...SCENARIO_DEFAULTS, afterSeconds: 20 }

function column(id: string): (typeof COLUMNS)[number] {
  const found = COLUMNS.find(one => one.id === id)
  if (found === undefined) throw new Error(`no column ${id}`)
  return found
}

async function run(id: string, load: number, change: Partial<Scenario> = {}): Promise<Figures> {
  const scenario = { ...SCENARIO, ...change }
  return figuresOf(scenario, await runColumn(scenario, column(id), load))
}

const dir = mkdtempSync(join(tmpdir(), 'holdfast-storm-'))
afterAll(() => { rmSync(dir, { recursive: true, force: true }) })

async function command(...args: string[]): Promise<{ code: number; out: string; said: string }> {
  let out = '', said = ''
  const output: Output = { out: text => { out += text }, say: text => { said += text }, picture: undefined }
  const code = await storm(args, output)
  return { code, out, said }
}

describe('after an outage of 30 s', () => {
  it.each([50, 75, 90])('the defaults are back within ten seconds under a load of %i percent, with at most 1.1 attempts a call', async load => {
    for (const outage of OUTAGES) {
      const { backAfterSeconds, amplification, goodput } = await run('defaults', load, { outage })
      expect(backAfterSeconds, outage).toBeLessThanOrEqual(BUDGET.backWithinSeconds)
      expect(amplification.storm, outage).toBeLessThanOrEqual(BUDGET.amplification)
      expect([goodput.before, goodput.end].map(share => share > 0.97), outage).toEqual([true, true])
    }
  })

  it('naive retries stay down at 75 and 90 %, although everything works again (control)', async () => {
    for (const load of [75, 90]) {
      const { backAfterSeconds, amplification, goodput } = await run('naive', load)
      expect(backAfterSeconds).toBeUndefined()
      expect(goodput.before).toBeGreaterThan(0.97)
      expect(goodput.end).toBeLessThan(0.05)
      expect(amplification.end).toBeGreaterThan(3)
    }
  })

  it('a breaker that stays open for a minute is too late, although it protects the server (control)', async () => {
    const { backAfterSeconds, amplification } = await run('no-early-trials', 75)
    expect(backAfterSeconds).toBeUndefined()
    expect(amplification.storm).toBeLessThan(0.1)
  })

  it('backoff and a retry budget alone do not bring it back; a bounded queue or kept deadlines do, and let the storm reach the server', async () => {
    for (const id of ['jitter', 'budget']) expect((await run(id, 75)).backAfterSeconds, id).toBeUndefined()
    for (const id of ['server-queue', 'server-deadline']) {
      const { backAfterSeconds, amplification } = await run(id, 75)
      expect(backAfterSeconds, id).toBeLessThanOrEqual(BUDGET.backWithinSeconds)
      expect(amplification.storm, id).toBeGreaterThan(2)
    }
  })
})

describe('the verdict', () => {
  it('fails when the defaults are late, when they multiply calls, and when naive retries come back', async () => {
    const good = await run('defaults', 75)
    const judge = (...figures: Figures[]): boolean => verdictOf(SCENARIO, figures).kept
    expect(judge(good)).toBe(true)
    expect(judge({ ...good, backAfterSeconds: 11 })).toBe(false)
    expect(judge({ ...good, backAfterSeconds: undefined })).toBe(false)
    expect(judge({ ...good, amplification: { ...good.amplification, storm: 1.11 } })).toBe(false)
    expect(judge({ ...good, column: column('naive'), backAfterSeconds: 5 })).toBe(false)
    expect(judge({ ...good, column: column('naive'), backAfterSeconds: undefined })).toBe(false)
    expect(judge({ ...good, column: column('naive'), backAfterSeconds: undefined, goodput: { ...good.goodput, end: 0 } })).toBe(true)
  })
})

describe('work in the outage', () => {
  const world = (outage: Outage): Scenario => ({ ...SCENARIO, outage, beforeSeconds: 10, outageSeconds: 30 })

  it('stands still, slows down to a quarter, or takes its time and fails', () => {
    expect([0, 9_950, 20_000, 40_000].map(now => busyMs(world('hang'), 100, now))).toEqual([100, 30_100, 20_100, 100])
    expect([0, 9_950, 20_000, 39_900, 40_000].map(now => busyMs(world('slow'), 100, now))).toEqual([100, 250, 400, 175, 100])
    expect(busyMs(world('errors'), 100, 20_000)).toBe(100)
  })
})

describe('the command', () => {
  const args = ['--load', '75', '--columns', 'naive,defaults', '--seconds', '15']
  const light = ['--load', '75', '--columns', 'no-retries,defaults', '--seconds', '15']

  it('prints the same CSV for the same seed, another for another, and draws the picture', async () => {
    const file = join(dir, 'storm.svg')
    const [first, second, other] = [await command(...light, '--csv', '--svg', file), await command(...light, '--csv'), await command(...light, '--csv', '--seed', '2')]
    expect(first.code).toBe(0)
    expect(second.out).toBe(first.out)
    expect(other.out).not.toBe(first.out)
    const lines = first.out.trimEnd().split('\n')
    expect(lines[0]).toBe(SECONDS_HEADER)
    expect(lines).toHaveLength(1 + 2 * secondsOf({ ...SCENARIO, afterSeconds: 15 }))
    for (const line of lines.slice(1)) {
      const [offered, ok, failed] = line.split(',').slice(3, 6).map(Number)
      expect((ok ?? 0) + (failed ?? 0), line).toBe(offered)
    }
    const svg = readFileSync(file, 'utf8')
    expect(svg).toMatch(/^<svg [^>]+role="img"/)
    expect(svg).toContain('stays down')
    expect(svg).not.toMatch(/NaN|undefined/)
  })

  it('prints a summary, as CSV and as JSON, with the verdict beside it', async () => {
    const [csv, json] = [await command(...args), await command(...light, '--json')]
    expect(csv.out.split('\n').slice(0, 2).map(line => line.split(',').slice(0, 2))).toEqual([SUMMARY_HEADER.split(',').slice(0, 2), ['75', 'naive']])
    expect(csv.said).toContain('ok     naive retries at 75 %: stays down (control)')
    expect(json.out.trimEnd().split('\n').map(line => JSON.parse(line) as unknown)).toEqual([
      expect.objectContaining({ sim: 'storm', load: 75, column: 'no-retries', backAfterSeconds: null }), expect.objectContaining({ column: 'defaults' }),
    ])
  })

  it('explains itself, and says what is wrong with its arguments', async () => {
    const help = await command('--help')
    expect([help.code, help.said]).toEqual([0, ''])
    for (const text of [SUMMARY_HEADER, SECONDS_HEADER, '--real', ...COLUMNS.map(({ id }) => id)]) expect(help.out).toContain(text)
    for (const bad of [['--load', '0'], ['--load', 'x'], ['--seconds', '3'], ['--seed', '1.5'], ['--outage', 'rain'], ['--columns', 'best'], ['--csv', '--json'], ['--wat']]) {
      const { code, out, said } = await command(...bad)
      expect([code, out], bad.join(' ')).toEqual([2, ''])
      expect(said, bad.join(' ')).toContain(bad.at(-1))
    }
  })
})
