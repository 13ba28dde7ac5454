/**
 * Many first callers of one name at once, on a real server: a table with a second unique constraint refuses some of them by that one,
 * unless ON CONFLICT names none in particular.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus, isHoldfastError, realEnv, type Schema } from '../core/index.ts'
import { migrate, type Database, type SqlTx } from '../store/index.ts'
import { postgres } from '../store/postgres/index.ts'
import { testPostgres } from '../../test/postgres.ts'
import { DURABLE_MIGRATIONS, saga, type DurableKit } from './index.ts'
import { leaseSql } from './lease/sql.ts'

const env = realEnv()
const NAMES = 60
const CALLERS = 8
const text: Schema<string, string> = { '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as string }) } }

describe('first callers of one name at once', () => {
  let database: Database<SqlTx>
  beforeAll(async () => {
    database = await postgres(await (await testPostgres()).url(), { connections: CALLERS }).open({ env, events: new EventBus(env), service: 'test' })
    await migrate(database, 'durable', DURABLE_MIGRATIONS)
  })
  afterAll(() => database.close())
  const rounds = async (call: (name: string, caller: number) => Promise<unknown>): Promise<readonly string[]> => {
    const outcomes: string[] = []
    for (let n = 0; n < NAMES; n++) {
      outcomes.push(...await Promise.all(Array.from({ length: CALLERS }, (_, caller) => call(`name-${String(n)}`, caller).then(String, (error: unknown) => (isHoldfastError(error) ? String(error.context['constraint'] ?? error.code) : String(error))))))
    }
    return outcomes
  }
  const counts = (outcomes: readonly string[]): Record<string, number> => Object.fromEntries([...new Set(outcomes)].sort().map(outcome => [outcome, outcomes.filter(each => each === outcome).length]))

  it('of a lease: one has it, the others are told so', async () => {
    const outcomes = await rounds((name, caller) => database.transaction('acquire', async tx => await leaseSql.acquire(tx, name, String(caller), 60_000) !== undefined))
    expect(counts(outcomes)).toEqual({ false: NAMES * (CALLERS - 1), true: NAMES })
  })

  it('of a saga: none is refused by the database', async () => {
    const kit: DurableKit<SqlTx> = { env, events: new EventBus(env), service: 'test', instance: 'a', database: () => database }
    const made = saga('first', { version: 1, input: text, run: async () => undefined }, kit)
    const outcomes = await rounds(async name => (await made.start(name, name)).outcome)
    expect(outcomes.filter(outcome => outcome !== 'done' && outcome !== 'running')).toEqual([])
  })

  it('would be refused where one constraint is named (the control)', async () => {
    await database.transaction('table', tx => tx.query('CREATE TABLE named (name text PRIMARY KEY, fence int, UNIQUE (name, fence))'))
    let refused = 0
    // How often depends on how the server's processes meet; that it happens does not.
    for (let round = 0; round < 50 && refused === 0; round++) {
      const outcomes = await rounds((name, caller) => database.transaction('insert', tx => tx.query(`INSERT INTO named VALUES ($1, 1) ON CONFLICT (name) DO NOTHING RETURNING 1 AS ${caller === 0 ? 'a' : 'b'}`, [`${name}-${String(round)}`])))
      refused += outcomes.filter(outcome => outcome === 'named_name_fence_key').length
    }
    expect(refused).toBeGreaterThan(0)
  })
})
