import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testPostgres } from '../../test/postgres.ts'
import { createHoldfast } from '../app/index.ts'
import { EventBus, HoldfastError, realEnv } from '../core/index.ts'
import { DURABLE_MIGRATIONS } from '../durable/index.ts'
import { combine } from '../http/index.ts'
import { serve } from '../http/node.ts'
import { operate, type DoctorReport } from '../operate/index.ts'
import { run } from '../cli/run.ts'
import { embedded } from '../store/embedded/index.ts'
import { pgliteMemory } from '../store/embedded/testing.ts'
import { migrate, type Database, type SqlTx, type Store } from '../store/index.ts'
import { memory } from '../store/memory/index.ts'
import { postgres } from '../store/postgres/index.ts'
import { checkReplicas, examine, type DoctorInput } from './index.ts'

const env = realEnv()
const KEPT = { processCrash: true, powerLoss: true, severalInstances: true }
const LATER = { id: 1_000, name: 'of a newer version', sql: 'SELECT 1', olderCodeRuns: true }
const verdictOf = (report: DoctorReport, name: string): string | undefined => report.checks.find(check => check.name === name)?.verdict

describe.each<{ readonly name: string; readonly store: () => Promise<Store> }>([
  { name: 'PGlite', store: () => Promise.resolve(pgliteMemory()) },
  { name: 'postgres', store: async () => postgres(await (await testPostgres()).url()) },
])('the doctor on $name', ({ store }) => {
  let database: Database<SqlTx>
  const look = (changes: Partial<DoctorInput<SqlTx>> = {}): Promise<DoctorReport> => examine<SqlTx>({
    env, replicas: 1, store: { name: 'the store', durability: KEPT }, database: () => database,
    migrations: [{ scope: 'durable', migrations: DURABLE_MIGRATIONS }], waiting: () => Promise.resolve(0), ...changes,
  })
  beforeAll(async () => {
    database = await (await store()).open({ env, events: new EventBus(env), service: 'doctor' })
    await migrate(database, 'durable', DURABLE_MIGRATIONS)
  })
  afterAll(() => database.close())

  it('passes a sound one, and says what it looked at', async () => {
    const report = await look()
    expect(report.checks.filter(check => check.verdict !== 'pass')).toEqual([])
    expect(report.verdict).toBe('pass')
    expect(report.checks.map(check => check.name)).toEqual(['store', 'durability', 'work', 'schema durable', 'server', 'clock', 'retention', 'locks'])
  })

  it('fails a migration that is not applied, warns of one of a newer version, and fails one that this version cannot run on', async () => {
    expect(verdictOf(await look({ migrations: [{ scope: 'durable', migrations: [...DURABLE_MIGRATIONS, LATER] }] }), 'schema durable')).toBe('fail')
    await migrate(database, 'newer', [LATER])
    expect(verdictOf(await look({ migrations: [{ scope: 'newer', migrations: [] }] }), 'schema newer')).toBe('warn')
    await migrate(database, 'breaking', [{ ...LATER, olderCodeRuns: false }])
    const report = await look({ migrations: [{ scope: 'breaking', migrations: [] }] })
    expect(report.verdict).toBe('fail')
    expect(report.checks.find(check => check.name === 'schema breaking')).toMatchObject({ verdict: 'fail', found: expect.stringContaining('1000 (of a newer version)') as string, remedy: expect.any(String) as string })
  })

  it('warns of clocks that are apart, of rows that nobody sweeps, and of work that waits', async () => {
    expect(verdictOf(await look({ env: { monotonic: () => env.monotonic(), now: () => env.now() + 600_000 } }), 'clock')).toBe('warn')
    await database.transaction('old', tx => tx.query(`INSERT INTO holdfast.once_record (name, key, state, fingerprint, fence, expires_at) VALUES ('a', 'b', 'done', '', 1, clock_timestamp() - interval '2 days')`))
    expect((await look()).checks.find(check => check.name === 'retention')).toMatchObject({ verdict: 'warn', found: expect.stringContaining('once_record 1') as string })
    await database.transaction('clean', tx => tx.query('DELETE FROM holdfast.once_record'))
    expect(verdictOf(await look(), 'retention')).toBe('pass')
    expect(verdictOf(await look({ waiting: () => Promise.resolve(3) }), 'work')).toBe('warn')
  })

  it('says unknown where it could not look, and looks at the rest', async () => {
    const report = await look({ waiting: () => Promise.reject(new Error('the list is away')) })
    expect(report.checks.find(check => check.name === 'work')).toEqual({ name: 'work', verdict: 'unknown', found: 'it could not be found out: the list is away' })
    expect(report.verdict).toBe('warn')
    expect(verdictOf(report, 'locks')).toBe('pass')
  })
})

describe('the doctor', () => {
  it('fails a store that does not answer, and asks it nothing more', async () => {
    const report = await examine({
      env, replicas: 1, store: { name: 'the store', durability: KEPT }, migrations: [], waiting: () => Promise.resolve(0),
      database: () => { throw new HoldfastError('HF_NOT_STARTED', { message: 'the store is not open' }) },
    })
    expect(report).toMatchObject({ verdict: 'fail', checks: [{ name: 'store', verdict: 'fail', found: 'the store is not open' }, { name: 'durability', verdict: 'pass' }, { name: 'work' }] })
  })

  it.each([
    ['warn', { processCrash: true, powerLoss: false, severalInstances: false }, 1], ['fail', { processCrash: true, powerLoss: true, severalInstances: false }, 2],
    ['warn', { processCrash: false, powerLoss: false, severalInstances: false }, 1], ['pass', KEPT, 3],
  ] as const)('says %s of a store of class %o with replicas %i', async (verdict, durability, replicas) => {
    const database = await memory().open({ env, events: new EventBus(env), service: 'doctor' })
    expect(verdictOf(await examine({ env, replicas, store: { name: 'it', durability }, database: () => database, migrations: [], waiting: () => Promise.resolve(0) }), 'durability')).toBe(verdict)
    await database.close()
  })

  it('is asked by the command line, which exits 1 only for what fails', async () => {
    const hold = createHoldfast({ service: 'shop', log: 'silent', environment: {}, store: memory() })
    await hold.start()
    const served = await serve(combine([operate(hold)]), { port: 0 })
    const ask = async (...args: readonly string[]): Promise<readonly [number, string]> => {
      let said = ''
      const code = await run(['doctor', '--url', served.url, ...args], { env, environment: {}, cwd: '/', user: 'alice', terminal: false, columns: 200, signal: new AbortController().signal, out: text => { said += text }, err: text => { said += text } })
      return [code, said]
    }
    const [code, text] = await ask()
    expect([code, text]).toEqual([0, expect.stringMatching(/pass +store[^\n]*\n *warn +durability .*is gone with the process/) as string])
    expect(JSON.parse((await ask('--json'))[1])).toMatchObject({ verdict: 'warn', checks: [{ name: 'store', verdict: 'pass' }, { name: 'durability' }, { name: 'work' }] })
    await hold.stop()
    expect((await ask())[0]).toBe(1)
    await served.close()
  })
})

describe('replicas', () => {
  const one = embedded('./data', { singleInstance: true })

  it('more than one on a store of one instance are refused at the start, before anything is opened', async () => {
    for (const given of [{ replicas: 2 }, { environment: { HOLDFAST_REPLICAS: '2' } }]) {
      const hold = createHoldfast({ service: 'shop', log: 'silent', environment: {}, store: one, ...given })
      await expect(hold.start()).rejects.toMatchObject({ code: 'HF_OPTION_INVALID', message: expect.stringMatching(/2 replicas are declared, and the store embedded .\/data is for one instance/) as string })
    }
  })

  it('are one unless said, and any number on a store of several (the control)', () => {
    expect(checkReplicas(undefined, {}, one)).toBe(1)
    expect(checkReplicas(undefined, { HOLDFAST_REPLICAS: '3' }, { name: 'postgres', durability: KEPT })).toBe(3)
    expect(checkReplicas(4, { HOLDFAST_REPLICAS: '3' }, undefined)).toBe(4)
    for (const bad of ['two', '0', '-1', '1.5']) expect(() => checkReplicas(undefined, { HOLDFAST_REPLICAS: bad }, one)).toThrow(/whole number from 1/)
  })
})
