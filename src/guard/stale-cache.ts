/**
 * The last good answers of calls, for fallbacks: bounded by entries, the least recently used leave first.
 *
 * Values are kept as they were returned and are shared with callers: do not change them. In memory only; how old an answer
 * may be is said where it is used. Answers of different dependencies, operations and keys never meet.
 */
import { wholeNumber } from './numbers.ts'

export interface StaleCacheOptions {
  /** Answers at most, 1 to 1,000,000. Default 1000. */
  readonly max?: number
}

export const STALE_CACHE_DEFAULTS: Readonly<Required<StaleCacheOptions>> = Object.freeze({ max: 1_000 })

interface Kept<V> {
  readonly value: V
  /** Monotonic milliseconds. */
  readonly at: number
}

export class StaleCache<V> {
  readonly max: number
  readonly #kept = new Map<string, Kept<V>>()

  constructor(options: StaleCacheOptions = {}) {
    this.max = wholeNumber(options.max ?? STALE_CACHE_DEFAULTS.max, 1, 'stale cache: max', 1_000_000)
  }

  /** Answers that are kept now. */
  get size(): number {
    return this.#kept.size
  }

  /** `now` is monotonic. */
  set(dependency: string, operation: string, key: string, value: V, now: number): void {
    const id = idOf(dependency, operation, key)
    this.#kept.delete(id)
    this.#kept.set(id, { value, at: now })
    if (this.#kept.size <= this.max) return
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest)
      return
    }
  }

  /** The answer and its age; undefined when none is kept. */
  get(dependency: string, operation: string, key: string, now: number): { readonly value: V; readonly ageMs: number } | undefined {
    const id = idOf(dependency, operation, key)
    const kept = this.#kept.get(id)
    if (kept === undefined) return undefined
    this.#kept.delete(id)
    this.#kept.set(id, kept)
    return { value: kept.value, ageMs: now - kept.at }
  }

  /** Forgets everything, say after a customer asked for deletion. */
  clear(): void {
    this.#kept.clear()
  }
}

/** No two triples give the same text. */
function idOf(dependency: string, operation: string, key: string): string {
  return `${dependency}\n${String(operation.length)}\n${operation}${key}`
}

/** A cache of last good answers: `staleCache<Price>({ max: 500 })`. @throws HF_OPTION_INVALID */
export function staleCache<V>(options: StaleCacheOptions = {}): StaleCache<V> {
  return new StaleCache(options)
}
