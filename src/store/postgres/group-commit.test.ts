/**
 * Statements that share a COMMIT: each caller is told what became of its own, on a real server behind a network that fails.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { HoldfastError, realEnv } from '../../core/index.ts'
import { behindProxy, codeOf, INSERT, OPENING } from '../../../test/behind-proxy.ts'
import { countRoundTrips } from '../../../test/round-trips.ts'
import { withHooks } from '../hooks.ts'
import { last } from '../last.ts'
import { postgres } from './index.ts'

const at = behindProxy()
beforeAll(() => at.direct.transaction('unique', tx => tx.query('CREATE UNIQUE INDEX effect_text_key ON effect (text)')))
const env = realEnv()
const written = async (): Promise<readonly string[]> => (await at.written()).toSorted()
const lone = (text: string, over = at.database, signal?: AbortSignal): Promise<unknown> => over.transaction('lone', tx => last(tx).query(INSERT, [text]), { lone: true, signal })
const names = (count: number): readonly string[] => Array.from({ length: count }, (_, n) => `t${String(n).padStart(2, '0')}`)

describe('statements that come while others are under way', () => {
  it('share a COMMIT, and all are kept; those of transactions of their own do not (the control)', async () => {
    const wire = await countRoundTrips(at.url.href)
    const counted = await postgres(wire.url, { connections: 1 }).open(OPENING)
    await lone('warm', counted)
    wire.taken()
    await Promise.all(names(30).map(name => lone(name, counted)))
    const commits = (): number => wire.taken().flat().filter(text => text === 'COMMIT').length
    // Not two: one that finds nobody left to carry is not begun.
    expect(commits()).toBe(1)
    await Promise.all(names(30).map(name => counted.transaction('own', tx => last(tx).query(INSERT, [`own ${name}`]))))
    expect(commits()).toBe(30)
    expect(await written()).toHaveLength(61)
    await counted.close()
    wire.close()
  })

  it('more than one group holds are all sent, and each is answered its own rows', async () => {
    const rows = await Promise.all(names(200).map(name => at.database.transaction('lone', tx => last(tx).query<{ text: string }>(`${INSERT} RETURNING text`, [name]), { lone: true })))
    expect(rows.map(([row]) => row?.text)).toEqual(names(200))
    expect(await written()).toHaveLength(200)
  })

  it('one that the server refuses is told so alone; the others of its group are kept', async () => {
    await lone('t05')
    const outcomes = await Promise.all(names(12).map(name => codeOf(lone(name))))
    expect(outcomes).toEqual(names(12).map(name => (name === 't05' ? 'HF_QUERY_FAILED' : 'ok')))
    expect(await written()).toEqual(names(12))
    await expect(lone('t05')).rejects.toMatchObject({ code: 'HF_QUERY_FAILED', context: { sqlstate: '23505', constraint: 'effect_text_key' } })
  })

  it('one that collides runs again, the others with it or after it', async () => {
    let runs = 0
    const colliding = at.database.transaction('collides', tx => {
      runs++
      return runs === 1 ? last(tx).query(`DO $do$ BEGIN RAISE EXCEPTION 'as the server would' USING ERRCODE = '40001'; END $do$`) : last(tx).query(INSERT, ['collided'])
    }, { lone: true })
    await Promise.all([colliding, ...names(5).map(name => lone(name))])
    expect([runs, await written()]).toEqual([2, ['collided', ...names(5)]])
  })

  it.each(['after', 'before'] as const)('whose COMMIT has no answer, cut %s it arrived, are all unknown and none is repeated', async cut => {
    await lone('warm')
    const armed = at.proxy.resetAfterCommit({ cut })
    expect(await Promise.all(names(6).map(name => codeOf(lone(name))))).toEqual(names(6).map(() => 'HF_STORE_UNKNOWN_COMMIT'))
    expect([armed.cuts, await written()]).toEqual([1, cut === 'after' ? [...names(6), 'warm'] : ['warm']])
    await lone('next')
    expect(await written()).toContain('next')
  })

  it('that the server has forgotten, and the driver repeats too late, is never called certain', async () => {
    await lone('warm')
    await at.database.transaction('forget', tx => tx.query('DEALLOCATE ALL'))
    expect(await codeOf(lone('repeated'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    await lone('next')
    expect(await written()).toEqual(['next', 'repeated', 'warm'])
  })
})

describe('a statement that waits to be sent', () => {
  it('is told when the time for it is over, and others when the server has had its time', async () => {
    await at.reopen({ connections: 3, transactionTimeout: '800ms', acquireTimeout: '200ms' })
    await lone('warm')
    at.proxy.set({ blackHole: true })
    const sent = codeOf(lone('sent'))
    await env.sleep(20)
    const second = codeOf(lone('second'))
    await env.sleep(20)
    const begunMs = env.monotonic()
    expect(await codeOf(lone('waits'))).toBe('HF_STORE_UNAVAILABLE')
    expect(env.monotonic() - begunMs).toBeLessThan(700)
    expect(await sent).toBe('HF_STORE_UNKNOWN_COMMIT')
    expect(await second).not.toBe('ok')
    await at.proxy.heal()
  })

  it('and is aborted meanwhile is not sent', async () => {
    await lone('warm')
    const controller = new AbortController()
    const outcomes = Promise.all([lone('a'), lone('b'), codeOf(lone('aborted', at.database, controller.signal))])
    controller.abort()
    expect([(await outcomes)[2], await written()]).toEqual(['HF_CANCELLED', ['a', 'b', 'warm']])
  })

  it('and gets no connection in time is told so by name; who came later asks anew', async () => {
    await at.reopen({ connections: 1, acquireTimeout: '400ms' })
    let release = (): void => undefined
    const holding = at.database.transaction('holds', () => new Promise<void>(resolve => { release = resolve }))
    const early = lone('early').catch((error: unknown) => error)
    await env.sleep(300)
    const late = codeOf(lone('late'))
    const told = await early
    release()
    await holding
    expect(told).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', context: { transaction: 'lone' } })
    // Its own time and that of the connection that was asked for with it end at the same moment.
    expect(String(told)).toMatch(/transaction lone(: waited 400 ms to be sent| was not begun: .*1 connections)/)
    expect([await late, await written()]).toEqual(['ok', ['late']])
  })

  it('and finds no server is told so by name', async () => {
    await at.proxy.down()
    await env.sleep(100)
    const told = await Promise.all(['a', 'b'].map(text => lone(text).catch((error: unknown) => error)))
    for (const error of told) {
      expect(error).toMatchObject({ code: 'HF_STORE_UNAVAILABLE', context: { transaction: 'lone' } })
      expect(String(error)).toMatch(/transaction lone was not begun: /)
    }
  })

  it('is refused when the store closes', async () => {
    await at.database.close()
    await expect(lone('late')).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE', context: { transaction: 'lone' } })
  })
})

describe('a transaction opened for one statement', () => {
  it('takes no other, before or after, and may have none', async () => {
    const other = at.database.transaction('other', tx => tx.query(INSERT, ['a']), { lone: true })
    const second = at.database.transaction('second', async tx => {
      await last(tx).query(INSERT, ['b'])
      await last(tx).query(INSERT, ['c'])
    }, { lone: true })
    await expect(other).rejects.toThrow('opened for one statement')
    await expect(second).rejects.toThrow('opened for one statement')
    await at.database.transaction('none', () => Promise.resolve(), { lone: true })
    expect(await written()).toEqual(['b'])
  })

  it('waits for whoever must have a say before the COMMIT', async () => {
    const refusing = await withHooks(postgres(at.url.href, { connections: 1 }), { beforeCommit: () => { throw new HoldfastError('HF_CANCELLED', { message: 'no' }) } }).open(OPENING)
    expect([await codeOf(lone('refused', refusing)), await written()]).toEqual(['HF_CANCELLED', []])
    await refusing.close()
  })
})
