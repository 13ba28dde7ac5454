/**
 * Crash points of a store: what happens around every transaction, decided by a test.
 *
 * A decorator over any store, so that the three tiers (simulation, PGlite in memory, real processes) stop at the same
 * named places. `before` stands for the request that never arrived, `after` for the answer that got lost: doubles live there.
 * A hook may resolve (nothing happens), throw, never settle (the process died there), or kill the real process.
 */
import { HoldfastError, isHoldfastError, messageOf } from '../core/index.ts'
import { Availability } from './availability.ts'
import { withoutLast } from './last.ts'
import { userTxOf } from './user-tx.ts'
import type { Database, OpenOptions, Store, RoomTransactionOptions } from './port.ts'

type Hook = (name: string) => void | Promise<void>

export interface StoreHooks {
  /** Before the transaction begins. Throwing means: the store was away, nothing happened (HF_STORE_UNAVAILABLE). */
  readonly before?: Hook | undefined
  /** When `work` is done, before the commit, once per attempt. Throwing rolls back; HF_STORE_CONFLICT makes `work` run again, as a serialization failure would. */
  readonly beforeCommit?: Hook | undefined
  /** After the commit, before the caller learns of it, with what `work` answered. Throwing means: the answer was lost (HF_STORE_UNKNOWN_COMMIT). Not called when it was rolled back. */
  readonly after?: ((name: string, value: unknown) => void | Promise<void>) | undefined
}

/**
 * The same store, with `hooks` around every transaction of it.
 * An error of a hook that is a HoldfastError already passes as it is (a test may want HF_STORE_CONFLICT).
 */
export function withHooks<Tx>(store: Store<Tx>, hooks: StoreHooks): Store<Tx> {
  return {
    kind: store.kind,
    name: store.name,
    durability: store.durability,
    open: async options => hooked(await store.open(options), hooks, options),
  }
}

function hooked<Tx>(database: Database<Tx>, hooks: StoreHooks, options: OpenOptions): Database<Tx> {
  const availability = new Availability(options.env, options.events)
  /** Synchronous where the hook is: a simulation passes millions of hooks, and nearly all of them do nothing. */
  const run = (hook: () => void | Promise<void>, name: string, code: 'HF_STORE_UNAVAILABLE' | 'HF_STORE_UNKNOWN_COMMIT'): Promise<void> | undefined => {
    const fail = (error: unknown): never => {
      const coded = isHoldfastError(error) ? error : new HoldfastError(code, { message: `transaction ${name}: ${messageOf(error)}`, cause: error, context: { transaction: name } })
      availability.noticed(coded)
      throw coded
    }
    try {
      return hook()?.catch(fail)
    } catch (error) {
      return fail(error)
    }
  }
  return {
    dialect: database.dialect,
    ...userTxOf(database),
    durability: database.durability,
    ping: signal => database.ping(signal),
    close: () => database.close(),
    ...(database.snapshot === undefined ? {} : { snapshot: database.snapshot }),
    async transaction<T>(name: string, work: (tx: Tx) => Promise<T>, transactionOptions?: RoomTransactionOptions): Promise<T> {
      const { before, beforeCommit, after } = hooks
      const waiting = before === undefined ? undefined : run(() => before(name), name, 'HF_STORE_UNAVAILABLE')
      if (waiting !== undefined) await waiting
      const value = await database.transaction(name, async tx => {
        if (beforeCommit === undefined) return work(tx)
        // It may still say no, so the COMMIT must not be on its way by then.
        const result = await work(withoutLast(tx))
        const committing = beforeCommit(name)
        if (committing !== undefined) await committing
        return result
      }, beforeCommit === undefined ? transactionOptions : { ...transactionOptions, lone: false })
      const telling = after === undefined ? undefined : run(() => after(name, value), name, 'HF_STORE_UNKNOWN_COMMIT')
      if (telling !== undefined) await telling
      availability.answered()
      return value
    },
  }
}
