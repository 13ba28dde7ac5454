import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { testPostgres } from '../../test/postgres.ts'
import { EventBus, realEnv, type Actor } from '../core/index.ts'
import { pgliteMemory } from '../store/embedded/testing.ts'
import { migrate, type Database, type MemoryTx, type SqlTx } from '../store/index.ts'
import { memory } from '../store/memory/index.ts'
import { postgres } from '../store/postgres/index.ts'
import { auditLog, controlMigrations, flags, irreversible, storedOverrides, type OverridePort, type StoreKit } from './index.ts'

const alice: Actor = { id: 'alice', via: 'cli' }

interface Subject {
  readonly name: string
  readonly open: () => Promise<Database<unknown>>
}

async function migrated(database: Database<SqlTx>): Promise<Database<unknown>> {
  await migrate(database, 'control', controlMigrations)
  return database
}

const env = realEnv()
const options = () => ({ env, events: new EventBus(env), service: 'test' })
const subjects: readonly Subject[] = [
  { name: 'memory', open: () => memory().open(options()) },
  { name: 'PGlite', open: async () => migrated(await pgliteMemory().open(options())) },
  { name: 'postgres', open: async () => migrated(await postgres(await (await testPostgres()).url(), { connections: 8 }).open(options())) },
]

describe.each(subjects)('control on $name', ({ open }) => {
  let database: Database<unknown>
  let kit: StoreKit<unknown>
  beforeAll(async () => {
    database = await open()
    kit = { env, events: new EventBus(env), service: 'test', instance: 'i', database: () => database }
  })
  afterAll(() => database.close())

  const isSql = (): boolean => database.dialect === 'sql'
  const sql = <Row>(text: string, params: readonly unknown[] = []): Promise<readonly Row[]> => database.transaction('test.sql', tx => (tx as SqlTx).query<Row>(text, params))

  describe('overrides', () => {
    const signal = new AbortController().signal
    const port = (): OverridePort => storedOverrides(kit, auditLog(kit))
    const of = async (flag: string) => (await port().read(signal)).find(row => row.flag === flag)

    it('are read back with who, why, a rising version and the time that remains', async () => {
      const change = { flag: 'payments', on: false, actor: 'cli:alice', reason: 'mismatches', forMs: 60_000 }
      expect(await port().write(change)).toMatchObject({ flag: 'payments', on: false, version: 1 })
      const row = await of('payments')
      expect(row).toMatchObject({ on: false, actor: 'cli:alice', reason: 'mismatches', version: 1 })
      expect(row?.remainingMs).toBeGreaterThan(50_000)
      expect(row?.remainingMs).toBeLessThanOrEqual(60_000)
      expect(Math.abs((row?.changedAt ?? 0) - env.now())).toBeLessThan(60_000)
      await port().write({ ...change, on: null, forMs: undefined })
      expect(await of('payments')).toMatchObject({ on: null, version: 2, remainingMs: undefined })
    })

    it('have one audit row each, with what was before; neither exists without the other', async () => {
      await port().write({ flag: 'audited', on: false, actor: 'cli:alice', reason: 'a', forMs: undefined })
      await port().write({ flag: 'audited', on: true, actor: 'cli:alice', reason: 'b', forMs: undefined })
      const rows = (await auditLog(kit).list()).filter(row => row.target === 'audited')
      expect(rows.map(row => [row.reason, row.before, row.after])).toEqual([['b', { override: false }, { override: true }], ['a', { override: null }, { override: false }]])
      const failing = storedOverrides(kit, { ...auditLog(kit), append: () => Promise.reject(new Error('no audit')) })
      await expect(failing.write({ flag: 'unaudited', on: false, actor: 'x', reason: 'x', forMs: undefined })).rejects.toThrow('no audit')
      expect(await of('unaudited')).toBeUndefined()
    })

    it('of twenty writers at once all count', async () => {
      await Promise.all(Array.from({ length: 20 }, (_, index) => port().write({ flag: 'busy', on: index % 2 === 0, actor: 'x', reason: String(index), forMs: undefined })))
      expect((await of('busy'))?.version).toBe(20)
    })

    it('drive a board', async () => {
      const board = flags({ renewal: { default: true, whenOff: 'no renewals' } }, kit, { environment: {}, overrides: port() })
      expect(await board.set('renewal', false, { actor: alice, reason: 'x' })).toMatchObject({ reach: 'every-instance' })
      const other = flags({ renewal: { default: true, whenOff: 'no renewals' } }, kit, { environment: {}, overrides: port() })
      await other.start()
      expect(other.flags.renewal.on).toBe(false)
      await other.stop()
      await board.stop()
    })
  })

  describe('the audit', () => {
    const entry = { actor: 'cli:alice', action: 'x', target: 'pages', reason: 'r', outcome: 'done' } as const

    it('keeps JSON as it was, rolls back with its transaction, and pages', async () => {
      const audit = auditLog(kit)
      const before = { text: 'quote " and \\ and ünï', list: [1, null, { deep: true }] }
      await database.transaction('change', tx => audit.append(tx, { ...entry, before, correlationId: 'c-1' }))
      await expect(database.transaction('change', async tx => {
        await audit.append(tx, { ...entry, reason: 'rolled back' })
        throw new Error('no')
      })).rejects.toThrow('no')
      await audit.record({ ...entry, reason: 'second' })
      const mine = (await audit.list()).filter(row => row.target === 'pages')
      expect(mine.map(row => [row.reason, row.before, row.correlationId])).toEqual([['second', undefined, undefined], ['r', before, 'c-1']])
      expect((await audit.list({ limit: 1, before: mine[0]?.id ?? 0 }))[0]?.reason).toBe('r')
    })

    it('is append-only where there is SQL', async () => {
      if (!isSql()) return
      await auditLog(kit).record(entry)
      await expect(sql('UPDATE holdfast.audit SET reason = $1', ['changed'])).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
      await expect(sql('DELETE FROM holdfast.audit')).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
    })
  })

  describe('tickets', () => {
    const input = z.object({ userId: z.string() })
    const ran: string[] = []
    const make = (change: { readonly approvals?: 1 | 2; readonly fail?: () => boolean } = {}) => irreversible('revoke', {
      input, summary: (r: { userId: string }) => `Revoke ${r.userId}`, ticketFor: '2m', approvals: change.approvals ?? 1,
      run: async (r: { userId: string }) => {
        if (change.fail?.() === true) throw new Error('fails')
        ran.push(r.userId)
        return { revoked: r.userId }
      },
    }, kit)
    const why = (reason: string) => ({ code: 'HF_TICKET_INVALID', context: { why: reason } })

    it('are used by exactly one of a hundred at once', async () => {
      const { token } = await make().request({ userId: 'race' }, alice)
      const results = await Promise.allSettled(Array.from({ length: 100 }, () => make().confirm(token, alice)))
      expect(results.filter(result => result.status === 'fulfilled')).toHaveLength(1)
      expect(new Set(results.filter(result => result.status === 'rejected').map(result => (result.reason as { context: { why: string } }).context.why))).toEqual(new Set(['used']))
      expect(ran.filter(id => id === 'race')).toHaveLength(1)
    })

    it('come back when the action fails, and are explained when used, of somebody else, or unknown', async () => {
      let broken = true
      const action = make({ fail: () => broken })
      const { token } = await action.request({ userId: 'again' }, alice)
      await expect(action.confirm(token, alice)).rejects.toThrow('fails')
      await expect(action.confirm(token, { id: 'bob', via: 'cli' })).rejects.toMatchObject(why('other-actor'))
      broken = false
      expect(await action.confirm(token, alice)).toEqual({ revoked: 'again' })
      await expect(action.confirm(token, alice)).rejects.toMatchObject(why('used'))
      await expect(action.confirm('nothing', { id: 'carol', via: 'cli' })).rejects.toMatchObject(why('unknown'))
    })

    it('of two persons: not by who asked', async () => {
      const action = make({ approvals: 2 })
      const { token } = await action.request({ userId: 'four-eyes' }, alice)
      await expect(action.confirm(token, { id: 'alice', via: 'console' })).rejects.toMatchObject(why('other-actor'))
      expect(await action.confirm(token, { id: 'bob', via: 'console' })).toEqual({ revoked: 'four-eyes' })
    })

    it('expire by the database\'s clock, and are forgotten a week later', async () => {
      const { token } = await make().request({ userId: 'late' }, alice)
      await age(121_000)
      await expect(make().confirm(token, alice)).rejects.toMatchObject(why('expired'))
      await age(8 * 86_400_000)
      await make().request({ userId: 'next' }, alice)
      await expect(make().confirm(token, { id: 'dave', via: 'cli' })).rejects.toMatchObject(why('unknown'))
    })

    it('cannot be guessed: five wrong ones within ten minutes and it is over, of parallel ones too', async () => {
      const eve: Actor = { id: 'eve', via: 'telegram' }
      const { token } = await make().request({ userId: 'guess' }, eve)
      await Promise.allSettled(Array.from({ length: 30 }, (_, index) => make().confirm(`wrong-${String(index)}`, eve)))
      await expect(make().confirm(token, eve)).rejects.toMatchObject({ code: 'HF_RATE_LIMITED' })
      await age(600_000)
      await expect(make().confirm('wrong', eve)).rejects.toMatchObject(why('unknown'))
    })

    /** Time passes in the database: what it has recorded is moved back. */
    async function age(ms: number): Promise<void> {
      if (isSql()) {
        await sql(`UPDATE holdfast.ticket SET expires_at = expires_at - $1::float8 * interval '1 millisecond'`, [ms])
        await sql(`UPDATE holdfast.ticket_guess SET since = since - $1::float8 * interval '1 millisecond'`, [ms])
        return
      }
      await database.transaction('test.age', async raw => {
        const tx = raw as MemoryTx
        for (const [key, row] of [...tx.table<{ expiresAt: number }>('ticket').entries()]) tx.table('ticket').set(key, { ...row, expiresAt: row.expiresAt - ms })
        for (const [key, row] of [...tx.table<{ since: number }>('ticket_guess').entries()]) tx.table('ticket_guess').set(key, { ...row, since: row.since - ms })
      })
    }
  })
})
