import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { EventBus, type Actor, type HoldfastEvent } from '../../core/index.ts'
import { memory, memoryDisk, type MemoryDisk } from '../../store/memory/index.ts'
import type { MemoryTx } from '../../store/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../../testing/simulated-env.ts'
import { auditLog } from '../audit/audit.ts'
import type { StoreKit } from '../kit.ts'
import { flagBoard, flags, type FlagBoardOptions } from './board.ts'
import { environmentName } from './flag.ts'
import type { OverridePort } from './override.ts'
import { storedOverrides } from './stored-overrides.ts'

const alice: Actor = { id: 'alice', via: 'cli' }
const DECLARED = {
  payments: { default: true, whenOff: 'Customers are told that payments are paused' },
  vpnProvisioning: { default: true, whenOff: 'Paid subscriptions wait; nothing is lost' },
} as const

async function storeKit(env: SimulatedEnv, disk: MemoryDisk): Promise<StoreKit<MemoryTx> & { readonly seen: HoldfastEvent[] }> {
  const events = new EventBus(env)
  const seen: HoldfastEvent[] = []
  events.onAny(event => { seen.push(event) })
  const database = await memory(disk).open({ env, events, service: 'test' })
  return { env, events, service: 'test', instance: env.uuid(), database: () => database, seen }
}

function bare(env: SimulatedEnv, environment: FlagBoardOptions['environment'] = {}) {
  const events = new EventBus(env)
  const seen: HoldfastEvent[] = []
  events.onAny(event => { seen.push(event) })
  return { kit: { env, events, service: 'test', instance: 'i' }, seen, options: { environment } }
}

const shared = (kit: StoreKit<MemoryTx>): OverridePort => storedOverrides(kit, auditLog(kit))

describe('a flag that nobody touched', () => {
  it('has its default, and refuses as a value when that is off', () => {
    const { kit, options, seen } = bare(simulatedEnv())
    const { flags: on } = flags(DECLARED, kit, options)
    expect([on.payments.on, on.payments.check('handler pay')]).toEqual([true, { ok: true }])
    const { flags: off } = flags({ referral: { default: false, whenOff: 'No rewards are given' } }, kit, options)
    expect(off.referral.check('handler buy')).toEqual({ ok: false, reason: 'switched-off', message: 'referral is switched off (default): No rewards are given' })
    expect(seen.map(event => event.data)).toEqual([{ flag: 'referral', where: 'handler buy', message: 'referral is switched off (default): No rewards are given' }])
  })
})

describe('environment names', () => {
  it('are the snake case of the flag', () => {
    expect(['payments', 'vpnProvisioning', 'autoRenewal', 'backgroundWorkers', 'adminActions', 'dbLogging', 'HTTPServer', 'vpn-panel'].map(environmentName)).toEqual([
      'FEATURE_PAYMENTS_ENABLED', 'FEATURE_VPN_PROVISIONING_ENABLED', 'FEATURE_AUTO_RENEWAL_ENABLED', 'FEATURE_BACKGROUND_WORKERS_ENABLED', 'FEATURE_ADMIN_ACTIONS_ENABLED',
      'FEATURE_DB_LOGGING_ENABLED', 'FEATURE_HTTP_SERVER_ENABLED', 'FEATURE_VPN_PANEL_ENABLED',
    ])
  })
})

describe('a pin of the environment', () => {
  it('that says off is absolute: no override switches it on', async () => {
    const { kit, options } = bare(simulatedEnv(), { FEATURE_PAYMENTS_ENABLED: 'false' })
    const board = flags(DECLARED, kit, options)
    await board.set('payments', true, { actor: alice, reason: 'try' })
    expect(board.flags.payments.on).toBe(false)
    expect(board.status()[0]).toMatchObject({ on: false, because: 'pinned by FEATURE_PAYMENTS_ENABLED', pinned: true })
  })

  it('that says on replaces only the default: an operator still switches it off', async () => {
    const { kit, options } = bare(simulatedEnv(), { FEATURE_REFERRAL_ENABLED: 'true' })
    const board = flags({ referral: { default: false, whenOff: 'none' } }, kit, options)
    expect(board.flags.referral.on).toBe(true)
    await board.set('referral', false, { actor: alice, reason: 'fraud' })
    expect(board.flags.referral.on).toBe(false)
  })

  it('may use an alias, and off wins where two names disagree', () => {
    const { kit, options } = bare(simulatedEnv(), { FEATURE_USE_RETRY_LOGIC: 'off', FEATURE_RETRY_ENABLED: 'true' })
    const { flags: set } = flags({ retry: { default: true, whenOff: 'single attempts', env: ['FEATURE_USE_RETRY_LOGIC'] } }, kit, options)
    expect(set.retry.on).toBe(false)
  })

  it('that is neither on nor off is refused, not guessed', () => {
    const { kit, options } = bare(simulatedEnv(), { FEATURE_PAYMENTS_ENABLED: 'flase' })
    expect(() => flags(DECLARED, kit, options)).toThrow(expect.objectContaining({ code: 'HF_CONFIG_INVALID' }) as Error)
  })
})

describe('the rule', () => {
  it('is off beats on, for every combination of pin, override, file-less default and parent', async () => {
    const value = fc.option(fc.boolean(), { nil: undefined })
    await fc.assert(fc.asyncProperty(value, value, fc.boolean(), value, fc.boolean(), async (pin, override, fallback, parentOverride, parentDefault) => {
      const { kit, options } = bare(simulatedEnv(), pin === undefined ? {} : { FEATURE_CHILD_ENABLED: String(pin) })
      const board = flags({ child: { default: fallback, whenOff: 'x', parent: 'root' }, root: { default: parentDefault, whenOff: 'y' } }, kit, options)
      if (override !== undefined) await board.set('child', override, { actor: alice, reason: 'r' })
      if (parentOverride !== undefined) await board.set('root', parentOverride, { actor: alice, reason: 'r' })
      const own = pin === false ? false : override ?? pin ?? fallback
      expect(board.flags.child.on).toBe(own && (parentOverride ?? parentDefault))
    }))
  })

  it('refuses a parent that does not exist, a cycle, a second definition and an empty whenOff', () => {
    const { kit, options } = bare(simulatedEnv())
    const board = flagBoard(kit, options)
    const invalid = expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error
    expect(() => board.declare({ a: { default: true, whenOff: 'x', parent: 'nope' } })).toThrow(invalid)
    expect(() => board.declare({ a: { default: true, whenOff: 'x', parent: 'b' }, b: { default: true, whenOff: 'x', parent: 'a' } })).toThrow(invalid)
    expect(() => board.declare({ a: { default: true, whenOff: ' ' } })).toThrow(invalid)
    board.declare({ a: { default: true, whenOff: 'x' } })
    expect(() => board.declare({ a: { default: true, whenOff: 'x' } })).toThrow(expect.objectContaining({ code: 'HF_NAME_TAKEN' }) as Error)
  })
})

describe('an override', () => {
  it('needs a reason and a known flag', async () => {
    const { kit, options } = bare(simulatedEnv())
    const board = flags(DECLARED, kit, options)
    await expect(board.set('payments', false, { actor: alice, reason: '  ' })).rejects.toMatchObject({ code: 'HF_REASON_REQUIRED' })
    await expect(board.set('paymnts', false, { actor: alice, reason: 'x' })).rejects.toMatchObject({ code: 'HF_UNKNOWN_NAME' })
    for (const forMs of [0, -1, Number.NaN, Infinity]) await expect(board.set('payments', false, { actor: alice, reason: 'x', forMs })).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
    expect(board.flags.payments.on).toBe(true)
  })

  it('ends by itself and announces it, for the switch and those below', async () => {
    const env = simulatedEnv()
    const { kit, options, seen } = bare(env)
    const board = flags({ workers: { default: true, whenOff: 'x' }, activation: { default: true, whenOff: 'y', parent: 'workers' } }, kit, options)
    await board.set('workers', false, { actor: alice, reason: 'panel is down', forMs: 60_000 })
    expect([board.flags.workers.on, board.flags.activation.on]).toEqual([false, false])
    await env.advance('59s')
    expect(board.flags.activation.on).toBe(false)
    await env.advance('1s')
    expect([board.flags.workers.on, board.flags.activation.on]).toEqual([true, true])
    const changes = seen.filter(event => event.name === 'flag.changed').map(event => [event.data.flag, event.data.to, event.data.by])
    expect(changes).toEqual([['workers', false, 'cli:alice'], ['activation', false, 'cli:alice'], ['workers', true, 'expiry'], ['activation', true, 'expiry']])
    expect(env.pendingTimers).toBe(0)
  })
})

describe('on several instances', () => {
  it('a flip reaches the others within a second, both ways, with who and why; and the audit has both', async () => {
    const env = simulatedEnv()
    const disk = memoryDisk()
    const [kitA, kitB] = [await storeKit(env, disk), await storeKit(env.process(), disk)]
    const a = flags(DECLARED, kitA, { environment: {}, overrides: shared(kitA) })
    const b = flags(DECLARED, kitB, { environment: {}, overrides: shared(kitB) })
    await Promise.all([a.start(), b.start()])
    expect(await a.set('payments', false, { actor: alice, reason: 'mismatches' })).toMatchObject({ reach: 'every-instance', flag: { on: false } })
    expect([a.flags.payments.on, b.flags.payments.on]).toEqual([false, true])
    await env.advance('1s')
    expect([a.flags.payments.on, b.flags.payments.on]).toEqual([false, false])
    await b.clear('payments', { actor: { id: 'bob', via: 'console' }, reason: 'fixed' })
    await env.advance('1s')
    expect([a.flags.payments.on, b.flags.payments.on]).toEqual([true, true])
    const changes = kitA.seen.filter(event => event.name === 'flag.changed').map(event => event.data)
    expect(changes).toEqual([
      { flag: 'payments', from: true, to: false, by: 'cli:alice', reason: 'mismatches' },
      { flag: 'payments', from: false, to: true, by: 'console:bob', reason: 'fixed' },
    ])
    expect((await auditLog(kitA).list()).map(row => [row.actor, row.action, row.target, row.before, row.after])).toEqual([
      ['console:bob', 'flag.clear', 'payments', { override: false }, { override: null }],
      ['cli:alice', 'flag.set', 'payments', { override: null }, { override: false }],
    ])
    await Promise.all([a.stop(), b.stop()])
    expect(env.pendingTimers).toBe(0)
  })

  it('control: without polling the flip never arrives', async () => {
    const env = simulatedEnv()
    const disk = memoryDisk()
    const [kitA, kitB] = [await storeKit(env, disk), await storeKit(env.process(), disk)]
    const a = flags(DECLARED, kitA, { environment: {}, overrides: shared(kitA) })
    const b = flags(DECLARED, kitB, { environment: {}, overrides: shared(kitB) })
    await a.set('payments', false, { actor: alice, reason: 'mismatches' })
    await env.advance('10s')
    expect(b.flags.payments.on).toBe(true)
  })

  it('expiry is by the database\'s clock: an instance whose wall clock is an hour ahead does not end it early', async () => {
    const env = simulatedEnv()
    const disk = memoryDisk()
    const kit = await storeKit(env, disk)
    const fast = env.process()
    const fastKit = { ...kit, env: fast, events: new EventBus(fast) }
    fast.jump(3_600_000)
    const b = flags(DECLARED, fastKit, { environment: {}, overrides: shared(kit) })
    await b.start()
    await flags(DECLARED, kit, { environment: {}, overrides: shared(kit) }).set('payments', false, { actor: alice, reason: 'x', forMs: 60_000 })
    await env.advance('58s')
    expect(b.flags.payments.on).toBe(false)
    await env.advance('3s')
    expect(b.flags.payments.on).toBe(true)
    await b.stop()
  })
})

describe('while the store is away', () => {
  /** A store that can be switched away, and made to hang. */
  function breakable(inner: OverridePort): OverridePort & { mode: 'up' | 'down' | 'hung' } {
    const act = <T>(work: () => Promise<T>): Promise<T> => (port.mode === 'up' ? work() : port.mode === 'down' ? Promise.reject(new Error('connection refused')) : new Promise<T>(() => undefined))
    const port: OverridePort & { mode: 'up' | 'down' | 'hung' } = { mode: 'up', read: signal => act(() => inner.read(signal)), write: change => act(() => inner.write(change)) }
    return port
  }

  it.each(['down', 'hung'] as const)('(%s) the last known switches stay, and it says that they are stale', async mode => {
    const env = simulatedEnv()
    const kit = await storeKit(env, memoryDisk())
    const port = breakable(shared(kit))
    const board = flags(DECLARED, kit, { environment: {}, overrides: port })
    await board.start()
    await board.set('payments', false, { actor: alice, reason: 'x' })
    port.mode = mode
    await env.advance('30s')
    expect(board.flags.payments.on).toBe(false)
    const stale = kit.seen.filter(event => event.name === 'flags.stale')
    expect(stale).toHaveLength(1)
    expect(board.ageMs).toBeGreaterThan(29_000)
    await env.advance('60s')
    expect(kit.seen.filter(event => event.name === 'flags.stale')).toHaveLength(2)
    port.mode = 'up'
    await env.advance('5s')
    expect(board.ageMs).toBeLessThan(1_000)
    await board.stop()
  })

  it('a kill acts here at once, and reaches the others when the store is back; restoring is refused meanwhile', async () => {
    const env = simulatedEnv()
    const disk = memoryDisk()
    const [kitA, kitB] = [await storeKit(env, disk), await storeKit(env.process(), disk)]
    const port = breakable(shared(kitA))
    const a = flags(DECLARED, kitA, { environment: {}, overrides: port })
    const b = flags(DECLARED, kitB, { environment: {}, overrides: shared(kitB) })
    await Promise.all([a.start(), b.start()])
    port.mode = 'down'
    expect(await a.set('payments', false, { actor: alice, reason: 'now' })).toMatchObject({ reach: 'this-instance', flag: { on: false } })
    await expect(a.set('payments', true, { actor: alice, reason: 'again' })).rejects.toThrow('connection refused')
    await env.advance('10s')
    expect([a.flags.payments.on, b.flags.payments.on]).toEqual([false, true])
    port.mode = 'up'
    await env.advance('1500ms')
    expect([a.flags.payments.on, b.flags.payments.on]).toEqual([false, false])
    expect((await auditLog(kitA).list()).map(row => row.reason)).toEqual(['now'])
    await Promise.all([a.stop(), b.stop()])
  })

  it('an older answer of a replica behind changes nothing', async () => {
    const env = simulatedEnv()
    const kit = await storeKit(env, memoryDisk())
    const real = shared(kit)
    const old = await real.read(new AbortController().signal)
    let behind = false
    const board = flags(DECLARED, kit, { environment: {}, overrides: { read: async signal => (behind ? old : real.read(signal)), write: change => real.write(change) } })
    await board.start()
    await board.set('payments', false, { actor: alice, reason: 'x' })
    behind = true
    await env.advance('2s')
    expect(board.flags.payments.on).toBe(false)
    await board.stop()
  })

  it('start does not wait longer than two seconds for it, and does not throw', async () => {
    const env = simulatedEnv()
    const kit = await storeKit(env, memoryDisk())
    const port = breakable(shared(kit))
    port.mode = 'hung'
    const board = flags(DECLARED, kit, { environment: {}, overrides: port })
    let started = false
    void board.start().then(() => { started = true })
    await env.advance('2s')
    expect(started).toBe(true)
    await board.stop()
    expect(env.pendingTimers).toBe(0)
  })
})

describe('files', () => {
  let dir: string
  beforeEach(() => { dir = mkdtempSync(join(tmpdir(), 'holdfast-flags-')) })
  afterEach(() => { rmSync(dir, { recursive: true, force: true }) })

  /** Lets virtual time pass in steps, with real disk answers between. */
  async function until(env: SimulatedEnv, done: () => boolean): Promise<boolean> {
    for (let round = 0; round < 400; round++) {
      if (done()) return true
      await env.advance(100)
      await stat(dir)
    }
    return done()
  }

  it('a restart with the store dead knows what operators decided, and expiries go on', async () => {
    const env = simulatedEnv()
    const kit = await storeKit(env, memoryDisk())
    const first = flags(DECLARED, kit, { environment: {}, overrides: shared(kit), dataDir: dir })
    await first.start()
    await first.set('payments', false, { actor: alice, reason: 'for good' })
    await first.set('vpnProvisioning', false, { actor: alice, reason: 'an hour', forMs: 3_600_000 })
    await first.stop()
    const dead: OverridePort = { read: () => Promise.reject(new Error('dead')), write: () => Promise.reject(new Error('dead')) }
    const second = flags(DECLARED, kit, { environment: {}, overrides: dead, dataDir: dir })
    await second.start()
    expect([second.flags.payments.on, second.flags.vpnProvisioning.on]).toEqual([false, false])
    await env.advance('1h')
    expect([second.flags.payments.on, second.flags.vpnProvisioning.on]).toEqual([false, true])
    await second.stop()
  })

  it('control: without the folder the restart knows nothing', async () => {
    const env = simulatedEnv()
    const kit = await storeKit(env, memoryDisk())
    const first = flags(DECLARED, kit, { environment: {}, overrides: shared(kit) })
    await first.set('payments', false, { actor: alice, reason: 'for good' })
    const second = flags(DECLARED, kit, { environment: {}, overrides: { read: () => Promise.reject(new Error('dead')), write: () => Promise.reject(new Error('dead')) } })
    await second.start()
    expect(second.flags.payments.on).toBe(true)
    await second.stop()
  })

  it('the local override file kills with no store at all, beats an override that says on, and its removal restores', async () => {
    const env = simulatedEnv()
    const { kit, seen } = bare(env)
    const board = flags(DECLARED, kit, { environment: {}, dataDir: dir })
    await board.start()
    await board.set('payments', true, { actor: alice, reason: 'on' })
    const path = join(dir, 'flags.override.json')
    writeFileSync(path, JSON.stringify({ payments: { on: false, reason: 'store is dead', actor: 'root' } }))
    expect(await until(env, () => !board.flags.payments.on)).toBe(true)
    expect(seen.filter(event => event.name === 'flag.changed').at(-1)?.data).toMatchObject({ flag: 'payments', to: false, by: 'root', reason: 'store is dead' })
    rmSync(path)
    expect(await until(env, () => board.flags.payments.on)).toBe(true)
    await board.stop()
  })

  it('a damaged override file keeps what was known and says so once', async () => {
    const env = simulatedEnv()
    const { kit, seen } = bare(env)
    const path = join(dir, 'flags.override.json')
    writeFileSync(path, '{"payments":false}')
    const board = flags(DECLARED, kit, { environment: {}, dataDir: dir })
    await board.start()
    writeFileSync(path, '{"payments":tr')
    expect(await until(env, () => seen.some(event => event.name === 'flags.stale'))).toBe(true)
    for (let round = 0; round < 20; round++) {
      await env.advance(500)
      await stat(dir)
    }
    expect(board.flags.payments.on).toBe(false)
    expect(seen.filter(event => event.name === 'flags.stale')).toHaveLength(1)
    await board.stop()
  })

  it('a damaged last-known file is said and never stops a start', async () => {
    const { kit, seen } = bare(simulatedEnv())
    writeFileSync(join(dir, 'flags.last-known.json'), '{')
    const board = flags(DECLARED, kit, { environment: {}, dataDir: dir })
    await board.start()
    expect(seen.map(event => event.name)).toEqual(['flags.stale'])
    expect(readFileSync(join(dir, 'flags.last-known.json'), 'utf8')).toBe('{')
    await board.stop()
  })
})
