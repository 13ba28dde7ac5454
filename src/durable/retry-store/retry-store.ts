/**
 * Retry store: the last input of each user for each thing he can do, so that a Retry button needs not ask him again.
 *
 * Promise: what was stored outlives a restart, is answered until `keepFor` is over by the database's clock, and is the last
 * one stored; an owner has at most `perOwnerMax` of them, each bounded in size.
 * Not here: that a double tap on Retry acts once. That is what `once` is for.
 */
import { checkInput, checkName, decodeJson, durationMs, HoldfastError, isHoldfastError, sizeBytes, type Duration, type Schema, type Size } from '../../core/index.ts'
import { bodyFor } from '../../store/index.ts'
import { encodeWithin } from '../encode-within.ts'
import { checkKey } from '../fingerprint.ts'
import type { DurableKit } from '../kit.ts'
import { retryStoreMemory } from './memory.ts'
import type { EntryRow, RetryStorePort } from './port.ts'
import { retryStoreSql } from './sql.ts'

export interface RetryStoreOptions<In, I> {
  /** What is stored must be JSON; it is decoded again when it is read. */
  readonly input: Schema<In, I>
  /** How long an input can be read, at least `'1m'`. Default `'7d'`. */
  readonly keepFor?: Duration
  /** Slots of one owner, 1 to 1000; the oldest make room. Default 50. */
  readonly perOwnerMax?: number
  /** Longest input, as JSON text in UTF-8. Default `'64kb'`: references to media, not media. */
  readonly entryMax?: Size
}

export const RETRY_STORE_DEFAULTS: { readonly keepFor: Duration; readonly perOwnerMax: number; readonly entryMax: Size } = Object.freeze({ keepFor: '7d', perOwnerMax: 50, entryMax: '64kb' })

export interface StoredInput<I> {
  readonly slot: string
  readonly input: I
  /** Wall clock of the database. */
  readonly storedAtMs: number
}

export interface RetryStore<In, I, Tx> {
  readonly kind: 'retry-store'
  readonly name: string
  /**
   * Keeps the input as the owner's last one in that slot (`user 42`, `model flux`). With `tx` it is kept when that transaction commits.
   * @throws HF_INPUT_INVALID (does not fit the schema, or is too large), HF_RESULT_NOT_JSON, HF_NOT_STARTED and what the store throws
   */
  store(owner: string, slot: string, input: In, options?: { readonly tx?: Tx }): Promise<void>
  /** The last input, decoded. Undefined: there is none, its time is over, or the schema of by now refuses it. */
  get(owner: string, slot: string): Promise<StoredInput<I> | undefined>
  /** All of an owner's, newest first; without what the schema refuses by now. */
  list(owner: string): Promise<readonly StoredInput<I>[]>
  /** Forgets one slot, or all of the owner. Answers how many there were. */
  clear(owner: string, slot?: string, options?: { readonly tx?: Tx }): Promise<number>
}

const KEEP_MIN_MS = 60_000
const PER_OWNER_MAX = 1_000

/** Declares a retry store. No I/O before it is used. @throws HF_OPTION_INVALID */
export function retryStore<In, I, Tx>(name: string, options: RetryStoreOptions<In, I>, kit: DurableKit<Tx>): RetryStore<In, I, Tx> {
  checkName('retry store', name)
  const keepForMs = durationMs(options.keepFor ?? RETRY_STORE_DEFAULTS.keepFor, `retry store ${name}: keepFor`, { min: KEEP_MIN_MS })
  const bytesMax = sizeBytes(options.entryMax ?? RETRY_STORE_DEFAULTS.entryMax, `retry store ${name}: entryMax`)
  const perOwnerMax = options.perOwnerMax ?? RETRY_STORE_DEFAULTS.perOwnerMax
  if (!Number.isInteger(perOwnerMax) || perOwnerMax < 1 || perOwnerMax > PER_OWNER_MAX) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `retry store ${name}: expected perOwnerMax of 1 to ${String(PER_OWNER_MAX)}, got ${String(perOwnerMax)}`, context: { retryStore: name } })
  }
  const where = `retry store ${name}`
  const port = (): RetryStorePort<Tx> => retryStorePort<Tx>(kit.database())
  const within = <T>(transaction: string, tx: Tx | undefined, work: (tx: Tx) => Promise<T>): Promise<T> => (tx === undefined ? kit.database().transaction(transaction, work) : work(tx))

  async function decoded({ slot, input, storedAtMs }: EntryRow): Promise<readonly StoredInput<I>[]> {
    try {
      return [{ slot, storedAtMs, input: await checkInput(options.input, decodeJson<unknown>(input), where) }]
    } catch (error) {
      // Stored by a version with another schema: to whoever would try it again it is as good as gone.
      if (isHoldfastError(error) && error.code === 'HF_INPUT_INVALID') return []
      throw error
    }
  }

  return {
    kind: 'retry-store',
    name,
    async store(owner, slot, input, { tx } = {}) {
      const text = encodeWithin(input, `${where}: input`, bytesMax)
      await checkInput(options.input, decodeJson<unknown>(text), where)
      const entry = { store: name, owner: checkKey(`${where}: owner`, owner), slot: checkKey(`${where}: slot`, slot), input: text, keepForMs }
      await within('retry-store.put', tx, async inner => {
        await port().put(inner, entry)
        await port().trim(inner, name, owner, perOwnerMax)
      })
    },
    async get(owner, slot) {
      const row = await kit.database().transaction('retry-store.get', tx => port().get(tx, name, owner, slot))
      return row === undefined ? undefined : (await decoded(row))[0]
    },
    async list(owner) {
      const rows = await kit.database().transaction('retry-store.list', tx => port().list(tx, name, owner, perOwnerMax))
      return (await Promise.all(rows.map(decoded))).flat()
    },
    clear: (owner, slot, { tx } = {}) => within('retry-store.clear', tx, inner => port().clear(inner, name, owner, slot)),
  }
}

export function retryStorePort<Tx>(database: { readonly dialect: 'sql' | 'memory' }): RetryStorePort<Tx> {
  return bodyFor<Tx, RetryStorePort<Tx>>(database, { sql: retryStoreSql, memory: retryStoreMemory })
}
