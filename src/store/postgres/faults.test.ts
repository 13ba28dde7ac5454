/**
 * The PostgreSQL store behind a network that fails, on a real server: what was promised of it is tried with a proxy in between.
 * Whether something was kept is looked up past the proxy.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { EventBus, isHoldfastError, realEnv, type Schema } from '../../core/index.ts'
import { DURABLE_MIGRATIONS, inbox, lease, once, outbox, saga, type DurableKit } from '../../durable/index.ts'
import { behindProxy, codeOf } from '../../../test/behind-proxy.ts'
import { migrate } from '../migrations.ts'
import type { Database, SqlTx } from '../port.ts'

const env = realEnv()
const text: Schema<string, string> = { '~standard': { version: 1, vendor: 'test', validate: value => (typeof value === 'string' ? { value } : { issues: [{ message: 'a string' }] }) } }
const at = behindProxy({ connections: 2, connectTimeout: '1s' })
beforeAll(() => migrate(at.direct, 'durable', DURABLE_MIGRATIONS))

const write = (what: string, over: Database<SqlTx> = at.database): Promise<unknown> => over.transaction('write', tx => tx.query('INSERT INTO effect (text) VALUES ($1)', [what]))
const timed = async (promise: Promise<string>): Promise<{ readonly code: string; readonly tookMs: number }> => {
  const startedMs = env.monotonic()
  const code = await promise
  return { code, tookMs: env.monotonic() - startedMs }
}

describe('a connection cut around COMMIT', () => {
  it.each(['after', 'before'] as const)('of a migration, %s it arrived: it is applied, once, and told', async cut => {
    const scope = `cut-${cut}`
    const migrations = [{ id: 1, name: 'a table', sql: `CREATE TABLE cut_${cut} (id int)` }]
    await at.database.transaction('warm', tx => tx.query('SELECT 1'))
    const armed = at.proxy.resetAfterCommit({ cut })
    const told: unknown[] = []
    const events = new EventBus(env)
    events.onAny(event => { told.push([event.name, event.data]) })
    await migrate(at.database, scope, migrations, { events })
    const applied = await at.direct.transaction('read', tx => tx.query('SELECT id FROM holdfast.migration WHERE scope = $1', [scope]))
    expect([armed.cuts, applied, told]).toEqual([1, [{ id: 1 }], [['store.migrated', { from: 0, to: 1 }]]])
    expect(await migrate(at.database, scope, migrations)).toEqual({ from: 1, to: 1 })
  })

  it('after it was sent: unknown, and kept', async () => {
    const cut = at.proxy.resetAfterCommit()
    expect(await codeOf(write('kept'))).toBe('HF_STORE_UNKNOWN_COMMIT')
    expect([cut.cuts, await at.written()]).toEqual([1, ['kept']])
    expect([await codeOf(write('control')), await at.written()]).toEqual(['ok', ['kept', 'control']])
  })

  it('before it arrives: unknown as well, and not kept', async () => {
    at.proxy.resetAfterCommit({ cut: 'before' })
    expect([await codeOf(write('lost')), await at.written()]).toEqual(['HF_STORE_UNKNOWN_COMMIT', []])
  })

  it('before COMMIT was sent: surely nothing happened', async () => {
    const reset = at.database.transaction('write', async tx => {
      await tx.query(`INSERT INTO effect (text) VALUES ('lost')`)
      at.proxy.reset()
      await tx.query('SELECT 1')
    })
    expect([await codeOf(reset), await at.written()]).toEqual(['HF_STORE_UNAVAILABLE', []])
    expect([await codeOf(write('again')), await at.written()]).toEqual(['ok', ['again']])
  })
})

describe.each(['after', 'before'] as const)('durable features whose commits are cut %s arrival', cut => {
  const ROUNDS = 8
  const kit = (): DurableKit<SqlTx> => ({ env, events: new EventBus(env), service: 'test', instance: 'i', database: () => at.database })
  const ids = Array.from({ length: ROUNDS }, (_, n) => `${cut}-${String(n)}`)

  /** As a caller does who was told to try again: the same thing with the same key, until there is an answer. */
  async function insist<T>(attempt: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await attempt()
      } catch (error) {
        if (!isHoldfastError(error) || !error.retryable || tries >= 20) throw error
      }
    }
  }

  it('once, local and outside, find out: nothing doubled, nothing lost', async () => {
    const calls: string[] = []
    const local = once('local', { input: text, key: id => id, write: (id, { tx }) => tx.query('INSERT INTO effect (text) VALUES ($1)', [id]).then(() => id) }, kit())
    const outside = once('outside', { input: text, key: id => id, onUnknown: 'hold', call: async id => { calls.push(id); return id } }, kit())
    let cuts = 0
    for (const id of ids) {
      for (const run of [() => local(id), () => outside(id)]) {
        // The first commit and its repetition are both cut.
        const armed = at.proxy.resetAfterCommit({ cut, times: 2 })
        expect(await insist(run)).toMatchObject({ value: id })
        cuts += armed.cuts
        armed.disarm()
      }
    }
    expect(cuts).toBeGreaterThan(ROUNDS * 2)
    expect([await at.written(), calls]).toEqual([ids, ids])
  })

  it('a saga, the inbox and the outbox too', async () => {
    const effects: string[] = []
    const order = saga('order', {
      version: 1, input: text,
      run: async (step, id) => {
        await step('charge', { effect: 'once', verify: 'hold', run: async () => { effects.push(`charge ${id}`); return id } })
        return step('book', { write: ({ tx }) => tx.query('INSERT INTO effect (text) VALUES ($1)', [id]).then(() => id) })
      },
    }, kit())
    const out = outbox<SqlTx>({}, kit())
    out.topic('mail', { send: async ({ onceKey }) => { effects.push(`mail ${onceKey}`) } })
    const incoming = inbox<SqlTx>({}, kit())
    const answers: string[] = []
    for (const id of ids) {
      const armed = at.proxy.resetAfterCommit({ cut, times: 2 })
      const outcome = await insist(async () => {
        const answered = await order.start(id, id)
        if (answered.outcome === 'running') await env.sleep(50)
        return answered
      })
      expect(['done', 'running']).toContain(outcome.outcome)
      armed.disarm()
      at.proxy.resetAfterCommit({ cut })
      answers.push(await insist(() => incoming.claim({ source: 'chat', id, lane: id, payload: null })))
      await insist(() => at.database.transaction('enqueue', tx => out.enqueue(tx, { lane: id, topic: 'mail', onceKey: id, payload: null })))
    }
    for (let turn = 0; turn < 200 && (await at.written()).length < ROUNDS; turn++) {
      await env.sleep(100)
      await order.sweep(50)
    }
    await out.relay()
    expect([...await at.written()].sort()).toEqual(ids)
    expect(effects.filter(effect => effect.startsWith('charge')).sort()).toEqual(ids.map(id => `charge ${id}`))
    expect(effects.filter(effect => effect.startsWith('mail')).sort()).toEqual(ids.map(id => `mail ${id}`))
    // The claim whose answer was lost finds itself: to the sender it is a duplicate, and it is kept once.
    expect(answers).toEqual(ids.map(() => (cut === 'after' ? 'duplicate' : 'new')))
  })

  it('control: what has no key of its own is doubled where the answer was lost, and only there', async () => {
    for (const id of ids) {
      at.proxy.resetAfterCommit({ cut })
      // Told that the outcome is unknown, a caller without a key can only do it again.
      if (await codeOf(write(id)) === 'HF_STORE_UNKNOWN_COMMIT') await write(id)
    }
    expect((await at.written()).length).toBe(cut === 'after' ? ROUNDS * 2 : ROUNDS)
  })
})

describe('a black hole', () => {
  it('ends a transaction at its bound, whose connection is not used again; later calls find a new one', async () => {
    const quick = await at.open({ transactionTimeout: '600ms', acquireTimeout: '500ms' })
    await write('warm', quick)
    at.proxy.set({ blackHole: true })
    const first = await timed(codeOf(write('lost', quick)))
    expect(first.code).toMatch(/HF_STORE_(?:TX_TIMEOUT|UNAVAILABLE)/)
    expect(first.tookMs).toBeLessThan(2_500)
    const second = await timed(codeOf(quick.ping()))
    expect(second.code).toBe('HF_STORE_UNAVAILABLE')
    expect(second.tookMs).toBeLessThan(2_500)
    at.proxy.set({})
    expect(await codeOf(write('after', quick))).toBe('ok')
    expect(await at.written()).toEqual(['warm', 'after'])
    await quick.close()
  })

  it('after COMMIT was sent leaves the outcome unknown, within the bound', async () => {
    const quick = await at.open({ transactionTimeout: '600ms' })
    await write('warm', quick)
    const hole = at.proxy.cutWhen({ when: (sent, newFrom) => Buffer.from(sent).includes('COMMIT\0', newFrom), answered: () => false, within: '1h' })
    const { code, tookMs } = await timed(codeOf(write('kept', quick)))
    expect([code, hole.cuts, await at.written()]).toEqual(['HF_STORE_UNKNOWN_COMMIT', 1, ['warm', 'kept']])
    expect(tookMs).toBeLessThan(2_500)
    await quick.close()
  })

  it('aborts the holder of a lease before another gets it', async () => {
    const kit: DurableKit<SqlTx> = { env, events: new EventBus(env), service: 'test', instance: 'cut off', database: () => at.database }
    const other: DurableKit<SqlTx> = { ...kit, instance: 'other', database: () => at.direct }
    const held = await lease<SqlTx>('lead', { ttl: '1s' }, kit).acquire()
    at.proxy.set({ blackHole: true })
    const startedMs = env.monotonic()
    for (;;) {
      const taken = await lease<SqlTx>('lead', { ttl: '1s' }, other).acquire()
      if (taken !== undefined) {
        expect([held?.signal.aborted, taken.fence]).toEqual([true, 2])
        await taken.release()
        break
      }
      await env.sleep(20)
    }
    expect(env.monotonic() - startedMs).toBeLessThan(2_000)
    at.proxy.set({})
  })
})

describe('a slow and a chopping network', () => {
  it('changes nothing but the time it takes', async () => {
    at.proxy.set({ slice: '3b', latency: '2ms', jitter: '3ms' })
    const lengths = [1, 100, 1_500]
    for (const length of lengths) await write('x'.repeat(length))
    const back = await at.database.transaction('read', tx => tx.query<{ text: string }>('SELECT text FROM effect ORDER BY n'))
    expect(back.map(row => row.text.length)).toEqual(lengths)
    expect((await at.written()).map(row => row.length)).toEqual(lengths)
  })
})

describe('a flapping network', () => {
  it('loses nothing that was confirmed and keeps nothing that was denied', async () => {
    const told = { ok: [] as string[], denied: [] as string[], unknown: [] as string[] }
    let over = false
    const flapping = (async () => {
      for (let n = 0; n < 12; n++) {
        const { ok, denied } = { ok: told.ok.length, denied: told.denied.length }
        await at.proxy.down()
        while (told.denied.length === denied) await env.sleep(5 + env.random() * 10)
        await at.proxy.up()
        // Cut wherever it is by then.
        while (told.ok.length < ok + 4) await env.sleep(5)
        await env.sleep(env.random() * 10)
      }
      over = true
    })()
    for (let n = 0; !over; n++) {
      const id = String(n)
      const code = await codeOf(write(id))
      if (code === 'ok') told.ok.push(id)
      else if (code === 'HF_STORE_UNKNOWN_COMMIT') told.unknown.push(id)
      else told.denied.push(id)
      if (code !== 'ok') await env.sleep(5)
    }
    await flapping
    const kept = await at.written()
    expect(new Set(kept).size).toBe(kept.length)
    expect(kept.filter(id => !told.unknown.includes(id))).toEqual(told.ok)
    expect([told.ok.length >= 48, told.denied.length >= 12]).toEqual([true, true])
    expect(await codeOf(write('last'))).toBe('ok')
  })
})
