/**
 * What is over is deleted without reading what is not: a sweep of a table with millions of rows costs what has expired since the last.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { controlMigrations } from '../src/control/index.ts'
import { sqlTickets } from '../src/control/irreversible/sql.ts'
import { EventBus, realEnv } from '../src/core/index.ts'
import { inboxPort } from '../src/durable/inbox/inbox.ts'
import { DURABLE_MIGRATIONS } from '../src/durable/index.ts'
import { oncePort } from '../src/durable/once/outcome.ts'
import { outboxPort } from '../src/durable/outbox/outbox.ts'
import { retryStorePort } from '../src/durable/retry-store/retry-store.ts'
import { sagaPort } from '../src/durable/saga/saga.ts'
import { migrate, type Database, type SqlTx } from '../src/store/index.ts'
import { postgres } from '../src/store/postgres/index.ts'
import { realServer } from './durable-stores.ts'
import { testPostgres } from './postgres.ts'

const ROWS = 5_000
const EXPIRED = 7
/** `n` from 1: the first few have expired, the others end later and later. */
const EXPIRES = `clock_timestamp() + (n - ${String(EXPIRED)} - 0.5) * interval '1 minute'`
const SUBJECTS = [
  { table: 'once_record', columns: 'name, key, state, fingerprint, fence, expires_at', values: `'o', n::text, 'done', '', 1, ${EXPIRES}`, port: oncePort },
  { table: 'saga_run', columns: 'saga, id, version, state, input, fingerprint, fence, lease_until, expires_at', values: `'s', n::text, 1, 'done', '', '', 1, clock_timestamp(), ${EXPIRES}`, port: sagaPort },
  { table: 'inbox_row', columns: 'source, id, lane, priority, payload, state, expires_at', values: `'i', n::text, 'l', 100, '', 'done', ${EXPIRES}`, port: inboxPort },
  { table: 'outbox_message', columns: 'lane, seq, topic, once_key, payload, state, expires_at', values: `'l', n, 't', n::text, '', 'sent', ${EXPIRES}`, port: outboxPort },
  { table: 'retry_entry', columns: 'store, owner, slot, input, stored_at, expires_at', values: `'r', 'o', n::text, '', clock_timestamp(), ${EXPIRES}`, port: retryStorePort },
  {
    table: 'ticket', columns: 'token_hash, action, actor, actor_id, input, summary, state, second_person, expires_at', values: `n::text, 'a', 'p', 'p', '', '', '', false, ${EXPIRES}`,
    port: () => ({ prune: (tx: SqlTx, limit: number) => sqlTickets.prune(tx, 0, limit) }),
  },
] as const

describe.skipIf(!realServer)('pruning on PostgreSQL', () => {
  let database: Database<SqlTx>
  beforeAll(async () => {
    const env = realEnv()
    database = await postgres(await (await testPostgres()).url(), { connections: 2 }).open({ env, events: new EventBus(env), service: 'test' })
    await migrate(database, 'durable', DURABLE_MIGRATIONS)
    await migrate(database, 'control', controlMigrations)
    for (const { table, columns, values } of SUBJECTS) {
      await database.transaction('fill', tx => tx.query(`INSERT INTO holdfast.${table} (${columns}) SELECT ${values} FROM generate_series(1, ${String(ROWS)}) n`))
      await database.transaction('analyze', tx => tx.query(`ANALYZE holdfast.${table}`))
    }
  })
  afterAll(() => database.close())

  /** Rows that the transaction has read of the table, by whatever way. */
  const readOf = async (tx: SqlTx, table: string): Promise<number> => {
    const [row] = await tx.query<{ n: number }>(`SELECT (coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::int AS n FROM pg_stat_xact_user_tables WHERE schemaname = 'holdfast' AND relname = $1`, [table])
    return row?.n ?? 0
  }

  it.each(SUBJECTS)('of $table reads what has expired, and deletes it, at most so many at a time', async ({ table, port }) => {
    const prune = (limit: number): Promise<readonly number[]> => database.transaction('prune', async tx => {
      const before = await readOf(tx, table)
      return [await port(database).prune(tx, limit), await readOf(tx, table) - before]
    })
    const [first = 0, readFirst = 0] = await prune(5)
    const [second = 0, readSecond = 0] = await prune(1_000)
    expect([first, second, (await prune(1_000))[0]]).toEqual([5, EXPIRED - 5, 0])
    // Each is read to be found, locked and deleted.
    expect(Math.max(readFirst, readSecond)).toBeLessThanOrEqual(3 * EXPIRED)
  })

  it.each(SUBJECTS)('of $table would read all of it if the time were asked row by row (the control)', async ({ table }) => {
    const read = await database.transaction('control', async tx => {
      const before = await readOf(tx, table)
      await tx.query(`SELECT 1 FROM holdfast.${table} WHERE expires_at < clock_timestamp() ORDER BY expires_at LIMIT 1000`)
      return await readOf(tx, table) - before
    })
    expect(read).toBe(ROWS - EXPIRED)
  })
})
