/**
 * Breakers over a restart: what was left alone stays left alone, with the time that remains; a bad file harms nothing.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterAll, describe, expect, it } from 'vitest'
import type { Dependency } from '../guard/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { createHoldfast, type Holdfast } from './index.ts'

const root = mkdtempSync(join(tmpdir(), 'holdfast-breakers-'))
afterAll(() => { rmSync(root, { recursive: true }) })
const folder = (): string => mkdtempSync(join(root, 'data-'))
const fileOf = (dir: string): string => join(dir, 'breakers.last-known.json')

interface Life {
  readonly env: SimulatedEnv
  readonly hold: Holdfast
  readonly panel: Dependency
  /** Calls that reached the panel, which is down. */
  readonly reached: () => number
  readonly call: () => Promise<void>
  readonly told: () => readonly string[]
  readonly warned: readonly string[]
}

const BREAKER = { tier: 'degradable', runbook: 'down', retry: false, breaker: { failures: 3, openFor: '60s' } } as const

function life(env: SimulatedEnv, dataDir: string | undefined): Life {
  const warned: string[] = []
  const quiet = (): void => undefined
  const log = { debug: quiet, info: quiet, error: quiet, warn: (_fields: object, message: string) => { warned.push(message) } }
  const hold = createHoldfast({ service: 'shop', env, environment: {}, log, ...(dataDir === undefined ? {} : { dataDir }) })
  const panel = hold.dependency('panel', BREAKER)
  let reached = 0
  return {
    env, hold, panel, warned, reached: () => reached,
    call: async () => { await panel.try('get', { effect: 'read' }, () => { reached += 1; throw Object.assign(new Error('down'), { status: 503 }) }) },
    told: () => hold.timeline().filter(({ name }) => name === 'breaker.state.lost').map(({ text }) => text),
  }
}

/** The disk is real: virtual time passes in steps with a real turn of the disk between them, longer ones where the machine is busy. */
async function until(env: SimulatedEnv, done: () => boolean): Promise<boolean> {
  for (let step = 0; step < 200 && !done(); step += 1) {
    await env.advance(10)
    await (step < 50 ? stat(root) : setTimeout(20))
  }
  return done()
}

async function soon<T>(env: SimulatedEnv, work: Promise<T>): Promise<T> {
  let over = false
  work.then(() => { over = true }, () => { over = true })
  expect(await until(env, () => over)).toBe(true)
  return work
}

const written = (dir: string): Readonly<Record<string, { readonly phase: string }>> => (existsSync(fileOf(dir)) ? (JSON.parse(readFileSync(fileOf(dir), 'utf8')) as { breakers: Record<string, { phase: string }> }).breakers : {})

describe('an open breaker', () => {
  it('is still open after a crash, with the time that remains, and nobody calls until it is over', async () => {
    const [world, dir] = [simulatedEnv(), folder()]
    const victim = life(world.process(), dir)
    await victim.hold.start()
    for (let time = 0; time < 3; time += 1) await victim.call()
    expect(await until(world, () => written(dir)['panel']?.phase === 'open')).toBe(true)
    victim.env.kill()
    await world.advance('20s')

    const next = life(world.process(), dir)
    await next.hold.start()
    expect(next.panel.snapshot()).toMatchObject({ state: 'open', failures: 3 })
    expect(next.panel.snapshot().retryAfterMs).toBeGreaterThan(37_000)
    expect(next.panel.snapshot().retryAfterMs).toBeLessThanOrEqual(40_000)
    await next.call()
    expect(next.reached()).toBe(0)
    expect(next.hold.health.component('panel')?.state).toBe('degraded')
    expect((await next.hold.status()).alerts).toMatchObject([{ alert: 'breaker-open' }])
    await world.advance('40s')
    expect(next.panel.snapshot().state).toBe('half-open')
    await next.call()
    expect(next.reached()).toBe(1)
    await soon(world, next.hold.stop())
  })

  it('control: without the data directory the restarted service hammers the panel at once', async () => {
    const world = simulatedEnv()
    const victim = life(world.process(), undefined)
    await victim.hold.start()
    for (let time = 0; time < 3; time += 1) await victim.call()
    expect(victim.panel.snapshot().state).toBe('open')
    victim.env.kill()
    const next = life(world.process(), undefined)
    await next.hold.start()
    await next.call()
    expect([next.panel.snapshot().state, next.reached()]).toEqual(['closed', 1])
    await soon(world, next.hold.stop())
  })

  it('that has recovered is forgotten by the file too', async () => {
    const [world, dir] = [simulatedEnv(), folder()]
    const first = life(world.process(), dir)
    await first.hold.start()
    for (let time = 0; time < 3; time += 1) await first.call()
    expect(await until(world, () => written(dir)['panel']?.phase === 'open')).toBe(true)
    await world.advance('61s')
    for (let time = 0; time < 2; time += 1) await first.panel.call('get', { effect: 'read' }, () => 1)
    await world.advance('10s')
    await soon(world, first.hold.stop())
    expect(written(dir)).toEqual({})
    expect(world.pendingTimers).toBe(0)
  })
})

describe('a forced breaker', () => {
  it('stays forced after an orderly restart, by the same person, for the same reason, until the same time', async () => {
    const [world, dir] = [simulatedEnv(), folder()]
    const first = life(world.process(), dir)
    await first.hold.start()
    await first.hold.command('breaker.force', { target: 'panel', args: { state: 'open', for: '1h' }, actor: { id: 'alice', via: 'cli' }, reason: 'they migrate' })
    const until = first.panel.snapshot().forced?.until
    await soon(world, first.hold.stop())
    await world.advance('10m')
    const next = life(world.process(), dir)
    await next.hold.start()
    expect(next.panel.snapshot()).toMatchObject({ state: 'forced-open', forced: { by: 'cli:alice', reason: 'they migrate', until } })
    await world.advance('51m')
    expect(next.panel.snapshot().forced).toBeUndefined()
    await soon(world, next.hold.stop())
  })
})

describe('a file that is of no use', () => {
  const record = { version: 1, savedAt: 0, phase: 'ajar', failures: 0, remainingMs: null, forced: null }
  const cases: readonly (readonly [string, string, string])[] = [
    ['half written', '{ "breakers": { "pan', 'cannot be read, so they begin closed'],
    ['of another shape', '[]', 'it holds no breakers'],
    ['with a list', '{ "breakers": [] }', 'it holds no breakers'],
    ['too large', `{ "breakers": {} }${' '.repeat(600_000)}`, 'expected 524288 at most'],
    ['with a record that is none', JSON.stringify({ breakers: { panel: record } }), "the breaker of panel is not used: the record's phase is ajar"],
    ['with a text for a record', '{ "breakers": { "panel": "open" } }', 'the record is no object'],
  ]
  it.each(cases)('%s is ignored with a warning: the service starts, and its breakers begin closed', async (_what, text, said) => {
    const [env, dir] = [simulatedEnv(), folder()]
    writeFileSync(fileOf(dir), text)
    const { hold, panel, told, warned, call, reached } = life(env, dir)
    await hold.start()
    expect([hold.phase, panel.snapshot().state, told()]).toEqual(['ready', 'closed', [expect.stringContaining(said)]])
    expect(warned).toEqual(told())
    await call()
    expect(reached()).toBe(1)
    await soon(env, hold.stop())
  })

  it('and one that cannot be written is said once, and calls go on', async () => {
    const env = simulatedEnv()
    const dir = folder()
    writeFileSync(join(dir, 'not-a-folder'), '')
    const { hold, panel, told, call } = life(env, join(dir, 'not-a-folder'))
    await hold.start()
    for (let time = 0; time < 3; time += 1) await call()
    const lost = (): readonly string[] => told().filter(text => text.includes('cannot be kept'))
    expect(await until(env, () => lost().length === 1)).toBe(true)
    for (const state of ['open', 'closed'] as const) panel.force(state, { by: 'test', reason: 'again' })
    await until(env, () => false)
    await soon(env, hold.stop())
    expect([panel.snapshot().state, lost().length]).toEqual(['forced-closed', 1])
  })
})

describe('the file', () => {
  it('is not made while there is nothing to say', async () => {
    const [env, dir] = [simulatedEnv(), folder()]
    const { hold, panel } = life(env, dir)
    await hold.start()
    await panel.call('get', { effect: 'read' }, () => 1)
    await soon(env, hold.stop())
    expect(existsSync(fileOf(dir))).toBe(false)
  })

  it('keeps what belongs to a dependency that is declared later, for a day', async () => {
    const [world, dir] = [simulatedEnv(), folder()]
    const first = life(world.process(), dir)
    const late = first.hold.dependency('late', BREAKER)
    await first.hold.start()
    late.force('open', { by: 'alice', reason: 'for good' })
    await soon(world, first.hold.stop())

    // It comes and goes without ever declaring `late`, and writes for itself.
    const second = life(world.process(), dir)
    await second.hold.start()
    second.panel.force('open', { by: 'bob', reason: 'a moment' })
    await soon(world, second.hold.stop())

    const third = life(world.process(), dir)
    await third.hold.start()
    expect(third.hold.dependency('late', BREAKER).snapshot()).toMatchObject({ state: 'forced-open', forced: { by: 'alice', reason: 'for good' } })
    await soon(world, third.hold.stop())

    await world.advance('25h')
    const fourth = life(world.process(), dir)
    await fourth.hold.start()
    await soon(world, fourth.hold.stop())
    expect(Object.keys(written(dir))).toEqual(['panel'])
  })

  it('is not touched by a start that fails before it', async () => {
    const [env, dir] = [simulatedEnv(), folder()]
    writeFileSync(fileOf(dir), '{ "breakers": {} }')
    const hold = createHoldfast({ service: 'shop', env, environment: {}, log: 'silent', dataDir: dir, runbooks: {} })
    hold.dependency('panel', BREAKER)
    await expect(hold.start()).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
    expect(readFileSync(fileOf(dir), 'utf8')).toBe('{ "breakers": {} }')
  })
})
