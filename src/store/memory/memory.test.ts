import { describe, expect, it } from 'vitest'
import { EventBus } from '../../core/index.ts'
import { simulatedEnv } from '../../testing/simulated-env.ts'
import type { Database, MemoryTx } from '../port.ts'
import { memory, memoryDisk, type MemoryDisk } from './index.ts'

const env = simulatedEnv({ seed: 1 })
async function open(disk?: MemoryDisk): Promise<{ readonly database: Database<MemoryTx>; readonly abandon: () => void }> {
  const store = memory(disk)
  return { database: await store.open({ env, events: new EventBus(env), service: 'test' }), abandon: () => { store.abandon() } }
}
const never = new Promise<never>(() => undefined)

describe('a table', () => {
  it('copies rows in and out: changing a row without set changes nothing', async () => {
    const disk = memoryDisk()
    const { database } = await open(disk)
    const row = { tags: ['a'] }
    await database.transaction('write', async tx => {
      const table = tx.table<typeof row>('t')
      table.set('k', row)
      row.tags.push('outside')
      table.get('k')?.tags.push('read')
      for (const [, entry] of table.entries()) entry.tags.push('entry')
    })
    expect(disk.rows('t')).toEqual([['k', { tags: ['a'] }]])
  })

  it('keeps insertion order through set, delete and set again, before and after the commit', async () => {
    const disk = memoryDisk()
    const { database } = await open(disk)
    await database.transaction('first', async tx => { for (const key of ['a', 'b', 'c']) tx.table<number>('t').set(key, 1) })
    const seen = await database.transaction('second', async tx => {
      const table = tx.table<number>('t')
      table.set('a', 2)
      table.delete('b')
      table.set('d', 2)
      table.set('b', 2)
      expect(table.size).toBe(4)
      return [...table.entries()]
    })
    expect(seen).toEqual([['a', 2], ['c', 1], ['d', 2], ['b', 2]])
    expect(disk.rows('t')).toEqual(seen)
  })

  it('may be changed while it is read, meeting every key once', async () => {
    const { database } = await open()
    await database.transaction('t', async tx => {
      const table = tx.table<number>('t')
      for (let i = 0; i < 10; i++) table.set(String(i), 0)
      let met = 0
      for (const [key, value] of table.entries()) {
        met++
        table.delete(key)
        table.set(key, value + 1)
      }
      expect(met).toBe(10)
      expect([...table.entries()].every(([, value]) => value === 1)).toBe(true)
    })
  })

  it.each([['a Date', new Date(0)], ['NaN', Number.NaN], ['a function', () => 1], ['a bigint', 1n], ['a class instance', new Map()]])('refuses %s, which the other dialect could not keep', async (_what, value) => {
    const { database } = await open()
    await expect(database.transaction('t', async tx => { tx.table('t').set('k', { value }) })).rejects.toMatchObject({ code: 'HF_RESULT_NOT_JSON' })
  })
})

describe('transactions', () => {
  it('run one at a time in the order in which they were asked for', async () => {
    const { database } = await open()
    const order: number[] = []
    await Promise.all([1, 2, 3, 4].map(n => database.transaction(`t${String(n)}`, async tx => {
      const table = tx.table<number>('t')
      const before = table.get('n') ?? 0
      for (let i = 0; i < 5 - n; i++) await Promise.resolve()
      table.set('n', before + 1)
      order.push(n)
    })))
    expect(order).toEqual([1, 2, 3, 4])
    expect(await database.transaction('read', async tx => tx.table<number>('t').get('n'))).toBe(4)
  })

  it('that rolled back leave gaps in a sequence and nothing else', async () => {
    const disk = memoryDisk()
    const { database } = await open(disk)
    await expect(database.transaction('fails', async tx => {
      tx.table('t').set('k', 1)
      tx.sequence('s')
      throw new Error('no')
    })).rejects.toThrow('no')
    expect(await database.transaction('next', async tx => tx.sequence('s'))).toBe(2)
    expect(disk.rows('t')).toEqual([])
    expect(disk.commits).toBe(1)
  })

  it('see the wall clock of the Env as the database\'s clock', async () => {
    const { database } = await open()
    expect(await database.transaction('t', async tx => tx.now())).toBe(env.now())
  })

  it('that wait leave the line when they are cancelled', async () => {
    const { database } = await open()
    let release = (): void => undefined
    const holder = database.transaction('holder', () => new Promise<void>(resolve => { release = resolve }))
    const controller = new AbortController()
    const waiter = database.transaction('waiter', async () => 'ran', { signal: controller.signal })
    controller.abort()
    await expect(waiter).rejects.toMatchObject({ code: 'HF_CANCELLED' })
    release()
    await holder
    expect(await database.transaction('after', async () => 'ran')).toBe('ran')
  })

  it('are fast enough for thousands of schedules: over 20,000 a second even here', async () => {
    const { database } = await open()
    const started = performance.now()
    for (let i = 0; i < 20_000; i++) {
      await database.transaction('t', async tx => {
        const table = tx.table<{ n: number; state: string }>('t')
        const row = table.get('k') ?? { n: 0, state: 'started' }
        row.n++
        table.set('k', row)
      })
    }
    const perSecond = 20_000_000 / (performance.now() - started)
    console.log(`memory store: ${Math.round(perSecond).toLocaleString('en')} transactions/s`)
    // 100,000/s is the aim on a quiet machine; this bound only catches a collapse.
    expect(perSecond).toBeGreaterThan(20_000)
  })
})

describe('a simulated process that dies', () => {
  it('inside a transaction leaves nothing of it, and the next process gets its turn', async () => {
    const disk = memoryDisk()
    const first = await open(disk)
    let settled = false
    void first.database.transaction('doomed', async tx => {
      tx.table('t').set('k', 'half')
      await never
    }).finally(() => { settled = true })
    const second = await open(disk)
    const waiting = second.database.transaction('next', async tx => { tx.table('t').set('k', 'whole') })
    first.abandon()
    await waiting
    expect(disk.rows('t')).toEqual([['k', 'whole']])
    expect(settled).toBe(false)
  })

  it('holds the disk for ever while it is not abandoned (the control)', async () => {
    const disk = memoryDisk()
    const first = await open(disk)
    void first.database.transaction('doomed', () => never)
    const second = await open(disk)
    let ran = false
    void second.database.transaction('next', async () => { ran = true })
    await env.advance('1h')
    expect(ran).toBe(false)
  })

  it('commits nothing that its zombie code still writes, and its zombie learns nothing', async () => {
    const disk = memoryDisk()
    const { database, abandon } = await open(disk)
    let wake = (): void => undefined
    const settled: string[] = []
    let zombie: unknown
    void database.transaction('doomed', async tx => {
      await new Promise<void>(resolve => { wake = resolve })
      try { tx.table('t').set('k', 'late') } catch (error) { zombie = error }
    }).finally(() => { settled.push('doomed') })
    void database.transaction('waiting', async () => undefined).finally(() => { settled.push('waiting') })
    await env.advance('1ms')
    abandon()
    wake()
    void database.transaction('later', async () => undefined).finally(() => { settled.push('later') })
    await env.advance('1s')
    expect(zombie).toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    expect(disk.snapshot().tables).toEqual({})
    expect(settled).toEqual([])
  })

  it('leaves a disk whose snapshot begins another', async () => {
    const disk = memoryDisk()
    const { database } = await open(disk)
    await database.transaction('t', async tx => {
      tx.table('t').set('k', { a: [1] })
      tx.sequence('s')
    })
    const copy = memoryDisk(JSON.parse(JSON.stringify(disk.snapshot())) as ReturnType<MemoryDisk['snapshot']>)
    const next = await open(copy)
    expect(await next.database.transaction('t', async tx => [tx.table('t').get('k'), tx.sequence('s')])).toEqual([{ a: [1] }, 2])
  })
})

describe('closing', () => {
  it('waits for what is open, then refuses', async () => {
    const { database } = await open()
    let release = (): void => undefined
    const open1 = database.transaction('open', () => new Promise<string>(resolve => { release = () => { resolve('kept') } }))
    const closing = database.close()
    await expect(database.transaction('late', async () => 1)).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
    release()
    expect(await open1).toBe('kept')
    await closing
  })

  it('cuts what is still open after five seconds, running or waiting', async () => {
    const disk = memoryDisk()
    const { database } = await open(disk)
    let finish = (): void => undefined
    const running = database.transaction('running', async tx => {
      tx.table('t').set('k', 1)
      await new Promise<void>(resolve => { finish = resolve })
    })
    let ran = false
    const waiting = database.transaction('waiting', async () => { ran = true })
    const outcomes = Promise.allSettled([running, waiting])
    const closing = database.close()
    await env.advance('6s')
    await closing
    finish()
    expect(await outcomes).toMatchObject([{ reason: { code: 'HF_STORE_UNAVAILABLE' } }, { reason: { code: 'HF_STORE_UNAVAILABLE' } }])
    expect(ran).toBe(false)
    expect(disk.rows('t')).toEqual([])
  })
})
