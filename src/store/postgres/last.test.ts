/**
 * Statements that travel together: what a last statement and a connection that is handed on may not change, on a real server
 * behind a network that fails.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { HoldfastError } from '../../core/index.ts'
import { behindProxy, codeOf, INSERT, OPENING } from '../../../test/behind-proxy.ts'
import { countRoundTrips } from '../../../test/round-trips.ts'
import { withHooks } from '../hooks.ts'
import { last } from '../last.ts'
import type { SqlTx } from '../port.ts'
import { postgres } from './index.ts'

const at = behindProxy()
beforeAll(() => at.direct.transaction('unique', tx => tx.query('CREATE UNIQUE INDEX effect_text_key ON effect (text)')))
const insertLast = (text: string, over = at.database): Promise<unknown> => over.transaction('last', tx => last(tx).query(INSERT, [text]))
const insert = (text: string, over = at.database): Promise<unknown> => over.transaction('insert', tx => tx.query(INSERT, [text]))

describe('a last statement', () => {
  it('answers as any other, is committed with all before it, and costs no turn of its own', async () => {
    const wire = await countRoundTrips(at.url.href)
    const counted = await postgres(wire.url, { connections: 1 }).open(OPENING)
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
    expect(await at.written()).toEqual(['warm', 'warm last', 'a', 'control', 'alone'])
    await counted.close()
    wire.close()
  })

  it('that fails takes back what came before it, says why, and leaves the connection of use', async () => {
    const failing = at.database.transaction('failing', async tx => {
      await tx.query(INSERT, ['a'])
      await last(tx).query(INSERT, ['a'])
    })
    await expect(failing).rejects.toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '23505' } })
    await insert('b')
    expect([await at.written(), at.proxy.seen.accepted]).toEqual([['b'], 1])
  })

  it('after a failed one that was caught is told the first failure', async () => {
    const failing = at.database.transaction('failing', async tx => {
      await tx.query('SELECT 1/0').catch(() => undefined)
      await last(tx).query(INSERT, ['a'])
    })
    await expect(failing).rejects.toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '22012' } })
    expect(await at.written()).toEqual([])
  })

  it('is the last: the transaction takes no other', async () => {
    const more = at.database.transaction('more', async tx => {
      await last(tx).query(INSERT, ['a'])
      await tx.query(INSERT, ['b'])
    })
    await expect(more).rejects.toThrow('has ended')
    expect(await at.written()).toEqual(['a'])
  })

  it('is committed also where the caller aborts meanwhile, and is not called cancelled; before it, it is', async () => {
    const controller = new AbortController()
    const late = at.database.transaction('late', async tx => {
      const sent = last(tx).query(INSERT, ['late'])
      controller.abort()
      return sent
    }, { signal: controller.signal })
    const early = (): Promise<unknown> => at.database.transaction('early', tx => last(tx).query(INSERT, ['early']), { signal: AbortSignal.abort() })
    expect([await codeOf(late), await codeOf(early()), await at.written()]).toEqual(['ok', 'HF_CANCELLED', ['late']])
  })

  it.each(['after', 'before'] as const)('whose answer is lost, cut %s it arrived, leaves the outcome unknown; nothing is repeated', async cut => {
    await insert('warm')
    await insertLast('warm last')
    const armed = at.proxy.resetAfterCommit({ cut })
    expect(await codeOf(insertLast('maybe'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    expect([armed.cuts, (await at.written()).includes('maybe')]).toEqual([1, cut === 'after'])
  })

  it('that a server never answers leaves the outcome unknown when the time is over', async () => {
    await at.reopen({ connections: 1, transactionTimeout: '300ms' })
    await insertLast('warm')
    at.proxy.set({ blackHole: true })
    expect(await codeOf(insertLast('maybe'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    await at.proxy.heal()
  })

  it('that the server does not know any more, and the driver repeats too late, is never called certain', async () => {
    await insertLast('warm')
    await at.database.transaction('forget', tx => tx.query('DEALLOCATE ALL'))
    expect(await codeOf(insertLast('repeated'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    await insertLast('next')
    expect(await at.written()).toEqual(['warm', 'repeated', 'next'])
  })

  it('waits for whoever must have a say before the COMMIT', async () => {
    const refusing = await withHooks(postgres(at.url.href, { connections: 1 }), { beforeCommit: () => { throw new HoldfastError('HF_CANCELLED', { message: 'no' }) } }).open(OPENING)
    expect([await codeOf(insertLast('refused', refusing)), await at.written()]).toEqual(['HF_CANCELLED', []])
    await refusing.close()
  })
})

describe('a connection that others wait for', () => {
  it('is handed on with its COMMIT under way: the next one costs a turn less', async () => {
    const wire = await countRoundTrips(at.url.href)
    const counted = await postgres(wire.url, { connections: 1 }).open(OPENING)
    await insert('warm', counted)
    wire.taken()
    await Promise.all(Array.from({ length: 10 }, (_, n) => insert(`p${String(n)}`, counted)))
    const together = wire.taken().length
    for (let n = 0; n < 10; n++) await insert(`s${String(n)}`, counted)
    expect([together, wire.taken().length]).toEqual([11, 20])
    expect(await at.written()).toHaveLength(21)
    await counted.close()
    wire.close()
  })

  it('and is lost then: the first is unknown, the next begins again elsewhere', async () => {
    await insert('warm')
    const armed = at.proxy.resetAfterCommit()
    const outcomes = await Promise.all(['first', 'second', 'third'].map(text => codeOf(insert(text))))
    expect([armed.cuts, outcomes, (await at.written()).toSorted()]).toEqual([1, ['HF_STORE_UNKNOWN_COMMIT', 'ok', 'ok'], ['first', 'second', 'third', 'warm']])
  })

  it('by one that is taken back at once: the COMMIT before it is heard, however slow', async () => {
    await insert('warm')
    // Longer than a ROLLBACK is waited for.
    await at.direct.transaction('slow', tx => tx.query(`CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.text LIKE 'slow%' THEN PERFORM pg_sleep(1.5); END IF; RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON effect DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`))
    const slow = codeOf(insert('slow'))
    const next = codeOf(at.database.transaction('next', async tx => {
      const query = tx.query(INSERT, ['next'])
      query.catch(() => undefined)
      throw new Error('no')
    }))
    expect([await slow, await next, await at.written()]).toEqual(['ok', 'Error: no', ['warm', 'slow']])
    expect(at.proxy.seen.accepted).toBe(1)
  })
})
