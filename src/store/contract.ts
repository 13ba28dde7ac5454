/**
 * What every store must do, as one suite of tests that runs on each of them: this is why the simulated store is believed.
 *
 * A subject brings its store and four small operations on a table of counters in its own dialect. Not here: what only one
 * of them can do (locks of directories, lost connections, SQL types).
 */
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, currentContext, realEnv, withContext, type Env, type EventName } from '../core/index.ts'
import { withHooks } from './hooks.ts'
import type { Database, SqlTx, Store } from './port.ts'

export interface ContractSubject<Tx> {
  readonly name: string
  readonly env: Env
  /** A store with nothing in it. */
  store(): Promise<Store<Tx>>
  /** Makes what `read` and `write` need, and empties it. */
  setUp(database: Database<Tx>): Promise<void>
  read(tx: Tx, key: string): Promise<number | undefined>
  write(tx: Tx, key: string, value: number): Promise<void>
  /** Reads so that nobody else can change it before the commit. */
  readForUpdate(tx: Tx, key: string): Promise<number | undefined>
}

/** The operations in PostgreSQL's dialect. */
export const inSql: Omit<ContractSubject<SqlTx>, 'name' | 'store'> = {
  env: realEnv(),
  setUp: database => database.transaction('set-up', async tx => { await tx.query('DROP TABLE IF EXISTS counter; CREATE TABLE counter (key text PRIMARY KEY, value integer NOT NULL)') }),
  read: (tx, key) => valueOf(tx, 'SELECT value FROM counter WHERE key = $1', key),
  readForUpdate: (tx, key) => valueOf(tx, 'SELECT value FROM counter WHERE key = $1 FOR UPDATE', key),
  write: async (tx, key, value) => { await tx.query('INSERT INTO counter VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value', [key, value]) },
}

async function valueOf(tx: SqlTx, sql: string, key: string): Promise<number | undefined> {
  return (await tx.query<{ value: number }>(sql, [key]))[0]?.value
}

/** A promise, and how to settle it. */
function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined
  const opened = new Promise<void>(resolve => { open = resolve })
  return { opened, open: () => { open() } }
}

export function storeContract<Tx>(subject: ContractSubject<Tx>): void {
  describe(`the store contract on ${subject.name}`, () => {
    let store: Store<Tx>
    let database: Database<Tx>
    /** Opening PGlite takes most of a second: the tests share one database, until one of them closes it. */
    let isOpen = false
    let heard: EventName[] = []
    const events = new EventBus(subject.env)
    events.onAny(event => { if (event.name.startsWith('store.')) heard.push(event.name) })
    const open = (which: Store<Tx>): Promise<Database<Tx>> => which.open({ env: subject.env, events, service: 'contract' })
    const value = (key: string): Promise<number | undefined> => database.transaction('read', tx => subject.read(tx, key))

    beforeEach(async () => {
      if (!isOpen) {
        store = await subject.store()
        database = await open(store)
        isOpen = true
      }
      await subject.setUp(database)
      heard = []
    })
    afterAll(() => database.close())

    describe('a transaction', () => {
      it('commits what it wrote and gives back what work returned', async () => {
        expect(await database.transaction('write', async tx => {
          await subject.write(tx, 'a', 1)
          await subject.write(tx, 'b', 2)
          return 'result'
        })).toBe('result')
        expect([await value('a'), await value('b')]).toEqual([1, 2])
      })

      it('sees its own writes', async () => {
        expect(await database.transaction('write', async tx => {
          await subject.write(tx, 'a', 1)
          await subject.write(tx, 'a', 7)
          return subject.read(tx, 'a')
        })).toBe(7)
      })

      it('leaves nothing behind when work throws, and the error passes as it is', async () => {
        const error = new TypeError('of the caller')
        await expect(database.transaction('fails', async tx => {
          await subject.write(tx, 'a', 1)
          throw error
        })).rejects.toBe(error)
        expect(await value('a')).toBeUndefined()
      })

      it('shows nothing of itself to others: what is rolled back was never seen', async () => {
        const written = gate()
        const go = gate()
        const writing = database.transaction('write', async tx => {
          await subject.write(tx, 'a', 1)
          written.open()
          await go.opened
          throw new Error('rolled back')
        }).catch(() => 'rolled back')
        await written.opened
        const seen = value('a')
        // Where transactions run side by side the reader answers while the writer is open; a serial store lets it wait.
        if (database.durability.severalInstances) await seen
        go.open()
        expect(await writing).toBe('rolled back')
        expect(await seen).toBeUndefined()
      })

      it('that reads for update never loses an increment of a concurrent one', async () => {
        await database.transaction('zero', tx => subject.write(tx, 'n', 0))
        await Promise.all(Array.from({ length: 20 }, () => database.transaction('increment', async tx => {
          const before = await subject.readForUpdate(tx, 'n') ?? 0
          await Promise.resolve()
          await subject.write(tx, 'n', before + 1)
        })))
        expect(await value('n')).toBe(20)
      })

      it('has its name and its own context inside work, and not after it', async () => {
        await withContext({ correlationId: 'c1' }, async () => {
          const inside = await database.transaction('named', async () => currentContext())
          expect(inside).toMatchObject({ correlationId: 'c1', transaction: 'named' })
          expect(currentContext().transaction).toBeUndefined()
        })
      })

      it('cannot be used once it has ended', async () => {
        const kept = await database.transaction('ends', async tx => ({ tx }))
        await expect((async () => { await subject.write(kept.tx, 'a', 9) })()).rejects.toMatchObject({ code: 'HF_QUERY_FAILED' })
        expect(await value('a')).toBeUndefined()
      })

      it('is refused or rolled back when its signal aborts before the commit', async () => {
        const controller = new AbortController()
        await expect(database.transaction('cancelled', async tx => {
          await subject.write(tx, 'a', 1)
          controller.abort()
        }, { signal: controller.signal })).rejects.toMatchObject({ code: 'HF_CANCELLED' })
        let ran = false
        await expect(database.transaction('late', async () => { ran = true }, { signal: controller.signal })).rejects.toMatchObject({ code: 'HF_CANCELLED' })
        expect(ran).toBe(false)
        expect(await value('a')).toBeUndefined()
      })
    })

    describe('a transaction inside a transaction', () => {
      it('is refused by name instead of waiting for ever', async () => {
        const error = await database.transaction('outer', async () => database.transaction('inner', async () => 1)).catch((thrown: unknown) => thrown)
        expect(error).toMatchObject({ code: 'HF_STORE_REENTRANT', context: { transaction: 'inner', inside: 'outer' } })
      })

      it('is refused also from deep inside, and dooms only itself when its error is caught', async () => {
        await database.transaction('outer', async tx => {
          await Promise.resolve().then(() => database.transaction('inner', async () => 1)).catch(() => undefined)
          await subject.write(tx, 'a', 1)
        })
        expect(await value('a')).toBe(1)
      })

      it('is allowed to what was begun inside but goes on after the end', async () => {
        const ended = gate()
        let later: Promise<number | undefined> | undefined
        await database.transaction('outer', async tx => {
          await subject.write(tx, 'a', 3)
          later = ended.opened.then(() => value('a'))
        })
        ended.open()
        expect(await later).toBe(3)
      })
    })

    describe('a conflict', () => {
      it('makes work run again, and only the last run counts', async () => {
        let runs = 0
        const hooked = await open(withHooks(keep(store, database), {
          beforeCommit: () => {
            if (runs < 3) throw new HoldfastError('HF_STORE_CONFLICT', { message: 'injected' })
          },
        }))
        await hooked.transaction('again', async tx => {
          runs++
          await subject.write(tx, `run${String(runs)}`, runs)
        })
        expect(runs).toBe(3)
        expect([await value('run1'), await value('run2'), await value('run3')]).toEqual([undefined, undefined, 3])
      })

      it('that does not end is told to the caller after conflictRetries, with nothing written', async () => {
        let runs = 0
        const hooked = await open(withHooks(keep(store, database), { beforeCommit: () => { throw new HoldfastError('HF_STORE_CONFLICT', { message: 'injected' }) } }))
        await expect(hooked.transaction('again', async tx => {
          runs++
          await subject.write(tx, 'a', runs)
        }, { conflictRetries: 1 })).rejects.toMatchObject({ code: 'HF_STORE_CONFLICT' })
        expect(runs).toBe(2)
        expect(await value('a')).toBeUndefined()
      })

      it('in the middle of work does the same: what the run before it wrote is gone', async () => {
        let runs = 0
        await database.transaction('again', async tx => {
          runs++
          await subject.write(tx, `run${String(runs)}`, runs)
          if (runs === 1) throw new HoldfastError('HF_STORE_CONFLICT', { message: 'as a serialization failure of a statement', context: { sqlstate: '40001' } })
        })
        expect([runs, await value('run1'), await value('run2')]).toEqual([2, undefined, 2])
      })

      it('by a lock waited for in vain is told at once: it has taken its time already', async () => {
        let runs = 0
        await expect(database.transaction('waited', async () => {
          runs++
          throw new HoldfastError('HF_STORE_CONFLICT', { message: 'as a lock timeout', context: { sqlstate: '55P03' } })
        })).rejects.toMatchObject({ code: 'HF_STORE_CONFLICT' })
        expect(runs).toBe(1)
      })

      it('is the only error that makes work run again (the control)', async () => {
        let runs = 0
        const hooked = await open(withHooks(keep(store, database), { beforeCommit: () => { throw new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'injected' }) } }))
        await expect(hooked.transaction('once', async () => { runs++ })).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
        expect(runs).toBe(1)
      })
    })

    describe('an answer that got lost', () => {
      it('before the transaction began: nothing happened', async () => {
        const hooked = await open(withHooks(keep(store, database), { before: () => { throw new Error('connection refused') } }))
        await expect(hooked.transaction('w', tx => subject.write(tx, 'a', 1))).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE', context: { transaction: 'w' } })
        expect(await value('a')).toBeUndefined()
      })

      it('after the commit: it happened, and the caller is told that nobody knows', async () => {
        let runs = 0
        const hooked = await open(withHooks(keep(store, database), { after: () => { throw new Error('connection reset') } }))
        await expect(hooked.transaction('w', async tx => {
          runs++
          await subject.write(tx, 'a', 1)
        })).rejects.toMatchObject({ code: 'HF_STORE_UNKNOWN_COMMIT', retryable: false })
        expect(runs).toBe(1)
        expect(await value('a')).toBe(1)
      })

      it('while it was being committed, and it was not: the same word, nothing kept, and work does not run again', async () => {
        let runs = 0
        const hooked = await open(withHooks(keep(store, database), { beforeCommit: () => { throw new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: 'injected' }) } }))
        await expect(hooked.transaction('w', async tx => {
          runs++
          await subject.write(tx, 'a', 1)
        })).rejects.toMatchObject({ code: 'HF_STORE_UNKNOWN_COMMIT', retryable: false })
        expect([runs, await value('a')]).toEqual([1, undefined])
      })

      it('is announced once as lost and once as recovered', async () => {
        let away = true
        const hooked = await open(withHooks(keep(store, database), { before: () => { if (away) throw new Error('away') } }))
        await hooked.transaction('w', async () => 1).catch(() => undefined)
        await hooked.transaction('w', async () => 1).catch(() => undefined)
        away = false
        await hooked.transaction('w', async () => 1)
        await hooked.transaction('w', async () => 1)
        expect(heard).toEqual(['store.lost', 'store.recovered'])
      })
    })

    describe('hooks', () => {
      it('are told every transaction by name, and `after` only of what was committed', async () => {
        const told: string[] = []
        const hooked = await open(withHooks(keep(store, database), { before: name => { told.push(`before ${name}`) }, after: name => { told.push(`after ${name}`) } }))
        await hooked.transaction('one', async () => 1)
        await hooked.transaction('two', async () => { throw new Error('rolled back') }).catch(() => undefined)
        expect(told).toEqual(['before one', 'after one', 'before two'])
      })

      it('that never settle after the commit leave the work done and the caller ignorant: death', async () => {
        const committed = gate()
        const hooked = await open(withHooks(keep(store, database), {
          after: () => {
            committed.open()
            return new Promise(() => undefined)
          },
        }))
        let learned = false
        void hooked.transaction('w', tx => subject.write(tx, 'a', 1)).finally(() => { learned = true })
        await committed.opened
        expect(await value('a')).toBe(1)
        expect(learned).toBe(false)
      })
    })

    describe('a database', () => {
      it('answers a ping, and states what its commits outlive', async () => {
        await expect(database.ping()).resolves.toBeUndefined()
        expect(database.durability).toEqual(store.durability)
      })

      it('waits for open transactions when it is closed, then refuses everything, and closes once', async () => {
        const begun = gate()
        const go = gate()
        const running = database.transaction('running', async tx => {
          begun.open()
          await go.opened
          await subject.write(tx, 'a', 1)
          return 'kept'
        })
        await begun.opened
        const closing = database.close()
        isOpen = false
        await expect(database.transaction('late', async () => 1)).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
        await expect(database.ping()).rejects.toMatchObject({ code: 'HF_STORE_UNAVAILABLE' })
        go.open()
        expect(await running).toBe('kept')
        await closing
        await database.close()
        expect(heard).toEqual([])
      })

      it('refuses a timeout that is none', async () => {
        await expect(database.transaction('w', async () => 1, { timeout: '-1s' as '1s' })).rejects.toMatchObject({ code: 'HF_OPTION_INVALID' })
      })
    })
  })
}

/** The store whose database is open already: so that hooks come around the very same database. */
function keep<Tx>(store: Store<Tx>, database: Database<Tx>): Store<Tx> {
  return { ...store, open: () => Promise.resolve(database) }
}
