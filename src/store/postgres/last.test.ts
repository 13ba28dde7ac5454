/**
 * Statements that travel together: what a last statement and a connection that is handed on may not change, on a real server
 * behind a network that fails.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, isHoldfastError, realEnv } from '../../core/index.ts'
import { faultProxy, type FaultProxy } from '../../testing/index.ts'
import { testPostgres } from '../../../test/postgres.ts'
import { countRoundTrips } from '../../../test/round-trips.ts'
import { withHooks } from '../hooks.ts'
import { last } from '../last.ts'
import type { Database, SqlTx } from '../port.ts'
import { postgres, type PostgresOptions } from './index.ts'

const env = realEnv()
const opening = { env, events: new EventBus(env), service: 'test' }
const INSERT = 'INSERT INTO effect (text) VALUES ($1)'

let direct: Database<SqlTx>
let url: URL
let proxy: FaultProxy
let database: Database<SqlTx>
beforeAll(async () => {
  url = new URL(await (await testPostgres()).url())
  direct = await postgres(url.href, { connections: 2 }).open(opening)
  await direct.transaction('table', tx => tx.query('CREATE TABLE effect (n bigserial PRIMARY KEY, text text NOT NULL UNIQUE)'))
})
afterAll(() => direct.close())
beforeEach(async () => {
  await direct.transaction('empty', tx => tx.query('DELETE FROM effect'))
  proxy = await faultProxy({ to: { host: url.hostname, port: Number(url.port) } })
  database = await open({ connections: 1 })
})
afterEach(async () => {
  await database.close()
  await proxy.close()
})

function open(options: PostgresOptions): Promise<Database<SqlTx>> {
  const through = new URL(url)
  through.host = `${proxy.host}:${String(proxy.port)}`
  return postgres(through.href, { connectTimeout: '500ms', ...options }).open(opening)
}

const codeOf = (promise: Promise<unknown>): Promise<string> => promise.then(() => 'ok', (error: unknown) => (isHoldfastError(error) ? error.code : String(error)))
const written = async (): Promise<readonly string[]> => (await direct.transaction('read', tx => tx.query<{ text: string }>('SELECT text FROM effect ORDER BY n'))).map(row => row.text)
const insertLast = (text: string, over = database): Promise<unknown> => over.transaction('last', tx => last(tx).query(INSERT, [text]))
const insert = (text: string, over = database): Promise<unknown> => over.transaction('insert', tx => tx.query(INSERT, [text]))

describe('a last statement', () => {
  it('answers as any other, is committed with all before it, and costs no turn of its own', async () => {
    const wire = await countRoundTrips(url.href)
    const counted = await postgres(wire.url, { connections: 1 }).open(opening)
    const work = (ending: (tx: SqlTx) => SqlTx, text: string): Promise<readonly { n: string }[]> => counted.transaction('work', async tx => {
      await tx.query(INSERT, [text])
      return ending(tx).query<{ n: string }>('SELECT count(*) AS n FROM effect WHERE $1', [true])
    })
    const turnsOf = async (run: () => Promise<unknown>): Promise<number> => {
      wire.taken()
      await run()
      return wire.taken().length
    }
    // The first time of a statement on a connection costs a turn more.
    await work(tx => tx, 'warm')
    await insertLast('warm last', counted)
    expect(await turnsOf(async () => { expect(await work(last, 'a')).toEqual([{ n: '3' }]) })).toBe(2)
    expect(await turnsOf(() => work(tx => tx, 'control'))).toBe(3)
    expect(await turnsOf(() => insertLast('alone', counted))).toBe(1)
    expect(await written()).toEqual(['warm', 'warm last', 'a', 'control', 'alone'])
    await counted.close()
    wire.close()
  })

  it('that fails takes back what came before it, says why, and leaves the connection of use', async () => {
    const failing = database.transaction('failing', async tx => {
      await tx.query(INSERT, ['a'])
      await last(tx).query(INSERT, ['a'])
    })
    await expect(failing).rejects.toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '23505' } })
    await insert('b')
    expect([await written(), proxy.seen.accepted]).toEqual([['b'], 1])
  })

  it('after a failed one that was caught is told the first failure', async () => {
    const failing = database.transaction('failing', async tx => {
      await tx.query('SELECT 1/0').catch(() => undefined)
      await last(tx).query(INSERT, ['a'])
    })
    await expect(failing).rejects.toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '22012' } })
    expect(await written()).toEqual([])
  })

  it('is the last: the transaction takes no other', async () => {
    const more = database.transaction('more', async tx => {
      await last(tx).query(INSERT, ['a'])
      await tx.query(INSERT, ['b'])
    })
    await expect(more).rejects.toThrow('has ended')
    expect(await written()).toEqual(['a'])
  })

  it('is committed also where the caller aborts meanwhile, and is not called cancelled; before it, it is', async () => {
    const controller = new AbortController()
    const late = database.transaction('late', async tx => {
      const sent = last(tx).query(INSERT, ['late'])
      controller.abort()
      return sent
    }, { signal: controller.signal })
    const early = (): Promise<unknown> => database.transaction('early', tx => last(tx).query(INSERT, ['early']), { signal: AbortSignal.abort() })
    expect([await codeOf(late), await codeOf(early()), await written()]).toEqual(['ok', 'HF_CANCELLED', ['late']])
  })

  it.each(['after', 'before'] as const)('whose answer is lost, cut %s it arrived, leaves the outcome unknown; nothing is repeated', async cut => {
    await insert('warm')
    await insertLast('warm last')
    const armed = proxy.resetAfterCommit({ cut })
    expect(await codeOf(insertLast('maybe'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    expect([armed.cuts, (await written()).includes('maybe')]).toEqual([1, cut === 'after'])
  })

  it('that a server never answers leaves the outcome unknown when the time is over', async () => {
    await database.close()
    database = await open({ connections: 1, transactionTimeout: '300ms' })
    await insertLast('warm')
    proxy.set({ blackHole: true })
    expect(await codeOf(insertLast('maybe'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    await proxy.heal()
  })

  it('that the server does not know any more, and the driver repeats too late, is never called certain', async () => {
    await insertLast('warm')
    await database.transaction('forget', tx => tx.query('DEALLOCATE ALL'))
    expect(await codeOf(insertLast('repeated'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    await insertLast('next')
    expect(await written()).toEqual(['warm', 'repeated', 'next'])
  })

  it('waits for whoever must have a say before the COMMIT', async () => {
    const refusing = await withHooks(postgres(url.href, { connections: 1 }), { beforeCommit: () => { throw new HoldfastError('HF_CANCELLED', { message: 'no' }) } }).open(opening)
    expect([await codeOf(insertLast('refused', refusing)), await written()]).toEqual(['HF_CANCELLED', []])
    await refusing.close()
  })
})

describe('a connection that others wait for', () => {
  it('is handed on with its COMMIT under way: the next one costs a turn less', async () => {
    const wire = await countRoundTrips(url.href)
    const counted = await postgres(wire.url, { connections: 1 }).open(opening)
    await insert('warm', counted)
    wire.taken()
    await Promise.all(Array.from({ length: 10 }, (_, n) => insert(`p${String(n)}`, counted)))
    const together = wire.taken().length
    for (let n = 0; n < 10; n++) await insert(`s${String(n)}`, counted)
    expect([together, wire.taken().length]).toEqual([11, 20])
    expect(await written()).toHaveLength(21)
    await counted.close()
    wire.close()
  })

  it('and is lost then: the first is unknown, the next begins again elsewhere', async () => {
    await insert('warm')
    const armed = proxy.resetAfterCommit()
    const outcomes = await Promise.all(['first', 'second', 'third'].map(text => codeOf(insert(text))))
    expect([armed.cuts, outcomes, (await written()).toSorted()]).toEqual([1, ['HF_STORE_UNKNOWN_COMMIT', 'ok', 'ok'], ['first', 'second', 'third', 'warm']])
  })

  it('by one that is taken back at once: the COMMIT before it is heard, however slow', async () => {
    await insert('warm')
    // Longer than a ROLLBACK is waited for.
    await direct.transaction('slow', tx => tx.query(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.text LIKE 'slow%' THEN PERFORM pg_sleep(1.5); END IF; RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`))
    const slow = codeOf(insert('slow'))
    const next = codeOf(database.transaction('next', async tx => {
      const query = tx.query(INSERT, ['next'])
      query.catch(() => undefined)
      throw new Error('no')
    }))
    expect([await slow, await next, await written()]).toEqual(['ok', 'Error: no', ['warm', 'slow']])
    expect(proxy.seen.accepted).toBe(1)
  })
})
