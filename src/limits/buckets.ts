/**
 * Buckets by key in bounded memory: it may over-count, and never under-counts.
 *
 * A bucket that is full again says nothing and is dropped. When there are more used-up buckets than places, the oldest is
 * merged into a small table of shared ones by the hash of its key (the larger of the two times stands), and a key that
 * has no bucket of its own begins from the shared one: so nobody gets a fresh bucket by being pushed out. The hash is
 * seeded per process, so that collisions cannot be prepared.
 */

/** Longer keys are told apart by their hash alone beyond this; memory per key stays bounded. */
const KEY_CHARS_MAX = 256
const SHARED = 16_384
/** Buckets looked at for every new key, so that full ones leave without a timer or a long sweep. */
const SWEPT_PER_KEY = 4

export class Buckets {
  readonly #max: number
  readonly #seed: number
  readonly #own = new Map<string, number>()
  /** Made when it is first needed: most limits never have that many keys. */
  #shared: Float64Array | undefined
  #sweep: IterableIterator<[string, number]> | undefined
  #merged = 0

  /** `seed` is any random 32-bit number. */
  constructor(keysMax: number, seed: number) {
    this.#max = keysMax
    this.#seed = seed | 0
  }

  get size(): number {
    return this.#own.size
  }

  /** Buckets that had to give up their own place. */
  get merged(): number {
    return this.#merged
  }

  /** When this key's bucket is full again; 0 for one that was never used. */
  get(key: string): number {
    const id = this.#id(key)
    return this.#own.get(id) ?? this.#shared?.[this.#hash(id) % SHARED] ?? 0
  }

  set(key: string, fullAt: number, now: number): void {
    const id = this.#id(key)
    if (!this.#own.has(id)) {
      this.#drop(now)
      if (this.#own.size >= this.#max) this.#mergeOldest(now)
    }
    this.#own.set(id, fullAt)
  }

  #drop(now: number): void {
    for (let looked = 0; looked < SWEPT_PER_KEY; looked += 1) {
      this.#sweep ??= this.#own.entries()
      const next = this.#sweep.next()
      if (next.done === true) {
        this.#sweep = undefined
        return
      }
      const [key, fullAt] = next.value
      if (fullAt <= now) this.#own.delete(key)
    }
  }

  #mergeOldest(now: number): void {
    for (const [id, fullAt] of this.#own) {
      this.#own.delete(id)
      if (fullAt > now) {
        this.#shared ??= new Float64Array(SHARED)
        const index = this.#hash(id) % SHARED
        this.#shared[index] = Math.max(this.#shared[index] ?? 0, fullAt)
        this.#merged += 1
      }
      return
    }
  }

  #id(key: string): string {
    return key.length <= KEY_CHARS_MAX ? key : `${key.slice(0, KEY_CHARS_MAX)}#${String(this.#hash(key))}`
  }

  /** FNV-1a over UTF-16 units, from a secret start. */
  #hash(text: string): number {
    let hash = 0x811c9dc5 ^ this.#seed
    for (let index = 0; index < text.length; index += 1) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
    hash ^= hash >>> 15
    return hash >>> 0
  }
}
